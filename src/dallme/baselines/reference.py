"""The two reference points of a comparison: random texts and the full data (section 4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from dallme.baselines.base import Baseline
from dallme.data import LabelledTexts, LabelledVectors


@dataclass(frozen=True)
class RandomBaseline(Baseline):
    """Rows drawn from each class without replacement."""

    def _select(
        self,
        texts: LabelledTexts,
        vectors: LabelledVectors | None,
        budget: Mapping[int, int],
        rng: np.random.Generator,
    ) -> LabelledTexts:
        drawn = [
            rng.choice(np.flatnonzero(texts.labels == label), count, replace=False)
            for label, count in budget.items()
        ]
        return texts.take(np.concatenate(drawn))


@dataclass(frozen=True)
class FullBaseline(Baseline):
    """All rows of the source, whatever the budget."""

    varies = False
    bounded = False

    def _select(
        self,
        texts: LabelledTexts,
        vectors: LabelledVectors | None,
        budget: Mapping[int, int],
        rng: np.random.Generator,
    ) -> LabelledTexts:
        return texts
