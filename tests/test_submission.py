"""Submissions to the benchmark are untrusted: each violation of a rule is one clear line, and nothing is scored."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dallme.cli.main import _status
from dallme.errors import InputError
from dallme.leaderboard.datasets import load_specs, read_dataset
from dallme.leaderboard.submission import check_submission, parse_description
from dallme.readers import read
from leaderboard_cases import (
    DESCRIPTION,
    LABELS,
    SETS,
    TEST,
    TRAIN,
    as_rows,
    label_of,
    make_bench,
    replace_in,
    run,
    write_jsonl,
)


@pytest.fixture
def bench(tmp_path: Path) -> Path:
    """A folder with data sets, their description in `data.toml`, and the submission `mine`."""
    return make_bench(tmp_path)


def set_of(folder: Path) -> Path:
    return folder / "things" / "2" / "00.jsonl"


def change_rows(**more: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        rows = as_rows(list(SETS[0]))
        rows[0] |= more
        write_jsonl(set_of(folder), rows)

    return change


def link_out(folder: Path) -> None:
    outside = folder.parent / "outside.jsonl"
    set_of(folder).rename(outside)
    set_of(folder).symlink_to(outside)


def link_folder_out(folder: Path) -> None:
    (folder / "things").rename(folder.parent / "elsewhere")
    (folder / "things").symlink_to(folder.parent / "elsewhere")


def link_description_out(folder: Path) -> None:
    (folder / "submission.toml").rename(folder.parent / "outside.toml")
    (folder / "submission.toml").symlink_to(folder.parent / "outside.toml")


def too_many(folder: Path) -> None:
    write_jsonl(set_of(folder), as_rows([*SETS[0], "One more fine thing"], [*LABELS, "good"]))


def test_text(folder: Path) -> None:
    change_rows(text=f"<p>{TEST[0].upper()}!</p>")(folder)


test_text.__test__ = False  # type: ignore[attr-defined]


def pipe(folder: Path) -> None:
    os.mkfifo(folder / "things" / "2" / "02.jsonl")


def probabilities(values: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        for number, texts in enumerate(SETS):
            rows = [{**row, "label_probabilities": values} for row in as_rows(list(texts))]
            write_jsonl(folder / "things" / "2" / f"{number:02}.jsonl", rows)

    return change


FILE = "things/2/00.jsonl: "
BAD_SUBMISSIONS: dict[str, tuple[Callable[[Path], Any], tuple[str, ...]]] = {
    "wrong columns": (lambda folder: write_jsonl(set_of(folder), [{"sentence": "a", "label": "good"}]), (FILE, "expected the columns text and label", "found sentence, label")),
    "another column": (change_rows(weight=1), (FILE, "found text, label, weight")),
    "too many texts": (too_many, (FILE, "expected at most 2 texts a class, found 3 in class 'good'")),
    "a text of the test set": (test_text, ("things/2: expected no text of the test set, found 1", "STORY IS FINE")),
    "an unknown label": (change_rows(label="ugly"), (FILE, "'bad', 'good'", "found also 'ugly'")),
    "a blank text": (change_rows(text=" "), (FILE, "has a blank text")),
    "one class": (lambda folder: write_jsonl(set_of(folder), as_rows(["Fine", "Warm"], ["good", "good"])), ("things/2: candidate 'mine': expected texts of at least two classes",)),
    "no rows": (lambda folder: set_of(folder).write_text(""), (FILE,)),
    "no JSON": (lambda folder: set_of(folder).write_text("{"), (FILE,)),
    "a link out": (link_out, (FILE, "expected the file itself, found a link")),
    "a linked folder": (link_folder_out, ("things: expected the file itself, found a link",)),
    "a linked description": (link_description_out, ("submission.toml: expected the file itself, found a link",)),
    "a pipe": (pipe, ("things/2/02.jsonl: expected a file named by the number of the draw",)),
    "a name without number": (lambda folder: set_of(folder).rename(folder / "things" / "2" / "a.jsonl"), ("things/2/a.jsonl: expected a file named by the number",)),
    "one number twice": (lambda folder: pq.write_table(pa.Table.from_pylist(as_rows(list(SETS[0]))), set_of(folder).with_suffix(".parquet")), ("things/2: expected each number once",)),
    "no budget": (lambda folder: (folder / "things" / "2").rename(folder / "things" / "few"), ("things/few: expected a folder named by the texts a class",)),
    "a large budget": (lambda folder: (folder / "things" / "2").rename(folder / "things" / "900"), ("things/900: expected at most 12 texts a class",)),
    "an unknown data set": (lambda folder: (folder / "things").rename(folder / "stuff"), ("unknown data set 'stuff'; known: things, others",)),
    "no sets": (lambda folder: (folder / "things").rename(folder.parent / "gone"), ("expected sets of a data set that is here",)),
    "no description": (lambda folder: (folder / "submission.toml").unlink(), ("expected the file submission.toml",)),
    "no TOML": (lambda folder: (folder / "submission.toml").write_text("name ="), ("submission.toml: expected TOML",)),
    "an unknown key": (replace_in('code = ""', 'code = ""\ncolour = 1'), ("unknown key of submission.toml 'colour'; known: name,",)),
    "a missing key": (replace_in('licence = "CC0-1.0"', ""), ("submission.toml: expected the key 'licence', found none",)),
    "a blank licence": (replace_in("CC0-1.0", " "), ("submission.toml: licence: expected printable text",)),
    "a wrong type": (replace_in("labels = true", "labels = 1"), ("submission.toml: used: labels: expected bool, found 1",)),
    "test data": (replace_in('"none"', '"dev"'), ("used.test_data: expected 'none', found 'dev'",)),
    "a script as address": (replace_in("https://example.org/paper", "javascript:alert(1)"), ("paper: expected a web address",)),
    "an unknown cost": (replace_in("seconds = 2.5", "euros = 1"), ("cost 'euros'; known: seconds, dollars, tokens",)),
    "a cost below zero": (replace_in("2.5", "-1"), ("cost.seconds: expected a number from 0 on",)),
    "a huge cost": (replace_in("2.5", "1" + "0" * 400), ("submission.toml: cost: expected numbers of a usual size",)),
    "too many digits": (replace_in("2.5", "1" * 5000), ("submission.toml: expected TOML",)),
    "no table used": (lambda folder: (folder / "submission.toml").write_text(DESCRIPTION.partition("[used]")[0].format(name="a") + "used = 1"), ("expected a table [used], found 1",)),
    "the name of a baseline": (replace_in('"mine"', '"random"'), ("submission.toml: name: expected a name that no method of dallme has, found 'random'",)),
    "soft labels of another shape": (probabilities([0.5, 0.25, 0.25]), (FILE, "label_probabilities: expected soft labels of shape (4, 2), found (4, 3)")),
    "soft labels that do not add up": (probabilities([0.5, 0.25]), (FILE, "add up to 1")),
    "soft labels that are no numbers": (probabilities("high"), (FILE, "label_probabilities: expected 2 numbers in each row")),
    "soft labels without values": (change_rows(label_probabilities=None), (FILE, "label_probabilities: expected")),
    "soft labels in one set": (lambda folder: write_jsonl(set_of(folder), [{**row, "label_probabilities": [0.5, 0.5]} for row in as_rows(list(SETS[0]))]), ("things/2: expected label_probabilities in all sets or in none",)),
    "soft labels of no class": (lambda folder: write_jsonl(set_of(folder), [{**row, "label_probabilities": [float("nan"), 1.0]} for row in as_rows(list(SETS[0]))]), (FILE, "label_probabilities: expected")),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_SUBMISSIONS)
def test_a_bad_submission_is_one_clear_line_and_nothing_is_scored(bench: Path, case: str) -> None:
    change, parts = BAD_SUBMISSIONS[case]
    change(bench / "mine")
    for action in ("check", "score"):
        result = run(bench, action)
        assert isinstance(result.exception, InputError), result.output
        lines = [line for line in result.stderr.splitlines() if not line.startswith("note:")]
        assert all(line.startswith("error: ") for line in lines)
        said = [*lines, str(result.exception)]
        assert any(all(part in line for part in parts) for line in said), said
        assert all(len(line.splitlines()) == 1 for line in said)
        assert not (bench / "results").exists()


def test_a_linked_description_is_not_read(bench: Path) -> None:
    link_description_out(bench / "mine")
    (bench / "outside.toml").write_text("secret = 1")
    problems = check_submission(bench / "mine", load_specs(bench / "data.toml"), bench / "data").problems
    assert problems == ("submission.toml: expected the file itself, found a link",)


def test_all_problems_are_told_at_once(bench: Path) -> None:
    too_many(bench / "mine")
    write_jsonl(bench / "mine" / "things" / "2" / "01.jsonl", [{"text": "a"}])
    replace_in("labels = true", "")(bench / "mine")
    checked = check_submission(bench / "mine", load_specs(bench / "data.toml"), bench / "data")
    assert len(checked.problems) == 3
    result = run(bench, "check")
    assert len(result.stderr.splitlines()) == 2  # the last one is the exception


def test_a_large_file_is_refused_unread(bench: Path) -> None:
    rows = as_rows(["a" * 1_000_000 + str(row) for row in range(4)])
    table = pa.Table.from_pylist(rows * 20)
    set_of(bench / "mine").unlink()
    pq.write_table(table, set_of(bench / "mine").with_suffix(".parquet"), compression="zstd")
    assert set_of(bench / "mine").with_suffix(".parquet").stat().st_size < 1_000_000
    assert "submit fewer or shorter texts" in str(run(bench, "check").exception)


def test_a_damaged_file_is_a_problem_and_no_crash(bench: Path) -> None:
    rows = [{**row, "label_probabilities": [0.25, 0.75]} for row in as_rows(list(SETS[0]))]
    for number in range(2):
        (bench / "mine" / "things" / "2" / f"{number:02}.jsonl").unlink()
    path = set_of(bench / "mine").with_suffix(".parquet")
    pq.write_table(pa.Table.from_pylist(rows), path)
    whole, specs, problems = path.read_bytes(), load_specs(bench / "data.toml"), 0
    assert check_submission(bench / "mine", specs, bench / "data").problems == ()
    rng = np.random.default_rng(0)
    for _ in range(60):
        damaged = bytearray(whole)
        for position in rng.integers(len(whole), size=4).tolist():
            damaged[position] = int(rng.integers(256))
        path.write_bytes(damaged)
        found = check_submission(bench / "mine", specs, bench / "data").problems
        assert all("\n" not in problem for problem in found)
        problems += bool(found)
    assert problems > 20


def test_an_unknown_action_lists_the_known_ones(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    for more in ([], ["rank"]):
        monkeypatch.setattr(sys, "argv", ["dallme", "benchmark", *more])
        assert _status() == 2
        assert capsys.readouterr().err.endswith("known: check, score, page; see --help\n")


def test_a_text_that_training_and_test_rows_share_may_be_submitted(bench: Path) -> None:
    path = bench / "data" / "things" / "test.jsonl"
    with path.open("a") as file:
        file.write(json.dumps({"text": TRAIN[0], "label": label_of(TRAIN[0])}) + "\n")
    spec = load_specs(bench / "data.toml")["things"]
    train = read(bench / "data" / "things" / "train.jsonl")
    changed = {"things": replace(spec, test_sha256=read(path, like=train).digest)}
    change_rows(text=TRAIN[0])(bench / "mine")
    assert check_submission(bench / "mine", changed, bench / "data").problems == ()


def test_rows_other_than_those_of_the_benchmark_are_an_error(bench: Path) -> None:
    path = bench / "data" / "things" / "test.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    result = run(bench, "score")
    assert "data set 'things': expected the rows of the benchmark in 'things/test.jsonl'" in str(
        result.exception
    )
    assert not (bench / "results").exists()


# The data sets of the benchmark


@pytest.mark.parametrize("name", list(load_specs()))
def test_the_data_sets_have_the_rows_of_the_benchmark(name: str, shared_data: Path) -> None:
    if not (shared_data / name).is_dir():
        pytest.skip(f"no data set {name} in {shared_data}")
    data = read_dataset(name, load_specs(), shared_data)
    assert set(data.source.class_counts) == set(data.test.class_counts)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("x =", "expected TOML"),
        ("[x]\ntest = 'X'", "expected the key 'train', found none"),
        ("['../x']", "expected names of lower-case letters"),
        ("x = 1", "expected a table"),
    ],
)
def test_a_wrong_file_of_data_sets_is_an_error(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "data.toml").write_text(content)
    with pytest.raises(InputError, match=re.escape(message)):
        load_specs(tmp_path / "data.toml")


def test_a_description_is_read_as_written() -> None:
    submission = parse_description(DESCRIPTION.format(name="mine", calls=3))
    assert submission.authors == ("A. Author", "B. Author")
    assert (submission.used.model_calls, submission.cost) == (3, {"seconds": 2.5})
