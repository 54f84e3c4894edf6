"""``dallme list``: lists the parts, whether they are installed, and what they need."""

from __future__ import annotations

from typing import Annotated

import typer

from dallme import registry
from dallme.cli import options
from dallme.cli.output import print_json, print_table
from dallme.errors import UnknownNameError

#: The roles of parts, and the experiments of ``dallme reproduce``.
KINDS = (*registry.ROLES, "experiments")


def list_parts(
    role: Annotated[
        str | None,
        typer.Argument(
            metavar="[ROLE]", help=f"One of: {', '.join(KINDS)}.", autocompletion=options.words(*KINDS)
        ),
    ] = None,
    json: options.Json = False,
) -> None:
    """List the embedders, condensers, decoders, classifiers, baselines and experiments.

    Example: dallme list decoders
    """
    if role is not None and role not in KINDS:
        raise UnknownNameError("role", role, KINDS)
    if role == "experiments":
        _list_experiments(json=json)
        return
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


def _list_experiments(*, json: bool) -> None:
    """Prints the tables and figures of the paper that can be reproduced."""
    from dallme.experiments import experiment_names, load_experiment

    experiments = [load_experiment(name) for name in experiment_names()]
    if json:
        print_json(
            {
                "experiments": [
                    {"name": each.name, "title": each.title, "place": each.place} for each in experiments
                ]
            }
        )
        return
    print_table(
        ["name", "in the paper", "what it shows"],
        [[each.name, each.place, each.title] for each in experiments],
    )


def _state(part: registry.Part) -> str:
    return f"no: pip install 'dallme[{part.extra}]'" if part.missing else "yes"
