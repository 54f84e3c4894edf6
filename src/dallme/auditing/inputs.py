"""The input of an audit or a report: a set with its source and the vectors of both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dallme.classifiers.linear import linear_probe
from dallme.data import Fingerprint, LabelledTexts, LabelledVectors
from dallme.embedders import resolve, resolve_named
from dallme.embedders.base import Embedder
from dallme.embedders.cache import CachedEmbedder, EmbeddingStore
from dallme.embedders.openai import OpenAIEmbedder
from dallme.errors import InputError
from dallme.progress import Progress, SilentProgress

if TYPE_CHECKING:
    from pathlib import Path

    from dallme.dataset import DistilledDataset, RowId
    from dallme.dataset.manifest import Manifest

#: Number formats of stored vectors.
_PRECISIONS = ("float32", "bfloat16")


def restore_embedder(
    manifest: Mapping[str, Any], embedder: Any = None, store: str | Path | None = None, *, same: bool = False
) -> Embedder | None:
    """Finds the embedder of a set, with the options of its fingerprint.

    Args:
        manifest: The manifest of the set.
        embedder: Embedder to use instead: a name, a folder, or an object. It may make other vectors, such as
            a free one for a set of a service. The manifest's own service, repeated, must make the same
            vectors.
        store: Folder of the user's vectors. A model named by the manifest is opened only if it made some of
            them or ships with dallme.
        same: Whether any embedder must make the same vectors.

    Returns:
        The embedder; None if the set was made of ready vectors and none is given.

    Raises:
        InputError: If the embedder of the manifest now makes other vectors. Or if the user must confirm it: a
            service, a path, or a model without vectors in the store.
        ModelNotFoundError: If the user's name leads to no model.
    """
    configuration = manifest.get("configuration", {})
    named, made_with = configuration.get("embedder"), _read_fingerprint(manifest)
    prompt = configuration.get("prompt")
    if embedder is None:
        if named is None:
            return None
        part = resolve_named(
            named, "the manifest of the set", lambda candidate: _has_vectors(store, candidate, made_with)
        )
    else:
        part = resolve(embedder)
        if not (same or (made_with and embedder == named and part.paid)):
            equal = (
                isinstance(embedder, str)
                and made_with
                and made_with["weights"] in (_fingerprint(part, prompt, 1).weights, part.earlier_weights)
            )
            return _with_options(part, made_with) if equal and made_with else part
    if made_with is not None:  # a paid embedder sends texts only to the server that the set was made with
        part = _with_options(part, made_with)
        check_same(made_with, _fingerprint(part, prompt, made_with["dimension"]), part.earlier_weights)
    return part


def check_same(made_with: Mapping[str, Any], found: Fingerprint, earlier_weights: str | None = None) -> None:
    """Checks that an embedder makes the vectors that a set was made with.

    The number format is ignored, as it hardly changes a vector. The name is ignored if the weights are known,
    as a model may be named by folder or by Hub id.

    Args:
        made_with: The fingerprint in the set's manifest.
        found: The fingerprint of the embedder.
        earlier_weights: The weights in its fingerprints of version 0.1; they count as the same.

    Raises:
        InputError: If a field differs.
    """
    ignored = {"precision"} if found.weights == "unknown" else {"precision", "model"}
    differing = [
        f"{field} {_short(made_with[field])}, not {_short(value)}"
        for field, value in asdict(found).items()
        if field not in ignored
        and made_with[field] != value
        and not (field == "weights" and made_with[field] == earlier_weights)
    ]
    if differing:
        address = ", and its server in OPENAI_BASE_URL" if found.model.startswith("openai:") else ""
        raise InputError(
            f"expected the vectors of {made_with['model']!r}, with which the texts were made "
            f"({'; '.join(differing)}), found those of {found.model!r}; "
            f"name the same embedder, with the same options, with --embedder{address}"
        )


def _read_fingerprint(manifest: Mapping[str, Any]) -> dict[str, Any] | None:
    """Parses the fingerprint in a manifest, with all fields; None if there is none."""
    document = manifest.get("embedder")
    if document is None:
        return None
    try:
        return asdict(Fingerprint(**document))
    except TypeError as error:
        raise InputError(
            f"expected the fingerprint of an embedder in the manifest, found {_short(document)}: {error}"
        ) from None


def _has_vectors(store: str | Path | None, candidate: Embedder, made_with: Mapping[str, Any] | None) -> bool:
    """Returns whether the candidate has this fingerprint and the store has its vectors."""
    if store is None or made_with is None or made_with["model"] != candidate.name:
        return False
    tables = EmbeddingStore(store)
    return any(tables.has(Fingerprint(**{**made_with, "precision": precision})) for precision in _PRECISIONS)


def _with_options(found: Embedder, made_with: Mapping[str, Any]) -> Embedder:
    """Copies an embedder, with the options in a fingerprint; an object of the user's stays as it is."""
    options = {
        "max_tokens": made_with["max_tokens"],
        "dimension": made_with["dimension"],
        "unknown": "zero" if made_with["pooling"] == "mean, or zero" else "error",
    }
    if isinstance(found, OpenAIEmbedder) and found.known_dimension not in (None, made_with["dimension"]):
        options["dimensions"] = made_with["dimension"]
    part: Any = found
    known = getattr(part, "__dataclass_fields__", {})
    if not known:
        return found
    try:
        changed: Embedder = replace(part, **{name: value for name, value in options.items() if name in known})
    except InputError:  # it is another embedder, which check_same reports
        return found
    return changed


def _fingerprint(embedder: Embedder, prompt: str | None, dimension: int) -> Fingerprint:
    """Returns the fingerprint of an embedder, without a request to a service for the dimension."""
    if isinstance(embedder, OpenAIEmbedder):
        return embedder.fingerprint_of(embedder.known_dimension or dimension, prompt)
    return embedder.fingerprint(prompt)


def _short(value: Any) -> str:
    """Shortens a hash for a message."""
    return f"{value[:12]}…" if isinstance(value, str) and len(value) == 64 else repr(value)


#: Rows that the linear probe is trained on; more hardly change its predictions.
PROBE_ROWS = 20_000


@dataclass(frozen=True, eq=False)
class AuditInput:
    """A distilled set with its source.

    Attributes:
        distilled: The set, of m texts.
        source: The n texts that it was made from.
        vectors: Vectors of the source; None without an embedder.
        own: Vectors of the m texts, float32 of shape (m, d); None without an embedder.
    """

    distilled: DistilledDataset
    source: LabelledTexts
    vectors: LabelledVectors | None = None
    own: np.ndarray | None = None

    def __post_init__(self) -> None:
        """Checks that the source is the one in the manifest, as row ids refer to it.

        Raises:
            InputError: If it is another one.
        """
        manifest = self.distilled.manifest
        if manifest.sha256 is not None and manifest.sha256 != self.source.source_digest:
            rows = "" if manifest.rows is None else f" of {manifest.rows:,} rows"
            raise InputError(
                f"expected the source that the texts were distilled from, {manifest.source!r}{rows} "
                f"(SHA-256 {manifest.sha256[:12]}…), found {len(self.source):,} other rows "
                f"({self.source.source_digest[:12]}…); read it with the same column options"
            )

    @cached_property
    def members(self) -> tuple[np.ndarray, ...]:
        """Positions of the source rows of each text's cluster, nearest to its prototype first."""
        return tuple(self.positions(lineage.member_rows) for lineage in self.distilled.lineage)

    @cached_property
    def nearest(self) -> tuple[np.ndarray, ...]:
        """Positions of the source rows nearest to each text's prototype."""
        return tuple(self.positions(lineage.nearest_rows) for lineage in self.distilled.lineage)

    @cached_property
    def probabilities(self) -> np.ndarray | None:
        """Class probabilities of a linear probe of the full data, float64 of shape (m, classes).

        None without vectors, or if the source has one class.
        """
        if self.vectors is None or self.own is None or len(self.classes) < 2:
            return None
        rows = np.sort(np.random.default_rng(0).permutation(len(self.source))[:PROBE_ROWS])
        probe = linear_probe(0).fit(self.vectors.vectors[rows], self.source.labels[rows])
        probabilities: np.ndarray = np.zeros((len(self.distilled), len(self.classes)))
        probabilities[:, np.searchsorted(self.classes, probe.classes_)] = probe.predict_proba(self.own)
        return probabilities

    @cached_property
    def confidence(self) -> np.ndarray | None:
        """Probability of each text's own label by the probe, float64 of shape (m,); None without it."""
        if self.probabilities is None:
            return None
        columns = np.searchsorted(self.classes, self.distilled.labels)
        chosen: np.ndarray = self.probabilities[np.arange(len(self.distilled)), columns]
        return chosen

    @cached_property
    def spread(self) -> np.ndarray | None:
        """Mean Euclidean distance of each text's rows to their mean, float64 of shape (m,).

        0 for a text without rows; None without vectors.
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
        """Ids of the classes of the source and the set, ascending."""
        return np.union1d(self.source.labels, self.distilled.labels)

    def positions(self, row_ids: Sequence[RowId]) -> np.ndarray:
        """Looks up the positions of source rows by their ids, int64.

        Raises:
            InputError: If the source has no row of that id.
        """
        try:
            return np.array([self._position[row_id] for row_id in row_ids], dtype=np.int64)
        except KeyError as error:
            raise InputError(
                f"expected ids of source rows in the lineage, found {error.args[0]!r}, which no row has; "
                "name the id column that the texts were distilled with (--id-column)"
            ) from None

    @cached_property
    def _position(self) -> dict[RowId, int]:
        return {row_id: position for position, row_id in enumerate(self.source.row_ids.tolist())}


def find_source(manifest: Manifest, folder: Path) -> Path:
    """Finds the source of a set by the relative path in its manifest.

    The working directory is searched, then the two folders above the set. A manifest is untrusted: only data
    files and folders below these are opened, and nothing is fetched.

    Raises:
        InputError: If there is no such file or folder.
    """
    named = manifest.source or ""
    path, above = Path(named), folder.resolve().parents
    if path.parts and not path.is_absolute() and ".." not in path.parts and "\0" not in named:
        for place in (Path(), *above[:2]):
            found = place / path
            if found.is_dir() or (found.is_file() and found.suffix):
                return found
    raise InputError(
        f"expected the source {named!r} of the manifest here or beside the set, found none; "
        "name it with --source"
    )


def gather(
    distilled: DistilledDataset,
    source: LabelledTexts,
    *,
    embedder: Any = None,
    store: str | Path | None = None,
    progress: Progress | None = None,
) -> AuditInput:
    """Embeds the source and the texts as in the run that made the set; stored vectors are reused.

    Args:
        distilled: The set.
        source: The texts that it was made from.
        embedder: Embedder in place of the manifest's: a name, a folder or an object.
        store: Folder for vectors; None stores none.
        progress: Progress display.

    Returns:
        The set with its source; without vectors if it was made of ready ones and no embedder is given.

    Raises:
        InputError: If the source is another one, or as :func:`restore_embedder`.
        ModelNotFoundError: If the user's name leads to no model.
    """
    if "redacted" in (distilled.manifest.personal or {}):
        source = source.redacted()
    plain = AuditInput(distilled, source)
    part = restore_embedder(distilled.manifest, embedder, store)
    if part is None:
        return plain
    cached = CachedEmbedder(part, distilled.manifest.option("prompt"), store, progress or SilentProgress())
    return AuditInput(distilled, source, cached.embed_source(source), cached.embed(distilled.texts))
