"""Errors with one line that says what was expected, what was found and what to do next.

Every error that a user can cause is a :class:`DallmeError`. The command line prints its message as one
line and exits with status 2. Any other exception is a bug.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

# Environment variables that hold secrets, the part of a URL with user and password, and tokens by their form.
_SECRET_NAME = re.compile(r"(?:\w*_)?(?:API_?KEY|ACCESS_KEY|TOKEN|SECRET|PASSWORD)", re.IGNORECASE)
_USER_INFO = re.compile(r"\b([a-z][a-z0-9+.-]*://)[^\s/?#'\"<>]*@", re.IGNORECASE)
_TOKEN = re.compile(r"\b(?:hf_\w{8,}|sk-[\w-]{16,})|(?<=\bBearer )[^\s'\",]+", re.IGNORECASE)


class DallmeError(Exception):
    """Base class of all errors that a user can cause."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles an error without calling its constructor, whose arguments differ by class."""
        return _restore, (type(self), self.args, self.__dict__)


class InputError(DallmeError, ValueError):
    """An input (a file, a column, an option, an array) cannot be used."""


class UnknownNameError(InputError):
    """A name is not one of the known ones."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        """Names the unknown `name` of a `kind` and lists the known ones."""
        super().__init__(f"unknown {kind} {name!r}; known: {', '.join(known)}")


class ModelNotFoundError(DallmeError):
    """A model was found in none of the places that were searched."""


class MissingDependencyError(DallmeError, ImportError):
    """A part needs a package that is not installed."""

    def __init__(self, part: str, package: str, extra: str) -> None:
        """Names the part, the package it needs and the pip command that installs it."""
        super().__init__(
            f"{part} needs the package {package!r}, which is not installed; "
            f"run: pip install 'dallme[{extra}]'"
        )


class OutputError(DallmeError):
    """A result cannot be written to its destination."""


class StoreError(DallmeError):
    """The embedding store on disk cannot be used."""


class ServiceError(DallmeError):
    """A service refuses a request, fails, or sends an invalid answer."""


class BudgetError(DallmeError):
    """The next request could exceed the budget."""


def first_line(error: BaseException) -> str:
    """Returns the first line of an error's message; the name of its type if it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def redact(text: str) -> str:
    """Replaces secrets in a message by ``***``.

    Secrets are tokens of the Hub and of OpenAI, the user and password of a URL, and the values of secret
    environment variables, plain or percent-encoded. These are any ``*_TOKEN``, ``*_API_KEY``, ``*_SECRET``
    and ``*_PASSWORD``, such as ``HF_TOKEN``.

    Example:
        >>> redact("GET https://me:secret@hub.example/api failed")
        'GET https://***@hub.example/api failed'
    """
    values = {value.strip() for name, value in os.environ.items() if _SECRET_NAME.fullmatch(name)}
    spellings = {
        spelling for value in values if len(value) >= 6 for spelling in (value, quote(value, safe=""))
    }
    for spelling in sorted(spellings, key=len, reverse=True):
        text = text.replace(spelling, "***")
    return _TOKEN.sub("***", _USER_INFO.sub(r"\1***@", text))


def _restore(kind: type[DallmeError], args: tuple[Any, ...], attributes: dict[str, Any]) -> DallmeError:
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(attributes)
    return error
