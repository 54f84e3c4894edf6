"""Compares decoding 120 prototypes together and one at a time: 5 correction steps, beam 4.

The prototypes are the centroids of AG-News, 30 per class, split at random over some rounds. A round decodes
its share both ways, in alternating order, so that other work on the machine affects both. Results are written
after each round.

Run: python benchmarks/vec2text_speed.py [INVERTER] [--rounds 4] [--single 120]
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from _common import data_folder, make_parser, peak_memory_gb, pick, write
from dallme.cli.options import store_folder
from dallme.decoders.vec2text.correction import Decoded
from dallme.decoders.vec2text.inverter import Inverter, check_fit, find_inverter
from dallme.distiller import Distiller
from dallme.readers import read

STEPS, BEAM, PER_CLASS = pick((5, 4, 30), (1, 1, 1))
TOGETHER, ONE_BY_ONE = WAYS = ("together", "one_by_one")


def timed(decode: Callable[[], list[Decoded]], count: int) -> dict[str, Any]:
    """What is decoded, and seconds by the clock and of the processor for each of `count` prototypes."""
    wall, cpu = time.perf_counter(), time.process_time()
    decoded = decode()
    return {
        "decoded": decoded,
        "wall": (time.perf_counter() - wall) / count,
        "cpu": (time.process_time() - cpu) / count,
    }


def run_round(inverter: Inverter, prototypes: np.ndarray, single: int, *, first: str) -> dict[str, Any]:
    """Decodes prototypes together, and the first `single` of them one by one."""
    ways = {
        TOGETHER: lambda: timed(lambda: inverter.decode(prototypes, steps=STEPS, beam=BEAM), len(prototypes)),
        ONE_BY_ONE: lambda: timed(
            lambda: [inverter.decode(row[None], steps=STEPS, beam=BEAM)[0] for row in prototypes[:single]],
            single,
        ),
    }
    return {way: ways[way]() for way in sorted(WAYS, key=lambda way: way != first)}


def summary(rounds: list[dict[str, Any]], sizes: list[int]) -> dict[str, Any]:
    """Seconds for all prototypes both ways, their ratios, and what was written."""
    total = {
        way: {kind: float(np.dot([each[way][kind] for each in rounds], sizes)) for kind in ("wall", "cpu")}
        for way in WAYS
    }
    rows = {way: [row for each in rounds for row in each[way]["decoded"]] for way in WAYS}
    found: dict[str, Any] = {
        f"{way}_{kind}_seconds": round(seconds, 1)
        for way, kinds in total.items()
        for kind, seconds in kinds.items()
    }
    for kind in ("wall", "cpu"):
        found[f"{kind}_ratio"] = round(total[ONE_BY_ONE][kind] / total[TOGETHER][kind], 2)
        found[f"{kind}_ratio_by_round"] = [
            round(each[ONE_BY_ONE][kind] / each[TOGETHER][kind], 2) for each in rounds
        ]
    for field in ("steps", "cosine"):
        found[f"mean_{field}"] = {
            way: round(float(np.mean([getattr(row, field) for row in rows[way]])), 4) for way in WAYS
        }
    return found


def main() -> None:
    """Measures both ways and writes their ratios."""
    parser = make_parser(__doc__)
    parser.add_argument(
        "inverter", nargs="?", default="", help="folder; by default the one that comes with dallme"
    )
    parser.add_argument("--rounds", type=int, default=pick(4, 1))
    parser.add_argument(
        "--single", type=int, default=4 * PER_CLASS, help="prototypes that are decoded one at a time, in all"
    )
    options = parser.parse_args()
    folder = find_inverter(options.inverter)
    inverter = Inverter.load(folder)
    distiller = Distiller(per_class=PER_CLASS, embedder=inverter.config.embedder, store=store_folder(None))
    texts = read(data_folder() / "ag_news" / "train.parquet")
    vectors = distiller.embed(texts)
    check_fit(inverter.config, folder, vectors.fingerprint)
    prototypes = distiller.condense(distiller.context(texts, vectors)).vectors
    inverter.decode(prototypes[:2], steps=1, beam=BEAM)  # loads the weights

    load, rounds = round(os.getloadavg()[0], 1), []
    order = np.random.default_rng(0).permutation(len(prototypes))
    parts = [order[place :: options.rounds] for place in range(options.rounds)]
    settings = {
        "steps": STEPS,
        "beam": BEAM,
        "base": inverter.config.base,
        "max_tokens": inverter.config.max_tokens,
    }
    for place, part in enumerate(parts):
        single = max(1, min(options.single // options.rounds, len(part)))
        rounds.append(run_round(inverter, prototypes[part], single, first=WAYS[place % 2]))
        print(
            {way: {kind: round(rounds[-1][way][kind], 3) for kind in ("wall", "cpu")} for way in WAYS},
            flush=True,
        )
        sizes = [len(each[TOGETHER]["decoded"]) for each in rounds]
        results = {
            "prototypes": sum(sizes),
            "decoded_one_at_a_time": sum(len(each[ONE_BY_ONE]["decoded"]) for each in rounds),
            "rounds": len(rounds),
            **settings,
            "load_average_before": load,
            **summary(rounds, sizes),
            "peak_memory_gb": peak_memory_gb(),
        }
        write("vec2text_speed", results)
    print(results)


if __name__ == "__main__":
    main()
