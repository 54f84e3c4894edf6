"""Classifiers that record how they are trained, and invented rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from dallme.classifiers.base import Classifier, FittedClassifier
from dallme.classifiers.training import NeuralClassifier
from dallme.data import LabelledTexts


@dataclass(frozen=True)
class Fit:
    """One training that a spy made."""

    texts: tuple[str, ...]
    seed: int
    rate: float | None = None
    steps: int | None = None
    tested: tuple[str, ...] = ()


#: The trainings since the test began.
FITS: list[Fit] = []


class Fitted(FittedClassifier):
    """Says `no` for all texts but a share of them."""

    def __init__(self, place: int, share: float) -> None:
        self.place, self.share = place, share

    def _predict(self, texts: list[str]) -> np.ndarray:
        FITS[self.place] = replace(FITS[self.place], tested=tuple(texts))
        return (np.arange(len(texts)) < self.share * len(texts)).astype(np.int64)


@dataclass(frozen=True)
class Plain(Classifier):
    """A spy that does not vary."""

    option: int = 0

    varies = False

    def _fit(self, texts: list[str], labels: np.ndarray, seed: int) -> FittedClassifier:
        FITS.append(Fit(tuple(texts), seed))
        return Fitted(len(FITS) - 1, 0)


@dataclass(frozen=True, kw_only=True)
class Neural(NeuralClassifier):
    """A spy with the options of neural classifiers; on rows of the class `no` 1e-4 and 5e-4 are equally good."""

    shares: ClassVar[dict[float, float]] = {1e-5: 0.5, 1e-4: 0.25, 5e-4: 0.25, 5e-3: 0.75}

    def _fit(self, texts: list[str], labels: np.ndarray, seed: int) -> FittedClassifier:
        FITS.append(Fit(tuple(texts), seed, self.learning_rate, self.total_steps(len(texts))))
        return Fitted(len(FITS) - 1, self.shares.get(self.learning_rate, 0))


def labelled(texts: Sequence[str], labels: Sequence[int]) -> LabelledTexts:
    return LabelledTexts(list(texts), np.array(labels), {0: "no", 1: "yes"}, np.arange(len(texts)))


def rows(count: int, word: str = "row", ones: int = 2) -> LabelledTexts:
    """Different texts, the last few of class `yes`."""
    return labelled(
        [f"{word} {row} of some words." for row in range(count)], [0] * (count - ones) + [1] * ones
    )


class Counting:
    """Progress that is written down."""

    def __init__(self) -> None:
        self.totals: dict[str, int] = {}
        self.done: dict[str, int] = {}
        self.notes: list[str] = []

    @contextmanager
    def task(self, description: str, total: int) -> Iterator[Any]:
        self.totals[description], self.done[description] = total, 0
        counting = self

        class Task:
            def advance(self, steps: int = 1) -> None:
                counting.done[description] += steps

        yield Task()

    def note(self, message: str) -> None:
        self.notes.append(message)
