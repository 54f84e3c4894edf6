"""``dallme report``: shows a distilled set as one page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from dallme.cli import options
from dallme.cli.groups import DataWithIds, grouped
from dallme.cli.output import make_progress, print_json, print_notes, show
from dallme.cli.paths import check_file, write_file
from dallme.errors import InputError

if TYPE_CHECKING:
    from dallme.auditing.inputs import AuditInput


@grouped
def report(
    folder: options.Folder,
    data: DataWithIds,
    source: options.SetSource = None,
    embedder: options.SetEmbedder = None,
    store: options.Store = None,
    output: Annotated[
        Path | None,
        options.option("--output", "File to write, .html; by default DIR/report.html.", options.OUTPUT),
    ] = None,
    points: options.Points = 25_000,
    json: options.Json = False,
) -> None:
    """Show a distilled set as one HTML page that needs no network.

    Example: dallme report distilled --source reviews.csv
    """
    from dallme.auditing.inputs import gather
    from dallme.dataset import AUDIT, REPORT, DistilledDataset
    from dallme.dataset.card import check_audit, parse_audit
    from dallme.report.page import render
    from dallme.validation import check_positive

    check_positive(points, "--points")
    (distilled, files), file = DistilledDataset.read(folder), output or folder / REPORT
    if file.suffix.lower() not in (".html", ".htm"):
        raise InputError(
            f"expected a file name that ends in .html, found {file.name!r}; choose another --output"
        )
    check_file(file, source)
    audit = parse_audit(files[AUDIT]) if AUDIT in files else None
    if audit is not None:
        check_audit(audit, distilled)
    progress, evidence = make_progress(), None
    if source is not None:
        texts = data.read(source)
        print_notes(texts.notes)
        evidence = gather(
            distilled, texts, embedder=embedder, store=options.writable_store(store), progress=progress
        )
    page = render(distilled, evidence=evidence, audit=audit, points=points, progress=progress).encode()
    write_file(file, page)
    notes = _missing(evidence)
    print_notes(notes)
    if json:
        print_json({"output": str(file), "bytes": len(page), "texts": len(distilled), "notes": notes})
    else:
        show(f"{len(distilled):,} texts in {file} ({len(page) / 1e6:.1f} MB)")


def _missing(evidence: AuditInput | None) -> list[str]:
    """Returns notes on what the page lacks and how to get it."""
    if evidence is None:
        return [
            "no map and no nearest real texts without the data it was distilled from; name them with --source"
        ]
    if evidence.vectors is None:
        return ["no map, as the set was made of ready vectors; name an embedder with --embedder"]
    return []
