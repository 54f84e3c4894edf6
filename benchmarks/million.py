"""How time and memory grow: up to a million texts, ten thousand classes and a hundred thousand prototypes, on one machine.

Each case runs in a process of its own: embed, condense, decode, trace. Run: python benchmarks/million.py [--case NAME ...]
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from _common import HERE, peak_memory_gb, write
from _synthetic import make_texts
from dallme.distiller import Distiller
from dallme.readers import read

ROWS = (62_500, 250_000, 1_000_000)

#: Name to rows, classes (None: the four of the data), texts a class, embedder, decoder.
CASES: dict[str, tuple[int, int | None, int, str, str]] = {
    **{f"hashing, {rows:,} rows": (rows, None, 25, "hashing", "teaching") for rows in ROWS},
    **{f"glove, {rows:,} rows": (rows, None, 25, "glove", "teaching") for rows in ROWS},
    "10,000 classes x 2 texts": (100_000, 10_000, 2, "hashing", "teaching"),
    "10,000 classes x 10 texts": (200_000, 10_000, 10, "hashing", "teaching"),
    "10 classes x 10,000 texts": (200_000, 10, 10_000, "hashing", "teaching"),
}

#: Runs only where it is named: seeding k-means with 10,000 centroids a class did not end in 50 minutes of a busy machine.
LONG = "10 classes x 10,000 texts"


def measure(name: str) -> dict[str, Any]:
    """One case: seconds by stage, CPU seconds of all its threads, and peak memory before it and at its end."""
    rows, classes, per_class, embedder, decoder = CASES[name]
    texts = read(*make_texts(rows, classes))
    before, started, worked = peak_memory_gb(), time.perf_counter(), time.process_time()
    with tempfile.TemporaryDirectory() as store:
        distiller = Distiller(
            per_class=per_class, embedder=embedder, decoder=decoder, max_tokens=64, store=store
        )
        distilled = distiller.run(texts).distilled
    return {
        "rows": rows,
        "classes": classes or 4,
        "texts": len(distilled),
        "embedder": embedder,
        "decoder": decoder,
        "seconds": {**distilled.manifest["seconds"], "all": round(time.perf_counter() - started, 2)},
        "cpu_seconds": round(time.process_time() - worked, 2),
        "peak_memory_gb": {"texts": before, "all": peak_memory_gb()},
    }


def growth(cases: dict[str, Any]) -> dict[str, dict[str, float]]:
    """How CPU time grows from the fewest rows n to the most, by kind of case.

    Returns:
        `share`, of what n log n would allow, and `exponent`, the power of n that it grows with.
    """
    found: dict[str, dict[str, float]] = {}
    for kind in ("hashing", "glove"):
        few, many = (cases.get(f"{kind}, {rows:,} rows") for rows in (ROWS[0], ROWS[-1]))
        if few and many:
            allowed = many["rows"] * math.log(many["rows"]) / (few["rows"] * math.log(few["rows"]))
            grown = many["cpu_seconds"] / few["cpu_seconds"]
            exponent = math.log(grown) / math.log(many["rows"] / few["rows"])
            found[kind] = {"share": round(grown / allowed, 3), "exponent": round(exponent, 3)}
    return found


def main() -> None:
    """Measures the cases asked for, and keeps those measured before."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", action="append", choices=list(CASES))
    parser.add_argument("--here", action="store_true", help="measure one case in this process and print it")
    options = parser.parse_args()
    if options.here:
        print(json.dumps(measure(options.case[0])))
        return
    path = HERE / "million.json"
    before = json.loads(path.read_text()).get("cases", {}) if path.exists() and options.case else {}
    for name in options.case or [case for case in CASES if case != LONG]:
        command = [sys.executable, str(Path(__file__)), "--here", "--case", name]
        before[name] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        print(name, before[name], flush=True)
        cases = {case: before[case] for case in CASES if case in before}
        write("million", {"cases": cases, "growth": growth(cases)})


if __name__ == "__main__":
    main()
