"""Measures the main job on IMDB and AG-News: accuracy, seconds per stage, and peak memory.

Each data set runs in a new process, whose peak memory is measured.
Run: python benchmarks/main_job.py [--seeds 5]
"""

from __future__ import annotations

import json
import tempfile
import time
from typing import Any

import numpy as np

from _common import SMOKE, data_folder, make_parser, peak_memory_gb, pick, run_part, write

PER_CLASS = pick({"imdb": 10, "ag_news": 30}, {"imdb": 2})


def run(name: str, seeds: int) -> dict[str, Any]:
    """Distils one data set with each seed; compares it with random and nearest texts and the full data."""
    from dallme.distiller import Distiller
    from dallme.evaluation.compare import compare
    from dallme.evaluation.evaluate import LINEAR, make_classifiers
    from dallme.evaluation.protocol import DEFAULT
    from dallme.readers import read

    source = read(data_folder() / name / "train.parquet")
    test = read(data_folder() / name / "test.parquet", like=source)
    with tempfile.TemporaryDirectory() as store:
        distiller = Distiller(per_class=PER_CLASS[name], store=store, seed=0)
        distillation = distiller.run(source)
        cold = distillation.distilled.manifest["seconds"]
        peak_of_distilling = peak_memory_gb()
        started = time.perf_counter()
        distiller.embed(source)
        warm = time.perf_counter() - started
        classifiers = make_classifiers(LINEAR)
        table = compare(
            distiller,
            distillation,
            test,
            ["random", "nearest", "extractive", "teaching", "full"],
            classifiers,
            protocol=DEFAULT.with_sets(seeds),
        )
    tokens = distillation.context.count_tokens(list(distillation.distilled.texts))
    return {
        "rows": len(source),
        "test_rows": len(test),
        "per_class": PER_CLASS[name],
        "max_tokens": distiller.max_tokens,
        "longest_text_tokens": int(np.max(tokens)),
        "seconds": cold,
        "condense_and_decode_over_embed": round((cold["condense"] + cold["decode"]) / cold["embed"], 3),
        "embed_from_full_store_seconds": round(warm, 3),
        "peak_memory_gb": {"distilling": peak_of_distilling, "with_evaluation": peak_memory_gb()},
        "table": table.as_dict(),
    }


def main() -> None:
    """Runs each data set in a process of its own."""
    parser = make_parser(__doc__)
    parser.add_argument("--seeds", type=int, default=pick(5, 1))
    parser.add_argument("--only", choices=PER_CLASS, help="run this data set in this process and print JSON")
    options = parser.parse_args()
    if options.only:
        print(json.dumps(run(options.only, options.seeds)))
        return
    results = {}
    for name in PER_CLASS:
        results[name] = run_part(__file__, "--only", name, "--seeds", str(options.seeds), fork=SMOKE)
    write("main_job", {"seeds": options.seeds, "data": results})


if __name__ == "__main__":
    main()
