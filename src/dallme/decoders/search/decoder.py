"""Searches for a text near each prototype with a language model that was trained for nothing of the kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from dallme.data import DecodedText, Prototypes
from dallme.decoders.base import Context, Decoder
from dallme.decoders.briefs import Brief, messages
from dallme.decoders.drafting import Drafts
from dallme.decoders.search.beams import Finder, Width
from dallme.decoders.written import audit_written, copied_spans, note_of_audit, without_half_sentence
from dallme.errors import InputError
from dallme.models.devices import check_device, find_device
from dallme.validation import check_positive

#: How often a text is searched for a prototype that has no usable one.
TURNS = 3


@dataclass(frozen=True)
class SearchDecoder(Decoder):
    """Lets a causal language model propose continuations, and the embedder choose those whose vectors are near the prototype.

    This is zero-shot embedding inversion by beam search (Zhang, Morris and Shmatikov 2025, "Universal Zero-shot Embedding
    Inversion"): nothing is trained, and any embedder will do. The model is told the name of the class and key words of the
    cluster, never a row; a text that shares too long a run of words with a source row is refused, and no real text ever
    stands in. Of what the search holds at the end the set is kept that a linear probe finds surest in its classes, that is
    near the prototypes, and that classifiers learn most from (:func:`~dallme.decoders.ranking.choose`).

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
        if isinstance(self.temperature, bool) or not isinstance(self.temperature, (int, float)) or not 0 < self.temperature <= 2:
            raise InputError(f"expected temperature to be a number above 0, and of at most 2, found {self.temperature!r}")
        check_device(self.device, "auto")

    def _decode(self, prototypes: Prototypes, context: Context, rng: np.random.Generator) -> list[DecodedText]:
        if context.embedder is None:
            raise InputError(
                "expected an embedder that scores what is written, found none: the vectors were handed over; name the embedder "
                "that made them, or use nearest, extractive or teaching"
            )
        seed = int(rng.integers(2**32))
        drafts = Drafts(prototypes, context, rng, language=self.language, max_copied_span=self.max_copied_span)
        model, tokenizer = self._load()
        width = Width(self.beam, self.branch, self.stride, context.max_tokens, self.temperature)
        finder = Finder(model, tokenizer, context.embed, width, context.progress)
        briefs = [
            Brief.of(members, label, drafts.words, context.source, examples=0, keywords=self.keywords)
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
                drafts.add([place for place, _ in pairs], [without_half_sentence(text, self.language) for _, text in pairs])
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


def _prompt(tokenizer: Any, brief: Brief, max_tokens: int) -> str:
    """What the model reads first, in the form that it was trained to be asked in, where it was."""
    asked = messages(brief, max_tokens)
    if tokenizer.chat_template:
        return str(tokenizer.apply_chat_template(asked, add_generation_prompt=True, tokenize=False))
    named = f" ({', '.join(brief.keywords)})" if brief.keywords else ""
    return f"A text about {brief.label}{named}:\n"
