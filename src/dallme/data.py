"""Frozen records that the stages pass on, the budget of a distillation, and the canonical order of rows.

Texts become vectors, vectors become prototypes, prototypes become texts again::

    LabelledTexts -> LabelledVectors -> Prototypes -> DecodedText
"""

from __future__ import annotations

import hashlib
import heapq
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from itertools import chain
from pathlib import Path

import numpy as np

from dallme.errors import InputError, UnknownNameError
from dallme.files.atomic import sha256_of
from dallme.personal import Redactor, find_personal, mask
from dallme.text import text_keys
from dallme.validation import check_positive, check_vectors

# Records


@dataclass(frozen=True, eq=False)
class LabelledTexts:
    """Labelled texts: one class per text.

    Attributes:
        texts: n texts.
        labels: Class ids of the source, int64 of shape (n,).
        label_names: Class id to name, in the order of the ids.
        row_ids: Id of each row in the source, of shape (n,): its number from 0, or the value of an id column.
        source: Name of the source, for messages and the manifest.
        notes: Remarks of the reader for the user, such as skipped rows.
        original_digest: :attr:`digest` before the rows were reordered; blank if they were not.
        own_ids: Whether the class ids come from the source; otherwise dallme numbered its sorted class names.
        columns: Columns of the texts and of the labels, blank if not known.
        probabilities: Soft labels, float64 of shape (n, c) with the classes of `label_names` in ascending
            order of their ids; None without.
        redactions: Number of replaced places by kind; None if the texts were not :meth:`redacted`.
    """

    texts: Sequence[str]
    labels: np.ndarray
    label_names: dict[int, str]
    row_ids: np.ndarray
    source: str = "memory"
    notes: tuple[str, ...] = ()
    original_digest: str = ""
    own_ids: bool = True
    columns: tuple[str, str] = ("", "")
    probabilities: np.ndarray | None = None
    redactions: Mapping[str, int] | None = None

    def __post_init__(self) -> None:
        """Checks that the columns have one length and every label has a name."""
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
        """SHA-256 of the texts, labels and soft labels in their order, as hexadecimal."""
        encoded = (text.encode() for text in self.texts)
        framed = (len(text).to_bytes(8, "little") + text for text in encoded)
        soft = [] if self.probabilities is None else [self.probabilities.astype("<f8").tobytes()]
        return sha256_of(chain([np.ascontiguousarray(self.labels, dtype="<i8").tobytes()], framed, soft))

    @property
    def source_digest(self) -> str:
        """The digest of the rows in the order of the source, which identifies the source."""
        return self.original_digest or self.digest

    @property
    def public_source(self) -> str:
        """The name of the source for others to see: of an absolute path only the last folder and the name."""
        path = Path(self.source)
        return "/".join(path.parts[-2:]) if path.is_absolute() else self.source

    @property
    def summary(self) -> str:
        """One line: source, rows, columns and classes."""
        text, label = (f" from {column!r}" if column else "" for column in self.columns)
        return f"{self.source}: {len(self):,} rows, texts{text}, {len(self.class_counts):,} classes{label}"

    def redacted(self) -> LabelledTexts:
        """Replaces personal data in texts and row ids by placeholders, such as ``<EMAIL_1>``.

        Equal values have equal placeholders, which do not depend on the order of the rows. The digest of the
        source stays. Texts that are redacted already are returned as they are.

        Raises:
            InputError: If a class name holds personal data.
        """
        if self.redactions is not None:
            return self
        for name in self.label_names.values():
            if find_personal(name):
                raise InputError(
                    f"expected class names without personal data, found {mask(name)!r}; rename the class"
                )
        named = self.row_ids.dtype.kind not in "iu"
        ids = [str(row) for row in self.row_ids.tolist()] if named else []
        redactor = Redactor([*self.texts, *ids])
        return replace(
            self,
            texts=[redactor.redact(text) for text in self.texts],
            row_ids=np.array([redactor.redact(row) for row in ids], dtype=object) if named else self.row_ids,
            notes=tuple(map(mask, self.notes)),
            original_digest=self.source_digest,
            redactions=redactor.counts,
        )

    def take(self, rows: Sequence[int] | np.ndarray) -> LabelledTexts:
        """Returns the texts at the given positions, in that order, without the notes."""
        rows = np.asarray(rows, dtype=np.int64)
        return replace(
            self,
            texts=[self.texts[row] for row in rows],
            labels=self.labels[rows],
            row_ids=self.row_ids[rows],
            probabilities=None if self.probabilities is None else self.probabilities[rows],
            notes=(),
            original_digest="",
        )


def check_soft_labels(texts: LabelledTexts) -> LabelledTexts:
    """Returns texts that have soft labels.

    Raises:
        InputError: If they have none.
    """
    if texts.probabilities is None:
        raise InputError(
            f"expected texts with soft labels, found none in {texts.source}; distil with --soft-labels "
            "(soft_labels=True)"
        )
    return texts


@dataclass(frozen=True)
class Fingerprint:
    """Everything that changes the vectors of an embedder: equal fingerprints give equal vectors.

    Attributes:
        model: Name of the model.
        weights: Hash or revision of its weights.
        dimension: Length of a vector.
        prompt: Prefix of each text, or None.
        pooling: Method that makes one vector of the token vectors.
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
        return sha256_of([json.dumps(asdict(self), sort_keys=True)])[:32]


@dataclass(frozen=True, eq=False)
class LabelledVectors:
    """Labelled vectors: one class per vector.

    Attributes:
        vectors: float32 of shape (n, d).
        labels: Class ids, int64 of shape (n,).
        fingerprint: Settings of the embedder that computed the vectors.
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


def rows_of_classes(labels: np.ndarray) -> dict[int, np.ndarray]:
    """Returns class id to the positions of its rows, ascending, for labels of shape (n,)."""
    order = np.argsort(labels, kind="stable")
    ids, starts = np.unique(labels[order], return_index=True)
    return dict(zip(ids.tolist(), np.split(order, starts[1:]), strict=True))


@dataclass(frozen=True, eq=False)
class Prototypes:
    """Vectors that represent clusters of rows, grouped by class, by descending weight within a class.

    Attributes:
        vectors: float32 of shape (m, d).
        labels: Class ids, int64 of shape (m,).
        weights: Rows that each represents, float64 of shape (m,); their sum is the number of rows.
        members: For each prototype the positions of the rows of its cluster, nearest first.
        spread: Mean Euclidean distance of the members to the prototype, float64 of shape (m,).
        responsibilities: Of soft clusterings, the share of each member that belongs to the prototype;
            else None.
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
            raise InputError(
                f"expected prototypes whose parts have one length, found lengths {sorted(sizes)}"
            )

    def __len__(self) -> int:
        """Number of prototypes."""
        return len(self.vectors)


@dataclass(frozen=True)
class DecodedText:
    """One text that a decoder wrote.

    Attributes:
        text: The text.
        sentences: Its sentences, in order.
        rows: For each sentence the position of its source row; empty if no row was copied.
        label_agrees: Whether a linear probe of the full data predicts the prototype's label; None if not
            tested.
        copied_span: Words of the longest run shared with one source row; None if not searched.
        copied_row: Position of a row that holds that run; None if not searched or no word is shared.
    """

    text: str
    sentences: tuple[str, ...] = field(default=())
    rows: tuple[int, ...] = field(default=())
    label_agrees: bool | None = None
    copied_span: int | None = None
    copied_row: int | None = None


# Budget

_SHARES: dict[str, Callable[[int], float]] = {
    "equal": lambda rows: 1.0,
    "proportional": float,
    "sqrt": math.sqrt,
}

#: Ways to divide a total among the classes.
ALLOCATIONS = tuple(_SHARES)


@dataclass(frozen=True)
class Budget:
    """Number of texts to distil: exactly one of `per_class`, `ratio` and `total`.

    Attributes:
        per_class: Texts per class (on average, if `allocation` is not ``equal``).
        ratio: Share of the rows of the source, in (0, 1]; the paper's distillation ratio (section 5.2).
        total: Texts in all.
        allocation: ``equal``: the same number for each class; ``proportional``: by the rows of the class;
            ``sqrt``: by their square root.
    """

    per_class: int | None = None
    ratio: float | None = None
    total: int | None = None
    allocation: str = "equal"

    def __post_init__(self) -> None:
        """Checks that there is exactly one size, and its value."""
        sizes = [name for name in ("per_class", "ratio", "total") if getattr(self, name) is not None]
        if len(sizes) != 1:
            raise InputError(
                f"expected exactly one of per_class, ratio and total, found {', '.join(sizes) or 'none'}"
            )
        if self.ratio is None:
            check_positive(getattr(self, sizes[0]), sizes[0])
        elif isinstance(self.ratio, bool) or not 0 < self.ratio <= 1:
            raise InputError(f"expected ratio in (0, 1], found {self.ratio!r}")
        if self.allocation not in _SHARES:
            raise UnknownNameError("allocation", self.allocation, ALLOCATIONS)

    def allocate(
        self,
        class_counts: Mapping[int, int],
        class_names: Mapping[int, str] | None = None,
        *,
        rows: int | None = None,
    ) -> dict[int, int]:
        """Divides the budget among the classes.

        Every class receives at least one text and at most as many as it has rows. The remainder of a
        small class goes to the others. Of classes with equal shares, the larger comes first.

        Args:
            class_counts: Class id to number of rows (of distinct texts, where that is known).
            class_names: Class id to name, for messages.
            rows: Rows that a ratio refers to; by default the sum of `class_counts`.

        Returns:
            Class id to number of texts, in the order of the ids.

        Raises:
            InputError: If the budget is larger than the classes, or less than one text per class.
        """
        most = sum(class_counts.values())
        if self.per_class is not None:
            total = self.per_class * len(class_counts)
            small = [label for label, count in class_counts.items() if count < self.per_class]
            if small and self.allocation == "equal":
                name = (class_names or {}).get(small[0], str(small[0]))
                raise InputError(
                    f"expected at least {self.per_class} rows in each class, class {name!r} has "
                    f"{class_counts[small[0]]} different texts; ask for fewer per class, or use --total or "
                    "--ratio, which give small classes fewer"
                )
        elif self.total is not None:
            total = self.total
        else:
            assert self.ratio is not None
            total = min(most, max(len(class_counts), round(self.ratio * (most if rows is None else rows))))
        if total < len(class_counts):
            raise InputError(
                f"expected at least one text per class, found {total} texts for {len(class_counts)} classes; "
                "ask for more"
            )
        if total > most:
            raise InputError(
                f"expected at most as many texts as there are different ones ({most:,}), found {total:,}; "
                "ask for fewer"
            )
        share = _SHARES[self.allocation]
        return _divide(total, {label: share(count) for label, count in class_counts.items()}, class_counts)


def _divide(total: int, shares: Mapping[int, float], limits: Mapping[int, int]) -> dict[int, int]:
    """Divides `total` by `shares`, at least 1 and at most `limits` each, by the Sainte-Laguë method."""
    seats = dict.fromkeys(shares, 1)

    def priority(label: int) -> tuple[float, int, int]:
        return (-shares[label] / (seats[label] + 0.5), -limits[label], label)

    queue = [priority(label) for label in shares if limits[label] > 1]
    heapq.heapify(queue)
    for _ in range(total - len(seats)):
        label = queue[0][2]
        seats[label] += 1
        if seats[label] < limits[label]:
            heapq.heapreplace(queue, priority(label))
        else:
            heapq.heappop(queue)
    return seats


# Canonical order


def canonical_order(texts: LabelledTexts, vectors: np.ndarray | None = None) -> np.ndarray:
    """Sorts rows by the hash of their text, then by class, vector and row id.

    All permutations of a source have the same canonical order, so that samples and sums over its rows are
    equal. The order is independent of the meaning of the texts. Rows with the same text, class and vector
    differ only in their row id. If that id is their number in the source, a permutation exchanges their ids.

    Args:
        texts: n texts.
        vectors: Their vectors of shape (n, d), where rows of one text may have different ones.

    Returns:
        Positions in the canonical order, int64 of shape (n,).
    """
    keys = text_keys(texts.texts)
    columns = [texts.labels, keys[:, 1], keys[:, 0]]  # lexsort: the last is the primary key
    order = np.lexsort(columns)
    ties = np.flatnonzero(np.all([column[order[1:]] == column[order[:-1]] for column in columns], axis=0))
    if ties.size:
        rows = np.union1d(order[ties], order[ties + 1])
        order = np.lexsort(
            [_row_ranks(texts.row_ids, rows), _vector_ranks(vectors, rows, len(texts)), *columns]
        )
    return order


def _row_ranks(row_ids: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The ranks of the row ids at `rows` among themselves, 0 elsewhere; int64 of shape (n,)."""
    ranks = np.zeros(len(row_ids), dtype=np.int64)
    ranks[rows] = np.unique(row_ids[rows], return_inverse=True)[1]
    return ranks


def _vector_ranks(vectors: np.ndarray | None, rows: np.ndarray, count: int) -> np.ndarray:
    """The ranks of the hashes of the vectors at `rows` among themselves, 0 elsewhere; int64 of shape (n,)."""
    ranks = np.zeros(count, dtype=np.int64)
    if vectors is not None:
        hashes = [
            hashlib.blake2b(np.ascontiguousarray(vectors[row]).data, digest_size=8).digest()
            for row in rows.tolist()
        ]
        ranks[rows] = np.unique(np.frombuffer(b"".join(hashes), dtype="<u8"), return_inverse=True)[1]
    return ranks


def reorder(texts: LabelledTexts, order: np.ndarray) -> LabelledTexts:
    """Returns the texts in another order, with the same notes and the same `source_digest`."""
    if is_identity(order):
        return texts
    return replace(texts.take(order), notes=texts.notes, original_digest=texts.source_digest)


def is_identity(order: np.ndarray) -> bool:
    """Returns whether an order leaves all rows in place."""
    return bool((order == np.arange(len(order))).all())
