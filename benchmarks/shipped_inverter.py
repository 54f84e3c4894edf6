"""Trains the inverter that comes with dallme: news and film reviews, for MiniLM, from MiniLM's own weights.

Its texts are the 18,060 training texts of AG-News, 9,000 training reviews of IMDB, and a passage of each: half as many reviews,
since the measures are on news. Without passages, dropout and noise it had learnt the news by heart after five epochs.

Run: python benchmarks/shipped_inverter.py OUTPUT [--minutes 50] [--resume]
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

import numpy as np

from _common import data_folder
from dallme.cli.options import store_folder
from dallme.cli.progress import make_progress
from dallme.data import LabelledTexts
from dallme.decoders.vec2text.training import train_inverter
from dallme.embedders.resolve import resolve
from dallme.readers import read
from dallme.store import EmbeddingStore, embed_with_store

EMBEDDER, REVIEWS = "all-MiniLM-L6-v2", 9_000


def main() -> None:
    """Builds the corpus and trains."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("--minutes", type=float, default=50.0)
    parser.add_argument("--resume", action="store_true")
    options = parser.parse_args()
    embedder, progress = resolve(EMBEDDER), make_progress()
    train_inverter(
        make_corpus(),
        embedder,
        options.output,
        name=EMBEDDER,
        embed=partial(embed_with_store, embedder, store=EmbeddingStore(store_folder(None)), progress=progress),
        resume=options.resume,
        minutes=options.minutes,
        passages=1,
        noise=0.2,
        progress=progress,
    )


def make_corpus() -> LabelledTexts:
    """News, then reviews; the labels do not matter."""
    news = read(data_folder() / "ag_news" / "train.parquet").texts
    reviews = read(data_folder() / "imdb" / "train.parquet").texts
    drawn = np.sort(np.random.default_rng(0).permutation(len(reviews))[:REVIEWS])
    texts = [*news, *(reviews[row] for row in drawn)]
    labels = np.zeros(len(texts), dtype=np.int64)
    return LabelledTexts(texts, labels, {0: "text"}, np.arange(len(texts)), source="AG-News and 9,000 reviews of IMDB")


if __name__ == "__main__":
    main()
