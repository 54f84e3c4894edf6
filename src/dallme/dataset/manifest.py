"""The manifest: the record of the run that made a set."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from dallme.data import Fingerprint, LabelledTexts
from dallme.dataset.schema import ROW_ID, check_depth, check_shape
from dallme.errors import InputError
from dallme.versions import __version__, installed_versions

#: Packages whose version may change a result.
PACKAGES = (
    "numpy",
    "scikit-learn",
    "scipy",
    "faiss-cpu",
    "torch",
    "transformers",
    "sentence-transformers",
    "sentencex",
)


class Clock:
    """Seconds by stage.

    Attributes:
        seconds: Name of a stage to the seconds it took.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def lap(self, name: str) -> Iterator[None]:
        """Times the block as the stage `name`."""
        started = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - started


_RESULT = {
    "classifier": str,
    "accuracy_mean": (None, float),
    "accuracy_std": (None, float),
    "runs": (None, int),
    "recovered": (None, float),
    "better_than_random?": (None, bool),
}
_REVIEW = {
    "version": int,
    "parent": int,
    "parent_sha256": str,
    "when": str,
    "texts": int,
    "changes": [{"action": str}],
    "notes": [str],
}

#: Shape of each part of a manifest that the program reads; see :func:`~dallme.dataset.schema.check_shape`.
SHAPE = {
    "dallme?": (None, str),
    "configuration?": {
        "embedder?": (None, str),
        "condenser?": (None, str),
        "decoder?": (None, str),
        "target?": (None, str),
        "prompt?": (None, str),
        "max_tokens?": (None, int),
        "seed?": (None, int),
    },
    "data?": {
        "source?": (None, str),
        "sha256?": (None, str),
        "rows?": (None, int),
        "notes?": [str],
    },
    "embedder?": Any,
    "versions?": {},
    "seconds?": {},
    "cost_usd?": (None, float),
    "decoding?": {},
    "comparison?": {
        "methods": [{"method": str, "texts": int, "results": [_RESULT]}],
        "test_rows?": (None, int),
        "notes?": [str],
    },
    "personal?": {"found?": {}, "redacted?": {}},
    "update?": {
        "sources?": [{"source": str, "sha256": str, "rows": int}],
        "dropped?": [ROW_ID],
        "pending?": [int],
        "version?": int,
    },
    "review?": {"ids?": [int], "accepted?": [int]},
    "history?": [_REVIEW],
}


@dataclass(frozen=True, eq=False)
class Manifest(Mapping[str, Any]):
    """Record of the run that made a set, the content of ``manifest.json``.

    It is also a mapping: ``manifest["data"]``, ``manifest | {"decoding": …}``. A missing part is None.

    Attributes:
        dallme: Version of dallme.
        configuration: Every option of the run.
        data: ``source``, ``sha256``, ``rows``, ``classes`` and ``notes`` of the source.
        embedder: Fingerprint of the embedder.
        versions: Version of Python and of each package that may change a result.
        seconds: Duration of each stage.
        cost_usd: Cost of services.
        decoding: Findings of the decoder.
        comparison: Comparison with other methods, as ``dallme compare --json`` prints it.
        personal: Places with personal data by kind: ``found`` in the texts, ``redacted`` in the source.
            None if there are none and the source was not redacted.
        update: Sources, dropped rows and changes of the update that made the set; None for a first version.
        review: Ids of the texts, and of those that were accepted, after a review.
        history: One entry for each review.
        other: Keys that this version does not know.
    """

    dallme: str | None = None
    configuration: Mapping[str, Any] | None = None
    data: Mapping[str, Any] | None = None
    embedder: Any = None
    versions: Mapping[str, Any] | None = None
    seconds: Mapping[str, Any] | None = None
    cost_usd: float | None = None
    decoding: Mapping[str, Any] | None = None
    comparison: Mapping[str, Any] | None = None
    personal: Mapping[str, Any] | None = None
    update: Mapping[str, Any] | None = None
    review: Mapping[str, Any] | None = None
    history: list[dict[str, Any]] | None = None
    other: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Manifest:
        """Checks a document and keeps it, unknown keys as well.

        Raises:
            InputError: If a part does not have the format of dallme.
        """
        try:
            if not isinstance(document, Mapping):
                raise ValueError("it is no object")
            document = {key: value for key, value in document.items() if value is not None}
            check_shape(document, SHAPE, "manifest")
            check_depth(document, "manifest")
            if comparison := document.get("comparison"):
                counts = {len(method["results"]) for method in comparison["methods"]}
                if len(counts) != 1 or 0 in counts:
                    raise ValueError(
                        "manifest.comparison has methods with different numbers of results, or none"
                    )
        except ValueError as error:
            raise InputError(
                f"expected the manifest of a distilled set, found that {error}; distil the set again"
            ) from None
        known = {part.name for part in fields(cls)} - {"other"}
        parts = {key: value for key, value in document.items() if key in known}
        return cls(**parts, other={key: value for key, value in document.items() if key not in known})

    def as_dict(self) -> dict[str, Any]:
        """The document, in the order in which runs and reviews add its parts."""
        parts = {part.name: getattr(self, part.name) for part in fields(self) if part.name != "other"}
        return {name: value for name, value in parts.items() if value is not None} | dict(self.other)

    @property
    def source(self) -> str | None:
        """Name of the source."""
        return (self.data or {}).get("source")

    @property
    def rows(self) -> int | None:
        """Rows of the source."""
        return (self.data or {}).get("rows")

    @property
    def sha256(self) -> str | None:
        """Hash of the source's rows."""
        return (self.data or {}).get("sha256")

    def option(self, name: str) -> Any:
        """An option of the run; None if it is not known."""
        return (self.configuration or {}).get(name)

    def __getitem__(self, key: str) -> Any:
        """A part of the document."""
        return self.as_dict()[key]

    def __iter__(self) -> Iterator[str]:
        """The keys of the document."""
        return iter(self.as_dict())

    def __len__(self) -> int:
        """Number of keys of the document."""
        return len(self.as_dict())

    def __or__(self, changes: Mapping[str, Any]) -> Manifest:
        """The manifest with some parts replaced; None takes a part out."""
        return Manifest.from_dict(self.as_dict() | dict(changes))


def build_manifest(
    configuration: dict[str, Any],
    texts: LabelledTexts,
    fingerprint: Fingerprint,
    seconds: dict[str, float],
    cost_usd: float = 0.0,
) -> Manifest:
    """Gathers configuration, data, embedder, versions, timings and cost of a run."""
    return Manifest(
        dallme=__version__,
        configuration=configuration,
        data={
            "source": texts.public_source,
            "sha256": texts.source_digest,
            "rows": len(texts),
            "classes": {texts.label_names[label]: count for label, count in texts.class_counts.items()},
            "notes": list(texts.notes),
        },
        embedder=asdict(fingerprint),
        versions=installed_versions(PACKAGES),
        seconds={name: round(value, 3) for name, value in seconds.items()},
        cost_usd=round(cost_usd, 6),
    )
