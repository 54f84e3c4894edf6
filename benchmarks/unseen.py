"""Data sets that no setting of dallme was chosen on: many classes, short texts, long texts; linear classifiers and a TextCNN.

They are read from clones of public repositories, which stand side by side in one folder:

    git clone --depth 1 https://github.com/PolyAI-LDN/task-specific-datasets   # banking77: questions to a bank
    git clone --depth 1 https://github.com/clinc/oos-eval                      # clinc150: requests to an assistant
    git clone --depth 1 https://github.com/architrathore/QueClassifier         # trec: questions by what they ask for
    git clone --depth 1 https://github.com/nltk/nltk_data                      # subjectivity: sentences of plots and of reviews
    git clone --depth 1 https://github.com/yao8839836/text_gcn                 # newsgroups: 20 of them; ohsumed: 23 diseases

Where a repository has no test rows, a fifth of the rows, drawn at random in each class, is kept for testing. Articles of the
newsgroups are without their headers. A data set that is not there is left out and named.

Run: python benchmarks/unseen.py CLONES [--only trec] [--sets 3] [--store FOLDER]
"""

from __future__ import annotations

import argparse
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

from _common import HERE, write

METHODS = ("random", "k-center", "nearest", "extractive", "teaching:longest", "teaching", "full")
CLASSIFIERS = ("logistic-regression", "linear-svm", "naive-bayes", "embedding-lr", "text-cnn")

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
    return split([(line, label) for label, found in lines.items() for line in found])


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
    """A file a text, a folder a class."""
    files = sorted(path for path in folder.glob("*/*") if path.is_file())
    if not files:
        raise FileNotFoundError(folder)
    return [(path.read_text(encoding="latin-1"), path.parent.name) for path in files]


def split(rows: Rows) -> tuple[Rows, Rows]:
    """Keeps a fifth of each class for testing."""
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
    "trec": (trec, 10),
    "subjectivity": (subjectivity, 10),
    "newsgroups": (newsgroups, 5),
    "ohsumed": (ohsumed, 5),
}


def run(name: str, clones: Path, sets: int, store: Path) -> dict[str, Any]:
    """Every method on one data set."""
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
    judges = make_classifiers(CLASSIFIERS, distiller.cached_embedder)
    table = compare(
        distiller,
        distiller.run(source),
        test,
        METHODS,
        judges,
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
    """Runs the data sets asked for; those of earlier runs stay in the file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("clones", type=Path)
    parser.add_argument("--only", choices=DATA, action="append")
    parser.add_argument("--sets", type=int, default=3)
    parser.add_argument("--store", type=Path, default=Path.home() / ".cache" / "dallme" / "benchmarks")
    options = parser.parse_args()
    path = HERE / "unseen.json"
    for name in options.only or DATA:
        try:
            found = run(name, options.clones, options.sets, options.store)
        except FileNotFoundError as error:
            print(f"{name} is left out: {error}", file=sys.stderr)
            continue
        data: dict[str, Any] = json.loads(path.read_text())["data"] if path.exists() else {}
        write("unseen", {"data": data | {name: found}})


if __name__ == "__main__":
    main()
