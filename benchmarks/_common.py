"""Shared parts of the benchmarks: data, sizes, the description of the machine, and the results file."""

from __future__ import annotations

import argparse
import atexit
import json
import multiprocessing
import os
import platform
import resource
import runpy
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

HERE = Path(__file__).resolve().parent

#: Environment variable by which a smoke run tells its processes that they are part of it.
_SMOKE = "DALLME_BENCH_SMOKE"

#: Whether this is a smoke run: invented data, tiny sizes, and no results file.
SMOKE = "--smoke" in sys.argv or _SMOKE in os.environ

#: Packages whose versions the results record.
PACKAGES = (
    "numpy",
    "scikit-learn",
    "faiss-cpu",
    "torch",
    "transformers",
    "sentence-transformers",
    "pyarrow",
)

_T = TypeVar("_T")


def pick(full: _T, smoke: _T) -> _T:
    """Returns the size of a full run, or that of a smoke run."""
    return smoke if SMOKE else full


def make_parser(doc: str | None) -> argparse.ArgumentParser:
    """Makes a parser of command lines with the option ``--smoke``."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--smoke", action="store_true", help="run in seconds on invented data; print the results only"
    )
    if SMOKE and _SMOKE not in os.environ:
        os.environ[_SMOKE] = "1"
        folder = tempfile.mkdtemp(prefix="dallme-smoke-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        os.environ |= {"DALLME_DATA": folder, "DALLME_STORE": f"{folder}/store"}
        _write_smoke_data(Path(folder))
    return parser


def _write_smoke_data(folder: Path) -> None:
    """Writes invented data sets with the names and classes of the real ones."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = np.random.default_rng(0)
    for name, classes in (("imdb", 2), ("ag_news", 4), ("sst2", 2)):
        (folder / name).mkdir()
        for split, rows in (("train", 64), ("test", 24)):
            labels = np.arange(rows) % classes
            texts = [" ".join(_sentence(rng, label) for _ in range(3)) for label in labels.tolist()]
            table = pa.table({"text": texts, "label": labels})
            pq.write_table(table, folder / name / f"{split}.parquet")
    trec = folder / "QueClassifier" / "data" / "train_5500.label"  # for unseen.py
    trec.parent.mkdir(parents=True)
    trec.write_text("".join(f"{'AB'[row % 2]}:x {_sentence(rng, row % 2)}\n" for row in range(60)))


def _sentence(rng: Any, label: int) -> str:
    """Returns a sentence in which half of the words are of one class."""
    words = [
        f"the {rng.choice(['film', 'report', 'team', 'market'])}",
        *(f"{syllable}{'aeio'[label]}{rng.integers(9)}" for syllable in ("word", "sign", "name")),
    ]
    return " ".join([*words, "was seen again today"]).capitalize() + "."


def data_folder() -> Path:
    """Returns the folder of the data sets: `DALLME_DATA`, or `shared/data` beside the repository."""
    folder = Path(os.environ.get("DALLME_DATA", HERE.parents[1] / "shared" / "data"))
    if not folder.is_dir():
        sys.exit(f"{folder} is not a folder; set DALLME_DATA to the one that holds ag_news, imdb and sst2")
    return folder


def machine() -> dict[str, Any]:
    """Describes the machine: cores, bfloat16 instructions, and the versions of the main packages."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    flags = set(next((line.split() for line in lines if line.startswith("flags")), []))
    packages = {}
    for package in PACKAGES:
        try:
            packages[package] = version(package)
        except PackageNotFoundError:
            packages[package] = None
    return {
        "cores": os.cpu_count(),
        "bfloat16": sorted(flags & {"avx512_bf16", "amx_bf16"}),
        "python": platform.python_version(),
        "packages": packages,
    }


def peak_memory_gb() -> float:
    """Returns the peak memory of this process in GB (10^9 bytes)."""
    status = Path("/proc/self/status")
    if status.exists():  # a Linux process inherits ru_maxrss from its parent; VmHWM is its own
        return round(int(status.read_text().split("VmHWM:")[1].split()[0]) * 1024 / 1e9, 3)
    unit = 1 if sys.platform == "darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9, 3)


def run_part(script: str, *arguments: str, fork: bool = False) -> dict[str, Any]:
    """Runs a script in a new process, whose peak memory is its own, and returns the JSON that it prints.

    A fork needs no imports, but has the memory of this process.
    """
    if not fork or sys.platform == "win32":
        command = [sys.executable, script, *arguments]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        return dict(json.loads(done.stdout))
    with tempfile.TemporaryFile("w+") as output:
        context = multiprocessing.get_context("fork")
        process = context.Process(target=_run_fork, args=(output.fileno(), script, *arguments))
        process.start()
        process.join()
        if process.exitcode:
            raise subprocess.CalledProcessError(process.exitcode, [script, *arguments])
        output.seek(0)
        return dict(json.load(output))


def _run_fork(output: int, script: str, *arguments: str) -> None:
    os.dup2(output, 1)
    sys.argv = [script, *arguments]
    runpy.run_path(script, run_name="__main__")


def load(name: str) -> dict[str, Any]:
    """Reads ``benchmarks/NAME.json``; empty if it does not exist, and in a smoke run."""
    path = HERE / f"{name}.json"
    results: dict[str, Any] = json.loads(path.read_text()) if path.exists() and not SMOKE else {}
    return results


def write(name: str, results: dict[str, Any]) -> None:
    """Writes the results and the machine to ``benchmarks/NAME.json``; a smoke run prints them."""
    content = json.dumps({"machine": machine(), **results}, indent=2) + "\n"
    if SMOKE:
        print(content, end="")
        return
    (HERE / f"{name}.json").write_text(content)
    print(f"wrote {name}.json")


def table(head: list[str], body: list[list[str]]) -> str:
    """Returns a Markdown table."""
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *body)) + "\n"
