"""Fewer parameters or fewer texts: the time of one training and what it gives (Table 4, section 5.7)."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any, cast

import numpy as np

from dallme.baselines.lora import LoRABaseline
from dallme.errors import InputError
from dallme.evaluation.evaluate import make_classifiers
from dallme.experiments.runs import Run
from dallme.experiments.workspace import Workspace

#: The methods that train on all texts.
FULL = ("full", "lora")


def run(cell: Run, workspace: Workspace) -> dict[str, Any]:
    """Trains once; the time is that of training alone, neither of choosing texts nor of loading the model nor of testing.

    Nothing is taken from the results that are kept: a time is only worth something beside others of the same machine.
    """
    from dallme.classifiers.transformer import FittedPretrained, PretrainedClassifier

    method, argument = str(cell["method"]).partition(":")[::2]
    classifier = make_classifiers([cell["classifier"]])[str(cell["classifier"])]
    if not isinstance(classifier, PretrainedClassifier):
        raise InputError(
            f"expected a pretrained transformer to time the training of, found {cell['classifier']!r}"
        )
    source, test, plan = workspace.texts(cell)[0], workspace.test_set(cell), cell.grid.plan()
    texts = source if method in FULL else workspace.sets(cell).texts[0]
    made = plan.capped(plan.prepare(classifier), len(texts), full=method in FULL).with_label_names(
        source.label_names
    )
    if method == "lora":
        made = LoRABaseline(argument or LoRABaseline.size_of_adapters).trainer(made, source, {})
    classifier = cast(PretrainedClassifier, made)
    two = np.unique(source.labels, return_index=True)[1]
    replace(classifier, steps=1).fit(
        [source.texts[row] for row in two], source.labels[two], seed=0
    )  # loads what is to be loaded
    started = time.perf_counter()
    fitted = cast(FittedPretrained, classifier.fit(texts.texts, texts.labels, seed=cell.grid.seed))
    seconds = time.perf_counter() - started
    return {
        "accuracy": float(np.mean(fitted.predict(test.texts) == test.labels)),
        "seconds": round(seconds, 2),
        "texts": len(texts),
        "steps": classifier.total_steps(len(texts)),
        "learning_rate": classifier.learning_rate,
        "trained_share": round(fitted.trained_share, 5),
        "lora_rank": classifier.lora_rank,
        "runs": 1,
    }
