"""``dallme store``: lists, verifies, compacts and removes the vectors that are kept."""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dallme.cli import options
from dallme.cli.output import print_json, print_table, show
from dallme.errors import InputError, UnknownNameError

if TYPE_CHECKING:
    from dallme.embedders.cache.upkeep import TableInfo

#: Tasks of the verb, and days of the units of ``--older-than``.
TASKS = ("list", "verify", "compact", "remove")
UNITS = {"h": 1 / 24, "d": 1.0, "w": 7.0}


def store(
    task: Annotated[
        str,
        typer.Argument(
            metavar="TASK", help=f"One of: {', '.join(TASKS)}.", autocompletion=options.words(*TASKS)
        ),
    ] = "list",
    embedder: Annotated[
        str | None,
        options.option(
            "--embedder", "remove: the model whose vectors go, as list shows it.", options.EMBEDDER
        ),
    ] = None,
    older_than: Annotated[
        str | None,
        options.option("--older-than", "remove: vectors not used for that time, as 30d, 12h or 4w."),
    ] = None,
    yes: Annotated[bool, options.option("--yes", "remove: ask nothing.")] = False,
    store: options.Store = None,
    json: options.Json = False,
) -> None:
    """List the stored vectors by model, verify or compact them, or remove those of a model.

    Example: dallme store remove --embedder all-MiniLM-L6-v2 --older-than 30d
    """
    from dallme.embedders.cache import upkeep

    if task not in TASKS:
        raise UnknownNameError("task", task, TASKS)
    if task != "remove" and (embedder or older_than or yes):
        raise InputError(f"expected --embedder, --older-than and --yes with remove, found one with {task!r}")
    folder = options.store_folder(store)
    tables = upkeep.list_tables(folder)
    if task == "verify":
        _verify(folder, tables, json=json)
    elif task == "compact":
        _compact(folder, tables, json=json)
    elif task == "remove":
        _remove(folder, _choose(tables, embedder, older_than), yes=yes, json=json)
    else:
        _list(folder, tables, upkeep.other_bytes(folder, tables), json=json)


def _list(folder: Path, tables: list[TableInfo], others: dict[str, int], *, json: bool) -> None:
    total = sum(info.bytes for info in tables) + sum(others.values())
    if json:
        rows = [info.as_dict() for info in tables]
        print_json({"store": str(folder), "tables": rows, "others": others, "bytes": total})
        return
    body = [
        [*_name(info), f"{info.vectors:,}", str(info.shards), _megabytes(info.bytes), _date(info.last_used)]
        for info in tables
    ]
    body += [[name, "", "", "", _megabytes(size), ""] for name, size in others.items()]
    print_table(["model", "settings", "vectors", "files", "MB", "last use"], body)
    show(f"{_megabytes(total)} MB in {folder}")


def _verify(folder: Path, tables: list[TableInfo], *, json: bool) -> None:
    """Prints the damaged files; the exit status is 1 if there are any."""
    from dallme.embedders.cache.upkeep import verify_table

    damaged = {info.folder: [path.name for path in verify_table(info)] for info in tables}
    count = sum(map(len, damaged.values()))
    if json:
        rows = [{"folder": str(place), "damaged": names} for place, names in damaged.items()]
        print_json({"store": str(folder), "tables": rows, "damaged": count})
    else:
        body = [[*_name(info), str(info.shards), str(len(damaged[info.folder]))] for info in tables]
        print_table(["model", "settings", "files", "damaged"], body)
        if count:
            show("damaged files were set aside; their texts are embedded again when they are needed")
    if count:
        raise typer.Exit(1)


def _compact(folder: Path, tables: list[TableInfo], *, json: bool) -> None:
    from dallme.embedders.cache.upkeep import compact_table

    pairs = [(info, after) for info in tables if (after := compact_table(info)) is not None]
    if json:
        rows = [{"before": info.as_dict(), "after": after.as_dict()} for info, after in pairs]
        print_json({"store": str(folder), "tables": rows})
        return
    body = [
        [
            *_name(info),
            f"{info.shards} → {after.shards}",
            f"{_megabytes(info.bytes)} → {_megabytes(after.bytes)}",
        ]
        for info, after in pairs
    ]
    print_table(["model", "settings", "files", "MB"], body)


def _choose(tables: list[TableInfo], embedder: str | None, older_than: str | None) -> list[TableInfo]:
    """Returns the tables to remove.

    Raises:
        InputError: If nothing is chosen by, or the time has another form.
        UnknownNameError: If no table is of the model.
    """
    if embedder is None and older_than is None:
        raise InputError("expected --embedder or --older-than to choose what is removed, found neither")
    if embedder is not None:
        chosen = [info for info in tables if embedder in _spellings(info)]
        if not chosen:
            names = sorted({info.fingerprint.model for info in tables})
            raise UnknownNameError("model of the store", embedder, names or ["none"])
        tables = chosen
    if older_than is not None:
        match = re.fullmatch(r"(\d{1,6})([hdw])", older_than.strip())
        if match is None:
            raise InputError(f"expected --older-than as 30d, 12h or 4w, found {older_than!r}")
        days = int(match[1]) * UNITS[match[2]]
        tables = [info for info in tables if info.age_days > days]
    return tables


def _remove(folder: Path, tables: list[TableInfo], *, yes: bool, json: bool) -> None:
    """Removes tables after a question; one that a process uses stays."""
    from dallme.embedders.cache.upkeep import remove_table

    if tables and not yes:
        size, vectors = sum(info.bytes for info in tables), sum(info.vectors for info in tables)
        what = f"{vectors:,} vectors of {len(tables)} tables, {_megabytes(size)} MB"
        if json or not sys.stdin.isatty():
            raise InputError(f"expected --yes to remove {what}, found no terminal to ask on")
        typer.confirm(f"Remove {what}?", abort=True, err=True)
    results = [(info, remove_table(info)) for info in tables]
    if json:
        rows = [info.as_dict() | {"removed": removed} for info, removed in results]
        print_json({"store": str(folder), "tables": rows})
        return
    for info, removed in results:
        state = "removed" if removed else "kept, as a process uses it"
        show(
            f"{' '.join(_name(info)).strip()}: {info.vectors:,} vectors, {_megabytes(info.bytes)} MB: {state}"
        )
    if not results:
        show("nothing to remove")


def _spellings(info: TableInfo) -> set[str]:
    """Returns the names of a model: in full, and without its owner."""
    return {info.fingerprint.model, info.fingerprint.model.rpartition("/")[2]}


def _name(info: TableInfo) -> list[str]:
    """Returns the model and the settings that tell its tables apart."""
    settings: dict[str, Any] = {"tokens": info.fingerprint.max_tokens, "prompt": info.fingerprint.prompt}
    shown = [f"{name} {value}" for name, value in settings.items() if value is not None]
    return [info.fingerprint.model, ", ".join([info.fingerprint.precision, *shown])]


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f}"


def _date(seconds: float) -> str:
    return time.strftime("%Y-%m-%d", time.localtime(seconds))
