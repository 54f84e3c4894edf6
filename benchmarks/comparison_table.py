"""The comparison table: every classifier, every way to fill one budget, the paper's protocol, on IMDB and AG-News.

Texts are embedded once; results of finished trainings are kept, so that an interrupted run goes on where it was.
Run: python benchmarks/comparison_table.py [--only imdb] [--groups linear,networks]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from _common import HERE, data_folder, write

PER_CLASS = {"imdb": 10, "ag_news": 30}
METHODS = ("random", "eda", "herding", "k-center", "facility-location", "nearest", "extractive", "full")
MINILM = "transformer:sentence-transformers/all-MiniLM-L6-v2"

#: Classifiers that are run alike: how many sets, on how many test rows (all, unless said), which methods, and the most
#: optimizer steps on the full data. The transformers, which two cores are slowest at, get fewer of each, the same number of
#: steps for every method of a data set, and a learning rate that is fixed rather than chosen for each.
GROUPS: dict[str, dict[str, Any]] = {
    "linear": {
        "classifiers": ["logistic-regression", "linear-svm", "naive-bayes", "embedding-lr"],
        "sets": 10,
    },
    "networks": {
        "classifiers": ["text-cnn", "text-rnn"],
        "sets": 10,
        "methods": [method for method in METHODS if method != "eda"],
        "full_steps": 4000,
    },
    "networks-eda": {
        "classifiers": ["text-cnn", "text-rnn"],
        "sets": 10,
        "methods": ("eda",),
    },  # ten times the texts
    "tdd": {"classifiers": ["text-cnn"], "sets": 1, "methods": ("tdd",), "training": {"learning_rate": 5e-3}},
    "transformer": {
        "classifiers": [MINILM],
        "sets": 3,
        "test_rows": 1000,
        "methods": METHODS[:-1],
        "training": {"learning_rate": 1e-4},
        "steps": {"imdb": 50, "ag_news": 120},
    },
    "transformer-full": {
        "classifiers": [MINILM],
        "sets": 1,
        "test_rows": 1000,
        "methods": METHODS[-1:],
        "training": {"learning_rate": 1e-4},
        "steps": {"imdb": 600, "ag_news": 600},
    },
    "causal": {
        "classifiers": ["causal"],
        "sets": 1,
        "test_rows": 500,
        "methods": ("random", "nearest", "extractive"),
        "training": {"learning_rate": 1e-4},
        "steps": {"imdb": 20, "ag_news": 30},
    },
}


def run(name: str, group: str, store: Path) -> dict[str, Any]:
    """One group of classifiers on one data set."""
    from dataclasses import replace

    import numpy as np

    from dallme.cli.output import make_progress
    from dallme.distiller import Distiller
    from dallme.evaluation.compare import compare
    from dallme.evaluation.evaluate import make_classifiers
    from dallme.evaluation.protocol import PAPER
    from dallme.evaluation.results import ResultStore, sample
    from dallme.readers import read

    plan = GROUPS[group]
    source = read(data_folder() / name / "train.parquet")
    test = read(data_folder() / name / "test.parquet", like=source)
    if plan.get("test_rows"):
        test = sample(test, plan["test_rows"], np.random.default_rng(0))
    distiller = Distiller(per_class=PER_CLASS[name], store=store / "embeddings", progress=make_progress())
    training = plan.get("training", {}) | ({"steps": plan["steps"][name]} if "steps" in plan else {})
    protocol = replace(
        PAPER, sets=plan["sets"], full_steps=plan.get("full_steps"), training=training, tune=not training
    )
    judges = make_classifiers(plan["classifiers"], distiller)
    methods = plan.get("methods", METHODS)
    table = compare(
        distiller,
        distiller.run(source),
        test,
        methods,
        judges,
        protocol=protocol,
        results=ResultStore(store / "results"),
    )
    return {
        "rows": len(source),
        "per_class": PER_CLASS[name],
        "protocol": protocol.as_dict(),
        "table": table.as_dict(),
    }


def main() -> None:
    """Runs the groups asked for; those of earlier runs stay in the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=PER_CLASS, action="append")
    parser.add_argument("--groups", help="comma-separated; by default all")
    parser.add_argument("--store", type=Path, default=Path.home() / ".cache" / "dallme" / "benchmarks")
    options = parser.parse_args()
    path = HERE / "comparison_table.json"
    data: dict[str, Any] = json.loads(path.read_text())["data"] if path.exists() else {}
    for group in options.groups.split(",") if options.groups else GROUPS:
        for name in options.only or PER_CLASS:
            found = run(name, group, options.store)
            data = (
                json.loads(path.read_text())["data"] if path.exists() else {}
            )  # groups may run side by side
            data.setdefault(name, {})[group] = found
            write("comparison_table", {"data": data})


if __name__ == "__main__":
    main()
