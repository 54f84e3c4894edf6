"""`dallme benchmark`: submissions of an invented method and of DiLM's sets, from check to leaderboard."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.stats import friedmanchisquare
from typer.testing import CliRunner

from dallme.cli.main import app
from dallme.errors import DallmeError, InputError
from dallme.experiments.rows import Row, RowFile
from dallme.leaderboard.page import make_entries, render_html, render_markdown
from dallme.leaderboard.ranks import critical_difference, draw, rank_methods
from leaderboard_cases import (
    DESCRIPTION,
    LABELS,
    SETS,
    TRAIN,
    as_rows,
    make_bench,
    make_submission,
    replace_in,
    rows_of,
    run,
    write_jsonl,
)

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture
def bench(tmp_path: Path) -> Path:
    """A folder with data sets, their description in `data.toml`, and the submission `mine`."""
    return make_bench(tmp_path)


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

    for name in ("evaluate_method", "make_sets", "measure_texts", "measure_sizes"):
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
