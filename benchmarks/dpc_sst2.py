"""SST-2 with 5, 10 and 20 texts a class under the protocol of the later literature, DiLM's published sets as a contestant.

The transformer follows the protocol (learning rate 1e-4, batches of 64, 200 steps, warm-up 0.5); word networks, which learn
nothing at that rate, follow the paper's. Every method gives five sets, those that know only one set five models.
Run: python benchmarks/dpc_sst2.py [--sizes 5,10,20] [--groups linear,networks,transformer]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from _common import HERE, data_folder, write

METHODS = ("random", "k-center", "nearest", "extractive")
CANDIDATE = "DiLM"
SETS = 5
GROUPS = {
    "linear": ["logistic-regression", "linear-svm", "naive-bayes", "embedding-lr"],
    "networks": ["text-cnn", "text-rnn"],
    "transformer": ["transformer:sentence-transformers/all-MiniLM-L6-v2"],
}


def run(size: int, group: str, models: int, store: Path) -> dict[str, Any]:
    """One group of classifiers at one size."""
    from dataclasses import replace

    from dallme.cli.progress import make_progress
    from dallme.distiller import Distiller
    from dallme.evaluation.compare import compare
    from dallme.evaluation.plans import DPC, PAPER
    from dallme.evaluation.protocol import make_classifiers
    from dallme.evaluation.results import ResultStore
    from dallme.readers import read

    source = read(data_folder() / "sst2" / "train.parquet")
    test = read(data_folder() / "sst2" / "test.parquet", like=source)
    files = sorted((data_folder() / "dilm_sst2" / f"dpc{size}").iterdir())[:SETS]
    columns = {"text_column": "sentence", "label_column": "labels"}
    ready = {CANDIDATE: [read(file, like=source, **columns) for file in files]}
    distiller = Distiller(per_class=size, store=store / "embeddings", progress=make_progress())
    protocol = replace(DPC, models=models) if group == "transformer" else replace(PAPER, sets=SETS)
    table = compare(
        distiller,
        distiller.run(source),
        test,
        METHODS,
        make_classifiers(GROUPS[group], distiller),
        candidates=ready,
        protocol=protocol,
        results=ResultStore(store / "results"),
    )
    return {"rows": len(source), "protocol": protocol.as_dict(), "table": table.as_dict()}


def main() -> None:
    """Runs the sizes and groups asked for; those of earlier runs stay in the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="5,10,20")
    parser.add_argument("--groups", default=",".join(GROUPS))
    parser.add_argument("--models", type=int, default=1, help="trained by the transformer on each set; the protocol has 20")
    parser.add_argument("--store", type=Path, default=Path.home() / ".cache" / "dallme" / "benchmarks")
    options = parser.parse_args()
    path = HERE / "dpc_sst2.json"
    for group in options.groups.split(","):
        for size in map(int, options.sizes.split(",")):
            found = run(size, group, options.models, options.store)
            data = json.loads(path.read_text())["data"] if path.exists() else {}
            data.setdefault(str(size), {})[group] = found
            write("dpc_sst2", {"data": data})


if __name__ == "__main__":
    main()
