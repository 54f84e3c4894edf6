"""Speed of the embedder against plain sentence-transformers with its defaults (float32, batches of 32).

Both read at most 128 tokens. They take turns, three times each, and the median counts.
Run: python benchmarks/embedding_speed.py; `--smoke` embeds a few texts once and writes nothing.
"""

from __future__ import annotations

import statistics
import sys
import time

import numpy as np
from sentence_transformers import SentenceTransformer

from _common import data_folder, write
from dallme.embedders.sentence_transformer import SentenceTransformerEmbedder
from dallme.models.locate import SENTENCE_TRANSFORMERS, locate
from dallme.readers import read

TEXTS = {"ag_news": 1536, "imdb": 768, "sst2": 3072}
ROUNDS = 3


def main(smoke: bool = False) -> None:
    """Measures each data set and writes the ratios; a smoke run measures invented texts and writes none."""
    ours = SentenceTransformerEmbedder()
    plain = SentenceTransformer(str(locate(ours.model, SENTENCE_TRANSFORMERS)), device="cpu")
    plain.max_seq_length = ours.max_tokens
    ours.embed(["warm up"] * 64)
    plain.encode(["warm up"] * 64)
    results = {}
    for name, count in {"smoke": 8}.items() if smoke else TEXTS.items():
        if smoke:
            texts = [f"text number {row} of a few words" for row in range(count)]
        else:
            source = read(data_folder() / name / "train.parquet")
            texts = [source.texts[row] for row in np.random.default_rng(0).permutation(len(source))[:count]]
        seconds: dict[str, list[float]] = {"ours": [], "plain": []}
        for _ in range(1 if smoke else ROUNDS):
            started = time.perf_counter()
            vectors = ours.embed(texts)
            seconds["ours"].append(time.perf_counter() - started)
            started = time.perf_counter()
            reference = plain.encode(texts, normalize_embeddings=True)
            seconds["plain"].append(time.perf_counter() - started)
        cosine = (vectors * reference).sum(axis=1)
        mine, theirs = (statistics.median(seconds[who]) for who in ("ours", "plain"))
        results[name] = {
            "texts": count,
            "ours_texts_per_second": round(count / mine),
            "plain_texts_per_second": round(count / theirs),
            "ratio": round(theirs / mine, 2),
            "least_cosine": round(float(cosine.min()), 5),
        }
        print(name, results[name])
    if smoke:
        return
    write(
        "embedding_speed",
        {"precision": ours.fingerprint().precision, "max_tokens": ours.max_tokens, "data": results},
    )


if __name__ == "__main__":
    main("--smoke" in sys.argv[1:])
