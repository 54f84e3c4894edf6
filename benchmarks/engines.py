"""What Ray costs and brings on one machine: the same run by the local engine and by one and two workers, stage by stage.

CPU seconds are those of all processes, Ray's own among them; wall-clock seconds say little where other work shares the cores.

Run: python benchmarks/engines.py [--rows 200000]
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from _common import write
from _synthetic import make_texts
from dallme.data import LabelledTexts
from dallme.distiller import Distiller
from dallme.readers import read
from dallme.scale.base import Engine, LocalEngine
from dallme.scale.ray_engine import RayEngine

PER_CLASS = 10


def cpu_seconds() -> float:
    """What this process and all that it started have worked so far."""
    found = 0.0
    for process in (psutil.Process(), *psutil.Process().children(recursive=True)):
        with contextlib.suppress(psutil.Error):
            found += sum(process.cpu_times()[:4])
    return found


def measure(texts: LabelledTexts, engine: Engine) -> dict[str, Any]:
    """One run; seconds by stage and the hash of what it wrote."""
    started, worked = time.perf_counter(), cpu_seconds()
    distiller = Distiller(
        per_class=PER_CLASS, embedder="hashing", decoder="extractive", decoder_options={"draws": 1}, engine=engine
    )
    distilled = distiller.run(texts).distilled
    seconds, cpu = time.perf_counter() - started, cpu_seconds() - worked
    with tempfile.TemporaryDirectory() as folder:
        distilled.save(Path(folder) / "set")
        digest = hashlib.sha256((Path(folder) / "set" / "train.parquet").read_bytes()).hexdigest()
    return {
        "seconds": {**distilled.manifest["seconds"], "all": round(seconds, 2)},
        "cpu_seconds": round(cpu, 2),
        "sha256": digest,
    }


def main() -> None:
    """Measures the local engine, then clusters of one and of two workers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    rows = parser.parse_args().rows
    import ray

    texts = read(*make_texts(rows))
    load = os.getloadavg()[0]
    runs = {"local": measure(texts, LocalEngine())}
    print(runs, flush=True)
    for workers in (1, 2):
        ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        name = f"ray, {workers} worker{'s' if workers > 1 else ''}"
        runs[name] = measure(texts, RayEngine())
        ray.shutdown()
        print(name, runs[name], flush=True)
    assert len({run["sha256"] for run in runs.values()}) == 1
    write("engines", {"rows": rows, "per_class": PER_CLASS, "load_average_before": round(load, 1), "engines": runs})


if __name__ == "__main__":
    main()
