"""Tables of experiments, and whether their results agree with the paper."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dallme import experiments as loading
from dallme.errors import UnknownNameError
from dallme.experiments import Experiment, parse_experiment
from dallme.experiments.result_table import Number, make_result_table, pool, shorten
from dallme.experiments.rows import Row
from dallme.experiments.runs import Run
from dallme.experiments.tables import Table, best_rows, format_number, make_table, shortfalls
from rendering_cases import (
    CLASSIFIERS,
    RATIOS,
    TIMES,
    accuracy,
    classifier_rows,
    make_rows,
    ratio_rows,
    times_rows,
)


@pytest.fixture
def classifiers() -> Experiment:
    return parse_experiment(CLASSIFIERS, "table1-imdb")


@pytest.fixture
def ratios() -> Experiment:
    return parse_experiment(RATIOS, "figure4")


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


def test_tokens_are_those_of_a_rows_texts(ratios: Experiment) -> None:
    """A column of its own: the classifiers of a row share its texts, and one counted row suffices."""
    tokens = {0.001: 40.0, 0.01: 50.0, 0.1: 60.4}

    def result(run: Run) -> dict[str, Any]:
        counted = run["method"] == "nearest" and run["classifier"] == "lr"
        return accuracy(0.5) | ({"tokens_per_text": tokens[run["ratio"]]} if counted else {})

    table = make_table(ratios, ratios.profile("offline"), make_rows(ratios, result))
    assert table.head[-1] == "tokens a text"
    assert [(row[0], row[-1]) for row in table.body] == [("nearest", "50"), ("random", ""), ("full", "")]
    assert (
        table.notes[-1]
        == "Tokens are words and punctuation marks, on average over the texts of the first set."
    )

    def partly(run: Run) -> dict[str, Any]:
        return result(run) if run["ratio"] == 0.1 else accuracy(0.5)

    uncounted = make_table(ratios, ratios.profile("offline"), make_rows(ratios, partly))
    assert "tokens a text" not in uncounted.head


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
