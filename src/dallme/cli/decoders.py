"""Options of decoders that several verbs share."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dallme import registry
from dallme.cli import options
from dallme.errors import InputError

if TYPE_CHECKING:
    from dallme.embedders.base import Embedder

DecoderSteps = Annotated[int | None, typer.Option("--decoder-steps", help="vec2text: correction steps, 5 by default.")]
Beam = Annotated[int | None, typer.Option("--beam", help="vec2text, search: texts held for each prototype, 4 by default.")]
Start = Annotated[
    str | None, typer.Option("--start", help="vec2text: what is corrected: nearest (real text, the default) or hypothesis.")
]
Align = Annotated[
    bool, typer.Option("--align", help="vec2text: map the vectors into the inverter's space, if it is of another embedder.")
]
Drafts = Annotated[
    int | None, typer.Option("--drafts", help="llm: texts written for each prototype, of which one is kept; 4 by default.")
]
Examples = Annotated[int | None, typer.Option("--examples", help="llm: rows that the model is shown, 4 by default.")]
Temperature = Annotated[float | None, typer.Option("--temperature", help="llm, search: how freely the model writes.")]
MaxCopiedSpan = Annotated[
    int | None,
    typer.Option("--max-copied-span", help="llm, search: most words in a row that a text may share with one source row."),
]
Language = Annotated[
    str | None, typer.Option("--language", help="ISO 639-1 code of the texts, for finding the ends of sentences; en by default.")
]
OutputPrice = Annotated[
    float | None,
    typer.Option("--output-price", help="llm: US dollars per million tokens written, beside --price."),
]


def configure_decoder(
    name: str,
    *,
    steps: int | None = None,
    beam: int | None = None,
    start: str | None = None,
    align: bool = False,
    drafts: int | None = None,
    examples: int | None = None,
    temperature: float | None = None,
    max_copied_span: int | None = None,
    output_price: float | None = None,
    language: str | None = None,
) -> dict[str, Any]:
    """The options that were given, as the decoder's own.

    Args:
        name: ``NAME`` or ``NAME:ARGUMENT``.
        steps: ``--decoder-steps``.
        beam: ``--beam``.
        start: ``--start``.
        align: ``--align``.
        drafts: ``--drafts``.
        examples: ``--examples``.
        temperature: ``--temperature``.
        max_copied_span: ``--max-copied-span``.
        output_price: ``--output-price``.
        language: ``--language``.

    Raises:
        InputError: If the decoder has no such option.
    """
    found = {
        "--decoder-steps": ("steps", steps),
        "--beam": ("beam", beam),
        "--start": ("start", start),
        "--align": ("align", align or None),
        "--drafts": ("drafts", drafts),
        "--examples": ("examples", examples),
        "--temperature": ("temperature", temperature),
        "--max-copied-span": ("max_copied_span", max_copied_span),
        "--output-price": ("output_price", output_price),
        "--language": ("language", language),
    }
    given = {option: field for option, field in found.items() if field[1] is not None}
    if not given:
        return {}
    takes = decoder_takes(name)
    for option, (field, _) in given.items():
        if field not in takes:
            raise InputError(f"expected no {option} with the decoder {name!r}, which has no such option")
    return dict(given.values())


def decoder_takes(name: str) -> set[str]:
    """The names of the options of a decoder."""
    part, _ = registry.split("decoders", name)
    return {field.name for field in fields(part.load())}


def configure(
    embedder: str, decoder: str, options_given: dict[str, Any], services: dict[str, Any]
) -> tuple[str | Embedder, dict[str, Any]]:
    """The embedder and the options of the decoder; those of a service go to whichever of the two asks one, or to both.

    Args:
        embedder: The embedder, as it was named.
        decoder: The decoder, as it was named.
        options_given: As :func:`configure_decoder` takes them.
        services: ``base_url``, ``dimensions``, ``budget_usd``, ``price`` and ``unknown_words``, None for those not given.

    Returns:
        The embedder, and all options of the decoder.

    Raises:
        InputError: If neither has such an option, or if one amount of money is given for two services.
    """
    own = configure_decoder(decoder, **options_given)
    shared = {name: services[name] for name in ("base_url", "budget_usd", "price") if services[name] is not None}
    if not shared or "base_url" not in decoder_takes(decoder):
        return options.configure_embedder(embedder, **services), own
    both = "base_url" in options.embedder_takes(embedder)
    if both and set(shared) - {"base_url"}:
        raise InputError(
            f"expected --budget-usd and --price for one service, found two, {embedder!r} and {decoder!r}; embed first, with "
            "dallme embed and a budget of its own, then distil from the store; prices of several models go into the file that "
            "DALLME_PRICES names"
        )
    left = {name: services[name] for name in ("dimensions", "unknown_words")} | (
        {"base_url": services["base_url"]} if both else {}
    )
    names = {"budget_usd": "max_usd"}
    return options.configure_embedder(embedder, **left), own | {names.get(name, name): value for name, value in shared.items()}
