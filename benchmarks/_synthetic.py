"""Synthetic texts from the sentences of real ones."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq

from _common import data_folder
from dallme.text import clean, sentences


def make_texts(rows: int, classes: int | None = None, seed: int = 0) -> tuple[list[str], np.ndarray]:
    """Texts of two sentences drawn from AG-News rows of one class, nearly all different.

    Args:
        rows: Number of texts.
        classes: Classes to divide them into, alike in size: each has its own part of the sentences of a real
            class, of at least 20, some of which it shares with its neighbours where there are not enough.
            None keeps the real ones.
        seed: Seed of the draws.

    Returns:
        The texts, and their labels, int64 of shape (rows,).
    """
    table = pq.read_table(data_folder() / "ag_news" / "train.parquet", columns=["text", "label"])
    real = np.array(table["label"].to_pylist())
    pools: dict[int, list[str]] = {label: [] for label in np.unique(real).tolist()}
    for text, label in zip(table["text"].to_pylist(), real.tolist(), strict=True):
        pools[label] += [sentence for sentence in sentences(clean(text)) if len(sentence.split()) >= 4]
    rng = np.random.default_rng(seed)
    count = classes or len(pools)
    labels = np.arange(rows) % count
    of_one = -(-count // len(pools))  # parts of a real class
    parts: list[list[str]] = []
    for label in range(count):
        pool = pools[label % len(pools)]
        size = max(20, len(pool) // of_one)
        start = label // len(pools) * len(pool) // of_one
        parts.append([pool[place % len(pool)] for place in range(start, start + size)])
    first, second = rng.random(rows), rng.random(rows)
    texts = []
    for label, one, two in zip(labels.tolist(), first.tolist(), second.tolist(), strict=True):
        pool = parts[label]
        texts.append(f"{pool[int(one * len(pool))]} {pool[int(two * len(pool))]}")
    return texts, labels
