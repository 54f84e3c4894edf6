"""Table 4 of the paper with a small encoder: fewer parameters (LoRA) or fewer texts, and the time of training (section 5.7).

Each row is trained once; the time is that of training alone, neither of choosing texts nor of testing.
Run: python benchmarks/table4.py [--only imdb] [--full-steps 600]
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from typing import Any

import numpy as np

from _common import data_folder, write
from dallme import registry
from dallme.baselines.lora import LoRABaseline
from dallme.data import LabelledTexts
from dallme.distiller import Distiller
from dallme.evaluation.contestants import make_sets
from dallme.evaluation.plans import Protocol
from dallme.evaluation.tuning import sample
from dallme.readers import read

DATA = ("imdb", "ag_news")
CLASSIFIER = "transformer:sentence-transformers/all-MiniLM-L6-v2"

#: What the paper reports for T5-Base: seconds and accuracy.
ROWS = ("full", "lora:0.8%", "lora:0.4%", "random", "distilled")
PAPER = {
    "imdb": dict(zip(ROWS, ([3247, 0.936], [2862, 0.893], [2461, 0.887], [66, 0.765], [67, 0.891]), strict=True)),
    "ag_news": dict(zip(ROWS, ([1391, 0.956], [11483, 0.914], [10351, 0.908], [506, 0.791], [508, 0.936]), strict=True)),
}


def measure(classifier: Any, texts: LabelledTexts, test: LabelledTexts, seed: int) -> dict[str, Any]:
    """Trains one model, and says how long that took and how good it is."""
    started = time.perf_counter()
    fitted = classifier.fit(texts.texts, texts.labels, seed=seed)
    seconds = time.perf_counter() - started
    found = {
        "texts": len(texts),
        "steps": classifier.total_steps(len(texts)),
        "learning_rate": classifier.learning_rate,
        "trained_share": round(fitted.trained_share, 5),
        "seconds": round(seconds, 2),
        "accuracy": float(np.mean(fitted.predict(test.texts) == test.labels)),
    }
    print(found, flush=True)
    return found


def run(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """All rows of one data set."""
    source = read(data_folder() / name / "train.parquet")
    test = read(data_folder() / name / "test.parquet", like=source)
    if options.rows:
        source = sample(source, options.rows, np.random.default_rng(0))
    test = sample(test, options.test_rows, np.random.default_rng(0))
    made = registry.make("classifiers", options.classifier)
    distiller = Distiller(ratio=options.ratio, embedder=options.embedder, seed=options.seed)
    steps = min(options.full_steps, made.total_steps(len(source)))
    full = replace(made, steps=steps, learning_rate=options.full_rate)
    replace(made, steps=1).fit(["good", "bad"], np.arange(2), seed=0)  # loads libraries and weights, so that no row pays for it
    rows = {"full": measure(full, source, test, options.seed)}
    for share in ("0.8%", "0.4%"):
        adapted = LoRABaseline(share).trainer(replace(full, learning_rate=options.lora_rate), source, {})
        rows[f"lora:{share}"] = measure(adapted, source, test, options.seed) | {"rank": adapted.lora_rank}
    few = replace(made, learning_rate=options.few_rate)
    few = few if options.few_steps is None else replace(few, steps=options.few_steps)
    distillation = distiller.run(source)
    for method in ("random", "extractive", "nearest"):
        texts = make_sets(distiller, distillation, method, Protocol())[0]
        rows[method] = measure(few, texts, test, options.seed)
    return {"train_rows": len(source), "test_rows": len(test), "ratio": options.ratio, "rows": rows}


def main() -> None:
    """Runs the data sets asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=DATA, action="append")
    parser.add_argument("--classifier", default=CLASSIFIER)
    parser.add_argument("--embedder", default="all-MiniLM-L6-v2")
    parser.add_argument("--rows", type=int, help="train on a stratified sample of so many rows")
    parser.add_argument("--test-rows", type=int, default=2000)
    parser.add_argument("--ratio", type=float, default=0.01)
    parser.add_argument("--full-steps", type=int, default=600, help="most optimizer steps on the full data")
    parser.add_argument("--few-steps", type=int, help="optimizer steps on few texts, in place of 20 epochs")
    parser.add_argument("--full-rate", type=float, default=1e-4, help="learning rate on the full data")
    parser.add_argument("--lora-rate", type=float, default=1e-3, help="learning rate of adapters")
    parser.add_argument("--few-rate", type=float, default=1e-4, help="learning rate on few texts")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    data = {name: run(name, options) for name in options.only or DATA}
    write("table4", {"options": vars(options), "data": data, "paper": PAPER})


if __name__ == "__main__":
    main()
