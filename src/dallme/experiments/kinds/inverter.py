"""How well an inverter writes known texts, and what its distilled texts are worth (Figure 3, section 5.6)."""

from __future__ import annotations

from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from dallme.data import LabelledTexts
from dallme.embedders.cache import EmbeddingStore, embed_with_store
from dallme.experiments.kinds import accuracy
from dallme.experiments.runs import Run
from dallme.experiments.workspace import Workspace

#: Test texts that an inverter is measured on.
CHECKED = 200


def run(cell: Run, workspace: Workspace) -> dict[str, Any]:
    """BLEU, token F1 and cosine on test texts, and the measures of accuracy."""
    measures = accuracy.run(cell, workspace)
    folder = Path(str(workspace.distiller(cell).decoder).partition(":")[2])
    steps = int(cell.grid.decoder_options.get("steps", 5))
    checked = _check(folder, workspace, cell["embedder"], workspace.test_set(cell), steps)
    return measures | checked


@lru_cache(maxsize=4)
def _check(
    folder: Path, workspace: Workspace, embedder: str, test: LabelledTexts, steps: int
) -> dict[str, Any]:
    from dallme.decoders.vec2text.evaluation import check_inverter, cut_corpus
    from dallme.decoders.vec2text.inverter import Inverter, find_inverter

    inverter = Inverter.load(
        find_inverter(str(folder) if folder.parts else ""), embedder=workspace.embedder(embedder)
    )
    rows = np.sort(np.random.default_rng(0).permutation(len(test))[:CHECKED])
    embed = partial(
        embed_with_store,
        inverter.embedder,
        prompt=inverter.config.prompt,
        store=EmbeddingStore(workspace.store),
        progress=workspace.progress,
    )
    corpus = cut_corpus(inverter, [test.texts[row] for row in rows], embed)
    found = check_inverter(inverter, corpus, steps=[steps], beams=[1], seed=0, progress=workspace.progress)[
        0
    ].measures
    return {"bleu": found.bleu, "token_f1": found.token_f1, "cosine": found.cosine}
