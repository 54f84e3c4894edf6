"""Splits of labelled texts: rows that are held out to test on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dallme.data import LabelledTexts
from dallme.errors import InputError
from dallme.text import text_keys


def split(texts: LabelledTexts, share: float, *, seed: int = 0) -> tuple[LabelledTexts, LabelledTexts]:
    """Holds out a share of the texts of each class, to test on.

    Equal texts stay on one side, and the order of the rows has no effect. Every class keeps a text.

    Args:
        texts: All rows.
        share: Share that is held out, in (0, 1).
        seed: Seed of the choice.

    Returns:
        The remaining rows, with the same notes and `source_digest`, and the held-out rows.

    Raises:
        InputError: If the share is out of range.

    Example:
        >>> from dallme import read
        >>> rest, test = split(read(["a", "b", "c", "d"], [0, 1, 0, 1]), 0.5)
        >>> len(rest), test.class_counts
        (2, {0: 1, 1: 1})
    """
    if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 < share < 1:
        raise InputError(f"expected the share of held-out rows in (0, 1), found {share!r}")
    _, group = np.unique(text_keys(texts.texts), axis=0, return_inverse=True)
    group = group.reshape(-1)
    label_of = np.full(group.max() + 1, np.iinfo(np.int64).max)
    np.minimum.at(label_of, group, texts.labels)
    chosen = np.zeros(len(label_of), dtype=bool)
    for position, label in enumerate(texts.class_counts):
        groups = np.flatnonzero(label_of == label)
        count = min(round(share * len(groups)), len(groups) - 1)
        if count > 0:
            chosen[np.random.default_rng([seed, position]).permutation(groups)[:count]] = True
    held_out = chosen[group]
    rest = texts.take(np.flatnonzero(~held_out))
    rest = replace(rest, notes=texts.notes, original_digest=texts.source_digest)
    return rest, texts.take(np.flatnonzero(held_out))
