"""What Ray costs and brings on one machine: the same run by the local engine and by one and two workers, stage by stage.

Run: python benchmarks/engines.py [--rows 200000]
"""

from __future__ import annotations

import argparse
import hashlib
import tempfile
import time
from pathlib import Path
from typing import Any

from _common import write
from _synthetic import make_texts
from dallme.data import LabelledTexts
from dallme.distiller import Distiller
from dallme.readers import read
from dallme.scale.base import Engine, LocalEngine
from dallme.scale.ray_engine import RayEngine

PER_CLASS = 50


def measure(texts: LabelledTexts, engine: Engine) -> dict[str, Any]:
    """One run; seconds by stage and the hash of what it wrote."""
    started = time.perf_counter()
    distiller = Distiller(per_class=PER_CLASS, embedder="hashing", decoder="extractive", engine=engine)
    distilled = distiller.run(texts).distilled
    seconds = time.perf_counter() - started
    with tempfile.TemporaryDirectory() as folder:
        distilled.save(Path(folder) / "set")
        digest = hashlib.sha256((Path(folder) / "set" / "train.parquet").read_bytes()).hexdigest()
    return {"seconds": {**distilled.manifest["seconds"], "all": round(seconds, 2)}, "sha256": digest}


def main() -> None:
    """Measures the local engine, then clusters of one and of two workers, each twice, and keeps the faster."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    rows = parser.parse_args().rows
    import ray

    texts = read(*make_texts(rows))
    runs: dict[str, list[dict[str, Any]]] = {"local": [], "ray, 1 worker": [], "ray, 2 workers": []}
    for _ in range(2):
        runs["local"].append(measure(texts, LocalEngine()))
        for workers in (1, 2):
            ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
            name = f"ray, {workers} worker{'s' if workers > 1 else ''}"
            runs[name].append(measure(texts, RayEngine()))
            ray.shutdown()
            print(name, runs[name][-1], flush=True)
    best = {name: min(found, key=lambda run: run["seconds"]["all"]) for name, found in runs.items()}
    assert len({run["sha256"] for found in runs.values() for run in found}) == 1
    write("engines", {"rows": rows, "per_class": PER_CLASS, "engines": best})


if __name__ == "__main__":
    main()
