"""Experiments with known rows."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from dallme.experiments import Experiment
from dallme.experiments.rows import Row
from dallme.experiments.runs import Run, make_runs

CLASSIFIERS = """
title = "Every classifier"
place = "Table 1, section 5.1"
kind = "accuracy"
rows = ["method"]
columns = ["classifier"]
average = true
figure = "bars"
says = "Distilled texts are better than others."

[reported."Full Data"]
LR = [0.883, 0.0]
BERT = [0.907, 0.015]
T5 = [0.935, 0.017]
average = [0.908, 0.013]
[reported.Random]
LR = [0.583, 0.019]
BERT = [0.609, 0.027]
T5 = [0.624, 0.026]
average = [0.605, 0.024]
[reported.Ours]
LR = [0.65, 0.018]
BERT = [0.769, 0.016]
T5 = [0.763, 0.022]
average = [0.727, 0.019]
[reported.TDD]
T5 = [0.9]
[reported.EDA]
LR = [0.591, 0.02]

[profiles.offline]
differs = ["MiniLM stands in for BERT.", "No T5."]
per_class = [10]
reported_row = {random = "Random", nearest = "Ours", full = "Full Data"}
columns = {lr = "LR", "transformer:sentence-transformers/all-MiniLM-L6-v2" = "BERT"}
reasons = {"nearest | transformer:sentence-transformers/all-MiniLM-L6-v2" = "MiniLM is smaller."}
data.imdb = {train = "imdb"}

[[profiles.offline.grid]]
method = ["full", "random", "nearest"]
classifier = ["lr", "transformer:sentence-transformers/all-MiniLM-L6-v2"]
[[profiles.offline.grid]]
method = ["text-matrix"]
classifier = ["text-cnn"]
label = "matrices"
"""


RATIOS = """
title = "Accuracy against the ratio"
place = "Figure 4, section 5.2"
kind = "accuracy"
rows = ["method"]
columns = ["ratio"]
figure = "lines"
x = "ratio"

[profiles.offline]
differs = []
classifier = ["lr", "nb"]
data.imdb = {train = "imdb"}

[[profiles.offline.grid]]
method = ["nearest", "random"]
ratio = [0.001, 0.01, 0.1]
[[profiles.offline.grid]]
method = ["full"]
"""


TIMES = """
title = "Seconds and accuracy"
place = "Table 4, section 5.7"
kind = "training"
rows = ["method"]
columns = ["data"]
measures = ["seconds", "accuracy"]
figure = "scatter"
x = "seconds"

[reported.all]
"IMDB: seconds" = [3247]
"IMDB: accuracy" = [0.936]

[profiles.offline]
differs = []
method = ["full", "lora:0.8%"]
reported_row = {full = "all"}
columns = {"imdb: seconds" = "IMDB: seconds", "imdb: accuracy" = "IMDB: accuracy"}
data.imdb = {train = "imdb"}
data.ag = {train = "ag"}
"""


def make_rows(experiment: Experiment, result: Callable[[Run], dict[str, Any] | None]) -> list[Row]:
    """Returns a row for each run of the offline profile that has a result."""
    results = [(run, result(run)) for run in make_runs(experiment, experiment.profile("offline"))]
    return [
        Row(
            run.key({}),
            json.loads(json.dumps(run.config())),
            found,
            1.5,
            0,
            {},
            "2026-11-23T12:00:00+00:00",
        )
        for run, found in results
        if found is not None
    ]


def accuracy(mean: float, deviation: float = 0.0, runs: int = 1) -> dict[str, Any]:
    return {"accuracy": mean, "accuracy_std": deviation, "runs": runs}


SCORES = {
    ("full", "lr"): accuracy(0.88),
    ("random", "lr"): accuracy(0.5856, 0.03, 5),
    ("random", "transformer"): accuracy(0.61, 0.04, 5),
    ("nearest", "lr"): accuracy(0.72, 0.012, 5),
    ("nearest", "transformer"): accuracy(0.74, 0.016, 5),
    ("text-matrix", "text-cnn"): accuracy(0.7),
}


def classifier_rows(experiment: Experiment) -> list[Row]:
    return make_rows(experiment, lambda run: SCORES.get((run["method"], run["classifier"].partition(":")[0])))


def ratio_rows(experiment: Experiment, missing: float = 0.0) -> list[Row]:
    def result(run: Run) -> dict[str, Any] | None:
        if run["method"] == "full":
            return accuracy(0.9 if run["classifier"] == "lr" else 0.8)
        if run["ratio"] == missing and run["classifier"] == "nb":
            return None
        low = {0.001: 0.6, 0.01: 0.7, 0.1: 0.75}[run["ratio"]] - (0.1 if run["method"] == "random" else 0)
        return accuracy(low + (0.02 if run["classifier"] == "nb" else 0), 0.03, 5)

    return make_rows(experiment, result)


def times_rows(experiment: Experiment) -> list[Row]:
    times = {
        ("full", "imdb"): (2345.6, 0.936),
        ("full", "ag"): (1391.0, 0.95),
        ("lora:0.8%", "ag"): (9.04, 0.91),
    }

    def result(run: Run) -> dict[str, Any] | None:
        found = times.get((run["method"], run["data"]))
        return found and {"seconds": found[0], "accuracy": found[1], "runs": 1}

    return make_rows(experiment, result)
