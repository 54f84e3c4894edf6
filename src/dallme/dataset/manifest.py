"""What a run writes about itself."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import dallme
from dallme.data import Fingerprint, LabelledTexts

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


def build_manifest(
    configuration: dict[str, Any],
    texts: LabelledTexts,
    fingerprint: Fingerprint,
    seconds: dict[str, float],
    cost_usd: float = 0.0,
) -> dict[str, Any]:
    """Gathers configuration, data, embedder, versions, timings and cost into one record that JSON can hold."""
    return {
        "dallme": dallme.__version__,
        "configuration": configuration,
        "data": {
            "source": _public_name(texts.source),
            "sha256": texts.source_digest,
            "rows": len(texts),
            "classes": {texts.label_names[label]: count for label, count in texts.class_counts.items()},
            "notes": list(texts.notes),
        },
        "embedder": asdict(fingerprint),
        "versions": {"python": platform.python_version()}
        | {package: _version(package) for package in PACKAGES},
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
        "cost_usd": round(cost_usd, 6),
    }


def _public_name(source: str) -> str:
    """A source as it may be shown to others: of an absolute path only the last folder and the name."""
    return "/".join(Path(source).parts[-2:]) if Path(source).is_absolute() else source


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
