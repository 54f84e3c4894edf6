"""Template sentences, short trainings, and progress displays that record or end them."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from dallme.embedders.hashing import HashingEmbedder
from dallme.progress import SilentProgress

SLOTS = (
    (
        "The chef",
        "A tired nurse",
        "My neighbour",
        "Our teacher",
        "The pilot",
        "An old sailor",
        "The young judge",
        "A farmer",
    ),
    ("bought", "painted", "lost", "repaired", "described", "sold", "found"),
    (
        "a red bicycle",
        "the wooden boat",
        "three silver coins",
        "an expensive camera",
        "the broken radio",
        "two green lamps",
    ),
    ("in Paris", "near the harbour", "on Monday", "after lunch", "for her son", "during the storm"),
)


EMBEDDER = HashingEmbedder()


def template_sentences(count: int = 200) -> list[str]:
    rng = random.Random(0)
    found: dict[str, None] = {}
    while len(found) < count:
        found[" ".join(rng.choice(slot) for slot in SLOTS) + "."] = None
    return list(found)


TEXTS = template_sentences()


FAST: dict[str, Any] = {"preset": "tiny", "device": "cpu", "batch_size": 16, "drafts": 32, "max_tokens": 16}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


class Notes(SilentProgress):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, message: str) -> None:
        self.lines.append(message)
