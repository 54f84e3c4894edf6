"""Measures the comparison table: all classifiers and methods under the paper's protocol, on IMDB and AG-News.

Texts are embedded once, and results of finished trainings are stored, so an interrupted run can be continued.
Run: python benchmarks/comparison_table.py [--only imdb] [--groups linear,networks]
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from _common import data_folder, load, make_parser, pick, write

PER_CLASS = pick({"imdb": 10, "ag_news": 30}, {"imdb": 2})
#: Folder of embeddings and results of trainings.
BENCHMARK_STORE = Path.home() / ".cache" / "dallme" / "benchmarks"

METHODS = (
    "random",
    *pick(("eda",), ()),  # it needs WordNet
    "herding",
    "k-center",
    "facility-location",
    "nearest",
    "extractive",
    "full",
)
MINILM = "transformer:sentence-transformers/all-MiniLM-L6-v2"

#: Classifiers with equal settings: sets, test rows (all by default), methods, and a bound on the steps on the
#: full data. Transformers are slow on two cores. They get fewer sets and rows, and a fixed number of steps
#: and learning rate.
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
    """Measures one group of classifiers on one data set."""
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
        PAPER,
        sets=pick(plan["sets"], 1),
        full_steps=plan.get("full_steps"),
        training=training,
        tune=not training,
    )
    classifiers = make_classifiers(plan["classifiers"], distiller.cached_embedder)
    methods = plan.get("methods", METHODS)
    table = compare(
        distiller,
        distiller.run(source),
        test,
        methods,
        classifiers,
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
    """Runs the selected groups; the file keeps the other groups of earlier runs."""
    parser = make_parser(__doc__)
    parser.add_argument("--only", choices=PER_CLASS, action="append")
    parser.add_argument("--groups", help="comma-separated; by default all")
    parser.add_argument("--store", type=Path, default=BENCHMARK_STORE)
    options = parser.parse_args()
    for group in options.groups.split(",") if options.groups else pick([*GROUPS], ["linear"]):
        for name in options.only or PER_CLASS:
            results = run(name, group, options.store)
            data: dict[str, Any] = load("comparison_table").get("data", {})  # other groups may run at once
            data.setdefault(name, {})[group] = results
            write("comparison_table", {"data": data})


if __name__ == "__main__":
    main()
