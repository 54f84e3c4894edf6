"""Who may speak to the review server, and what every answer says to the browser."""

from __future__ import annotations

import hmac
import ipaddress
import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from dallme.errors import DallmeError, InputError

if TYPE_CHECKING:
    from starlette.requests import Request

#: Characters of a token at least: it is all that stands between the network and the texts.
SHORTEST_TOKEN = 16

#: The header with the secret of the process, which a page of another origin can neither read nor send.
SECRET_HEADER = "x-dallme-secret"  # noqa: S105 - the name, not the secret

#: What goes with every answer. The page's own policy stands in the page; several policies all hold.
HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": "frame-ancestors 'none'",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


class RefusalError(DallmeError):
    """A request that is not served.

    Attributes:
        status: HTTP status.
    """

    def __init__(self, status: int, message: str) -> None:
        """Keeps the status beside the message."""
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Guard:
    """The rules of one server.

    Attributes:
        host: The address that it listens on, as the user wrote it.
        port: The port that it listens on.
        token: What a reviewer has to bring; None asks for nothing, which is for loopback alone.
        secret: What the page sends with every change; made anew for every process.
    """

    host: str
    port: int
    token: str | None = None
    secret: str = field(default_factory=lambda: secrets.token_urlsafe(32))

    @property
    def cookie(self) -> str:
        """Name of the cookie of those who brought the token; browsers keep the cookies of all ports of a host together."""
        return f"dallme-review-{self.port}"

    def check(self, request: Request) -> None:
        """Checks where a request is from and who sends it.

        Raises:
            RefusalError: If it is not to be served.
        """
        host = request.headers.get("host", "")
        if not self._is_ours(host):
            raise RefusalError(421, f"expected the address that dallme review printed, found the host {host!r}")
        if self.token is not None and not self._is_known(request):
            raise RefusalError(401, "expected the token: open the address that dallme review printed, which holds it")
        if request.method in ("GET", "HEAD"):
            return
        origin = request.headers.get("origin")
        if origin is not None and origin not in (f"http://{host}", f"https://{host}"):
            raise RefusalError(403, f"expected changes from the review page alone, found ones from {origin!r}")
        if not _same(request.headers.get(SECRET_HEADER, ""), self.secret):
            raise RefusalError(
                403, "expected the secret of this server: it was started anew; reload the page, what you typed is kept"
            )

    @cached_property
    def _is_local(self) -> bool:
        return is_loopback(self.host)

    def brings_token(self, query: Mapping[str, str]) -> bool:
        """Whether an address holds the right token."""
        return self.token is not None and _same(query.get("token", ""), self.token)

    def _is_known(self, request: Request) -> bool:
        """Whether a request brings the token in its address or a header, or the cookie that was given for it."""
        kind, _, bearer = request.headers.get("authorization", "").partition(" ")
        return (
            (request.url.path == "/" and self.brings_token(request.query_params))
            or _same(request.cookies.get(self.cookie, ""), self.secret)
            or (kind.lower() == "bearer" and self.token is not None and _same(bearer, self.token))
        )

    def _is_ours(self, host: str) -> bool:
        """Whether a Host header names this server, and not a name that someone made point to it.

        An address in numbers cannot be made to point elsewhere.
        """
        try:
            name = urlsplit(f"//{host}").hostname
        except ValueError:
            return False
        if name in ("localhost", self.host.lower(), socket.gethostname().lower()):
            return True
        try:
            return ipaddress.ip_address(name or "").is_loopback or not self._is_local
        except ValueError:
            return False


def is_loopback(host: str) -> bool:
    """Whether an address can be reached from this machine alone.

    Raises:
        InputError: If it is no address of any machine.
    """
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM) if host else []
    except (OSError, UnicodeError):
        found = []
    if not found:
        raise InputError(f"expected the address or name of this machine, found {host!r}; leave --host out for 127.0.0.1")
    return all(ipaddress.ip_address(str(place[4][0]).partition("%")[0]).is_loopback for place in found)


def check_token(host: str, token: str | None) -> None:
    """Checks that nobody on the network can reach the texts without a token.

    Raises:
        InputError: If the address is not loopback and there is no token, or one that can be guessed.
    """
    if token is not None and (len(token) < SHORTEST_TOKEN or not token.isascii() or not token.isprintable() or " " in token):
        raise InputError(
            f"expected a token of at least {SHORTEST_TOKEN} ASCII characters without spaces, found {len(token)} characters"
        )
    if token is None and not is_loopback(host):
        raise InputError(
            f"expected a token for {host!r}, which others can reach, found none; add --token, or leave --host out for 127.0.0.1"
        )


def _same(one: str, other: str) -> bool:
    """Whether two secrets are equal, in a time that does not tell how far they are."""
    return hmac.compare_digest(one.encode(errors="replace"), other.encode(errors="replace"))
