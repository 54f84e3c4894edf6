"""Measures evaluation: networks on 120 texts with the whole AG-News test set, and the linear table of IMDB.

Each network runs twice in one process: cold, with word vectors to read, and again. The table has seven
methods and three linear classifiers; its source is embedded before.
Run: python benchmarks/evaluation_speed.py [--store FOLDER]
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

from _common import data_folder, make_parser, pick, write


def measure_networks(store: Path) -> dict[str, Any]:
    """Measures the seconds of training on 120 texts and testing on the whole test set."""
    from dallme.distiller import Distiller
    from dallme.evaluation.evaluate import make_classifiers
    from dallme.evaluation.protocol import DEFAULT
    from dallme.evaluation.sets import make_sets
    from dallme.readers import read

    source = read(data_folder() / "ag_news" / "train.parquet")
    test = read(data_folder() / "ag_news" / "test.parquet", like=source)
    distiller = Distiller(per_class=pick(30, 2), store=store)
    (texts,) = make_sets(distiller, distiller.run(source), "extractive", DEFAULT)
    networks = {}
    for name, classifier in make_classifiers(["text-cnn", "text-rnn"]).items():
        seconds = []
        for _ in range(2):
            started = time.perf_counter()
            classifier.fit(texts.texts, texts.labels, seed=0).predict(test.texts)
            seconds.append(round(time.perf_counter() - started, 2))
        networks[name] = {"cold_seconds": seconds[0], "again_seconds": seconds[1]}
    return {"texts": len(texts), "test_rows": len(test), "classifiers": networks}


def measure_linear_table(store: Path) -> dict[str, Any]:
    """Measures the seconds of the linear table of IMDB, with stored vectors."""
    from dallme.distiller import Distiller
    from dallme.evaluation.compare import compare
    from dallme.evaluation.evaluate import LINEAR, make_classifiers
    from dallme.readers import read

    source = read(data_folder() / "imdb" / "train.parquet")
    test = read(data_folder() / "imdb" / "test.parquet", like=source)
    distiller = Distiller(per_class=pick(10, 2), store=store)
    distiller.embed(source)
    methods = ["random", "herding", "k-center", "facility-location", "nearest", "extractive", "full"]
    started = time.perf_counter()
    compare(distiller, distiller.run(source), test, methods, make_classifiers(LINEAR))
    return {
        "methods": methods,
        "classifiers": list(LINEAR),
        "seconds": round(time.perf_counter() - started, 1),
    }


def main() -> None:
    """Runs both."""
    parser = make_parser(__doc__)
    parser.add_argument("--store", type=Path, help="folder of embeddings; by default a new one")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = options.store or Path(folder)
        results = {"networks": measure_networks(store), "linear_table": measure_linear_table(store)}
        write("evaluation_speed", results)


if __name__ == "__main__":
    main()
