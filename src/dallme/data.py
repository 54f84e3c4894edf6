"""The data that flows through dallme: frozen records with checks and derived values, and no other behaviour.

Texts become vectors, vectors become prototypes, prototypes become texts again::

    LabelledTexts -> LabelledVectors -> Prototypes -> DecodedText
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property

import numpy as np

from dallme.errors import InputError
from dallme.validation import check_vectors


@dataclass(frozen=True, eq=False)
class LabelledTexts:
    """Texts with a class each.

    Attributes:
        texts: n texts.
        labels: Class ids as the source gives them, int64 of shape (n,).
        label_names: Class id to name, in the order of the ids.
        row_ids: What the source calls each row, of shape (n,): its number from 0, or the value of its id column.
        source: Where the texts are from, for messages and the manifest.
        notes: What the reader wants the user to know, such as duplicate or skipped rows.
        given: The digest of the order in which the source gives the rows, if this is another one; else blank.
    """

    texts: Sequence[str]
    labels: np.ndarray
    label_names: dict[int, str]
    row_ids: np.ndarray
    source: str = "memory"
    notes: tuple[str, ...] = ()
    given: str = ""

    def __post_init__(self) -> None:
        """Checks that all columns have the same length and that every label has a name."""
        if not len(self.texts) == len(self.labels) == len(self.row_ids):
            raise InputError(
                f"expected as many labels and row ids as texts, found {len(self.texts)} texts, "
                f"{len(self.labels)} labels, {len(self.row_ids)} row ids"
            )
        unnamed = set(self.class_counts) - set(self.label_names)
        if unnamed:
            raise InputError(f"expected a name for every label, found none for {sorted(unnamed)}")

    def __len__(self) -> int:
        """Number of texts."""
        return len(self.texts)

    @cached_property
    def class_counts(self) -> dict[int, int]:
        """Class id to number of texts, in the order of the ids."""
        ids, counts = np.unique(self.labels, return_counts=True)
        return dict(zip(ids.tolist(), counts.tolist(), strict=True))

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the texts and labels in their order, as hexadecimal."""
        digest = hashlib.sha256(np.ascontiguousarray(self.labels, dtype="<i8").tobytes())
        for text in self.texts:
            encoded = text.encode()
            digest.update(len(encoded).to_bytes(8, "little"))
            digest.update(encoded)
        return digest.hexdigest()

    @property
    def source_digest(self) -> str:
        """The digest of the texts and labels in the order in which the source gives them, by which it is known again."""
        return self.given or self.digest

    def take(self, rows: Sequence[int] | np.ndarray) -> LabelledTexts:
        """The texts at the given positions, in that order."""
        rows = np.asarray(rows, dtype=np.int64)
        return LabelledTexts(
            [self.texts[row] for row in rows], self.labels[rows], self.label_names, self.row_ids[rows], self.source
        )


@dataclass(frozen=True)
class Fingerprint:
    """Everything that changes the vectors of an embedder; two equal fingerprints give the same vectors.

    Attributes:
        model: Name of the model.
        weights: Hash or revision of its weights.
        dimension: Length of a vector.
        prompt: What is put before each text, or None.
        pooling: How token vectors become one.
        max_tokens: Tokens read of each text, or None for all.
        precision: Number format of the computation.
        normalized: Whether vectors have length 1.
    """

    model: str
    weights: str
    dimension: int
    prompt: str | None = None
    pooling: str = "none"
    max_tokens: int | None = None
    precision: str = "float32"
    normalized: bool = True

    @cached_property
    def digest(self) -> str:
        """Short hash of all fields, as hexadecimal."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:32]


@dataclass(frozen=True, eq=False)
class LabelledVectors:
    """Vectors with a class each.

    Attributes:
        vectors: float32 of shape (n, d).
        labels: Class ids, int64 of shape (n,).
        fingerprint: What made the vectors.
    """

    vectors: np.ndarray
    labels: np.ndarray
    fingerprint: Fingerprint

    def __post_init__(self) -> None:
        """Checks shape and values."""
        check_vectors(self.vectors, rows=len(self.labels), dimension=self.fingerprint.dimension)

    def __len__(self) -> int:
        """Number of vectors."""
        return len(self.vectors)

    @cached_property
    def class_counts(self) -> dict[int, int]:
        """Class id to number of vectors, in the order of the ids."""
        return {label: len(rows) for label, rows in self._rows.items()}

    def rows_of(self, label: int) -> np.ndarray:
        """The positions of the vectors of a class, ascending, int64 of shape (k,); empty if it has none."""
        return self._rows.get(label, np.empty(0, dtype=np.int64))

    @cached_property
    def _rows(self) -> dict[int, np.ndarray]:
        return rows_of_classes(self.labels)


@dataclass(frozen=True, eq=False)
class Prototypes:
    """A few vectors that stand for many, grouped by class, the heaviest of a class first.

    Attributes:
        vectors: float32 of shape (m, d).
        labels: Class ids, int64 of shape (m,).
        weights: How many source rows stand behind each, float64 of shape (m,); they add up to the number of rows.
        members: For each prototype the positions of the rows of its cluster, nearest first.
        spread: Mean Euclidean distance of the members to the prototype, float64 of shape (m,).
        responsibilities: For soft clusterings, the share of each member that belongs to the prototype; else None.
    """

    vectors: np.ndarray
    labels: np.ndarray
    weights: np.ndarray
    members: tuple[np.ndarray, ...]
    spread: np.ndarray
    responsibilities: tuple[np.ndarray, ...] | None = None

    def __post_init__(self) -> None:
        """Checks that all parts have m entries."""
        sizes = {len(self.vectors), len(self.labels), len(self.weights), len(self.members), len(self.spread)}
        if self.responsibilities is not None:
            sizes.add(len(self.responsibilities))
        if len(sizes) != 1:
            raise InputError(f"expected prototypes whose parts have one length, found lengths {sorted(sizes)}")

    def __len__(self) -> int:
        """Number of prototypes."""
        return len(self.vectors)


@dataclass(frozen=True)
class DecodedText:
    """One text that a decoder wrote.

    Attributes:
        text: The text.
        sentences: Its sentences, in order.
        rows: For each sentence the position of the source row it was taken from; empty if no row was copied.
        label_agrees: Whether a linear probe of the full data gives the text the prototype's label; None if none was asked.
        copied_span: Words of the longest run that it shares with any one source row; None if nobody looked.
        copied_row: Position of a row that holds that run; None if nobody looked, or no word is shared.
    """

    text: str
    sentences: tuple[str, ...] = field(default=())
    rows: tuple[int, ...] = field(default=())
    label_agrees: bool | None = None
    copied_span: int | None = None
    copied_row: int | None = None


def rows_of_classes(labels: np.ndarray) -> dict[int, np.ndarray]:
    """The positions of the rows of each class, ascending, by the class's id, from the labels of shape (n,)."""
    order = np.argsort(labels, kind="stable")
    ids, starts = np.unique(labels[order], return_index=True)
    return dict(zip(ids.tolist(), np.split(order, starts[1:]), strict=True))
