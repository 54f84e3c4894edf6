"""``dallme doctor``: what is installed, and what to install for the rest."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from dallme.cli import options
from dallme.cli.output import print_json, print_table


def doctor(
    network: Annotated[bool, typer.Option("--network", help="Ask the Hugging Face Hub whether it can be reached.")] = False,
    store: options.Store = None,
    json: options.Json = False,
) -> None:
    """Tell what is installed, which device is used and which models are found where; status 1 if the default job cannot run.

    Example: dallme doctor --json
    """
    from dallme.doctor import examine

    found = examine(options.store_folder(store), network=network)
    broken = [finding for finding in found if finding.needed and not finding.fine]
    if json:
        print_json({"findings": [asdict(finding) for finding in found], "fine": not broken})
    else:
        body = [
            [finding.kind, finding.name, finding.state + (f"; run: {finding.hint}" if finding.hint else "")] for finding in found
        ]
        print_table(["", "what", "found"], body)
    if broken:
        raise typer.Exit(1)
