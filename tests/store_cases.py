"""Stores of vectors that are computed from their keys."""

import numpy as np

from dallme.data import Fingerprint
from dallme.embedders.cache import EmbeddingStore, text_keys

FINGERPRINT = Fingerprint("fake", weights="1", dimension=4)


def batch(number, size=20):
    return text_keys([f"text {number * size + i}" for i in range(size)])


def vectors_of(keys):
    return np.concatenate([keys % 1000, keys % 7], axis=1).astype(np.float32)


def filled(folder, batches=3):
    table = EmbeddingStore(folder).table(FINGERPRINT)
    for number in range(batches):
        table.append(batch(number), vectors_of(batch(number)))
    return table


def reopened(folder):
    return EmbeddingStore(folder).table(FINGERPRINT)


def shards(folder):
    return sorted(folder.rglob("*.arrow"))


def all_keys(batches):
    return np.concatenate([batch(number) for number in batches])
