"""Parsing of the JSON documents in a set's folder, each against a description of its shape."""

from __future__ import annotations

import json
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

#: Largest JSON document that is read, in bytes, and the deepest nesting of its values.
MAX_BYTES, MAX_DEPTH = 256_000_000, 64

#: Shape of a row id.
ROW_ID = (int, str)


def parse_json(content: bytes, name: str, shape: Any) -> dict[str, Any]:
    """Parses a JSON object and checks its shape.

    Args:
        content: The document as UTF-8.
        name: Name of the document in an error.
        shape: As :func:`check_shape` takes it.

    Raises:
        ValueError: If it is no such document.
    """
    if len(content) > MAX_BYTES:
        raise ValueError(f"{name} has {len(content):,} bytes, the limit is {MAX_BYTES:,}")
    try:
        document = json.loads(content.decode("utf-8"))
    except RecursionError:
        raise ValueError(f"{name} is nested deeper than {MAX_DEPTH} levels") from None
    except ValueError as error:
        raise ValueError(f"{name} is no JSON document: {error}") from None
    check_depth(document, name)
    check_shape(document, shape, name)
    found: dict[str, Any] = document
    return found


def check_depth(document: Any, name: str) -> None:
    """Raises ValueError if a document is nested deeper than :data:`MAX_DEPTH`."""
    level = [document]
    for _ in range(MAX_DEPTH):
        level = [
            value
            for parent in level
            if isinstance(parent, (Mapping, list, tuple))
            for value in (parent.values() if isinstance(parent, Mapping) else parent)
        ]
        if not level:
            return
    raise ValueError(f"{name} is nested deeper than {MAX_DEPTH} levels")


def check_shape(value: Any, shape: Any, name: str) -> None:
    """Checks a value against a shape.

    Args:
        value: Any value that JSON can hold.
        shape: ``str``, ``int``, ``float`` (finite), ``bool``, ``None`` or ``Any``; a list with the shape of
            its items; a dict with the shape of each key, those that end in ``?`` optional; or a tuple of
            alternatives.
        name: Name of the value in an error.

    Raises:
        ValueError: If it differs; the message names the first value that does.
    """
    if isinstance(shape, tuple):
        *others, last = shape
        if not any(_is_scalar(value, other) for other in others):
            check_shape(value, last, name)
    elif isinstance(shape, list):
        _check_list(value, shape[0], name)
    elif isinstance(shape, dict):
        _check_object(value, shape, name)
    elif not _is_scalar(value, shape):
        raise _mismatch(value, name, _NAMES[shape])


def _check_list(value: Any, shape: Any, name: str) -> None:
    if not isinstance(value, (list, tuple)):
        raise _mismatch(value, name, "a list")
    kinds = shape if isinstance(shape, tuple) else (shape,)
    for index, item in enumerate(value):
        if not any(_is_scalar(item, kind) for kind in kinds):
            check_shape(item, shape, f"{name}[{index}]")


def _check_object(value: Any, shape: Mapping[str, Any], name: str) -> None:
    if not isinstance(value, Mapping):
        raise _mismatch(value, name, "an object")
    for key, inner in shape.items():
        bare = key.removesuffix("?")
        if bare in value:
            check_shape(value[bare], inner, f"{name}.{bare}")
        elif bare == key:
            raise ValueError(f"{name} has no {key!r}")


_NAMES = {
    str: "a string",
    int: "a whole number",
    float: "a finite number",
    bool: "true or false",
    None: "null",
}


def _is_scalar(value: Any, kind: Any) -> bool:
    if kind is Any:
        return True
    if kind is None:
        return value is None
    if kind in (str, bool):
        return isinstance(value, kind)
    if isinstance(value, bool):
        return False
    if kind is int:
        return isinstance(value, Integral) and abs(int(value)) < 2**63
    if not (kind is float and isinstance(value, Real)):
        return False
    try:
        return abs(float(value)) <= 1e300
    except OverflowError:
        return False


def _mismatch(value: Any, name: str, expected: str) -> ValueError:
    shown = repr(value)
    return ValueError(f"{name} is {shown if len(shown) <= 40 else shown[:40] + '…'}, not {expected}")
