"""Options of decoders that several verbs share."""

from __future__ import annotations

from dataclasses import fields
from typing import Annotated, Any

import typer

from dallme import registry
from dallme.errors import InputError

DecoderSteps = Annotated[int | None, typer.Option("--decoder-steps", help="vec2text: correction steps, 5 by default.")]
Beam = Annotated[int | None, typer.Option("--beam", help="vec2text: texts held for each prototype, 4 by default.")]
Start = Annotated[
    str | None, typer.Option("--start", help="vec2text: what is corrected: nearest (real text, the default) or hypothesis.")
]
Align = Annotated[
    bool, typer.Option("--align", help="vec2text: map the vectors into the inverter's space, if it is of another embedder.")
]


def configure_decoder(
    name: str, *, steps: int | None = None, beam: int | None = None, start: str | None = None, align: bool = False
) -> dict[str, Any]:
    """The options that were given, as the decoder's own.

    Args:
        name: ``NAME`` or ``NAME:ARGUMENT``.
        steps: ``--decoder-steps``.
        beam: ``--beam``.
        start: ``--start``.
        align: ``--align``.

    Raises:
        InputError: If the decoder has no such option.
    """
    found = {
        "--decoder-steps": ("steps", steps),
        "--beam": ("beam", beam),
        "--start": ("start", start),
        "--align": ("align", align or None),
    }
    given = {option: field for option, field in found.items() if field[1] is not None}
    if not given:
        return {}
    part, _ = registry.split("decoders", name)
    takes = {field.name for field in fields(part.load())}
    for option, (field, _) in given.items():
        if field not in takes:
            raise InputError(f"expected no {option} with the decoder {name!r}, which has no such option")
    return dict(given.values())
