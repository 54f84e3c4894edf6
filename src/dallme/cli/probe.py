"""``dallme probe``: how much of the classes each embedder's vectors hold."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

import typer

from dallme.cli import options
from dallme.cli import options as completion
from dallme.cli.output import make_progress, print_json, print_notes, print_table


def probe(
    source: options.Source,
    test: options.Test,
    embedder: Annotated[
        str,
        typer.Option(
            "--embedder",
            help="Comma-separated embedders to compare.",
            autocompletion=completion.parts("embedders", several=True),
        ),
    ] = "all-MiniLM-L6-v2",
    base_url: options.BaseUrl = None,
    budget_usd: options.BudgetUsd = None,
    unknown_words: options.UnknownWords = None,
    prompt: options.Prompt = None,
    text_column: options.TextColumn = None,
    label_column: options.LabelColumn = None,
    drop_bad_rows: options.DropBadRows = False,
    seed: options.Seed = 0,
    store: options.Store = None,
    json: options.Json = False,
) -> None:
    """Train a linear classifier on the vectors of SOURCE and test it: a better embedder gives better distilled texts.

    Example: dallme probe reviews.csv --test reviews-test.csv --embedder all-MiniLM-L6-v2,hashing
    """
    from dallme.embedders.cache import EmbeddingStore, embed_with_store
    from dallme.embedders.resolve import resolve
    from dallme.evaluation.probe import probe as probe_vectors
    from dallme.readers import read

    models = {}
    for name in options.split_names(embedder):
        # An option is for those of several embedders that have it.
        configured = options.configure_embedder(
            name,
            base_url=base_url,
            budget_usd=budget_usd,
            unknown_words=unknown_words,
            lenient="," in embedder,
        )
        models[name] = resolve(configured)
    columns: dict[str, Any] = {
        "text_column": text_column,
        "label_column": label_column,
        "drop_bad_rows": drop_bad_rows,
    }
    texts = read(source, **columns)
    held_out = read(test, **columns, like=texts)
    print_notes([*texts.notes, *held_out.notes])
    table, progress = EmbeddingStore(options.store_folder(store)), make_progress()
    results = []
    for name, model in models.items():
        embed = partial(embed_with_store, model, prompt=prompt, store=table, progress=progress)
        results.append(probe_vectors(name, embed, texts, held_out, seed=seed).as_dict())
    if json:
        print_json({"results": results, "train_rows": len(texts), "test_rows": len(held_out)})
        return
    head = ["embedder", "dimension", "accuracy", "macro-F1"]
    body = [
        [row["embedder"], str(row["dimension"]), f"{row['accuracy']:.3f}", f"{row['macro_f1']:.3f}"]
        for row in results
    ]
    print_table(head, body)
