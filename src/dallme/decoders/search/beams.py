"""The search: what a language model proposes, scored by the cosine of its vector to the target."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dallme.decoders.search.continuing import Continuing
from dallme.decoders.written import embed_usable, is_whole, tidy
from dallme.embedders.base import normalize
from dallme.progress import Progress, Task

#: Whole texts that are held for each target besides the beam.
HELD = 4

#: Texts that are written at the same time: more need more memory, and gain little on a processor.
ROWS = 64


@dataclass(frozen=True)
class Width:
    """How wide and how long is searched.

    Attributes:
        beam: Texts held for each target.
        branch: Continuations drawn for each text held.
        stride: Tokens of a continuation.
        tokens: Tokens of a text.
        temperature: How freely continuations are drawn.
    """

    beam: int
    branch: int
    stride: int
    tokens: int
    temperature: float


@dataclass
class _Target:
    """One target on its way to a text."""

    vector: np.ndarray
    seed: tuple[int, ...]
    beam: list[str] = field(default_factory=list)
    whole: dict[str, float] = field(default_factory=dict)

    def hold(self, text: str, cosine: float) -> None:
        """Holds a whole text while it is among the nearest."""
        self.whole[text] = cosine
        if len(self.whole) > HELD:
            del self.whole[min(self.whole, key=lambda each: self.whole[each])]

    @property
    def texts(self) -> list[str]:
        """What was found: whole texts, the nearest first, and the last beam."""
        return list(dict.fromkeys([*sorted(self.whole, key=lambda each: -self.whole[each]), *self.beam]))


@dataclass(frozen=True, eq=False)
class Finder:
    """Finds texts whose vectors are near targets.

    Attributes:
        model: A causal model of transformers.
        tokenizer: Its tokenizer.
        embed: Embeds texts.
        width: How wide and how long is searched.
        progress: Where to show progress.
    """

    model: Any
    tokenizer: Any
    embed: Callable[[Sequence[str]], np.ndarray]
    width: Width
    progress: Progress

    def find(self, prompts: Sequence[str], targets: np.ndarray, seeds: Sequence[tuple[int, ...]]) -> list[list[str]]:
        """Finds texts, for a few targets at a time.

        From each text held, `branch` continuations of `stride` tokens are drawn from the model; all are embedded, and the
        `beam` nearest go on. A text that ends with the model's end, a line or a sentence is held besides if it is among the
        nearest.

        Args:
            prompts: What the model reads first, one a target.
            targets: float32 of shape (n, d).
            seeds: Seed of the draws of each target.

        Returns:
            n lists of texts, none blank; one may be empty.
        """
        import torch

        rows = [_Target(vector, seed) for vector, seed in zip(normalize(targets), seeds, strict=True)]
        group = max(1, ROWS // (self.width.beam * self.width.branch))
        starts = range(0, len(rows), group)
        strides = len(range(0, self.width.tokens, self.width.stride))
        with self.progress.task("search", total=len(starts) * strides) as task, torch.inference_mode():
            for start in starts:
                done = self._search(rows[start : start + group], prompts[start : start + group], task)
                task.advance(strides - done)
        return [row.texts for row in rows]

    def _search(self, rows: Sequence[_Target], prompts: Sequence[str], task: Task) -> int:
        """Searches for a few targets together; the number of strides that it took."""
        width = self.width
        writing, owners = Continuing(self.model, self.tokenizer, prompts), list(range(len(rows)))
        for done, start in enumerate(range(0, width.tokens, width.stride)):
            if not owners:
                return done
            branch = width.branch if start else width.beam * width.branch
            writing.take([row for row in range(len(owners)) for _ in range(branch)])
            owners = [owner for owner in owners for _ in range(branch)]
            draws = [(*rows[owner].seed, start, number) for owner, number in _numbered(owners)]
            writing.write(min(width.stride, width.tokens - start), draws, width.temperature)
            kept = _keep(rows, owners, *_read(writing, self.tokenizer), self.embed, width.beam)
            owners = [owners[place] for place in kept]
            if kept:
                writing.take(kept)
            task.advance()
        return len(range(0, width.tokens, width.stride))


def _numbered(owners: Sequence[int]) -> list[tuple[int, int]]:
    """Each owner with how often it stood before; draws seeded by it do not depend on the other targets."""
    seen: dict[int, int] = {}
    found = []
    for owner in owners:
        found.append((owner, seen.get(owner, 0)))
        seen[owner] = seen.get(owner, 0) + 1
    return found


def _read(writing: Continuing, tokenizer: Any) -> tuple[list[str], list[bool]]:
    """The text of each row so far, and whether it has ended."""
    texts, ended = [], []
    for row in writing.written.tolist():
        end = row.index(tokenizer.eos_token_id) if tokenizer.eos_token_id in row else len(row)
        text = tokenizer.decode(row[:end], skip_special_tokens=True).strip()
        line = text.split("\n")[0]
        texts.append(tidy(line))
        ended.append(end < len(row) or len(line) < len(text))
    return texts, ended


def _keep(
    rows: Sequence[_Target],
    owners: Sequence[int],
    texts: Sequence[str],
    ended: Sequence[bool],
    embed: Callable[[Sequence[str]], np.ndarray],
    beam: int,
) -> list[int]:
    """Scores the texts and lets each target hold the nearest; gives the places of those that go on."""
    vectors = embed_usable(embed, list(dict.fromkeys(texts)))
    ranked: dict[int, list[tuple[float, int]]] = {}
    seen: set[tuple[int, str]] = set()
    for place, (owner, text) in enumerate(zip(owners, texts, strict=True)):
        if text not in vectors or (owner, text) in seen:
            continue
        seen.add((owner, text))
        cosine = float(vectors[text] @ rows[owner].vector)
        if ended[place] or is_whole(text):
            rows[owner].hold(text, cosine)
        if not ended[place]:
            ranked.setdefault(owner, []).append((-cosine, place))
    kept = []
    for owner, found in sorted(ranked.items()):
        best = [place for _, place in sorted(found)[:beam]]
        rows[owner].beam = [texts[place] for place in best]
        kept += best
    return kept
