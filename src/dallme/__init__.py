"""Text dataset distillation: many labelled texts in, a few readable ones out."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from dallme.versions import __version__ as __version__

if TYPE_CHECKING:
    from dallme.api import audit, compare, curve, evaluate, load, update
    from dallme.data import Budget, LabelledTexts
    from dallme.dataset import DistilledDataset
    from dallme.distiller import Distiller
    from dallme.errors import DallmeError
    from dallme.evaluation.protocol import Protocol
    from dallme.inspection import inspect
    from dallme.readers import read

__all__ = [
    "Budget",
    "DallmeError",
    "DistilledDataset",
    "Distiller",
    "LabelledTexts",
    "Protocol",
    "audit",
    "compare",
    "curve",
    "evaluate",
    "inspect",
    "load",
    "read",
    "update",
]

# Names are imported on first use, so that `import dallme` is instant and loads neither torch nor
# scikit-learn.
_MODULES = {
    "Budget": "dallme.data",
    "DallmeError": "dallme.errors",
    "DistilledDataset": "dallme.dataset",
    "Distiller": "dallme.distiller",
    "LabelledTexts": "dallme.data",
    "Protocol": "dallme.evaluation.protocol",
    "audit": "dallme.api",
    "compare": "dallme.api",
    "curve": "dallme.api",
    "evaluate": "dallme.api",
    "inspect": "dallme.inspection",
    "load": "dallme.api",
    "read": "dallme.readers",
    "update": "dallme.api",
}


def __getattr__(name: str) -> Any:
    """Imports a public name on first use."""
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'dallme' has no attribute {name!r}")


def __dir__() -> list[str]:
    """Lists the public names."""
    return sorted(__all__)
