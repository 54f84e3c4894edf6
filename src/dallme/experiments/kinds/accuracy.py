"""What a classifier learns from the sets that a method makes (Table 1, section 5.1)."""

from __future__ import annotations

from typing import Any

import numpy as np

from dallme.evaluation.compare import check_methods, compare, model_baselines
from dallme.evaluation.evaluate import Score, check_plan, evaluate_method, make_classifiers
from dallme.experiments.runs import Run
from dallme.experiments.workspace import Workspace


def run(cell: Run, workspace: Workspace) -> dict[str, Any]:
    """The accuracy of a cell, its mean and deviation over sets and models; for a decoder, how near its texts are as well."""
    method, name = str(cell["method"]), str(cell["classifier"])
    plan, test, source = cell.grid.plan(), workspace.test_set(cell), workspace.texts(cell)[0]
    judges = make_classifiers([name], workspace.distiller(cell).cached_embedder)
    check_plan(plan, judges, has_full=True)
    if method not in cell.grid.candidates:
        check_methods([method], judges)
        if model_baselines([method], judges):
            distiller, run = workspace.distil(cell)
            row = compare(
                distiller, run, test, [method], judges, protocol=plan, results=workspace.results
            ).methods[0]
            return measures(row.scores[0], row.texts)
    made = workspace.sets(cell)
    (called, classifier), *_ = judges.items()
    options: dict[str, Any] = {"seed": cell.grid.seed, "results": workspace.results, "full": method == "full"}
    return measures(
        evaluate_method(classifier, called, made.texts, test, source, plan, **options), len(made.texts[0])
    ) | dict(made.nearness)


def measures(score: Score, texts: int) -> dict[str, Any]:
    """A score as the measures of a cell."""
    known = score.as_dict()
    return {
        "accuracy": known["accuracy_mean"],
        "accuracy_std": known["accuracy_std"],
        "accuracies": list(score.accuracies),
        "macro_f1": known["macro_f1_mean"],
        "macro_f1_std": float(np.std(score.macro_f1s, ddof=1)) if known["runs"] > 1 else 0.0,
        "texts": texts,
        **{name: known[name] for name in ("runs", "seconds", "learning_rate", "steps", "tuned")},
    }
