"""Submissions: a folder of distilled sets with a description, read as untrusted input and checked."""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from dallme.data import LabelledTexts
from dallme.dataset import check_probabilities
from dallme.errors import DallmeError, InputError, UnknownNameError, first_line
from dallme.evaluation.compare import check_candidates, known_methods
from dallme.experiments import build_record
from dallme.files.atomic import sha256_of
from dallme.leaderboard.datasets import Dataset, DatasetSpec, MissingDataError, read_dataset, words_key
from dallme.readers import build_texts
from dallme.readers.columns import Choice
from dallme.readers.files import read_file
from dallme.readers.formats import Allowance, DataFile
from dallme.readers.labels import LabelOptions
from dallme.readers.parquet import read_table
from dallme.readers.rows import readable_as
from dallme.validation import check_positive

#: Name of the file that describes a submission, and its most bytes.
DESCRIPTION, _MAX_DESCRIPTION = "submission.toml", 1 << 16

#: Columns of a set; the last one is optional.
_COLUMNS = ("text", "label", "label_probabilities")

#: Bytes that one set may take in memory.
_MAX_BYTES = 1 << 25

#: Most characters of a value of the description.
_MAX_VALUE = 300

_BUDGET, _FILE = re.compile(r"[1-9][0-9]{0,5}"), re.compile(r"([0-9]{2})\.(parquet|jsonl)")
_ALLOWED = re.compile(r"(readme|licen[cs]e)(\.(md|txt))?", re.IGNORECASE)

#: Optional costs of making the sets: name to unit.
COSTS = {"seconds": "s", "dollars": "$", "tokens": "tokens"}


@dataclass(frozen=True)
class Used:
    """The means of a method.

    Attributes:
        labels: Whether it used the labels of the training rows.
        test_data: Its use of test rows; must be ``none``.
        model_calls: Texts that it had a language model write.
    """

    labels: bool
    test_data: str
    model_calls: int

    def __post_init__(self) -> None:
        """Checks the values."""
        if self.test_data != "none":
            raise InputError(
                f"{DESCRIPTION}: used.test_data: expected 'none', found {self.test_data!r}; "
                "no method may read test rows"
            )
        check_positive(self.model_calls, f"{DESCRIPTION}: used.model_calls", least=0)


@dataclass(frozen=True)
class Submission:
    """The description of a submission.

    Attributes:
        name: Name of the method.
        authors: Their names.
        paper: Address of the paper, or blank.
        code: Address of the code, or blank.
        licence: Licence of the texts, such as ``CC-BY-4.0``.
        used: The means of the method.
        cost: Cost of making all sets, by the names of :data:`COSTS`.
    """

    name: str
    authors: tuple[str, ...]
    paper: str
    code: str
    licence: str
    used: Used
    cost: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Checks the values."""
        values = {"name": self.name, "licence": self.licence, "authors": " ".join(self.authors)}
        for key, value in values.items():
            if not value.strip() or not value.isprintable() or len(value) > _MAX_VALUE:
                raise InputError(
                    f"{DESCRIPTION}: {key}: expected printable text of 1 to {_MAX_VALUE} characters, "
                    f"found {value[:_MAX_VALUE]!r}"
                )
        if self.name in known_methods():
            raise InputError(
                f"{DESCRIPTION}: name: expected a name that no method of dallme has, found {self.name!r}; "
                "choose another"
            )
        for key, value in {"paper": self.paper, "code": self.code}.items():
            if value and (not re.fullmatch(r"https?://[!-~]+", value) or len(value) > _MAX_VALUE):
                raise InputError(
                    f"{DESCRIPTION}: {key}: expected a web address or '', found {value[:_MAX_VALUE]!r}"
                )
        for key, number in self.cost.items():
            if key not in COSTS:
                raise UnknownNameError(f"key of {DESCRIPTION}: cost", key, COSTS)
            if not (math.isfinite(number) and number >= 0):
                raise InputError(f"{DESCRIPTION}: cost.{key}: expected a number from 0 on, found {number}")


def parse_description(text: str) -> Submission:
    """Parses the text of ``submission.toml``.

    Raises:
        InputError: If it is no TOML, or a key is unknown, missing or has a wrong value.
    """
    try:
        content = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{DESCRIPTION}: expected TOML, could not read it: {first_line(error)}") from None
    try:
        if "used" in content:
            if not isinstance(content["used"], dict):
                raise InputError(f"{DESCRIPTION}: expected a table [used], found {content['used']!r}")
            content["used"] = build_record(Used, content["used"], f"{DESCRIPTION}: used")
        return build_record(Submission, content, DESCRIPTION)
    except OverflowError:
        raise InputError(
            f"{DESCRIPTION}: cost: expected numbers of a usual size, found a larger one"
        ) from None


@dataclass(frozen=True, eq=False)
class SubmittedSets:
    """The sets of one budget.

    Attributes:
        data: The data set.
        budget: Most texts a class.
        draws: The sets, in the order of their numbers.
    """

    data: Dataset
    budget: int
    draws: tuple[LabelledTexts, ...]

    @property
    def digest(self) -> str:
        """SHA-256 of the sets and of the rows that they are scored on."""
        return sha256_of(each.digest for each in (self.data.source, self.data.test, *self.draws))


@dataclass(frozen=True, eq=False)
class Check:
    """A checked submission.

    Attributes:
        submission: The description; None if it is wrong.
        sets: The sets that could be read, by data set and budget.
        problems: Violations of the rules, one line each. With any, nothing is scored.
        notes: Remarks, such as data sets that are not there.
    """

    submission: Submission | None
    sets: tuple[SubmittedSets, ...]
    problems: tuple[str, ...]
    notes: tuple[str, ...]


def check_submission(
    folder: Path, specs: Mapping[str, DatasetSpec], data: Path | None, only: Collection[str] = ()
) -> Check:
    """Checks a submission by all rules; nothing is trained.

    Args:
        folder: Folder of the submission.
        specs: The known data sets.
        data: Folder of the data sets.
        only: Data sets to check, which have to be there. Without any, those that are there are checked.

    Raises:
        InputError: If there is no such folder, or a named data set is unknown.
    """
    for name in only:
        if name not in specs:
            raise UnknownNameError("data set", name, specs)
    if not folder.is_dir():
        raise InputError(f"expected the folder of a submission, found none at {str(folder)!r}")
    problems: list[str] = []
    notes: list[str] = []
    submission = None
    listed = _Listing(folder.resolve(), problems)
    with _collecting(problems):
        submission = parse_description(listed.description())
    sets: list[SubmittedSets] = []
    for name, budgets in listed.files(specs).items():
        if only and name not in only:
            continue
        try:
            read = read_dataset(name, specs, data)
        except MissingDataError as error:
            (problems if only else notes).append(str(error))
            continue
        except InputError as error:
            problems.append(str(error))
            continue
        for budget, files in sorted(budgets.items()):
            with _collecting(problems):
                sets.append(_read_sets(listed.root, files, read, budget, submission, problems))
    if not sets and not problems:
        wanted = ", ".join(only or specs)
        problems.append(
            f"expected sets of a data set that is here ({wanted}), found none that can be checked"
        )
    return Check(submission, tuple(sets), tuple(dict.fromkeys(problems)), tuple(notes))


@contextmanager
def _collecting(problems: list[str]) -> Iterator[None]:
    """Adds an error of the block to the problems."""
    try:
        yield
    except DallmeError as error:
        problems.append(" ".join(str(error).split()))


@dataclass(frozen=True)
class _Listing:
    """The files of a submission; links are never followed.

    Attributes:
        root: The folder, resolved.
        problems: Receives a line on each entry that does not belong there.
    """

    root: Path
    problems: list[str]

    def description(self) -> str:
        """Reads the description."""
        path = self.root / DESCRIPTION
        if path.is_symlink():
            raise InputError(f"{DESCRIPTION}: expected the file itself, found a link")
        if not path.is_file():
            raise InputError(f"expected the file {DESCRIPTION} in the submission, found none")
        with path.open("rb") as file:
            content = file.read(_MAX_DESCRIPTION + 1)
        if len(content) > _MAX_DESCRIPTION:
            raise InputError(f"{DESCRIPTION}: expected at most {_MAX_DESCRIPTION:,} bytes, found more")
        try:
            return content.decode()
        except UnicodeDecodeError:
            raise InputError(f"{DESCRIPTION}: expected UTF-8, found other bytes") from None

    def files(self, specs: Collection[str]) -> dict[str, dict[int, list[Path]]]:
        """Lists the sets: data set to budget to files."""
        found: dict[str, dict[int, list[Path]]] = {}
        for folder in self._entries(self.root):
            if folder.name == DESCRIPTION or _ALLOWED.fullmatch(folder.name):
                continue
            if folder.name not in specs or not folder.is_dir():
                self.problems.append(str(UnknownNameError("data set", folder.name, specs)))
                continue
            for budget in self._entries(folder):
                if not (budget.is_dir() and _BUDGET.fullmatch(budget.name)):
                    self._reject(budget, "a folder named by the texts a class, such as 10")
                    continue
                files = [file for file in self._entries(budget) if self._is_set(file)]
                numbers = [file.stem for file in files]
                if len(set(numbers)) < len(numbers):
                    self._reject(budget, "each number once", "the same number in two formats")
                elif files:
                    found.setdefault(folder.name, {})[int(budget.name)] = files
        return found

    def _entries(self, folder: Path) -> list[Path]:
        """Lists a folder without hidden entries and links."""
        kept = []
        for path in sorted(folder.iterdir()):
            if path.name.startswith("."):
                continue
            if path.is_symlink() or not path.resolve().is_relative_to(self.root):
                self._reject(path, "the file itself", "a link")
            else:
                kept.append(path)
        return kept

    def _is_set(self, path: Path) -> bool:
        if path.is_file() and _FILE.fullmatch(path.name):
            return True
        self._reject(path, "a file named by the number of the draw, such as 00.parquet or 00.jsonl")
        return False

    def _reject(self, path: Path, expected: str, found: str = "another entry") -> None:
        name = path.relative_to(self.root).as_posix()
        self.problems.append(f"{name}: expected {expected}, found {found}")


def _read_sets(
    root: Path,
    files: Sequence[Path],
    data: Dataset,
    budget: int,
    submission: Submission | None,
    problems: list[str],
) -> SubmittedSets:
    """Reads the sets of one budget; problems of single files are collected.

    Raises:
        InputError: If the sets together break a rule.
    """
    smallest = min(data.source.class_counts.values())
    if budget > smallest:
        raise InputError(
            f"{data.name}/{budget}: expected at most {smallest} texts a class, as many as the smallest "
            f"class has, found {budget}"
        )
    draws: list[LabelledTexts] = []
    for path in files:
        with _collecting(problems):
            draws.append(_read_set(path, path.relative_to(root).as_posix(), data, budget))
    if draws:
        name = "submission" if submission is None else submission.name
        try:
            check_candidates({name: draws}, data.source, data.test)
        except InputError as error:
            raise InputError(f"{data.name}/{budget}: {error}") from None
    if len({draw.probabilities is None for draw in draws}) > 1:
        raise InputError(
            f"{data.name}/{budget}: expected label_probabilities in all sets or in none, found both"
        )
    copies = copies_of_test([text for draw in draws for text in draw.texts], data)
    if copies:
        raise InputError(
            f"{data.name}/{budget}: expected no text of the test set, found {len(copies)}, the first is "
            f"{copies[0][:60]!r}; remove them"
        )
    return SubmittedSets(data, budget, tuple(draws))


def _read_set(path: Path, name: str, data: Dataset, budget: int) -> LabelledTexts:
    """Reads one set.

    Raises:
        InputError: If it breaks a rule.
    """
    if path.stat().st_size > _MAX_BYTES:
        raise InputError(f"{name}: expected at most {_MAX_BYTES:,} bytes, found {path.stat().st_size:,}")
    allowance = Allowance(_MAX_BYTES, "submit fewer or shorter texts")
    rows = read_file(path, name, allowance)
    if not set(_COLUMNS[:2]) <= set(rows.names) <= set(_COLUMNS):
        raise InputError(
            f"{name}: expected the columns text and label, and label_probabilities for soft labels, "
            f"found {', '.join(rows.names[:10])}"
        )
    try:
        texts = build_texts(
            rows,
            Choice(("text",), "label"),
            LabelOptions(),
            drop_bad_rows=False,
            like=data.source,
            several=True,
        )
    except InputError as error:  # a submission is corrected, not read in part
        raise InputError(str(error).replace(", or skip them with --drop-bad-rows", "")) from None
    for label, count in texts.class_counts.items():
        if count > budget:
            raise InputError(
                f"{name}: expected at most {budget} texts a class, found {count} in class "
                f"{texts.label_names[label]!r}"
            )
    if _COLUMNS[2] not in rows.names:
        return texts
    values = rows.column(_COLUMNS[2]) if path.suffix == ".jsonl" else _read_lists(path, name, allowance)
    return replace(texts, probabilities=_probabilities(list(values), texts, name))


def _read_lists(path: Path, name: str, allowance: Allowance) -> list[object]:
    """Reads the soft labels of a Parquet file, a list of numbers in each row."""
    with readable_as("Parquet", name):
        try:
            table = read_table(path.read_bytes(), DataFile(path, name, None, allowance), [_COLUMNS[2]])
            values: list[object] = table.column(_COLUMNS[2]).to_pylist()
        except InputError:
            raise
        except (ValueError, KeyError) as error:
            raise pa.ArrowInvalid(str(error)) from None
        return values


def _probabilities(values: Sequence[object], texts: LabelledTexts, name: str) -> np.ndarray:
    """Converts soft labels; float64 of shape (n, c) with the classes in ascending order of their ids."""
    what, classes = f"{name}: {_COLUMNS[2]}", sorted(texts.label_names)
    try:
        probabilities = np.array(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(f"{what}: expected {len(classes)} numbers in each row, found other values") from None
    try:
        check_probabilities(probabilities, (len(texts), len(classes)))
    except InputError as error:
        raise InputError(f"{what}: {error}") from None
    present = np.isin(classes, texts.labels)
    if not np.isfinite(probabilities).all() or (probabilities[:, present].sum(axis=1) <= 0).any():
        raise InputError(f"{what}: expected finite numbers, some above 0 for classes of the set")
    return probabilities


def copies_of_test(texts: Sequence[str], data: Dataset) -> list[str]:
    """Returns the texts that have the words of a test row in its order, unless a training row has them too.

    A method that reads training rows only can find the latter by itself.
    """
    copies = [text for text in dict.fromkeys(texts) if words_key(text) in data.test_keys]
    return [text for text in copies if words_key(text) not in data.source_keys]
