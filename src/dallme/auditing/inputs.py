"""What an audit and a report look at: the distilled set beside the source that it was made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dallme.classifiers.embedding_lr import linear_probe
from dallme.data import Fingerprint, LabelledTexts, LabelledVectors
from dallme.embedders.base import Embedder
from dallme.embedders.cache import CachedEmbedder, EmbeddingStore
from dallme.embedders.openai import OpenAIEmbedder
from dallme.embedders.resolve import resolve, resolve_named
from dallme.errors import InputError
from dallme.progress import Progress, SilentProgress

if TYPE_CHECKING:
    from pathlib import Path

    from dallme.dataset import DistilledDataset
    from dallme.dataset.distilled import RowId

#: Number formats that a machine may have stored the vectors of one model in.
_PRECISIONS = ("float32", "bfloat16")


def restore_embedder(
    manifest: Mapping[str, Any], embedder: Any = None, store: str | Path | None = None
) -> Embedder | None:
    """Finds the embedder that a set was made with, with the options that its fingerprint tells of.

    Args:
        manifest: The set's.
        embedder: One to use in its place: a name, a folder, or an embedder. It may make other vectors, as one that costs
            nothing does for a set that was made with a service. The manifest's own service, repeated, must make the same.
        store: Folder with the user's vectors: what the manifest names is opened only if it made some of them, or comes with
            dallme.

    Returns:
        The embedder; None if the set was made of ready vectors and none is given.

    Raises:
        InputError: If the one of the manifest's name makes other vectors today, or is used only if the user names it: a service,
            a path, or a model that the user has no vectors of.
        ModelNotFoundError: If the user's name leads to none.
    """
    configuration = manifest.get("configuration", {})
    named, made_with = configuration.get("embedder"), _read_fingerprint(manifest)
    prompt = configuration.get("prompt")
    if embedder is not None:
        found = resolve(embedder)
        if (
            made_with and embedder == named and found.paid
        ):  # the texts go to the server that the set was made with, or to none
            found = _with_options(found, made_with)
            check_same(made_with, _fingerprint(found, prompt, made_with["dimension"]))
            return found
        if (
            isinstance(embedder, str)
            and made_with
            and _fingerprint(found, prompt, 1).weights == made_with["weights"]
        ):
            return _with_options(found, made_with)  # the same model, found elsewhere
        return found
    if named is None:
        return None
    found = resolve_named(
        named, "the manifest of the set", lambda candidate: _has_vectors(store, candidate, made_with)
    )
    if made_with is None:  # nothing says which vectors they were
        return found
    found = _with_options(found, made_with)
    check_same(made_with, _fingerprint(found, prompt, made_with["dimension"]))
    return found


def check_same(made_with: Mapping[str, Any], found: Fingerprint) -> None:
    """Checks that an embedder makes the vectors that a set was made with.

    The number format follows the machine and moves a vector by next to nothing. A model may be called by its folder here and
    by its Hub id there, as long as its weights are known.

    Args:
        made_with: The fingerprint in the set's manifest.
        found: The fingerprint of the embedder.

    Raises:
        InputError: If it does not.
    """
    passed_over = {"precision"} if found.weights == "unknown" else {"precision", "model"}
    differing = [
        f"{field} {_short(made_with[field])}, not {_short(value)}"
        for field, value in asdict(found).items()
        if field not in passed_over and made_with[field] != value
    ]
    if differing:
        address = ", and its server in OPENAI_BASE_URL" if found.model.startswith("openai:") else ""
        raise InputError(
            f"expected the vectors of {made_with['model']!r}, with which the texts were made ({'; '.join(differing)}), "
            f"found those of {found.model!r}; name the same embedder, with the same options, with --embedder{address}"
        )


def _read_fingerprint(manifest: Mapping[str, Any]) -> dict[str, Any] | None:
    """The fingerprint in a manifest, with all its fields; None if there is none."""
    found = manifest.get("embedder")
    if found is None:
        return None
    try:
        return asdict(Fingerprint(**found))
    except TypeError as error:
        raise InputError(
            f"expected the fingerprint of an embedder in the manifest, found {_short(found)}: {error}"
        ) from None


def _has_vectors(store: str | Path | None, candidate: Embedder, made_with: Mapping[str, Any] | None) -> bool:
    """Whether the store has vectors of the fingerprint in a manifest, and that is one of the embedder that the manifest names."""
    if store is None or made_with is None or made_with["model"] != candidate.name:
        return False
    tables = EmbeddingStore(store)
    return any(tables.has(Fingerprint(**{**made_with, "precision": precision})) for precision in _PRECISIONS)


def _with_options(found: Embedder, made_with: Mapping[str, Any]) -> Embedder:
    """The same embedder with those of its options that a fingerprint tells."""
    told = {
        "max_tokens": made_with["max_tokens"],
        "dimension": made_with["dimension"],
        "unknown": "zero" if made_with["pooling"] == "mean, or zero" else "error",
    }
    if isinstance(found, OpenAIEmbedder) and found.known_dimension not in (None, made_with["dimension"]):
        told["dimensions"] = made_with["dimension"]
    part: Any = found
    known = {field.name for field in fields(part)}
    try:
        changed: Embedder = replace(part, **{name: value for name, value in told.items() if name in known})
    except (
        InputError
    ):  # options that this embedder cannot have: it is another one, as the fingerprints will tell
        return found
    return changed


def _fingerprint(embedder: Embedder, prompt: str | None, dimension: int) -> Fingerprint:
    """What the vectors will be. No service is asked for their dimension: it may be another one than the set's."""
    if isinstance(embedder, OpenAIEmbedder):
        return embedder.fingerprint_of(embedder.known_dimension or dimension, prompt)
    return embedder.fingerprint(prompt)


def _short(value: Any) -> str:
    """A value for a message; of a hash the beginning."""
    return f"{value[:12]}…" if isinstance(value, str) and len(value) == 64 else repr(value)


#: Rows that the probe is trained on; more change its judgement of a text very little.
PROBE_ROWS = 20_000


@dataclass(frozen=True, eq=False)
class AuditInput:
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
            [
                np.linalg.norm(rows - rows.mean(axis=0), axis=1).mean() if len(rows) else 0.0
                for rows in clusters
            ],
            dtype=np.float64,
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
) -> AuditInput:
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
    plain = AuditInput(distilled, source)
    found = restore_embedder(distilled.manifest, embedder, store)
    if found is None:
        return plain
    prompt = distilled.manifest.get("configuration", {}).get("prompt")
    cached = CachedEmbedder(found, prompt, store, progress or SilentProgress())
    return AuditInput(distilled, source, cached.embed_source(source), cached.embed(distilled.texts))
