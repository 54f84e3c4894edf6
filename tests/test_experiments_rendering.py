"""Tables, figures and pages of experiments, from rows written by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dallme import experiments as loading
from dallme.errors import InputError, OutputError, UnknownNameError
from dallme.experiments import Experiment, figures, parse_experiment
from dallme.experiments.figures import draw_scatter
from dallme.experiments.page import results_page, write_results
from dallme.experiments.result_table import Number, make_result_table, pool, shorten
from dallme.experiments.rows import Row, RowFile
from dallme.experiments.runs import Run, make_runs
from dallme.experiments.tables import Table, best_rows, format_number, make_table, shortfalls

CLASSIFIERS = """
title = "Every classifier"
place = "Table 1, section 5.1"
kind = "accuracy"
rows = ["method"]
columns = ["classifier"]
average = true
figure = "bars"
says = "Distilled texts are better than others."

[reported."Full Data"]
LR = [0.883, 0.0]
BERT = [0.907, 0.015]
T5 = [0.935, 0.017]
average = [0.908, 0.013]
[reported.Random]
LR = [0.583, 0.019]
BERT = [0.609, 0.027]
T5 = [0.624, 0.026]
average = [0.605, 0.024]
[reported.Ours]
LR = [0.65, 0.018]
BERT = [0.769, 0.016]
T5 = [0.763, 0.022]
average = [0.727, 0.019]
[reported.TDD]
T5 = [0.9]
[reported.EDA]
LR = [0.591, 0.02]

[profiles.offline]
differs = ["MiniLM stands in for BERT.", "No T5."]
per_class = [10]
reported_row = {random = "Random", nearest = "Ours", full = "Full Data"}
columns = {lr = "LR", "transformer:sentence-transformers/all-MiniLM-L6-v2" = "BERT"}
reasons = {"nearest | transformer:sentence-transformers/all-MiniLM-L6-v2" = "MiniLM is smaller."}
data.imdb = {train = "imdb"}

[[profiles.offline.grid]]
method = ["full", "random", "nearest"]
classifier = ["lr", "transformer:sentence-transformers/all-MiniLM-L6-v2"]
[[profiles.offline.grid]]
method = ["text-matrix"]
classifier = ["text-cnn"]
label = "matrices"
"""

RATIOS = """
title = "Accuracy against the ratio"
place = "Figure 4, section 5.2"
kind = "accuracy"
rows = ["method"]
columns = ["ratio"]
figure = "lines"
x = "ratio"

[profiles.offline]
differs = []
classifier = ["lr", "nb"]
data.imdb = {train = "imdb"}

[[profiles.offline.grid]]
method = ["nearest", "random"]
ratio = [0.001, 0.01, 0.1]
[[profiles.offline.grid]]
method = ["full"]
"""

TIMES = """
title = "Seconds and accuracy"
place = "Table 4, section 5.7"
kind = "training"
rows = ["method"]
columns = ["data"]
measures = ["seconds", "accuracy"]
figure = "scatter"
x = "seconds"

[reported.all]
"IMDB: seconds" = [3247]
"IMDB: accuracy" = [0.936]

[profiles.offline]
differs = []
method = ["full", "lora:0.8%"]
reported_row = {full = "all"}
columns = {"imdb: seconds" = "IMDB: seconds", "imdb: accuracy" = "IMDB: accuracy"}
data.imdb = {train = "imdb"}
data.ag = {train = "ag"}
"""


def make_rows(experiment: Experiment, result: Callable[[Run], dict[str, Any] | None]) -> list[Row]:
    """Returns a row for each run of the offline profile that has a result."""
    results = [(run, result(run)) for run in make_runs(experiment, experiment.profile("offline"))]
    return [
        Row(
            run.key({}),
            json.loads(json.dumps(run.config())),
            found,
            1.5,
            0,
            {},
            "2026-11-23T12:00:00+00:00",
        )
        for run, found in results
        if found is not None
    ]


def accuracy(mean: float, deviation: float = 0.0, runs: int = 1) -> dict[str, Any]:
    return {"accuracy": mean, "accuracy_std": deviation, "runs": runs}


SCORES = {
    ("full", "lr"): accuracy(0.88),
    ("random", "lr"): accuracy(0.5856, 0.03, 5),
    ("random", "transformer"): accuracy(0.61, 0.04, 5),
    ("nearest", "lr"): accuracy(0.72, 0.012, 5),
    ("nearest", "transformer"): accuracy(0.74, 0.016, 5),
    ("text-matrix", "text-cnn"): accuracy(0.7),
}


def classifier_rows(experiment: Experiment) -> list[Row]:
    return make_rows(experiment, lambda run: SCORES.get((run["method"], run["classifier"].partition(":")[0])))


@pytest.fixture
def classifiers() -> Experiment:
    return parse_experiment(CLASSIFIERS, "table1-imdb")


@pytest.fixture
def ratios() -> Experiment:
    return parse_experiment(RATIOS, "figure4")


def ratio_rows(experiment: Experiment, missing: float = 0.0) -> list[Row]:
    def result(run: Run) -> dict[str, Any] | None:
        if run["method"] == "full":
            return accuracy(0.9 if run["classifier"] == "lr" else 0.8)
        if run["ratio"] == missing and run["classifier"] == "nb":
            return None
        low = {0.001: 0.6, 0.01: 0.7, 0.1: 0.75}[run["ratio"]] - (0.1 if run["method"] == "random" else 0)
        return accuracy(low + (0.02 if run["classifier"] == "nb" else 0), 0.03, 5)

    return make_rows(experiment, result)


def times_rows(experiment: Experiment) -> list[Row]:
    times = {
        ("full", "imdb"): (2345.6, 0.936),
        ("full", "ag"): (1391.0, 0.95),
        ("lora:0.8%", "ag"): (9.04, 0.91),
    }

    def result(run: Run) -> dict[str, Any] | None:
        found = times.get((run["method"], run["data"]))
        return found and {"seconds": found[0], "accuracy": found[1], "runs": 1}

    return make_rows(experiment, result)


# Tables


def test_a_table(classifiers: Experiment) -> None:
    table = make_table(classifiers, classifiers.profile("offline"), classifier_rows(classifiers))
    assert table.head == ("method", "lr", "transformer (all-MiniLM-L6-v2)", "text-cnn", "average")
    assert table.body == (
        ("full", "0.880 (paper 0.883 ± 0.000)", "not run (paper 0.907 ± 0.015)", "", "(paper 0.895 ± 0.011)"),
        (
            "random",
            "0.586 ± 0.030 (paper 0.583 ± 0.019)",
            "0.610 ± 0.040 (paper 0.609 ± 0.027)",
            "",
            "0.598 ± 0.035 (paper 0.596 ± 0.023)",
        ),
        (
            "nearest",
            "0.720 ± 0.012 (paper 0.650 ± 0.018)",
            "0.740 ± 0.016 (paper 0.769 ± 0.016)",
            "",
            "0.730 ± 0.014 (paper 0.710 ± 0.017)",
        ),
        ("matrices", "", "", "0.700", ""),
        ("paper: EDA", "0.591 ± 0.020", "", "", ""),
    )
    assert table.notes == (
        "± is the standard deviation over repetitions; for a mean, the root mean square of the deviations.",
        "The average covers lr, transformer (all-MiniLM-L6-v2), for rows that have all of them.",
        "The paper's average covers the same columns, or is its own if it lacks one.",
        "Compared with the paper: full with Full Data; random with Random; nearest with Ours; lr with LR; "
        "transformer (all-MiniLM-L6-v2) with BERT.",
        "The paper also reports, without a column here: TDD: T5 0.9.",
    )


def test_averages_leave_out_columns_that_few_rows_have() -> None:
    more = CLASSIFIERS.replace('method = ["text-matrix"]\n', 'method = ["nearest", "random"]\n').replace(
        'label = "matrices"\n', ""
    )
    experiment = parse_experiment(more, "table1-imdb")
    profile = experiment.profile("offline")
    assert [column.name for column in make_result_table(experiment, profile, []).averaged("accuracy")][
        -1
    ] == "text-cnn"
    table = make_table(experiment, profile, classifier_rows(experiment))
    assert [row[-1] for row in table.body] == [
        "(paper 0.908 ± 0.013)",
        "(paper 0.605 ± 0.024)",
        "(paper 0.727 ± 0.019)",
        "",
    ]


def test_the_papers_own_average_if_all_its_columns_are_ours() -> None:
    experiment = parse_experiment(CLASSIFIERS.replace("T5 = [0.763, 0.022]\n", ""), "table1-imdb")
    table = make_table(experiment, experiment.profile("offline"), classifier_rows(experiment))
    assert table.body[2][-1] == "0.730 ± 0.014 (paper 0.727 ± 0.019)"


def test_places_with_several_runs(ratios: Experiment) -> None:
    table = make_table(ratios, ratios.profile("offline"), ratio_rows(ratios, missing=0.01))
    assert table.head == ("method", "0.1%", "1%", "10%", "accuracy")
    assert table.body == (
        ("nearest", "0.610 ± 0.030", "1 of 2 run", "0.760 ± 0.030", ""),
        ("random", "0.510 ± 0.030", "1 of 2 run", "0.660 ± 0.030", ""),
        ("full", "", "", "", "0.850"),
    )
    assert table.notes[0] == "Each number is the mean over: classifier (lr, nb)."


def test_several_measures() -> None:
    experiment = parse_experiment(TIMES, "table4")
    table = make_table(experiment, experiment.profile("offline"), times_rows(experiment))
    assert table.head == ("method", "imdb: seconds", "imdb: accuracy", "ag: seconds", "ag: accuracy")
    assert table.body == (
        ("full", "2,346 (paper 3,247)", "0.936 (paper 0.936)", "1,391", "0.950"),
        ("lora (0.8%)", "not run", "not run", "9.0", "0.910"),
    )


def test_recovered_accuracy_is_the_share_of_the_full_data(ratios: Experiment) -> None:
    experiment = replace(ratios, measures=("accuracy", "recovered"))
    accuracies = {"full": 0.8, "nearest": 0.6, "random": 0.4}
    rows = make_rows(
        experiment, lambda run: {"accuracy": accuracies[run["method"]], "accuracy_std": 0.04, "runs": 2}
    )
    table = make_table(experiment, experiment.profile("offline"), rows)
    place = table.head.index("1%: recovered")
    assert {row[0]: row[place] for row in table.body} == {
        "nearest": "0.750 ± 0.050",
        "random": "0.500 ± 0.050",
        "full": "",
    }
    without = [row for row in rows if row.config["method"] != "full"]
    assert {row[place] for row in make_table(experiment, experiment.profile("offline"), without).body} == {
        "–",
        "",
    }


def test_one_column_is_called_as_its_measure() -> None:
    text = TIMES.replace('data.ag = {train = "ag"}\n', "").replace(
        '["seconds", "accuracy"]', '["price_usd", "tokens", "accuracy"]'
    )
    experiment = parse_experiment(text, "cost")
    rows = make_rows(experiment, lambda run: {"price_usd": 1.7, "tokens": 6_500_000, "accuracy": None})
    table = make_table(experiment, experiment.profile("offline"), rows)
    assert table.head == ("method", "price_usd", "tokens", "accuracy")
    assert table.body[0] == ("full", "$1.70", "6,500,000", "–")
    assert "| full | \\$1.70 | 6,500,000 | – |" in table.markdown()


@pytest.mark.parametrize(
    ("value", "measure", "text"),
    [
        (Number(0.5), "accuracy", "0.500"),
        (Number(0.5, 0.0123), "cosine", "0.500 ± 0.012"),
        (Number(12345.6, 10.4), "seconds", "12,346 ± 10"),
        (Number(0.0078), "trained_share", "0.78%"),
        (Number(34.56), "bleu", "34.6"),
    ],
)
def test_how_numbers_are_written(value: Number, measure: str, text: str) -> None:
    assert format_number(value, measure) == text


def test_the_mean_of_means() -> None:
    assert pool([]) is None
    assert pool([Number(0.5), None]) is None
    assert pool([Number(0.5, 0.1)]) == Number(0.5, 0.1)
    assert pool([Number(0.5), Number(0.7)]) == Number(0.6)
    pooled = pool([Number(0.5, 0.3), Number(0.7, 0.4), Number(0.6)])
    assert pooled is not None
    assert (pooled.mean, pooled.deviation) == pytest.approx((0.6, (0.25 / 3) ** 0.5))


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("transformer:sentence-transformers/all-MiniLM-L6-v2", "transformer (all-MiniLM-L6-v2)"),
        ("glove:6B.50d · nearest", "glove (6B.50d) · nearest"),
        ("vec2text:models/small/", "vec2text (small)"),
        ("transformer:a/b: seconds", "transformer (b): seconds"),
        ("text-cnn:glove.6B.zip!glove.6B.50d.txt", "text-cnn (glove.6B.50d.txt)"),
        ("without prompt", "without prompt"),
    ],
)
def test_short_names(name: str, short: str) -> None:
    assert shorten(name) == short
    assert shorten(short) == short


def test_names_that_differ_stay_different() -> None:
    text = CLASSIFIERS.replace('["text-cnn"]', '["transformer:mine/all-MiniLM-L6-v2"]')
    experiment = parse_experiment(text, "t")
    assert make_table(experiment, experiment.profile("offline"), []).head == (
        "method",
        "lr",
        "transformer:sentence-transformers/all-MiniLM-L6-v2",
        "transformer:mine/all-MiniLM-L6-v2",
        "average",
    )


def test_a_row_is_found_by_its_configuration_alone(classifiers: Experiment) -> None:
    rows = classifier_rows(classifiers)
    changed = parse_experiment(CLASSIFIERS, "table1-imdb", ["test_rows=100"])
    table = make_table(changed, changed.profile("offline"), rows)
    assert {row[1] for row in table.body[1:3]} == {
        "not run (paper 0.583 ± 0.019)",
        "not run (paper 0.650 ± 0.018)",
    }
    newer = Row("other", rows[0].config, accuracy(0.5), 1.0, 0, {}, "2026-11-24T12:00:00+00:00")
    newest = (
        make_result_table(classifiers, classifiers.profile("offline"), [*rows, newer])
        .places["full", "lr"][0]
        .result
    )
    assert newest is not None
    assert newest["accuracy"] == 0.5


def test_an_unknown_row_of_the_paper_is_named() -> None:
    experiment = parse_experiment(CLASSIFIERS.replace('random = "Random"', 'random = "Rnd"'), "t")
    with pytest.raises(UnknownNameError) as caught:
        make_table(experiment, experiment.profile("offline"), [])
    assert (
        str(caught.value)
        == "unknown row of the paper for 'random' 'Rnd'; known: Full Data, Random, Ours, TDD, EDA"
    )


def test_markup_in_names_is_escaped() -> None:
    table = Table(("a|b", "x"), (("<script>alert('1')</script>", "1 < 2 & *3*"),), ("<b>",))
    assert table.html() == (
        '<table>\n<thead><tr><th scope="col">a|b</th><th scope="col">x</th></tr></thead>\n<tbody>\n'
        '<tr><th scope="row">&lt;script&gt;alert(&#x27;1&#x27;)&lt;/script&gt;</th>'
        "<td>1 &lt; 2 &amp; *3*</td></tr>\n"
        "</tbody>\n</table>\n<p>&lt;b&gt;</p>\n"
    )
    assert table.markdown() == (
        "| a\\|b | x |\n| --- | --- |\n"
        "| \\<script\\>alert('1')\\</script\\> | 1 \\< 2 \\& \\*3\\* |\n\n\\<b\\>\n"
    )


@pytest.mark.parametrize("name", loading.experiment_names())
def test_every_compared_name_is_in_its_table(name: str) -> None:
    experiment = loading.load_experiment(name)
    for profile in experiment.profiles.values():
        table = make_result_table(experiment, profile, [])
        assert set(map(shorten, profile.reported_row)) <= set(table.rows)
        assert set(map(shorten, profile.columns)) <= {column.name for column in table.columns}
        assert not shortfalls(table, profile.reasons)
        table = make_table(experiment, profile, [])
        assert {len(row) for row in table.body} == {len(table.head)}


# Verdicts


def test_where_ours_falls_short(classifiers: Experiment) -> None:
    profile = classifiers.profile("offline")
    table = make_result_table(classifiers, profile, classifier_rows(classifiers))
    assert [found.markdown() for found in shortfalls(table, profile.reasons)] == [
        "**nearest**, transformer (all-MiniLM-L6-v2): 0.740 ± 0.016, the paper 0.769 ± 0.016: 0.029 less. "
        "MiniLM is smaller."
    ]
    assert [found.reason for found in shortfalls(table, {"nearest": "So it is."})] == ["So it is."]


def test_the_best_rows_over_what_both_have(classifiers: Experiment) -> None:
    profile = classifiers.profile("offline")
    table = make_result_table(classifiers, profile, classifier_rows(classifiers))
    assert best_rows(table, "accuracy") == (
        "Mean over the columns that both have (lr, transformer (all-MiniLM-L6-v2)): "
        "our best decoder, nearest, 0.730; "
        "the paper's best row, Ours, 0.710: ours is **above** it."
    )
    better = parse_experiment(CLASSIFIERS.replace('"nearest"]', '"herding", "nearest"]'), "table1-imdb")
    rows = make_rows(better, lambda run: accuracy({"full": 0.9, "herding": 0.8}.get(run["method"], 0.7)))
    assert best_rows(make_result_table(better, better.profile("offline"), rows), "accuracy") == (
        "Mean over the columns that both have (lr, transformer (all-MiniLM-L6-v2)): "
        "our best decoder, nearest, 0.700; "
        "the paper's best row, Ours, 0.710: ours is **not above** it. The best row of all is herding, 0.800."
    )
    chosen = [row for row in rows if row.config["method"] != "nearest"]
    assert "our best row, herding, 0.800; " in best_rows(
        make_result_table(better, better.profile("offline"), chosen), "accuracy"
    )
    assert best_rows(make_result_table(classifiers, profile, []), "accuracy") == ""


# Figures


@pytest.mark.parametrize(
    ("text", "rows"), [(CLASSIFIERS, classifier_rows), (RATIOS, ratio_rows), (TIMES, times_rows)]
)
def test_the_same_rows_give_the_same_picture(text: str, rows: Any, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    experiment = parse_experiment(text, "t")
    for ending, start in ((".svg", b"<?xml"), (".png", b"\x89PNG")):
        for name in ("one", "two"):
            figures.draw_figure(
                experiment, experiment.profile("offline"), rows(experiment), tmp_path / (name + ending)
            )
        first = (tmp_path / f"one{ending}").read_bytes()
        assert first == (tmp_path / f"two{ending}").read_bytes()
        assert first.startswith(start)
    assert len(list(tmp_path.iterdir())) == 4


def test_lines(ratios: Experiment) -> None:
    pytest.importorskip("matplotlib")
    panel = figures.draw_lines(ratios, ratios.profile("offline"), ratio_rows(ratios, missing=0.01)).axes[0]
    nearest, random, full = panel.get_lines()
    assert [line.get_label() for line in (nearest, random, full)] == ["nearest", "random", "full"]
    assert nearest.get_xdata().tolist() == [0.001, 0.1]  # one run of the middle point is missing
    assert nearest.get_ydata().tolist() == pytest.approx([0.61, 0.76])
    assert random.get_ydata().tolist() == pytest.approx([0.51, 0.66])
    assert list(full.get_ydata()) == pytest.approx([0.85, 0.85])
    heights = panel.collections[0].get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == pytest.approx((0.58, 0.79))
    assert panel.get_xscale() == "log"
    assert [label.get_text() for label in panel.get_xticklabels()] == ["0.1%", "1%", "10%"]
    assert panel.get_ylabel() == "accuracy, mean over 2 classifiers"


def test_bars(classifiers: Experiment) -> None:
    pytest.importorskip("matplotlib")
    figure = figures.draw_bars(classifiers, classifiers.profile("offline"), classifier_rows(classifiers))
    panel = figure.axes[0]
    bars = [container for container in panel.containers if hasattr(container, "patches")]
    assert {bar.get_label(): [patch.get_height() for patch in bar.patches] for bar in bars} == {
        "full": [0.88],
        "random": [0.5856, 0.61],
        "nearest": [0.72, 0.74],
        "matrices": [0.7],
    }
    assert [label.get_text() for label in panel.get_xticklabels()] == [
        "lr",
        "transformer\n(all-MiniLM-L6-v2)",
        "text-cnn",
    ]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "the paper",
        "full",
        "random",
        "nearest",
        "matrices",
    ]
    ticks = [each for each in panel.collections if each.get_label() == "the paper"]
    assert [segment[0][1] for segment in ticks[1].get_segments()] == [0.583, 0.609]


def test_a_scatter() -> None:
    pytest.importorskip("matplotlib")
    experiment = parse_experiment(TIMES, "table4")
    figure = draw_scatter(experiment, experiment.profile("offline"), times_rows(experiment))
    imdb, ag = figure.axes
    assert (imdb.get_title(), ag.get_title()) == ("imdb", "ag")
    assert [text.get_text() for text in ag.texts] == ["full", "lora (0.8%)"]
    assert [text.xy for text in ag.texts] == [(1391.0, 0.95), (9.04, 0.91)]
    assert [text.get_text() for text in imdb.texts] == ["full"]
    assert (imdb.get_xscale(), ag.get_xscale()) == ("linear", "log")


def test_figures_that_cannot_be(classifiers: Experiment, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        figures.draw_figure(classifiers, classifiers.profile("offline"), [], tmp_path / "f.png")
    assert (
        str(caught.value)
        == "experiment 'table1-imdb': expected a figure and results to draw, found none; run it first"
    )
    experiment = parse_experiment(RATIOS.replace('x = "ratio"', 'x = "seconds"'), "figure4")
    with pytest.raises(
        UnknownNameError, match="unknown axis x of the lines of 'figure4' 'seconds'; known: data, "
    ):
        figures.draw_figure(
            experiment, experiment.profile("offline"), ratio_rows(experiment), tmp_path / "f.png"
        )
    experiment = parse_experiment(TIMES.replace('["seconds", "accuracy"]', '["seconds"]'), "table4")
    with pytest.raises(InputError, match="expected another measure than 'seconds' to draw, found none"):
        draw_scatter(experiment, experiment.profile("offline"), times_rows(experiment))


# Pages


def test_written_files(classifiers: Experiment, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    rows = classifier_rows(classifiers)
    for name in ("one", "two"):
        write_results(classifiers, "offline", rows, tmp_path / name)
    written = {path.name: path.read_bytes() for path in (tmp_path / "one").iterdir()}
    assert sorted(written) == ["figure.png", "figure.svg", "page.md", "table.html", "table.md"]
    assert written == {path.name: path.read_bytes() for path in (tmp_path / "two").iterdir()}
    table = make_table(classifiers, classifiers.profile("offline"), rows)
    assert (written["table.md"].decode(), written["table.html"].decode()) == (table.markdown(), table.html())
    before, found, after = written["page.md"].decode().partition(table.markdown())
    assert found
    assert before == (
        "# Every classifier\n\nTable 1, section 5.1. Profile `offline`, which differs from the paper:\n\n"
        "- MiniLM stands in for BERT.\n- No T5.\n\n"
    )
    assert (
        after
        == """
![Every classifier](figure.svg)

**Not run:** 1 of 7 runs: full (transformer (all-MiniLM-L6-v2)).

To run it:

```console
$ dallme reproduce table1-imdb --profile offline
```

## Where ours falls short

- **nearest**, transformer (all-MiniLM-L6-v2): 0.740 ± 0.016, the paper 0.769 ± 0.016: 0.029 less. \
MiniLM is smaller.

Mean over the columns that both have (lr, transformer (all-MiniLM-L6-v2)): our best decoder, nearest, 0.730; \
the paper's best row, Ours, 0.710: ours is **above** it.

**The paper:** Distilled texts are better than others.

**Ours:** no claim is checked here.
"""
    )


def test_without_results_there_is_no_figure(ratios: Experiment, tmp_path: Path) -> None:
    write_results(ratios, "offline", [], tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["page.md", "table.html", "table.md"]
    page = (tmp_path / "page.md").read_text()
    assert "Profile `offline`, which is as in the paper.\n" in page
    assert "**Not run:** 14 of 14 runs: nearest (0.1%, 1%, 10%); random (0.1%, 1%, 10%); full." in page
    assert "figure.svg" not in page


def test_a_folder_that_cannot_be_written_to(ratios: Experiment, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(
        OutputError, match="cannot write results to .*/file: File exists; make room or choose another folder"
    ):
        write_results(ratios, "offline", [], tmp_path / "file")


def test_one_page_about_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = {
        "table1-imdb": CLASSIFIERS,
        "figure4": RATIOS,
        "table4": TIMES,
        "dpc-imdb": RATIOS.replace("Accuracy", "Later"),
        "none": RATIOS,
    }
    texts["paper-only"] = RATIOS.replace("profiles.offline", "profiles.paper")
    makers = {
        "table1-imdb": classifier_rows,
        "figure4": ratio_rows,
        "table4": times_rows,
        "dpc-imdb": ratio_rows,
    }
    monkeypatch.setattr(loading, "_folder", lambda: tmp_path)
    for name, text in texts.items():
        (tmp_path / f"{name}.toml").write_text(text)
        if name in makers:
            for row in makers[name](parse_experiment(text, name)):
                RowFile(tmp_path / "results" / name / "rows.jsonl").append(row)
    (tmp_path / "results" / "paper-only").mkdir()
    (tmp_path / "results" / "paper-only" / "rows.jsonl").write_bytes(
        (tmp_path / "results" / "figure4" / "rows.jsonl").read_bytes()
    )
    page = results_page(tmp_path / "results", "offline", "../results/")
    assert page == results_page(tmp_path / "results", "offline", "../results/")
    assert page.startswith(
        "# Results\n\n"
        "Results of `dallme reproduce` with the profile `offline`, each with the paper's number in "
        "brackets. The page is built from the stored rows alone.\n\n"
        "## Contents\n\n"
        "- [Every classifier](#table1-imdb): Table 1, section 5.1\n"
        "- [Seconds and accuracy](#table4): Table 4, section 5.7\n"
        "- [Accuracy against the ratio](#figure4): Figure 4, section 5.2\n"
        "- [Later against the ratio](#dpc-imdb): Figure 4, section 5.2\n"
        "- [Where ours falls short](#where-ours-falls-short)\n\n"
        '<a id="table1-imdb"></a>\n\n## Every classifier\n\n'
        "Table 1, section 5.1. Profile `offline`, which differs"
    )
    assert [line for line in page.splitlines() if line.startswith("!")] == [
        "![Every classifier](../results/table1-imdb/figure.svg)",
        "![Seconds and accuracy](../results/table4/figure.svg)",
        "![Accuracy against the ratio](../results/figure4/figure.svg)",
        "![Later against the ratio](../results/dpc-imdb/figure.svg)",
    ]
    for name, maker in makers.items():
        experiment = parse_experiment(texts[name], name)
        assert make_table(experiment, experiment.profile("offline"), maker(experiment)).markdown() in page
    assert page.partition("## Where ours falls short\n")[2].startswith(
        "\nScores that are below the paper's by more than 0.01.\n\n### Every classifier\n\n- **nearest**, "
    )
    assert page.endswith("0.710: ours is **above** it.\n")
