"""The audit: what a distilled set gives away, whether its labels hold, and how it reads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from textwrap import shorten
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.feature_extraction.text import CountVectorizer

from dallme.auditing.mislabelled import Mislabelled, mislabelled
from dallme.auditing.personal import Personal, Scanner
from dallme.auditing.poison import Suspect, suspects
from dallme.auditing.readability import Readability, measure, perplexity_of
from dallme.errors import MissingDependencyError
from dallme.overlap import Contamination, Overlap, SuffixAutomaton, words_of
from dallme.progress import Progress, SilentProgress
from dallme.text import clean, sentences
from dallme.validation import check_positive

if TYPE_CHECKING:
    from dallme.auditing.inputs import AuditInput
    from dallme.data import LabelledTexts

#: Texts whose vectors have at least this cosine are near duplicates.
NEAR_DUPLICATE = 0.95

#: Source rows below which a cluster counts as small where no threshold is given: a text may then be about a few people.
SMALL_CLUSTER = 5

#: A cluster is tight if its spread is at most this share of the median of all. Unspoilt clusters of IMDB and AG-News lie at .73
#: and above, 250 rows of one planted sentence at .30.
TIGHT = 0.5

#: Characters of a row that a warning shows.
EXAMPLE = 80


@dataclass(frozen=True)
class Thresholds:
    """What fails an audit; None fails nothing.

    Attributes:
        max_copied_span: Most words in a row that a text may share with one source row.
        min_cluster: Least source rows behind a text.

    Raises:
        InputError: If one is not a whole number of at least 1.
    """

    max_copied_span: int | None = None
    min_cluster: int | None = None

    def __post_init__(self) -> None:
        """Checks the numbers."""
        for name, value in asdict(self).items():
            if value is not None:
                check_positive(value, name)


@dataclass(frozen=True, eq=False)
class Audit:
    """What was found of a set of m texts.

    Attributes:
        evidence: The set and its source.
        copied: What each text shares with source rows.
        contamination: What the texts share with test rows; None without any.
        near_duplicates: Pairs of positions and their cosine.
        personal: What may be personal data in each text.
        scanner: What looked for it; None if it is not installed.
        readability: How the texts read.
        thresholds: What fails the audit.
        notes: What could not be looked at.
        planted: Words of the source whose labels contradict the rest of their rows, as those of a planted trigger do.
        mislabelled: Clusters of the source's rows that look like another class than they have; empty without vectors.
    """

    evidence: AuditInput
    copied: tuple[Overlap, ...]
    contamination: Contamination | None
    near_duplicates: tuple[tuple[int, int, float], ...]
    personal: tuple[tuple[Personal, ...], ...]
    scanner: str | None
    readability: Readability
    thresholds: Thresholds
    notes: tuple[str, ...] = ()
    planted: tuple[Suspect, ...] = ()
    mislabelled: tuple[Mislabelled, ...] = ()

    @property
    def warnings(self) -> list[str]:
        """What to look at in the source, a sentence each. It quotes the source, and stands in no document."""
        return [*self._warnings_of_words(), *map(self._warning_of_cluster, self.mislabelled)]

    def _warnings_of_words(self) -> list[str]:
        names = self.evidence.source.label_names
        return [
            f"nine of ten rows with {one.word!r} are {names[one.label]!r}, though {one.disputed:,} of {len(one.rows):,} read "
            f"like another class without it ({one.expected:.0f} would be usual): look whether somebody planted them"
            for one in self.planted
        ]

    def _warning_of_cluster(self, found: Mislabelled) -> str:
        source = self.evidence.source
        name, other = source.label_names[found.label], source.label_names[found.looks_like]
        row = found.rows[0]
        said = shorten(clean(source.texts[row]), EXAMPLE, placeholder=" …")
        return (
            f"{len(found.rows):,} rows that lie together are {name!r} and look like {other!r}, such as row {source.row_ids[row]} "
            f"({said!r}): {found.disputed:,} of {found.size:,} more so than half of its own rows ({found.expected:.0f} would be "
            "usual); look whether their label is right: audit.json lists them"
        )

    @property
    def members(self) -> list[int]:
        """Source rows behind each text."""
        return [len(lineage.member_rows) for lineage in self.evidence.distilled.lineage]

    @property
    def predicted(self) -> list[str] | None:
        """The class that a probe of the full data gives each text; None without a probe."""
        found = self.evidence.probabilities
        if found is None:
            return None
        names = self.evidence.source.label_names | self.evidence.distilled.label_names
        return [names[int(self.evidence.classes[column])] for column in found.argmax(axis=1)]

    @property
    def agrees(self) -> list[bool] | None:
        """Whether the probe gives each text its own label; None without a probe."""
        predicted, distilled = self.predicted, self.evidence.distilled
        if predicted is None:
            return None
        own = [distilled.label_names[label] for label in distilled.labels.tolist()]
        return [given == said for given, said in zip(own, predicted, strict=True)]

    @property
    def tight(self) -> list[int]:
        """Texts whose source rows are nearly alike, as planted or copied rows are; a few rows may be so by chance."""
        spread, members = self.evidence.spread, np.array(self.members)
        if spread is None or not (members >= SMALL_CLUSTER).any():
            return []
        large = members >= SMALL_CLUSTER
        found: list[int] = np.flatnonzero(large & (spread <= TIGHT * np.median(spread[large]))).tolist()
        return found

    @property
    def failures(self) -> list[str]:
        """What breaks a threshold, a sentence each; empty if nothing does."""
        most, least = self.thresholds.max_copied_span, self.thresholds.min_cluster
        found = []
        for index, (copied, members) in enumerate(zip(self.copied, self.members, strict=True)):
            if most is not None and copied.longest > most:
                found.append(
                    f"expected at most {most} words in a row from one source row, found {copied.longest} in text {index}"
                )
            if least is not None and members < least:
                found.append(
                    f"expected at least {least} source rows behind a text, found {members} behind text {index}"
                )
        return found

    def as_dict(self) -> dict[str, Any]:
        """The document that ``audit.json`` holds. It quotes the distilled texts, never a source row."""
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
                    {
                        "rows": len(one.rows),
                        "label": one.label,
                        "disputed": one.disputed,
                        "expected": one.expected,
                    }
                    for one in self.planted
                ],
                "mislabelled_clusters": [self._cluster_entry(one) for one in self.mislabelled],
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
            "thresholds": asdict(self.thresholds),
            "failures": self.failures,
            "notes": [*self.notes, *map(self._note_of_tight, self.tight)],
        }

    def _cluster_entry(self, found: Mislabelled) -> dict[str, Any]:
        rows = self.evidence.source.row_ids[list(found.rows)].tolist()
        return {**asdict(found), "rows": rows}

    def _note_of_tight(self, index: int) -> str:
        return (
            f"the {self.members[index]:,} source rows behind text {index} are nearly alike, as planted or copied rows are; "
            "look at them before you trust its label"
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
                    "text": distilled.texts[index][copied.start : copied.end],
                },
                "copied_5grams": copied.share_of_grams(5),
                "members": members,
                "spread": None if spread is None else float(spread[index]),
                "label_confidence": None if confidence is None else float(confidence[index]),
                "label_agrees": None if agrees is None else agrees[index],
                "predicted": None if predicted is None else predicted[index],
                "personal": [asdict(place) for place in self.personal[index]],
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
        evidence: The set beside its source, with vectors where labels and near duplicates are to be judged by them.
        test: Rows that the set is to be tested on, to look for contamination.
        thresholds: What fails the audit.
        language: ISO 639-1 code, for finding the ends of sentences.
        language_model: A causal model whose perplexity of the texts is measured: a folder, a Hub id or ``smollm2``; None
            measures none.
        progress: Where to show progress.

    Returns:
        What was found.

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
    try:
        scanner = Scanner()
    except MissingDependencyError as error:
        scanner = None
        notes.append(f"personal data was not looked for: {error}")
    split = [sentence for text in texts for sentence in sentences(text, language)]
    perplexity = None if language_model is None else perplexity_of(texts, language_model, progress=progress)
    return Audit(
        evidence,
        tuple(copied),
        contamination,
        tuple(_near_duplicates(evidence)),
        tuple(tuple(scanner.scan(text)) if scanner else () for text in texts),
        scanner.name if scanner else None,
        measure(texts, split, perplexity=perplexity),
        thresholds or Thresholds(),
        tuple(notes),
        tuple(suspects(evidence.source)),
        tuple(mislabelled(evidence.vectors)) if evidence.vectors is not None else (),
    )


def _cleaned(rows: Sequence[str], what: str, progress: Progress) -> Iterator[str]:
    """The rows without markup, with progress."""
    with progress.task(what, total=len(rows)) as task:
        for row in rows:
            yield clean(row)
            task.advance()


def _near_duplicates(evidence: AuditInput) -> Iterator[tuple[int, int, float]]:
    """Pairs of texts of a high cosine: of their vectors, or of their word counts where there are none."""
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
