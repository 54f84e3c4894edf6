"""Statistical significance of differences in the comparison table."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import t as student
from scipy.stats import ttest_ind

from dallme.dataset.card import comparison_cells, comparison_table, star_note
from dallme.evaluation.compare import Comparison, MethodResult
from dallme.evaluation.evaluate import Score
from dallme.evaluation.significance import better, holm
from protocol_cases import FITS


@pytest.fixture(autouse=True)
def no_fits() -> None:
    FITS.clear()


def test_a_paired_test_by_hand() -> None:
    a = Score("x", (0.7, 0.8, 0.9, 0.6), (0,), 0, seeds=(0, 1, 2, 3))
    b = Score("x", (0.6, 0.8, 0.7, 0.5), (0,), 0, seeds=(0, 1, 2, 3))
    differences = np.array([0.1, 0, 0.2, 0.1])
    statistic = differences.mean() / (differences.std(ddof=1) / 2)
    assert better(a, b) == pytest.approx(student.sf(statistic, 3))
    assert better(b, a) == pytest.approx(1 - student.sf(statistic, 3))


def test_an_unpaired_test_by_hand() -> None:
    a = Score("x", (0.7, 0.8, 0.9), (0,), 0, seeds=(0, 1, 2))
    b = Score("x", (0.6, 0.8, 0.7, 0.5), (0,), 0, seeds=(0, 1, 2, 3))
    first, second = 0.01 / 3, np.var(b.accuracies, ddof=1) / 4
    freedom = (first + second) ** 2 / (first**2 / 2 + second**2 / 3)
    expected = student.sf((0.8 - 0.65) / np.sqrt(first + second), freedom)
    assert better(a, b) == pytest.approx(expected)
    other = replace(b, accuracies=b.accuracies[:3], seeds=(7, 8, 9))  # as many runs, under other seeds
    assert better(a, other) != better(a, replace(other, seeds=a.seeds))
    assert better(replace(a, seeds=()), replace(other, seeds=())) == better(a, other)


@pytest.mark.parametrize(("seeds", "others"), [((0, 1, 2), (0, 1, 2)), ((0, 1, 2), (3, 4, 5))])
def test_what_does_not_vary_gives_zero_or_one(seeds: tuple[int, ...], others: tuple[int, ...]) -> None:
    high, low = Score("x", (0.8,) * 3, (0,), 0, seeds=seeds), Score("x", (0.7,) * 3, (0,), 0, seeds=others)
    assert (better(high, low), better(low, high), better(high, replace(high, seeds=others))) == (
        0.0,
        1.0,
        1.0,
    )
    # The same difference in every run, but for rounding.
    if seeds == others:
        assert (
            better(
                Score("x", (0.3, 0.4, 0.9), (0,), 0, seeds=seeds),
                Score("x", (0.2, 0.3, 0.8), (0,), 0, seeds=seeds),
            )
            == 0
        )


def test_one_run_says_nothing() -> None:
    one, many = Score("x", (0.8,), (0,), 0, seeds=(0,)), Score("x", (0.1, 0.2), (0,), 0, seeds=(0, 1))
    assert better(one, many) is better(many, one) is better(one, one) is None


def test_models_of_one_set_count_once() -> None:
    seeds = tuple(range(6))
    a = Score("x", (0.7, 0.8, 0.9, 0.5, 0.6, 0.8), (0,), 0, seeds=seeds, sets=3)
    b = Score("x", (0.6, 0.7, 0.7, 0.5, 0.5, 0.7), (0,), 0, seeds=seeds, sets=3)
    pair = [
        Score("x", accuracies, (0,), 0, seeds=(0, 1, 2), sets=3)
        for accuracies in ((0.6, 0.7, 0.85), (0.55, 0.6, 0.7))
    ]
    assert better(a, b) == pytest.approx(better(*pair))
    assert better(a, b) != pytest.approx(better(replace(a, sets=1), replace(b, sets=1)))
    one, means = replace(b, sets=1), (0.6, 0.7, 0.85)  # six models of one set against three means: not paired
    assert better(a, one) == pytest.approx(
        ttest_ind(means, b.accuracies, equal_var=False, alternative="greater").pvalue
    )


def test_holm_by_hand() -> None:
    # In order .01 x 4, .02 x 3, .03 x 2, .04 x 1; none below one before it.
    assert holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


def test_the_table_marks_what_is_better_than_random() -> None:
    def row(method: str, *accuracies: float) -> MethodResult:
        return MethodResult(
            method, 4, 3, (Score("lr", accuracies, (0.5,), 0, seeds=tuple(range(len(accuracies)))),)
        )

    table = Comparison(
        (
            row("random", 0.5, 0.55, 0.6),
            row("nearest", 0.62, 0.61, 0.6),
            row("x", 0.8, 0.82, 0.84),
            row("full", 0.9),
        ),
        100,
    ).as_dict()
    results = {found["method"]: found["results"][0] for found in table["methods"]}
    assert [found["better_than_random"] for found in results.values()] == [False, False, True, False]
    differences = np.array([0.3, 0.27, 0.24])
    p = student.sf(differences.mean() / (differences.std(ddof=1) / np.sqrt(3)), 2)
    assert results["x"]["p_better_than_random"] == pytest.approx(p)
    assert 0 < results["x"]["p_better_than_nearest"] < 0.05
    assert results["nearest"]["p_better_than_random"] > 0.05
    assert results["nearest"]["p_better_than_nearest"] is None
    assert [results[name]["p_better_than_random"] for name in ("random", "full")] == [None, None]
    assert [cells[2] for cells in comparison_cells(table)[1]] == [
        "0.550 ± 0.050",
        "0.610 ± 0.010",
        "0.820 ± 0.020*",
        "0.900",
    ]
    note = "* better than random at p < 0.05 (one-sided t-test, Holm's correction over the table)"
    assert star_note(table) == note
    assert comparison_table(table).endswith(f"|\n\n\\{note}\n")
    bare = Comparison((row("x", 0.8, 0.82, 0.84),), 100).as_dict()
    assert bare["methods"][0]["results"][0]["p_better_than_random"] is None
    assert star_note(bare) is None


def test_holm_is_over_all_cells_of_the_table() -> None:
    def of(method: str, *accuracies: tuple[float, ...]) -> MethodResult:
        scores = (
            Score(name, found, (0,), 0, seeds=(0, 1, 2)) for name, found in zip("ab", accuracies, strict=True)
        )
        return MethodResult(method, 4, 3, tuple(scores))

    base, higher, same = (0.5, 0.55, 0.6), (0.6, 0.7, 0.68), (0.5, 0.56, 0.58)
    file_lock = Comparison((of("random", base, base), of("x", higher, higher)), 1).as_dict()
    p = file_lock["methods"][1]["results"][0]["p_better_than_random"]
    assert 0.0125 < p < 0.025
    assert file_lock["methods"][1]["results"][0]["better_than_random"]
    more = Comparison((of("random", base, base), of("x", higher, same), of("y", same, same)), 1).as_dict()
    assert more["methods"][1]["results"][0]["p_better_than_random"] == p
    assert not more["methods"][1]["results"][0]["better_than_random"]
