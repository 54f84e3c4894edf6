"""The data that flows through dallme: frozen records with checks and derived values, and no other behaviour.

Texts become vectors, vectors become prototypes, prototypes become texts again::

    LabelledTexts -> LabelledVectors -> Prototypes -> DecodedText
"""

from __future__ import annotations

import hashlib
import heapq
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from itertools import chain

import numpy as np

from dallme.atomic import sha256_of
from dallme.errors import InputError, UnknownNameError
from dallme.text import text_keys
from dallme.validation import check_positive, check_vectors


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
        encoded = (text.encode() for text in self.texts)
        framed = (len(text).to_bytes(8, "little") + text for text in encoded)
        return sha256_of(chain([np.ascontiguousarray(self.labels, dtype="<i8").tobytes()], framed))

    @property
    def source_digest(self) -> str:
        """The digest of the texts and labels in the order in which the source gives them, by which it is known again."""
        return self.given or self.digest

    def take(self, rows: Sequence[int] | np.ndarray) -> LabelledTexts:
        """The texts at the given positions, in that order."""
        rows = np.asarray(rows, dtype=np.int64)
        return LabelledTexts(
            [self.texts[row] for row in rows],
            self.labels[rows],
            self.label_names,
            self.row_ids[rows],
            self.source,
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
        return sha256_of([json.dumps(asdict(self), sort_keys=True)])[:32]


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


_SHARES: dict[str, Callable[[int], float]] = {
    "equal": lambda rows: 1.0,
    "proportional": float,
    "sqrt": math.sqrt,
}

#: Ways to divide a total among the classes.
ALLOCATIONS = tuple(_SHARES)


@dataclass(frozen=True)
class Budget:
    """How many texts are wanted: exactly one of `per_class`, `ratio` and `total`.

    Attributes:
        per_class: Texts per class (on average, if `allocation` is not ``equal``).
        ratio: Share of the rows of the source, in (0, 1]; the paper's distillation ratio (section 5.2).
        total: Texts in all.
        allocation: ``equal``: the same for each class; ``proportional``: by its rows; ``sqrt``: by the root of its rows.
    """

    per_class: int | None = None
    ratio: float | None = None
    total: int | None = None
    allocation: str = "equal"

    def __post_init__(self) -> None:
        """Checks that exactly one size is given and that it makes sense."""
        given = [name for name in ("per_class", "ratio", "total") if getattr(self, name) is not None]
        if len(given) != 1:
            raise InputError(
                f"expected exactly one of per_class, ratio and total, found {', '.join(given) or 'none'}"
            )
        if self.per_class is not None:
            check_positive(self.per_class, "per_class")
        if self.total is not None:
            check_positive(self.total, "total")
        if self.ratio is not None and (isinstance(self.ratio, bool) or not 0 < self.ratio <= 1):
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

        Every class receives at least one text and at most as many as it has rows; what a small class cannot use goes
        to the others. Where shares are equal, the larger class comes first.

        Args:
            class_counts: Class id to number of rows (of different texts, where that is known).
            class_names: Class id to name, for messages.
            rows: Rows that a ratio is a share of; by default the sum of `class_counts`.

        Returns:
            Class id to number of texts, in the order of the ids.

        Raises:
            InputError: If more is asked than the classes hold, or less than one text a class.
        """
        classes = list(class_counts)
        most = sum(class_counts.values())
        if self.per_class is not None:
            wanted = self.per_class * len(classes)
            if self.allocation == "equal":
                for label, count in class_counts.items():
                    if count < self.per_class:
                        name = (class_names or {}).get(label, str(label))
                        raise InputError(
                            f"expected at least {self.per_class} rows in each class, class {name!r} has {count} different texts; "
                            "ask for fewer per class, or use --total or --ratio, which give small classes fewer"
                        )
        elif self.total is not None:
            wanted = self.total
        else:
            assert self.ratio is not None
            wanted = min(most, max(len(classes), round(self.ratio * (most if rows is None else rows))))
        if wanted < len(classes):
            raise InputError(
                f"expected at least one text a class, found {wanted} texts for {len(classes)} classes; ask for more"
            )
        if wanted > most:
            raise InputError(
                f"expected at most as many texts as there are different ones ({most:,}), found {wanted:,}; ask for fewer"
            )
        return _divide(
            wanted, {label: _SHARES[self.allocation](class_counts[label]) for label in classes}, class_counts
        )


def _divide(total: int, shares: Mapping[int, float], limits: Mapping[int, int]) -> dict[int, int]:
    """Divides `total` by `shares`, at least 1 and at most `limits` each (Sainte-Laguë's method, seat by seat)."""
    given = dict.fromkeys(shares, 1)

    def need(label: int) -> tuple[float, int, int]:
        return (-shares[label] / (given[label] + 0.5), -limits[label], label)

    queue = [need(label) for label in shares if limits[label] > 1]
    heapq.heapify(queue)
    for _ in range(total - len(given)):
        label = queue[0][2]
        given[label] += 1
        if given[label] < limits[label]:
            heapq.heapreplace(queue, need(label))
        else:
            heapq.heappop(queue)
    return given


def canonical_order(texts: LabelledTexts, vectors: np.ndarray | None = None) -> np.ndarray:
    """Orders rows by the hash of their text, then by class, then by vector, then by row id.

    A shuffled source comes out in one order, so that what is drawn, added up or cut from its rows is the same. The order says
    nothing about the rows: neighbours in it are as good as drawn at random. Rows of the same text, class and vector differ
    in their row id alone; where that is their number in the source, a shuffle swaps them, and nothing else.

    Args:
        texts: n texts.
        vectors: Their vectors of shape (n, d), where rows of one text may have different ones.

    Returns:
        Positions in the order, int64 of shape (n,).
    """
    keys = text_keys(texts.texts)
    columns = [texts.labels, keys[:, 1], keys[:, 0]]  # the last counts first
    order = np.lexsort(columns)
    twins = np.flatnonzero(np.all([column[order[1:]] == column[order[:-1]] for column in columns], axis=0))
    if twins.size:
        rows = np.union1d(order[twins], order[twins + 1])
        order = np.lexsort(
            [_row_ranks(texts.row_ids, rows), _vector_ranks(vectors, rows, len(texts)), *columns]
        )
    return order


def in_order(texts: LabelledTexts, order: np.ndarray) -> LabelledTexts:
    """The same texts in another order, which know the digest of the order that they had; themselves if it is theirs."""
    if is_identity(order):
        return texts
    taken = texts.take(order)
    return LabelledTexts(
        taken.texts,
        taken.labels,
        taken.label_names,
        taken.row_ids,
        taken.source,
        texts.notes,
        texts.source_digest,
    )


def is_identity(order: np.ndarray) -> bool:
    """Whether an order leaves everything where it is."""
    return bool((order == np.arange(len(order))).all())


def _row_ranks(row_ids: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The rank of the row ids at `rows` among themselves, 0 elsewhere; int64 of shape (n,)."""
    ranks = np.zeros(len(row_ids), dtype=np.int64)
    ranks[rows] = np.unique(row_ids[rows], return_inverse=True)[1]
    return ranks


def _vector_ranks(vectors: np.ndarray | None, rows: np.ndarray, count: int) -> np.ndarray:
    """The rank of the hashes of the vectors at `rows` among themselves, 0 elsewhere; int64 of shape (n,)."""
    ranks = np.zeros(count, dtype=np.int64)
    if vectors is not None:
        hashes = [
            hashlib.blake2b(np.ascontiguousarray(vectors[row]).data, digest_size=8).digest()
            for row in rows.tolist()
        ]
        ranks[rows] = np.unique(np.frombuffer(b"".join(hashes), dtype="<u8"), return_inverse=True)[1]
    return ranks
