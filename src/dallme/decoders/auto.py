"""Choice of the decoder on held-out rows of the user's own data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from dallme import registry
from dallme.data import Prototypes
from dallme.decoders.base import Context, Decoder, DecodingResult
from dallme.decoders.holdout import EMBEDDING_LR, HoldoutSplit
from dallme.errors import DallmeError, InputError
from dallme.validation import check_positive


@dataclass(frozen=True)
class AutoDecoder(Decoder):
    """Tries decoders on a part of the source and uses the one whose texts train the best classifiers.

    A share of the rows of each cluster is held out. Each candidate writes a set from the others. Classifiers
    are trained on that set alone, and their accuracy on the held-out rows is averaged. The best candidate
    then writes the set from all rows. The candidate named first wins a tie, and is used if too few rows can
    be held out. The manifest records the scores (``decoding.auto``). The test set is never read.

    Prefer it if nothing is known about the data. It takes as long as its candidates together.

    Attributes:
        candidates: Names of decoders, separated by commas, each with its argument if it takes one. A
            candidate that cannot decode the source, such as an inverter of another embedder, is skipped.
        classifiers: Names of the classifiers, separated by commas. ``embedding-lr`` is skipped with ready
            vectors.
        share: Share of the rows that is held out, in (0, 1).
        most: Maximum number of rows that are held out.
    """

    argument: ClassVar[str] = "candidates"

    candidates: str = "teaching,extractive,nearest,vec2text"
    classifiers: str = "logistic-regression,naive-bayes,embedding-lr"
    share: float = 0.2
    most: int = 4000

    def __post_init__(self) -> None:
        """Checks the names and numbers; nothing is loaded but the candidates' code."""
        for name in _split_names(self.candidates, "candidates"):
            if registry.split("decoders", name)[0].name == "auto":
                raise InputError("expected other decoders as candidates of 'auto', found 'auto' itself")
            registry.make("decoders", name)
        for name in _split_names(self.classifiers, "classifiers"):
            registry.split("classifiers", name)
        if isinstance(self.share, bool) or not isinstance(self.share, float) or not 0 < self.share < 1:
            raise InputError(f"expected share to be a number between 0 and 1, found {self.share!r}")
        check_positive(self.most, "most")

    def _decode(self, prototypes: Prototypes, context: Context, rng: np.random.Generator) -> DecodingResult:
        seed = int(rng.integers(2**32))
        names = _split_names(self.candidates, "candidates")
        classifiers = _split_names(self.classifiers, "classifiers")
        if context.embedder is None:
            classifiers = [name for name in classifiers if name != EMBEDDING_LR]
        split = HoldoutSplit.split(prototypes, context, rng, share=self.share, most=self.most)
        scores: dict[str, dict[str, float]] = {}
        left_out: dict[str, str] = {}
        cost = 0.0
        if split is not None and len(names) > 1 and classifiers:
            for name in names:
                try:
                    result = registry.make("decoders", name).decode(
                        split.prototypes, split.context, seed=seed
                    )
                    cost += result.metadata.get("cost_usd", 0.0)
                    accuracies = split.score(result.texts, classifiers)
                except DallmeError as error:
                    left_out[name] = str(error)
                    continue
                scores[name] = accuracies | {"mean": float(np.mean(list(accuracies.values())))}
        chosen = max(scores, key=lambda name: scores[name]["mean"], default=names[0])
        final: DecodingResult = registry.make("decoders", chosen).decode(prototypes, context, seed=seed)
        choice = {
            "chosen": chosen,
            "held_out_rows": len(split.texts) if split and scores else 0,
            "scores": scores,
            "left_out": left_out,
        }
        context.progress.note(explain(choice))
        metadata = {**final.metadata, "auto": choice}
        if cost:
            metadata["cost_usd"] = cost + final.metadata.get("cost_usd", 0.0)
        return DecodingResult(final.texts, metadata, chosen)


def _split_names(names: str, option: str) -> list[str]:
    """Splits names at commas, each once.

    Raises:
        InputError: If there is none.
    """
    parts = list(dict.fromkeys(name.strip() for name in names.split(",") if name.strip()))
    if not parts:
        raise InputError(f"expected {option} as names separated by commas, found {names!r}")
    return parts


def explain(choice: Mapping[str, Any]) -> str:
    """Says in one line why a decoder was chosen.

    Args:
        choice: The manifest's entry ``decoding.auto``.
    """
    scores = choice["scores"]
    if not scores:
        return f"auto: {choice['chosen']}, the first candidate; too few rows or candidates to compare"
    ranked = sorted(scores.items(), key=lambda item: -item[1]["mean"])
    means = ", ".join(f"{name} {accuracies['mean']:.3f}" for name, accuracies in ranked)
    classifiers = ", ".join(name for name in ranked[0][1] if name != "mean")
    rows = f"{choice['held_out_rows']:,} held-out rows"
    left_out = f"; left out: {', '.join(choice['left_out'])}" if choice["left_out"] else ""
    return f"auto: {choice['chosen']}; mean accuracy of {classifiers} on {rows}: {means}{left_out}"
