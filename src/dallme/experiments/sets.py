"""The sets of texts that a method makes, kept beside the results: making them takes longer than training on them.

Cells that differ in the classifier alone share them, whatever process computes them, and so do the experiments of an edition.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dallme.data import LabelledTexts
from dallme.distilled import DistilledDataset
from dallme.durable import alone, checksum, replace_file


@dataclass(frozen=True)
class MadeSets:
    """The sets of texts of one method.

    Attributes:
        texts: The sets, those of the first seeds first.
        nearness: Of a decoder's first set, the mean cosine of texts to their prototypes (``prototype_cosine``) and the share of
            the texts whose label a linear probe agrees with (``label_agrees``), None where they are not known; of a baseline
            nothing.
    """

    texts: tuple[LabelledTexts, ...]
    nearness: Mapping[str, float | None]


def nearness(distilled: DistilledDataset) -> dict[str, float | None]:
    """What :class:`MadeSets` says of a decoder's texts."""
    cosines = [each.cosine for each in distilled.lineage if each.cosine is not None]
    agree = [each.label_agrees for each in distilled.lineage if each.label_agrees is not None]
    return {
        "prototype_cosine": float(np.mean(cosines)) if cosines else None,
        "label_agrees": float(np.mean(agree)) if agree else None,
    }


def kept_sets(path: Path, count: int, like: LabelledTexts, make: Callable[[], MadeSets]) -> MadeSets:
    """The first sets of a file; where it has fewer, is damaged or is not there, they are made, and the file is written.

    A process that wants what another one is making waits for it.

    Args:
        path: The file; its folder is made.
        count: How many sets are wanted; those of a method do not depend on it.
        like: The source, whose classes they have.
        make: Makes as many.

    Raises:
        OSError: If the folder cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with alone(path.with_suffix(".lock")):
        found = _read(path, like)
        if found is None or len(found.texts) < count:
            found = make()
            content = json.dumps(
                {
                    "nearness": dict(found.nearness),
                    "sets": [{"texts": list(each.texts), "labels": each.labels.tolist()} for each in found.texts],
                }
            )
            replace_file(path, json.dumps({"crc32": checksum(content.encode()), "content": content}).encode())
    return MadeSets(found.texts[:count], found.nearness)


def _read(path: Path, like: LabelledTexts) -> MadeSets | None:
    try:
        outer = json.loads(path.read_bytes())
        if outer["crc32"] != checksum(outer["content"].encode()):
            return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError):  # not there, or damaged
        return None
    content = json.loads(outer["content"])
    return MadeSets(tuple(_like(like, each["texts"], each["labels"]) for each in content["sets"]), content["nearness"])


def _like(source: LabelledTexts, texts: list[str], labels: list[int]) -> LabelledTexts:
    return LabelledTexts(texts, np.array(labels, dtype=np.int64), source.label_names, np.arange(len(texts)), source.source)
