"""Chooses the storage of embeddings: 1,000,000 vectors of 384 float32, written batch by batch, four ways.

Run ``python benchmarks/store.py``; it writes ``benchmarks/store.json``. Every phase runs in a
process of its own, so that peak memory is that phase's. ``--rows 50000`` for a small dry run, ``--output -`` to print only.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from dallme.embedders.cache import text_keys
from store_candidates import BATCH, CANDIDATES, DIMENSION

DAMAGE_ROWS = 100 * BATCH
KILLS = 3


def batch_keys(number: int) -> np.ndarray:
    """Keys of a batch, as those of texts."""
    return text_keys([f"text {number * BATCH + i}" for i in range(BATCH)])


def batch_vectors(number: int) -> np.ndarray:
    """Vectors of a batch, the same each time they are asked for."""
    return np.random.default_rng(number).random((BATCH, DIMENSION), dtype=np.float32)


def timed(function: Any, *arguments: Any) -> tuple[float, Any]:
    """Seconds that a call took, and its result."""
    start = time.perf_counter()
    result = function(*arguments)
    return round(time.perf_counter() - start, 3), result


def peak_mb() -> int:
    """Most memory this process ever held, mapped files included."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) >> 10


def phase_write(kind: Any, folder: Path, batches: int) -> dict[str, Any]:
    """Writes; says so after each batch, for the one who means to kill this process."""
    store = kind(folder)
    seconds = 0.0
    for number in range(batches):
        keys, vectors = batch_keys(number), batch_vectors(number)
        start = time.perf_counter()
        store.write(keys, vectors)
        seconds += time.perf_counter() - start
        print(number, file=sys.stderr, flush=True)
    seconds += timed(store.close)[0]
    return {
        "write_s": round(seconds, 2),
        "write_vectors_per_s": round(batches * BATCH / seconds),
        "write_peak_mb": peak_mb(),
    }


def phase_read(kind: Any, folder: Path, batches: int) -> dict[str, Any]:
    """Opens, looks up and reads 100,000 keys, then reads everything in another order, twice.

    The first time fills memory that is new to the process, which costs 1 to 4 s for 1.5 GB on the
    machine of store.json. The second time, as `fill_such_an_array_s`, reuses that memory.
    """
    opening, store = timed(kind, folder)
    keys = np.concatenate([batch_keys(number) for number in range(batches)])
    rng = np.random.default_rng(0)
    some = keys[rng.choice(len(keys), min(100_000, len(keys)), replace=False)]
    first, mask = timed(store.lookup, some)
    again, _ = timed(store.lookup, some)
    few, _ = timed(store.read, some)
    few_peak = peak_mb()
    order = rng.permutation(len(keys))
    everything, vectors = timed(store.read, keys[order])
    peak = peak_mb()
    del vectors
    again_all, vectors = timed(store.read, keys[order])
    place = np.argsort(order)
    checked = rng.choice(batches, 5)
    right = all(
        np.array_equal(vectors[place[b * BATCH : (b + 1) * BATCH]], batch_vectors(b)) for b in checked
    )
    size = vectors.nbytes >> 20
    del vectors
    fill, _ = timed(np.ones, (len(keys), DIMENSION), np.float32)
    return {
        "open_s": opening, "lookup_100k_first_s": first, "lookup_100k_again_s": again, "read_100k_random_s": few,
        "read_all_s": everything, "read_all_vectors_per_s": round(len(keys) / everything),
        "read_all_again_vectors_per_s": round(len(keys) / again_all), "fill_such_an_array_s": fill,
        "peak_mb_100k": few_peak, "peak_mb_read_all": peak, "result_array_mb": size,
        "all_found": bool(mask.all()), "all_right": bool(right),
    }  # fmt: skip


def phase_compact(kind: Any, folder: Path, batches: int) -> dict[str, Any]:
    """Measures the candidate's remedy for many small files."""
    store = kind(folder)
    seconds, _ = timed(store.compact)
    store.close()
    opening, _ = timed(kind, folder)
    return {"compact_s": seconds, "open_after_compact_s": opening, "compact_peak_mb": peak_mb()}


def phase_check(kind: Any, folder: Path, batches: int) -> dict[str, Any]:
    """Counts the rows of the first batches that are found, and of those the ones with a wrong vector."""
    opening, store = timed(kind, folder)
    keys = np.concatenate([batch_keys(number) for number in range(batches)])
    found = np.flatnonzero(store.lookup(keys))
    read = store.read(keys[found]) if found.size else np.empty((0, DIMENSION), np.float32)
    expected = np.concatenate([batch_vectors(number) for number in range(batches)])[found]
    wrong = int((read != expected).any(axis=1).sum())
    return {"reopen_s": opening, "rows_missing": len(keys) - len(found), "rows_silently_wrong": wrong}


PHASES = {"write": phase_write, "read": phase_read, "compact": phase_compact, "check": phase_check}


def command(name: str, phase: str, folder: Path, batches: int) -> list[str]:
    """The command that runs one phase."""
    return [
        sys.executable,
        __file__,
        "--phase",
        phase,
        "--candidate",
        name,
        "--folder",
        str(folder),
        "--batches",
        str(batches),
    ]


def in_process(name: str, phase: str, folder: Path, batches: int) -> dict[str, Any]:
    """Runs a phase in a process of its own; a failure is a result too."""
    done = subprocess.run(command(name, phase, folder, batches), capture_output=True, text=True)
    if done.returncode == 0:
        return dict(json.loads(done.stdout))
    lines = done.stderr.strip().splitlines() or [""]
    return {
        "failed": f"exit status {done.returncode}",
        "message": lines[-1][:200].replace(str(folder), "FOLDER"),
    }


def kill_while_writing(name: str, folder: Path, after: int, rng: random.Random) -> dict[str, Any]:
    """Kills a writer once it has reported some batches; looks for what it had reported."""
    writer = subprocess.Popen(
        command(name, "write", folder, 10_000), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    assert writer.stderr is not None
    while int(writer.stderr.readline()) < after:
        pass
    time.sleep(rng.random() * 0.02)
    os.kill(writer.pid, signal.SIGKILL)
    rest = [int(line) for line in writer.stderr.read().split() if line.isdigit()]
    writer.wait()
    reported = max([after, *rest]) + 1
    result = in_process(name, "check", folder, reported) | {"batches_reported": reported}
    return result | {"writes_again": "failed" not in in_process(name, "write", folder, 1)}


def damage(name: str, whole: Path, folder: Path, at: float, cut: bool) -> dict[str, Any]:
    """Hurts the largest file at a part of its length; looks whether that is noticed and what is lost."""
    shutil.copytree(whole, folder)
    path = max((p for p in folder.rglob("*") if p.is_file()), key=lambda p: (p.stat().st_size, p.name))
    content = bytearray(path.read_bytes())
    place = int(len(content) * at)
    content[place] ^= 0xFF
    path.write_bytes(content[:place] if cut else content)
    result = in_process(name, "check", folder, DAMAGE_ROWS // BATCH)
    shutil.rmtree(folder)
    return {"at": at, "rows": DAMAGE_ROWS} | result


def syncs_per_batch(name: str, folder: Path) -> float | str:
    """System calls per batch that flush to disk; without one a power cut loses reported batches."""
    if not shutil.which("strace"):
        return "strace is not installed"
    counts = []
    for batches in (5, 25):
        log = folder.with_suffix(f".{batches}.strace")
        trace = [
            "strace",
            "-f",
            "-qq",
            "-e",
            "trace=fsync,fdatasync,msync,sync_file_range,syncfs",
            "-o",
            str(log),
        ]
        subprocess.run(
            trace + command(name, "write", folder / str(batches), batches), capture_output=True, check=True
        )
        counts.append(sum("sync" in line and "resumed" not in line for line in log.read_text().splitlines()))
    return (counts[1] - counts[0]) / 20


def measure(name: str, batches: int, work: Path) -> dict[str, Any]:
    """All figures of one candidate."""
    print(name, file=sys.stderr, flush=True)
    rng = random.Random(0)
    folder = work / name
    result = in_process(name, "write", folder, batches)
    files = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    result |= {"disk_mb": sum(files) >> 20, "files": len(files)}
    result |= in_process(name, "read", folder, batches)
    result |= in_process(name, "compact", folder, batches)
    shutil.rmtree(folder)
    result["syncs_per_batch"] = syncs_per_batch(name, work / "sync")
    shutil.rmtree(work / "sync", ignore_errors=True)
    result["kill_9"] = []
    for number in range(KILLS):
        result["kill_9"].append(kill_while_writing(name, work / f"kill{number}", rng.randint(5, 40), rng))
        shutil.rmtree(work / f"kill{number}")
    in_process(name, "write", work / "whole", DAMAGE_ROWS // BATCH)
    result["byte_flipped"] = [
        damage(name, work / "whole", work / "hurt", at, cut=False) for at in (0.31, 0.56, 0.83)
    ]
    result["cut_short"] = [damage(name, work / "whole", work / "hurt", 0.56, cut=True)]
    shutil.rmtree(work / "whole")
    return result


def machine() -> dict[str, Any]:
    """Where the figures are from."""
    packages = {name: version(name) for name in ("numpy", "pyarrow", "lancedb")}
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 30
    where = {
        "system": platform.system(),
        "processor": platform.machine(),
        "cpus": os.cpu_count(),
        "memory_gb": memory,
    }
    return where | {
        "load_at_start": os.getloadavg()[0],
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        **packages,
    }


def main() -> None:
    """Runs the comparison, or one phase of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--output", default=str(Path(__file__).with_suffix(".json")))
    parser.add_argument("--phase", choices=PHASES, help=argparse.SUPPRESS)
    parser.add_argument("--candidate", choices=CANDIDATES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--batches", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.phase:
        print(
            json.dumps(PHASES[options.phase](CANDIDATES[options.candidate], options.folder, options.batches))
        )
        return
    batches = -(-options.rows // BATCH)
    with tempfile.TemporaryDirectory() as work:
        start = time.perf_counter()
        results = {name: measure(name, batches, Path(work)) for name in CANDIDATES}
    document = {
        "benchmark": "store", "rows": batches * BATCH, "dimension": DIMENSION, "rows_a_batch": BATCH, "page_cache": "warm",
        "machine": machine(), "seconds": round(time.perf_counter() - start), "results": results,
    }  # fmt: skip
    text = json.dumps(document, indent=1) + "\n"
    print(text) if options.output == "-" else Path(options.output).write_text(text)


if __name__ == "__main__":
    main()
