"""Stored results of training runs: what they depend on, and damage."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dallme.classifiers.base import Classifier, FittedClassifier
from dallme.data import LabelledTexts
from dallme.embedders.cache import CachedEmbedder
from dallme.evaluation.evaluate import make_classifiers, score
from dallme.evaluation.results import ResultStore, result_key, train_and_test
from protocol_cases import FITS, Counting, Neural, Plain, labelled, rows


@pytest.fixture(autouse=True)
def no_fits() -> None:
    FITS.clear()


def test_a_second_run_trains_nothing_and_gives_the_same(tmp_path: Path) -> None:
    store, train, test = ResultStore(tmp_path / "results"), rows(6), rows(9, "other")
    first = score(Neural(), "spy", [train], test, runs=3, seed=5, results=store)
    assert [fit.seed for fit in FITS] == [5, 6, 7]
    assert score(Neural(), "spy", [train], test, runs=3, seed=5, results=store) == first
    assert len(FITS) == 3
    assert score(Neural(), "spy", [train], test, runs=3, seed=5) == replace(
        first, seconds=pytest.approx(first.seconds, abs=1)
    )
    assert len(FITS) == 6  # without a store


def test_whatever_a_result_depends_on_trains_again(tmp_path: Path) -> None:
    store, train, test = ResultStore(tmp_path), rows(6), rows(9, "other")
    train_and_test(Plain(), train, test, seed=0, results=store)
    turned = labelled(train.texts, train.labels[::-1].tolist())
    changes: list[tuple[Classifier, LabelledTexts, LabelledTexts, int]] = [
        (Plain(option=1), train, test, 0),
        (Plain(), rows(6, "Row"), test, 0),
        (Plain(), turned, test, 0),
        (Plain(), train, rows(9, "others"), 0),
        (Plain(), train, test, 1),
        (Neural(), train, test, 0),
        (Neural(batch_size=2), train, test, 0),
    ]
    for place, (classifier, texts, tested, seed) in enumerate(changes):
        train_and_test(classifier, texts, tested, seed=seed, results=store)
        assert len(FITS) == place + 2
    train_and_test(Plain(), rows(6), rows(9, "other"), seed=0, results=store)
    assert len(FITS) == len(changes) + 1


def test_a_new_version_of_a_library_trains_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def key(classifier: Classifier) -> str | None:
        return result_key(classifier, rows(4), rows(4), 0)

    before = key(Plain()), key(Neural())
    monkeypatch.setattr(
        "dallme.evaluation.results.package_version", lambda name: "99" if name == "torch" else "1"
    )
    other = key(Plain()), key(Neural())
    monkeypatch.setattr(
        "dallme.evaluation.results.package_version", lambda name: "98" if name == "torch" else "1"
    )
    assert key(Plain()) == other[0]  # which does not care for torch
    assert key(Neural()) != other[1]
    assert not set(before) & set(other)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b'{"accuracy": 0.5}', b"\xff", b'{"accuracy": "x"}']
)
def test_a_damaged_file_counts_as_none(tmp_path: Path, content: bytes) -> None:
    store = ResultStore(tmp_path)
    expected = train_and_test(Plain(), rows(6), rows(4), seed=0, results=store)
    (file,) = tmp_path.rglob("*.json")
    assert file.parent.name == file.name[:2]
    assert json.loads(file.read_text())["accuracy"] == expected.accuracy == 0.5
    file.write_bytes(content)
    assert train_and_test(Plain(), rows(6), rows(4), seed=0, results=store).accuracy == 0.5
    assert len(FITS) == 2
    assert train_and_test(Plain(), rows(6), rows(4), seed=0, results=store).accuracy == 0.5
    assert len(FITS) == 2


def test_a_flipped_digit_counts_as_none(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    kept = train_and_test(Plain(), rows(6), rows(4), seed=0, results=store)
    (file,) = tmp_path.rglob("*.json")
    content = json.loads(file.read_text())
    assert store.get(file.stem) == kept
    file.write_text(json.dumps(content | {"accuracy": 0.75}))
    assert store.get(file.stem) is None
    del content["crc32"]  # as earlier versions wrote it
    file.write_text(json.dumps(content))
    assert store.get(file.stem) == kept


def test_an_accuracy_out_of_range_counts_as_none(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    found = train_and_test(Plain(), rows(6), rows(4), seed=0)
    store.put("ab", replace(found, accuracy=float("nan")))
    assert store.get("ab") is None
    store.put("ab", found)
    assert store.get("ab") == found


def test_a_run_that_fails_leaves_nothing(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Interrupted(Plain):
        def _fit(self, texts: list[str], labels: np.ndarray, seed: int) -> FittedClassifier:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_and_test(Interrupted(), rows(6), rows(4), seed=0, results=ResultStore(tmp_path / "kept"))
    assert not (tmp_path / "kept").exists()


def test_a_folder_that_cannot_be_written_costs_no_result(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    progress = Counting()
    found = train_and_test(
        Plain(), rows(6), rows(4), seed=0, results=ResultStore(tmp_path / "file", progress)
    )
    assert found.accuracy == 0.5
    assert progress.notes == [
        f"a result cannot be stored in {tmp_path / 'file'}: Not a directory; it is computed again next time"
    ]


def test_what_an_unknown_embedder_gives_is_not_kept(tmp_path: Path) -> None:
    class Encoder:
        def encode(self, texts: list[str]) -> np.ndarray:
            return np.array([[len(text), 1.0] for text in texts])

    def probe(embedder: Any) -> Classifier:
        return make_classifiers(["elr"], CachedEmbedder(embedder))["embedding-lr"]

    assert result_key(probe(Encoder()), rows(4), rows(4), 0) is None
    known = result_key(probe("hashing"), rows(4), rows(4), 0)
    assert known is not None
    assert known == result_key(probe("hashing"), rows(4), rows(4), 0)
    train_and_test(probe(Encoder()), rows(4), rows(4), seed=0, results=ResultStore(tmp_path / "kept"))
    assert not (tmp_path / "kept").exists()
