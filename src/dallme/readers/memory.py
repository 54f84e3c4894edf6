"""Sources in memory, of other libraries or lists, and datasets of the Hugging Face Hub."""

from __future__ import annotations

import re
import sys
from collections.abc import Collection, Mapping, Set
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from dallme.data import LabelledTexts
from dallme.errors import InputError, redact
from dallme.readers.formats import PYTHON_VALUE, Allowance, default_limit
from dallme.readers.rows import Column, Rows, from_lists, from_table
from dallme.validation import check_hub_address, plain

_KINDS = (
    "a path, a Hugging Face dataset id, a pandas or polars DataFrame, a pyarrow Table, a dataset of the "
    "library datasets, LabelledTexts, or a list of strings with labels"
)


def read_object(source: Any, max_bytes: int | None = None) -> Rows | None:
    """Opens an object that holds its labels; None for any other.

    Of several splits ``train`` is read, with a note. Libraries are not imported: if one is not loaded, the
    object cannot be of it.

    Raises:
        InputError: If it has no split of that name, repeats a column name, or is a stream above the limit.
    """
    if isinstance(source, LabelledTexts):
        return _from_labelled_texts(source)
    if isinstance(source, pa.Table):
        return from_table("memory", source)
    if _is(source, "pandas", "DataFrame"):
        return _from_pandas(source)
    if _is(source, "polars", "LazyFrame"):
        source = source.collect()
    if _is(source, "polars", "DataFrame"):

        def load(name: str) -> Column:
            return pa.chunked_array([source.get_column(name).to_arrow()])

        return Rows("memory", source.height, tuple(source.columns), load)
    if _is(source, "datasets", "DatasetDict") or _is(source, "datasets", "IterableDatasetDict"):
        return _from_splits(source, max_bytes)
    if _is(source, "datasets", "Dataset"):
        return from_dataset(source, "memory")
    if _is(source, "datasets", "IterableDataset"):
        return _from_stream(source, max_bytes)
    return None


def _from_splits(splits: Mapping[str, Any], max_bytes: int | None) -> Rows:
    """Opens the split ``train``, or the only one, as the name of a dataset on the Hub does."""
    name = "train" if "train" in splits or len(splits) != 1 else next(iter(splits))
    if name not in splits:
        raise InputError(
            f"expected a split 'train', found {', '.join(map(repr, splits)) or 'none'}; "
            "hand over one, such as data['test']"
        )
    rows = read_object(splits[name], max_bytes)
    assert rows is not None
    others = ", ".join(repr(other) for other in splits if other != name)
    note = f"took the split {name!r}; hand over another one for {others}"
    return replace(rows, notes=(*rows.notes, note)) if others else rows


def _from_stream(dataset: Any, max_bytes: int | None) -> Rows:
    """Reads a `datasets.IterableDataset` to its end, within the limit."""
    allowance = Allowance(
        default_limit(0) if max_bytes is None else max_bytes, "take fewer rows, or raise max_bytes"
    )
    columns: dict[str, list[Any]] = {}
    count = size = 0
    for row in dataset:
        for name, value in row.items():
            column = columns.setdefault(name, [])
            column += [None] * (count - len(column))
            column.append(value)
            size += PYTHON_VALUE + (len(value) if isinstance(value, (str, bytes)) else 0)
        count += 1
        allowance.check("memory", size)
    for column in columns.values():
        column += [None] * (count - len(column))
    return replace(
        from_lists("memory", columns, count),
        classes=_declared_classes(dataset.features),
        notes=(f"read a stream of {count:,} rows to its end",),
    )


def read_sequence(texts: Any, labels: Any) -> Rows:
    """Opens a sequence of texts and one of labels of the same length.

    Raises:
        InputError: If one of them is not a sequence, or their lengths differ.
    """
    texts, labels = plain(texts), plain(labels)
    if not _is_sequence(texts):
        raise InputError(f"expected {_KINDS}, found {type(texts).__name__}")
    if labels is None:
        raise InputError("expected labels with a list of texts, found none; give them as the second argument")
    if not _is_sequence(labels):
        raise InputError(f"expected a sequence of labels, one per text, found {type(labels).__name__}")
    if len(texts) != len(labels):
        raise InputError(
            f"expected a label for each text, found {len(labels):,} labels for {len(texts):,} texts"
        )
    return from_lists("memory", {"text": _listed(texts), "label": _listed(labels)}, len(texts))


def from_dataset(dataset: Any, source: str) -> Rows:
    """Opens a `datasets.Dataset` in its order; a column is loaded when it is asked for."""

    def load(name: str) -> Column:
        return dataset.select_columns([name]).with_format("arrow")[:].column(name)

    classes = _declared_classes(dataset.features)
    return Rows(source, len(dataset), tuple(dataset.column_names), load, classes=classes)


def _declared_classes(features: Any) -> dict[str, dict[int, str]]:
    """Returns the class names of each column that is a `ClassLabel`."""
    return {
        name: dict(enumerate(feature.names))
        for name, feature in (features or {}).items()
        if _is(feature, "datasets", "ClassLabel")
    }


def _is(value: object, module: str, name: str) -> bool:
    """Returns whether a value is an instance of a class of a module, without importing the module."""
    loaded = sys.modules.get(module)
    return loaded is not None and isinstance(value, getattr(loaded, name, ()))


def _is_sequence(value: Any) -> bool:
    if isinstance(value, np.ndarray):
        return value.ndim == 1
    return isinstance(value, Collection) and not isinstance(value, (str, bytes, Mapping, Set))


def _listed(values: Any) -> list[Any]:
    return [plain(value) for value in (values.tolist() if isinstance(values, np.ndarray) else values)]


def _from_labelled_texts(source: LabelledTexts) -> Rows:
    columns: dict[str, Column] = {
        "text": list(source.texts),
        "label": pa.chunked_array([pa.array(source.labels)]),
    }
    return Rows(
        source.source,
        len(source),
        tuple(columns),
        columns.__getitem__,
        classes={"label": source.label_names},
        row_ids=source.row_ids,
        notes=source.notes,
        own_ids=source.own_ids,
    )


def _from_pandas(frame: Any) -> Rows:
    names = tuple(str(name) for name in frame.columns)

    def load(name: str) -> Column:
        series = frame.iloc[:, names.index(name)]
        try:
            array = pa.array(series, from_pandas=True)
        except (ValueError, TypeError, OverflowError, pa.ArrowException):  # values of several kinds
            return _listed(series.tolist())
        return array if isinstance(array, pa.ChunkedArray) else pa.chunked_array([array])

    return Rows("memory", len(frame), names, load)


#: Names that `load_dataset` takes for file formats: it would read files of the working directory.
_FORMATS = (
    "arrow", "audiofolder", "csv", "generator", "hdf5", "imagefolder", "json", "pandas", "parquet", "text",
    "webdataset", "xml",
)  # fmt: skip

_NAME = re.compile(r"(?P<id>\w[\w.-]*(/[\w.-]+)?)(:(?P<config>[^@]+))?(@(?P<split>.+))?", re.ASCII)


def read_hub(name: str) -> Rows:
    """Loads a dataset by its id, with an optional configuration and split: ``id:config@split``.

    Args:
        name: Such as ``fancyzhx/ag_news`` or ``glue:sst2@validation``; the default split is ``train``.

    Raises:
        InputError: If the name is malformed, or the dataset cannot be loaded over an encrypted connection.
    """
    parts = _NAME.fullmatch(name)
    if parts is None or parts["id"] in _FORMATS:
        raise InputError(
            f"{name!r}: expected a file, a folder or the id of a Hugging Face dataset (owner/name), "
            "found none of them"
        )
    dataset, config, split = parts["id"], parts["config"], parts["split"] or "train"
    check_hub_address()
    from datasets import load_dataset  # slow to import

    try:
        loaded = load_dataset(dataset, config, split=split)
    except Exception as error:  # dozens of kinds: of the network, the Hub, the files, the builder
        request = f"dataset {dataset!r}, {f'configuration {config!r}, ' if config else ''}split {split!r}"
        reason = redact(" ".join(str(error).split()))
        raise InputError(
            f"{name}: no file or folder of that name, and the Hugging Face Hub did not give {request}: "
            f"{type(error).__name__}: {reason[:300]}; check the name and the network, or hand over a file"
        ) from None  # the cause could hold a secret
    return from_dataset(loaded, f"{dataset}{f':{config}' if config else ''}@{split}")
