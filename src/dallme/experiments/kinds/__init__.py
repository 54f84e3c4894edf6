"""What the cells of each kind compute: one file a kind, each with a function `run(cell, workspace)` that gives its measures."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from dallme.experiments.runs import Run
from dallme.experiments.workspace import Workspace


def run_cell(cell: Run, workspace: Workspace) -> dict[str, Any]:
    """Computes a cell.

    Returns:
        Its measures by name, as JSON; the deviation of a measure has its name and ``_std``.

    Raises:
        DallmeError: If its data or parts cannot be used.
    """
    found: dict[str, Any] = import_module(f"dallme.experiments.kinds.{cell.kind}").run(cell, workspace)
    return found
