"""What an audit and a report look at: the distilled set beside the source that it was made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from dallme.audit.reopening import reopen
from dallme.classifiers.embedding_lr import linear_probe
from dallme.data import LabelledTexts, LabelledVectors
from dallme.errors import InputError
from dallme.progress import Progress, SilentProgress

if TYPE_CHECKING:
    from pathlib import Path

    from dallme.distilled import DistilledDataset
    from dallme.distilled.lineage import RowId

#: Rows that the probe is trained on; more change its judgement of a text very little.
PROBE_ROWS = 20_000


@dataclass(frozen=True, eq=False)
class Evidence:
    """A distilled set beside its source.

    Attributes:
        distilled: The set, of m texts.
        source: The n texts that it was made from.
        vectors: The source's vectors, row by row; None if there is no embedder to ask.
        own: The vectors of the m texts themselves, float32 of shape (m, d); None if there is no embedder to ask.
    """

    distilled: DistilledDataset
    source: LabelledTexts
    vectors: LabelledVectors | None = None
    own: np.ndarray | None = None

    def __post_init__(self) -> None:
        """Checks that the source is the one of the manifest, so that row ids mean what they meant.

        Raises:
            InputError: If it is another one.
        """
        made_from = self.distilled.manifest.get("data", {}).get("sha256")
        if made_from is not None and made_from != self.source.source_digest:
            data = self.distilled.manifest["data"]
            raise InputError(
                f"expected the source that the texts were distilled from, {data.get('source')!r} of {data.get('rows'):,} rows "
                f"(SHA-256 {made_from[:12]}…), found {len(self.source):,} other rows ({self.source.source_digest[:12]}…); "
                "read it with the same column options"
            )

    @cached_property
    def members(self) -> tuple[np.ndarray, ...]:
        """For each text the positions of the source rows of its cluster, nearest to its prototype first."""
        return tuple(self.positions(lineage.member_rows) for lineage in self.distilled.lineage)

    @cached_property
    def nearest(self) -> tuple[np.ndarray, ...]:
        """For each text the positions of the source rows nearest to its prototype."""
        return tuple(self.positions(lineage.nearest_rows) for lineage in self.distilled.lineage)

    @cached_property
    def probabilities(self) -> np.ndarray | None:
        """What a linear probe of the full data makes of each text: float64 of shape (m, classes), in the order of `classes`.

        None without vectors, or where the source has one class only.
        """
        if self.vectors is None or self.own is None or len(self.classes) < 2:
            return None
        rows = np.sort(np.random.default_rng(0).permutation(len(self.source))[:PROBE_ROWS])
        probe = linear_probe(0).fit(self.vectors.vectors[rows], self.source.labels[rows])
        found: np.ndarray = np.zeros((len(self.distilled), len(self.classes)))
        found[:, np.searchsorted(self.classes, probe.classes_)] = probe.predict_proba(self.own)
        return found

    @cached_property
    def confidence(self) -> np.ndarray | None:
        """The probability that the probe gives to each text's own label, float64 of shape (m,); None without a probe."""
        if self.probabilities is None:
            return None
        columns = np.searchsorted(self.classes, self.distilled.labels)
        chosen: np.ndarray = self.probabilities[np.arange(len(self.distilled)), columns]
        return chosen

    @cached_property
    def spread(self) -> np.ndarray | None:
        """Mean Euclidean distance of the rows of each text's cluster to their mean, float64 of shape (m,); None without vectors.

        0 for a text without rows.
        """
        if self.vectors is None:
            return None
        clusters = [self.vectors.vectors[rows].astype(np.float64) for rows in self.members]
        return np.array(
            [np.linalg.norm(rows - rows.mean(axis=0), axis=1).mean() if len(rows) else 0.0 for rows in clusters], dtype=np.float64
        )

    @cached_property
    def classes(self) -> np.ndarray:
        """The ids of all classes of the source and the set, in their order."""
        return np.union1d(self.source.labels, self.distilled.labels)

    def positions(self, row_ids: Sequence[RowId]) -> np.ndarray:
        """The positions in the source of rows by their ids, int64.

        Raises:
            InputError: If the source has no row of that id.
        """
        try:
            return np.array([self._position[row_id] for row_id in row_ids], dtype=np.int64)
        except KeyError as error:
            raise InputError(
                f"expected the ids of the source's rows in the lineage, found {error.args[0]!r}, which no row has; "
                "name the id column that the texts were distilled with (--id-column)"
            ) from None

    @cached_property
    def _position(self) -> dict[RowId, int]:
        return {row_id: position for position, row_id in enumerate(self.source.row_ids.tolist())}


def gather(
    distilled: DistilledDataset,
    source: LabelledTexts,
    *,
    embedder: Any = None,
    store: str | Path | None = None,
    progress: Progress | None = None,
) -> Evidence:
    """Embeds the source and the texts as when the set was made, as far as the store does not hold their vectors.

    Args:
        distilled: The set.
        source: The texts that it was made from.
        embedder: An embedder in place of the manifest's, such as one with its options; a name, a folder or an embedder.
        store: Folder that keeps vectors; None keeps none.
        progress: Where to show progress.

    Returns:
        The evidence; without vectors where the set was made of ready ones and no embedder is given.

    Raises:
        InputError: If the source is not the set's, if the embedder makes other vectors than the set was made with, or if the
            manifest names one that is used only if the user names it.
        ModelNotFoundError: If the user's name of the embedder leads to none.
    """
    from dallme.distiller import Distiller

    plain = Evidence(distilled, source)
    found = reopen(distilled.manifest, embedder, store)
    if found is None:
        return plain
    prompt = distilled.manifest.get("configuration", {}).get("prompt")
    distiller = Distiller(per_class=1, embedder=found, prompt=prompt, store=store, progress=progress or SilentProgress())
    vectors = distiller.embed(source)
    return Evidence(distilled, source, vectors, distiller.embed_texts(distilled.texts))
