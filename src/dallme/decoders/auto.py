"""Leaves the choice of the decoder to a trial on the user's own rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from dallme import registry
from dallme.data import DecodedText, Prototypes
from dallme.decoders.base import Context, Decoder
from dallme.decoders.holdout import EMBEDDING_STUDENT, HoldoutSplit
from dallme.errors import DallmeError, InputError
from dallme.validation import check_positive


@dataclass(frozen=True)
class AutoDecoder(Decoder):
    """Tries decoders on a part of the source and takes the one whose texts teach classifiers most about the rest.

    A share of the rows of each cluster is held out. Each candidate writes a set from what is left, the students are trained on
    that set alone, and their accuracy on the held-out rows is averaged; the best candidate then writes the set from all rows.
    The first named wins a tie, and is taken where there are too few rows to hold any out. The scores go into the manifest
    (``decoding.auto``). The test set is never looked at.

    Prefer it where nothing is known about the data; it takes as long as its candidates together.

    Attributes:
        candidates: Names of decoders, separated by commas, each with its argument if it takes one. ``vec2text`` is passed over
            where its inverter does not fit the embedder.
        students: Names of classifiers, separated by commas. ``embedding-lr`` is passed over where vectors were handed over.
        share: Share of the rows that is held out, in (0, 1).
        most: Most rows that are held out.
    """

    argument: ClassVar[str] = "candidates"

    candidates: str = "teaching,extractive,nearest,vec2text"
    students: str = "logistic-regression,naive-bayes,embedding-lr"
    share: float = 0.2
    most: int = 4000

    def __post_init__(self) -> None:
        """Checks the names and numbers; nothing is loaded but the candidates' code."""
        for name in self._names(self.candidates, "candidates"):
            if registry.split("decoders", name)[0].name == "auto":
                raise InputError("expected other decoders as candidates of 'auto', found 'auto' itself")
            registry.make("decoders", name)
        for student in self._names(self.students, "students"):
            registry.split("classifiers", student)
        if isinstance(self.share, bool) or not isinstance(self.share, float) or not 0 < self.share < 1:
            raise InputError(f"expected share to be a number between 0 and 1, found {self.share!r}")
        check_positive(self.most, "most")

    def _decode(
        self, prototypes: Prototypes, context: Context, rng: np.random.Generator
    ) -> list[DecodedText]:
        seed = int(rng.integers(2**32))
        names, students = self._names(self.candidates, "candidates"), self._names(self.students, "students")
        if context.embedder is None:
            students = [student for student in students if student != EMBEDDING_STUDENT]
        trial = HoldoutSplit.split(prototypes, context, rng, share=self.share, most=self.most)
        scores: dict[str, dict[str, float]] = {}
        left_out: dict[str, str] = {}
        cost = 0.0
        for name in names if trial and len(names) > 1 and students else ():
            assert trial is not None
            part = replace(trial.context, findings={})
            try:
                decoder = self._make(name, context)
                scores[name] = trial.score(decoder.decode(trial.prototypes, part, seed=seed), students)
            except DallmeError as error:  # a candidate that cannot do it is none
                left_out[name] = str(error)
            cost += part.findings.get("cost_usd", 0.0)
        means = {name: float(np.mean(list(found.values()))) for name, found in scores.items()}
        chosen = max(means, key=lambda name: means[name]) if means else names[0]
        final = replace(context, findings={})
        decoded: list[DecodedText] = registry.make("decoders", chosen).decode(prototypes, final, seed=seed)
        held_out = len(trial.texts) if trial and scores else 0
        context.findings.update(final.findings)
        if cost:
            context.findings["cost_usd"] = cost + final.findings.get("cost_usd", 0.0)
        context.findings["decoder"] = chosen
        context.findings["auto"] = {
            "chosen": chosen,
            "held_out_rows": held_out,
            "scores": {name: {**found, "mean": means[name]} for name, found in scores.items()},
            "left_out": left_out,
        }
        context.progress.note(explain(context.findings["auto"]))
        return decoded

    @staticmethod
    def _make(name: str, context: Context) -> Decoder:
        """A candidate, if it fits.

        Raises:
            DallmeError: If it does not.
        """
        decoder: Decoder = registry.make("decoders", name)
        if registry.split("decoders", name)[0].name == "vec2text":
            from dallme.decoders.vec2text.inverter import check_fit, find_inverter
            from dallme.decoders.vec2text.model import InverterConfig

            folder = find_inverter(getattr(decoder, "inverter", ""))
            check_fit(InverterConfig.read(folder), folder, context.vectors.fingerprint)
        return decoder

    @staticmethod
    def _names(given: str, what: str) -> list[str]:
        names = list(dict.fromkeys(name.strip() for name in given.split(",") if name.strip()))
        if not names:
            raise InputError(f"expected {what} as names separated by commas, found {given!r}")
        return names


def explain(found: Mapping[str, Any]) -> str:
    """Why a decoder was chosen, in one line.

    Args:
        found: What the manifest holds about it, ``decoding.auto``.
    """
    if not found["scores"]:
        return f"auto: {found['chosen']}, the first candidate, as there is nothing to try the candidates on or against"
    ranked = sorted(found["scores"].items(), key=lambda item: -item[1]["mean"])
    told = ", ".join(f"{name} {scores['mean']:.3f}" for name, scores in ranked)
    students = ", ".join(student for student in ranked[0][1] if student != "mean")
    line = f"auto: {found['chosen']}; mean accuracy of {students} on {found['held_out_rows']:,} held-out rows: {told}"
    return line + (f"; left out: {', '.join(found['left_out'])}" if found["left_out"] else "")
