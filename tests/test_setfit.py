"""SetFit as a classifier."""

from __future__ import annotations

import random

import numpy as np
import pytest

from dallme import registry
from dallme.data import LabelledTexts
from dallme.errors import InputError, ModelNotFoundError
from dallme.evaluation import results

pytest.importorskip("setfit")

TEXTS = ["a good film", "great fun", "a fine play", "an awful film", "a bad one", "a dull play"]
LABELS = np.array([7, 7, 7, -2, -2, -2])


def test_it_learns_the_same_model_from_the_same_seed(capsys: pytest.CaptureFixture[str]) -> None:
    classifier = registry.make("classifiers", "setfit", steps=4, device="cpu")
    random.seed(3)
    np.random.seed(3)  # noqa: NPY002
    first = classifier.fit(TEXTS, LABELS, seed=0)
    numbers = random.random(), np.random.random()  # noqa: NPY002
    assert first.predict(["a good play", "a dull film"]).tolist() == [7, -2]
    other = classifier.fit(TEXTS, LABELS, seed=0)
    vectors = [fitted.model.model_body.encode(TEXTS) for fitted in (first, other)]
    np.testing.assert_array_equal(*vectors)
    assert capsys.readouterr() == ("", "")
    # The libraries seed the global generators; the user's stay as they are.
    random.seed(3)
    np.random.seed(3)  # noqa: NPY002
    assert numbers == (random.random(), np.random.random())  # noqa: NPY002


def test_the_weights_are_part_of_its_description() -> None:
    classifier = registry.make("classifiers", "setfit")
    assert classifier.describe()["weights"]
    assert classifier.describe()["iterations"] == 20


def test_the_steps_stop_growing_with_the_texts() -> None:
    classifier = registry.make("classifiers", "setfit")
    assert classifier.total_steps(40) == 2 * 20 * 40 / 16
    assert classifier.total_steps(1_000) == 2 * 8 * 1_000 / 16
    assert classifier.total_steps(8_000) == classifier.total_steps(100_000) == 1_000
    assert registry.make("classifiers", "setfit", epochs=2).total_steps(100_000) == 2_000
    limited = registry.make("classifiers", "setfit", steps=30)
    assert (limited.total_steps(4), limited.total_steps(40)) == (10, 30)  # a limit adds no step


def test_a_new_version_of_setfit_trains_again(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = LabelledTexts(TEXTS, LABELS, {7: "good", -2: "bad"}, np.arange(len(TEXTS)))
    classifier = registry.make("classifiers", "setfit")
    before = results.result_key(classifier, rows, rows, 0)
    monkeypatch.setattr(results, "package_version", lambda name: "99" if name == "setfit" else "1")
    one = results.result_key(classifier, rows, rows, 0)
    monkeypatch.setattr(results, "package_version", lambda name: "1")
    assert len({before, one, results.result_key(classifier, rows, rows, 0)}) == 3


@pytest.mark.parametrize("option", ["iterations", "epochs", "steps", "batch_size", "max_tokens"])
def test_options_are_checked(option: str) -> None:
    with pytest.raises(InputError, match=option):
        registry.make("classifiers", "setfit", **{option: 0})


def test_a_model_that_is_nowhere_is_found_out_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelNotFoundError):
        registry.make("classifiers", "setfit:nowhere/at-all").find()
