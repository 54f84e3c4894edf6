"""``dallme evaluate``: measures the accuracy of classifiers trained on a set of texts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from dallme.cli import options
from dallme.cli.groups import DataOptions, EmbedderOptions, ProtocolOptions, grouped
from dallme.cli.output import make_progress, print_json, print_notes, print_table, show


@grouped
def evaluate(
    source: Annotated[
        str,
        typer.Argument(
            metavar="DIR_OR_SOURCE", help="A folder that distill wrote, or any source of labelled texts."
        ),
    ],
    test: options.Test,
    data: DataOptions,
    parts: EmbedderOptions,
    training: ProtocolOptions,
    full: Annotated[
        str | None,
        options.option(
            "--full", "The full data: adds the share of its accuracy that is recovered.", options.DATA
        ),
    ] = None,
    seed: options.Seed = 0,
    json: options.Json = False,
) -> None:
    """Train classifiers on a few texts and test them on real data.

    Example: dallme evaluate distilled --test reviews-test.csv --full reviews.csv
    """
    from dallme.data import check_soft_labels
    from dallme.dataset import DistilledDataset
    from dallme.embedders.cache import CachedEmbedder
    from dallme.evaluation import evaluate as evaluation
    from dallme.files.folders import is_distilled

    protocol, progress = training.plan(), make_progress()
    store = options.writable_store(parts.store)
    embedder = CachedEmbedder(parts.configured("classifier"), parts.prompt, store, progress)
    classifiers = evaluation.make_classifiers(
        training.names, embedder, parts.classifier_options(training.names)
    )
    if "embedding-lr" in classifiers:
        parts.check_key()
    evaluation.check_plan(protocol, classifiers, has_full=full is not None)
    # A distilled folder has column names of its own; the user's names are for the user's data.
    if is_distilled(Path(source)):
        texts = DistilledDataset.load(source).to_labelled_texts(soft_labels=training.soft_labels)
    else:
        texts = data.read(source)
        texts = check_soft_labels(texts) if training.soft_labels else texts
    held_out = data.read(test, like=texts)
    full_data = data.read(full, like=texts) if full else None
    notes = [
        *texts.notes,
        *held_out.notes,
        *(full_data.notes if full_data else ()),
        *evaluation.overlap_note(texts, held_out),
    ]
    scores = evaluation.evaluate(
        texts,
        held_out,
        classifiers,
        full=full_data,
        seed=seed,
        progress=progress,
        protocol=protocol,
        results=options.result_store(parts.store, progress, no_cache=training.no_cache),
    )
    notes += evaluation.chance_notes(scores, held_out)
    results = [score.as_dict() for score in scores]
    print_notes(notes)
    if json:
        rows = {"train_rows": len(texts), "test_rows": len(held_out)}
        print_json({"results": results, **rows, "notes": notes, "protocol": protocol.as_dict()})
        return
    show(f"{len(texts):,} texts, tested on {len(held_out):,} rows")
    print_table(
        ["classifier", "accuracy", "macro-F1", "full data", "recovered"], [_cells(each) for each in results]
    )


def _cells(result: dict[str, Any]) -> list[str]:
    return [
        result["classifier"],
        f"{result['accuracy_mean']:.3f} ± {result['accuracy_std']:.3f}",
        f"{result['macro_f1_mean']:.3f}",
        "" if result["full_accuracy"] is None else f"{result['full_accuracy']:.3f}",
        "" if result["recovered"] is None else f"{result['recovered']:.0%}",
    ]
