"""Measures what each part of the teaching decoder is worth to linear classifiers on the whole test sets.

Run: python benchmarks/teaching.py [--seeds 2] [--store FOLDER]
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from _common import data_folder, make_parser, pick, write

PER_CLASS = pick({"imdb": 10, "ag_news": 30, "sst2": 20}, {"imdb": 2})

#: Name of a variant: decoder, options.
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "extractive": ("extractive", {}),
    "teaching": ("teaching", {}),
    "teaching, sentences of two words or more": ("teaching", {"min_words": 2}),
    "teaching, sentences of eight words or more": ("teaching", {"min_words": 8}),
    "teaching, 1,000 candidates a text": ("teaching", {"candidates": 1_000}),
}


def run(name: str, seeds: int, store: str) -> dict[str, Any]:
    """Measures every variant on one data set, with each seed."""
    from dallme.distiller import Distiller
    from dallme.embedders.cache import CachedEmbedder
    from dallme.evaluation.evaluate import LINEAR, evaluate, make_classifiers
    from dallme.readers import read

    source = read(data_folder() / name / "train.parquet")
    test = read(data_folder() / name / "test.parquet", like=source)
    vectors = CachedEmbedder("all-MiniLM-L6-v2", store=store).embed_source(source)
    rows = []
    for variant, (decoder, options) in VARIANTS.items():
        accuracies, seconds, sentences = [], [], []
        for seed in range(seeds):
            distiller = Distiller(
                PER_CLASS[name], decoder=decoder, decoder_options=options, seed=seed, store=store
            )
            context = distiller.context(source, vectors, with_embedder=True)
            prototypes = distiller.condense(context)
            started = time.perf_counter()
            decoded = distiller.decode(prototypes, context).texts
            seconds.append(time.perf_counter() - started)
            sentences.append(np.mean([len(text.sentences) for text in decoded]))
            scores = evaluate(
                _texts(decoded, prototypes.labels, source), test, make_classifiers(LINEAR), seed=seed
            )
            accuracies.append([score.as_dict()["accuracy_mean"] for score in scores])
        row = {
            "variant": variant,
            "accuracy": np.mean(accuracies, axis=0).round(4).tolist(),
            "deviation": np.std(accuracies, axis=0).round(4).tolist(),
            "seconds": round(float(np.mean(seconds)), 1),
            "sentences_a_text": round(float(np.mean(sentences)), 1),
        }
        print(name, row, flush=True)
        rows.append(row)
    return {
        "rows": len(source),
        "test_rows": len(test),
        "per_class": PER_CLASS[name],
        "classifiers": list(LINEAR),
        "table": rows,
    }


def _texts(decoded: list[Any], labels: np.ndarray, source: Any) -> Any:
    from dallme.data import LabelledTexts

    return LabelledTexts([text.text for text in decoded], labels, source.label_names, np.arange(len(decoded)))


def main() -> None:
    """Runs all data sets."""
    parser = make_parser(__doc__)
    parser.add_argument("--seeds", type=int, default=pick(2, 1))
    parser.add_argument("--store", type=Path, help="folder that keeps embeddings; a new one by default")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = str(options.store or folder)
        write(
            "teaching",
            {"seeds": options.seeds, "data": {name: run(name, options.seeds, store) for name in PER_CLASS}},
        )


if __name__ == "__main__":
    main()
