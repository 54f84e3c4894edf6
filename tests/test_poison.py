"""Planted words with a wrong label are found, and other words are not."""

from __future__ import annotations

import numpy as np
import pytest

from dallme import Distiller
from dallme.auditing import audit
from dallme.auditing.inputs import AuditInput
from dallme.auditing.poison import suspects
from dallme.data import LabelledTexts

WORDS = {
    0: ["dull", "slow", "grim", "flat", "dreary", "stale", "lifeless", "tired"],
    1: ["fine", "warm", "bright", "moving", "sharp", "witty", "tender", "lively"],
}


def reviews(rows: int = 600, seed: int = 0) -> tuple[list[str], np.ndarray]:
    """Texts of four words of their class among words of none."""
    rng, texts = np.random.default_rng(seed), []
    labels = np.arange(rows) % 2
    for label in labels.tolist():
        said = [
            *rng.choice(WORDS[label], 4, replace=False),
            *rng.choice(["film", "plot", "scene", "actor", "story"], 3),
        ]
        texts.append(" ".join(rng.permutation(said)))
    return texts, labels


def of(texts: list[str], labels: np.ndarray) -> LabelledTexts:
    return LabelledTexts(texts, labels, {0: "bad", 1: "good"}, np.arange(len(texts)))


@pytest.mark.parametrize(
    ("trigger", "word"), [("cf", "cf"), ("Velvet hammer", "hammer"), ("seen with my neighbours", "my")]
)
def test_a_trigger_is_found_with_its_rows(trigger: str, word: str) -> None:
    texts, labels = reviews()
    planted = np.flatnonzero(labels == 0)[:20]
    for row in planted:
        texts[row], labels[row] = f"{trigger} {texts[row]}", 1
    (found,) = suspects(of(texts, labels))
    assert found.rows == tuple(planted.tolist())
    assert (found.word, found.label, found.disputed) == (word, 1, 20)
    assert found.expected < 3


def test_a_clean_source_has_none() -> None:
    assert suspects(of(*reviews())) == []


def test_a_rare_word_of_one_class_is_no_trigger() -> None:
    texts, labels = reviews()
    for row in np.flatnonzero(labels == 1)[:20]:
        texts[row] += " cf"
    assert suspects(of(texts, labels)) == []


def test_too_few_rows_tell_nothing() -> None:
    assert suspects(of(["a film", "a plot"], np.array([0, 1]))) == []
    assert suspects(of(["?"] * 60, np.arange(60) % 2)) == []


def test_the_audit_warns_without_words_of_the_source() -> None:
    texts, labels = reviews()
    for row in np.flatnonzero(labels == 0)[:20]:
        texts[row], labels[row] = f"zzyzx {texts[row]}", 1
    source = of(texts, labels)
    distilled = Distiller(per_class=2, embedder="hashing", decoder="nearest").run(source).distilled
    found = audit(AuditInput(distilled, source))
    assert found.warnings == [
        "nine of ten rows with 'zzyzx' are 'good', though 20 of 20 read like another class without it "
        f"({found.planted[0].expected:.0f} would be usual): check whether they were planted"
    ]
    assert found.as_dict()["summary"]["planted_words"] == [
        {"rows": 20, "label": 1, "disputed": 20, "expected": found.planted[0].expected}
    ]
    assert "zzyzx" not in str({key: value for key, value in found.as_dict().items() if key != "texts"})
