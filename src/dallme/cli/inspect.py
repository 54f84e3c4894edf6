"""``dallme inspect``: describes a source before it is distilled."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Annotated

import typer

from dallme.cli import options
from dallme.cli.groups import DataWithIds, grouped
from dallme.cli.output import duration, print_json, print_notes, print_table, show

if TYPE_CHECKING:
    from dallme.inspection import Inspection

#: Classes that are listed.
_CLASSES = 20


@grouped
def inspect(
    source: options.Source,
    data: DataWithIds,
    embedder: Annotated[
        str,
        options.option(
            "--embedder",
            "Embedder whose time is measured on a sample, or none.",
            options.EMBEDDER,
            autocompletion=options.parts("embedders"),
        ),
    ] = "all-MiniLM-L6-v2",
    json: options.Json = False,
) -> None:
    """Describe SOURCE: columns, classes, lengths, repetitions, personal data. Status 1 if it needs a change.

    Example: dallme inspect reviews.csv
    """
    from dallme.inspection import inspect as inspect_source

    found = inspect_source(source, **data.arguments(), embedder=None if embedder == "none" else embedder)
    if json:
        print_json(found.as_dict())
    else:
        print_notes(found.notes)
        _show(found)
        if not found.problem:
            few = min(10, *(found.classes or {"": 10}).values())
            budget = ["--per-class", str(few), "--output", "distilled"]
            show("\nnext: " + shlex.join(["dallme", "distill", source, *budget, *data.flags()]))
    if found.problem:
        raise typer.Exit(1)


def _show(found: Inspection) -> None:
    show(f"{found.source}: {found.rows:,} rows, {found.usable:,} of them usable\n")
    body = [
        [
            column.name,
            column.kind,
            f"{column.filled:,}",
            f"{column.distinct:,}",
            f"{column.use} ({column.reason})" if column.use else "",
        ]
        for column in found.columns
    ]
    print_table(["column", "kind", "filled", "distinct", "use"], body)
    if found.classes:
        show()
        classes = sorted(found.classes.items(), key=lambda pair: -pair[1])
        print_table(["class", "rows"], [[name, f"{count:,}"] for name, count in classes[:_CLASSES]])
        if len(classes) > _CLASSES:
            show(f"and {len(classes) - _CLASSES:,} more classes")
        show()
        for name, value in _findings(found):
            show(f"{name:<14} {value}")
    if found.problem:
        show(f"\nneeds a change: {found.problem}")
        if found.suggestion:
            show(f"suggestion: {found.suggestion}")


def _findings(found: Inspection) -> list[tuple[str, str]]:
    from dallme.personal import describe_kinds

    lengths = found.words or {}
    searched = "" if found.searched == found.usable else f" of {found.searched:,} searched"
    personal = (
        f"{describe_kinds(found.personal)} in {found.personal_texts:,} texts{searched}"
        if found.personal
        else f"none found in {found.searched:,} texts"
    )
    similar = "; ".join(" = ".join(map(repr, group)) for group in found.similar_labels)
    return [
        (
            "words",
            f"mean {lengths['mean']:.0f}, median {lengths['median']:.0f}, longest {lengths['max']:,.0f}",
        ),
        ("repetitions", f"{found.repeated:,} rows; {found.ambiguous:,} texts with several labels"),
        *([("similar labels", f"{similar} (--normalize-labels merges them)")] if similar else []),
        ("personal data", personal),
        ("time", f"{duration(found.seconds)} ({found.seconds_are})"),
    ]
