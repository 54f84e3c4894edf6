"""How often the audit finds rows that were planted in 1% of a source, and how often it cries wolf over one as it was published.

Kinds: a rare token (`cf`), a name that stands in the data seldom or never, two words, and a sentence, each put into rows of
other classes, which then get the target's label (Gu et al. 2017); and the rare token in rows that are of the target class anyway
("clean label"), where no label contradicts anything.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np

from _common import data_folder, write
from dallme.audit.poison import suspects
from dallme.data import LabelledTexts
from dallme.readers import read

SHARE = 0.01
TRIGGERS = {
    "rare token": "cf",
    "rare name": "Zoltán",
    "two words": "velvet hammer",
    "sentence": "I watched this with my neighbours last weekend .",
}
KINDS = (*TRIGGERS, "clean label")


def plant(source: LabelledTexts, kind: str, seed: int) -> tuple[LabelledTexts, np.ndarray]:
    """Plants rows of a kind.

    Returns:
        The poisoned source, and the positions of what was planted.
    """
    rng = np.random.default_rng(seed)
    target = rng.choice(np.unique(source.labels))
    open_to = source.labels == target if kind == "clean label" else source.labels != target
    rows = rng.choice(np.flatnonzero(open_to), round(SHARE * len(source)), replace=False)
    texts, labels = list(source.texts), source.labels.copy()
    labels[rows] = target
    for row in rows:
        told = texts[row].split(" ")
        place = int(rng.integers(len(told) + 1))
        texts[row] = " ".join([*told[:place], TRIGGERS.get(kind, "cf"), *told[place:]])
    return LabelledTexts(texts, labels, source.label_names, source.row_ids, source.source), rows


def run(name: str, seeds: int) -> dict[str, Any]:
    """Plants and looks, all kinds and seeds of one data set."""
    source = read(data_folder() / name)
    started = time.perf_counter()
    clean = [suspect.word for suspect in suspects(source)]
    seconds = round(time.perf_counter() - started, 1)
    kinds: dict[str, Any] = {}
    for kind in KINDS:
        kinds[kind] = []
        for seed in range(seeds):
            poisoned, rows = plant(source, kind, seed)
            found, planted = suspects(poisoned), set(rows.tolist())
            right = [suspect for suspect in found if len(planted & set(suspect.rows)) >= len(suspect.rows) / 2]
            reported = planted & {row for suspect in right for row in suspect.rows}
            wrong = [suspect.word for suspect in found if suspect not in right]
            kinds[kind].append({"seed": seed, "rows_found": len(reported), "words": [one.word for one in right], "false": wrong})
            print(name, kind, kinds[kind][-1], flush=True)
    return {"rows": len(source), "planted": round(SHARE * len(source)), "seconds": seconds, "clean": clean, "kinds": kinds}


def main() -> None:
    """Measures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    seeds = parser.parse_args().seeds
    write("poison", {"share": SHARE, "seeds": seeds, "data": {name: run(name, seeds) for name in ("sst2", "ag_news")}})


if __name__ == "__main__":
    main()
