"""Data sets of the benchmark, each with fingerprints of its rows: everyone scores on the same rows."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from pathlib import Path

from dallme.data import LabelledTexts
from dallme.errors import InputError
from dallme.experiments import build_record
from dallme.overlap import words_of
from dallme.readers import read
from dallme.text import clean

#: Names of data sets, which are names of folders too.
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")


class MissingDataError(InputError):
    """The files of a data set are not there."""


@dataclass(frozen=True)
class DatasetSpec:
    """A data set of the benchmark.

    Attributes:
        train: File of the training rows, relative to the folder of data sets.
        test: File of the test rows.
        train_sha256: :attr:`~dallme.data.LabelledTexts.digest` of the training rows.
        test_sha256: The same of the test rows.
        text_column: Column of the texts.
        label_column: Column of the classes.
    """

    train: str
    test: str
    train_sha256: str
    test_sha256: str
    text_column: str = "text"
    label_column: str = "label"


@dataclass(frozen=True, eq=False)
class Dataset:
    """The rows of a data set of the benchmark.

    Attributes:
        name: Its name, as submissions write it.
        source: Training rows.
        test: Test rows, with the same class ids.
    """

    name: str
    source: LabelledTexts
    test: LabelledTexts

    @cached_property
    def source_keys(self) -> frozenset[tuple[str, ...]]:
        """The words of each training row."""
        return frozenset(map(words_key, self.source.texts))

    @cached_property
    def test_keys(self) -> frozenset[tuple[str, ...]]:
        """The words of each test row."""
        return frozenset(map(words_key, self.test.texts))


def words_key(text: str) -> tuple[str, ...]:
    """Returns the words of a text without markup, case-folded; the text itself if it has none."""
    return tuple(words_of(cleaned := clean(text))) or (cleaned,)


def load_specs(path: Path | None = None) -> dict[str, DatasetSpec]:
    """Reads the data sets of a TOML file with one table each; by default those of the benchmark.

    Raises:
        InputError: If the file cannot be read, or a table has a wrong key or value.
    """
    where = "the data sets of the benchmark" if path is None else str(path)
    own = files("dallme.leaderboard") / "datasets.toml"
    try:
        text = own.read_text(encoding="utf-8") if path is None else path.read_text(encoding="utf-8")
        tables = tomllib.loads(text)
    except (OSError, ValueError) as error:
        raise InputError(f"expected TOML in {where}, could not read it: {error}") from None
    for name, table in tables.items():
        if not _NAME.fullmatch(name):
            raise InputError(
                f"{where}: expected names of lower-case letters, digits, '-' and '_', found {name!r}"
            )
        if not isinstance(table, dict):
            raise InputError(f"{where}: expected a table [{name}], found {table!r}")
    return {name: build_record(DatasetSpec, table, f"{where}: {name}") for name, table in tables.items()}


def read_dataset(name: str, specs: Mapping[str, DatasetSpec], folder: Path | None) -> Dataset:
    """Reads a data set and checks its fingerprints.

    Args:
        name: Its name.
        specs: The known data sets.
        folder: Folder of the data sets; None for the working folder.

    Raises:
        MissingDataError: If a file is not there.
        InputError: If a file cannot be read, or its rows are not those of the benchmark.
    """
    spec, base = specs[name], Path() if folder is None else folder
    for file in (spec.train, spec.test):
        if not (base / file).is_file():
            raise MissingDataError(
                f"data set {name!r}: expected the file {file!r} in {str(base)!r}, found none; "
                "name the folder of the data sets with --data"
            )
    columns = {"text_column": spec.text_column, "label_column": spec.label_column}
    source = read(base / spec.train, **columns)  # type: ignore[arg-type]  # mypy takes them for any argument
    test = read(base / spec.test, like=source, **columns)  # type: ignore[arg-type]
    for file, texts, expected in (
        (spec.train, source, spec.train_sha256),
        (spec.test, test, spec.test_sha256),
    ):
        if texts.digest != expected:
            raise InputError(
                f"data set {name!r}: expected the rows of the benchmark in {file!r} "
                f"(SHA-256 {expected[:12]}…), found {len(texts):,} other rows ({texts.digest}); "
                "use the same file as the benchmark, with its rows in their order"
            )
    return Dataset(name, source, test)
