"""`dallme benchmark`: submissions of an invented method and of DiLM's sets, from check to leaderboard."""

from __future__ import annotations

import html
import json
import os
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.stats import friedmanchisquare
from typer.testing import CliRunner

from dallme.cli.main import _status, app
from dallme.errors import DallmeError, InputError
from dallme.experiments.rows import Row, RowFile
from dallme.leaderboard.datasets import load_specs, read_dataset
from dallme.leaderboard.page import make_entries, render_html, render_markdown
from dallme.leaderboard.ranks import critical_difference, draw, rank_methods
from dallme.leaderboard.submission import check_submission, parse_description
from dallme.readers import read

if TYPE_CHECKING:
    from playwright.sync_api import Browser

DESCRIPTION = """
name = "{name}"
authors = ["A. Author", "B. Author"]
paper = "https://example.org/paper"
code = ""
licence = "CC0-1.0"

[used]
labels = true
test_data = "none"
model_calls = {calls}

[cost]
seconds = 2.5
"""
GOOD, BAD = ("fine", "warm", "bright", "lovely"), ("dull", "cold", "grey", "dreary")
TRAIN = [
    f"The {noun} was a {word} one from its start to the end"
    for noun in ("film", "play", "song")
    for word in (*GOOD, *BAD)
]
TEST = [f"They say this {noun} is {word}" for noun in ("story", "book") for word in (*GOOD, *BAD)]
#: Texts of the invented method, two sets of two texts a class.
SETS = (
    (["A fine and warm thing", "Bright and lovely", "A dull and cold thing", "Grey and dreary"]),
    (["Fine, bright, warm", "A lovely day", "Dull, grey, cold", "A dreary day"]),
)
LABELS = ["good", "good", "bad", "bad"]


def label_of(text: str) -> str:
    return "good" if any(word in text for word in GOOD) else "bad"


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def as_rows(texts: list[str], labels: list[Any] = LABELS) -> list[dict[str, Any]]:
    return [{"text": text, "label": label} for text, label in zip(texts, labels, strict=True)]


@pytest.fixture
def bench(tmp_path: Path) -> Path:
    """A folder with a data set, its description in `data.toml`, and the submission `mine`."""
    tables = []
    for name in ("things", "others"):
        for part, texts in (("train", TRAIN), ("test", TEST)):
            own = [text if name == "things" else f"{text} again" for text in texts]
            write_jsonl(
                tmp_path / "data" / name / f"{part}.jsonl", as_rows(own, [label_of(text) for text in own])
            )
        train = read(tmp_path / "data" / name / "train.jsonl")
        test = read(tmp_path / "data" / name / "test.jsonl", like=train)
        tables.append(
            f'[{name}]\ntrain = "{name}/train.jsonl"\ntest = "{name}/test.jsonl"\n'
            f'train_sha256 = "{train.digest}"\ntest_sha256 = "{test.digest}"\n'
        )
    (tmp_path / "data.toml").write_text("".join(tables))
    make_submission(tmp_path / "mine", "mine")
    return tmp_path


def make_submission(folder: Path, name: str, calls: int = 0, data: str = "things") -> None:
    for number, texts in enumerate(SETS):
        write_jsonl(folder / data / "2" / f"{number:02}.jsonl", as_rows(texts))
    (folder / "submission.toml").write_text(DESCRIPTION.format(name=name, calls=calls))


def run(bench: Path, action: str, folder: str = "mine", *more: str, embedder: str | None = "hashing") -> Any:
    """Runs a verb; an error of the user is the result's exception."""
    command = ["benchmark", action, str(bench / folder), *more]
    if action != "page":
        command += ["--data", str(bench / "data"), "--datasets", str(bench / "data.toml")]
    if action == "score":
        command += ["--output", str(bench / "results"), "--store", str(bench / "store")]
        command += ["--embedder", embedder] if embedder and "--embedder" not in more else []
    return CliRunner().invoke(app, command)


def rows_of(bench: Path) -> list[Row]:
    return RowFile(bench / "results" / "rows.jsonl").load()


# From check to leaderboard


def test_an_invented_method_from_check_to_leaderboard(bench: Path) -> None:
    checked = run(bench, "check")
    assert checked.exit_code == 0, checked.output
    assert "no problem found" in checked.output
    assert not (bench / "results").exists()
    scored = run(bench, "score", "mine", "--baselines", "--json")
    assert scored.exit_code == 0, scored.exception
    document = json.loads(scored.stdout)
    # 3 classifiers for the sets, the full data, random twice, nearest and herding; texts of all but the full data.
    assert (document["computed"], document["found"]) == (6 * 3 + 5, 0)
    assert [row["classifier"] for row in document["results"]] == [
        "embedding-lr",
        "logistic-regression",
        "naive-bayes",
    ]
    (entry,) = (
        each
        for each in make_entries(rows_of(bench))
        if each.method == "mine" and each.score.classifier == "naive-bayes"
    )
    assert entry.score.accuracies == (1.0, 1.0)
    assert entry.score.recovered == 1.0
    assert entry.random is not None
    assert len(entry.random.accuracies) == 10
    assert entry.random_tokens is not None
    assert entry.random_tokens.accuracy < 1
    assert entry.texts["tokens"] == 16  # words and signs, in each of the two sets
    assert (entry.texts["texts"], entry.texts["copied"], entry.texts["in_test"]) == (4, 0, 0)
    paged = run(bench, "page", "results")
    assert paged.exit_code == 0, paged.exception
    page = (bench / "results" / "leaderboard.html").read_text()
    assert page.count("<h2>") == 2  # hard labels, nothing copied
    assert "A. Author, B. Author" in page
    markdown = (bench / "results" / "leaderboard.md").read_text()
    assert "| mine | things | 2 | naive-bayes | hard | 2 | 1.000" in markdown
    assert "random, tokens of mine" in markdown


def test_a_second_call_computes_nothing(bench: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(bench, "score", "mine", "--baselines").exit_code == 0
    content = (bench / "results" / "rows.jsonl").read_bytes()

    def fail(*_: Any, **__: Any) -> None:
        raise AssertionError("computed again")

    for name in ("evaluate_method", "make_sets", "measure_texts"):
        monkeypatch.setattr(f"dallme.leaderboard.scoring.{name}", fail)
    result = run(bench, "score", "mine", "--baselines", "--json")
    assert json.loads(result.stdout)["computed"] == 0
    assert (bench / "results" / "rows.jsonl").read_bytes() == content


@pytest.mark.parametrize("number", range(7))
def test_an_interrupted_score_loses_no_row(bench: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    append, appended = RowFile.append, []

    def interrupted(file: RowFile, row: Row) -> None:
        if len(appended) == number:
            raise KeyboardInterrupt
        appended.append(row.key)
        append(file, row)

    monkeypatch.setattr(RowFile, "append", interrupted)
    run(bench, "score")
    monkeypatch.setattr(RowFile, "append", append)
    assert [row.key for row in rows_of(bench)] == appended
    document = json.loads(run(bench, "score", "mine", "--json").stdout)
    assert document["found"] == max(number - 1, 0)  # the first row is the description
    assert len(rows_of(bench)) == 8


def test_replaced_sets_leave_the_leaderboard(bench: Path) -> None:
    options = ("--classifiers", "naive-bayes")
    run(bench, "score", "mine", *options)
    swapped = ["bad", "bad", "good", "good"]
    for number, texts in enumerate(SETS):
        write_jsonl(bench / "mine" / "things" / "2" / f"{number:02}.jsonl", as_rows(texts, swapped))
    run(bench, "score", "mine", *options)
    (entry,) = make_entries(rows_of(bench))
    assert entry.score.accuracy == 0
    make_submission(bench / "mine", "mine")  # the first sets again: their rows are still there
    assert json.loads(run(bench, "score", "mine", "--json", *options).stdout)["computed"] == 0
    (entry,) = make_entries(rows_of(bench))
    assert entry.score.accuracy == 1


def test_soft_labels_are_scored_as_both(bench: Path) -> None:
    # Soft labels that contradict the labels show which of the two a classifier learned from.
    for number, texts in enumerate(SETS):
        rows = [
            {**row, "label_probabilities": [0.0, 1.0] if row["label"] == "bad" else [1.0, 0.0]}
            for row in as_rows(texts)
        ]
        path = bench / "mine" / "things" / "2" / f"{number:02}.jsonl"
        path.unlink()
        pq.write_table(pa.Table.from_pylist(rows), path.with_suffix(".parquet"))
    assert run(bench, "score", "mine", "--classifiers", "logistic-regression").exit_code == 0
    accuracy = {each.labels: each.score.accuracy for each in make_entries(rows_of(bench))}
    assert accuracy == {"hard": 1.0, "soft": 0.0}
    assert "Soft labels" in render_markdown(rows_of(bench))


def test_copied_text_and_test_overlap_are_measured(bench: Path) -> None:
    texts = [
        "The film was a fine one from its start to the end. Warm it is.",
        "Bright and lovely. No sentence of this is ever copied, it was written.",
        TRAIN[4],
        "Grey and dreary",
    ]
    write_jsonl(bench / "mine" / "things" / "2" / "00.jsonl", as_rows(texts))
    (bench / "mine" / "things" / "2" / "01.jsonl").unlink()
    run(bench, "score", "mine", "--classifiers", "naive-bayes")
    (entry,) = make_entries(rows_of(bench))
    assert entry.texts["copied"] == 2 / 3  # of three sentences with five words or more
    assert entry.texts["longest_span"] == 12
    assert entry.copies
    assert "No source text copied" not in render_markdown(rows_of(bench))


def test_a_language_model_has_its_own_track(bench: Path) -> None:
    run(bench, "score", "mine", "--classifiers", "naive-bayes")
    make_submission(bench / "written", "written", calls=12)
    run(bench, "score", "written", "--classifiers", "naive-bayes")
    track = (
        render_markdown(rows_of(bench)).partition("## Written by a language model")[2].partition("\n## ")[0]
    )
    assert "| written |" in track
    assert "| mine |" not in track


def test_a_missing_data_set_is_skipped_unless_it_is_named(bench: Path) -> None:
    (bench / "data" / "others" / "test.jsonl").unlink()
    make_submission(bench / "mine", "mine", data="others")
    result = run(bench, "score", "mine", "--classifiers", "naive-bayes")
    assert result.exit_code == 0
    assert re.search(
        r"note: data set 'others': expected the file 'others/test.jsonl' in .*, found none", result.stderr
    )
    assert {each.dataset for each in make_entries(rows_of(bench))} == {"things"}
    named = run(bench, "score", "mine", "--only", "others")
    assert "data set 'others'" in str(named.exception)
    assert isinstance(named.exception, InputError)
    unknown = run(bench, "check", "mine", "--only", "nothing")
    assert "unknown data set 'nothing'; known: things, others" in str(unknown.exception)


def test_rows_other_than_those_of_the_benchmark_are_an_error(bench: Path) -> None:
    path = bench / "data" / "things" / "test.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    result = run(bench, "score")
    assert "data set 'things': expected the rows of the benchmark in 'things/test.jsonl'" in str(
        result.exception
    )
    assert not (bench / "results").exists()


def test_without_the_default_embedder_the_rest_is_scored(
    bench: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = str(bench / "none")
    named = run(bench, "score", "mine", "--embedder", missing)
    assert isinstance(named.exception, DallmeError)
    assert missing in str(named.exception)
    monkeypatch.setattr("dallme.leaderboard.scoring.EMBEDDER", missing)
    result = run(bench, "score", "mine", "--baselines", embedder=None)
    assert result.exit_code == 0, result.exception
    assert "note: embedding-lr, nearest and herding are left out, tokens are words" in result.stderr
    methods = {each.method for each in make_entries(rows_of(bench))}
    assert methods == {"mine", "random", "random, tokens of mine"}


# Bad submissions


def set_of(folder: Path) -> Path:
    return folder / "things" / "2" / "00.jsonl"


def change_rows(**more: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        rows = as_rows(list(SETS[0]))
        rows[0] |= more
        write_jsonl(set_of(folder), rows)

    return change


def replace_in(old: str, new: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "submission.toml"
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))

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


# Page and ranks


def test_nothing_in_a_submission_becomes_markup(bench: Path) -> None:
    name = "<b>x</b>|[y](z)&'"
    replace_in('"mine"', json.dumps(name))(bench / "mine")
    replace_in("A. Author", "<script>alert(1)</script>")(bench / "mine")
    replace_in("/paper", '/\\"onclick=\\"alert(1)')(bench / "mine")
    for method, data in (("mine", "things"), ("other", "things"), ("mine", "others"), ("other", "others")):
        make = bench / method
        if not (make / data).is_dir():
            description = (make / "submission.toml").read_text() if make.is_dir() else None
            make_submission(make, "other", data=data)
            if description:
                (make / "submission.toml").write_text(description)
        run(bench, "score", method, "--classifiers", "naive-bayes")
    page = render_html(rows_of(bench))
    assert "<svg" in page
    assert page.count("<script>") == 1
    assert "<b>" not in page
    assert 'onclick="' not in page
    assert "&lt;b&gt;x&lt;/b&gt;" in page
    assert "<b>" not in render_markdown(rows_of(bench))
    assert not re.findall(r'(?:src|href)="(?!https://example.org)', page)
    assert "script-src 'sha256-" in html.unescape(page)


def test_the_page_is_built_from_rows_alone_and_always_the_same(bench: Path) -> None:
    run(bench, "score", "mine", "--classifiers", "naive-bayes")
    rows = rows_of(bench)
    assert render_html(rows) == render_html(rows)
    for folder in ("data", "mine"):
        (bench / folder).rename(bench / f"gone-{folder}")
    assert run(bench, "page", "results").exit_code == 0
    assert (bench / "results" / "leaderboard.html").read_text() == render_html(rows)
    (bench / "empty").mkdir()
    assert "found none; run dallme benchmark score first" in str(run(bench, "page", "empty").exception)


def test_a_click_on_a_column_sorts_it(bench: Path, chromium: Browser) -> None:
    for label, more in (("mine", LABELS), ("worse", ["bad", "bad", "good", "good"])):
        make_submission(bench / label, label)
        for number, texts in enumerate(SETS):
            write_jsonl(bench / label / "things" / "2" / f"{number:02}.jsonl", as_rows(texts, more))
        run(bench, "score", label, "--classifiers", "naive-bayes,logistic-regression")
    run(bench, "page", "results")
    page = chromium.new_page()
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto((bench / "results" / "leaderboard.html").as_uri())

    def sorted_by(column: str) -> list[str]:
        page.locator("table").first.get_by_role("button", name=column, exact=True).click()
        return (
            page.locator("table")
            .first.locator("tbody tr td:first-child")
            .evaluate_all("cells => cells.map(cell => cell.dataset.sort)")
        )

    assert sorted_by("accuracy") == ["mine", "mine", "worse", "worse"]
    assert sorted_by("accuracy") == ["worse", "worse", "mine", "mine"]
    assert sorted_by("method") == ["mine", "mine", "worse", "worse"]
    assert sorted_by("method") == ["worse", "worse", "mine", "mine"]
    assert page.locator("th[aria-sort=descending]").count() == 1
    assert problems == []
    page.close()


def test_ranks_are_those_on_paper() -> None:
    accuracies = {
        name: {(data, 5, "nb"): value for data, value in zip("abcd", values, strict=True)}
        for name, values in {
            "x": (0.9, 0.8, 0.9, 0.7),
            "y": (0.8, 0.7, 0.9, 0.6),
            "z": (0.5, 0.6, 0.4, 0.8),
        }.items()
    }
    ranking = rank_methods(accuracies | {"few": {("a", 5, "nb"): 1.0}})
    assert ranking is not None
    assert ranking.ranks == {"x": (1 + 1 + 1.5 + 2) / 4, "y": (2 + 2 + 1.5 + 3) / 4, "z": (3 + 3 + 3 + 1) / 4}
    expected = friedmanchisquare(*([0.9, 0.8, 0.9, 0.7], [0.8, 0.7, 0.9, 0.6], [0.5, 0.6, 0.4, 0.8]))
    assert ranking.p_value == pytest.approx(expected.pvalue)
    assert ranking.left_out == ("few",)
    assert "few" in ranking.sentence()
    assert draw(ranking).count("<text") == 1 + 3 + 3


def test_the_critical_difference_is_that_of_the_literature() -> None:
    # Demšar (2006), section 3.2.2: four classifiers on fourteen data sets.
    assert critical_difference(4, 14) == pytest.approx(1.25, abs=0.005)
    assert critical_difference(2, 10) == pytest.approx(1.960 * np.sqrt(0.1), abs=0.001)


def test_one_data_set_has_ranks_without_a_test() -> None:
    ranking = rank_methods({"x": {("a", 5, "nb"): 0.5}, "y": {("a", 5, "nb"): 0.6}})
    assert ranking is not None
    assert ranking.ranks == {"y": 1, "x": 2}
    assert (ranking.p_value, ranking.difference, draw(ranking)) == (None, None, "")
    assert rank_methods({"x": {("a", 5, "nb"): 0.5}}) is None
    assert rank_methods({"x": {("a", 5, "nb"): 0.5}, "y": {("a", 10, "nb"): 0.6}}) is None


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


def test_dilms_sets_are_a_submission(shared_data: Path, tmp_path: Path) -> None:
    published = shared_data / "dilm_sst2"
    if not published.is_dir() or not (shared_data / "sst2").is_dir():
        pytest.skip(f"no dilm_sst2 and sst2 in {shared_data}")
    folder = tmp_path / "dilm"
    for budget in (5, 20):
        for file in sorted((published / f"dpc{budget}").glob("*.jsonl")):
            rows = [json.loads(line) for line in file.read_text().splitlines()]
            content = [{"text": row["sentence"], "label": row["labels"]} for row in rows]
            write_jsonl(folder / "sst2" / str(budget) / file.name, content)
    (folder / "submission.toml").write_text(DESCRIPTION.format(name="DiLM", calls=1))
    options = ["--data", str(shared_data)]
    runner = CliRunner()
    checked = runner.invoke(app, ["benchmark", "check", str(folder), *options])
    assert checked.exit_code == 0, checked.exception
    more = ["--classifiers", "logistic-regression", "--embedder", "hashing", "--baselines"]
    more += ["--output", str(tmp_path / "results"), "--store", str(tmp_path / "store")]
    scored = runner.invoke(app, ["benchmark", "score", str(folder), *options, *more])
    assert scored.exit_code == 0, scored.exception
    entries = {each.budget: each for each in make_entries(rows_of(tmp_path)) if each.method == "DiLM"}
    assert len(entries[5].score.accuracies) == 20
    assert 0.5 < entries[5].score.accuracy < entries[20].score.accuracy < 0.65
    assert all(each.random and each.random_tokens and each.score.recovered for each in entries.values())
    assert runner.invoke(app, ["benchmark", "page", str(tmp_path / "results")]).exit_code == 0
    assert "DiLM" in (tmp_path / "results" / "leaderboard.html").read_text()


def test_a_description_is_read_as_written() -> None:
    submission = parse_description(DESCRIPTION.format(name="mine", calls=3))
    assert submission.authors == ("A. Author", "B. Author")
    assert (submission.used.model_calls, submission.cost) == (3, {"seconds": 2.5})
