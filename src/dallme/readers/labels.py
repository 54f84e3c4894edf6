"""Class ids and names from labels of any kind."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
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


@dataclass(frozen=True)
class LabelOptions:
    """Spellings of labels.

    Attributes:
        normalize: Whether labels that differ only in case, white space or invisible characters are merged.
        missing: Labels that mean a missing one; if None, a usual spelling of a missing value is an error.
    """

    normalize: bool = False
    missing: Collection[str] | None = None

    def __post_init__(self) -> None:
        """Splits labels that are separated by commas."""
        if isinstance(self.missing, str):
            names = tuple(name.strip() for name in self.missing.split(",") if name.strip())
            object.__setattr__(self, "missing", names)


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
        several = " (it looks multi-label: keep one label per row)" if pa.types.is_list(labels.type) else ""
        raise InputError(
            f"{what}: expected one class per row, a whole number or a name, "
            f"found values of type {labels.type}{several}; {_CHOOSE}"
        )
    return pa.concat_arrays(labels.chunks)


#: Spellings, in lower case, that mean a missing value in most files; as a class they need the user's word.
_MISSING = (
    "na", "n/a", "#n/a", "nan", "null", "<na>", "(null)", "nil", "n.a.", "-", "--", "---", "?", "??", ".",
)  # fmt: skip


def missing_labels(
    labels: pa.Array,
    declared: Mapping[int, str],
    what: str,
    spellings: Collection[str] | None = None,
    like: Collection[str] = (),
) -> np.ndarray:
    """Marks rows without a label: null, NaN, blank, or the -1 of a `ClassLabel`; bool of shape (n,).

    Args:
        labels: n labels.
        declared: Class id to name, where the source declares them; else empty.
        what: Name of the column in an error.
        spellings: Labels that mean a missing one; if None, a usual spelling such as ``NA`` is an error.
        like: Names of classes that are no missing values.

    Raises:
        InputError: If a label is a usual spelling of a missing value, and `spellings` is None.
    """
    missing: np.ndarray = np.array(pc.is_null(labels, nan_is_null=True))
    if pa.types.is_large_string(labels.type):
        encoded = labels.dictionary_encode()
        values, codes = encoded.dictionary.to_pylist(), encoded.indices
        if spellings is None:
            _check_missing(labels, [value for value in values if value not in like], what)
        missed = [is_blank(value) or value.strip() in (spellings or ()) for value in values]
        missing = np.array([*missed, True])[codes.fill_null(len(missed)).to_numpy()]
    elif pa.types.is_integer(labels.type) and declared and -1 not in declared:
        missing |= pc.equal(labels, -1).fill_null(False).to_numpy(zero_copy_only=False)
    return missing


def _check_missing(labels: pa.Array, values: Sequence[str], what: str) -> None:
    suspects = [value for value in values if value.strip().casefold() in _MISSING]
    if suspects:
        counts = [f"{value!r} ({pc.sum(pc.equal(labels, value)).as_py():,} rows)" for value in suspects[:5]]
        listed = ",".join(value.strip() for value in suspects)
        raise InputError(
            f"{what}: expected classes, found {', '.join(counts)}, which usually means no label; "
            f"say so with --missing-labels {listed!r}, or keep all labels as classes with --missing-labels ''"
        )


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
        counts = dict(zip(values, np.bincount(codes).tolist(), strict=True))
        _check_repetition(len(values), len(labels), what, combined_labels(counts))
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


def _check_repetition(different: int, rows: int, what: str, combined: str = "") -> None:
    if rows > 20 and different * 2 > rows:
        cause = f"it {combined}" if combined else "is it the wrong column?"
        raise InputError(
            f"{what}: expected classes with several rows each, "
            f"found {different:,} different labels in {rows:,} rows; {cause} {_CHOOSE}"
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
    counts = count_names(classes)
    similar = [f"{name!r} ({counts[name]:,} rows)" for group in look_alikes(counts) for name in group]
    if not similar:
        return ()
    return (
        f"{len(similar)} class names differ from another only in case, white space or invisible characters, "
        f"and stay classes of their own; to merge them give --normalize-labels: {_some(similar)}",
    )


def look_alikes(names: Iterable[str]) -> tuple[tuple[str, ...], ...]:
    """Groups names that differ only in case, white space or invisible characters."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(_folded(name), []).append(name)
    return tuple(tuple(group) for group in groups.values() if len(group) > 1)


def count_names(classes: Classes) -> dict[str, int]:
    """Returns the number of rows of each class by its name, in the order of the ids."""
    ids, counts = np.unique(classes.ids, return_counts=True)
    return {classes.names[number]: count for number, count in zip(ids.tolist(), counts.tolist(), strict=True)}


def _visible(name: str) -> str:
    """Removes invisible characters and folds white space; NFC."""
    return nfc(" ".join("".join(char for char in name if not is_blank(char) or char.isspace()).split()))


def _folded(name: str) -> str:
    """Returns what is equal for names that look alike."""
    return unicodedata.normalize("NFKC", _visible(name)).casefold()


def merge_spellings(labels: pa.Array, known: Collection[str] = ()) -> tuple[pa.Array, tuple[str, ...]]:
    """Gives labels that differ only in case, white space or invisible characters one spelling.

    Args:
        labels: n labels; only strings are changed.
        known: Names of other data, which are taken where they look alike; else the most frequent spelling is.

    Returns:
        The labels, and a note on those that were merged.
    """
    if not pa.types.is_large_string(labels.type):
        return labels, ()
    encoded = labels.dictionary_encode()
    values: list[str] = encoded.dictionary.to_pylist()
    counts = np.bincount(encoded.indices.drop_null().to_numpy(), minlength=len(values)).tolist()
    chosen = {_folded(name): name for name in known}
    groups: dict[str, list[str]] = {}
    for _, value, count in sorted(zip([-count for count in counts], values, counts, strict=True)):
        key = _folded(value)
        chosen.setdefault(key, _visible(value))
        groups.setdefault(key, []).append(f"{value!r} ({count:,} rows)")
    merged = [value if value in known or is_blank(value) else chosen[_folded(value)] for value in values]
    indices = encoded.indices
    labels = pa.array(merged, pa.large_string()).take(indices)
    several = [
        f"{' + '.join(spellings)} as {chosen[key]!r}"
        for key, spellings in groups.items()
        if len(spellings) > 1
    ]
    return labels, (
        f"merged the spellings of {len(several)} class names: {_some(several)}",
    ) if several else ()


#: Characters that separate several labels of one row.
_SEPARATORS = (";", "|", ",")


def combined_labels(counts: Mapping[str, int]) -> str:
    """Describes labels that look like several in one, such as ``a;b``; blank if there are none.

    At least two labels must be combinations, and half of their parts must occur in another label too.

    Args:
        counts: Label to number of rows.
    """
    if counts and all(name.startswith("[") and name.endswith("]") for name in counts):
        return f"looks multi-label: its values are lists, such as {next(iter(counts))!r}"
    for sign in _SEPARATORS:
        parts = {name: {part.strip() for part in name.split(sign)} for name in counts}
        combined = [name for name in counts if len(parts[name]) > 1]
        shared = Counter(part for own in parts.values() for part in own)
        distinct = {part for name in combined for part in parts[name]}
        if len(combined) > 1 and sum(shared[part] > 1 for part in distinct) * 2 >= len(distinct):
            return (
                f"looks multi-label: {len(combined):,} of {len(counts):,} labels are combinations, such as "
                f"{combined[0]!r} ({counts[combined[0]]:,} rows)"
            )
    return ""


def multi_label_note(classes: Classes, what: str) -> tuple[str, ...]:
    """Returns a note on classes that look like combinations of labels."""
    found = combined_labels(count_names(classes))
    if not found:
        return ()
    return (f"{what} {found}; each combination is a class of its own: keep one label per row, or {_CHOOSE}",)


def _only_ids(names: Mapping[int, str]) -> bool:
    return all(name == str(number) for number, name in names.items())


def _some(values: list[str]) -> str:
    return ", ".join(values[:10]) + (f" and {len(values) - 10} more" if len(values) > 10 else "")
