"""How much faster 120 prototypes are decoded together than one at a time: 5 correction steps, beam 4.

The prototypes are the centroids of AG-News, 30 a class. Both ways decode the same ones with the same inverter in one run; those
decoded one at a time are as many as `--single` says, spread over the classes, and their time is scaled to 120.

Run: python benchmarks/vec2text_speed.py [INVERTER] [--single 120]
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from _common import data_folder, peak_memory_gb, write
from dallme.cli.options import store_folder
from dallme.decoders.vec2text.fit import check_fit, find_inverter
from dallme.decoders.vec2text.inverter import Inverter
from dallme.distiller import Distiller
from dallme.readers import read

STEPS, BEAM, PER_CLASS = 5, 4, 30


def main() -> None:
    """Measures both ways and writes their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("inverter", nargs="?", default="", help="folder; by default the one that comes with dallme")
    parser.add_argument("--single", type=int, default=4 * PER_CLASS, help="prototypes that are decoded one at a time")
    options = parser.parse_args()
    folder = find_inverter(options.inverter)
    inverter = Inverter.load(folder)
    distiller = Distiller(per_class=PER_CLASS, embedder=inverter.config.embedder, store=store_folder(None))
    texts = read(data_folder() / "ag_news" / "train.parquet")
    vectors = distiller.embed(texts)
    check_fit(inverter.config, folder, vectors.fingerprint)
    prototypes = distiller.condense(distiller.context(texts, vectors)).vectors
    chosen = np.linspace(0, len(prototypes) - 1, min(options.single, len(prototypes))).round().astype(int)
    inverter.decode(prototypes[:2], steps=1, beam=BEAM)  # weights load on first use

    started = time.perf_counter()
    together = inverter.decode(prototypes, steps=STEPS, beam=BEAM)
    batched = time.perf_counter() - started
    started = time.perf_counter()
    single = [inverter.decode(prototypes[row : row + 1], steps=STEPS, beam=BEAM)[0] for row in chosen]
    one_by_one = (time.perf_counter() - started) * len(prototypes) / len(chosen)
    results = {
        "prototypes": len(prototypes),
        "decoded_one_at_a_time": len(chosen),
        "steps": STEPS,
        "beam": BEAM,
        "base": inverter.config.base,
        "max_tokens": inverter.config.max_tokens,
        "batched_seconds": round(batched, 2),
        "one_at_a_time_seconds": round(one_by_one, 2),
        "ratio": round(one_by_one / batched, 2),
        "mean_steps": {
            "batched": round(float(np.mean([row.steps for row in together])), 2),
            "one_at_a_time": round(float(np.mean([row.steps for row in single])), 2),
        },
        "mean_cosine": {
            "batched": round(float(np.mean([row.cosine for row in together])), 4),
            "one_at_a_time": round(float(np.mean([row.cosine for row in single])), 4),
        },
        "peak_memory_gb": peak_memory_gb(),
    }
    print(results)
    write("vec2text_speed", results)


if __name__ == "__main__":
    main()
