"""Checks before vectors are decoded: a round trip of source texts, and a map between embedding spaces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dallme.decoders.vec2text.correction import embed_usable
from dallme.decoders.vec2text.inverter import Inverter
from dallme.errors import InputError
from dallme.validation import check_seed, check_vectors

#: Source texts of a self-test.
TEXTS = 20

#: Minimum difference of the mean cosine of decoded texts to their own vectors and to others. An inverter of
#: another space gives about 0.00 +- 0.02; a barely trained one of the right space gives 0.1.
MARGIN = 0.05

#: Penalties tried for the map, for centred vectors of length about 1.
ALPHAS = (0.001, 0.01, 0.1, 1.0, 10.0, 100.0)

#: Maximum number of rows held out to choose the penalty (a fifth of all), and minimum number of rows to fit a
#: map.
MAX_HELD_OUT, MIN_ROWS = 5_000, 10


@dataclass(frozen=True)
class RoundTrip:
    """Similarity of vectors to the texts decoded from them.

    Attributes:
        cosine: Mean cosine of the decoded texts' vectors to the vectors that they were decoded from.
        chance: Mean cosine to the vectors of the other texts.
        texts: Number of texts.
    """

    cosine: float
    chance: float
    texts: int


def self_test(
    inverter: Inverter, vectors: np.ndarray, texts: Sequence[str], rng: np.random.Generator
) -> RoundTrip | None:
    """Decodes some source vectors without correction and embeds the texts again.

    Args:
        inverter: The inverter.
        vectors: Vectors of the source in the inverter's space, float32 of shape (n, d).
        texts: The n source texts.
        rng: Chooses the texts.

    Returns:
        The round trip, or None if there are not two different texts.

    Raises:
        InputError: If the decoded texts are not clearly nearer to their own vectors than to those of others.
    """
    chosen: dict[str, int] = {}
    for row in rng.permutation(len(texts)).tolist():
        chosen.setdefault(texts[row], row)
        if len(chosen) == TEXTS:
            break
    if len(chosen) < 2:
        return None
    originals = vectors[list(chosen.values())]
    written = [row[0] for row in inverter.write(originals)]
    known = embed_usable(inverter, list(dict.fromkeys(written)))
    zeros = np.zeros(originals.shape[1], dtype=np.float32)  # texts that cannot be embedded
    returned = np.stack([known.get(text, zeros) for text in written])
    result = RoundTrip(*matched_and_mismatched(returned, originals), len(originals))
    if result.cosine - result.chance < MARGIN:
        raise InputError(
            f"expected an inverter that decodes these vectors, found that {result.texts} decoded texts "
            f"have a mean cosine of {result.cosine:.3f} to their own vectors and {result.chance:.3f} to "
            f"those of others, less than {MARGIN} apart; train one on texts like these, or longer"
        )
    return result


@dataclass(frozen=True, eq=False)
class Alignment:
    """A ridge regression from one embedding space to another.

    Attributes:
        matrix: Coefficients, float32 of shape (d, e).
        source_mean: Mean of the mapped vectors, float32 of shape (d,).
        target_mean: Mean of the vectors that they are mapped to, float32 of shape (e,).
        alpha: The penalty, chosen on held-out rows.
        cosine: Mean cosine of mapped held-out rows to their own vectors in the other space.
        chance: Mean cosine of mapped held-out rows to the vectors of other rows.
    """

    matrix: np.ndarray
    source_mean: np.ndarray
    target_mean: np.ndarray
    alpha: float
    cosine: float
    chance: float

    def map(self, vectors: np.ndarray) -> np.ndarray:
        """Maps vectors of shape (n, d) into the other space: float32 of shape (n, e), of length 1."""
        return _unit((vectors - self.source_mean) @ self.matrix + self.target_mean)


def fit_alignment(vectors: np.ndarray, targets: np.ndarray, seed: int) -> Alignment:
    """Fits a map from the vectors of some texts by one embedder to those of the same texts by another.

    ``minimise ||(X - mean X) W - (Y - mean Y)||^2 + alpha ||W||^2``. The chosen alpha gives held-out rows the
    largest mean cosine to their own vectors. The map is fitted on all rows; the cosines are those of a map
    without held-out rows.

    Args:
        vectors: float32 of shape (n, d).
        targets: float32 of shape (n, e), row by row.
        seed: Seed of the choice of held-out rows.

    Raises:
        InputError: If the numbers of rows differ, or there are fewer than ten.
    """
    check_seed(seed)
    vectors = check_vectors(vectors)
    targets = check_vectors(targets, rows=len(vectors), what="vectors to map to")
    if len(vectors) < MIN_ROWS:
        raise InputError(
            f"expected at least {MIN_ROWS} texts to fit a map between embedders, found {len(vectors)}"
        )
    order = np.random.default_rng(seed).permutation(len(vectors))
    count = min(MAX_HELD_OUT, len(vectors) // 5)
    held_out, rest = order[:count], order[count:]
    maps = [_fit(vectors[rest], targets[rest], alpha) for alpha in ALPHAS]
    scores = [matched_and_mismatched(each.map(vectors[held_out]), targets[held_out]) for each in maps]
    best = int(np.argmax([cosine for cosine, _ in scores]))
    fitted = _fit(vectors, targets, ALPHAS[best])
    return Alignment(fitted.matrix, fitted.source_mean, fitted.target_mean, ALPHAS[best], *scores[best])


def _fit(vectors: np.ndarray, targets: np.ndarray, alpha: float) -> Alignment:
    from sklearn.linear_model import Ridge

    source_mean, target_mean = vectors.mean(axis=0), targets.mean(axis=0)
    ridge = Ridge(alpha=alpha, fit_intercept=False).fit(vectors - source_mean, targets - target_mean)
    coefficients = np.reshape(ridge.coef_, (targets.shape[1], vectors.shape[1])).T
    matrix = np.ascontiguousarray(coefficients, dtype=np.float32)
    return Alignment(matrix, source_mean, target_mean, alpha, float("nan"), float("nan"))


def matched_and_mismatched(first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """Computes the mean cosine of rows to the same rows of another matrix, and to all of its other rows.

    Args:
        first: float32 of shape (n, d), n >= 2.
        second: float32 of shape (n, d).
    """
    first, second, count = _unit(first), _unit(second), len(first)
    matched = float((first * second).sum(axis=1).mean())
    overall = float(first.mean(axis=0) @ second.mean(axis=0))  # the mean over all pairs
    return matched, (overall * count - matched) / (count - 1)


def _unit(vectors: np.ndarray) -> np.ndarray:
    """Scales vectors to length 1; zeros stay zeros."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(lengths == 0, 1, lengths), dtype=np.float32)
