"""Trains the inverter that comes with dallme: news and film reviews, for MiniLM, from MiniLM's own weights.

Its texts are the training texts of AG-News (18,060), IMDB (25,000) and SST-2 (6,920), and passages of each, so that it sees none
so often that it learns it by heart. The one that comes with dallme took 6.3 minutes of an H200: 4,080 steps of the hypothesizer,
1,607 of the corrector. The clock ended them, so another run makes another one; a processor needs days for as many steps. MiniLM's
weights had been rounded to bfloat16, the format that it embeds in; the record names the file as published.

Run: python benchmarks/shipped_inverter.py OUTPUT [--minutes 6.3] [--resume]
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

import numpy as np

from _common import data_folder
from dallme.cli.options import store_folder
from dallme.cli.output import make_progress
from dallme.data import LabelledTexts
from dallme.decoders.vec2text.training import train_inverter
from dallme.embedders.cache import EmbeddingStore, embed_with_store
from dallme.embedders.resolve import resolve
from dallme.readers import read

EMBEDDER, SOURCES = "all-MiniLM-L6-v2", {"ag_news": "AG-News", "imdb": "IMDB", "sst2": "SST-2"}

#: For a GPU, which takes many texts a step; a checkpoint of each 5,000 steps is enough there.
OPTIONS = {
    "passages": 8,
    "drafts": 30_000,
    "batch_size": 768,
    "learning_rate": 1e-3,
    "noise": 0.2,
    "save_every": 5_000,
}


def main() -> None:
    """Builds the corpus and trains."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
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
        minutes=options.minutes,
        progress=progress,
        **OPTIONS,
    )


def make_corpus() -> LabelledTexts:
    """All training texts, one data set after the other; the labels do not matter."""
    texts = [text for name in SOURCES for text in read(data_folder() / name / "train.parquet").texts]
    named = f"training texts of {', '.join(SOURCES.values())}"
    return LabelledTexts(
        texts, np.zeros(len(texts), dtype=np.int64), {0: "text"}, np.arange(len(texts)), source=named
    )


if __name__ == "__main__":
    main()
