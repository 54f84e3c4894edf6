"""``dallme report``: the page that shows a distilled set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dallme.cli import options
from dallme.cli.output import make_progress, print_json, print_notes
from dallme.errors import InputError, OutputError

if TYPE_CHECKING:
    from dallme.auditing.inputs import AuditInput
    from dallme.dataset import DistilledDataset
    from dallme.progress import Progress


def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that distill wrote.")],
    source: Annotated[
        str | None,
        typer.Option(
            "--source", help="The data that it was distilled from: adds the map and the nearest real texts."
        ),
    ] = None,
    text_column: options.TextColumn = None,
    label_column: options.LabelColumn = None,
    id_column: options.IdColumn = None,
    drop_bad_rows: options.DropBadRows = False,
    embedder: Annotated[
        str | None, typer.Option("--embedder", help="In place of the one that the set was made with.")
    ] = None,
    store: options.Store = None,
    output: Annotated[
        Path | None, typer.Option("--output", help="File to write, .html; by default DIR/report.html.")
    ] = None,
    points: Annotated[int, typer.Option("--points", help="Most source rows that the map shows.")] = 25_000,
    json: options.Json = False,
) -> None:
    """Show a distilled set as one HTML page that needs no network.

    Example: dallme report distilled --source reviews.csv
    """
    from dallme.atomic import write_output
    from dallme.dataset import DistilledDataset
    from dallme.dataset.card import check_audit, parse_audit
    from dallme.dataset.distilled import AUDIT, REPORT
    from dallme.dataset.folder import add
    from dallme.report.page import render
    from dallme.validation import check_positive

    check_positive(points, "--points")
    (distilled, files), file = DistilledDataset.read(folder), output or folder / REPORT
    _check(file)
    audit = parse_audit(files[AUDIT]) if AUDIT in files else None
    if audit is not None:
        check_audit(audit, distilled)
    progress = make_progress()
    columns: dict[str, Any] = {
        "text_column": text_column,
        "label_column": label_column,
        "id_column": id_column,
    }
    evidence = None
    if source is not None:
        evidence = _gather(
            distilled, source, columns | {"drop_bad_rows": drop_bad_rows}, embedder, store, progress
        )
    page = render(distilled, evidence=evidence, audit=audit, points=points, progress=progress).encode()
    try:
        if file == folder / REPORT:
            add(folder, REPORT, page)
        else:
            write_output(file, page)
    except OSError as error:
        raise OutputError(
            f"expected to write {str(file)!r}, could not: {error.strerror or error}; nothing was written"
        ) from error
    notes = _missing(evidence)
    print_notes(notes)
    if json:
        print_json({"output": str(file), "bytes": len(page), "texts": len(distilled), "notes": notes})
    else:
        print(f"{len(distilled):,} texts in {file} ({len(page) / 1e6:.1f} MB)")


def _missing(evidence: AuditInput | None) -> list[str]:
    """What the page could have had."""
    if evidence is None:
        return [
            "no map and no nearest real texts without the data it was distilled from; name them with --source"
        ]
    if evidence.vectors is None:
        return ["no map, as the set was made of ready vectors; name an embedder with --embedder"]
    return []


def _check(file: Path) -> None:
    """Finds what is wrong with where to write, before any work."""
    if file.suffix.lower() not in (".html", ".htm"):
        raise InputError(
            f"expected a file name that ends in .html, found {file.name!r}; choose another --output"
        )
    if file.is_dir() or not file.parent.is_dir():
        found = "a folder" if file.is_dir() else f"no folder at {str(file.parent)!r}"
        raise OutputError(
            f"expected a file to write to in a folder that is there, found {found}; choose another --output"
        )


def _gather(
    distilled: DistilledDataset,
    source: str,
    columns: dict[str, Any],
    embedder: str | None,
    store: Path | None,
    progress: Progress,
) -> AuditInput:
    """Reads the source and embeds what the store does not hold."""
    from dallme.auditing.inputs import gather
    from dallme.readers import read

    texts = read(source, **columns)
    print_notes(texts.notes)
    return gather(distilled, texts, embedder=embedder, store=options.store_folder(store), progress=progress)
