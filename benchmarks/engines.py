"""Compares Ray with the local engine on one machine: the same run by the local engine, one and two workers.

CPU seconds are those of all processes, Ray's own included. Wall-clock seconds depend on other work on the
cores.

Run: python benchmarks/engines.py [--rows 200000]
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import psutil

from _common import make_parser, pick, write
from _synthetic import make_texts
from dallme.data import LabelledTexts
from dallme.distiller import Distiller
from dallme.readers import read
from dallme.scale import Engine, LocalEngine, RayEngine

PER_CLASS = pick(10, 2)


class Meter:
    """CPU seconds of this process and its children, sampled because an ended worker reports none."""

    def __enter__(self) -> Meter:
        self._seconds: dict[int, float] = {}
        self._ended = threading.Event()
        self._look()
        self._before = self.seconds
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()
        self._look()
        self.seconds = sum(self._seconds.values()) - self._before

    def _watch(self) -> None:
        while not self._ended.wait(0.5):
            self._look()

    def _look(self) -> None:
        for process in (psutil.Process(), *psutil.Process().children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                self._seconds[process.pid] = sum(process.cpu_times()[:2])
        self.seconds = sum(self._seconds.values())


def measure(texts: LabelledTexts, engine: Engine) -> dict[str, Any]:
    """Measures one run: seconds by stage, and the hash of its output."""
    started = time.perf_counter()
    distiller = Distiller(
        per_class=PER_CLASS,
        embedder="hashing",
        decoder="extractive",
        decoder_options={"draws": 1},
        engine=engine,
    )
    with Meter() as meter:
        distilled = distiller.run(texts).distilled
    seconds = time.perf_counter() - started
    with tempfile.TemporaryDirectory() as folder:
        distilled.save(Path(folder) / "set")
        digest = hashlib.sha256((Path(folder) / "set" / "train.parquet").read_bytes()).hexdigest()
    return {
        "seconds": {**distilled.manifest["seconds"], "all": round(seconds, 2)},
        "cpu_seconds": round(meter.seconds, 2),
        "sha256": digest,
    }


def main() -> None:
    """Measures the local engine, then clusters of one and of two workers."""
    parser = make_parser(__doc__)
    parser.add_argument("--rows", type=int, default=pick(200_000, 400))
    rows = parser.parse_args().rows
    import ray

    texts = read(*make_texts(rows))
    load = os.getloadavg()[0]
    runs = {"local": measure(texts, LocalEngine())}
    print(runs, flush=True)
    for workers in pick((1, 2), (1,)):
        ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        name = f"ray, {workers} worker{'s' if workers > 1 else ''}"
        runs[name] = measure(texts, RayEngine())
        ray.shutdown()
        print(name, runs[name], flush=True)
    assert len({run["sha256"] for run in runs.values()}) == 1
    write(
        "engines",
        {"rows": rows, "per_class": PER_CLASS, "load_average_before": round(load, 1), "engines": runs},
    )


if __name__ == "__main__":
    main()
