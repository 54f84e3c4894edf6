"""The algorithm: embed, condense, decode (Figure 2 of the paper)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from dallme import registry
from dallme.condensers.base import Condenser
from dallme.console import make_progress, quiet_libraries
from dallme.data import (
    Budget,
    Fingerprint,
    LabelledTexts,
    LabelledVectors,
    Prototypes,
    canonical_order,
    is_identity,
    reorder,
)
from dallme.dataset import DistilledDataset, trace
from dallme.dataset.manifest import Clock, build_manifest
from dallme.decoders.base import Context, Decoder, DecodingResult, SourceCache
from dallme.decoders.targets import find_target
from dallme.embedders.base import Embedder, count_words
from dallme.embedders.cache import CachedEmbedder
from dallme.errors import InputError
from dallme.personal import check_personal, describe_texts
from dallme.readers import read
from dallme.scale import Engine, make_engine
from dallme.validation import check_positive, check_seed, check_vectors

#: Largest binary exponent, of either sign, that ready vectors keep.
MAX_EXPONENT = 20

#: Smallest share of `total_tokens` that a text can be written in.
LEAST_TOKENS = 8


@dataclass(frozen=True, eq=False)
class Distillation:
    """A distilled set with the intermediate results of its run.

    Attributes:
        context: The source texts, their vectors and everything else that the decoder used, in canonical row
            order.
        prototypes: The condensed vectors.
        distilled: The distilled set.
    """

    context: Context
    prototypes: Prototypes
    distilled: DistilledDataset


@dataclass(frozen=True)
class Distiller:
    """Distils a labelled text dataset into a few readable texts.

    Give exactly one of `per_class`, `ratio` and `total`.

    Attributes:
        per_class: Texts per class.
        ratio: Share of the source's rows, in (0, 1].
        total: Texts in all.
        allocation: Division of a total among the classes: ``equal``, ``proportional`` or ``sqrt``.
        embedder: A name, a Hub id, a folder, an embedder, or any object with ``encode(list of strings)``.
        condenser: A name or a condenser.
        target: What the texts will train: ``any``, ``words``, ``vectors``, ``encoder`` or ``prompt``
            (:mod:`dallme.decoders.targets`). It chooses the decoder where none is named.
        decoder: A name or a decoder; None takes the one of the target.
        decoder_options: Options of the decoder, if it is a name.
        prompt: Task-specific prompt put before each text when it is embedded (section 5.4).
        soft_labels: Whether to add class probabilities of each text
            (:mod:`dallme.decoders.soft_labels`).
        max_tokens: Maximum number of tokens per distilled text, by the embedder's tokenizer, special tokens
            included.
        total_tokens: Maximum number of tokens of all texts together; it lowers `max_tokens` to an equal share
            for each text. None sets no limit.
        seed: Seed of every random choice.
        store: Folder that caches vectors, so that no text is embedded twice; None caches nothing.
        redact: Whether to replace personal data in the source by placeholders such as ``<EMAIL_1>`` before
            anything is embedded or chosen. It finds what :func:`~dallme.personal.find_personal` finds.
        max_personal: Maximum number of places with personal data in the texts; more is an error, None allows
            any number.
        engine: Engine that runs the work: ``local``, ``ray``, or an object such as
            :class:`~dallme.scale.RayEngine`. The result is the same.
        progress: Receiver of progress and notes. None shows them on standard error, or as bars in a notebook;
            False shows nothing.

    Example:
        >>> texts = ["a fine film", "a good play", "a bad film", "a poor play"]
        >>> labels = ["good", "good", "bad", "bad"]
        >>> len(Distiller(per_class=1, embedder="hashing").distill(texts, labels))
        2
    """

    per_class: int | None = None
    ratio: float | None = None
    total: int | None = None
    allocation: str = "equal"
    embedder: Any = "all-MiniLM-L6-v2"
    condenser: str | Condenser = "k-centroid"
    target: str = "any"
    decoder: Any = None
    decoder_options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    prompt: str | None = None
    soft_labels: bool = False
    max_tokens: int = 128
    total_tokens: int | None = None
    seed: int = 0
    store: str | Path | None = None
    redact: bool = False
    max_personal: int | None = None
    engine: str | Engine = field(default="local", compare=False)
    progress: Any = field(default=None, compare=False)

    def __post_init__(self) -> None:
        """Checks the options, so that an invalid one fails before the embedding; no model is loaded."""
        if self.progress is None or isinstance(self.progress, bool):
            object.__setattr__(self, "progress", make_progress(self.progress))
        check_positive(self.max_tokens, "max_tokens")
        if self.total_tokens is not None:
            check_positive(self.total_tokens, "total_tokens")
        check_seed(self.seed)
        if self.max_personal is not None:
            check_positive(self.max_personal, "max_personal", least=0)
        target = find_target(self.target)
        if self.decoder is None:
            object.__setattr__(self, "decoder", target.decoder)
        if isinstance(self.decoder, str):
            options = target.options_for(self.decoder) | dict(self.decoder_options)
            object.__setattr__(self, "decoder_options", options)
        self.budget, self.resolved_condenser, self.resolved_decoder, self.resolved_engine  # noqa: B018

    def distill(
        self,
        source: Any,
        labels: Sequence[Any] | None = None,
        *,
        vectors: Any = None,
        test: LabelledTexts | None = None,
        **reading: Any,
    ) -> DistilledDataset:
        """Distils a dataset: embed, condense, decode.

        Args:
            source: A list of texts, a pandas or polars frame, a `datasets.Dataset`, a path, or a Hub id.
            labels: The classes, if the source is a list of texts.
            vectors: Ready vectors of shape (n, d), one per text; then no embedder is loaded.
            test: Test rows; decoders that write new texts report the overlap with them.
            **reading: Other arguments of :func:`dallme.read`: `text_column`, `label_column`, `drop_bad_rows`,
                `encoding` …

        Returns:
            The distilled texts with their lineage.

        Raises:
            InputError: If the source, the vectors or the budget cannot be used.
            PersonalDataError: If the texts hold more personal data than `max_personal`.
        """
        texts = read(source, labels, engine=self.resolved_engine, **reading)
        for note in texts.notes:
            self.progress.note(note)
        return self.run(texts, vectors=vectors, test=test).distilled

    def run(
        self,
        texts: LabelledTexts,
        *,
        vectors: Any = None,
        test: LabelledTexts | None = None,
        cache: SourceCache | None = None,
    ) -> Distillation:
        """Distils labelled texts, and keeps the intermediate results: vectors and prototypes.

        Args:
            texts: The source.
            vectors: Ready vectors of shape (n, d), one per text; then no embedder is loaded.
            test: As in :meth:`distill`.
            cache: Values shared by runs with the same embedder, such as other budgets, decoders and seeds.

        Raises:
            InputError: If the budget is impossible, or ready vectors are to be redacted.
            PersonalDataError: If the texts hold more personal data than `max_personal`.
        """
        if self.redact:
            if vectors is not None:
                raise InputError(
                    "expected no ready vectors with redact, as they were made of the original texts; "
                    "leave one of the two out"
                )
            texts = texts.redacted()
        self.allocate(texts)  # an impossible budget fails before the embedding
        self._token_limit(texts)
        clock = Clock()
        with quiet_libraries():
            with clock.lap("embed"):
                if vectors is None:
                    # Before the embedding: nothing is reordered later.
                    texts = reorder(texts, canonical_order(texts))
                    context = self._context(texts, self.embed(texts), self.resolved_embedder, test, cache)
                else:
                    embedded = self.adopt(texts, vectors)
                    context = self.context(texts, embedded, with_embedder=False, test=test, cache=cache)
            with clock.lap("condense"):
                prototypes = self.condense(context)
            with clock.lap("decode"):
                result = self.decode(prototypes, context)
            distilled = self._assemble(prototypes, result, context, clock.seconds)
        return Distillation(context, prototypes, self._check_personal(distilled, texts.redactions))

    def _check_personal(
        self, distilled: DistilledDataset, redactions: Mapping[str, int] | None
    ) -> DistilledDataset:
        """Records the personal data of a set in its manifest, and checks the limit."""
        counts, _ = describe_texts(distilled.texts)
        if self.max_personal is not None:
            remedy = "redact the source with redact=True, or set a higher max_personal"
            check_personal(distilled.texts, self.max_personal, remedy)
        if not counts and redactions is None:
            return distilled
        findings = {"found": counts} | ({} if redactions is None else {"redacted": dict(redactions)})
        return replace(distilled, manifest=distilled.manifest | {"personal": findings})

    def embed(self, texts: LabelledTexts) -> LabelledVectors:
        """Embeds the texts of the source that the store does not hold.

        Raises:
            TextError: If the embedder cannot embed a text; the error names the row as the source does.
        """
        return self.cached_embedder.embed_source(texts)

    def condense(self, context: Context) -> Prototypes:
        """Condenses the vectors of the source to as many prototypes as the budget allows."""
        budget = self.allocate(context.source)
        return self.resolved_condenser.condense(
            context.vectors, budget, seed=self.seed, progress=self.progress, engine=self.resolved_engine
        )

    def decode(self, prototypes: Prototypes, context: Context) -> DecodingResult:
        """Turns the prototypes into texts."""
        return self.resolved_decoder.decode(prototypes, context, seed=self.seed)

    def adopt(self, texts: LabelledTexts, vectors: Any) -> LabelledVectors:
        """Takes ready vectors in place of embedding.

        Very large and very small vectors are multiplied by a power of two, since their squares do not fit a
        float32. This changes no direction.

        Raises:
            InputError: If they are not one finite vector a text, or one holds nothing but zeros.
        """
        checked = check_vectors(vectors, rows=len(texts))
        zero = np.flatnonzero(~checked.any(axis=1))
        if len(zero):
            raise InputError(
                f"expected vectors with a direction, found nothing but zeros in {len(zero)} rows, "
                f"the first is row {zero[0]}; leave those texts out, or embed them again"
            )
        exponent = int(np.frexp(np.abs(checked).max())[1])
        if abs(exponent) > MAX_EXPONENT:
            checked = np.ldexp(checked, -exponent)
        return LabelledVectors(
            checked, texts.labels, Fingerprint("given", "unknown", checked.shape[1], normalized=False)
        )

    def allocate(self, texts: LabelledTexts) -> dict[int, int]:
        """Returns the number of texts of each class id; equal texts of a class count once."""
        distinct: dict[int, set[str]] = {label: set() for label in texts.class_counts}
        for text, label in zip(texts.texts, texts.labels.tolist(), strict=True):
            distinct[label].add(text)
        return self.budget.allocate(
            {label: len(own) for label, own in distinct.items()}, texts.label_names, rows=len(texts)
        )

    def context(
        self,
        texts: LabelledTexts,
        vectors: LabelledVectors,
        *,
        with_embedder: bool = True,
        test: LabelledTexts | None = None,
        cache: SourceCache | None = None,
    ) -> Context:
        """Returns the input of the decoder. Without an embedder, words and punctuation marks count as tokens.

        The rows are put into :func:`~dallme.data.canonical_order`, so that a shuffled source gives the same
        texts. Positions of rows, as in the members of prototypes, refer to that order; row ids stay with
        their rows.
        """
        order = canonical_order(texts, vectors.vectors)
        if not is_identity(order):
            texts = reorder(texts, order)
            vectors = LabelledVectors(vectors.vectors[order], texts.labels, vectors.fingerprint)
        return self._context(texts, vectors, self.resolved_embedder if with_embedder else None, test, cache)

    def _context(
        self,
        texts: LabelledTexts,
        vectors: LabelledVectors,
        embedder: Embedder | None,
        test: LabelledTexts | None,
        cache: SourceCache | None,
    ) -> Context:
        return Context(
            texts,
            vectors,
            embedder.count_tokens if embedder else count_words,
            self._token_limit(texts),
            embedder,
            self.progress,
            self.resolved_engine,
            prompt=self.prompt,
            test=test,
            answers=None if self.store is None else Path(self.store) / "answers",
            cache=SourceCache() if cache is None else cache,
        )

    def _token_limit(self, texts: LabelledTexts) -> int:
        """Returns the maximum number of tokens per text.

        Raises:
            InputError: If `total_tokens` leaves fewer than :data:`LEAST_TOKENS` for each.
        """
        if self.total_tokens is None:
            return self.max_tokens
        count = sum(self.allocate(texts).values())
        if (share := self.total_tokens // count) < LEAST_TOKENS:
            raise InputError(
                f"expected at least {LEAST_TOKENS} tokens for each of {count:,} texts, found "
                f"{self.total_tokens:,} in all; ask for fewer texts or more tokens"
            )
        return min(self.max_tokens, share)

    @cached_property
    def budget(self) -> Budget:
        """The number of texts."""
        return Budget(self.per_class, self.ratio, self.total, self.allocation)

    @cached_property
    def cached_embedder(self) -> CachedEmbedder:
        """The embedder with its prompt and store."""
        return CachedEmbedder(self.embedder, self.prompt, self.store, self.progress, self.resolved_engine)

    @property
    def resolved_embedder(self) -> Embedder:
        """The embedder itself, looked up on first use."""
        return self.cached_embedder.model

    @cached_property
    def resolved_condenser(self) -> Condenser:
        """The condenser itself."""
        condenser: Condenser = _resolve_part("condensers", self.condenser, Condenser)
        return condenser

    @cached_property
    def resolved_decoder(self) -> Decoder:
        """The decoder itself."""
        decoder: Decoder = _resolve_part("decoders", self.decoder, Decoder, self.decoder_options)
        return decoder

    @cached_property
    def resolved_engine(self) -> Engine:
        """The engine itself."""
        return make_engine(self.engine)

    def _assemble(
        self, prototypes: Prototypes, result: DecodingResult, context: Context, seconds: dict[str, float]
    ) -> DistilledDataset:
        """Combines the texts with their lineage and manifest."""
        source, embedder = context.source, context.embedder
        texts = tuple(decoded.text for decoded in result.texts)
        own = self.cached_embedder.embed(texts) if embedder else None
        lineage = trace(
            prototypes, result.texts, source.row_ids, own, result.decoder or _name_of(self.decoder)
        )
        cost = (embedder.spent_usd if embedder else 0.0) + result.metadata.get("cost_usd", 0.0)
        manifest = build_manifest(
            self._configuration(embedder), source, context.vectors.fingerprint, seconds, cost
        )
        probabilities = None
        if self.soft_labels:
            from dallme.decoders.soft_labels import soft_labels

            quoted = np.array([row for text in result.texts for row in text.rows], dtype=np.int64)
            probabilities = soft_labels(texts, prototypes.labels, quoted, context)
        if result.metadata:
            manifest |= {"decoding": dict(result.metadata)}
        return DistilledDataset(
            texts,
            prototypes.labels,
            source.label_names,
            prototypes.weights,
            lineage,
            manifest,
            source.own_ids,
            probabilities,
        )

    def _configuration(self, embedder: Embedder | None) -> dict[str, Any]:
        """Returns the options as the manifest holds them; the embedder is None for ready vectors."""
        return {
            "budget": {key: value for key, value in asdict(self.budget).items() if value is not None},
            "embedder": embedder.name if embedder else None,
            "condenser": _name_of(self.condenser),
            "condenser_options": asdict(self.resolved_condenser),
            "decoder": _name_of(self.decoder),
            "decoder_options": _options_of(self.resolved_decoder),
            "prompt": self.prompt,
            "max_tokens": self.max_tokens,
            "seed": self.seed,
            **({} if self.target == "any" else {"target": self.target}),
            **({"redact": True} if self.redact else {}),
            **({"soft_labels": True} if self.soft_labels else {}),
            **({} if self.total_tokens is None else {"total_tokens": self.total_tokens}),
        }


def _options_of(decoder: Decoder) -> dict[str, Any]:
    """Returns the options of a decoder; the default separator is left out, as in sets of version 0.1."""
    return {name: value for name, value in asdict(decoder).items() if (name, value) != ("separator", " ")}


def _name_of(part: str | Condenser | Decoder) -> str:
    """Returns the name of a part in the manifest: its registry name, or its class."""
    return part if isinstance(part, str) else type(part).__name__


def _resolve_part(role: str, part: Any, kind: type, options: Mapping[str, Any] | None = None) -> Any:
    """Makes a part from its name and options, or returns the object if it is one."""
    if isinstance(part, str):
        return registry.make(role, part, **(options or {}))
    if options:
        raise InputError(
            f"expected options of a {role[:-1]} with its name only, found {dict(options)} with {part!r}"
        )
    if not (isinstance(part, kind) and is_dataclass(part)):
        raise InputError(
            f"expected a {role[:-1]}: one of {', '.join(registry.names(role))} or a {kind.__name__}, "
            f"found {part!r}"
        )
    return part
