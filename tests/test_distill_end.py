"""Notes at the end of `distill`."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dallme import DistilledDataset, Distiller
from dallme.cli.distill import thin_notes


@pytest.fixture(scope="module")
def distilled() -> DistilledDataset:
    texts = [f"{word} film {row}" for row in range(40) for word in ("fine", "dull")]
    labels = ["good", "bad"] * 40
    return Distiller(per_class=2, embedder="hashing", decoder="nearest").distill(texts, labels)


def _with_weights(distilled: DistilledDataset, *weights: float) -> DistilledDataset:
    return replace(distilled, weights=np.array(weights))


def test_texts_of_very_few_rows_are_named(distilled: DistilledDataset) -> None:
    (note,) = thin_notes(_with_weights(distilled, 39, 1, 38, 2))
    assert note.startswith("2 of 4 texts stand for fewer than 3 rows each (texts 1, 3): ")
    (note,) = thin_notes(_with_weights(distilled, 39, 1, 20, 20))
    assert "(text 1)" in note


def test_small_clusters_of_a_small_source_are_not(distilled: DistilledDataset) -> None:
    assert thin_notes(_with_weights(distilled, 3, 3, 38, 36)) == []
    assert thin_notes(_with_weights(distilled, 2, 1, 2, 1)) == []
