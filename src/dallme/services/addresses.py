"""Where a service answers, and the key that it wants."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

from dallme.errors import InputError
from dallme.validation import is_private_line

#: Where OpenAI answers.
ADDRESS = "https://api.openai.com/v1"
#: What is sent as the key where none is needed.
NO_KEY = "none"
#: What the first paid tier of OpenAI takes in a minute: requests, tokens.
REQUESTS_PER_MINUTE, TOKENS_PER_MINUTE = 3000, 1_000_000


def find_address(given: str | None) -> str:
    """The address given, else that of the variable OPENAI_BASE_URL, else OpenAI's own."""
    return given or os.environ.get("OPENAI_BASE_URL") or ADDRESS


def find_caps(address: str, requests: int | None, tokens: int | None) -> tuple[int | None, int | None]:
    """Requests and tokens a minute, None for no cap: those given, else those of OpenAI's first paid tier there."""
    defaults = (REQUESTS_PER_MINUTE, TOKENS_PER_MINUTE) if address == ADDRESS else (None, None)
    return requests or defaults[0], tokens or defaults[1]


def check_address(address: str) -> None:
    """Raises InputError for what is no address, without showing it, and for one that could hold a secret."""
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InputError("expected base_url as http://HOST/PATH or https://HOST/PATH, such as http://localhost:8080/v1")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise InputError("expected base_url without user, password and query; a key belongs in the environment: OPENAI_API_KEY")


def public_name(address: str) -> str:
    """An address as it may be written down: host, port and path."""
    parts = urlsplit(address)
    return f"{parts.netloc}{parts.path.rstrip('/')}"


def read_key(address: str) -> str:
    """The key of the environment; other services than OpenAI's may need none.

    Raises:
        InputError: If it is missing, cannot be one, or would travel unencrypted.
    """
    key = os.environ.get("OPENAI_API_KEY", "").strip()
    if not key and address == ADDRESS:
        raise InputError("expected a key in the environment variable OPENAI_API_KEY, found none; set it and run the same again")
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise InputError("expected a key of plain letters and signs in OPENAI_API_KEY, found others; was it copied whole?")
    if key and not is_private_line(address):
        raise InputError(
            "expected base_url to begin with https:// where a key is sent along, found http:// for "
            f"{urlsplit(address).hostname!r}; "
            "give its https address, reach it through a tunnel to localhost, or unset OPENAI_API_KEY if that server needs none"
        )
    return key or NO_KEY
