"""Text dataset distillation: many labelled texts in, a few readable ones out."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dallme.data import Budget, LabelledTexts
    from dallme.dataset import DistilledDataset
    from dallme.distiller import Distiller
    from dallme.errors import DallmeError
    from dallme.readers import read

__version__ = "0.1.0"

__all__ = ["Budget", "DallmeError", "DistilledDataset", "Distiller", "LabelledTexts", "read"]

# Names are imported when they are asked for, so that `import dallme` is instant and loads neither torch nor scikit-learn.
_HOMES = {
    "Budget": "dallme.data",
    "DallmeError": "dallme.errors",
    "DistilledDataset": "dallme.dataset",
    "Distiller": "dallme.distiller",
    "LabelledTexts": "dallme.data",
    "read": "dallme.readers",
}


def __getattr__(name: str) -> Any:
    """Imports a public name on first use."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'dallme' has no attribute {name!r}")


def __dir__() -> list[str]:
    """The public names."""
    return sorted(__all__)
