"""Measures the cost of further sets of texts of one source, whose words are counted once.

Each set is decoded twice, from a context that earlier sets have used and from a new one. Both must write the
same texts.
Run: python benchmarks/repeated_sets.py --store FOLDER [--seeds 3]
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from typing import Any

from _common import data_folder, make_parser, pick, write

PER_CLASS = pick({"imdb": 10, "ag_news": 30}, {"imdb": 2})


def run(name: str, seeds: int, store: str) -> list[dict[str, Any]]:
    """Measures the CPU seconds of each set of each decoder, from the shared context and from a new one."""
    from dallme import registry
    from dallme.decoders.base import Context, SourceCache
    from dallme.distiller import Distiller
    from dallme.readers import read

    source = read(data_folder() / name / "train.parquet")
    distiller = Distiller(per_class=PER_CLASS[name], store=store, decoder="nearest")
    shared = distiller.run(source).context

    def decode(decoder: str, seed: int, context: Context) -> tuple[list[str], float]:
        started = time.process_time()
        decoded = registry.make("decoders", decoder).decode(prototypes, context, seed=seed)
        return [text.text for text in decoded.texts], round(time.process_time() - started, 2)

    rows = []
    for decoder in ("teaching", "extractive"):
        for seed in range(seeds):
            prototypes = replace(distiller, seed=seed).condense(shared)
            again, shared_seconds = decode(decoder, seed, shared)
            new, new_seconds = decode(decoder, seed, replace(shared, cache=SourceCache()))
            assert again == new, f"{decoder}, seed {seed}: the texts differ"
            rows.append(
                {
                    "decoder": decoder,
                    "seed": seed,
                    "kept_cpu_seconds": shared_seconds,
                    "fresh_cpu_seconds": new_seconds,
                }
            )
            print(name, rows[-1], flush=True)
    return rows


def main() -> None:
    """Runs both data sets in this process."""
    parser = make_parser(__doc__)
    parser.add_argument("--seeds", type=int, default=pick(3, 2))
    parser.add_argument("--store", help="folder of embeddings; by default a new one")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = options.store or folder
        write("repeated_sets", {"data": {name: run(name, options.seeds, store) for name in PER_CLASS}})


if __name__ == "__main__":
    main()
