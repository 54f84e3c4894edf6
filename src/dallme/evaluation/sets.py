"""The sets of texts that each method makes, at equal numbers of texts or of tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from dallme import registry
from dallme.baselines.base import Baseline
from dallme.data import LabelledTexts
from dallme.decoders.base import Context, Decoder
from dallme.decoders.nearest import first_sentences
from dallme.distiller import Distillation, Distiller
from dallme.errors import InputError
from dallme.evaluation.protocol import Protocol

#: What the budgets of a table can have in common.
MATCHES = ("texts", "tokens")

#: Ending of the row of a method whose texts have soft labels.
SOFT = " + soft labels"

#: Times that a number of texts is corrected by the tokens of the texts that it gave.
_CORRECTIONS = 3

#: A budget and a seed to a set, and the positions of the source rows that it quotes.
_Make = Callable[[Mapping[int, int], int], tuple[LabelledTexts, np.ndarray]]


def check_match(match: str) -> None:
    """Raises InputError if budgets cannot be matched by that."""
    if match not in MATCHES:
        raise InputError(f"expected budgets matched by {' or '.join(MATCHES)}, found {match!r}")


def count_tokens(texts: Sequence[str], context: Context) -> int:
    """Counts the tokens of texts together, special tokens included, as the token limit does."""
    return int(context.count_tokens(list(texts)).sum())


def count_sets(method: str, protocol: Protocol) -> int:
    """Counts the sets that :func:`make_sets` makes.

    Decoders make as many as the protocol says. Random baselines make the protocol's `draws` if that is more,
    other baselines make one.
    """
    if method.partition(":")[0] not in registry.names("baselines"):
        return protocol.sets
    baseline: Baseline = registry.make("baselines", method)
    return max(protocol.sets, protocol.draws) if baseline.varies else 1


def make_sets(
    distiller: Distiller,
    distillation: Distillation,
    method: str,
    protocol: Protocol,
    *,
    with_soft_labels: bool = False,
    match: str = "texts",
) -> list[LabelledTexts]:
    """Makes :func:`count_sets` sets with one method, under consecutive seeds from the distiller's on.

    A set depends on its seed alone, not on the number of sets.

    Args:
        distiller: Its budget, condenser and seed are used.
        distillation: Output of ``distiller.run`` on the source.
        method: Name of a baseline that returns texts, or of a decoder.
        protocol: Number of sets.
        with_soft_labels: Whether to add :func:`~dallme.decoders.soft_labels.soft_labels`.
        match: One of :data:`MATCHES`; see :func:`~dallme.evaluation.compare.compare`.
    """
    context, budget = distillation.context, distiller.allocate(distillation.context.source)
    is_baseline = method in registry.names("baselines")
    make = _by_baseline(method, context) if is_baseline else _by_decoder(method, distiller, distillation)
    fits = match == "tokens" and method not in ("full", distiller.decoder)
    sets = []
    for seed in range(distiller.seed, distiller.seed + count_sets(method, protocol)):
        texts, quoted = _fit_tokens(make, budget, seed, distillation) if fits else make(budget, seed)
        if with_soft_labels:
            from dallme.decoders.soft_labels import soft_labels

            soft = soft_labels(texts.texts, texts.labels, quoted, context)
            texts = replace(texts, probabilities=soft)
        sets.append(texts)
    return sets


def _by_baseline(method: str, context: Context) -> _Make:
    unlimited: Baseline = registry.make("baselines", method)
    baseline = unlimited.with_limit(context.max_tokens, context.count_tokens)

    def make(budget: Mapping[int, int], seed: int) -> tuple[LabelledTexts, np.ndarray]:
        texts = baseline.select(context.source, context.vectors, budget, seed=seed)
        quoted = np.flatnonzero(np.isin(context.source.row_ids, texts.row_ids))
        return _truncate(texts, context) if baseline.bounded else texts, quoted

    return make


def _by_decoder(method: str, distiller: Distiller, distillation: Distillation) -> _Make:
    context, own = distillation.context, distiller.allocate(distillation.context.source)
    template = distillation.distilled.to_labelled_texts()

    def make(budget: Mapping[int, int], seed: int) -> tuple[LabelledTexts, np.ndarray]:
        prototypes = distillation.prototypes
        if seed != distiller.seed or budget != own:
            prototypes = distiller.resolved_condenser.condense(
                context.vectors,
                budget,
                seed=seed,
                progress=distiller.progress,
                engine=distiller.resolved_engine,
            )
        elif method == distiller.decoder:
            ids = [row for each in distillation.distilled.lineage for row in each.sentence_rows]
            return template, np.flatnonzero(np.isin(context.source.row_ids, ids))
        decoder: Decoder = (
            distiller.resolved_decoder if method == distiller.decoder else registry.make("decoders", method)
        )
        decoded = decoder.decode(prototypes, context, seed=seed).texts
        texts = [text.text for text in decoded]
        rows = np.array([row for text in decoded for row in text.rows], dtype=np.int64)
        made = replace(template, texts=texts, labels=prototypes.labels, row_ids=np.arange(len(texts)))
        return made, rows

    return make


def _fit_tokens(
    make: _Make, budget: Mapping[int, int], seed: int, distillation: Distillation
) -> tuple[LabelledTexts, np.ndarray]:
    """Makes a set with as many texts of each class as fit the tokens of the distilled ones, at least one.

    The number of texts is estimated from the mean length of a text and corrected by what it gives. Texts at
    the end of a class that do not fit any more are left out.
    """
    context, distilled, source = distillation.context, distillation.distilled, distillation.context.source

    def tokens(texts: Sequence[str], rows: Sequence[int]) -> int:
        return count_tokens([texts[row] for row in rows], context)

    limits = {label: tokens(distilled.texts, _rows(distilled.labels, label)) for label in budget}
    available = {label: len({source.texts[row] for row in _rows(source.labels, label)}) for label in budget}
    counts = dict(budget)
    texts, quoted = make(counts, seed)
    for _ in range(_CORRECTIONS):
        estimated = {}
        for label, limit in limits.items():
            rows = _rows(texts.labels, label)
            mean = max(tokens(texts.texts, rows) / len(rows), 1)
            estimated[label] = int(np.clip(limit / mean, 1, available[label]))
        if estimated == counts:
            break
        counts = estimated
        texts, quoted = make(counts, seed)
    fitting: list[int] = []
    for label, limit in limits.items():
        rows = _rows(texts.labels, label)
        while len(rows) > 1 and tokens(texts.texts, rows) > limit:
            rows.pop()
        fitting += rows
    return texts.take(np.sort(fitting)), quoted


def _rows(labels: np.ndarray, label: int) -> list[int]:
    return [int(row) for row in np.flatnonzero(labels == label)]


def _truncate(texts: LabelledTexts, context: Context) -> LabelledTexts:
    """Truncates texts to the token limit after a whole sentence, as decoders do."""
    truncated = []
    for row, text in enumerate(texts.texts):
        beginning = first_sentences(text, row, context.max_tokens, context.count_tokens, "en")
        truncated.append(text if beginning is None else beginning.text)
    return replace(texts, texts=truncated)
