"""The full data: the upper reference (section 4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from dallme.baselines.base import Baseline
from dallme.data import LabelledTexts, LabelledVectors


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
