"""Tables of one small set per data set: rows of the experiments, compared with our goals."""

from __future__ import annotations

import json
from pathlib import Path

from _common import HERE, table

#: The columns: a classifier, and what the table calls it.
COLUMNS = {
    "logistic-regression": "LR",
    "linear-svm": "SVM",
    "naive-bayes": "NB",
    "text-cnn": "TextCNN",
    "text-rnn": "TextRNN",
    "transformer:sentence-transformers/all-MiniLM-L6-v2": "MiniLM, fine-tuned",
}
#: Accuracies that we aimed at; on SST-2 the aim is the accuracy of DiLM's published sets.
GOALS = {
    "imdb": (0.81, 0.81, 0.81, 0.72, 0.68, 0.76),
    "ag_news": (0.845, 0.845, 0.85, 0.885, 0.855, 0.88),
}
#: Data set to its title, experiment, texts a class, and the methods that are shown.
TABLES = {
    "imdb": (
        "IMDB, 10 texts a class",
        "table1-imdb",
        10,
        ("teaching", "extractive", "nearest", "random", "full"),
    ),
    "ag_news": (
        "AG-News, 30 texts a class",
        "table1-agnews",
        30,
        ("teaching", "extractive", "nearest", "random", "full"),
    ),
    "sst2": (
        "SST-2, 20 texts a class",
        "dpc-sst2",
        20,
        ("teaching", "extractive", "nearest", "random", "DiLM"),
    ),
}


def goals_tables(results: Path = HERE.parent / "results" / "offline") -> str:
    """Renders one table per data set; accuracies above the goal, or above DiLM, are in bold."""
    parts = []
    for data, (title, experiment, per_class, methods) in TABLES.items():
        found = _accuracies(results / experiment / "rows.jsonl", per_class)
        goals = GOALS.get(data) or tuple(found["DiLM", classifier] for classifier in COLUMNS)
        body = []
        for method in methods:
            cells = [found.get((method, classifier)) for classifier in COLUMNS]
            shown = [
                _cell(cell, goal if method == "teaching" else None)
                for cell, goal in zip(cells, goals, strict=True)
            ]
            body.append([f"`{method}`", *shown])
        if data in GOALS:
            body.insert(0, ["goal", *map(_cell, goals)])
        parts.append(f"{title}\n\n" + table(["", *COLUMNS.values()], body))
    return "\n".join(parts)


def _accuracies(path: Path, per_class: int) -> dict[tuple[str, str], float]:
    """Returns mean accuracies by method and classifier, of texts from MiniLM's vectors."""
    found = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        config = row["config"]
        if config["per_class"] == per_class and config["embedder"] == "all-MiniLM-L6-v2":
            found[config["method"], config["classifier"]] = row["result"]["accuracy"]
    return found


def _cell(value: float | None, goal: float | None = None) -> str:
    """Formats a number with three digits, in bold if it reaches the goal."""
    return (
        "" if value is None else f"**{value:.3f}**" if goal is not None and value >= goal else f"{value:.3f}"
    )
