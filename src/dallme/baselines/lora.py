"""Low-rank adapters on the full data: fewer parameters in place of fewer texts (Table 4)."""

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

#: The classifiers that have the option ``lora_rank``.
CLASSIFIERS = ("transformer", "text-to-text", "causal")


@dataclass(frozen=True)
class LoRABaseline(ModelBaseline):
    """Trains a pretrained transformer on the full data, but only low-rank adapters and its new head.

    Reference: Hu et al., LoRA: Low-Rank Adaptation of Large Language Models, 2022.

    Strong in memory: there are few gradients to keep. Weak in time: each step still runs through the whole
    model, on all the data.

    Attributes:
        size_of_adapters: Rank of the adapters, such as ``8``, or share of the parameters that is trained,
            such as ``0.4%``.
    """

    argument: ClassVar[str | None] = "size_of_adapters"

    size_of_adapters: str = "0.8%"

    def __post_init__(self) -> None:
        """Checks the rank or share; nothing is loaded."""
        if self.share is None and self._number(self.size_of_adapters, int, 1, np.inf) is None:
            raise InputError(
                f"expected lora:RANK with a whole number of at least 1, or a share in (0, 100) such as lora:0.4%, "
                f"found {self.size_of_adapters!r}"
            )

    @property
    def share(self) -> float | None:
        """Share of the parameters that is to be trained, in (0, 1); None if the rank is given."""
        text = self.size_of_adapters.strip()
        found = self._number(text[:-1], float, 0, 100) if text.endswith("%") else None
        return None if found is None or found == 0 else found / 100

    @staticmethod
    def _number(text: str, kind: type[int] | type[float], least: float, below: float) -> float | None:
        try:
            value = kind(text)
        except ValueError:
            return None
        return value if least <= value < below else None

    def fits(self, classifier_name: str) -> bool:
        """Whether it is a pretrained transformer."""
        return registry.split("classifiers", classifier_name)[0].name in CLASSIFIERS

    def size(self, source: LabelledTexts, budget: Mapping[int, int]) -> int:
        """All texts of the source."""
        return len(source)

    def trainer(self, classifier: Classifier, source: LabelledTexts, budget: Mapping[int, int]) -> Classifier:
        """The classifier with adapters; the model is loaded where their rank is to be found."""
        if not isinstance(classifier, PretrainedClassifier):
            raise InputError(
                f"expected one of {', '.join(CLASSIFIERS)} for the baseline lora, found {type(classifier).__name__}"
            )
        rank = int(self.size_of_adapters) if self.share is None else find_rank(classifier, source, self.share)
        return replace(classifier, lora_rank=rank)


def find_rank(classifier: PretrainedClassifier, source: LabelledTexts, share: float) -> int:
    """The rank of adapters with which about a share of the parameters is trained, at least 1.

    With a parameters a rank, h in the head and n in all but the adapters, ::

        share = (h + a rank) / (n + a rank)

    a, h and n are counted in a model that is trained for one step on a text of each class.

    Args:
        classifier: The classifier.
        source: The source, whose classes decide the size of the head.
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
