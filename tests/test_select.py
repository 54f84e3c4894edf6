"""The decoder `select`: which rows it takes, and what it minimises. The contract is in test_decoders.py."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from dallme.condensers.k_centroid import KCentroid
from dallme.data import Fingerprint, LabelledTexts, LabelledVectors
from dallme.decoders import select
from dallme.decoders.base import Context
from dallme.decoders.nearest import NearestDecoder
from dallme.decoders.select import SelectDecoder, _Ridge, consistent_rows
from dallme.embedders.base import count_words
from dallme.errors import InputError


def _overlapping(rows: int, seed: int, scale: float = 1.0) -> Context:
    """Two classes whose clusters lie side by side, so that the row nearest to a centroid teaches little of the border."""
    rng = np.random.default_rng(seed)
    labels = np.arange(rows) % 2
    vectors = rng.normal(size=(rows, 40))
    vectors[:, 0] += np.where(labels == 0, 2.0, -2.0)
    vectors[:, 1:4] *= 3  # what the label does not explain
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    words = [("fine", "good", "warm"), ("dull", "poor", "weak")]
    texts = [
        f"row {row} is {words[label][row % 3]} and {words[label][row % 2]}"
        for row, label in enumerate(labels)
    ]
    source = LabelledTexts(texts, labels, {0: "a", 1: "b"}, np.arange(rows))
    matrix = LabelledVectors(
        (scale * vectors).astype(np.float32), labels, Fingerprint("m", "w", 40, normalized=scale == 1)
    )
    return Context(source, matrix, count_words)


def _accuracy(decoder: SelectDecoder | NearestDecoder, context: Context, seed: int) -> float:
    """Accuracy on all rows of a linear classifier trained on the chosen ones."""
    prototypes = KCentroid().condense(context.vectors, {0: 6, 1: 6}, seed=seed)
    chosen = [text.rows[0] for text in decoder.decode(prototypes, context, seed=seed).texts]
    vectors, labels = context.vectors.vectors, context.vectors.labels
    return float(LogisticRegression(C=10).fit(vectors[chosen], labels[chosen]).score(vectors, labels))


def test_chosen_rows_teach_a_linear_head_more_than_nearest_rows() -> None:
    gains = []
    for seed in range(6):
        context = _overlapping(800, seed)
        gains.append(_accuracy(SelectDecoder(), context, seed) - _accuracy(NearestDecoder(), context, seed))
    assert np.mean(gains) > 0.01
    assert min(gains) > -0.02


def test_candidates_are_ranked_by_the_gradient_of_the_loss() -> None:
    context = _overlapping(200, 3)
    vectors, labels = context.vectors.vectors.astype(np.float64), context.vectors.labels
    chosen, wanted, held_out = np.arange(8), labels[:8], np.arange(100, 200)
    classifier = _Ridge(vectors, labels, wanted, held_out, 3.0, chosen)
    # A step along the direction of the best candidate lowers the loss; along that of the worst it does not.
    ranked = classifier.most_promising(2, np.arange(20, 100), 80)
    changes = []
    for row in (ranked[0], ranked[-1]):
        moved = vectors.copy()
        moved[chosen[2]] += 1e-4 * (vectors[row] - vectors[chosen[2]])
        changes.append(_Ridge(moved, labels, wanted, held_out, 3.0, chosen).loss - classifier.loss)
    assert changes[0] < 0 < changes[1]


def test_a_replaced_row_gives_the_classifier_of_the_new_rows() -> None:
    context = _overlapping(300, 4)
    vectors, labels = context.vectors.vectors.astype(np.float64), context.vectors.labels
    held_out = np.arange(150, 300)
    start = np.concatenate([np.flatnonzero(labels[:150] == label)[:6] for label in (0, 1)])
    classifier = _Ridge(vectors, labels, labels[start], held_out, 3.0, start)
    for _ in range(3):
        for at in range(12):
            candidates = np.flatnonzero(labels[:150] == labels[start[at]])
            before, row = classifier.loss, int(classifier.chosen[at])
            changed = classifier.replace(at, classifier.most_promising(at, candidates, 5))
            assert changed == (classifier.chosen[at] != row) == (classifier.loss < before)
    anew = _Ridge(vectors, labels, labels[start], held_out, 3.0, classifier.chosen)
    assert classifier.loss == pytest.approx(anew.loss, abs=1e-9)
    assert not np.array_equal(classifier.chosen, start)
    solved = np.linalg.solve(
        vectors[anew.chosen] @ vectors[anew.chosen].T + 3 * np.eye(12),
        (labels[start][:, None] == [0, 1]) - 0.5,
    )
    ranked = [each.most_promising(0, np.arange(150), 20) for each in (classifier, anew)]
    assert ranked[0] == ranked[1]
    scores = vectors[held_out] @ vectors[anew.chosen].T @ solved
    spread = scores.std()
    best = min(
        log_loss(labels[held_out], softmax(scale / spread * scores, axis=1)) for scale in (0.5, 1, 2, 4)
    )
    assert anew.loss == pytest.approx(best, abs=1e-9)


def test_each_text_is_a_row_of_its_own_cluster() -> None:
    context = _overlapping(400, 0)
    prototypes = KCentroid().condense(context.vectors, {0: 5, 1: 5}, seed=0)
    texts = SelectDecoder().decode(prototypes, context, seed=0).texts
    for text, members in zip(texts, prototypes.members, strict=True):
        assert set(text.rows) <= set(members.tolist())
        assert text.text == context.source.texts[text.rows[0]]


def test_same_seed_same_rows() -> None:
    context = _overlapping(400, 1)
    prototypes = KCentroid().condense(context.vectors, {0: 5, 1: 5}, seed=0)
    one, other = (SelectDecoder().decode(prototypes, context, seed=3).texts for _ in range(2))
    assert one == other


@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_the_length_of_vectors_does_not_matter(scale: float) -> None:
    chosen = []
    for context in (_overlapping(300, 2), _overlapping(300, 2, scale)):
        prototypes = KCentroid().condense(_overlapping(300, 2).vectors, {0: 4, 1: 4}, seed=0)
        chosen.append([text.rows for text in SelectDecoder().decode(prototypes, context, seed=0).texts])
    assert chosen[0] == chosen[1]


def test_rows_with_contradictory_text_are_left_out() -> None:
    context = _overlapping(400, 4)
    texts = list(context.source.texts)
    hidden = list(range(0, 12, 2))  # of class 0
    for row in hidden:  # the beginning speaks for the other class, and what agrees lies beyond the limit
        texts[row] = f"row {row} is dull and poor " + "fine good warm " * 40
    source = LabelledTexts(texts, context.source.labels, context.source.label_names, context.source.row_ids)
    limited = Context(source, context.vectors, count_words, max_tokens=6)
    agreeing = consistent_rows(limited)
    assert not agreeing[hidden].any()
    assert agreeing[1:400:2].mean() > 0.9
    prototypes = KCentroid().condense(context.vectors, {0: 6, 1: 6}, seed=0)
    kept = {text.rows[0] for text in SelectDecoder().decode(prototypes, limited, seed=0).texts}
    assert not kept & set(hidden)


def test_rows_whose_vector_contradicts_their_label_are_left_out() -> None:
    context = _overlapping(400, 4)
    vectors = context.vectors.vectors.copy()
    vectors[:12:2, 0] = -abs(vectors[:12:2, 0]) - 0.5  # rows of class 0 on the side of class 1
    matrix = LabelledVectors(vectors, context.vectors.labels, context.vectors.fingerprint)
    assert not consistent_rows(Context(context.source, matrix, count_words))[:12:2].any()


def test_probes_of_many_rows_are_trained_on_some_of_each_class(monkeypatch: pytest.MonkeyPatch) -> None:
    context = _overlapping(400, 4)
    labels = context.vectors.labels.copy()
    labels[:10] = 2  # a class that a small sample could miss
    names = {0: "a", 1: "b", 2: "rare"}
    source = LabelledTexts(
        [f"rare sign {row}" if row < 10 else text for row, text in enumerate(context.source.texts)],
        labels,
        names,
        context.source.row_ids,
    )
    vectors = context.vectors.vectors.copy()
    vectors[:10] = np.eye(40)[39]
    matrix = LabelledVectors(vectors, labels, context.vectors.fingerprint)
    monkeypatch.setattr(select, "PROBE_ROWS", 40)
    agreeing = consistent_rows(Context(source, matrix, count_words))
    assert agreeing[:10].all()
    assert agreeing.mean() > 0.7


def test_too_few_rows_to_cross_fit_keep_all_rows() -> None:
    context = _overlapping(8, 0)
    assert consistent_rows(context).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [({"passes": 0}, "expected passes"), ({"ridge": 0.0}, "expected a ridge penalty above 0, found 0.0")],
)
def test_bad_options_are_errors(options: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        SelectDecoder(**options)  # type: ignore[arg-type]
