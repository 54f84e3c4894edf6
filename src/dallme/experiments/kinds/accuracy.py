"""What a classifier learns from the sets that a method makes (Table 1, section 5.1)."""

from __future__ import annotations

from typing import Any

import numpy as np

from dallme import registry
from dallme.distilled import DistilledDataset
from dallme.evaluation.compare import compare
from dallme.evaluation.contestants import check_methods, model_baselines
from dallme.evaluation.judging import check_plan, judge
from dallme.evaluation.protocol import Score, make_classifiers
from dallme.experiments.cells import Cell
from dallme.experiments.workspace import Workspace


def run(cell: Cell, workspace: Workspace) -> dict[str, Any]:
    """The accuracy of a cell, its mean and deviation over sets and models; for a decoder, how near its texts are as well."""
    score, texts = score_cell(cell, workspace)
    decodes = str(cell["method"]).partition(":")[0] in registry.names("decoders")
    return measures(score, texts) | (nearness(workspace.distil(cell)[1].distilled) if decodes else {})


def nearness(distilled: DistilledDataset) -> dict[str, Any]:
    """Mean cosine of texts to their prototypes, and the share whose label a linear probe agrees with; of the first set."""
    lineage = distilled.lineage
    cosines = [each.cosine for each in lineage if each.cosine is not None]
    agree = [each.label_agrees for each in lineage if each.label_agrees is not None]
    return {
        "prototype_cosine": float(np.mean(cosines)) if cosines else None,
        "label_agrees": float(np.mean(agree)) if agree else None,
    }


def score_cell(cell: Cell, workspace: Workspace) -> tuple[Score, int]:
    """The score of a cell, and the texts that were trained on."""
    method, name = str(cell["method"]), str(cell["classifier"])
    plan, test, source = cell.grid.plan(), workspace.test_set(cell), workspace.texts(cell)[0]
    judges = make_classifiers([name], workspace.distiller(cell))
    check_plan(plan, judges, has_full=True)
    if method not in cell.grid.candidates:
        check_methods([method], judges)
        if model_baselines([method], judges):
            distiller, run = workspace.distil(cell)
            row = compare(distiller, run, test, [method], judges, protocol=plan, results=workspace.results).methods[0]
            return row.scores[0], row.texts
    sets = workspace.sets(cell)
    (called, classifier), *_ = judges.items()
    options: dict[str, Any] = {"seed": cell.grid.seed, "results": workspace.results, "full": method == "full"}
    return judge(classifier, called, sets, test, source, plan, **options), len(sets[0])


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
