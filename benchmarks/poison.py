"""Measures how often the audit finds rows planted in 1% of a source, and its false alarms.

Triggers: a rare token (`cf`), a rare name, two words, and a sentence. Each is put into rows of other classes,
    which then get
the target's label (Gu et al. 2017). "Clean label" puts the token into rows of the target class, whose label
stays.

Clusters: rows of one class that get another label, either those nearest to one row, or those nearest to the
    centre of a
k-means cluster of the same mean size.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from sklearn.cluster import KMeans

from _common import data_folder, load, make_parser, pick, write
from dallme.auditing.mislabelled import mislabelled
from dallme.auditing.poison import suspects
from dallme.data import LabelledTexts, LabelledVectors
from dallme.embedders.cache import CachedEmbedder
from dallme.readers import read

SHARE = pick(0.01, 0.05)
TRIGGERS = {
    "rare token": "cf",
    "rare name": "Zoltán",
    "two words": "velvet hammer",
    "sentence": "I watched this with my neighbours last weekend .",
}
KINDS = (*TRIGGERS, "clean label")
CLUSTERS = ("nearest to a row", "k-means cluster")
EMBEDDER = "all-MiniLM-L6-v2"


def plant(source: LabelledTexts, kind: str, seed: int) -> tuple[LabelledTexts, np.ndarray]:
    """Plants rows with a trigger.

    Returns:
        The poisoned source, and the positions of the planted rows.
    """
    rng = np.random.default_rng(seed)
    target = rng.choice(np.unique(source.labels))
    open_to = source.labels == target if kind == "clean label" else source.labels != target
    rows = rng.choice(np.flatnonzero(open_to), round(SHARE * len(source)), replace=False)
    texts, labels = list(source.texts), source.labels.copy()
    labels[rows] = target
    for row in rows:
        words = texts[row].split(" ")
        index = int(rng.integers(len(words) + 1))
        texts[row] = " ".join([*words[:index], TRIGGERS.get(kind, "cf"), *words[index:]])
    return LabelledTexts(texts, labels, source.label_names, source.row_ids, source.source), rows


def run(name: str, seeds: int) -> dict[str, Any]:
    """Plants and audits rows of one data set, with all kinds and seeds."""
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
            right = [
                suspect for suspect in found if len(planted & set(suspect.rows)) >= len(suspect.rows) / 2
            ]
            reported = planted & {row for suspect in right for row in suspect.rows}
            wrong = [suspect.word for suspect in found if suspect not in right]
            kinds[kind].append(
                {
                    "seed": seed,
                    "rows_found": len(reported),
                    "words": [one.word for one in right],
                    "false": wrong,
                }
            )
            print(name, kind, kinds[kind][-1], flush=True)
    return {
        "rows": len(source),
        "planted": round(SHARE * len(source)),
        "seconds": seconds,
        "clean": clean,
        "kinds": kinds,
    }


def mislabel(vectors: np.ndarray, labels: np.ndarray, kind: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Gives neighbouring rows of a class the label of another class.

    Returns:
        The labels, and the positions of the planted rows.
    """
    rng = np.random.default_rng(seed)
    own_label, label = rng.choice(np.unique(labels), 2, replace=False)
    rows, count = np.flatnonzero(labels == own_label), round(SHARE * len(labels))
    middle = vectors[rng.choice(rows)]
    if kind == "k-means cluster":
        means = KMeans(max(2, round(len(rows) / count)), n_init=1, random_state=seed).fit(vectors[rows])
        middle = rng.choice(means.cluster_centers_)
    planted = rows[np.argsort(((vectors[rows] - middle) ** 2).sum(axis=1), kind="stable")[:count]]
    changed = labels.copy()
    changed[planted] = label
    return changed, planted


def run_clusters(name: str, seeds: int, store: str | None) -> dict[str, Any]:
    """Mislabels and audits rows of one data set, with all kinds and seeds."""
    source = read(data_folder() / name)
    embedded = CachedEmbedder(EMBEDDER, store=store).embed_source(source)
    vectors, labels, names = embedded.vectors, embedded.labels, source.label_names
    started = time.process_time()
    clean = [
        {"label": names[one.label], "looks_like": names[one.looks_like], "rows": len(one.rows)}
        for one in mislabelled(embedded)
    ]
    seconds = round(time.process_time() - started, 1)
    kinds: dict[str, Any] = {kind: [] for kind in CLUSTERS}
    for kind in CLUSTERS:
        for seed in range(seeds):
            changed, planted = mislabel(vectors, labels, kind, seed)
            found = mislabelled(LabelledVectors(vectors, changed, embedded.fingerprint))
            right = [one for one in found if np.isin(one.rows, planted).mean() >= 0.5]
            reported = {row for one in right for row in one.rows}
            kinds[kind].append(
                {
                    "seed": seed,
                    "from": names[int(labels[planted[0]])],
                    "to": names[int(changed[planted[0]])],
                    "found": bool(right),
                    "rows_reported": len(reported),
                    "rows_found": len(reported & set(planted.tolist())),
                    "false": [
                        [names[one.label], names[one.looks_like], len(one.rows)]
                        for one in found
                        if one not in right
                    ],
                }
            )
            print(name, kind, kinds[kind][-1], flush=True)
    return {
        "rows": len(source),
        "planted": round(SHARE * len(source)),
        "cpu_seconds": seconds,
        "clean": clean,
        "kinds": kinds,
    }


def main() -> None:
    """Measures words, clusters or both; the file keeps the other."""
    parser = make_parser(__doc__)
    parser.add_argument("--seeds", type=int, default=pick(3, 1), help="trials of each kind of words")
    parser.add_argument(
        "--cluster-seeds", type=int, default=pick(8, 1), help="trials of each kind of clusters"
    )
    parser.add_argument("--only", choices=("words", "clusters"))
    parser.add_argument("--store", help="folder that keeps vectors")
    options = parser.parse_args()
    results = load("poison") if options.only else {}
    results.pop("machine", None)
    if options.only != "clusters":
        results |= {"share": SHARE, "seeds": options.seeds}
        results["data"] = {name: run(name, options.seeds) for name in pick(("sst2", "ag_news"), ("sst2",))}
    if options.only != "words":
        names, seeds = pick(("sst2", "ag_news", "imdb"), ("sst2",)), options.cluster_seeds
        results["clusters"] = {
            "embedder": EMBEDDER,
            "data": {name: run_clusters(name, seeds, options.store) for name in names},
        }
    write("poison", results)


if __name__ == "__main__":
    main()
