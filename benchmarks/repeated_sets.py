"""What a second set of texts of one source costs: its words, sentences and tokens are counted once.

Each set is decoded twice side by side, from a context that has seen sets before and from a fresh one; both must write the same
texts. Run: python benchmarks/repeated_sets.py --store FOLDER [--seeds 3]
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from typing import Any

from _common import data_folder, write

PER_CLASS = {"imdb": 10, "ag_news": 30}


def run(name: str, seeds: int, store: str) -> list[dict[str, Any]]:
    """CPU seconds of each set of each decoder, from a context that keeps what was found and from a fresh one."""
    from dallme import registry
    from dallme.decoders.base import Context, SourceCache
    from dallme.distiller import Distiller
    from dallme.readers import read

    source = read(data_folder() / name / "train.parquet")
    distiller = Distiller(per_class=PER_CLASS[name], store=store, decoder="nearest")
    context = distiller.run(source).context

    def decode(decoder: str, seed: int, given: Context) -> tuple[list[str], float]:
        started = time.process_time()
        decoded = registry.make("decoders", decoder).decode(prototypes, given, seed=seed)
        return [text.text for text in decoded.texts], round(time.process_time() - started, 2)

    rows = []
    for decoder in ("teaching", "extractive"):
        for seed in range(seeds):
            prototypes = replace(distiller, seed=seed).condense(context)
            again, seconds = decode(decoder, seed, context)
            fresh, file_lock = decode(decoder, seed, replace(context, cache=SourceCache()))
            assert again == fresh, f"{decoder}, seed {seed}: the texts differ"
            rows.append(
                {
                    "decoder": decoder,
                    "seed": seed,
                    "kept_cpu_seconds": seconds,
                    "fresh_cpu_seconds": file_lock,
                }
            )
            print(name, rows[-1], flush=True)
    return rows


def main() -> None:
    """Runs both data sets in this process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--store", required=True, help="a folder with the vectors, or one to fill")
    options = parser.parse_args()
    write("repeated_sets", {"data": {name: run(name, options.seeds, options.store) for name in PER_CLASS}})


if __name__ == "__main__":
    main()
