"""The audit of a set: copied spans, overlap with a test set, labels, personal data and readability."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from textwrap import shorten
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.feature_extraction.text import CountVectorizer

from dallme.auditing.mislabelled import Mislabelled
from dallme.auditing.mislabelled import mislabelled as find_mislabelled
from dallme.auditing.personal import Scanner
from dallme.auditing.poison import Suspect, suspects
from dallme.auditing.readability import Readability, measure, perplexity_of
from dallme.overlap import Contamination, Overlap, SuffixAutomaton, words_of
from dallme.personal import PersonalMatch, count_kinds, describe_kinds, mask, mask_span
from dallme.progress import Progress, SilentProgress
from dallme.text import clean, sentences
from dallme.validation import check_positive

if TYPE_CHECKING:
    from dallme.auditing.inputs import AuditInput
    from dallme.data import LabelledTexts

#: Texts whose vectors have at least this cosine are near duplicates.
NEAR_DUPLICATE = 0.95

#: Default number of rows below which a cluster is small: its text may be about a few people.
SMALL_CLUSTER = 5

#: A cluster is tight if its spread is at most this share of the median. Clean clusters of IMDB and AG-News
#: have at least 0.73, 250 rows of one planted sentence 0.30.
TIGHT = 0.5

#: Maximum number of characters of a row in a warning.
EXAMPLE = 80


@dataclass(frozen=True)
class Thresholds:
    """Limits whose violation fails an audit; None sets no limit.

    Attributes:
        max_copied_span: Maximum number of words in a row that a text may share with one source row.
        min_cluster: Minimum number of source rows behind a text.
        max_personal: Maximum number of places with personal data in all texts.

    Raises:
        InputError: If one is not a whole number of at least 1, or `max_personal` of at least 0.
    """

    max_copied_span: int | None = None
    min_cluster: int | None = None
    max_personal: int | None = None

    def __post_init__(self) -> None:
        """Checks the limits."""
        for name, value in self.as_dict().items():
            if value is not None:
                check_positive(value, name, least=0 if name == "max_personal" else 1)

    def as_dict(self) -> dict[str, int | None]:
        """Returns the limits as ``audit.json`` holds them: `max_personal` only if it is set."""
        limits = asdict(self)
        return (
            limits if self.max_personal is not None else {k: limits[k] for k in limits if k != "max_personal"}
        )


@dataclass(frozen=True, eq=False)
class Audit:
    """Findings on a set of m texts.

    Attributes:
        evidence: The set and its source.
        copied: Overlap of each text with source rows.
        contamination: Overlap of the texts with test rows; None without test rows.
        near_duplicates: Pairs of positions and their cosine.
        personal: Possible personal data in each text.
        scanner: Name of the scanner for it.
        readability: Measures of readability.
        thresholds: Limits whose violation fails the audit.
        notes: Checks that were skipped.
        planted: Words of the source whose labels contradict the rest of their rows, as with a planted
            trigger.
        mislabelled: Clusters of source rows that resemble another class; empty without vectors.
    """

    evidence: AuditInput
    copied: tuple[Overlap, ...]
    contamination: Contamination | None
    near_duplicates: tuple[tuple[int, int, float], ...]
    personal: tuple[tuple[PersonalMatch, ...], ...]
    scanner: str
    readability: Readability
    thresholds: Thresholds
    notes: tuple[str, ...] = ()
    planted: tuple[Suspect, ...] = ()
    mislabelled: tuple[Mislabelled, ...] = ()

    @property
    def warnings(self) -> list[str]:
        """Warnings about suspicious source rows, one sentence each; they quote rows and are never saved."""
        return [*self._warnings_of_words(), *map(self._warning_of_cluster, self.mislabelled)]

    def _warnings_of_words(self) -> list[str]:
        names = self.evidence.source.label_names
        return [
            f"nine of ten rows with {word.word!r} are {names[word.label]!r}, though {word.disputed:,} of "
            f"{len(word.rows):,} read like another class without it ({word.expected:.0f} would be usual): "
            "check whether they were planted"
            for word in self.planted
        ]

    def _warning_of_cluster(self, cluster: Mislabelled) -> str:
        source = self.evidence.source
        name, other = source.label_names[cluster.label], source.label_names[cluster.looks_like]
        row = cluster.rows[0]
        quote = shorten(mask(clean(source.texts[row])), EXAMPLE, placeholder=" …")
        return (
            f"{len(cluster.rows):,} similar rows are labelled {name!r} and look like {other!r}, such as row "
            f"{source.row_ids[row]} ({quote!r}): {cluster.disputed:,} of {cluster.size:,} more so than "
            f"half of its own rows ({cluster.expected:.0f} would be usual); check their label: "
            "audit.json lists them"
        )

    @property
    def members(self) -> list[int]:
        """Source rows behind each text."""
        return [len(lineage.member_rows) for lineage in self.evidence.distilled.lineage]

    @property
    def predicted(self) -> list[str] | None:
        """Class that a linear probe of the full data predicts for each text; None without a probe."""
        probabilities = self.evidence.probabilities
        if probabilities is None:
            return None
        names = self.evidence.source.label_names | self.evidence.distilled.label_names
        return [names[int(self.evidence.classes[column])] for column in probabilities.argmax(axis=1)]

    @property
    def agrees(self) -> list[bool] | None:
        """Whether the probe predicts the label of each text; None without a probe."""
        predicted, distilled = self.predicted, self.evidence.distilled
        if predicted is None:
            return None
        own = [distilled.label_names[label] for label in distilled.labels.tolist()]
        return [name == other for name, other in zip(own, predicted, strict=True)]

    @property
    def tight(self) -> list[int]:
        """Texts whose source rows are nearly alike, as planted rows are; small clusters are excluded."""
        spread, members = self.evidence.spread, np.array(self.members)
        if spread is None or not (members >= SMALL_CLUSTER).any():
            return []
        large = members >= SMALL_CLUSTER
        indices: list[int] = np.flatnonzero(large & (spread <= TIGHT * np.median(spread[large]))).tolist()
        return indices

    @property
    def failures(self) -> list[str]:
        """Violations of the limits, one sentence each."""
        most, least = self.thresholds.max_copied_span, self.thresholds.min_cluster
        failures = []
        for index, (copied, members) in enumerate(zip(self.copied, self.members, strict=True)):
            if most is not None and copied.longest > most:
                failures.append(
                    f"expected at most {most} words in a row from one source row, "
                    f"found {copied.longest} in text {index}"
                )
            if least is not None and members < least:
                failures.append(
                    f"expected at least {least} source rows behind a text, found {members} behind text "
                    f"{index}"
                )
        limit, found = self.thresholds.max_personal, sum(map(len, self.personal))
        if limit is not None and found > limit:
            failures.append(
                f"expected at most {limit} places with personal data, found {found}: "
                + "; ".join(self.personal_texts)
            )
        return failures

    @property
    def personal_texts(self) -> list[str]:
        """Descriptions of the texts with personal data, by kind and with masked values."""
        return [
            f"text {index}: {describe_kinds(count_kinds(matches))} "
            f"({', '.join(match.masked for match in matches)})"
            for index, matches in enumerate(self.personal)
            if matches
        ]

    def as_dict(self) -> dict[str, Any]:
        """Returns the document of ``audit.json``, which quotes the distilled texts and no source row."""
        small = self.thresholds.min_cluster or SMALL_CLUSTER
        agrees = self.agrees
        return {
            "texts": list(self._entries()),
            "summary": {
                "longest_copied_span": max((copied.longest for copied in self.copied), default=0),
                "copied_5grams": float(np.mean([copied.share_of_grams(5) for copied in self.copied]))
                if self.copied
                else 0.0,
                "min_cluster": min(self.members, default=0),
                "small_clusters": [index for index, members in enumerate(self.members) if members < small],
                "tight_clusters": self.tight,
                "planted_words": [
                    {"rows": len(word.rows)}
                    | {key: getattr(word, key) for key in ("label", "disputed", "expected")}
                    for word in self.planted
                ],
                "mislabelled_clusters": [
                    asdict(cluster) | {"rows": self.evidence.source.row_ids[list(cluster.rows)].tolist()}
                    for cluster in self.mislabelled
                ],
                "contamination": None if self.contamination is None else self.contamination.as_dict(),
                "near_duplicates": [
                    {"first": first, "second": second, "cosine": cosine}
                    for first, second, cosine in self.near_duplicates
                ],
                "label_disagreements": [index for index, agreed in enumerate(agrees or []) if not agreed],
                "agreement": None if agrees is None else float(np.mean(agrees)),
                "personal": {"scanner": self.scanner, "found": sum(map(len, self.personal))},
                "readability": asdict(self.readability),
            },
            "thresholds": self.thresholds.as_dict(),
            "failures": self.failures,
            "notes": [*self.notes, *map(self._note_of_tight, self.tight)],
        }

    def _note_of_tight(self, index: int) -> str:
        return (
            f"the {self.members[index]:,} source rows behind text {index} are nearly alike, "
            "as planted or copied rows are; look at them before you trust its label"
        )

    def _entries(self) -> Iterator[dict[str, Any]]:
        distilled, source = self.evidence.distilled, self.evidence.source
        confidence, agrees, predicted = self.evidence.confidence, self.agrees, self.predicted
        spread = self.evidence.spread
        for index, (copied, members) in enumerate(zip(self.copied, self.members, strict=True)):
            row = None if copied.row is None else source.row_ids[copied.row : copied.row + 1].tolist()[0]
            yield {
                "copied_span": {
                    "words": copied.longest,
                    "row": row,
                    "text": mask_span(distilled.texts[index], copied.start, copied.end),
                },
                "copied_5grams": copied.share_of_grams(5),
                "members": members,
                "spread": None if spread is None else float(spread[index]),
                "label_confidence": None if confidence is None else float(confidence[index]),
                "label_agrees": None if agrees is None else agrees[index],
                "predicted": None if predicted is None else predicted[index],
                "personal": [{"kind": match.kind, "masked": match.masked} for match in self.personal[index]],
            }


def audit(
    evidence: AuditInput,
    *,
    test: LabelledTexts | None = None,
    thresholds: Thresholds | None = None,
    language: str = "en",
    language_model: str | None = None,
    progress: Progress | None = None,
) -> Audit:
    """Audits a distilled set.

    Args:
        evidence: The set with its source, and with vectors for the checks of labels.
        test: Test rows, for the check of contamination.
        thresholds: Limits whose violation fails the audit.
        language: ISO 639-1 code, for sentence boundaries.
        language_model: Causal model for the perplexity of the texts: a folder, a Hub id or ``smollm2``; None
            measures none.
        progress: Progress display.

    Returns:
        The findings.

    Raises:
        DallmeError: If the language model cannot be loaded.
    """
    progress, texts = progress or SilentProgress(), evidence.distilled.texts
    phrases = SuffixAutomaton(texts)
    copied = phrases.read(_cleaned(evidence.source.texts, "audit: source", progress))
    contamination = None
    if test is not None:
        contamination = Contamination.find(phrases, _cleaned(test.texts, "audit: test", progress))
    notes = []
    if evidence.vectors is None:
        notes.append("labels were not checked, as there are no vectors; name an embedder with --embedder")
    scanner = Scanner()
    if not scanner.is_deep:
        notes.append(
            "personal data was looked for with patterns of the most frequent kinds only; "
            "for more kinds run: pip install 'dallme[audit]'"
        )
    split = [sentence for text in texts for sentence in sentences(text, language)]
    perplexity = None if language_model is None else perplexity_of(texts, language_model, progress=progress)
    return Audit(
        evidence,
        tuple(copied),
        contamination,
        tuple(_near_duplicates(evidence)),
        tuple(tuple(scanner.scan(text)) for text in texts),
        scanner.name,
        measure(texts, split, perplexity=perplexity),
        thresholds or Thresholds(),
        tuple(notes),
        tuple(suspects(evidence.source)),
        tuple(find_mislabelled(evidence.vectors)) if evidence.vectors is not None else (),
    )


def _cleaned(rows: Sequence[str], what: str, progress: Progress) -> Iterator[str]:
    """Yields the rows without markup, with progress."""
    with progress.task(what, total=len(rows)) as task:
        for row in rows:
            yield clean(row)
            task.advance()


def _near_duplicates(evidence: AuditInput) -> Iterator[tuple[int, int, float]]:
    """Finds pairs of texts with a high cosine of their vectors, or of their word counts without vectors."""
    own, texts = evidence.own, evidence.distilled.texts
    if own is None:
        if not any(words_of(text) for text in texts):
            return
        own = CountVectorizer(analyzer=words_of).fit_transform(texts).toarray()
    lengths = np.linalg.norm(own, axis=1, keepdims=True)
    unit = own / np.where(lengths == 0, 1, lengths)
    cosines = unit @ unit.T
    for first, second in zip(*np.nonzero(np.triu(cosines >= NEAR_DUPLICATE, k=1)), strict=True):
        yield int(first), int(second), float(min(cosines[first, second], 1.0))
