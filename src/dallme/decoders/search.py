"""Searches for a text near each prototype with a language model that was trained for nothing of the kind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from inspect import signature
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from dallme.data import DecodedText, Prototypes
from dallme.decoders.base import Context, Decoder
from dallme.decoders.cluster_summary import ClusterSummary, messages
from dallme.decoders.postprocess import (
    audit_written,
    copied_spans,
    embed_usable,
    is_whole,
    note_of_audit,
    tidy,
    without_half_sentence,
)
from dallme.decoders.selection import CandidatePool
from dallme.decoders.vec2text.generation import TokenSampler
from dallme.embedders.base import normalize
from dallme.errors import InputError
from dallme.models.devices import check_device, find_device
from dallme.progress import Progress, Task
from dallme.validation import check_positive

#: Token sequences of this length are not written twice in a text.
NO_REPEAT = 5


class Continuing:
    """Texts being written after prompts, a row each, with the keys and values of all that was read.

    Attributes:
        written: Tokens of each row, int64 of shape (r, t).
    """

    def __init__(self, model: Any, tokenizer: Any, prompts: Sequence[str]) -> None:
        """Reads the prompts, each once, whatever their lengths.

        Args:
            model: A causal model of transformers.
            tokenizer: Its tokenizer.
            prompts: One a row.
        """
        from transformers import DynamicCache

        self._model, self._cache = model, DynamicCache(config=model.config)
        # transformers gave the argument another name in 5.24.
        self._name = "cache" if "cache" in signature(model.forward).parameters else "past_key_values"
        ids = [tokenizer(prompt, add_special_tokens=False).input_ids for prompt in prompts]
        width, device = max(map(len, ids)), model.device
        words = torch.tensor([[0] * (width - len(row)) + row for row in ids], device=device)
        self._mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in ids], device=device)
        positions = (self._mask.cumsum(dim=1) - 1).clamp(min=0)
        self._scores = self._forward(words, positions)
        self.written = words[:, :0]

    def take(self, rows: Sequence[int]) -> None:
        """Goes on with the given rows only; a row may be given several times."""
        places = torch.tensor(list(rows), dtype=torch.long, device=self._mask.device)
        self._cache.batch_select_indices(places)
        self._mask, self._scores, self.written = (
            self._mask[places],
            self._scores[places],
            self.written[places],
        )

    def write(self, tokens: int, seeds: Sequence[Any], temperature: float) -> None:
        """Writes some tokens after each row.

        Args:
            tokens: How many.
            seeds: Seed of the draws of each row, as numpy takes seeds; None takes the likeliest.
            temperature: What scores are divided by.
        """
        from transformers import NoRepeatNGramLogitsProcessor

        forbid = NoRepeatNGramLogitsProcessor(NO_REPEAT)
        sampler = TokenSampler.from_seeds(seeds, tokens, temperature, self._mask.device)
        rows = torch.arange(len(self._mask), device=self._mask.device)
        for step in range(tokens):
            scores = forbid(self.written, self._scores) if self.written.shape[1] else self._scores
            self._read(sampler.sample(scores, rows, step)[:, None])

    def _read(self, words: Tensor) -> None:
        """Adds a word to each row, int64 of shape (r, 1)."""
        self.written = torch.cat([self.written, words], dim=1)
        self._mask = torch.cat([self._mask, self._mask.new_ones(len(words), 1)], dim=1)
        positions = self._mask.sum(dim=1, keepdim=True) - 1
        self._scores = self._forward(words, positions)

    def _forward(self, words: Tensor, positions: Tensor) -> Tensor:
        """Reads words, int64 of shape (r, w), into the cache; scores of the next word of each row, of shape (r, vocabulary)."""
        held = {self._name: self._cache}
        found = self._model(
            input_ids=words,
            attention_mask=self._mask,
            position_ids=positions,
            use_cache=True,
            logits_to_keep=1,
            **held,
        )
        scores: Tensor = found.logits[:, -1]
        return scores


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

    def find(
        self, prompts: Sequence[str], targets: np.ndarray, seeds: Sequence[tuple[int, ...]]
    ) -> list[list[str]]:
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


#: How often a text is searched for a prototype that has no usable one.
TURNS = 3


@dataclass(frozen=True)
class SearchDecoder(Decoder):
    """Lets a causal language model propose continuations, and the embedder choose those whose vectors are near the prototype.

    This is zero-shot embedding inversion by beam search (Zhang, Morris and Shmatikov 2025, "Universal Zero-shot Embedding
    Inversion"): nothing is trained, and any embedder will do. The model is told the name of the class and key words of the
    cluster, never a row; a text that shares too long a run of words with a source row is refused, and no real text ever
    stands in. Of what the search holds at the end the set is kept that a linear probe finds surest in its classes, that is
    near the prototypes, and that classifiers learn most from (:func:`~dallme.decoders.selection.choose`).

    Prefer it where no sentence of the source may be shown to anyone, and ``vec2text`` where an inverter is at hand. Key
    words are words of the source: with ``keywords=0`` none is told. It is slow on a processor: see the benchmarks.

    Attributes:
        model: A causal model: a folder, a Hub id, or ``smollm2``.
        beam: Texts held for each prototype.
        branch: Continuations drawn for each text held.
        stride: Tokens of a continuation.
        temperature: How freely continuations are drawn.
        keywords: Words of the cluster that the model is told; 0 tells none.
        max_copied_span: Longest run of words that a text may share with one source row.
        device: Where the model runs: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        language: ISO 639-1 code, for finding the ends of sentences.
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

    def _decode(
        self, prototypes: Prototypes, context: Context, rng: np.random.Generator
    ) -> list[DecodedText]:
        if context.embedder is None:
            raise InputError(
                "expected an embedder that scores what is written, found none: the vectors were handed over; name the embedder "
                "that made them, or use nearest, extractive or teaching"
            )
        seed = int(rng.integers(2**32))
        drafts = CandidatePool(
            prototypes, context, rng, language=self.language, max_copied_span=self.max_copied_span
        )
        model, tokenizer = self._load()
        width = Width(self.beam, self.branch, self.stride, context.max_tokens, self.temperature)
        finder = Finder(model, tokenizer, context.embed, width, context.progress)
        briefs = [
            ClusterSummary.of(
                members, label, drafts.words, context.source, examples=0, keywords=self.keywords
            )
            for members, label in zip(prototypes.members, prototypes.labels.tolist(), strict=True)
        ]
        prompts = [_prompt(tokenizer, brief, context.max_tokens) for brief in briefs]
        chosen: list[DecodedText | None] = [None] * len(prompts)
        for turn in range(TURNS):
            places = [place for place, text in enumerate(chosen) if text is None]
            if places:
                seeds = [(seed, turn, place) for place in places]
                found = finder.find([prompts[place] for place in places], prototypes.vectors[places], seeds)
                pairs = [(place, text) for place, texts in zip(places, found, strict=True) for text in texts]
                drafts.add(
                    [place for place, _ in pairs],
                    [without_half_sentence(text, self.language) for _, text in pairs],
                )
                chosen = drafts.choose()
        written = [text for text in chosen if text is not None]
        if len(written) < len(chosen):
            raise InputError(
                f"expected a text of its own for each of {len(chosen)} prototypes, found {len(written)} in {TURNS} turns "
                f"({drafts.tally.copied} texts shared more than {self.max_copied_span} words in a row with a source row); "
                "raise max_copied_span or the temperature, or ask for fewer texts"
            )
        decoded = copied_spans(written, context)
        context.findings.update(drafts=drafts.tally.as_dict(), audit=audit_written(decoded, context))
        context.progress.note(note_of_audit(context.findings["audit"]))
        return decoded

    def _load(self) -> tuple[Any, Any]:
        """The model on its device, and its tokenizer."""
        from dallme.models.language import load_causal

        model, tokenizer = load_causal(self.model)
        return model.to(find_device(self.device)), tokenizer


def _prompt(tokenizer: Any, brief: ClusterSummary, max_tokens: int) -> str:
    """What the model reads first, in the form that it was trained to be asked in, where it was."""
    asked = messages(brief, max_tokens)
    if tokenizer.chat_template:
        return str(tokenizer.apply_chat_template(asked, add_generation_prompt=True, tokenize=False))
    named = f" ({', '.join(brief.keywords)})" if brief.keywords else ""
    return f"A text about {brief.label}{named}:\n"
