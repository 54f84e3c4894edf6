"""Trains the inverter that comes with dallme: news and film reviews, for MiniLM, from MiniLM's own weights.

Its texts are the 18,060 training texts of AG-News and one passage each of 9,000 training reviews of IMDB: whole sentences from a
random one on, up to 45 words. Half as many reviews, since the measures are on news.

Run: python benchmarks/shipped_inverter.py OUTPUT [--minutes 85] [--resume]
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
from dallme.text import clean, sentences

EMBEDDER, REVIEWS, WORDS = "all-MiniLM-L6-v2", 9_000, 45


def main() -> None:
    """Builds the corpus and trains."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("--minutes", type=float, default=85.0)
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
        progress=progress,
    )


def make_corpus() -> LabelledTexts:
    """News, then passages of reviews; the labels do not matter."""
    news = read(data_folder() / "ag_news" / "train.parquet").texts
    reviews = read(data_folder() / "imdb" / "train.parquet").texts
    rng = np.random.default_rng(0)
    passages = [passage(reviews[row], rng) for row in np.sort(rng.permutation(len(reviews))[:REVIEWS])]
    texts = [*news, *(each for each in passages if each)]
    labels = np.zeros(len(texts), dtype=np.int64)
    return LabelledTexts(texts, labels, {0: "text"}, np.arange(len(texts)), source="AG-News and passages of IMDB")


def passage(review: str, rng: np.random.Generator) -> str:
    """Whole sentences of a review, from a random one on, up to the number of words."""
    found = sentences(clean(review))
    if not found:
        return ""
    start = int(rng.integers(len(found)))
    taken = [found[start]]
    for sentence in found[start + 1 :]:
        if len(" ".join([*taken, sentence]).split()) > WORDS:
            break
        taken.append(sentence)
    return " ".join(taken)


if __name__ == "__main__":
    main()
