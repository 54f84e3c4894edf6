"""Claims of the paper, checked on rows written by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dallme.errors import InputError, UnknownNameError
from dallme.experiments import experiment_names, load_experiment, parse_experiment
from dallme.experiments.page import check_claims, results_page, summarize
from dallme.experiments.result_table import make_result_table
from dallme.experiments.rows import Row
from dallme.experiments.runs import make_runs

TOY = """
title = "A toy"
place = "Table 9"
kind = "accuracy"
rows = ["method"]
columns = ["data"]
[profiles.offline]
differs = []
classifier = ["lr", "nb"]
method = ["teaching", "extractive", "random", "herding"]
data.imdb = {train = "imdb"}
data.news = {train = "news"}
"""

#: Accuracy by data set and method, the same for both classifiers.
SCORES = {
    ("imdb", "teaching"): 0.7,
    ("imdb", "extractive"): 0.9,
    ("imdb", "random"): 0.8,
    ("imdb", "herding"): 0.6,
    ("news", "extractive"): 0.85,
    ("news", "random"): 0.8,
    ("news", "herding"): 0.845,
}


def check(claim: str, scores: dict[Any, float] = SCORES) -> list[Any]:
    experiment = parse_experiment(f"{TOY}\n[[claims]]\ntext = 'ours are better'\n{claim}", "toy")
    profile = experiment.profile("offline")
    rows = [
        Row(run.key({}), json.loads(json.dumps(run.config())), {"accuracy": scores[key]}, 1.0, 0, {}, "")
        for run in make_runs(experiment, profile)
        if (key := (run["data"], run["method"])) in scores
    ]
    return check_claims(experiment, make_result_table(experiment, profile, rows))


def test_our_first_preference_is_compared_with_the_best_other() -> None:
    (finding,) = check('ours = ["method=teaching,extractive"]\nother = ["method=random,herding"]')
    found = [(each.where, each.ours[0], each.other[0], each.holds) for each in finding.comparisons]
    assert found == [
        ("imdb, lr", "teaching", "random", False),
        ("imdb, nb", "teaching", "random", False),
        ("news, lr", "extractive", "herding", True),
        ("news, nb", "extractive", "herding", True),
    ]
    assert finding.markdown() == (
        "“ours are better” **fails in 2 of 4 comparisons**: "
        "imdb, lr: teaching 0.700, random 0.800; imdb, nb: teaching 0.700, random 0.800."
    )


@pytest.mark.parametrize(
    ("options", "holds"),
    [
        ("", [False, True]),
        ("margin = 0.01", [False, False]),
        ("margin = -0.1", [True, True]),
        ("factor = 0.5", [True, True]),
        ('relation = "<"\nmargin = 0.06', [False, True]),
        ('relation = "="\nmargin = 0.01', [False, True]),
    ],
)
def test_relations_factors_and_margins(options: str, holds: list[bool]) -> None:
    sides = (
        'ours = ["method=teaching,extractive", "classifier=lr"]\n'
        'other = ["method=random,herding", "classifier=lr"]\n'
    )
    (finding,) = check(sides + options)
    assert [each.holds for each in finding.comparisons] == holds


def test_a_limit_takes_the_place_of_other_runs() -> None:
    (finding,) = check('ours = ["method=teaching"]\nlimit = 0.75')
    assert [(each.where, each.other[0], each.holds) for each in finding.comparisons] == [
        ("imdb, lr", "the paper", False),
        ("imdb, nb", "the paper", False),
    ]


def test_a_label_selects_one_of_several_grids_of_a_method() -> None:
    text = TOY.replace('method = ["teaching", "extractive", "random", "herding"]\n', "")
    for label, method in (("ours · a", "nearest"), ("other", "nearest"), ("", "random")):
        steps = f"decoder_options = {{ language = '{label}' }}"
        text += f"[[profiles.offline.grid]]\nlabel = '{label}'\nmethod = ['{method}']\n{steps}\n"
    claim = "ours = ['method=nearest', 'label=ours · *']\nother = ['method=random']"
    experiment = parse_experiment(f"{text}\n[[claims]]\ntext = 'ours are better'\n{claim}", "toy")
    profile = experiment.profile("offline")
    scores = {"ours · a": 0.6, "other": 0.9, "": 0.7}
    rows = [
        Row("", json.loads(json.dumps(run.config())), {"accuracy": scores[run.grid.label]}, 1.0, 0, {}, "")
        for run in make_runs(experiment, profile)
    ]
    (finding,) = check_claims(experiment, make_result_table(experiment, profile, rows))
    assert {each.ours[1].mean for each in finding.comparisons} == {0.6}
    assert not any(each.holds for each in finding.comparisons)


def test_claims_without_results_are_left_out() -> None:
    assert check('ours = ["method=DiLM"]\nother = ["method=random"]') == []
    assert check('ours = ["method=teaching"]\nother = ["method=random"]', {}) == []


def test_a_sentence_shows_few_failures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dallme.experiments.page.SHOWN", 1)
    (finding,) = check('ours = ["method=teaching,extractive"]\nother = ["method=random"]\nmargin = 0.1')
    assert len(finding.failures) == 4
    assert finding.markdown().endswith(": imdb, lr: teaching 0.700, random 0.800; and 3 more.")


def test_the_summary_counts_what_holds() -> None:
    good = check('ours = ["method=extractive"]\nother = ["method=random"]')
    bad = check('ours = ["method=teaching"]\nother = ["method=random"]')
    assert summarize(good) == "the claim holds here. “ours are better” holds in all 4 comparisons."
    assert summarize([*good, *bad]).startswith("1 of 2 claims holds here. ")
    assert summarize([]) == ""


def test_a_claim_names_known_axes_and_relations() -> None:
    with pytest.raises(UnknownNameError, match="unknown axis 'metod'"):
        check('ours = ["metod=teaching"]')
    with pytest.raises(UnknownNameError, match="unknown relation '>='; known: <, =, >"):
        check('ours = ["method=teaching"]\nrelation = ">="')
    with pytest.raises(UnknownNameError, match=r"unknown key of toy: claims\[0\] 'our'"):
        check('our = ["method=teaching"]')
    with pytest.raises(InputError, match=r"expected \[\[claims\]\] tables, found 3"):
        parse_experiment(f"claims = 3\n{TOY}", "toy")


@pytest.fixture(scope="module")
def page() -> str:
    return results_page(Path(__file__).parents[1] / "results" / "offline")


@pytest.mark.parametrize("name", experiment_names())
def test_every_experiment_has_a_claim_that_is_checked(name: str, page: str) -> None:
    part = page.partition(f'<a id="{name}"></a>')[2].partition("<a id=")[0].partition("## Where ours")[0]
    last = part.strip().splitlines()[-1]
    assert last.startswith("**Ours:** ")
    assert "no claim is checked" not in last


def test_failures_are_listed_on_top_of_the_page(page: str) -> None:
    top = page.partition("## Contents")[0]
    assert "[table4](#table4)" in top
    assert "imdb: teaching 0.772, random 0.799" in top
    failing = {name for name in experiment_names() if f"(#{name})" in top}
    for name in experiment_names():
        experiment = load_experiment(name)
        part = page.partition(f'<a id="{name}"></a>')[2].partition("<a id=")[0]
        assert (name in failing) == ("**fails in" in part or "**does not hold**" in part), experiment.title
