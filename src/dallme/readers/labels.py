"""Class ids and names from labels of any kind."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dallme.data import LabelledTexts
from dallme.errors import InputError
from dallme.readers.rows import Column
from dallme.text import is_blank, nfc

_WHOLE = re.compile(r"[+-]?[0-9]+(\.0*)?")
_LEADING_ZERO = re.compile(r"[+-]?0[0-9]")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?", re.IGNORECASE)
_CHOOSE = "choose the column with the classes with --label-column"


@dataclass(frozen=True, eq=False)
class Classes:
    """Class ids with names.

    Attributes:
        ids: int64 of shape (n,).
        names: Class id to name, in the order of the ids.
        own_ids: Whether the ids come from the source; otherwise they are positions in the sorted names.
    """

    ids: np.ndarray
    names: dict[int, str]
    own_ids: bool


def decoded(column: Column) -> pa.ChunkedArray:
    """Converts a column to an Arrow array without dictionaries and views; NaN in Python values becomes null.

    Raises:
        ValueError, TypeError, OverflowError, pa.ArrowException: If values are of several kinds or of one
            without an Arrow type, or do not fit.
    """
    chunks = pa.chunked_array([pa.array(column, from_pandas=True)]) if isinstance(column, list) else column
    kind = chunks.type.value_type if pa.types.is_dictionary(chunks.type) else chunks.type
    if pa.types.is_string(kind) or pa.types.is_string_view(kind):
        kind = pa.large_string()
    return chunks if kind == chunks.type else chunks.cast(kind)


def as_labels(column: Column, what: str) -> pa.Array:
    """Converts a label column to one Arrow array of shape (n,), null where there is none.

    Args:
        column: The labels of the source.
        what: Name of the column in an error.

    Raises:
        InputError: If they are not all integers, all floats, all booleans or all strings.
    """
    try:
        labels = decoded(column)
    except (ValueError, TypeError, OverflowError, pa.ArrowException):
        names = {type(value).__name__ for value in column} if isinstance(column, list) else {str(column.type)}
        kinds = ", ".join(sorted(names))
        raise InputError(
            f"{what}: expected labels of one kind, numbers that fit in 64 bits or names, found {kinds}"
        ) from None
    types = pa.types
    tests = (types.is_integer, types.is_floating, types.is_boolean, types.is_large_string, types.is_null)
    if not any(test(labels.type) for test in tests):
        raise InputError(
            f"{what}: expected one class per row, a whole number or a name, "
            f"found values of type {labels.type}; {_CHOOSE}"
        )
    return pa.concat_arrays(labels.chunks)


def missing_labels(labels: pa.Array, declared: Mapping[int, str]) -> np.ndarray:
    """Marks rows without a label: null, NaN, blank, or the -1 of a `ClassLabel`; bool of shape (n,)."""
    missing: np.ndarray = np.array(pc.is_null(labels, nan_is_null=True))
    if pa.types.is_large_string(labels.type):
        encoded = labels.dictionary_encode()
        blank = [is_blank(value) for value in encoded.dictionary.to_pylist()]
        missing = np.array([*blank, True])[encoded.indices.fill_null(len(blank)).to_numpy()]
    elif pa.types.is_integer(labels.type) and declared and -1 not in declared:
        missing |= pc.equal(labels, -1).fill_null(False).to_numpy(zero_copy_only=False)
    return missing


def make_classes(labels: pa.Array, declared: Mapping[int, str], names: pa.Array | None, what: str) -> Classes:
    """Turns labels into class ids.

    Whole numbers, also written as 1.0 or "1", are the ids. Codes such as "007" keep their zeros as the
    name of 7; if "7" is a label too, all are names. False is 0 and True is 1. Names are sorted and
    numbered from 0.

    Args:
        labels: n labels, none missing.
        declared: Class id to name, where the source declares them; else empty.
        names: The name of each row's label, or None.
        what: Name of the label column in an error.

    Raises:
        InputError: If the labels are no classes, or an id has no declared name, two names, or the name of
            another.
    """
    encoded = labels.dictionary_encode()
    values, codes = encoded.dictionary.to_pylist(), encoded.indices.to_numpy()
    values = [nfc(value) if isinstance(value, str) else value for value in values]
    numbers = _whole_numbers(values, what)
    if numbers is None:
        _check_repetition(len(values), len(labels), what)
        ordered = {value: number for number, value in enumerate(sorted(set(values)))}
        numbers = [ordered[value] for value in values]
        ids = np.array(numbers, dtype=np.int64)[codes]
        return Classes(ids, dict(enumerate(ordered)), own_ids=False)
    ids = np.array(numbers, dtype=np.int64)[codes]
    present = sorted(set(numbers))
    if pa.types.is_boolean(labels.type):
        return Classes(ids, {0: "False", 1: "True"}, own_ids=True)
    if declared:
        unnamed = [number for number in present if number not in declared]
        if unnamed:
            raise InputError(
                f"{what}: expected class ids among the declared {sorted(declared)}, found {unnamed}"
            )
        return Classes(ids, {number: nfc(name) for number, name in sorted(declared.items())}, own_ids=True)
    if names is not None:
        return Classes(ids, _names_of(ids, present, names, what), own_ids=True)
    _check_repetition(len(present), len(labels), what)
    codes_of = {
        number: value.strip()
        for number, value in zip(numbers, values, strict=True)
        if isinstance(value, str) and _LEADING_ZERO.match(value.strip())
    }
    return Classes(ids, {number: codes_of.get(number, str(number)) for number in present}, own_ids=True)


def _whole_numbers(values: list[Any], what: str) -> list[int] | None:
    """Returns the values as whole numbers, or None if they are names."""
    if isinstance(values[0], str):
        if not all(_NUMBER.fullmatch(value.strip()) for value in values):
            return None
        fractions = [value for value in values if not _WHOLE.fullmatch(value.strip())]
        numbers = [] if fractions else [int(value.strip().partition(".")[0]) for value in values]
        spellings: dict[int, set[str]] = {}
        for number, value in zip(numbers, values, strict=False):
            spellings.setdefault(number, set()).add(value.strip())
        if any(len(same) > 1 and any(map(_LEADING_ZERO.match, same)) for same in spellings.values()):
            return None  # codes: "01" and "1" are different
    else:
        fractions = [value for value in values if value != value // 1]
        numbers = [] if fractions else [int(value) for value in values]
    if fractions:
        raise InputError(
            f"{what}: expected classes, whole numbers or names, found the number {fractions[0]}; {_CHOOSE}"
        )
    large = [number for number in numbers if not -(2**63) <= number < 2**63]
    if large:
        raise InputError(f"{what}: expected class ids that fit in 64 bits, found {large[0]}; {_CHOOSE}")
    return numbers


def _check_repetition(different: int, rows: int, what: str) -> None:
    if rows > 20 and different * 2 > rows:
        raise InputError(
            f"{what}: expected classes with several rows each, "
            f"found {different:,} different labels in {rows:,} rows; is it the wrong column? {_CHOOSE}"
        )


def _names_of(ids: np.ndarray, present: list[int], names: pa.Array, what: str) -> dict[int, str]:
    """Reads the name of each id from a second column; an id without a name is named by its number."""
    encoded = names.dictionary_encode()
    codes = encoded.indices.fill_null(-1).to_numpy()
    pairs = {(number, code) for number, code in zip(ids.tolist(), codes.tolist(), strict=True) if code >= 0}
    known: dict[int, str] = {}
    for number, code in sorted(pairs):
        name = nfc(encoded.dictionary[code].as_py())
        if known.setdefault(number, name) != name:
            raise InputError(
                f"{what}: expected one name per label, "
                f"found {known[number]!r} and {name!r} for label {number}"
            )
    result = {number: known.get(number, str(number)) for number in present}
    if len(set(result.values())) < len(result):
        raise InputError(f"{what}: expected a name of its own for each label, found {result}")
    return result


def align(classes: Classes, like: LabelledTexts, source: str) -> tuple[Classes, tuple[str, ...]]:
    """Gives classes the ids of other data: by name, or by id where one side has ids only.

    Returns:
        The classes with the ids and names of `like`, and notes.

    Raises:
        InputError: If a class is not one of `like`.
    """
    known = {nfc(name): number for number, name in like.label_names.items()}
    present = {number: classes.names[number] for number in np.unique(classes.ids).tolist()}
    notes: tuple[str, ...] = ()
    if all(name in known for name in present.values()):
        targets = {number: known[name] for number, name in present.items()}
    elif (
        classes.own_ids
        and like.own_ids
        and (_only_ids(present) or _only_ids(like.label_names))
        and all(number in like.label_names for number in present)
    ):
        targets = {number: number for number in present}
        pairs = ", ".join(f"{number} = {like.label_names[number]!r}" for number in list(present)[:5])
        notes = (
            f"matched labels to those of {like.source} by their numbers, "
            f"as one of the two has no names: {pairs}",
        )
    elif classes.own_ids and not like.own_ids and _only_ids(present):
        raise InputError(
            f"{source}: expected the class names of {like.source} ({_some([repr(name) for name in known])}), "
            f"found the numbers {_some(list(present.values()))}; {like.source} has no class ids "
            "that they could refer to: give the names in both, or the ids in both"
        )
    else:
        unknown = [repr(name) for name in present.values() if name not in known]
        raise InputError(
            f"{source}: expected the labels of {like.source} ({_some([repr(name) for name in known])}), "
            f"found also {_some(unknown)}"
        )
    numbers, inverse = np.unique(classes.ids, return_inverse=True)
    ids = np.array([targets[number] for number in numbers.tolist()], dtype=np.int64)[inverse]
    return Classes(ids, dict(like.label_names), own_ids=like.own_ids), notes


def similar_names(classes: Classes) -> tuple[str, ...]:
    """Returns a note on class names that differ only in case, white space or invisible characters."""
    ids, counts = np.unique(classes.ids, return_counts=True)
    groups: dict[str, list[str]] = {}
    for number, count in zip(ids.tolist(), counts.tolist(), strict=True):
        name = classes.names[number]
        visible = "".join(char for char in name if not is_blank(char) or char.isspace())
        key = " ".join(unicodedata.normalize("NFKC", visible).casefold().split())
        groups.setdefault(key, []).append(f"{name!r} ({count:,} rows)")
    similar = [spelling for spellings in groups.values() if len(spellings) > 1 for spelling in spellings]
    if not similar:
        return ()
    return (
        f"{len(similar)} class names differ from another only in case, white space or invisible characters, "
        f"and stay classes of their own: {_some(similar)}",
    )


def _only_ids(names: Mapping[int, str]) -> bool:
    return all(name == str(number) for number, name in names.items())


def _some(values: list[str]) -> str:
    return ", ".join(values[:10]) + (f" and {len(values) - 10} more" if len(values) > 10 else "")
