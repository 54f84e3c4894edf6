"""Measures how time and memory grow, up to a million texts, ten thousand classes and 100,000 prototypes.

Each case runs in a new process: embed, condense, decode, trace.
Run: python benchmarks/million.py [--case NAME ...]
"""

from __future__ import annotations

import json
import math
import tempfile
import time
from typing import Any

from _common import load, make_parser, peak_memory_gb, pick, run_part, write
from _synthetic import make_texts
from dallme.distiller import Distiller
from dallme.readers import read

ROWS = pick((62_500, 250_000, 1_000_000), (200, 400))

#: Name to rows, classes (None: the four of the data), texts a class, embedder, decoder.
CASES: dict[str, tuple[int, int | None, int, str, str]] = {
    **{f"hashing, {rows:,} rows": (rows, None, pick(25, 2), "hashing", "teaching") for rows in ROWS},
    **{f"glove, {rows:,} rows": (rows, None, pick(25, 2), "glove", "teaching") for rows in ROWS},
    "10,000 classes x 2 texts": (100_000, 10_000, 2, "hashing", "teaching"),
    "10,000 classes x 10 texts": (200_000, 10_000, 10, "hashing", "teaching"),
    "10 classes x 10,000 texts": (200_000, 10, 10_000, "hashing", "teaching"),
}

#: Case that runs only on request: k-means with 10,000 centroids per class did not end in 50 minutes.
LONG = "10 classes x 10,000 texts"


def measure(name: str) -> dict[str, Any]:
    """Measures one case: seconds by stage, CPU seconds, and peak memory before and at the end."""
    rows, classes, per_class, embedder, decoder = CASES[name]
    texts = read(*make_texts(rows, classes))
    before, started, cpu = peak_memory_gb(), time.perf_counter(), time.process_time()
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
        "cpu_seconds": round(time.process_time() - cpu, 2),
        "peak_memory_gb": {"texts": before, "all": peak_memory_gb()},
    }


def growth(cases: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Compares the CPU time of the most rows n with that of the fewest, by kind of case.

    Returns:
        `share`, the growth relative to n log n, and `exponent`, the power of n that it follows.
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
    """Measures the selected cases; the file keeps the others."""
    parser = make_parser(__doc__)
    parser.add_argument("--case", action="append", choices=list(CASES))
    parser.add_argument("--here", action="store_true", help="measure one case in this process and print it")
    options = parser.parse_args()
    if options.here:
        print(json.dumps(measure(options.case[0])))
        return
    measured = load("million").get("cases", {}) if options.case else {}
    selected = pick([case for case in CASES if case != LONG], [f"hashing, {rows:,} rows" for rows in ROWS])
    for name in options.case or selected:
        measured[name] = run_part(__file__, "--here", "--case", name)
        print(name, measured[name], flush=True)
        cases = {case: measured[case] for case in CASES if case in measured}
        write("million", {"cases": cases, "growth": growth(cases)})


if __name__ == "__main__":
    main()
