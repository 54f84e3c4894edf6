"""The public function :func:`read`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from dallme.data import LabelledTexts
from dallme.errors import InputError
from dallme.readers.build import build
from dallme.readers.columns import choose
from dallme.readers.files import missing, read_file, split_suffix
from dallme.readers.folders import read_folder
from dallme.readers.hub import read_hub
from dallme.readers.memory import read_object, read_sequence
from dallme.readers.rows import Rows
from dallme.scale.base import Engine


def read(
    source: Any,
    labels: Any = None,
    *,
    text_column: str | None = None,
    label_column: str | None = None,
    id_column: str | None = None,
    drop_bad_rows: bool = False,
    like: LabelledTexts | None = None,
    labelled: bool = True,
    engine: Engine | None = None,
) -> LabelledTexts:
    """Reads labelled texts from whatever holds them.

    Args:
        source: One of

            - a file: CSV, TSV, JSON Lines, a JSON array, Parquet or Arrow (``.csv .tsv .jsonl .ndjson .json .parquet .arrow
              .feather``), also with ``.gz`` or ``.zst``;
            - a folder of such files; ``folder@test`` for a split other than ``train``;
            - the id of a Hugging Face dataset: ``fancyzhx/ag_news``, ``glue:sst2@validation``;
            - a pandas or polars DataFrame, a pyarrow Table, a `datasets.Dataset`, or :class:`LabelledTexts`;
            - a sequence of strings, with `labels`.
        labels: The labels of a sequence of strings, one each.
        text_column: Column with the texts; by default the first with a usual name (text, sentence, content, ...).
        label_column: Column with the labels; by default the first with a usual name (label, labels, class, ...).
        id_column: Column with an id of each row, all different; by default rows are numbered from 0.
        drop_bad_rows: Leaves out rows without a usable text or label, with a note, in place of an error.
        labelled: Whether labels are needed. If not, a source without a column for them is one class without a name.
        engine: Where the files of a folder are parsed; by default here.
        like: Data whose class ids and names the labels are to have, such as the training data of a test set.

    Returns:
        The texts. Whole numbers keep their value as class ids; names are sorted and numbered from 0.

    Raises:
        InputError: If the source is not there or cannot be read, if its columns are not found, if rows are unusable, or if
            the labels are no classes, fewer than two (without `like`), or not those of `like`.
    """
    rows = _open(source, labels, engine)
    return build(
        rows, choose(rows, text_column, label_column, id_column, labelled=labelled), drop_bad_rows=drop_bad_rows, like=like
    )


def _open(source: Any, labels: Any, engine: Engine | None) -> Rows:
    rows = _open_path(source, engine) if isinstance(source, (str, Path)) else read_object(source)
    if rows is None:
        return read_sequence(source, labels)
    if labels is not None:
        raise InputError(
            f"expected labels only with a list of texts, found them with {type(source).__name__}; "
            "name its column with label_column"
        )
    return rows


def _open_path(source: str | Path, engine: Engine | None) -> Rows:
    """A file, a folder, a split of a folder, or the name of a dataset of the Hub."""
    name = str(source)
    if not name.strip():
        raise InputError("expected a path or a dataset id, found an empty string")
    # os.path, as unlike Path it takes any string without an error.
    path = os.path.expanduser(name)
    if os.path.isdir(path):
        return read_folder(Path(path), name, None, engine)
    if os.path.exists(path):
        return read_file(Path(path), name)
    base, _, split = path.rpartition("@")
    if os.path.isdir(base):
        return read_folder(Path(base), name.rpartition("@")[0], split, engine)
    if os.path.exists(base):
        raise InputError(f"{name}: expected a folder before '@{split}', found a file; a file has no splits")
    is_split = bool(base) and not split_suffix(split)[1]
    wanted = base if is_split else path
    if isinstance(source, Path) or name.startswith((".", "/", "~")) or split_suffix(wanted)[1]:
        raise missing(Path(wanted), name)
    return read_hub(name)
