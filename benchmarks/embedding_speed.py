"""Compares the speed of embedding with sentence-transformers and its defaults (float32, batches of 32).

Both read at most 128 tokens. They alternate, three times each, and the median counts.
Run: python benchmarks/embedding_speed.py
"""

from __future__ import annotations

import statistics
import time

import numpy as np
from sentence_transformers import SentenceTransformer

from _common import data_folder, make_parser, pick, write
from dallme.embedders.sentence_transformer import SentenceTransformerEmbedder
from dallme.models.locate import SENTENCE_TRANSFORMERS, locate
from dallme.readers import read

TEXTS = pick({"ag_news": 1536, "imdb": 768, "sst2": 3072}, {"ag_news": 16})
ROUNDS = pick(3, 1)


def main() -> None:
    """Measures each data set and writes the ratios."""
    make_parser(__doc__).parse_args()
    ours = SentenceTransformerEmbedder()
    plain = SentenceTransformer(str(locate(ours.model, SENTENCE_TRANSFORMERS)), device="cpu")
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
        ours_seconds, plain_seconds = (statistics.median(seconds[name]) for name in ("ours", "plain"))
        results[name] = {
            "texts": count,
            "ours_texts_per_second": round(count / ours_seconds),
            "plain_texts_per_second": round(count / plain_seconds),
            "ratio": round(plain_seconds / ours_seconds, 2),
            "least_cosine": round(float(cosine.min()), 5),
        }
        print(name, results[name])
    write(
        "embedding_speed",
        {"precision": ours.fingerprint().precision, "max_tokens": ours.max_tokens, "data": results},
    )


if __name__ == "__main__":
    main()
