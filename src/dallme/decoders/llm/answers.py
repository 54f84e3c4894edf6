"""What a service answered, kept by the request: nothing is asked, and paid for, twice."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dallme.durable import replace_file
from dallme.errors import StoreError
from dallme.services.pricing import Usage


@dataclass(frozen=True)
class Answer:
    """One text that a model wrote.

    Attributes:
        text: The text, as it came.
        finish: Why the model stopped, as the service says: ``stop``, ``length`` or something else; None if it does not say.
    """

    text: str
    finish: str | None = None


def parse(body: bytes) -> tuple[Answer, Usage | None]:
    """Reads the answer of a chat endpoint.

    Args:
        body: The answer, as JSON.

    Returns:
        The answer and the tokens that the service charges, None if it does not say.

    Raises:
        ValueError: If it is not one text; so are KeyError, TypeError, IndexError and AttributeError, for other forms.
    """
    document = json.loads(body)
    choice = document["choices"][0]
    text = choice["message"]["content"]
    if text is not None and not isinstance(text, str):
        raise ValueError(f"a message of {type(text).__name__} in place of a text")
    usage = document.get("usage") or {}
    read, written = usage.get("prompt_tokens"), usage.get("completion_tokens")
    charged = Usage(int(read), int(written)) if read is not None and written is not None else None
    return Answer(text or "", choice.get("finish_reason")), charged


class AnswerStore:
    """A folder with an answer a file, named by the SHA-256 of its request. Requests themselves, with their rows, are not kept."""

    def __init__(self, folder: Path | None) -> None:
        """Keeps the folder, which is made when the first answer comes; None keeps nothing."""
        self._folder = folder

    def get(self, key: str) -> Answer | None:
        """The answer to a request; None if it is not kept, or what is kept is damaged."""
        if self._folder is None:
            return None
        try:
            kept = json.loads(self._path(self._folder, key).read_text(encoding="utf-8"))
            text, finish = kept["text"], kept["finish"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return Answer(text, finish) if isinstance(text, str) and text.strip() else None

    def put(self, key: str, answer: Answer) -> None:
        """Keeps an answer; it is on the disk when this returns. A blank one is a failure, and is not kept.

        Raises:
            StoreError: If it cannot be written.
        """
        if self._folder is None or not answer.text.strip():
            return
        path = self._path(self._folder, key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(path, json.dumps(asdict(answer), ensure_ascii=True).encode())
        except OSError as error:
            raise StoreError(
                f"expected to keep an answer in {str(self._folder)!r}, could not: {error.strerror or error}; name another "
                "folder with --store"
            ) from error

    @staticmethod
    def _path(folder: Path, key: str) -> Path:
        return folder / key[:2] / f"{key}.json"


def key_of(address: str, request: dict[str, Any]) -> str:
    """SHA-256 of a request and where it goes, as hexadecimal; a key to the service is no part of it."""
    content = json.dumps({"address": address, "request": request}, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(content.encode()).hexdigest()
