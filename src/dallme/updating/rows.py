"""The rows of an update: those of the earlier sources, the new ones, and those that are dropped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from dallme.auditing.inputs import find_source
from dallme.data import LabelledTexts
from dallme.dataset import DistilledDataset, RowId
from dallme.dataset.manifest import Manifest
from dallme.errors import InputError

#: Reads a source, also one of a single class.
Reader = Callable[[Any], LabelledTexts]


@dataclass(frozen=True, eq=False)
class UpdateRows:
    """All rows that a set was made of and will be made of.

    Attributes:
        texts: The rows of all sources in their order, each once, with the class ids of the set.
        redacted: Their texts as they are embedded.
        redactions: Number of replaced places by kind; None if nothing is redacted.
        sources: Entries of the manifest: ``source``, ``sha256`` and ``rows`` of each source.
        old: Positions of the rows behind the set that stay.
        new: Positions of the new rows.
        known: Number of rows of the new source that were known before.
        dropped: Ids of the rows that are dropped.
        dropped_before: Ids of the rows that earlier updates dropped.
    """

    texts: LabelledTexts
    redacted: Sequence[str]
    redactions: dict[str, int] | None
    sources: list[dict[str, Any]]
    old: np.ndarray
    new: np.ndarray
    known: int
    dropped: tuple[RowId, ...]
    dropped_before: tuple[RowId, ...]

    def select(self) -> LabelledTexts:
        """Returns the rows of the next set, the old ones first."""
        rows = replace(self.texts, texts=self.redacted).take(np.concatenate([self.old, self.new]))
        return replace(
            rows,
            label_names={label: self.texts.label_names[label] for label in rows.class_counts},
            source=" + ".join(entry["source"] for entry in self.sources),
            notes=self.texts.notes,
            original_digest=self.texts.digest,
            redactions=self.redactions,
        )


def gather_rows(
    distilled: DistilledDataset,
    new: Any,
    old: Sequence[Any],
    drop: Sequence[RowId | str],
    *,
    read: Reader,
    folder: Path,
    redact: bool = False,
) -> UpdateRows:
    """Reads the sources of a set and the new one, and finds the rows that are new.

    Args:
        distilled: The set.
        new: The new source; None if rows are only dropped.
        old: The earlier sources in their order; empty looks for those that the manifest names.
        drop: Ids of the rows to drop.
        read: Reads a source.
        folder: Folder of the set, beside which sources are searched.
        redact: Whether personal data is replaced, in each source on its own, so that old placeholders stay.

    Raises:
        InputError: If a source is another one, a dropped id is unknown, or nothing would change.
    """
    manifest = distilled.manifest
    update = manifest.update or {}
    sources = list(update.get("sources") or [{"source": manifest.source, "sha256": manifest.sha256}])
    if old and len(old) != len(sources):
        names = ", ".join(str(entry["source"]) for entry in sources)
        raise InputError(
            f"expected an --old for each of the {len(sources)} sources of the set ({names}), found {len(old)}"
        )
    texts: LabelledTexts | None = None
    redacted: list[str] = []
    counts: dict[str, int] = {}
    for number, entry in enumerate(sources):
        rows = manifest.rows if number == 0 and "rows" not in entry else entry.get("rows")
        part = _read_old(entry, rows, old[number] if old else None, read, folder)
        sources[number] = {"source": entry["source"], "sha256": entry["sha256"], "rows": len(part)}
        if texts is None:
            texts = replace(part, label_names=part.label_names | distilled.label_names)
        else:
            texts = _append(texts, part)[0]
        texts = _redact_end(texts, redacted, counts, redact=redact)
    assert texts is not None
    alive = _find_members(distilled, texts)
    dropped = _parse_ids(drop, alive, texts)
    before, known = len(texts), 0
    if new is not None:
        part = _labelled(read(new))
        sources.append({"source": part.public_source, "sha256": part.source_digest, "rows": len(part)})
        texts, known = _append(texts, part, alive.keys() - set(dropped))
        texts = _redact_end(texts, redacted, counts, redact=redact)
    if len(texts) == before and not dropped:
        raise InputError(
            f"expected new rows, found none: all {known:,} rows of {sources[-1]['source']!r} are known; "
            "name a source with new ones, or rows to drop with --drop"
        )
    return UpdateRows(
        texts,
        redacted,
        counts if redact else None,
        sources,
        np.sort(np.array([alive[row] for row in alive.keys() - set(dropped)], dtype=np.int64)),
        np.arange(before, len(texts)),
        known,
        dropped,
        tuple(update.get("dropped") or ()),
    )


def _redact_end(
    texts: LabelledTexts, redacted: list[str], counts: dict[str, int], *, redact: bool
) -> LabelledTexts:
    """Adds the last rows to the redacted texts, and their places to the counts; row ids are redacted too."""
    start = len(redacted)
    if not redact or start == len(texts):
        redacted += texts.texts[start:]
        return texts
    part = texts.take(np.arange(start, len(texts))).redacted()
    redacted += part.texts
    for kind, count in (part.redactions or {}).items():
        counts[kind] = counts.get(kind, 0) + count
    return replace(texts, row_ids=np.concatenate([texts.row_ids[:start], part.row_ids]))


def _read_old(
    entry: dict[str, Any], rows: int | None, given: Any, read: Reader, folder: Path
) -> LabelledTexts:
    """Reads an earlier source; one that has grown at its end is cut to its earlier rows.

    Raises:
        InputError: If it is not found, or is another one.
    """
    name, digest = entry["source"], entry["sha256"]
    if given is None:
        try:
            given = find_source(Manifest(data={"source": name}), folder)
        except InputError:
            raise InputError(
                f"expected the source {name!r} of the manifest here or beside the set, found none; "
                "name it with --old"
            ) from None
    texts = _labelled(read(given))
    if texts.source_digest == digest:
        return texts
    if rows is not None and len(texts) > rows:
        start = _renumbered(texts.take(np.arange(rows)))
        if start.digest == digest:
            return start
    raise InputError(
        f"expected the source {name!r} of the set (SHA-256 {str(digest)[:12]}…), found {len(texts):,} other "
        f"rows in {texts.source!r} ({texts.source_digest[:12]}…); name it with --old, and read it with the "
        "same column options"
    )


def _renumbered(texts: LabelledTexts) -> LabelledTexts:
    """Numbers the class names of some rows as a reader numbers them."""
    if texts.own_ids:
        return texts
    names = sorted(texts.label_names[label] for label in texts.class_counts)
    ids = {name: number for number, name in enumerate(names)}
    labels = np.array([ids[texts.label_names[label]] for label in texts.labels.tolist()], dtype=np.int64)
    return replace(texts, labels=labels, label_names=dict(enumerate(names)))


def _labelled(texts: LabelledTexts) -> LabelledTexts:
    """Returns texts that have class names, which a source without a column of labels lacks."""
    if texts.label_names == {0: ""}:
        raise InputError(
            f"{texts.source}: expected a column of labels, found none; name it with --label-column"
        )
    return texts


def _append(
    texts: LabelledTexts, part: LabelledTexts, taken: set[RowId] | None = None
) -> tuple[LabelledTexts, int]:
    """Appends the rows of a source whose text and class are not known yet.

    Args:
        texts: The rows so far.
        part: The source.
        taken: Ids that new rows must not have; None checks none, as the source was appended before.

    Returns:
        All rows, and the number of rows of the source that were known.

    Raises:
        InputError: If the ids are of another kind, or one is taken.
    """
    classes, names = _match_classes(texts, part)
    labels = np.array([classes[label] for label in part.labels.tolist()], dtype=np.int64)
    seen = set(zip(texts.texts, texts.labels.tolist(), strict=True))
    rows = [row for row, pair in enumerate(zip(part.texts, labels.tolist(), strict=True)) if pair not in seen]
    numbered = [each.row_ids.dtype.kind in "iu" for each in (texts, part)]
    if numbered[0] != numbered[1]:
        kinds = ["numbered rows" if each else "ids of a column" for each in numbered]
        raise InputError(
            f"{part.source}: expected {kinds[0]}, as in {texts.source}, found {kinds[1]}; "
            "read both with the same --id-column"
        )
    ids = part.row_ids[rows]
    if numbered[0]:
        ids = np.arange(len(rows), dtype=np.int64) + 1 + int(texts.row_ids.max())
    elif repeated := sorted(set(ids.tolist()) & (taken or set())):
        raise InputError(
            f"{part.source}: expected ids that the old rows do not have, found {repeated[0]!r} with another "
            "text; drop the old row with --drop, or give the new one another id"
        )
    joined = replace(
        texts,
        texts=[*texts.texts, *(part.texts[row] for row in rows)],
        labels=np.concatenate([texts.labels, labels[rows]]),
        label_names=names,
        row_ids=np.concatenate([texts.row_ids, ids]),
        notes=tuple(dict.fromkeys((*texts.notes, *part.notes))),
        original_digest="",
        probabilities=None,
    )
    return joined, len(part) - len(rows)


def _match_classes(texts: LabelledTexts, part: LabelledTexts) -> tuple[dict[int, int], dict[int, str]]:
    """Maps the class ids of a source to those of earlier rows, by name, or by number where one has no names.

    Returns:
        Class id of the source to that of the set, and the names of all classes. A new class keeps its number
        if it is free, else it gets the next one.
    """
    names = dict(texts.label_names)
    known = {name: label for label, name in names.items()}
    own = texts.own_ids and part.own_ids
    unnamed = own and any(
        all(name == str(label) for label, name in each.items()) for each in (names, part.label_names)
    )
    classes = {}
    for label in part.class_counts:
        name = part.label_names[label]
        if name in known:
            classes[label] = known[name]
        elif unnamed and label in names:
            classes[label] = label
        else:
            classes[label] = label if own and label not in names else max(names) + 1
            names[classes[label]] = name
    return classes, names


def _find_members(distilled: DistilledDataset, texts: LabelledTexts) -> dict[RowId, int]:
    """Returns the id and position of each row behind the set.

    Raises:
        InputError: If the lineage names rows that the sources lack, or of another class than the text.
    """
    position = {row: index for index, row in enumerate(texts.row_ids.tolist())}
    alive: dict[RowId, int] = {}
    for number, (label, lineage) in enumerate(zip(distilled.labels.tolist(), distilled.lineage, strict=True)):
        for row in lineage.member_rows:
            if row not in position:
                raise InputError(
                    f"expected ids of source rows in the lineage, found {row!r}, which no row has; name the "
                    "id column that the texts were distilled with (--id-column)"
                )
            alive[row] = position[row]
        if lineage.member_rows and texts.labels[position[lineage.member_rows[0]]] != label:
            raise InputError(
                f"expected texts with the class of their rows, found text {number} with another: a review "
                "gave it another label; make updates before reviews"
            )
    if not alive:
        raise InputError("expected a set with the rows behind its texts, found none; distil the set again")
    return alive


def _parse_ids(
    drop: Sequence[RowId | str], alive: dict[RowId, int], texts: LabelledTexts
) -> tuple[RowId, ...]:
    """Returns ids of rows, as numbers where the rows are numbered.

    Raises:
        InputError: If no row behind the set has one of them.
    """
    numbered = texts.row_ids.dtype.kind in "iu"
    ids: list[RowId] = []
    for name in dict.fromkeys(drop):
        found: RowId = int(name) if numbered and str(name).strip().isdecimal() else str(name)
        if found not in alive:
            raise InputError(
                f"expected ids of rows behind the set to drop, found {name!r}, which none of its "
                f"{len(alive):,} rows has; see member_rows in train.parquet"
            )
        ids.append(found)
    return tuple(ids)
