"""``dallme evaluate``: what a set of texts is worth."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from dallme.cli import options
from dallme.cli.distill import DEFAULT_CLASSIFIERS
from dallme.cli.output import make_progress, print_json, print_notes, print_table


def evaluate(
    source: Annotated[
        str,
        typer.Argument(
            metavar="DIR_OR_SOURCE", help="A folder that distill wrote, or any source of labelled texts."
        ),
    ],
    test: options.Test,
    full: Annotated[
        str | None, typer.Option("--full", help="The full data: says how much of its accuracy is recovered.")
    ] = None,
    classifiers: options.Classifiers = DEFAULT_CLASSIFIERS,
    protocol: options.Protocol = None,
    runs: options.Sets = None,
    models: options.Models = None,
    learning_rate: options.LearningRate = None,
    epochs: options.Epochs = None,
    steps: options.Steps = None,
    batch_size: options.BatchSize = None,
    full_runs: options.FullRuns = None,
    full_steps: options.FullSteps = None,
    no_cache: options.NoCache = False,
    text_column: options.TextColumn = None,
    label_column: options.LabelColumn = None,
    drop_bad_rows: options.DropBadRows = False,
    embedder: options.Embedder = "all-MiniLM-L6-v2",
    base_url: options.BaseUrl = None,
    dimensions: options.Dimensions = None,
    budget_usd: options.BudgetUsd = None,
    price: options.PriceUsd = None,
    unknown_words: options.UnknownWords = None,
    prompt: options.Prompt = None,
    seed: options.Seed = 0,
    store: options.Store = None,
    json: options.Json = False,
) -> None:
    """Train classifiers on a few texts and test them on real data.

    Example: dallme evaluate distilled --test reviews-test.csv --full reviews.csv
    """
    from dallme.dataset import DistilledDataset
    from dallme.dataset.folder import is_distilled
    from dallme.embedders.cache import CachedEmbedder
    from dallme.evaluation import evaluate as judging
    from dallme.evaluation.evaluate import make_classifiers, overlap_note
    from dallme.readers import read

    plan = options.make_protocol(
        protocol,
        runs=runs,
        models=models,
        learning_rate=learning_rate,
        epochs=epochs,
        steps=steps,
        batch_size=batch_size,
        full_runs=full_runs,
        full_steps=full_steps,
    )
    progress = make_progress()
    model = options.configure_embedder(
        embedder,
        base_url=base_url,
        dimensions=dimensions,
        budget_usd=budget_usd,
        price=price,
        unknown_words=unknown_words,
    )
    cached = CachedEmbedder(model, prompt, options.store_folder(store), progress)
    judges = make_classifiers(options.split_names(classifiers), cached)
    judging.check_plan(plan, judges, has_full=full is not None)
    columns: dict[str, Any] = {"text_column": text_column, "label_column": label_column}
    # A folder of ours has columns of its own names; the user's names are for the user's data.
    distilled = is_distilled(Path(source))
    texts = (
        DistilledDataset.load(source).to_labelled_texts()
        if distilled
        else read(source, drop_bad_rows=drop_bad_rows, **columns)
    )
    held_out = read(test, **columns, drop_bad_rows=drop_bad_rows, like=texts)
    everything = read(full, **columns, drop_bad_rows=drop_bad_rows, like=texts) if full else None
    notes = [
        *texts.notes,
        *held_out.notes,
        *(everything.notes if everything else ()),
        *overlap_note(texts, held_out),
    ]
    kept = options.result_store(store, progress, no_cache=no_cache)
    scores = judging.evaluate(
        texts, held_out, judges, full=everything, seed=seed, progress=progress, protocol=plan, results=kept
    )
    results = [score.as_dict() for score in scores]
    print_notes(notes)
    if json:
        rows = {"train_rows": len(texts), "test_rows": len(held_out)}
        print_json({"results": results, **rows, "notes": notes, "protocol": plan.as_dict()})
        return
    print(f"{len(texts):,} texts, tested on {len(held_out):,} rows")
    _show(results)


def _show(results: list[dict[str, Any]]) -> None:
    head = ["classifier", "accuracy", "macro-F1", "full data", "recovered"]
    shown = [
        [
            result["classifier"],
            f"{result['accuracy_mean']:.3f} ± {result['accuracy_std']:.3f}",
            f"{result['macro_f1_mean']:.3f}",
            "" if result["full_accuracy"] is None else f"{result['full_accuracy']:.3f}",
            "" if result["recovered"] is None else f"{result['recovered']:.0%}",
        ]
        for result in results
    ]
    print_table(head, shown)
