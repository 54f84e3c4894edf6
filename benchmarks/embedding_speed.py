"""How much faster texts are embedded than by plain sentence-transformers, side by side: its defaults (float32, batches of 32).

Both read at most 128 tokens. The two take turns, three times each; the median counts. Run: python benchmarks/embedding_speed.py
"""

from __future__ import annotations

import statistics
import time

import numpy as np
from sentence_transformers import SentenceTransformer

from _common import data_folder, write
from dallme.embedders.sentence_transformer import SentenceTransformerEmbedder
from dallme.models.locate import locate
from dallme.readers import read

TEXTS = {"ag_news": 1536, "imdb": 768, "sst2": 3072}
ROUNDS = 3


def main() -> None:
    """Measures each data set and writes the ratios."""
    ours = SentenceTransformerEmbedder()
    plain = SentenceTransformer(str(locate(ours.model)), device="cpu")
    plain.max_seq_length = ours.max_tokens
    ours.embed(["warm up"] * 64)
    plain.encode(["warm up"] * 64)
    results = {}
    for name, count in TEXTS.items():
        source = read(data_folder() / name / "train.parquet")
        texts = [source.texts[row] for row in np.random.default_rng(0).permutation(len(source))[:count]]
        seconds: dict[str, list[float]] = {"ours": [], "plain": []}
        for _ in range(ROUNDS):
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
    write(
        "embedding_speed",
        {"precision": ours.fingerprint().precision, "max_tokens": ours.max_tokens, "data": results},
    )


if __name__ == "__main__":
    main()
