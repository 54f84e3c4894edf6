"""What it costs to embed a data set with a service (section 5.8); nothing is sent."""

from __future__ import annotations

from typing import Any

from dallme.embedders.cost import make_plan
from dallme.experiments.runs import Run
from dallme.experiments.workspace import Workspace


def run(cell: Run, workspace: Workspace) -> dict[str, Any]:
    """Tokens and price of all texts of the source, scaled to the rows that the grid says."""
    plan = make_plan(
        workspace.embedder(cell["embedder"]), workspace.texts(cell)[0].texts, prompt=cell["prompt"] or None
    )
    if cell.grid.corpus_rows:
        plan = plan.for_rows(cell.grid.corpus_rows)
    return {
        "texts": plan.rows,
        "tokens": plan.tokens,
        "price_usd": plan.price_usd,
        "price_is": plan.price_is,
        "runs": 1,
    }
