"""The students of the teaching decoder, and what the decoder makes of what they say."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import MultinomialNB

from dallme.data import LabelledTexts
from dallme.decoders.extractive.decoder import GreedySelector, TeachingDecoder
from dallme.decoders.extractive.decoder import decoder as teaching_module
from dallme.decoders.extractive.decoder import proxies as students_module
from dallme.decoders.extractive.proxies import ProxyClassifiers, _calibrated
from dallme.distiller import Distiller
from dallme.errors import InputError
from dallme.evaluation.compare import compare
from dallme.evaluation.evaluate import LINEAR, make_classifiers
from dallme.readers import read

# The students


@pytest.fixture
def counts() -> csr_matrix:
    """Word counts of 60 rows over 12 words, each class with words of its own."""
    rng = np.random.default_rng(3)
    rates = np.full((3, 12), 0.3)
    for label in range(3):
        rates[label, 3 * label : 3 * label + 3] = 1.5
    return csr_matrix(rng.poisson(np.repeat(rates, 20, axis=0)).astype(np.float32))


TRUTH = np.repeat(np.arange(3), 20)
TEXTS, LABELS = [0, 1, 20, 21, 40, 41], np.array([0, 0, 1, 1, 2, 2])


@pytest.mark.parametrize("classes", [2, 3])
def test_scores_are_those_of_classifiers_over_tfidf(counts: csr_matrix, classes: int) -> None:
    kept, few = classes > TRUTH, classes > LABELS
    rows, texts, labels = counts[kept], counts[TEXTS][few], LABELS[few]
    students = ProxyClassifiers(rows, TRUTH[kept], np.random.default_rng(0))
    found = students._scores(texts, labels, students_module._Rows.of(rows, TRUTH[kept]))
    tfidf = TfidfTransformer().fit(texts)
    # A word that no text has is unknown to the students: it does not count for the length of a row either.
    known = np.asarray(texts.sum(axis=0)).ravel() > 0
    seen = tfidf.transform(rows.multiply(known).tocsr())
    regression = LogisticRegression(max_iter=300, tol=1e-3).fit(tfidf.transform(texts), labels)
    decision = regression.decision_function(seen)
    expected = np.stack([-decision, decision], axis=1) / 2 if classes == 2 else decision
    np.testing.assert_allclose(found[0], expected, atol=1e-4)
    bayes = MultinomialNB().fit(tfidf.transform(texts)[:, known], labels)
    np.testing.assert_allclose(found[1], bayes.predict_joint_log_proba(seen[:, known]), atol=1e-4)


def test_calibration_finds_the_sharpness_and_a_class_without_texts_has_no_chance() -> None:
    truth = np.repeat([0, 1], 50)
    timid = np.where(np.arange(2) == truth[:, None], 0.01, 0.0)
    loss, probabilities = _calibrated(timid, truth)
    assert loss == pytest.approx(np.log(1 + np.exp(-3)))  # the largest sharpness, 300, times .01
    np.testing.assert_allclose(probabilities[0], [1 / (1 + np.exp(-3)), 1 / (1 + np.exp(3))])
    assert _calibrated(np.zeros((100, 2)), truth)[0] == pytest.approx(np.log(2))
    assert _calibrated(np.where(np.arange(3) == 2, -1e3, np.zeros((100, 3))), truth)[1][:, 2].max() == 0


def test_the_gradient_is_that_of_the_loss(counts: csr_matrix, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(students_module, "OF_TEN", 10)
    students = ProxyClassifiers(counts, TRUTH, np.random.default_rng(0))
    texts = counts[TEXTS]
    gradient = students.gradient(texts, LABELS)
    seen = TfidfTransformer().fit_transform(counts).toarray()
    scores = students._scores(texts, LABELS, students_module._Rows.of(counts, TRUTH))
    expected = sum((np.eye(3)[TRUTH] - _calibrated(each, TRUTH)[1]).T @ seen for each in scores)
    np.testing.assert_allclose(gradient, expected, atol=1e-4)
    assert gradient.shape == (3, 12)
    np.testing.assert_allclose(gradient.sum(axis=0), 0, atol=1e-4)  # what helps one class costs the others


def test_what_no_text_teaches_is_asked_for_most(counts: csr_matrix) -> None:
    students = ProxyClassifiers(counts, TRUTH, np.random.default_rng(0))
    texts = csr_matrix(
        np.eye(12, dtype=np.float32)[[0, 3]]
    )  # one word for each of the classes 0 and 1, none for 2
    gradient = students.gradient(texts, np.array([0, 1]))
    assert gradient[2].min() > 0
    assert gradient[2, 6:9].sum() > gradient[2, :6].sum()


def test_texts_that_teach_nothing(counts: csr_matrix) -> None:
    students = ProxyClassifiers(counts, TRUTH, np.random.default_rng(0))
    for taught in ([], [0], [0, 1]):  # rows of class 0 alone
        texts = csr_matrix((6, 12), dtype=np.float32).tolil()
        for row in taught:
            texts[row, 0] = 1
        assert students.loss(texts.tocsr(), LABELS) == np.inf
        assert not students.gradient(texts.tocsr(), LABELS).any()
    assert students.loss(counts[TEXTS], LABELS) < np.log(3)


def test_the_loss_is_taken_on_rows_of_its_own(counts: csr_matrix) -> None:
    students = ProxyClassifiers(counts, TRUTH, np.random.default_rng(0))
    teach, judge = students._teach.counts.toarray(), students._judge.counts.toarray()
    assert (len(teach), len(judge)) == (48, 12)
    np.testing.assert_array_equal(
        np.sort(np.vstack([teach, judge]), axis=0), np.sort(counts.toarray(), axis=0)
    )


# The decoder


@pytest.fixture(scope="module")
def news(shared_data: Path) -> tuple[LabelledTexts, LabelledTexts]:
    """3,334 rows of AG-News to distil and 1,900 to test on."""
    source = read(shared_data / "ag_news" / "train.parquet")
    test = read(shared_data / "ag_news" / "test.parquet", like=source)
    return source.take(np.arange(0, len(source), 9)), test.take(np.arange(0, len(test), 4))


def test_it_teaches_better_than_fixed_weights(news: tuple[LabelledTexts, LabelledTexts]) -> None:
    """Cut down; benchmarks/main_job.json has the whole data."""
    source, test = news
    distiller = Distiller(per_class=10, embedder="hashing")
    found = compare(
        distiller, distiller.run(source), test, ["extractive", "teaching"], make_classifiers(LINEAR)
    ).as_dict()
    extractive, teaching = [
        np.array([result["accuracy_mean"] for result in row["results"]])
        for row in found["methods"]
        if row["method"] != "full"
    ]
    assert (teaching > extractive).all()
    assert teaching.mean() > extractive.mean() + 0.005


def test_rewriting_never_raises_the_loss_on_held_rows(
    news: tuple[LabelledTexts, LabelledTexts], monkeypatch: pytest.MonkeyPatch
) -> None:
    losses: list[float] = []
    kept: list[bool] = []
    rewrite = GreedySelector.rewrite

    def watched(desk: GreedySelector, text: int) -> None:
        before, chosen = desk._loss(), list(desk.chosen[text])
        used, left = desk._used.copy(), desk._left.copy()
        rewrite(desk, text)
        losses.extend([before, desk._loss()])
        kept.append(desk.chosen[text] == chosen)
        if kept[-1]:  # taken back: nothing but the text itself may look different
            np.testing.assert_array_equal(desk._used, used)
            np.testing.assert_array_equal(desk._left, left)

    monkeypatch.setattr(GreedySelector, "rewrite", watched)
    Distiller(per_class=5, embedder="hashing", decoder=TeachingDecoder(rounds=1)).run(news[0])
    assert len(kept) == 20
    assert all(later <= earlier for earlier, later in pairwise(losses))
    assert losses[-1] < losses[0]


def test_a_sentence_is_used_once_in_a_class(news: tuple[LabelledTexts, LabelledTexts]) -> None:
    source = news[0].take(np.arange(400))
    doubled = source.take(
        np.concatenate([np.arange(400), np.arange(400)])
    )  # each sentence stands in several rows
    distilled = Distiller(per_class=4, embedder="hashing", decoder="teaching").run(doubled).distilled
    sentences = [
        (label, sentence)
        for label, origin in zip(distilled.labels.tolist(), distilled.lineage, strict=True)
        for sentence in origin.sentences
    ]
    assert len(sentences) > 40
    assert len(set(sentences)) == len(sentences)


def test_the_same_seed_gives_the_same_texts_and_rounds_matter(
    news: tuple[LabelledTexts, LabelledTexts],
) -> None:
    source = news[0].take(np.arange(1000))

    def texts(seed: int, rounds: int) -> list[str]:
        decoder = TeachingDecoder(rounds=rounds)
        return list(
            Distiller(per_class=3, embedder="hashing", decoder=decoder, seed=seed).run(source).distilled.texts
        )

    assert texts(0, 1) == texts(0, 1)
    assert texts(0, 1) != texts(0, 0)
    assert texts(0, 1) != texts(1, 1)


def test_too_many_texts_are_written_without_students(
    news: tuple[LabelledTexts, LabelledTexts], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = news[0].take(np.arange(400))

    def run() -> list[str]:
        return list(
            Distiller(per_class=3, embedder="hashing", decoder="teaching").run(source).distilled.texts
        )

    taught = run()
    monkeypatch.setattr(teaching_module, "TAUGHT_TEXTS", 11)
    monkeypatch.setattr(teaching_module, "ProxyClassifiers", None)  # would fail if it were asked for
    untaught = run()
    assert len(untaught) == 12
    assert untaught != taught


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rounds": -1}, "expected rounds to be a whole number of at least 0, found -1"),
        ({"candidates": 0}, "expected candidates to be a whole number of at least 1, found 0"),
        ({"min_words": 9, "max_words": 8}, "expected max_words to be a whole number of at least 9, found 8"),
    ],
)
def test_options_are_checked(options: dict[str, int], message: str) -> None:
    distiller = Distiller(per_class=1, embedder="hashing", decoder="teaching", decoder_options=options)
    with pytest.raises(InputError, match=message):
        distiller.distill(["a fine film", "a bad film"], ["good", "bad"])
