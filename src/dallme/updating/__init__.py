"""Updates of a distilled set: new rows in, old rows out, the same number of texts.

:mod:`~dallme.updating.restoring` makes the parts of the set again, :mod:`~dallme.updating.rows` finds the new
rows, :mod:`~dallme.updating.clusters` puts them into the clusters, and :func:`update` writes the texts of
changed clusters anew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from dallme.classifiers.base import Classifier
from dallme.data import DecodedText, LabelledTexts, canonical_order, reorder
from dallme.dataset import TABLE, DistilledDataset, RowId, trace
from dallme.dataset.manifest import Clock, build_manifest
from dallme.decoders.base import Context, DecodingResult
from dallme.decoders.targets import find_target
from dallme.distiller import Distiller
from dallme.embedders.cache import CachedEmbedder, EmbeddingStore, open_table
from dallme.evaluation.evaluate import evaluate, make_classifiers
from dallme.files.atomic import sha256_of
from dallme.personal import describe_texts
from dallme.progress import SilentProgress
from dallme.text import text_keys
from dallme.updating.clusters import EQUAL, SOURCE, Regrouped, regroup, take
from dallme.updating.restoring import LOCAL, Parts
from dallme.updating.rows import Reader, UpdateRows, gather_rows


def update(
    distilled: DistilledDataset,
    source: Any,
    *,
    old: Sequence[Any] = (),
    drop: Sequence[RowId | str] = (),
    read: Reader,
    folder: Path | None = None,
    parts: Parts | None = None,
    test: Callable[[LabelledTexts], LabelledTexts] | None = None,
    classifiers: Sequence[str] | Mapping[str, Classifier] | None = None,
) -> DistilledDataset:
    """Updates a set: new rows join its clusters, dropped rows leave them, changed texts are written anew.

    Args:
        distilled: The set; it is not changed.
        source: The new rows, or all rows again; None if rows are only dropped.
        old: The earlier sources in their order; empty looks for those that the manifest names.
        drop: Ids of rows to drop.
        read: Reads a source.
        folder: Folder of the set, beside which its sources are searched.
        parts: Embedder, decoder and store.
        test: Reads test rows, with the classes of the given rows, to compare the set before and after.
        classifiers: Classifiers of that comparison; by default those of the target.

    Returns:
        The next set; ``update`` in its manifest describes the changes.

    Raises:
        InputError: If the set or a source cannot be used, or nothing would change.
    """
    clock, distiller = Clock(), (parts or Parts()).distiller(distilled)
    place, redact = folder or Path(), distiller.redact
    rows = gather_rows(distilled, source, old, drop, read=read, folder=place, redact=redact)
    held_out = None if test is None else test(rows.texts)
    if classifiers is None:
        classifiers = find_target(distiller.target).classifiers
    if held_out is not None and not isinstance(classifiers, Mapping):
        classifiers = make_classifiers(classifiers, distiller.cached_embedder)
    texts = rows.select()
    is_new = np.arange(len(texts)) >= len(rows.old)
    order = canonical_order(texts)
    texts, is_new = reorder(texts, order), is_new[order]
    distiller.allocate(texts)  # an impossible budget fails before the embedding
    embedded = _count_missing(distiller.cached_embedder, texts.texts)
    with clock.lap("embed"):
        context = distiller.context(texts, distiller.embed(texts), test=held_out)
    with clock.lap("condense"):
        groups = _regroup(distiller, distilled, context, is_new, set(rows.dropped))
    _mark_dropped(groups, distilled, set(texts.row_ids.tolist()) - set(rows.dropped))
    with clock.lap("decode"):
        decoded, result = _decode(distiller, distilled, groups, context)
    metadata = dict(result.metadata)
    made = _assemble(distiller, distilled, groups, decoded, result.decoder, context)
    manifest = build_manifest(
        _configuration(distiller, distilled, named=(parts or Parts()).decoder),
        texts,
        context.vectors.fingerprint,
        clock.seconds,
        distiller.resolved_embedder.spent_usd + metadata.get("cost_usd", 0.0),
    )
    report = _report(distilled, made, groups, rows) | {"rows": _count_rows(rows, len(texts), embedded)}
    if held_out is not None and isinstance(classifiers, Mapping):
        report["accuracy"] = _compare(distilled, made, held_out, classifiers, distiller)
    counts, _ = describe_texts(made.texts)
    personal = {"found": counts} | ({} if rows.redactions is None else {"redacted": rows.redactions})
    manifest |= {
        "decoding": dict(distilled.manifest.decoding or {}) | metadata or None,
        "personal": personal if counts or redact else None,
        "update": report,
    }
    return replace(made, manifest=manifest)


def _count_missing(embedder: CachedEmbedder, texts: Sequence[str]) -> int:
    """Counts the different texts whose vectors the store lacks."""
    distinct = list(dict.fromkeys(texts))
    if embedder.store is None or embedder.cache_key() is None:
        return len(distinct)
    store, model = EmbeddingStore(embedder.store), embedder.model
    table = open_table(store, model, embedder.fingerprint(), embedder.prompt, SilentProgress())
    return int((~table.lookup(text_keys(distinct))).sum())


def _regroup(
    distiller: Distiller,
    distilled: DistilledDataset,
    context: Context,
    is_new: np.ndarray,
    dropped: set[RowId],
) -> Regrouped:
    """Finds the remaining members of each text, and regroups the rows."""
    position = {row: index for index, row in enumerate(context.source.row_ids.tolist())}
    old: dict[int, list[tuple[int, np.ndarray]]] = {}
    removed = np.zeros(len(distilled), dtype=np.int64)
    for text, (label, lineage) in enumerate(zip(distilled.labels.tolist(), distilled.lineage, strict=True)):
        stay = [position[row] for row in lineage.member_rows if row not in dropped]
        removed[text] = len(lineage.member_rows) - len(stay)
        old.setdefault(label, []).append((text, np.array(stay, dtype=np.int64)))
    pending = (distilled.manifest.update or {}).get("pending") or []
    waiting = np.array(pending if len(pending) == len(distilled) else [0] * len(distilled), dtype=np.int64)
    budget = distiller.allocate(context.source)
    return regroup(distiller, context.vectors, is_new, budget, old, removed, waiting)


def _mark_dropped(groups: Regrouped, distilled: DistilledDataset, stay: set[RowId]) -> None:
    """Marks the texts that quote a row that does not stay, or have one among their nearest rows."""
    for place, origin in enumerate(groups.origins.tolist()):
        if origin >= 0:
            lineage = distilled.lineage[origin]
            if not stay.issuperset((*lineage.nearest_rows, *lineage.sentence_rows, *lineage.copied_rows)):
                groups.reasons[place] = SOURCE


def _decode(
    distiller: Distiller, distilled: DistilledDataset, groups: Regrouped, context: Context
) -> tuple[list[DecodedText], DecodingResult]:
    """Writes the texts of changed clusters; the others stay.

    A decoder that opens no model writes all texts, of which the changed ones are taken: it chooses them
    jointly, and a part of a class alone would look too rare to it. A text that stays is written anew if it
    equals a new text of its class.
    """
    joint = distiller.decoder in LOCAL
    position = {row: index for index, row in enumerate(context.source.row_ids.tolist())}
    labels = groups.prototypes.labels.tolist()
    while True:
        changed = np.array([place for place, why in enumerate(groups.reasons) if why], dtype=np.int64)
        result = DecodingResult(())
        if len(changed):
            part = groups.prototypes if joint else take(groups.prototypes, changed)
            result = distiller.resolved_decoder.decode(part, context, seed=distiller.seed)
        places = range(len(labels)) if joint and len(changed) else changed.tolist()
        decoded_at = dict(zip(places, result.texts, strict=True))
        written = {place: decoded_at[place] for place in changed.tolist()}
        taken = {(labels[place], text.text) for place, text in written.items()}
        equal = [
            place
            for place, origin in enumerate(groups.origins.tolist())
            if place not in written and (labels[place], distilled.texts[origin]) in taken
        ]
        if not equal:
            break
        for place in equal:
            groups.reasons[place] = EQUAL
    groups.pending[changed] = 0
    decoded = []
    for place, origin in enumerate(groups.origins.tolist()):
        if place in written:
            decoded.append(written[place])
            continue
        lineage = distilled.lineage[origin]
        copied = lineage.copied_rows[0] if lineage.copied_rows else None
        decoded.append(
            DecodedText(
                distilled.texts[origin],
                lineage.sentences,
                tuple(position[row] for row in lineage.sentence_rows),
                lineage.label_agrees,
                lineage.copied_span,
                None if copied is None else position[copied],
            )
        )
    return decoded, result


def _assemble(
    distiller: Distiller,
    distilled: DistilledDataset,
    groups: Regrouped,
    decoded: Sequence[DecodedText],
    decoder: str | None,
    context: Context,
) -> DistilledDataset:
    """Combines the texts with their lineage and soft labels."""
    texts, prototypes, source = tuple(text.text for text in decoded), groups.prototypes, context.source
    own = distiller.cached_embedder.embed(texts)
    lineage = list(trace(prototypes, decoded, source.row_ids, own, decoder or distiller.decoder))
    for place, (origin, reason) in enumerate(zip(groups.origins.tolist(), groups.reasons, strict=True)):
        if reason is None:
            lineage[place] = replace(lineage[place], decoder=distilled.lineage[origin].decoder)
    soft = None
    if distiller.soft_labels:
        from dallme.decoders.soft_labels import soft_labels

        quoted = np.array([row for text in decoded for row in text.rows], dtype=np.int64)
        soft = soft_labels(texts, prototypes.labels, quoted, context)
    names, weights = source.label_names, prototypes.weights
    return DistilledDataset(
        texts,
        prototypes.labels,
        names,
        weights,
        tuple(lineage),
        own_ids=source.own_ids,
        label_probabilities=soft,
    )


def _configuration(distiller: Distiller, distilled: DistilledDataset, *, named: str | None) -> dict[str, Any]:
    """Returns the options of the run; a ratio has become a number of texts."""
    options: dict[str, Any] = {
        "budget": {key: value for key, value in asdict(distiller.budget).items() if value is not None}
    }
    if named is not None:
        options |= {"decoder": named, "decoder_options": asdict(distiller.resolved_decoder)}
    return dict(distilled.manifest.configuration or {}) | options


def _count_rows(rows: UpdateRows, after: int, embedded: int) -> dict[str, int]:
    return {
        "before": len(rows.old) + len(rows.dropped),
        "new": len(rows.new),
        "known": rows.known,
        "dropped": len(rows.dropped),
        "after": after,
        "embedded": embedded,
    }


def _report(
    distilled: DistilledDataset, made: DistilledDataset, groups: Regrouped, rows: UpdateRows
) -> dict[str, Any]:
    """Describes the changes; it quotes no text that is gone, as its rows may have been dropped."""
    before = distilled.manifest.update or {}
    names = rows.texts.label_names
    stays = {
        origin: place
        for place, origin in enumerate(groups.origins.tolist())
        if origin >= 0 and made.texts[place] == distilled.texts[origin]
    }
    places = {place: origin for origin, place in stays.items()}
    why = dict(zip(groups.origins.tolist(), groups.reasons, strict=True))
    labels = distilled.labels.tolist()
    return {
        "version": before.get("version", 1) + 1,
        "parent_sha256": sha256_of([distilled.files("")[TABLE]]),
        "sources": rows.sources,
        "dropped": list(dict.fromkeys((*rows.dropped_before, *rows.dropped))),
        "pending": groups.pending.tolist(),
        "texts": [
            {
                "class": names[label],
                "before": places.get(place),
                "reason": None if place in places else reason,
            }
            for place, (label, reason) in enumerate(zip(made.labels.tolist(), groups.reasons, strict=True))
        ],
        "gone": [
            {"before": text, "class": names[label], "reason": why.get(text) or _why_gone(groups, label)}
            for text, label in enumerate(labels)
            if text not in stays
        ],
        "classes": {names[label]: drift.as_dict() for label, drift in groups.drift.items()},
    }


def _why_gone(groups: Regrouped, label: int) -> str:
    return (groups.drift[label].reason or "") if label in groups.drift else "class without rows"


def _compare(
    before: DistilledDataset,
    after: DistilledDataset,
    test: LabelledTexts,
    classifiers: Mapping[str, Classifier],
    distiller: Distiller,
) -> dict[str, Any]:
    """Measures both sets on the test rows whose class is in both."""
    shared = np.intersect1d(before.labels, after.labels)
    rows = test.take(np.flatnonzero(np.isin(test.labels, shared)))
    document: dict[str, Any] = {"test_rows": len(rows), "before": {}, "after": {}}
    if min(len(shared), len(rows.class_counts)) < 2:
        return document
    for name, each in (("before", before), ("after", after)):
        own = each.to_labelled_texts()
        own = own.take(np.flatnonzero(np.isin(own.labels, shared)))
        scores = evaluate(own, rows, classifiers, seed=distiller.seed, progress=distiller.progress)
        document[name] = {score.classifier: round(score.accuracy, 4) for score in scores}
    return document
