"""What the benchmarks share: where the data are, what machine this is, and how results are written."""

from __future__ import annotations

import json
import os
import platform
import resource
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent


def data_folder() -> Path:
    """The folder with the real data sets: `DALLME_DATA`, or `shared/data` beside the repository."""
    folder = Path(os.environ.get("DALLME_DATA", HERE.parents[1] / "shared" / "data"))
    if not folder.is_dir():
        sys.exit(
            f"no real data: {folder} is not a folder; set DALLME_DATA to the one that holds ag_news, imdb and sst2"
        )
    return folder


def machine() -> dict[str, Any]:
    """Cores, memory, what the processor computes in hardware, and the versions of what does the work."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    flags = set(next((line.split() for line in lines if line.startswith("flags")), []))
    packages = {}
    for package in (
        "numpy",
        "scikit-learn",
        "faiss-cpu",
        "torch",
        "transformers",
        "sentence-transformers",
        "pyarrow",
    ):
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
    """Most memory this process has held so far, in GB (10^9 bytes)."""
    status = Path("/proc/self/status")
    if (
        status.exists()
    ):  # Linux hands ru_maxrss of the parent on to a process that it starts; VmHWM is this process's own
        return round(int(status.read_text().split("VmHWM:")[1].split()[0]) * 1024 / 1e9, 3)
    unit = 1 if sys.platform == "darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9, 3)


def write(name: str, results: dict[str, Any]) -> None:
    """Writes `results` with the machine's description to ``benchmarks/NAME.json``."""
    path = HERE / f"{name}.json"
    path.write_text(json.dumps({"machine": machine(), **results}, indent=2) + "\n")
    print(f"wrote {path.name}")


def table(head: list[str], body: list[list[str]]) -> str:
    """A Markdown table."""
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *body)) + "\n"
