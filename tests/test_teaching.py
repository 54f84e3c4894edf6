"""The proxy classifiers of the teaching decoder, and the texts that it writes with them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import MultinomialNB

from dallme.data import LabelledTexts
from dallme.decoders.extractive import decoder as decoder_module
from dallme.decoders.extractive import proxies as proxies_module
from dallme.decoders.extractive.proxies import LossRows, ProxyClassifiers, ProxyLoss, calibrate
from dallme.distiller import Distiller
from dallme.errors import InputError
from dallme.evaluation.compare import compare
from dallme.evaluation.evaluate import LINEAR, make_classifiers
from dallme.readers import read

# The proxy classifiers


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
    found = ProxyClassifiers.fit(texts, labels, max_iter=300, tol=1e-3).scores(
        LossRows.of(rows, TRUTH[kept]), classes
    )
    tfidf = TfidfTransformer().fit(texts)
    # A word of no text is unknown to the proxies, and does not count for the length of a row.
    known = np.asarray(texts.sum(axis=0)).ravel() > 0
    seen = tfidf.transform(rows.multiply(known).tocsr())
    regression = LogisticRegression(max_iter=300, tol=1e-3).fit(tfidf.transform(texts), labels)
    decision = regression.decision_function(seen)
    expected = np.stack([-decision, decision], axis=1) / 2 if classes == 2 else decision
    np.testing.assert_allclose(found[0], expected, atol=1e-4)
    bayes = MultinomialNB().fit(tfidf.transform(texts)[:, known], labels)
    np.testing.assert_allclose(found[1], bayes.predict_joint_log_proba(seen[:, known]), atol=1e-4)


def test_calibration_finds_the_inverse_temperature() -> None:
    truth = np.repeat([0, 1], 50)
    timid = np.where(np.arange(2) == truth[:, None], 0.01, 0.0)
    loss, probabilities = calibrate(timid, truth)
    assert loss == pytest.approx(np.log(1 + np.exp(-3)))  # the largest one, 300, times 0.01
    np.testing.assert_allclose(probabilities[0], [1 / (1 + np.exp(-3)), 1 / (1 + np.exp(3))])
    assert calibrate(np.zeros((100, 2)), truth)[0] == pytest.approx(np.log(2))
    assert calibrate(np.where(np.arange(3) == 2, -1e3, np.zeros((100, 3))), truth)[1][:, 2].max() == 0


def test_the_gradient_is_that_of_the_loss(counts: csr_matrix, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxies_module, "LOSS_TENTHS", 10)
    texts, rows = counts[TEXTS], LossRows.of(counts, TRUTH)
    gradient = ProxyLoss(counts, TRUTH, np.random.default_rng(0)).negative_gradient(texts, LABELS)
    tfidf = TfidfTransformer().fit_transform(counts).toarray()
    proxies = ProxyClassifiers.fit(texts, LABELS, max_iter=300, tol=1e-3)
    expected = sum(
        (np.eye(3)[TRUTH] - calibrate(scores, TRUTH)[1]).T @ tfidf for scores in proxies.scores(rows, 3)
    )
    np.testing.assert_allclose(gradient, expected, atol=1e-4)
    assert gradient.shape == (3, 12)
    np.testing.assert_allclose(gradient.sum(axis=0), 0, atol=1e-4)  # a gain of one class is a loss of others


def test_words_that_no_text_has_gain_most(counts: csr_matrix) -> None:
    # One word for each of the classes 0 and 1, none for 2.
    texts = csr_matrix(np.eye(12, dtype=np.float32)[[0, 3]])
    loss = ProxyLoss(counts, TRUTH, np.random.default_rng(0))
    gradient = loss.negative_gradient(texts, np.array([0, 1]))
    assert gradient[2].min() > 0
    assert gradient[2, 6:9].sum() > gradient[2, :6].sum()


@pytest.mark.parametrize("filled", [[], [0], [0, 1]])
def test_words_of_one_class_give_no_gradient(counts: csr_matrix, filled: list[int]) -> None:
    texts = csr_matrix((6, 12), dtype=np.float32).tolil()
    for row in filled:
        texts[row, 0] = 1
    loss = ProxyLoss(counts, TRUTH, np.random.default_rng(0))
    assert not loss.negative_gradient(texts.tocsr(), LABELS).any()


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


def test_many_texts_are_written_without_proxies(
    news: tuple[LabelledTexts, LabelledTexts], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = news[0].take(np.arange(400))

    def run() -> list[str]:
        return list(
            Distiller(per_class=3, embedder="hashing", decoder="teaching").run(source).distilled.texts
        )

    adaptive = run()
    monkeypatch.setattr(decoder_module, "PROXY_TEXTS", 11)
    monkeypatch.setattr(decoder_module, "ProxyLoss", None)  # would fail if it were used
    static = run()
    assert len(static) == 12
    assert static != adaptive


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"candidates": 0}, "expected candidates to be a whole number of at least 1, found 0"),
        ({"min_words": 9, "max_words": 8}, "expected max_words to be a whole number of at least 9, found 8"),
    ],
)
def test_options_are_checked(options: dict[str, int], message: str) -> None:
    distiller = Distiller(per_class=1, embedder="hashing", decoder="teaching", decoder_options=options)
    with pytest.raises(InputError, match=message):
        distiller.distill(["a fine film", "a bad film"], ["good", "bad"])


@pytest.mark.parametrize("decoder", ["extractive", "teaching"])
def test_sentences_are_joined_with_the_separator(decoder: str) -> None:
    texts = ["A fine film it was. We liked it very much.", "A dull film it was. We left it very early."] * 2
    texts = [f"{text} Row {row} ends here too." for row, text in enumerate(texts)]
    made = {
        separator: Distiller(
            per_class=1,
            embedder="hashing",
            decoder=decoder,
            decoder_options={} if separator is None else {"separator": separator},
            progress=False,
        ).distill(texts, [1, 0, 1, 0])
        for separator in (None, " ", "\\n", "\n")
    }
    assert made[None].texts == made[" "].texts
    assert made["\\n"].texts == made["\n"].texts
    for text, lineage in zip(made["\n"].texts, made["\n"].lineage, strict=True):
        assert len(lineage.sentences) > 1
        assert text == "\n".join(lineage.sentences)
    assert made["\n"].manifest["configuration"]["decoder_options"]["separator"] == "\n"
    assert "separator" not in made[" "].manifest["configuration"]["decoder_options"]
    with pytest.raises(InputError, match="expected separator to be white space"):
        Distiller(per_class=1, decoder=decoder, decoder_options={"separator": ", "})
