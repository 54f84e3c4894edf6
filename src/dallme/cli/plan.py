"""``dallme plan``: what embedding a source would take, before anything is paid for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from dallme.cli import options
from dallme.cli import options as decoders
from dallme.cli.output import print_json, print_notes

if TYPE_CHECKING:
    from dallme.data import LabelledTexts
    from dallme.decoders.llm import WritingPlan
    from dallme.embedders.cost import Plan

Decoder = Annotated[
    str | None, typer.Option("--decoder", help="llm:MODEL: say what it would take to write the texts, too.")
]


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
    decoder: Decoder = None,
    per_class: options.PerClass = None,
    ratio: options.Ratio = None,
    total: options.Total = None,
    allocation: options.Allocation = "equal",
    drafts: decoders.Drafts = None,
    examples: decoders.Examples = None,
    output_price: decoders.OutputPrice = None,
    max_tokens: options.MaxTokens = 128,
    rows: Annotated[
        int | None, typer.Option("--rows", help="Plan for so many rows like those of SOURCE.")
    ] = None,
    store: options.Store = None,
    json: options.Json = False,
) -> None:
    """Say what embedding SOURCE would take: texts, tokens, requests, price, time, disk. No service is called.

    With --decoder llm:MODEL and a budget of texts it says what writing them would take as well.

    Example: dallme plan reviews.csv --embedder openai:text-embedding-3-large
    """
    from dallme.embedders.cache import EmbeddingStore
    from dallme.embedders.cost import make_plan
    from dallme.embedders.resolve import resolve
    from dallme.readers import read

    services = {
        "base_url": base_url,
        "dimensions": dimensions,
        "budget_usd": None,
        "price": price,
        "unknown_words": unknown_words,
    }
    writing_options = {"drafts": drafts, "examples": examples, "output_price": output_price}
    named, own = decoders.configure(embedder, decoder or "nearest", writing_options, services)
    model = resolve(named)
    columns: dict[str, Any] = {
        "text_column": text_column,
        "label_column": label_column,
        "drop_bad_rows": drop_bad_rows,
    }
    texts = read(source, **columns, labelled=decoder is not None)
    writing = None
    if decoder is not None:
        budget = {"per_class": per_class, "ratio": ratio, "total": total, "allocation": allocation}
        writing = _plan_writing(decoder, own, texts, budget, max_tokens)
    found = make_plan(model, texts.texts, prompt=prompt, store=EmbeddingStore(options.store_folder(store)))
    if rows is not None:
        found = found.for_rows(rows)
    print_notes([*texts.notes, *found.notes])
    if json:
        print_json(found.as_dict() | ({"writing": writing.as_dict()} if writing else {}))
    else:
        _show(found)
        if writing:
            _show_writing(writing)


def _plan_writing(
    decoder: str, own: dict[str, Any], texts: LabelledTexts, budget: dict[str, Any], max_tokens: int
) -> WritingPlan:
    """What writing would take.

    Raises:
        InputError: If the decoder calls no service.
    """
    from dallme import registry
    from dallme.decoders.llm import LLMDecoder, plan_writing
    from dallme.distiller import Distiller
    from dallme.errors import InputError

    made = registry.make("decoders", decoder, **own)
    if not isinstance(made, LLMDecoder):
        raise InputError(
            f"expected a decoder that calls a service, such as llm:MODEL, found {decoder!r}; leave --decoder out"
        )
    return plan_writing(
        made, texts, Distiller(**budget, embedder="hashing", decoder=made).allocate(texts), max_tokens
    )


def _show_writing(plan: WritingPlan) -> None:
    print()
    lines = [
        ("decoder", plan.decoder, ""),
        ("texts", f"{plan.texts:,}", ""),
        (
            "requests",
            f"{plan.requests:,}",
            "one a draft; answers that are kept already are not asked for again",
        ),
        ("tokens read", f"{plan.read:,}", "estimated from randomly drawn rows"),
        ("tokens written", f"{plan.written:,}", "at most"),
        (
            "price",
            _money(plan.price_usd),
            plan.price_is if plan.price_usd is None else f"at most; {plan.price_is}",
        ),
        (
            "time",
            "not known" if plan.seconds is None else f"about {_duration(plan.seconds)}",
            plan.seconds_are,
        ),
    ]
    for name, value, how in lines:
        print(f"{name:<15} {value}{f' ({how})' if how else ''}")


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
        (
            "time",
            "not known" if plan.seconds is None else f"about {_duration(plan.seconds)}",
            plan.seconds_are,
        ),
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
