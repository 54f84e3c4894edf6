"""The cards of the report, one for each distilled text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from dallme.embedders import resolve
from dallme.embedders.base import count_words
from dallme.errors import DallmeError
from dallme.personal import mask, mask_value
from dallme.report.map import cut

if TYPE_CHECKING:
    from dallme.auditing.inputs import AuditInput
    from dallme.dataset import DistilledDataset, Lineage, RowId

#: Characters shown of each nearest source text.
NEAREST_CHARACTERS = 600


@dataclass(frozen=True)
class Badge:
    """A short finding on a text.

    Attributes:
        text: The words.
        warns: Whether it is a warning.
    """

    text: str
    warns: bool = True


@dataclass(frozen=True)
class Card:
    """One distilled text on the page.

    Attributes:
        index: Position in the set.
        text: The text.
        label: Position of its class among the classes.
        weight: Source rows behind it.
        facts: Weight, length, cosine and confidence: name to value.
        badges: Findings of the audit in a few words.
        sentences: Its sentences, each with the id of its source row or None.
        nearest: Row ids and shortened texts of the source rows nearest to its prototype.
        findings: Findings of the audit in whole sentences.
        parts: The text in pieces that are shown apart: its sentences, if several rows are behind them.
    """

    index: int
    text: str
    label: int
    weight: float
    facts: dict[str, str]
    badges: tuple[Badge, ...] = ()
    sentences: tuple[tuple[str, RowId | None], ...] = ()
    nearest: tuple[tuple[RowId, str], ...] = ()
    findings: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()


def make_cards(
    distilled: DistilledDataset,
    classes: Mapping[int, str],
    evidence: AuditInput | None,
    audit: Mapping[str, Any] | None,
    *,
    masked: bool = False,
) -> list[Card]:
    """Makes the cards of a set.

    Args:
        distilled: The set.
        classes: Class id to name, in the order of the page.
        evidence: The set with its source, if that is given.
        audit: The document of an audit.
        masked: Whether to mask personal data in the texts; a page that edits them shows them as they are.

    Returns:
        One card per text, in the order of the set.
    """
    position = {label: index for index, label in enumerate(classes)}
    facts = _facts(distilled, classes, evidence)
    show = mask if masked else str
    cards = []
    for index, (text, label) in enumerate(zip(distilled.texts, distilled.labels.tolist(), strict=True)):
        lineage = distilled.lineage[index]
        rows = lineage.sentence_rows or (None,) * len(lineage.sentences)
        badges = _audit_badges(index, audit) if audit else _lineage_badges(lineage.label_agrees)
        cards.append(
            Card(
                index=index,
                text=show(text),
                parts=tuple(map(show, _parts(text, lineage))),
                label=position[label],
                weight=float(distilled.weights[index]),
                facts=facts[index],
                badges=tuple(badges),
                sentences=tuple(zip(map(show, lineage.sentences), rows, strict=False)),
                nearest=_nearest(index, evidence),
                findings=tuple(_findings(audit["texts"][index])) if audit else (),
            )
        )
    return cards


def _parts(text: str, lineage: Lineage) -> list[str]:
    """Cuts a collage after each sentence; the pieces together are the text."""
    if len(set(lineage.sentence_rows)) < 2:
        return [text]
    starts, end = [], 0
    for sentence in lineage.sentences:
        start = text.find(sentence, end)
        if start < 0 or text[end:start].strip():
            return [text]  # it was edited
        starts.append(start)
        end = start + len(sentence)
    if starts[0] or end < len(text):
        return [text]
    return [text[start:following] for start, following in pairwise([*starts, len(text)])]


def _facts(
    distilled: DistilledDataset, classes: Mapping[int, str], evidence: AuditInput | None
) -> list[dict[str, str]]:
    """Collects weight, length, cosine and the probe's confidence of each text, where known."""
    total = float(distilled.weights.sum())
    unit, counts = _lengths(distilled, embedded=evidence is not None and evidence.vectors is not None)
    confidence = None if evidence is None else evidence.confidence
    facts = []
    for index, (weight, lineage) in enumerate(
        zip(distilled.weights.tolist(), distilled.lineage, strict=True)
    ):
        rows = f"{weight:,.0f}" if weight == round(weight) else f"{weight:,.1f}"
        known = {
            "stands for": f"{rows} rows" + (f" ({weight / total:.1%})" if total > 0 else ""),
            unit: f"{counts[index]:,}",
        }
        if lineage.cosine is not None and np.isfinite(lineage.cosine):
            known["cosine to prototype"] = f"{lineage.cosine:.3f}"
        if evidence is not None and confidence is not None:
            known["probe’s confidence"] = f"{confidence[index]:.0%}" + _disagreement(evidence, classes, index)
        facts.append(known)
    return facts


def _disagreement(evidence: AuditInput, classes: Mapping[int, str], index: int) -> str:
    """Names the class that the probe predicts, if it is not the text's own."""
    assert evidence.probabilities is not None
    best = int(evidence.classes[evidence.probabilities[index].argmax()])
    return "" if best == evidence.distilled.labels[index] else f" (it says {classes[best]})"


def _lengths(distilled: DistilledDataset, *, embedded: bool) -> tuple[str, np.ndarray]:
    """Counts the tokens of each text, or its words if the set's embedder is not in use."""
    name = distilled.manifest.option("embedder")
    if embedded and name is not None:
        try:
            return "tokens", resolve(name).count_tokens(distilled.texts)
        except DallmeError:
            pass  # an object of the user, or a model of another machine
    return "words and signs", count_words(distilled.texts)


def _nearest(index: int, evidence: AuditInput | None) -> tuple[tuple[RowId, str], ...]:
    if evidence is None:
        return ()
    source = evidence.source
    rows = evidence.nearest[index].tolist()
    return tuple(
        (
            source.row_ids[[row]].tolist()[0],
            cut(mask(source.texts[row][: 4 * NEAREST_CHARACTERS]), NEAREST_CHARACTERS),
        )
        for row in rows
    )


def _lineage_badges(label_agrees: bool | None) -> list[Badge]:
    return [Badge("probe disagrees with the label")] if label_agrees is False else []


def _audit_badges(index: int, audit: Mapping[str, Any]) -> list[Badge]:
    """Summarises the audit of one text; a copied span is shown even below the threshold."""
    entry, summary = audit["texts"][index], audit["summary"]
    words, limit = entry["copied_span"]["words"], audit["thresholds"]["max_copied_span"]
    badges = [Badge(f"{words} words copied", warns=limit is not None and words > limit)] if words else []
    if index in summary["small_clusters"]:
        badges.append(Badge(f"small cluster: {entry['members']:,} rows"))
    if entry["label_agrees"] is False:
        badges.append(Badge("label disagreement"))
    if entry["personal"]:
        badges.append(Badge(f"personal data: {len(entry['personal'])}"))
    if any(index in (pair["first"], pair["second"]) for pair in summary["near_duplicates"]):
        badges.append(Badge("near duplicate"))
    contamination = summary["contamination"] or {"exact": [], "shared_13grams": []}
    if index in contamination["exact"]:
        badges.append(Badge("is in the test set"))
    elif index in contamination["shared_13grams"]:
        badges.append(Badge("shares 13 words with the test set"))
    return badges


def _findings(entry: Mapping[str, Any]) -> list[str]:
    """Writes the audit of one text in sentences."""
    span = entry["copied_span"]
    where = "" if span["row"] is None else f" (row {span['row']})"
    quoted = f": “{mask(span['text'])}”" if span["words"] else ""
    sentences = [
        f"Longest span shared with a source row: {span['words']} words{where}{quoted}",
        f"Of its runs of five words, {entry['copied_5grams']:.0%} occur in the source.",
        f"Its cluster has {entry['members']:,} rows.",
    ]
    if entry["label_confidence"] is not None:
        says = f"; it says {entry['predicted']}" if entry["predicted"] is not None else ""
        sentences.append(f"A probe of the full data gives its label {entry['label_confidence']:.0%}{says}.")
    personal = [f"Personal data, perhaps: {item['kind']} “{_masked(item)}”" for item in entry["personal"]]
    return sentences + personal


def _masked(item: Mapping[str, Any]) -> str:
    """Returns the masked value of a finding; audits of version 0.1 hold the value itself."""
    masked: str = item.get("masked") or mask_value(item.get("text", ""))
    return masked
