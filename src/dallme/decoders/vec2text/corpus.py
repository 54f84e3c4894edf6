"""What an inverter learns from: clean texts cut to a few tokens, their vectors, and batches of like length."""

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

#: Held out of the training texts: this share, and no more than so many.
HELD_OUT_SHARE, HELD_OUT_MOST = 0.02, 500

#: Near texts that a current text, or the mean of a mixed target, is taken from; and among how many they are looked for.
NEIGHBOURS, NEIGHBOURHOOD = 8, 100_000

#: Batches whose texts are sorted by length together.
_POOL = 50

Embed = Callable[[Sequence[str]], np.ndarray]


@dataclass(frozen=True, eq=False)
class Corpus:
    """Texts as an inverter is to write them.

    Attributes:
        texts: n texts, cut.
        ids: Their tokens, the last of them the end, int64 of shape (t,) each.
        vectors: The vectors of the cut texts, float32 of shape (n, d).
    """

    texts: list[str]
    ids: list[np.ndarray]
    vectors: np.ndarray

    def __len__(self) -> int:
        """Number of texts."""
        return len(self.texts)

    @cached_property
    def lengths(self) -> np.ndarray:
        """Tokens of each text, int64 of shape (n,)."""
        return np.array([len(row) for row in self.ids], dtype=np.int64)


def split_texts(texts: Sequence[str], seed: int) -> tuple[list[str], list[str]]:
    """Cleans texts and holds some of them out.

    Returns:
        The texts to train on, and those that are held out: none blank, none twice.

    Raises:
        InputError: If fewer than two are left.
    """
    unique = list(dict.fromkeys(cleaned for text in texts if (cleaned := clean(text))))
    if len(unique) < 2:
        raise InputError(f"expected at least two different texts to train on, found {len(unique)}")
    held = max(1, min(HELD_OUT_MOST, int(len(unique) * HELD_OUT_SHARE)))
    order = np.random.default_rng([seed, 0]).permutation(len(unique))
    return [unique[row] for row in sorted(order[held:])], [unique[row] for row in sorted(order[:held])]


def draw_passages(texts: Sequence[str], count: int, seed: int) -> list[str]:
    """Draws passages of texts: some whole sentences from a random one on, as long as that is not the whole text.

    Args:
        texts: n clean texts.
        count: Passages drawn of each; those drawn twice, and of texts of one sentence, are fewer.
        seed: Seed of the draws.

    Returns:
        Passages, each once, in the order of the texts.
    """
    if not count:
        return []
    rng, drawn = np.random.default_rng([seed, 6]), dict[str, None]()
    for text in texts:
        parts = sentences(text)
        for _ in range(count if len(parts) > 1 else 0):
            start = int(rng.integers(len(parts)))
            drawn[" ".join(parts[start : start + 1 + int(rng.integers(len(parts)))])] = None
    known = set(texts)
    return [passage for passage in drawn if passage not in known]


def make_corpus(texts: Sequence[str], tokenizer: Any, end: int, max_tokens: int, embed: Embed) -> Corpus:
    """Cuts texts and embeds what is left of them.

    Args:
        texts: n clean texts.
        tokenizer: The inverter's.
        end: The id of the end.
        max_tokens: Most tokens of a text, its end included.
        embed: Texts to vectors of shape (n, d).
    """
    kept = []
    for text, tokens in zip(
        texts, tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"], strict=True
    ):
        if len(tokens) >= max_tokens:
            # The cut may go through a character, which is dropped.
            text = (
                tokenizer.decode(tokens[: max_tokens - 1], skip_special_tokens=True).rstrip("\ufffd").strip()
            )
        if text:
            kept.append(text)
    return Corpus(kept, encode(kept, tokenizer, end, max_tokens), embed(kept))


def encode(texts: Sequence[str], tokenizer: Any, end: int, max_tokens: int) -> list[np.ndarray]:
    """Tokens of texts as an inverter reads and writes them: cut, and the end after them; int64 of shape (t,) each."""
    found = tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
    return [np.array([*tokens[: max_tokens - 1], end], dtype=np.int64) for tokens in found]


@dataclass(frozen=True, eq=False)
class Drafts:
    """Texts to be corrected.

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
    """Batches of training examples; the one of a step depends on the seed, the stage and the step alone.

    Attributes:
        corpus: The training texts.
        size: Texts a batch.
        seed: Seed of every choice.
        drafts: The model's own hypotheses, for the corrector; None for the hypothesizer.
        noise: Length of the Gaussian noise that is put on a target vector, which is then scaled to length 1.
        mix: Share of the batches whose targets are mixed with the mean of their nearest neighbours' vectors.
        pad: The id that fills rows up.
        device: Where near texts are looked for: a GPU is many times as fast. By default the processor.
    """

    corpus: Corpus
    size: int
    seed: int
    drafts: Drafts | None = None
    noise: float = 0.0
    mix: float = 0.0
    pad: int = 0
    device: torch.device | None = None

    def at(self, step: int) -> dict[str, torch.Tensor]:
        """The batch of a step: arguments of :meth:`~dallme.decoders.vec2text.model.InverterModel.loss`.

        Of a corrector's batches a quarter are a hypothesizer's, and of the rest half start from the model's own hypotheses, half
        from the texts of near neighbours.
        """
        stage = 1 if self.drafts is None else 2
        rng = np.random.default_rng([self.seed, stage, 1, step])
        kind = 0.0 if self.drafts is None else rng.random()
        if kind < 0.25:
            return self._tensors(self._rows(self.corpus.lengths, step), None, rng)
        if kind < 0.625:
            assert self.drafts is not None
            places = self._rows(self.corpus.lengths[self.drafts.rows], step)
            return self._tensors(
                self.drafts.rows[places],
                ([self.drafts.ids[place] for place in places], self.drafts.vectors[places]),
                rng,
            )
        rows = self._rows(self.corpus.lengths, step)
        near = self._neighbours(rows)
        chosen = near[np.arange(len(rows)), rng.integers(near.shape[1], size=len(rows))]
        return self._tensors(
            rows, ([self.corpus.ids[row] for row in chosen], self.corpus.vectors[chosen]), rng
        )

    def _rows(self, lengths: np.ndarray, step: int) -> np.ndarray:
        """Positions of the texts of a step."""
        epoch, place = divmod(step, -(-len(lengths) // self.size))
        return _epoch(lengths.tobytes(), self.size, (self.seed, 2 if self.drafts else 1, 2, epoch))[place]

    def _tensors(
        self, rows: np.ndarray, current: tuple[list[np.ndarray], np.ndarray] | None, rng: np.random.Generator
    ) -> dict[str, torch.Tensor]:
        import torch

        targets = self._targets(rows, rng)
        text_ids, text_mask = pad([self.corpus.ids[row] for row in rows], self.pad)
        arrays = {"target": targets, "text_ids": text_ids, "text_mask": text_mask}
        if current is not None:
            ids, mask = pad(current[0], self.pad)
            arrays |= {"current": current[1], "current_ids": ids, "current_mask": mask}
        return {name: torch.from_numpy(array) for name, array in arrays.items()}

    def _targets(self, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The vectors of texts, perhaps mixed and with noise; float32 of shape (b, d)."""
        targets = self.corpus.vectors[rows]
        if rng.random() < self.mix:
            means = self.corpus.vectors[self._neighbours(rows)].mean(axis=1)
            targets = targets + rng.random((len(rows), 1), dtype=np.float32) * (means - targets)
        if self.noise:
            drawn = rng.standard_normal(targets.shape, dtype=np.float32)
            targets = targets + np.float32(self.noise / targets.shape[1] ** 0.5) * drawn
        return normalize(targets) if self.mix or self.noise else targets

    def _neighbours(self, rows: np.ndarray) -> np.ndarray:
        """Positions of the texts nearest to those at `rows`, not themselves, in no order; int64 of shape (b, k)."""
        nearby = self._nearby
        count = min(NEIGHBOURS, len(nearby) - 1)
        if self.device is not None and self.device.type != "cpu":
            places = self._near_on_device(rows, count)
        else:
            scores = self.corpus.vectors[rows] @ self.corpus.vectors[nearby].T
            scores[rows[:, None] == nearby[None, :]] = -np.inf
            places = np.argpartition(-scores, count - 1, axis=1)[:, :count]
        near: np.ndarray = nearby[places]
        return near

    def _near_on_device(self, rows: np.ndarray, count: int) -> np.ndarray:
        """The same on the device, as places in :attr:`_nearby`; int64 of shape (b, count)."""
        import torch

        positions, known = self._known
        scores = torch.from_numpy(self.corpus.vectors[rows]).to(self.device) @ known.T
        scores.masked_fill_(torch.from_numpy(rows).to(self.device)[:, None] == positions, -torch.inf)
        places: np.ndarray = scores.topk(count, sorted=False).indices.cpu().numpy()
        return places

    @cached_property
    def _known(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The texts at :attr:`_nearby`, on the device: their positions, and their vectors of shape (m, d)."""
        import torch

        nearby = self._nearby
        return torch.from_numpy(nearby).to(self.device), torch.from_numpy(self.corpus.vectors[nearby]).to(
            self.device
        )

    @cached_property
    def _nearby(self) -> np.ndarray:
        """Positions of the texts among which neighbours are looked for."""
        rows = np.arange(len(self.corpus))
        if len(rows) <= NEIGHBOURHOOD:
            return rows
        return np.sort(np.random.default_rng([self.seed, 3]).choice(rows, NEIGHBOURHOOD, replace=False))


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
    return [batches[place] for place in rng.permutation(len(batches))]


def pad(rows: Sequence[np.ndarray], value: int) -> tuple[np.ndarray, np.ndarray]:
    """Tokens of several texts as one matrix, filled up at the end, and which of it is no padding; int64 of shape (n, t)."""
    length = -(-max(len(row) for row in rows) // PAD_MULTIPLE) * PAD_MULTIPLE
    ids = np.full((len(rows), length), value, dtype=np.int64)
    mask = np.zeros((len(rows), length), dtype=np.int64)
    for place, row in enumerate(rows):
        ids[place, : len(row)] = row
        mask[place, : len(row)] = 1
    return ids, mask
