"""Training data: clean texts cut to a few tokens, their vectors, and batches of similar length."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from dallme.embedders.base import normalize
from dallme.errors import InputError
from dallme.text import clean, sentences

if TYPE_CHECKING:
    import torch

#: Lengths are padded to a multiple of this, so that few shapes occur.
PAD_MULTIPLE = 16

#: Share of the texts that is held out, and most of them.
HELD_OUT_SHARE, HELD_OUT_MOST = 0.02, 500

#: Nearest neighbours that a current text is chosen from, and most texts among which they are searched.
NEIGHBOURS, NEIGHBOURHOOD = 8, 100_000

#: Batches whose texts are sorted by length together.
_POOL = 50

Embed = Callable[[Sequence[str]], np.ndarray]


@dataclass(frozen=True, eq=False)
class Corpus:
    """Texts as an inverter writes them.

    Attributes:
        texts: n texts, cut.
        ids: Their tokens with the end, int64 of shape (t,) each.
        vectors: Vectors of the cut texts, float32 of shape (n, d).
    """

    texts: list[str]
    ids: list[np.ndarray]
    vectors: np.ndarray

    def __len__(self) -> int:
        """Number of texts."""
        return len(self.texts)

    @cached_property
    def lengths(self) -> np.ndarray:
        """Number of tokens of each text, int64 of shape (n,)."""
        return np.array([len(row) for row in self.ids], dtype=np.int64)


def split_texts(texts: Sequence[str], seed: int) -> tuple[list[str], list[str]]:
    """Cleans texts, drops blank and repeated ones, and splits them into training and held-out texts.

    Raises:
        InputError: If fewer than two are left.
    """
    unique = list(dict.fromkeys(cleaned for text in texts if (cleaned := clean(text))))
    if len(unique) < 2:
        raise InputError(f"expected at least two different texts to train on, found {len(unique)}")
    count = max(1, min(HELD_OUT_MOST, int(len(unique) * HELD_OUT_SHARE)))
    order = np.random.default_rng([seed, 0]).permutation(len(unique))
    return [unique[row] for row in sorted(order[count:])], [unique[row] for row in sorted(order[:count])]


def draw_passages(texts: Sequence[str], count: int, seed: int) -> list[str]:
    """Draws passages of texts: some whole sentences from a random one on, never the whole text.

    Args:
        texts: n clean texts.
        count: Passages drawn from each; repeated ones are dropped, and texts of one sentence have none.
        seed: Seed of the draws.

    Returns:
        Unique passages, in the order of the texts.
    """
    if not count:
        return []
    rng, passages = np.random.default_rng([seed, 6]), dict[str, None]()
    for text in texts:
        parts = sentences(text)
        for _ in range(count if len(parts) > 1 else 0):
            start = int(rng.integers(len(parts)))
            passages[" ".join(parts[start : start + 1 + int(rng.integers(len(parts)))])] = None
    known = set(texts)
    return [passage for passage in passages if passage not in known]


def make_corpus(texts: Sequence[str], tokenizer: Any, end: int, max_tokens: int, embed: Embed) -> Corpus:
    """Cuts texts to a number of tokens and embeds what is left of them.

    Args:
        texts: n clean texts.
        tokenizer: Tokenizer of the inverter.
        end: Id of the end.
        max_tokens: Maximum number of tokens per text, its end included.
        embed: Texts to vectors of shape (n, d).
    """
    cut = []
    ids = tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
    for text, tokens in zip(texts, ids, strict=True):
        if len(tokens) >= max_tokens:
            # The cut may split a character, which is dropped.
            decoded = tokenizer.decode(tokens[: max_tokens - 1], skip_special_tokens=True)
            text = decoded.rstrip("\ufffd").strip()
        if text:
            cut.append(text)
    return Corpus(cut, encode(cut, tokenizer, end, max_tokens), embed(cut))


def encode(texts: Sequence[str], tokenizer: Any, end: int, max_tokens: int) -> list[np.ndarray]:
    """Tokenises texts, cuts them, and appends the end; int64 of shape (t,) each."""
    ids = tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
    return [np.array([*tokens[: max_tokens - 1], end], dtype=np.int64) for tokens in ids]


def pad(rows: Sequence[np.ndarray], value: int) -> tuple[np.ndarray, np.ndarray]:
    """Pads the tokens of texts at the end; returns ids and mask, int64 of shape (n, t)."""
    length = -(-max(len(row) for row in rows) // PAD_MULTIPLE) * PAD_MULTIPLE
    ids = np.full((len(rows), length), value, dtype=np.int64)
    mask = np.zeros((len(rows), length), dtype=np.int64)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = row
        mask[index, : len(row)] = 1
    return ids, mask


@dataclass(frozen=True, eq=False)
class Drafts:
    """The model's own texts, for the corrector to correct.

    Attributes:
        rows: Positions of the texts that they should become, int64 of shape (m,).
        ids: Their tokens, as in a corpus.
        vectors: Their vectors, float32 of shape (m, d).
    """

    rows: np.ndarray
    ids: list[np.ndarray]
    vectors: np.ndarray


@dataclass(frozen=True, eq=False)
class Batches:
    """Batches of training examples; a batch depends on the seed, the stage and the step alone.

    Attributes:
        corpus: The training texts.
        size: Texts per batch.
        seed: Seed of all random choices.
        drafts: The model's own hypotheses, for the corrector; None for the hypothesizer.
        noise: Length of the Gaussian noise added to a target vector, which is then scaled to length 1.
        pad: Id of padding.
        device: Device of the nearest-neighbour search; by default the CPU.
    """

    corpus: Corpus
    size: int
    seed: int
    drafts: Drafts | None = None
    noise: float = 0.0
    pad: int = 0
    device: torch.device | None = None

    def at(self, step: int) -> dict[str, torch.Tensor]:
        """Returns the batch of a step, as arguments of the model's ``loss``.

        A quarter of a corrector's batches are those of a hypothesizer. Half of the rest start from drafts,
        half from the texts of near neighbours.
        """
        stage = 1 if self.drafts is None else 2
        rng = np.random.default_rng([self.seed, stage, 1, step])
        kind = 0.0 if self.drafts is None else rng.random()
        if self.drafts is None or kind < 0.25:
            return self._tensors(self._rows(self.corpus.lengths, step), None, rng)
        if kind < 0.625:
            indices = self._rows(self.corpus.lengths[self.drafts.rows], step)
            current = [self.drafts.ids[index] for index in indices], self.drafts.vectors[indices]
            return self._tensors(self.drafts.rows[indices], current, rng)
        rows = self._rows(self.corpus.lengths, step)
        near = self.neighbours(rows)
        chosen = near[np.arange(len(rows)), rng.integers(near.shape[1], size=len(rows))]
        return self._tensors(
            rows, ([self.corpus.ids[row] for row in chosen], self.corpus.vectors[chosen]), rng
        )

    def neighbours(self, rows: np.ndarray) -> np.ndarray:
        """Finds the texts nearest to those at `rows`, without themselves; int64 of shape (b, k)."""
        import torch

        positions, vectors = self._searched
        scores = torch.from_numpy(self.corpus.vectors[rows]).to(vectors.device) @ vectors.T
        scores.masked_fill_(torch.from_numpy(rows).to(vectors.device)[:, None] == positions, -torch.inf)
        count = min(NEIGHBOURS, len(positions) - 1)
        near: np.ndarray = positions[scores.topk(count, sorted=False).indices].cpu().numpy()
        return near

    @cached_property
    def _searched(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Positions and vectors, of shape (m, d), of the texts among which neighbours are searched."""
        import torch

        rows = np.arange(len(self.corpus))
        if len(rows) > NEIGHBOURHOOD:
            rng = np.random.default_rng([self.seed, 3])
            rows = np.sort(rng.choice(rows, NEIGHBOURHOOD, replace=False))
        device = self.device or torch.device("cpu")
        return torch.from_numpy(rows).to(device), torch.from_numpy(self.corpus.vectors[rows]).to(device)

    def _rows(self, lengths: np.ndarray, step: int) -> np.ndarray:
        """Positions of the texts of a step."""
        epoch, index = divmod(step, -(-len(lengths) // self.size))
        return _epoch(lengths.tobytes(), self.size, (self.seed, 2 if self.drafts else 1, 2, epoch))[index]

    def _tensors(
        self, rows: np.ndarray, current: tuple[list[np.ndarray], np.ndarray] | None, rng: np.random.Generator
    ) -> dict[str, torch.Tensor]:
        import torch

        targets = self.corpus.vectors[rows]
        if self.noise:
            drawn = rng.standard_normal(targets.shape, dtype=np.float32)
            targets = normalize(targets + np.float32(self.noise / targets.shape[1] ** 0.5) * drawn)
        text_ids, text_mask = pad([self.corpus.ids[row] for row in rows], self.pad)
        arrays = {"target": targets, "text_ids": text_ids, "text_mask": text_mask}
        if current is not None:
            ids, mask = pad(current[0], self.pad)
            arrays |= {"current": current[1], "current_ids": ids, "current_mask": mask}
        return {name: torch.from_numpy(array) for name, array in arrays.items()}


@lru_cache(maxsize=4)
def _epoch(lengths: bytes, size: int, seed: tuple[int, ...]) -> list[np.ndarray]:
    """The batches of an epoch: shuffled, sorted by padded length within pools of batches, in random order."""
    padded = -(-np.frombuffer(lengths, dtype=np.int64) // PAD_MULTIPLE)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(padded))
    batches = []
    for start in range(0, len(order), _POOL * size):
        pool = order[start : start + _POOL * size]
        pool = pool[np.argsort(padded[pool], kind="stable")]
        batches += [pool[first : first + size] for first in range(0, len(pool), size)]
    return [batches[index] for index in rng.permutation(len(batches))]
