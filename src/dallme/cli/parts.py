"""``dallme list``: what there is, what is installed, what each needs."""

from __future__ import annotations

from typing import Annotated

import typer

from dallme import registry
from dallme.cli import options
from dallme.cli.output import print_json, print_table
from dallme.errors import UnknownNameError


def list_parts(
    role: Annotated[str | None, typer.Argument(metavar="[ROLE]", help=f"One of: {', '.join(registry.ROLES)}.")] = None,
    json: options.Json = False,
) -> None:
    """List the embedders, condensers, decoders, classifiers and baselines.

    Example: dallme list decoders
    """
    if role is not None and role not in registry.ROLES:
        raise UnknownNameError("role", role, registry.ROLES)
    parts = [part for part in registry.PARTS if role in (None, part.role)]
    if json:
        rows = [
            {
                "role": part.role,
                "name": part.name,
                "aliases": list(part.aliases),
                "installed": not part.missing,
                "needs": f"dallme[{part.extra}]" if part.extra else None,
                "summary": part.summary,
            }
            for part in parts
        ]
        print_json({"parts": rows})
        return
    body = [[part.role, ", ".join((part.name, *part.aliases)), _state(part), part.summary] for part in parts]
    print_table(["role", "name", "installed", "what it is"], body)


def _state(part: registry.Part) -> str:
    return f"no: pip install 'dallme[{part.extra}]'" if part.missing else "yes"
