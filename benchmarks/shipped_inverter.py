"""Trains the inverter that comes with dallme: news and film reviews, for MiniLM, from MiniLM's own weights.

The corpus is the training texts of AG-News (18,060), IMDB (25,000) and SST-2 (6,920), and passages of them,
which keeps the model from memorising single texts. The shipped inverter took 6.3 minutes on an H200: 4,080
steps of the hypothesizer and 1,607 of the corrector. The time limit ended them, so another run gives another
model; a processor needs days. MiniLM's weights were rounded to bfloat16, the format that it embeds in; the
record names the published file.

Run: python benchmarks/shipped_inverter.py OUTPUT [--minutes 6.3] [--resume]
"""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from _common import data_folder, make_parser, pick
from dallme.cli.options import store_folder
from dallme.cli.output import make_progress
from dallme.data import LabelledTexts
from dallme.decoders.vec2text.training import train_inverter
from dallme.embedders import resolve
from dallme.embedders.cache import EmbeddingStore, embed_with_store
from dallme.readers import read

EMBEDDER, SOURCES = "all-MiniLM-L6-v2", {"ag_news": "AG-News", "imdb": "IMDB", "sst2": "SST-2"}

#: Options for a GPU, with large batches and few checkpoints.
OPTIONS: dict[str, Any] = {
    "passages": 8,
    "drafts": 30_000,
    "batch_size": 768,
    "learning_rate": 1e-3,
    "noise": 0.2,
    "save_every": 5_000,
}

SMOKE_OPTIONS: dict[str, Any] = {
    "preset": "tiny",
    "steps": 1,
    "batch_size": 2,
    "drafts": 2,
    "max_tokens": 8,
}


def main() -> None:
    """Builds the corpus and trains."""
    parser = make_parser(__doc__)
    parser.add_argument(
        "output", type=Path, nargs="?", default=pick(None, Path(tempfile.mkdtemp()) / "inverter")
    )
    parser.add_argument("--minutes", type=float, default=6.3)
    parser.add_argument("--resume", action="store_true")
    options = parser.parse_args()
    embedder, progress = resolve(EMBEDDER), make_progress()
    train_inverter(
        make_corpus(),
        embedder,
        options.output,
        name=EMBEDDER,
        embed=partial(
            embed_with_store, embedder, store=EmbeddingStore(store_folder(None)), progress=progress
        ),
        resume=options.resume,
        progress=progress,
        **pick(OPTIONS | {"minutes": options.minutes}, SMOKE_OPTIONS),
    )


def make_corpus() -> LabelledTexts:
    """Concatenates all training texts; the labels are not used."""
    texts = [text for name in SOURCES for text in read(data_folder() / name / "train.parquet").texts]
    named = f"training texts of {', '.join(SOURCES.values())}"
    return LabelledTexts(
        texts, np.zeros(len(texts), dtype=np.int64), {0: "text"}, np.arange(len(texts)), source=named
    )


if __name__ == "__main__":
    main()
