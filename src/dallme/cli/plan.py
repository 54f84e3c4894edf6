"""``dallme plan``: what embedding a source would take, before anything is paid for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from dallme.cli import options
from dallme.cli.output import print_json, print_notes

if TYPE_CHECKING:
    from dallme.planning import Plan


def plan(
    source: options.Source,
    text_column: options.TextColumn = None,
    label_column: options.LabelColumn = None,
    drop_bad_rows: options.DropBadRows = False,
    embedder: options.Embedder = "all-MiniLM-L6-v2",
    base_url: options.BaseUrl = None,
    dimensions: options.Dimensions = None,
    price: options.PriceUsd = None,
    unknown_words: options.UnknownWords = None,
    prompt: options.Prompt = None,
    rows: Annotated[int | None, typer.Option("--rows", help="Plan for so many rows like those of SOURCE.")] = None,
    store: options.Store = None,
    json: options.Json = False,
) -> None:
    """Say what embedding SOURCE would take: texts, tokens, requests, price, time, disk. No service is called.

    Example: dallme plan reviews.csv --embedder openai:text-embedding-3-large
    """
    from dallme.embedders.resolve import resolve
    from dallme.planning import make_plan
    from dallme.readers import read
    from dallme.store import EmbeddingStore

    model = resolve(
        options.configure_embedder(embedder, base_url=base_url, dimensions=dimensions, price=price, unknown_words=unknown_words)
    )
    texts = read(source, text_column=text_column, label_column=label_column, drop_bad_rows=drop_bad_rows, labelled=False)
    found = make_plan(model, texts.texts, prompt=prompt, store=EmbeddingStore(options.store_folder(store)))
    if rows is not None:
        found = found.for_rows(rows)
    print_notes([*texts.notes, *found.notes])
    if json:
        print_json(found.as_dict())
    else:
        _show(found)


def _show(plan: Plan) -> None:
    limit = "all tokens are read" if plan.token_limit is None else f"longer than {plan.token_limit:,} tokens"
    lines = [
        ("embedder", plan.embedder, ""),
        ("rows", f"{plan.rows:,}", ""),
        ("distinct texts", f"{plan.distinct:,}", ""),
        ("in the store", f"{plan.stored:,}", ""),
        ("to embed", f"{plan.to_embed:,}", ""),
        ("tokens", f"{plan.tokens:,}", plan.tokens_are),
        ("texts cut", f"{plan.cut:,}", limit),
        *([("requests", f"{plan.requests:,}", "")] if plan.requests is not None else []),
        ("price", _money(plan.price_usd), plan.price_is),
        ("time", "not known" if plan.seconds is None else f"about {_duration(plan.seconds)}", plan.seconds_are),
        ("disk", "not known" if plan.disk_bytes is None else f"{plan.disk_bytes / 1e6:,.1f} MB", ""),
    ]
    for name, value, how in lines:
        print(f"{name:<15} {value}{f' ({how})' if how else ''}")


def _money(usd: float | None) -> str:
    if usd is None:
        return "not known"
    return f"${usd:,.2f}" if usd >= 0.1 or usd == 0 else f"${usd:.4f}"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
