"""How much of the classes the vectors of an embedder hold (Table 2, section 5.3)."""

from __future__ import annotations

from functools import partial
from typing import Any

from dallme.embedders.cache import EmbeddingStore, embed_with_store
from dallme.evaluation.probe import probe
from dallme.experiments.runs import Run
from dallme.experiments.workspace import Workspace


def run(cell: Run, workspace: Workspace) -> dict[str, Any]:
    """The accuracy of a linear classifier on the vectors of the full data."""
    embedder = workspace.embedder(cell["embedder"])
    store = EmbeddingStore(workspace.store)
    embed = partial(
        embed_with_store, embedder, prompt=cell["prompt"] or None, store=store, progress=workspace.progress
    )
    source, test = workspace.texts(cell)[0], workspace.test_set(cell)
    found = probe(cell["embedder"], embed, source, test, seed=cell.grid.seed)
    names = ("accuracy", "macro_f1", "dimension", "train_seconds")
    return {"runs": 1, "max_tokens": embedder.token_limit} | {name: found.as_dict()[name] for name in names}
