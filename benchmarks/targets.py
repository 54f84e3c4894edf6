"""Accuracy of linear heads, fine-tuned encoders and SetFit trained on sets of several methods.

Sets are drawn from training rows. By default they are tested on *other training rows*; constants are chosen
there. ``--test`` tests on the first rows of the test set instead, once. Set number n sees a random half of
the rows (seed n), the same half for every method; data sets named ``... all`` use every row, and need
``--test``. A method may end in ``consistent`` (rows that two probes agree on) and in ``soft`` (soft labels).
Results go to ``targets.json`` row by row: an interrupted
run continues where it stopped.

Run: ``python benchmarks/targets.py [--data sst2,ag_news] [--methods random,select] [--classifiers encoder]
[--sets 3] [--seeds 2] [--test]``; ``--summary`` prints means.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from _common import SMOKE, data_folder, load, make_parser, pick, write
from dallme import registry
from dallme.classifiers.base import Classifier
from dallme.classifiers.transformer import TransformerClassifier
from dallme.data import LabelledTexts, LabelledVectors
from dallme.decoders.select import consistent_rows
from dallme.decoders.soft_labels import soft_labels
from dallme.distiller import Distiller
from dallme.embedders.cache import CachedEmbedder
from dallme.embedders.hashing import HashingEmbedder
from dallme.embedders.sentence_transformer import SentenceTransformerEmbedder
from dallme.evaluation.evaluate import make_classifiers
from dallme.evaluation.results import train_and_test
from dallme.models.locate import SENTENCE_TRANSFORMERS, locate

#: Data set to texts a class, training rows that sets are drawn from, and rows that test.
DATA = {
    "sst2": (20, 5_920, 1_821),
    "ag_news": (30, 8_000, 3_000),
    "imdb": (10, 6_000, 2_000),
    "imdb 1%": (125, 6_000, 1_000),
    "sst2 all": (20, None, 1_821),
    "ag_news all": (30, None, 7_600),
    "imdb all": (10, None, 5_000),
}
HELD_OUT, STEPS, LEARNING_RATE = 1_000, 120, 1e-4

#: The encoder whose vectors choose the sets; another one is an independent judge of them.
CHOSEN_WITH = "all-MiniLM-L6-v2"

#: Methods that make texts of source rows, and one with the rows that two probes agree on.
METHODS = (
    "random",
    "random consistent",
    "nearest",
    "herding",
    "facility-location",
    "optimal-transport",
    "select",
    "teaching",
)

EMBEDDER: Any = HashingEmbedder() if SMOKE else SentenceTransformerEmbedder(precision="float32")


@cache
def rows_of(name: str, test: bool) -> tuple[LabelledTexts, np.ndarray, LabelledTexts]:
    """Reads training rows with their vectors, and the rows that test."""
    _, size, tested = DATA[name]
    folder = data_folder() / name.split()[0]
    train = pq.read_table(folder / "train.parquet", columns=["text", "label"]).to_pydict()
    if size is None and not test:
        raise SystemExit(f"{name!r} leaves no training rows to test on: add --test")
    size, tested = pick(size or len(train["text"]), 48), pick(tested if test else HELD_OUT, 16)
    order = np.random.default_rng(0).permutation(len(train["text"])).tolist()
    if test:
        other = pq.read_table(folder / "test.parquet", columns=["text", "label"]).to_pydict()
        chosen = np.random.default_rng(0).permutation(len(other["text"])).tolist()[:tested]
    else:
        other, chosen = train, order[size : size + tested]

    def labelled(table: dict[str, list[Any]], rows: list[int]) -> LabelledTexts:
        texts = [table["text"][row].replace("<br />", " ") for row in rows]
        labels = np.array([table["label"][row] for row in rows])
        return LabelledTexts(
            texts, labels, {label: str(label) for label in set(labels.tolist())}, np.arange(len(rows))
        )

    source = labelled(train, order[:size])
    return (
        source,
        CachedEmbedder(EMBEDDER, None, os.environ.get("DALLME_STORE")).embed(source.texts),
        labelled(other, chosen),
    )


def make_set(name: str, method: str, number: int, test: bool) -> LabelledTexts:
    """Makes set `number` of a method from its half of the rows."""
    per_class = pick(DATA[name][0], 3)
    source, vectors, _ = rows_of(name, test)
    if DATA[name][1] is not None:
        half = np.sort(np.random.default_rng(number).permutation(len(source))[: len(source) // 2])
        source, vectors = source.take(half), vectors[half]
    method, *endings = method.split(" ")
    if unknown := set(endings) - {"consistent", "soft"}:
        raise SystemExit(f"expected 'consistent' or 'soft' after a method, found {sorted(unknown)}")
    if "consistent" in endings:
        context = Distiller(per_class=1, embedder=EMBEDDER).context(
            source, LabelledVectors(vectors, source.labels, EMBEDDER.fingerprint())
        )
        agreeing = np.isin(source.row_ids, context.source.row_ids[consistent_rows(context)])
        source, vectors = source.take(np.flatnonzero(agreeing)), vectors[agreeing]
    matrix = LabelledVectors(vectors, source.labels, EMBEDDER.fingerprint())
    decoder, _, tokens = method.partition("@")
    baseline = decoder in registry.names("baselines")
    distiller = Distiller(
        per_class=per_class,
        embedder=EMBEDDER,
        decoder="nearest" if baseline else decoder,
        seed=number,
        max_tokens=int(tokens or 128),
    )
    context = distiller.context(source, matrix)
    if baseline:
        budget = dict.fromkeys(source.class_counts, per_class)
        made = registry.make("baselines", decoder).select(source, matrix, budget, seed=number)
        quoted = np.flatnonzero(np.isin(context.source.row_ids, made.row_ids))
    else:
        prototypes = distiller.condense(context)
        decoded = distiller.decode(prototypes, context).texts
        texts = [text.text for text in decoded]
        made = LabelledTexts(texts, prototypes.labels, source.label_names, np.arange(len(texts)))
        quoted = np.array([row for text in decoded for row in text.rows], dtype=np.int64)
    if "soft" in endings:
        made = replace(made, probabilities=soft_labels(made.texts, made.labels, quoted, context))
    return made


@cache
def classifier_of(name: str, model: str) -> Classifier:
    """Makes a classifier; ``encoder`` is a fine-tuned one. `model` reads the texts of ``embedding-lr``."""
    if name != "encoder":
        own = EMBEDDER if SMOKE or model == CHOSEN_WITH else SentenceTransformerEmbedder(model)
        embedder = CachedEmbedder(own, None, os.environ.get("DALLME_STORE"))
        return make_classifiers([name], embedder).popitem()[1]
    folder = str(locate(model, SENTENCE_TRANSFORMERS))
    return TransformerClassifier(model=folder, steps=STEPS, learning_rate=LEARNING_RATE, precision="float32")


def run(
    data: Iterable[str],
    methods: Iterable[str],
    classifiers: list[str],
    sets: int,
    seeds: int,
    test: bool,
    model: str,
) -> list[dict[str, Any]]:
    """Computes the rows that are missing; each is written when it is there."""
    rows: list[dict[str, Any]] = load("targets").get("rows", [])
    keys = ("data", "method", "set", "seed", "classifier", "model", "test")
    known = {tuple(row[key] for key in keys) for row in rows}
    for name in data:
        for number in range(sets):
            for method in methods:
                waiting = [
                    (classifier, seed)
                    for classifier in classifiers
                    for seed in range(seeds if classifier in ("encoder", "setfit") else 1)
                    if (name, method, number, seed, classifier, model, test) not in known
                ]
                if not waiting:
                    continue
                started = time.perf_counter()
                texts = make_set(name, method, number, test)
                made = time.perf_counter() - started
                tokens = float(EMBEDDER.count_tokens(list(texts.texts)).mean())
                tested = rows_of(name, test)[2]
                for classifier, seed in waiting:
                    result = train_and_test(classifier_of(classifier, model), texts, tested, seed=seed)
                    accuracy = result.accuracy
                    values = (name, method, number, seed, classifier, model, test)
                    rows.append(
                        dict(zip(keys, values, strict=True))
                        | {
                            "accuracy": accuracy,
                            "tokens": round(tokens, 1),
                            "seconds_to_make": round(made, 1),
                        }
                    )
                    if not SMOKE:
                        write("targets", {"rows": rows})
                    print(name, method, number, seed, classifier, f"{accuracy:.3f}", flush=True)
    return rows


def summary(rows: list[dict[str, Any]]) -> None:
    """Prints mean accuracy, deviation over sets and over seeds, and tokens a text."""
    groups: dict[tuple[Any, ...], dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    tokens: dict[tuple[Any, ...], list[float]] = defaultdict(list)
    for row in rows:
        key = (row["data"], row["test"], row["classifier"], row["model"], row["method"])
        groups[key][row["set"]].append(row["accuracy"])
        tokens[key].append(row["tokens"])
    for key, by_set in sorted(groups.items(), key=lambda item: (*map(str, item[0][:4]), -_mean(item[1]))):
        over_sets = np.std([np.mean(values) for values in by_set.values()])
        over_seeds = np.mean([np.std(values) for values in by_set.values()])
        name, test, classifier, model, method = key
        where = "test" if test else "held out"
        print(
            f"{name:8} {where:8} {classifier:13} {model:18} {method:22} {_mean(by_set):.3f}  "
            f"sets {over_sets:.3f} ({len(by_set)})  seeds {over_seeds:.3f}  tokens {np.mean(tokens[key]):.0f}"
        )


def _mean(by_set: dict[int, list[float]]) -> float:
    return float(np.mean([np.mean(values) for values in by_set.values()]))


if __name__ == "__main__":
    parser = make_parser(__doc__)
    parser.add_argument("--data", default=pick("sst2,ag_news,imdb", "sst2"))
    parser.add_argument("--methods", default=pick(",".join(METHODS), "random,nearest consistent,select"))
    parser.add_argument("--classifiers", default="embedding-lr,lr")
    parser.add_argument("--sets", type=int, default=pick(3, 1))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--model", default=CHOSEN_WITH, help="the encoder that is fine-tuned or reads")
    parser.add_argument("--test", action="store_true", help="test on test rows")
    parser.add_argument("--summary", action="store_true")
    options = parser.parse_args()
    if not options.summary:
        found = run(
            options.data.split(","),
            options.methods.split(","),
            options.classifiers.split(","),
            options.sets,
            options.seeds,
            options.test,
            options.model,
        )
        if SMOKE:
            write("targets", {"rows": found})
    summary(load("targets").get("rows", []))
