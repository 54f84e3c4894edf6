"""Checks of user input. Each returns the checked value or raises :class:`~dallme.errors.InputError`."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from dallme.errors import InputError
from dallme.text import is_blank

#: Length in characters at which a text counts as the result of an unclosed quote.
MAX_CHARACTERS = 1_000_000

#: Longest time, a month, that an option may set.
MAX_SECONDS = 2_592_000

#: Rows of a matrix that are checked at once.
_BLOCK = 65_536


def is_missing(value: Any) -> bool:
    """Returns whether a value is missing: None, NaN, or the NA and NaT of pandas."""
    return (
        value is None
        or (isinstance(value, (float, np.floating)) and value != value)
        or type(value).__name__ in ("NAType", "NaTType")
    )


def plain(value: Any) -> Any:
    """Converts values of other libraries to Python scalars or numpy arrays, missing values to None.

    Arrays of torch are detached from their graph and copied to the CPU.
    """
    if type(value) in (str, int, float, bool, type(None)):
        return value
    if isinstance(value, str):
        return str(value)
    if is_missing(value):
        return None
    if hasattr(value, "detach") and hasattr(value, "cpu"):
        value = value.detach().cpu()
        value = (value.float() if "bfloat16" in str(value.dtype) else value).numpy()
    return value.item() if isinstance(value, (np.generic, np.ndarray)) and value.ndim == 0 else value


def check_vectors(
    vectors: Any, *, rows: int | None = None, dimension: int | None = None, what: str = "vectors"
) -> np.ndarray:
    """Checks a matrix of vectors.

    Args:
        vectors: An array-like of shape (n, d).
        rows: The expected n, if known.
        dimension: The expected d, if known.
        what: Name of the matrix in an error.

    Returns:
        The vectors as float32, C-contiguous, of shape (n, d); not copied if they already are.

    Raises:
        InputError: If the shape is wrong or a value is NaN or infinite.
    """
    try:
        vectors = plain(vectors)
        array = np.ascontiguousarray(vectors, dtype=np.float32)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"expected {what} as a matrix of numbers, found {type(vectors).__name__}: {error}"
        ) from None
    if np.ndim(vectors) != 2:
        raise InputError(f"expected {what} of shape (n, d), found shape {np.shape(vectors)}")
    if rows is not None and array.shape[0] != rows:
        raise InputError(f"expected {what} with {rows} rows, one per text, found {array.shape[0]}")
    if dimension is not None and array.shape[1] != dimension:
        raise InputError(
            f"expected {what} with {dimension} dimensions, found {array.shape[1]}; "
            "were they made by another embedder?"
        )
    bad = [
        row
        for start in range(0, len(array), _BLOCK)  # in blocks, as the test takes as much memory as its input
        for row in start + np.flatnonzero(~np.isfinite(array[start : start + _BLOCK]).all(axis=1))
    ]
    if bad:
        raise InputError(
            f"expected finite {what}, found NaN or infinity in {len(bad)} rows, the first is row {bad[0]}"
        )
    return array


def check_positive(value: int, name: str, *, least: int = 1) -> int:
    """Checks that `value` is a whole number of at least `least`.

    Raises:
        InputError: If it is not.
    """
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise InputError(f"expected {name} to be a whole number of at least {least}, found {value!r}")
    return int(value)


def check_seconds(value: float, name: str) -> float:
    """Checks that `value` is a number above 0 that stands for seconds.

    Raises:
        InputError: If it is not, or is too large for the operating system's timers.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= MAX_SECONDS:
        raise InputError(f"expected {name} to be seconds, above 0 and up to {MAX_SECONDS:,}, found {value!r}")
    return value


def check_seed(seed: int) -> int:
    """Checks that `seed` is a whole number that fits in 32 bits.

    Raises:
        InputError: If it is not.
    """
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or not 0 <= seed < 2**32:
        raise InputError(f"expected seed to be a whole number from 0 to 2**32 - 1, found {seed!r}")
    return int(seed)


def text_problem(text: Any) -> str | None:
    """Returns the reason why a text is unusable, or None.

    Texts without a visible character, NUL bytes, lone surrogates and texts of :data:`MAX_CHARACTERS` or
    more are not usable.
    """
    if not isinstance(text, str):
        return "has no text" if is_missing(text) else f"holds {type(text).__name__} in place of a text"
    if "\0" in text:
        return "holds a NUL byte (is the file binary or UTF-16?)"
    if not "!" <= text < "\x7f" and is_blank(text):  # else it begins with a visible character of ASCII
        return "has a blank text"
    if len(text) >= MAX_CHARACTERS:
        limit = f"{MAX_CHARACTERS - 1:,}"
        return f"has a text of {len(text):,} characters, the limit is {limit} (is a quote never closed?)"
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return "holds a lone surrogate, which is not valid Unicode"
    return None


def check_texts(texts: Sequence[Any]) -> list[str]:
    """Checks texts before they are embedded or classified.

    Raises:
        InputError: If there is none, or one of them is unusable (see :func:`text_problem`).
    """
    if isinstance(texts, (str, bytes)):
        raise InputError(
            f"expected texts as a list of strings, found one {type(texts).__name__}; put it in a list"
        )
    checked = list(texts)
    if not checked:
        raise InputError("expected at least one text in texts, found none")
    for row, text in enumerate(checked):
        if problem := text_problem(text):
            raise InputError(f"texts: row {row} {problem}")
    return checked


def is_private_line(address: str) -> bool:
    """Returns whether a connection to a URL is encrypted or stays on this machine.

    Host names are not resolved; the only name of this machine is ``localhost``.
    """
    try:
        parts = urlsplit(address)
        host = parts.hostname or ""
    except ValueError:
        return False
    if parts.scheme == "https" or host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_hub_address() -> None:
    """Checks that the Hugging Face Hub, or its mirror, is reached over TLS.

    Raises:
        InputError: If ``HF_ENDPOINT`` names another machine without ``https``, where the network could
            change weights and read the token.
    """
    address = os.environ.get("HF_ENDPOINT", "").strip()
    if address and not is_private_line(address):
        authority = (address.partition("://")[2] or address).partition("/")[0]
        host = authority.rpartition("@")[2]  # without a password
        raise InputError(
            "expected an address that begins with https:// in HF_ENDPOINT, found another for "
            f"{host!r}; models, data and your token must not be sent unencrypted: "
            "give its https address, or reach it through a tunnel to localhost"
        )
