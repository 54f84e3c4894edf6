"""Measures data sets that no setting of dallme was chosen on: many classes, short texts, long texts.

The data sets are read from clones of public repositories in one folder:

    git clone --depth 1 https://github.com/PolyAI-LDN/task-specific-datasets  # banking77: questions to a bank
    git clone --depth 1 https://github.com/clinc/oos-eval               # clinc150: requests to an assistant
    git clone --depth 1 https://github.com/architrathore/QueClassifier  # trec: kinds of questions
    git clone --depth 1 https://github.com/nltk/nltk_data               # subjectivity: plots and reviews
    git clone --depth 1 https://github.com/yao8839836/text_gcn          # newsgroups; ohsumed: 23 diseases

Without test rows, a fifth of each class, drawn at random, is the test set. Articles of the newsgroups have no
headers. A missing data set is named and left out.

Run: python benchmarks/unseen.py CLONES [--only trec] [--sets 3] [--store FOLDER]
"""

from __future__ import annotations

import csv
import io
import json
import random
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from _common import data_folder, load, make_parser, pick, write

METHODS = pick(
    ("random", "k-center", "nearest", "extractive", "teaching:longest", "teaching", "full"),
    ("random", "teaching", "full"),
)
CLASSIFIERS = pick(
    ("logistic-regression", "linear-svm", "naive-bayes", "embedding-lr", "text-cnn"),
    ("naive-bayes", "embedding-lr"),
)

#: Texts, each with the name of its class.
Rows = list[tuple[str, str]]


def banking(clones: Path) -> tuple[Rows, Rows]:
    """Questions to a bank, 77 intents."""

    def part(name: str) -> Rows:
        with (clones / "task-specific-datasets" / "banking_data" / f"{name}.csv").open(
            encoding="utf-8", newline=""
        ) as file:
            return [(row["text"], row["category"]) for row in csv.DictReader(file)]

    return part("train"), part("test")


def clinc(clones: Path) -> tuple[Rows, Rows]:
    """Requests to an assistant, 150 intents; those out of scope are left out."""
    data = json.loads((clones / "oos-eval" / "data" / "data_full.json").read_text(encoding="utf-8"))
    return tuple([(text, label) for text, label in data[part]] for part in ("train", "test"))  # type: ignore[return-value]


def trec(clones: Path) -> tuple[Rows, Rows]:
    """Questions by the kind of thing that they ask for, 6 kinds."""
    lines = (
        (clones / "QueClassifier" / "data" / "train_5500.label").read_text(encoding="latin-1").splitlines()
    )
    return split([(line.partition(" ")[2], line.partition(":")[0]) for line in lines])


def subjectivity(clones: Path) -> tuple[Rows, Rows]:
    """Sentences of plot summaries (objective) and of reviews (subjective)."""
    with zipfile.ZipFile(clones / "nltk_data" / "packages" / "corpora" / "subjectivity.zip") as archive:
        files = {"objective": "plot.tok.gt9.5000", "subjective": "quote.tok.gt9.5000"}
        lines = {
            label: io.TextIOWrapper(archive.open(f"subjectivity/{name}"), encoding="latin-1")
            .read()
            .splitlines()
            for label, name in files.items()
        }
    return split([(line, label) for label, own in lines.items() for line in own])


def newsgroups(clones: Path) -> tuple[Rows, Rows]:
    """Articles of 20 newsgroups without their headers."""
    folder = clones / "text_gcn" / "data" / "20ng"
    parts = (folder / "20news-bydate-train", folder / "20news-bydate-test")
    return tuple([(body.partition("\n\n")[2], label) for body, label in documents(part)] for part in parts)  # type: ignore[return-value]


def ohsumed(clones: Path) -> tuple[Rows, Rows]:
    """Abstracts on 23 kinds of cardiovascular and other diseases, one kind each."""
    folder = clones / "text_gcn" / "data" / "ohsumed_single_23"
    return documents(folder / "training"), documents(folder / "test")


def documents(folder: Path) -> Rows:
    """Reads a folder per class with a file per text."""
    files = sorted(path for path in folder.glob("*/*") if path.is_file())
    if not files:
        raise FileNotFoundError(folder)
    return [(path.read_text(encoding="latin-1"), path.parent.name) for path in files]


def split(rows: Rows) -> tuple[Rows, Rows]:
    """Splits off a fifth of each class for testing."""
    train, test = [], []
    for label in sorted({label for _, label in rows}):
        own = [row for row in dict.fromkeys(rows) if row[1] == label]
        random.Random(0).shuffle(own)
        test += own[: len(own) // 5]
        train += own[len(own) // 5 :]
    return train, test


#: Name to its reader and the texts per class that are distilled.
DATA: dict[str, tuple[Callable[[Path], tuple[Rows, Rows]], int]] = {
    "banking77": (banking, 3),
    "clinc150": (clinc, 2),
    "trec": (trec, pick(10, 2)),
    "subjectivity": (subjectivity, 10),
    "newsgroups": (newsgroups, 5),
    "ohsumed": (ohsumed, 5),
}


def run(name: str, clones: Path, sets: int, store: Path) -> dict[str, Any]:
    """Measures every method on one data set."""
    from dallme.cli.output import make_progress
    from dallme.distiller import Distiller
    from dallme.evaluation.compare import compare
    from dallme.evaluation.evaluate import make_classifiers
    from dallme.evaluation.protocol import PAPER
    from dallme.evaluation.results import ResultStore
    from dallme.readers import read

    parts, per_class = DATA[name]
    train_rows, test_rows = parts(clones)
    source = read(*zip(*train_rows, strict=True), drop_bad_rows=True)
    test = read(*zip(*test_rows, strict=True), drop_bad_rows=True, like=source)
    distiller = Distiller(per_class=per_class, store=store / "embeddings", progress=make_progress())
    protocol = replace(PAPER, sets=sets, full_steps=2000)
    classifiers = make_classifiers(CLASSIFIERS, distiller.cached_embedder)
    table = compare(
        distiller,
        distiller.run(source),
        test,
        METHODS,
        classifiers,
        protocol=protocol,
        results=ResultStore(store / "results"),
    )
    words = sorted(len(text.split()) for text in source.texts)
    return {
        "rows": len(source),
        "test_rows": len(test),
        "classes": len(source.label_names),
        "median_words": words[len(words) // 2],
        "per_class": per_class,
        "protocol": protocol.as_dict(),
        "table": table.as_dict(),
    }


def main() -> None:
    """Measures the selected data sets; the file keeps the others."""
    parser = make_parser(__doc__)
    parser.add_argument("clones", type=Path, nargs="?", default=data_folder())
    parser.add_argument("--only", choices=DATA, action="append")
    parser.add_argument("--sets", type=int, default=pick(3, 1))
    parser.add_argument("--store", type=Path, default=Path.home() / ".cache" / "dallme" / "benchmarks")
    options = parser.parse_args()
    for name in options.only or pick([*DATA], ["trec"]):
        try:
            results = run(name, options.clones, options.sets, options.store)
        except FileNotFoundError as error:
            print(f"{name} is left out: {error}", file=sys.stderr)
            continue
        write("unseen", {"data": load("unseen").get("data", {}) | {name: results}})


if __name__ == "__main__":
    main()
