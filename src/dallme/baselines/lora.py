"""Low-rank adaptation on the full data: fewer trained parameters in place of fewer texts (Table 4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from dallme import registry
from dallme.baselines.base import ModelBaseline
from dallme.classifiers.base import Classifier
from dallme.classifiers.transformer import FittedPretrained, PretrainedClassifier
from dallme.data import LabelledTexts
from dallme.errors import InputError

#: Classifiers with the option ``lora_rank``.
CLASSIFIERS = ("transformer", "text-to-text", "causal")


@dataclass(frozen=True)
class LoRABaseline(ModelBaseline):
    """Fine-tuning of low-rank adapters and the new head of a pretrained transformer on the full data.

    Strong in memory: few gradients are stored. Weak in time: each step runs through the whole model, on all
    data.

    Reference: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022.

    Attributes:
        size_of_adapters: Rank of the adapters, such as ``8``, or share of the trained parameters, such as
            ``0.4%``.
    """

    argument: ClassVar[str | None] = "size_of_adapters"

    size_of_adapters: str = "0.8%"

    def __post_init__(self) -> None:
        """Checks the rank or share; nothing is loaded."""
        if self.share is None and self._number(self.size_of_adapters, int, 1, np.inf) is None:
            raise InputError(
                "expected lora:RANK with a whole number of at least 1, or a share in (0, 100) such as "
                f"lora:0.4%, found {self.size_of_adapters!r}"
            )

    @property
    def share(self) -> float | None:
        """Share of the parameters to train, in (0, 1); None if the rank is given."""
        text = self.size_of_adapters.strip()
        percent = self._number(text[:-1], float, 0, 100) if text.endswith("%") else None
        return percent / 100 if percent else None

    @staticmethod
    def _number(text: str, kind: type[int] | type[float], least: float, below: float) -> float | None:
        try:
            value = kind(text)
        except ValueError:
            return None
        return value if least <= value < below else None

    def fits(self, classifier_name: str) -> bool:
        """Returns whether the classifier is a pretrained transformer."""
        return registry.split("classifiers", classifier_name)[0].name in CLASSIFIERS

    def size(self, source: LabelledTexts, budget: Mapping[int, int]) -> int:
        """Counts all texts of the source."""
        return len(source)

    def trainer(self, classifier: Classifier, source: LabelledTexts, budget: Mapping[int, int]) -> Classifier:
        """Returns the classifier with adapters; to find their rank for a share, the model is loaded."""
        if not isinstance(classifier, PretrainedClassifier):
            raise InputError(
                f"expected one of {', '.join(CLASSIFIERS)} for the baseline lora, "
                f"found {type(classifier).__name__}"
            )
        rank = int(self.size_of_adapters) if self.share is None else find_rank(classifier, source, self.share)
        return replace(classifier, lora_rank=rank)


def find_rank(classifier: PretrainedClassifier, source: LabelledTexts, share: float) -> int:
    """Finds the rank, at least 1, with which about a share of the parameters is trained.

    With a parameters per rank, h in the head and n in all but the adapters, ::

        share = (h + a rank) / (n + a rank)

    The three are counted in a model that is trained for one step on a text of each class.

    Args:
        classifier: The classifier.
        source: The source; its classes determine the size of the head.
        share: In (0, 1).
    """
    rows = np.unique(source.labels, return_index=True)[1]
    small = replace(classifier, lora_rank=1, steps=1).with_label_names(source.label_names)
    fitted = small.fit([source.texts[row] for row in rows], source.labels[rows], seed=0)
    assert isinstance(fitted, FittedPretrained)
    sizes = [(name, part.numel(), part.requires_grad) for name, part in fitted.model.named_parameters()]
    per_rank: int = sum(size for name, size, _ in sizes if "lora_" in name)
    head: int = sum(size for name, size, trained in sizes if trained and "lora_" not in name)
    others: int = sum(size for name, size, _ in sizes if "lora_" not in name)
    return max(1, round((share * others - head) / (per_rank * (1 - share))))
