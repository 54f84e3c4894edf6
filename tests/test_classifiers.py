"""The contract of classifiers, on each of them, and that the linear ones are scikit-learn's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC

from dallme import registry
from dallme.baselines.coreset import probe_probabilities
from dallme.classifiers.base import Classifier
from dallme.classifiers.linear import EmbeddingLogisticRegression
from dallme.classifiers.training import NeuralClassifier
from dallme.data import LabelledTexts
from dallme.embedders.hashing import HashingEmbedder
from dallme.errors import InputError
from dallme.evaluation.probe import probe

#: Three classes whose ids neither start at 0 nor follow each other.
TRAIN = {
    7: [
        "A warm, funny film with a great cast.",
        "I loved every minute of this lovely story!",
        "Great fun and great music.",
    ],
    -3: ["A dull and boring film.", "I hated every minute: what a waste.", "Awful plot, awful music."],
    40: [
        "The match ended two to one.",
        "Our team won the cup after a long season.",
        "The coach praised the players.",
    ],
}
TEXTS = [text for texts in TRAIN.values() for text in texts]
LABELS = np.array([label for label, texts in TRAIN.items() for _ in texts])
TEST = [
    "a great story",
    "boring and awful",
    "the team and the coach",
    "xyzzy qwertz",  # no known word
    "!! 😀 a",  # no word at all
    "<br />great<br />",
    "GREAT film of the season, dull players",
    "很好看的电影",
]


def _make(name: str) -> Classifier:
    if name == "embedding-lr":
        return _probe()
    made: Classifier = registry.make("classifiers", name)
    return made


def _probe() -> EmbeddingLogisticRegression:
    embedder = HashingEmbedder()
    return EmbeddingLogisticRegression(embedder.embed, lambda: embedder.fingerprint().digest)


# The contract, for those that need no model


@pytest.fixture(
    params=[
        part.name
        for part in registry.PARTS
        if part.role == "classifiers" and not part.packages and not issubclass(part.load(), NeuralClassifier)
    ]
)
def classifier(request: pytest.FixtureRequest) -> Classifier:
    return _make(request.param)


def test_predictions_are_class_ids(classifier: Classifier) -> None:
    predicted = classifier.fit(TEXTS, LABELS, seed=0).predict(TEST)
    assert predicted.dtype == np.int64
    assert predicted.shape == (len(TEST),)
    assert set(predicted.tolist()) <= set(TRAIN)
    assert predicted[:3].tolist() == [7, -3, 40]


def test_what_was_learned_is_known(classifier: Classifier) -> None:
    assert classifier.fit(TEXTS, LABELS, seed=0).predict(TEXTS).tolist() == LABELS.tolist()


def test_the_same_seed_gives_the_same_model(classifier: Classifier) -> None:
    first, second = (classifier.fit(TEXTS, LABELS, seed=5).predict(TEST) for _ in range(2))
    assert first.tobytes() == second.tobytes()


def test_the_seed_matters_only_to_stochastic_classifiers(classifier: Classifier) -> None:
    if not classifier.varies:
        assert (
            classifier.fit(TEXTS, LABELS, seed=1).predict(TEST).tolist()
            == classifier.fit(TEXTS, LABELS, seed=2).predict(TEST).tolist()
        )


def test_a_classifier_can_be_trained_again(classifier: Classifier) -> None:
    fitted = classifier.fit(TEXTS, LABELS, seed=0)
    before = fitted.predict(TEST)
    turned = classifier.fit(TEXTS, LABELS[::-1].copy(), seed=0).predict(TEST)
    assert fitted.predict(TEST).tolist() == before.tolist()
    assert turned[:3].tolist() == [40, -3, 7]


def test_the_input_is_left_as_it_is(classifier: Classifier) -> None:
    texts, labels, test = list(TEXTS), LABELS.copy(), list(TEST)
    classifier.fit(texts, labels, seed=0).predict(test)
    assert (texts, labels.tolist(), test) == (TEXTS, LABELS.tolist(), TEST)


def test_each_text_is_predicted_for_itself(classifier: Classifier) -> None:
    fitted = classifier.fit(TEXTS, LABELS, seed=0)
    together = fitted.predict(TEST).tolist()
    assert [fitted.predict([text])[0] for text in TEST] == together
    assert fitted.predict(TEST[::-1]).tolist() == together[::-1]


@pytest.mark.parametrize(
    ("texts", "labels", "seed", "message"),
    [
        (["a text", "b text"], [1], 0, "expected a label for each of 2 texts, found 1"),
        (
            ["a text", "b text"],
            [4, 4],
            0,
            r"expected texts of at least two classes to train a classifier, found one \(4\)",
        ),
        ([], [], 0, "expected at least one text in texts, found none"),
        (["a text", ""], [0, 1], 0, "texts: row 1 has a blank text"),
        ("a text", [0], 0, "expected texts as a list of strings, found one str"),
        (["a text", "b text"], [0, 1], -1, "expected seed to be a whole number from 0"),
    ],
)
def test_unusable_training_data_is_an_error(
    classifier: Classifier, texts: Any, labels: Any, seed: int, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        classifier.fit(texts, np.array(labels), seed=seed)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ([], "expected at least one text in texts, found none"),
        ("a great story", "expected texts as a list of strings, found one str; put it in a list"),
        (["fine", None], "texts: row 1 has no text"),
    ],
)
def test_unusable_test_data_is_an_error(classifier: Classifier, texts: Any, message: str) -> None:
    fitted = classifier.fit(TEXTS, LABELS, seed=0)
    with pytest.raises(InputError, match=message):
        fitted.predict(texts)


# The linear ones

_MODELS: dict[str, Callable[[], Any]] = {
    "logistic-regression": lambda: LogisticRegression(max_iter=1000, random_state=3),
    "linear-svm": lambda: LinearSVC(random_state=3),
    "naive-bayes": MultinomialNB,
}


@pytest.mark.parametrize("name", _MODELS)
def test_a_linear_classifier_is_scikit_learns(name: str) -> None:
    plain = make_pipeline(TfidfVectorizer(), _MODELS[name]()).fit(TEXTS, LABELS)
    fitted = _make(name).fit(TEXTS, LABELS, seed=3)
    for test in (TEST, TEXTS, ["xyzzy", "qwertz"], ["!", "😀 a"]):
        assert fitted.predict(test).tolist() == plain.predict(test).tolist()


@pytest.mark.parametrize("name", _MODELS)
def test_a_linear_classifier_is_scikit_learns_on_real_sentences(name: str, shared_data: Path) -> None:
    table = pq.read_table(sorted(shared_data.glob("sst2/train*.parquet"))[0])
    text_column = next(column for column in table.column_names if column in ("text", "sentence"))
    texts, labels = table[text_column].to_pylist(), table["label"].to_numpy()
    for rows in (range(20), range(1000)):
        plain = make_pipeline(TfidfVectorizer(), _MODELS[name]()).fit(
            [texts[row] for row in rows], labels[list(rows)]
        )
        fitted = _make(name).fit([texts[row] for row in rows], labels[list(rows)], seed=3)
        assert fitted.predict(texts[2000:6000]).tolist() == plain.predict(texts[2000:6000]).tolist()


def test_the_linear_classifiers_do_not_disturb_each_other() -> None:
    # They share the counts of the texts.
    expected = {name: _make(name).fit(TEXTS, LABELS, seed=3).predict(TEST).tolist() for name in _MODELS}
    for name in [*_MODELS][::-1]:
        _make(name).fit(TEST[:3], np.array([0, 1, 2]), seed=3).predict(TEXTS)
        assert _make(name).fit(TEXTS, LABELS, seed=3).predict(TEST).tolist() == expected[name]


@pytest.mark.parametrize("name", _MODELS)
def test_training_texts_without_words_are_an_error(name: str) -> None:
    with pytest.raises(InputError) as caught:
        _make(name).fit(["- !", "x y"], np.array([0, 1]), seed=0)
    assert str(caught.value) == (
        "expected a word of two letters or more in at least one of 2 training texts, found none; "
        "use the classifier embedding-lr for such texts"
    )


# The probe


def test_the_probe_is_logistic_regression_on_the_vectors() -> None:
    embed = HashingEmbedder().embed
    plain = LogisticRegression(max_iter=1000).fit(embed(TEXTS), LABELS)
    fitted = _probe().fit(TEXTS, LABELS, seed=0)
    assert fitted.predict(TEST).tolist() == plain.predict(embed(TEST)).tolist()


def test_the_probe_records_the_embedder_fingerprint() -> None:
    assert _probe().describe() == {
        "class": "EmbeddingLogisticRegression",
        "version": 1,
        "fingerprint": HashingEmbedder().fingerprint().digest,
    }


def test_the_probe_takes_texts_without_words() -> None:
    fitted = _probe().fit(["😀", "😡"], np.array([0, 1]), seed=0)
    assert fitted.predict(["😡", "😀"]).tolist() == [1, 0]


def test_no_warning_of_a_library_reaches_the_user(recwarn: pytest.WarningsRecorder) -> None:
    # One text per class: scikit-learn would warn that the classes look like a regression target.
    texts, labels = [f"word{label} of class{label}" for label in range(30)], np.arange(30)
    embedder = HashingEmbedder()
    for name in ("logistic-regression", "linear-svm", "naive-bayes", "embedding-lr"):
        assert _make(name).fit(texts, labels, seed=0).predict(texts).tolist() == labels.tolist()
    probe_probabilities(embedder.embed(texts), labels)
    source = LabelledTexts(texts, labels, {label: str(label) for label in range(30)}, np.arange(30))
    assert probe("hashing", embedder.embed, source, source).accuracy == 1
    assert [str(warning.message) for warning in recwarn] == []
