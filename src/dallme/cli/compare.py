"""``dallme compare``: the honest table."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from dallme.cli import options
from dallme.cli.distill import DEFAULT_CLASSIFIERS, show_comparison
from dallme.cli.output import print_json, print_notes
from dallme.cli.progress import make_progress


def compare(
    source: options.Source,
    test: options.Test,
    per_class: options.PerClass = None,
    ratio: options.Ratio = None,
    total: options.Total = None,
    allocation: options.Allocation = "equal",
    methods: Annotated[
        str | None,
        typer.Option("--methods", help="Comma-separated baselines and decoders; by default random,nearest,DECODER,full."),
    ] = None,
    classifiers: options.Classifiers = DEFAULT_CLASSIFIERS,
    runs: options.Runs = 1,
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
    condenser: options.Condenser = "k-centroid",
    decoder: options.Decoder = "extractive",
    max_tokens: options.MaxTokens = 128,
    seed: options.Seed = 0,
    store: options.Store = None,
    json: options.Json = False,
) -> None:
    """Compare ways to fill one budget: random, nearest real texts, the decoder, and the full data beside them.

    Example: dallme compare reviews.csv --test reviews-test.csv --per-class 10
    """
    from dallme.distiller import Distiller
    from dallme.evaluation import compare as comparing
    from dallme.evaluation.protocol import make_classifiers
    from dallme.readers import read

    model = options.configure_embedder(
        embedder, base_url=base_url, dimensions=dimensions, budget_usd=budget_usd, price=price, unknown_words=unknown_words
    )
    distiller = Distiller(
        per_class=per_class,
        ratio=ratio,
        total=total,
        allocation=allocation,
        embedder=model,
        condenser=condenser,
        decoder=decoder,
        prompt=prompt,
        max_tokens=max_tokens,
        seed=seed,
        store=options.store_folder(store),
        progress=make_progress(),
    )
    wanted = comparing.check_methods(options.split_names(methods) if methods else ["random", "nearest", decoder, "full"])
    judges = make_classifiers(options.split_names(classifiers), embed=distiller.embed_texts)
    columns: dict[str, Any] = {"text_column": text_column, "label_column": label_column, "drop_bad_rows": drop_bad_rows}
    texts = read(source, **columns)
    held_out = read(test, **columns, like=texts)
    print_notes([*texts.notes, *held_out.notes])
    found = comparing.compare(distiller, distiller.run(texts), held_out, wanted, judges, runs=runs).as_dict()
    if json:
        print_json(found)
    else:
        show_comparison(found)
