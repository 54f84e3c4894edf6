"""Computation of a run, with one function per kind of run."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, cast

import numpy as np

from dallme.baselines.lora import LoRABaseline
from dallme.data import LabelledTexts
from dallme.embedders.base import count_words
from dallme.embedders.cost import make_plan
from dallme.errors import InputError
from dallme.evaluation.compare import check_methods, compare, model_baselines
from dallme.evaluation.evaluate import Score, check_plan, evaluate_method, make_classifiers
from dallme.experiments import TOKENS
from dallme.experiments.runs import Run
from dallme.experiments.workspace import Workspace

#: Test texts that an inverter is measured on.
INVERTED_TEXTS = 200

#: Methods that train on all texts.
FULL = ("full", "lora")


def compute(run: Run, workspace: Workspace) -> dict[str, Any]:
    """Computes a run.

    Returns:
        Measures by name, as JSON; the deviation of a measure has the suffix ``_std``.

    Raises:
        DallmeError: If data or parts of the run cannot be used.
    """
    return COMPUTE[run.kind](run, workspace)


def compute_accuracy(run: Run, workspace: Workspace) -> dict[str, Any]:
    """Measures classifiers trained on a method's texts (Table 1, section 5.1).

    A decoder's result also says how close its texts are to their prototypes.
    """
    method, name = str(run["method"]), str(run["classifier"])
    protocol, test, source = run.grid.plan(), workspace.test_set(run), workspace.texts(run)[0]
    classifiers = make_classifiers([name], workspace.distiller(run).cached_embedder)
    check_plan(protocol, classifiers, has_full=True)
    results = workspace.results
    if method not in run.grid.candidates:
        check_methods([method], classifiers)
        if model_baselines([method], classifiers):
            distiller, distillation = workspace.distil(run)
            table = compare(
                distiller, distillation, test, [method], classifiers, protocol=protocol, results=results
            )
            return _score_measures(table.methods[0].scores[0], table.methods[0].texts)
    sets = workspace.sets(run)
    (label, classifier), *_ = classifiers.items()
    options: dict[str, Any] = {"seed": run.grid.seed, "results": results, "full": method == "full"}
    score = evaluate_method(classifier, label, sets.texts, test, source, protocol, **options)
    tokens = {TOKENS: mean_tokens(sets.texts[0].texts)}
    return _score_measures(score, len(sets.texts[0])) | tokens | dict(sets.nearness)


def mean_tokens(texts: Sequence[str]) -> float:
    """Returns the mean number of words and punctuation marks of texts, which no model has to count."""
    return round(float(count_words(texts).mean()), 1)


def _score_measures(score: Score, texts: int) -> dict[str, Any]:
    values = score.as_dict()
    return {
        "accuracy": values["accuracy_mean"],
        "accuracy_std": values["accuracy_std"],
        "accuracies": list(score.accuracies),
        "macro_f1": values["macro_f1_mean"],
        "macro_f1_std": float(np.std(score.macro_f1s, ddof=1)) if values["runs"] > 1 else 0.0,
        "texts": texts,
        **{name: values[name] for name in ("runs", "seconds", "learning_rate", "steps", "tuned")},
    }


def compute_probe(run: Run, workspace: Workspace) -> dict[str, Any]:
    """Measures a linear classifier on the vectors of the full data (Table 2, section 5.3)."""
    from dallme.evaluation.probe import probe

    embedder = workspace.embedder(run["embedder"])
    source, test = workspace.texts(run)[0], workspace.test_set(run)
    embed = workspace.cached(embedder, run["prompt"] or None).embed
    values = probe(run["embedder"], embed, source, test, seed=run.grid.seed).as_dict()
    names = ("accuracy", "macro_f1", "dimension", "train_seconds")
    return {"runs": 1, "max_tokens": embedder.token_limit} | {name: values[name] for name in names}


def compute_cost(run: Run, workspace: Workspace) -> dict[str, Any]:
    """Counts the tokens and the price of embedding the source with a service (section 5.8); sends nothing."""
    texts, prompt = workspace.texts(run)[0].texts, run["prompt"] or None
    plan = make_plan(workspace.embedder(run["embedder"]), texts, prompt=prompt)
    if run.grid.corpus_rows:
        plan = plan.for_rows(run.grid.corpus_rows)
    return {
        "texts": plan.rows,
        "tokens": plan.tokens,
        "price_usd": plan.price_usd,
        "price_is": plan.price_is,
        "runs": 1,
    }


def compute_inverter(run: Run, workspace: Workspace) -> dict[str, Any]:
    """Measures an inverter on test texts, and the texts that it distils (Figure 3, section 5.6)."""
    accuracy = compute_accuracy(run, workspace)
    folder = str(workspace.distiller(run).decoder).partition(":")[2]
    steps = int(run.grid.decoder_options.get("steps", 5))
    return accuracy | _measure_inverter(folder, workspace, run["embedder"], workspace.test_set(run), steps)


@lru_cache(maxsize=4)
def _measure_inverter(
    folder: str, workspace: Workspace, embedder: str, test: LabelledTexts, steps: int
) -> dict[str, Any]:
    from dallme.decoders.vec2text.evaluation import check_inverter, cut_corpus
    from dallme.decoders.vec2text.inverter import Inverter, find_inverter

    inverter = Inverter.load(find_inverter(folder), embedder=workspace.embedder(embedder))
    rows = np.sort(np.random.default_rng(0).permutation(len(test))[:INVERTED_TEXTS])
    embed = workspace.cached(inverter.embedder, inverter.config.prompt).embed
    corpus = cut_corpus(inverter, [test.texts[row] for row in rows], embed)
    (check,) = check_inverter(inverter, corpus, steps=[steps], beams=[1], seed=0, progress=workspace.progress)
    measures = check.measures
    return {"bleu": measures.bleu, "token_f1": measures.token_f1, "cosine": measures.cosine}


def compute_training(run: Run, workspace: Workspace) -> dict[str, Any]:
    """Times one training on all texts, on all with adapters, or on few texts (Table 4, section 5.7).

    The time excludes the choice of texts, the loading of the model, and the test. Stored results of trainings
    are not used: seconds compare only within one machine.
    """
    from dallme.classifiers.transformer import FittedPretrained, PretrainedClassifier

    argument = str(run["method"]).partition(":")[2]
    chosen = make_classifiers([run["classifier"]])[str(run["classifier"])]
    if not isinstance(chosen, PretrainedClassifier):
        raise InputError(
            f"expected a pretrained transformer to time the training of, found {run['classifier']!r}"
        )
    source, test, protocol = workspace.texts(run)[0], workspace.test_set(run), run.grid.plan()
    full = run.part in FULL
    texts = source if full else workspace.sets(run).texts[0]
    capped = protocol.capped(protocol.prepare(chosen), len(texts), full=full)
    prepared = capped.with_label_names(source.label_names)
    if run.part == "lora":
        trainer = LoRABaseline(argument or LoRABaseline.size_of_adapters).trainer
        prepared = trainer(prepared, source, {})
    classifier = cast(PretrainedClassifier, prepared)
    # One step on a row of each class loads the model before the clock starts.
    first = np.unique(source.labels, return_index=True)[1]
    replace(classifier, steps=1).fit([source.texts[row] for row in first], source.labels[first], seed=0)
    started = time.perf_counter()
    fitted = cast(FittedPretrained, classifier.fit(texts.texts, texts.labels, seed=run.grid.seed))
    seconds = time.perf_counter() - started
    return {
        "accuracy": float(np.mean(fitted.predict(test.texts) == test.labels)),
        "seconds": round(seconds, 2),
        "texts": len(texts),
        TOKENS: mean_tokens(texts.texts),
        "steps": classifier.total_steps(len(texts)),
        "learning_rate": classifier.learning_rate,
        "trained_share": round(fitted.trained_share, 5),
        "lora_rank": classifier.lora_rank,
        "runs": 1,
    }


#: Function of each kind of run.
COMPUTE: dict[str, Callable[[Run, Workspace], dict[str, Any]]] = {
    "accuracy": compute_accuracy,
    "probe": compute_probe,
    "cost": compute_cost,
    "inverter": compute_inverter,
    "training": compute_training,
}
