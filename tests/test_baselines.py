"""The contract of baselines, on each of them."""

from __future__ import annotations

import numpy as np
import pytest

from dallme import registry
from dallme.baselines.base import Baseline
from dallme.baselines.reference import FullBaseline, RandomBaseline
from dallme.data import LabelledTexts, LabelledVectors
from dallme.embedders.hashing import HashingEmbedder
from dallme.errors import InputError

BUDGET = {-1: 3, 4: 1, 9: 5}


@pytest.fixture
def texts() -> LabelledTexts:
    labels = np.array([4, 9, -1, 9, -1] * 6)
    return LabelledTexts(
        [f"text {row}" for row in range(30)], labels, {-1: "a", 4: "b", 9: "c"}, np.arange(100, 130)
    )


@pytest.fixture
def vectors(texts: LabelledTexts) -> LabelledVectors:
    embedder = HashingEmbedder()
    return LabelledVectors(embedder.embed(texts.texts), texts.labels, embedder.fingerprint())


# The texts of eda and random-sentences are new ones, and tdd and lora hand over models: their contracts are in
# test_eda.py, test_random_sentences.py and test_tdd.py.
APART = ("eda", "random-sentences", "tdd", "lora")

#: A sample smaller than a class, without which facility location does not vary.
OPTIONS = {"facility-location": {"sample": 2}}


@pytest.fixture(params=[name for name in registry.names("baselines") if name not in APART])
def baseline(request: pytest.FixtureRequest) -> Baseline:
    made: Baseline = registry.make("baselines", request.param, **OPTIONS.get(request.param, {}))
    return made


def test_rows_of_the_source_are_selected_as_they_are(
    baseline: Baseline, texts: LabelledTexts, vectors: LabelledVectors
) -> None:
    selected = baseline.select(texts, vectors, BUDGET, seed=0)
    assert selected.label_names == texts.label_names
    assert len(set(selected.row_ids.tolist())) == len(selected)
    for text, label, row_id in zip(
        selected.texts, selected.labels.tolist(), selected.row_ids.tolist(), strict=True
    ):
        assert (text, label) == (texts.texts[row_id - 100], texts.labels[row_id - 100])


def test_each_class_has_its_share(baseline: Baseline, texts: LabelledTexts, vectors: LabelledVectors) -> None:
    counts = baseline.select(texts, vectors, BUDGET, seed=0).class_counts
    assert counts == (texts.class_counts if isinstance(baseline, FullBaseline) else BUDGET)


def test_the_seed_decides(baseline: Baseline, texts: LabelledTexts, vectors: LabelledVectors) -> None:
    draws = [baseline.select(texts, vectors, BUDGET, seed=seed).row_ids.tolist() for seed in (0, 0, 1, 2, 3)]
    assert draws[0] == draws[1]
    assert (len({tuple(draw) for draw in draws}) > 1) == baseline.varies


def test_the_source_is_left_as_it_is(
    baseline: Baseline, texts: LabelledTexts, vectors: LabelledVectors
) -> None:
    digest, row_ids, budget = texts.digest, texts.row_ids.copy(), dict(BUDGET)
    baseline.select(texts, vectors, budget, seed=0)
    texts.__dict__.pop("digest")
    assert (texts.digest, texts.row_ids.tolist(), budget) == (digest, row_ids.tolist(), BUDGET)


@pytest.mark.parametrize(
    ("budget", "seed", "message"),
    [
        ({4: 7}, 0, "expected at least 7 texts in class 4, found 6; ask for fewer"),
        ({5: 1}, 0, "expected at least 1 texts in class 5, found 0; ask for fewer"),
        ({4: 0}, 0, "expected texts of class 4 to be a whole number of at least 1, found 0"),
        (BUDGET, -1, "expected seed to be a whole number from 0"),
    ],
)
def test_a_budget_that_cannot_be_met_is_an_error(
    baseline: Baseline, texts: LabelledTexts, budget: dict[int, int], seed: int, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        baseline.select(texts, None, budget, seed=seed)


def test_everything_is_everything(texts: LabelledTexts) -> None:
    assert FullBaseline().select(texts, None, {4: 1}, seed=0) is texts


def test_every_row_is_as_likely_as_any_other(texts: LabelledTexts) -> None:
    drawn = np.concatenate(
        [RandomBaseline().select(texts, None, {-1: 3}, seed=seed).row_ids for seed in range(400)]
    )
    counts = np.bincount(drawn - 100, minlength=30)[texts.labels == -1]
    assert counts.sum() == 1200
    assert (np.abs(counts - 100) < 5 * np.sqrt(100 * 0.75)).all()  # binomial, five deviations
