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
from dallme.data import (
    Budget,
    DecodedText,
    Fingerprint,
    LabelledTexts,
    LabelledVectors,
    Prototypes,
    canonical_order,
    in_order,
    is_identity,
)
from dallme.dataset import DistilledDataset, trace
from dallme.dataset.manifest import Clock, build_manifest
from dallme.decoders.base import Context, Decoder
from dallme.embedders.base import Embedder, TextError, count_words
from dallme.embedders.cache import EmbeddingStore, embed_with_store
from dallme.embedders.resolve import resolve
from dallme.errors import InputError
from dallme.progress import Progress, SilentProgress
from dallme.readers import read
from dallme.scale.base import Engine
from dallme.scale.resolve import make_engine
from dallme.validation import check_positive, check_seed, check_vectors


@dataclass(frozen=True, eq=False)
class Distillation:
    """What one run made.

    Attributes:
        context: The source texts, their vectors and what else the decoder saw, the rows in the canonical order.
        prototypes: The condensed vectors.
        distilled: The texts.
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
        allocation: How a total is divided among the classes: ``equal``, ``proportional`` or ``sqrt``.
        embedder: A name, a Hub id, a folder, an embedder, or any object with ``encode(list of strings)``.
        condenser: A name or a condenser.
        decoder: A name or a decoder.
        decoder_options: Options of the decoder, if it is a name.
        prompt: Task-specific prompt put before each text when it is embedded (section 5.4).
        max_tokens: Most tokens of a distilled text, by the embedder's tokenizer, special tokens included.
        seed: Seed of every random choice.
        store: Folder that keeps vectors, so that no text is embedded twice; None keeps none.
        engine: Where the work is done: ``local``, ``ray``, or an engine such as
            :class:`~dallme.scale.ray_engine.RayEngine`. The result is the same.
        progress: Where to show progress.

    Example:
        >>> texts = ["a fine film", "a good play", "a bad film", "a poor play"]
        >>> distilled = Distiller(per_class=1, embedder="hashing").distill(texts, ["good", "good", "bad", "bad"])
        >>> len(distilled)
        2
    """

    per_class: int | None = None
    ratio: float | None = None
    total: int | None = None
    allocation: str = "equal"
    embedder: Any = "all-MiniLM-L6-v2"
    condenser: str | Condenser = "k-centroid"
    decoder: str | Decoder = "teaching"
    decoder_options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    prompt: str | None = None
    max_tokens: int = 128
    seed: int = 0
    store: str | Path | None = None
    engine: str | Engine = field(default="local", compare=False)
    progress: Progress = field(default_factory=SilentProgress, compare=False)

    def __post_init__(self) -> None:
        """Checks the options; nothing is loaded."""
        check_positive(self.max_tokens, "max_tokens")
        check_seed(self.seed)
        self.budget  # noqa: B018 - a wrong budget is to fail now, not after the embedding
        self.resolved_condenser, self.resolved_decoder, self.resolved_engine  # noqa: B018 - and so is an unknown name

    def distill(
        self,
        source: Any,
        labels: Sequence[Any] | None = None,
        *,
        vectors: Any = None,
        text_column: str | None = None,
        label_column: str | None = None,
        test: LabelledTexts | None = None,
    ) -> DistilledDataset:
        """Distils a dataset: embed, condense, decode.

        Args:
            source: A list of texts, a pandas or polars frame, a `datasets.Dataset`, a path, or a Hub id.
            labels: The classes, if the source is a list of texts.
            vectors: Ready vectors of shape (n, d), one a text; then no embedder is loaded.
            text_column: Name of the column with the texts, where it has no usual one.
            label_column: Name of the column with the classes, where it has no usual one.
            test: Rows that the texts are to be tested on; decoders that write new texts tell what these share with them.

        Returns:
            The distilled texts with their lineage.

        Raises:
            InputError: If the source, the vectors or the budget cannot be used.
        """
        texts = read(
            source, labels, text_column=text_column, label_column=label_column, engine=self.resolved_engine
        )
        return self.run(texts, vectors=vectors, test=test).distilled

    def run(
        self,
        texts: LabelledTexts,
        *,
        vectors: Any = None,
        test: LabelledTexts | None = None,
        kept: dict[Any, Any] | None = None,
    ) -> Distillation:
        """Distils texts that are read already, and keeps what lies between: vectors and prototypes.

        Args:
            texts: The source.
            vectors: Ready vectors of shape (n, d), one a text; then no embedder is loaded.
            test: As in :meth:`distill`.
            kept: A dictionary for what runs with the same embedder share (:meth:`~dallme.decoders.base.Context.once`), as other
                budgets, decoders and seeds on one source; by default there is no other run.
        """
        clock = Clock()
        self.allocate(texts)  # a budget that cannot be met is to fail before the embedding
        with clock.lap("embed"):
            if vectors is None:
                texts = in_order(
                    texts, canonical_order(texts)
                )  # now, so that the vectors need not be put in order later
                context = self._context(texts, self.embed(texts), self.resolved_embedder, test)
            else:
                context = self.context(texts, self.adopt(texts, vectors), with_embedder=False, test=test)
        if kept is not None:
            context = replace(context, kept=kept)
        with clock.lap("condense"):
            prototypes = self.condense(context)
        with clock.lap("decode"):
            decoded = self.resolved_decoder.decode(prototypes, context, seed=self.seed)
        return Distillation(context, prototypes, self._describe(prototypes, decoded, context, clock.seconds))

    @cached_property
    def budget(self) -> Budget:
        """How many texts each class is given."""
        return Budget(self.per_class, self.ratio, self.total, self.allocation)

    @cached_property
    def resolved_embedder(self) -> Embedder:
        """The embedder itself, looked up on first use."""
        return resolve(self.embedder)

    @cached_property
    def resolved_condenser(self) -> Condenser:
        """The condenser itself."""
        condenser: Condenser = _part("condensers", self.condenser, Condenser)
        return condenser

    @cached_property
    def resolved_decoder(self) -> Decoder:
        """The decoder itself."""
        decoder: Decoder = _part("decoders", self.decoder, Decoder, self.decoder_options)
        return decoder

    @cached_property
    def resolved_engine(self) -> Engine:
        """The engine itself."""
        return make_engine(self.engine)

    def embed(self, texts: LabelledTexts) -> LabelledVectors:
        """Embeds the texts, taking from the store what it holds.

        Raises:
            TextError: If the embedder can make nothing of a text; it names the row as the source does.
        """
        try:
            vectors = self.embed_texts(texts.texts)
        except TextError as error:
            raise error.at(texts.row_ids[[error.row]].tolist()[0]) from None
        return LabelledVectors(vectors, texts.labels, self.resolved_embedder.fingerprint(self.prompt))

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Embeds texts, taking from the store what it holds; float32 of shape (n, d)."""
        store = None if self.store is None else EmbeddingStore(self.store)
        return embed_with_store(
            self.resolved_embedder,
            texts,
            prompt=self.prompt,
            store=store,
            progress=self.progress,
            engine=self.resolved_engine,
        )

    def allocate(self, texts: LabelledTexts) -> dict[int, int]:
        """Class id to number of texts. A text that stands twice in a class counts once: it can be distilled once."""
        distinct: dict[int, set[str]] = {label: set() for label in texts.class_counts}
        for text, label in zip(texts.texts, texts.labels.tolist(), strict=True):
            distinct[label].add(text)
        return self.budget.allocate(
            {label: len(found) for label, found in distinct.items()}, texts.label_names, rows=len(texts)
        )

    def condense(self, context: Context) -> Prototypes:
        """Condenses the vectors of the source to as many prototypes as the budget says."""
        budget = self.allocate(context.source)
        return self.resolved_condenser.condense(
            context.vectors, budget, seed=self.seed, progress=self.progress, engine=self.resolved_engine
        )

    def adopt(self, texts: LabelledTexts, vectors: Any) -> LabelledVectors:
        """Takes ready vectors in place of embedding.

        Raises:
            InputError: If they are not one finite vector a text.
        """
        checked = check_vectors(vectors, rows=len(texts))
        return LabelledVectors(
            checked, texts.labels, Fingerprint("given", "unknown", checked.shape[1], normalized=False)
        )

    def context(
        self,
        texts: LabelledTexts,
        vectors: LabelledVectors,
        *,
        with_embedder: bool = True,
        test: LabelledTexts | None = None,
    ) -> Context:
        """What the decoder may use; without an embedder tokens are words and signs.

        The rows come to stand in the :func:`~dallme.data.canonical_order`, so that a shuffled source makes the same texts.
        Positions of rows, as in the members of prototypes, count in that order; row ids go with their rows.
        """
        order = canonical_order(texts, vectors.vectors)
        if not is_identity(order):
            texts = in_order(texts, order)
            vectors = LabelledVectors(vectors.vectors[order], texts.labels, vectors.fingerprint)
        return self._context(texts, vectors, self.resolved_embedder if with_embedder else None, test)

    def _context(
        self,
        texts: LabelledTexts,
        vectors: LabelledVectors,
        embedder: Embedder | None,
        test: LabelledTexts | None,
    ) -> Context:
        count_tokens = embedder.count_tokens if embedder else count_words
        answers = None if self.store is None else Path(self.store) / "answers"
        return Context(
            texts,
            vectors,
            count_tokens,
            self.max_tokens,
            embedder,
            self.progress,
            self.resolved_engine,
            prompt=self.prompt,
            test=test,
            answers=answers,
        )

    def _describe(
        self, prototypes: Prototypes, decoded: list[DecodedText], context: Context, seconds: dict[str, float]
    ) -> DistilledDataset:
        """Puts the texts together with where they are from and how they were made."""
        source = context.source
        own = self.embed_texts([text.text for text in decoded]) if context.embedder else None
        findings = dict(context.findings)  # another decoder may be given the same context later
        lineage = trace(
            prototypes, decoded, source.row_ids, own, findings.pop("decoder", self._name(self.decoder))
        )
        cost = (context.embedder.spent_usd if context.embedder else 0.0) + findings.get("cost_usd", 0.0)
        manifest = build_manifest(
            self._configuration(context.embedder), source, context.vectors.fingerprint, seconds, cost
        )
        if findings:
            manifest |= {"decoding": findings}
        texts = tuple(text.text for text in decoded)
        return DistilledDataset(
            texts, prototypes.labels, source.label_names, prototypes.weights, lineage, manifest
        )

    def _configuration(self, embedder: Embedder | None) -> dict[str, Any]:
        """Every option, as the manifest holds it; without an embedder the vectors were handed over."""
        return {
            "budget": {key: value for key, value in asdict(self.budget).items() if value is not None},
            "embedder": embedder.name if embedder else None,
            "condenser": self._name(self.condenser),
            "condenser_options": asdict(self.resolved_condenser),
            "decoder": self._name(self.decoder),
            "decoder_options": asdict(self.resolved_decoder),
            "prompt": self.prompt,
            "max_tokens": self.max_tokens,
            "seed": self.seed,
        }

    def _name(self, part: str | Condenser | Decoder) -> str:
        """What the manifest calls a part: its registry name, or its class."""
        return part if isinstance(part, str) else type(part).__name__


def _part(role: str, part: Any, kind: type, options: Mapping[str, Any] | None = None) -> Any:
    """A part from its name and options, or the object itself if it is one."""
    if isinstance(part, str):
        return registry.make(role, part, **(options or {}))
    if options:
        raise InputError(
            f"expected options of a {role[:-1]} with its name only, found {dict(options)} with {part!r}"
        )
    if not (isinstance(part, kind) and is_dataclass(part)):
        raise InputError(
            f"expected a {role[:-1]}: one of {', '.join(registry.names(role))} or a {kind.__name__}, found {part!r}"
        )
    return part
