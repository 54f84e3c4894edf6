"""Labels of any kind to class ids with names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dallme.data import LabelledTexts
from dallme.errors import InputError
from dallme.readers.rows import Column

_WHOLE = re.compile(r"[+-]?[0-9]+(\.0*)?")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?", re.IGNORECASE)
_CHOOSE = "choose the column with the classes with --label-column"


@dataclass(frozen=True, eq=False)
class Classes:
    """Labels as class ids.

    Attributes:
        ids: int64 of shape (n,).
        names: Class id to name, in the order of the ids.
        given: Whether the ids are the source's own, not places in the sorted names.
    """

    ids: np.ndarray
    names: dict[int, str]
    given: bool


def decoded(column: Column) -> pa.ChunkedArray:
    """A column as an Arrow array without dictionaries and views; NaN in Python values becomes null.

    Raises:
        ValueError, TypeError, OverflowError: If Python values are of more than one kind or do not fit.
    """
    chunks = pa.chunked_array([pa.array(column, from_pandas=True)]) if isinstance(column, list) else column
    kind = chunks.type.value_type if pa.types.is_dictionary(chunks.type) else chunks.type
    if pa.types.is_string(kind) or pa.types.is_string_view(kind):
        kind = pa.large_string()
    return chunks if kind == chunks.type else chunks.cast(kind)


def as_labels(column: Column, what: str) -> pa.Array:
    """One Arrow array of the labels of shape (n,), null where there is none.

    Args:
        column: The labels as the source holds them.
        what: What the column is called in an error.

    Raises:
        InputError: If they are not whole numbers, floats, truth values or strings, all of one kind.
    """
    try:
        labels = decoded(column)
    except (ValueError, TypeError, OverflowError):
        kinds = ", ".join(sorted({type(value).__name__ for value in column}))
        raise InputError(
            f"{what}: expected labels of one kind, numbers that fit in 64 bits or names, found {kinds}"
        ) from None
    kind = labels.type
    tests = (
        pa.types.is_integer,
        pa.types.is_floating,
        pa.types.is_boolean,
        pa.types.is_large_string,
        pa.types.is_null,
    )
    if not any(test(kind) for test in tests):
        raise InputError(
            f"{what}: expected one class a row, a whole number or a name, found values of type {kind}; {_CHOOSE}"
        )
    return pa.concat_arrays(labels.chunks)


def missing_labels(labels: pa.Array, declared: Mapping[int, str]) -> np.ndarray:
    """Which rows have no label: null, NaN, blank, or the -1 of a `ClassLabel` feature; bool of shape (n,)."""
    missing: np.ndarray = pc.is_null(labels, nan_is_null=True).to_numpy(zero_copy_only=False)
    empty = None
    if pa.types.is_large_string(labels.type):
        empty = pc.equal(pc.utf8_trim_whitespace(labels), "")
    elif pa.types.is_integer(labels.type) and declared and -1 not in declared:
        empty = pc.equal(labels, -1)
    if empty is not None:
        missing = missing | empty.fill_null(False).to_numpy(zero_copy_only=False)
    return missing


def classes(labels: pa.Array, declared: Mapping[int, str], names: pa.Array | None, what: str) -> Classes:
    """Turns labels into class ids.

    Whole numbers are kept as they are, also where they are written as 1.0 or "1"; False is 0 and True is 1; other strings
    are sorted and numbered from 0.

    Args:
        labels: n labels, none missing.
        declared: Class id to name, where the source declares them; else empty.
        names: The name of each row's label, or None.
        what: What the label column is called in an error.

    Raises:
        InputError: If the labels are no classes, or an id has no declared name, two names, or the name of another.
    """
    encoded = labels.dictionary_encode()
    values, codes = encoded.dictionary.to_pylist(), encoded.indices.to_numpy()
    numbers = _whole_numbers(values, what)
    if numbers is None:
        _check_repetition(len(values), len(labels), what)
        ordered = sorted(values)
        place = {value: number for number, value in enumerate(ordered)}
        return Classes(
            np.array([place[value] for value in values], dtype=np.int64)[codes],
            dict(enumerate(ordered)),
            given=False,
        )
    ids = np.array(numbers, dtype=np.int64)[codes]
    found = sorted(set(numbers))
    if pa.types.is_boolean(labels.type):
        return Classes(ids, {0: "False", 1: "True"}, given=True)
    if declared:
        unnamed = [number for number in found if number not in declared]
        if unnamed:
            raise InputError(
                f"{what}: expected class ids among the declared {sorted(declared)}, found {unnamed}"
            )
        return Classes(ids, dict(sorted(declared.items())), given=True)
    if names is not None:
        return Classes(ids, _names_of(ids, found, names, what), given=True)
    _check_repetition(len(found), len(labels), what)
    return Classes(ids, {number: str(number) for number in found}, given=True)


def _whole_numbers(values: list[Any], what: str) -> list[int] | None:
    """The values as whole numbers, or None if they are names."""
    if isinstance(values[0], str):
        if not all(_NUMBER.fullmatch(value.strip()) for value in values):
            return None
        fractions = [value for value in values if not _WHOLE.fullmatch(value.strip())]
        numbers = [] if fractions else [int(value.strip().partition(".")[0]) for value in values]
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


def _check_repetition(found: int, rows: int, what: str) -> None:
    if rows > 20 and found * 2 > rows:
        raise InputError(
            f"{what}: expected classes with several rows each, found {found:,} different labels in {rows:,} rows; "
            f"is it the wrong column? {_CHOOSE}"
        )


def _names_of(ids: np.ndarray, found: list[int], names: pa.Array, what: str) -> dict[int, str]:
    """Reads the name of each id off a second column; an id whose rows have no name is called by its number."""
    encoded = names.dictionary_encode()
    codes = encoded.indices.fill_null(-1).to_numpy()
    pairs = {(number, code) for number, code in zip(ids.tolist(), codes.tolist(), strict=True) if code >= 0}
    known: dict[int, str] = {}
    for number, code in sorted(pairs):
        name = encoded.dictionary[code].as_py()
        if known.setdefault(number, name) != name:
            raise InputError(
                f"{what}: expected one name a label, found {known[number]!r} and {name!r} for label {number}"
            )
    result = {number: known.get(number, str(number)) for number in found}
    if len(set(result.values())) < len(result):
        raise InputError(f"{what}: expected a name of its own for each label, found {result}")
    return result


def align(found: Classes, like: LabelledTexts, source: str) -> tuple[Classes, tuple[str, ...]]:
    """Gives labels the ids that they have in other data: by name, else by id where one side has ids only.

    Returns:
        The labels with the ids and names of `like`, and notes.

    Raises:
        InputError: If a label is not one of `like`.
    """
    known = {name: number for number, name in like.label_names.items()}
    present = {number: found.names[number] for number in np.unique(found.ids).tolist()}
    notes: tuple[str, ...] = ()
    if all(name in known for name in present.values()):
        places = {number: known[name] for number, name in present.items()}
    elif (
        found.given
        and (_only_ids(present) or _only_ids(like.label_names))
        and all(n in like.label_names for n in present)
    ):
        places = {number: number for number in present}
        pairs = ", ".join(f"{number} = {like.label_names[number]!r}" for number in list(present)[:5])
        notes = (
            f"matched labels to those of {like.source} by their numbers, as one of the two has no names: {pairs}",
        )
    else:
        unknown = [repr(name) for name in present.values() if name not in known]
        raise InputError(
            f"{source}: expected the labels of {like.source} ({_some([repr(name) for name in known])}), "
            f"found also {_some(unknown)}"
        )
    numbers, inverse = np.unique(found.ids, return_inverse=True)
    ids = np.array([places[number] for number in numbers.tolist()], dtype=np.int64)[inverse]
    return Classes(ids, dict(like.label_names), given=True), notes


def _only_ids(names: Mapping[int, str]) -> bool:
    return all(name == str(number) for number, name in names.items())


def _some(values: list[str]) -> str:
    return ", ".join(values[:10]) + (f" and {len(values) - 10} more" if len(values) > 10 else "")
