"""Beam search for a text near each prototype, with a language model that was not trained for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from inspect import signature
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from dallme.data import DecodedText, Prototypes
from dallme.decoders.base import Context, Decoder, DecodingResult
from dallme.decoders.postprocess import (
    audit_written,
    copied_spans,
    embed_usable,
    is_whole,
    note_of_audit,
    tidy,
    without_half_sentence,
)
from dallme.decoders.selection import CandidatePool, ClusterSummary, messages
from dallme.decoders.vec2text.generation import TokenSampler
from dallme.embedders.base import normalize
from dallme.errors import InputError
from dallme.models.devices import check_device, find_device
from dallme.progress import Progress, Task
from dallme.validation import check_positive

#: Token sequences of this length do not occur twice in a text.
NO_REPEAT = 5


class Continuing:
    """Continuations of prompts, one row per prompt, with the key-value cache of all tokens so far.

    Attributes:
        written: Tokens of each row, int64 of shape (r, t).
    """

    def __init__(self, model: Any, tokenizer: Any, prompts: Sequence[str]) -> None:
        """Reads the prompts in one batch, padded on the left.

        Args:
            model: A causal model of transformers.
            tokenizer: Its tokenizer.
            prompts: One a row.
        """
        from transformers import DynamicCache

        self._model, self._cache = model, DynamicCache(config=model.config)
        # transformers gave the argument another name in 5.24.
        self._cache_argument = (
            "cache" if "cache" in signature(model.forward).parameters else "past_key_values"
        )
        ids = [tokenizer(prompt, add_special_tokens=False).input_ids for prompt in prompts]
        width, device = max(map(len, ids)), model.device
        words = torch.tensor([[0] * (width - len(row)) + row for row in ids], device=device)
        self._mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in ids], device=device)
        positions = (self._mask.cumsum(dim=1) - 1).clamp(min=0)
        self._scores = self._forward(words, positions)
        self.written = words[:, :0]

    def take(self, rows: Sequence[int]) -> None:
        """Continues with the given rows only; a row may be given several times."""
        index = torch.tensor(list(rows), dtype=torch.long, device=self._mask.device)
        self._cache.batch_select_indices(index)
        self._mask, self._scores, self.written = self._mask[index], self._scores[index], self.written[index]

    def write(self, tokens: int, seeds: Sequence[Any], temperature: float) -> None:
        """Writes tokens after each row.

        Args:
            tokens: Number of tokens.
            seeds: Seed of the draws of each row, as numpy takes seeds; None takes the most likely token.
            temperature: Divisor of the scores.
        """
        from transformers import NoRepeatNGramLogitsProcessor

        forbid = NoRepeatNGramLogitsProcessor(NO_REPEAT)
        sampler = TokenSampler.from_seeds(seeds, tokens, temperature, self._mask.device)
        rows = torch.arange(len(self._mask), device=self._mask.device)
        for step in range(tokens):
            scores = forbid(self.written, self._scores) if self.written.shape[1] else self._scores
            self._read(sampler.sample(scores, rows, step)[:, None])

    def _read(self, words: Tensor) -> None:
        """Adds a token to each row, int64 of shape (r, 1)."""
        self.written = torch.cat([self.written, words], dim=1)
        self._mask = torch.cat([self._mask, self._mask.new_ones(len(words), 1)], dim=1)
        positions = self._mask.sum(dim=1, keepdim=True) - 1
        self._scores = self._forward(words, positions)

    def _forward(self, words: Tensor, positions: Tensor) -> Tensor:
        """Reads tokens, int64 of shape (r, w); returns scores of the next one, of shape (r, vocabulary)."""
        output = self._model(
            input_ids=words,
            attention_mask=self._mask,
            position_ids=positions,
            use_cache=True,
            logits_to_keep=1,
            **{self._cache_argument: self._cache},
        )
        scores: Tensor = output.logits[:, -1]
        return scores


#: Number of complete texts kept per target, in addition to the beam.
COMPLETE = 4

#: Texts written in one batch; more need more memory and are hardly faster on a CPU.
ROWS = 64


@dataclass(frozen=True)
class Width:
    """Width and length of the search.

    Attributes:
        beam: Texts in the beam of each target.
        branch: Continuations drawn for each text of the beam.
        stride: Tokens of a continuation.
        tokens: Tokens of a text.
        temperature: Temperature of the draws.
    """

    beam: int
    branch: int
    stride: int
    tokens: int
    temperature: float


@dataclass
class _Target:
    """A target, its beam, and its nearest complete texts with their cosines."""

    vector: np.ndarray
    seed: tuple[int, ...]
    beam: list[str] = field(default_factory=list)
    complete: dict[str, float] = field(default_factory=dict)

    def add_complete(self, text: str, cosine: float) -> None:
        """Adds a complete text if it is among the nearest."""
        self.complete[text] = cosine
        if len(self.complete) > COMPLETE:
            del self.complete[min(self.complete, key=lambda each: self.complete[each])]

    @property
    def texts(self) -> list[str]:
        """Complete texts, the nearest first, and the last beam."""
        return list(
            dict.fromkeys([*sorted(self.complete, key=lambda each: -self.complete[each]), *self.beam])
        )


@dataclass(frozen=True, eq=False)
class BeamSearch:
    """Searches for texts whose vectors are near targets.

    Attributes:
        model: A causal model of transformers.
        tokenizer: Its tokenizer.
        embed: Embeds texts.
        width: Width and length of the search.
        progress: Receiver of progress.
    """

    model: Any
    tokenizer: Any
    embed: Callable[[Sequence[str]], np.ndarray]
    width: Width
    progress: Progress

    def find(
        self, prompts: Sequence[str], targets: np.ndarray, seeds: Sequence[tuple[int, ...]]
    ) -> list[list[str]]:
        """Searches for a few targets at a time.

        From each text of the beam, `branch` continuations of `stride` tokens are drawn from the model. All
        are embedded, and the `beam` nearest continue. A text that ends with an end token, a line or a
        sentence is complete, and is kept if it is among the nearest.

        Args:
            prompts: Prompt of each target.
            targets: float32 of shape (n, d).
            seeds: Seed of the draws of each target.

        Returns:
            n lists of texts, none blank; one may be empty.
        """
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
        """Searches for a few targets together; returns the number of strides."""
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
            best = _select_beams(rows, owners, *_read(writing, self.tokenizer), self.embed, width.beam)
            owners = [owners[row] for row in best]
            if best:
                writing.take(best)
            task.advance()
        return len(range(0, width.tokens, width.stride))


def _numbered(owners: Sequence[int]) -> list[tuple[int, int]]:
    """Returns each owner with its number of earlier rows, since samples must not depend on other targets."""
    counts: dict[int, int] = {}
    numbered = []
    for owner in owners:
        numbered.append((owner, counts.get(owner, 0)))
        counts[owner] = counts.get(owner, 0) + 1
    return numbered


def _read(writing: Continuing, tokenizer: Any) -> tuple[list[str], list[bool]]:
    """Returns the text of each row so far, and whether it has ended."""
    texts, ended = [], []
    for row in writing.written.tolist():
        end = row.index(tokenizer.eos_token_id) if tokenizer.eos_token_id in row else len(row)
        text = tokenizer.decode(row[:end], skip_special_tokens=True).strip()
        line = text.split("\n")[0]
        texts.append(tidy(line))
        ended.append(end < len(row) or len(line) < len(text))
    return texts, ended


def _select_beams(
    targets: Sequence[_Target],
    owners: Sequence[int],
    texts: Sequence[str],
    ended: Sequence[bool],
    embed: Callable[[Sequence[str]], np.ndarray],
    beam: int,
) -> list[int]:
    """Updates the beam and complete texts of each target; returns the rows that continue."""
    vectors = embed_usable(embed, list(dict.fromkeys(texts)))
    ranked: dict[int, list[tuple[float, int]]] = {}
    seen: set[tuple[int, str]] = set()
    for row, (owner, text) in enumerate(zip(owners, texts, strict=True)):
        if text not in vectors or (owner, text) in seen:
            continue
        seen.add((owner, text))
        cosine = float(vectors[text] @ targets[owner].vector)
        if ended[row] or is_whole(text):
            targets[owner].add_complete(text, cosine)
        if not ended[row]:
            ranked.setdefault(owner, []).append((-cosine, row))
    selected = []
    for owner, scored in sorted(ranked.items()):
        best = [row for _, row in sorted(scored)[:beam]]
        targets[owner].beam = [texts[row] for row in best]
        selected += best
    return selected


#: Maximum number of searches for a prototype without a usable text.
TURNS = 3


@dataclass(frozen=True)
class SearchDecoder(Decoder):
    """Searches for a text near each prototype by beam search.

    A causal language model proposes continuations, and the embedder ranks them.

    This is zero-shot embedding inversion by beam search (Zhang, Morris and Shmatikov 2025, "Universal
    Zero-shot Embedding Inversion"). Nothing is trained, and any embedder can be used. The prompt holds the
    name of the class and keywords of the cluster, never a row. A text that shares too long a run of words
    with a source row is rejected, and no real text ever replaces one.
    :func:`~dallme.decoders.selection.select_drafts` selects among the texts found.

    Prefer it if no sentence of the source may be shown to anyone, and ``vec2text`` if there is an inverter.
    Keywords are words of the source; ``keywords=0`` gives none. It is slow on a CPU: see the benchmarks.

    Attributes:
        model: A causal model: a folder, a Hub id, or ``smollm2``.
        beam: Texts in the beam of each prototype.
        branch: Continuations drawn for each text of the beam.
        stride: Tokens of a continuation.
        temperature: Temperature of the draws.
        keywords: Maximum number of keywords of the cluster in the prompt.
        max_copied_span: Longest run of words that a text may share with one source row.
        device: Device of the model: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        language: ISO 639-1 code, for sentence boundaries.
    """

    argument: ClassVar[str] = "model"

    model: str = "smollm2"
    beam: int = 4
    branch: int = 4
    stride: int = 4
    temperature: float = 0.8
    keywords: int = 12
    max_copied_span: int = 7
    device: str = "auto"
    language: str = "en"

    def __post_init__(self) -> None:
        """Checks the options; nothing is loaded."""
        for name in ("beam", "branch", "stride", "max_copied_span"):
            check_positive(getattr(self, name), name)
        check_positive(self.keywords, "keywords", least=0)
        if (
            isinstance(self.temperature, bool)
            or not isinstance(self.temperature, (int, float))
            or not 0 < self.temperature <= 2
        ):
            raise InputError(
                f"expected temperature to be a number above 0, and of at most 2, found {self.temperature!r}"
            )
        check_device(self.device, "auto")

    def check(self, context: Context) -> None:
        """Checks that there is an embedder.

        Raises:
            InputError: If there is none.
        """
        if context.embedder is None:
            raise InputError(
                "expected an embedder that ranks written texts, found none: the vectors were given; name the "
                "embedder that made them, or use nearest, extractive or teaching"
            )

    def _decode(self, prototypes: Prototypes, context: Context, rng: np.random.Generator) -> DecodingResult:
        seed = int(rng.integers(2**32))
        pool = CandidatePool(
            prototypes, context, rng, language=self.language, max_copied_span=self.max_copied_span
        )
        model, tokenizer = self._load()
        width = Width(self.beam, self.branch, self.stride, context.max_tokens, self.temperature)
        search = BeamSearch(model, tokenizer, context.embed, width, context.progress)
        prompts = [
            _prompt(
                tokenizer,
                ClusterSummary.of(
                    members, label, pool.words, context.source, examples=0, keywords=self.keywords
                ),
                context.max_tokens,
            )
            for members, label in zip(prototypes.members, prototypes.labels.tolist(), strict=True)
        ]
        selected: list[DecodedText | None] = [None] * len(prompts)
        for turn in range(TURNS):
            missing = [row for row, text in enumerate(selected) if text is None]
            if missing:
                seeds = [(seed, turn, row) for row in missing]
                drafts = search.find([prompts[row] for row in missing], prototypes.vectors[missing], seeds)
                pairs = [(row, text) for row, texts in zip(missing, drafts, strict=True) for text in texts]
                pool.add(
                    [row for row, _ in pairs],
                    [without_half_sentence(text, self.language) for _, text in pairs],
                )
                selected = pool.select()
        written = [text for text in selected if text is not None]
        if len(written) < len(selected):
            raise InputError(
                f"expected a text of its own for each of {len(selected)} prototypes, found {len(written)} in "
                f"{TURNS} turns ({pool.counts.copied} texts shared more than {self.max_copied_span} words in "
                "a row with a source row); raise max_copied_span or the temperature, or ask for fewer texts"
            )
        decoded = copied_spans(written, context)
        audit = audit_written(decoded, context)
        context.progress.note(note_of_audit(audit))
        return DecodingResult(tuple(decoded), {"drafts": pool.counts.as_dict(), "audit": audit})

    def _load(self) -> tuple[Any, Any]:
        """Loads the model onto its device, and its tokenizer."""
        from dallme.models.language import load_causal

        model, tokenizer = load_causal(self.model)
        return model.to(find_device(self.device)), tokenizer


def _prompt(tokenizer: Any, summary: ClusterSummary, max_tokens: int) -> str:
    """Returns the prompt for a cluster, in the tokenizer's chat format if it has one."""
    chat = messages(summary, max_tokens)
    if tokenizer.chat_template:
        return str(tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False))
    keywords = f" ({', '.join(summary.keywords)})" if summary.keywords else ""
    return f"A text about {summary.label}{keywords}:\n"
