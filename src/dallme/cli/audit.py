"""``dallme audit``: what a distilled set gives away, and whether its labels hold."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from dallme.cli import options
from dallme.cli.output import make_progress, print_json, print_notes, print_table
from dallme.errors import OutputError


def audit(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that distill wrote.")],
    source: Annotated[str, typer.Option("--source", help="The data that it was distilled from.")],
    test: Annotated[str | None, typer.Option("--test", help="Test data, to look for contamination.")] = None,
    max_copied_span: Annotated[
        int | None,
        typer.Option(
            "--max-copied-span", help="Fail if a text shares more words in a row with a source row."
        ),
    ] = None,
    min_cluster: Annotated[
        int | None, typer.Option("--min-cluster", help="Fail if fewer source rows are behind a text.")
    ] = None,
    perplexity: Annotated[
        str | None,
        typer.Option("--perplexity", help="A causal model that judges how the texts read, such as smollm2."),
    ] = None,
    language: Annotated[
        str, typer.Option("--language", help="ISO 639-1 code, for finding the ends of sentences.")
    ] = "en",
    text_column: options.TextColumn = None,
    label_column: options.LabelColumn = None,
    id_column: options.IdColumn = None,
    drop_bad_rows: options.DropBadRows = False,
    embedder: Annotated[
        str | None, typer.Option("--embedder", help="In place of the one that the set was made with.")
    ] = None,
    store: options.Store = None,
    json: options.Json = False,
) -> None:
    """Say what a distilled set gives away, whether its labels hold and how it reads; exit status 1 if a threshold is broken.

    Example: dallme audit distilled --source reviews.csv --test reviews-test.csv --min-cluster 5
    """
    from dallme.auditing.audit import Thresholds
    from dallme.auditing.audit import audit as look
    from dallme.auditing.inputs import gather
    from dallme.dataset import DistilledDataset
    from dallme.dataset.distilled import AUDIT
    from dallme.dataset.folder import add
    from dallme.readers import read
    from dallme.report.summary import audit_rows

    thresholds = Thresholds(max_copied_span, min_cluster)
    distilled, progress = DistilledDataset.load(folder), make_progress()
    columns: dict[str, Any] = {
        "text_column": text_column,
        "label_column": label_column,
        "drop_bad_rows": drop_bad_rows,
    }
    texts = read(source, **columns, id_column=id_column)
    held_out = read(test, **columns, like=texts) if test else None
    print_notes([*texts.notes, *(held_out.notes if held_out else ())])
    evidence = gather(
        distilled, texts, embedder=embedder, store=options.store_folder(store), progress=progress
    )
    found = look(
        evidence,
        test=held_out,
        thresholds=thresholds,
        language=language,
        language_model=perplexity,
        progress=progress,
    )
    document = found.as_dict()
    try:
        add(folder, AUDIT, _encode(document))
    except OSError as error:
        raise OutputError(
            f"expected to write {str(folder / AUDIT)!r}, could not: {error.strerror or error}; nothing was written"
        ) from error
    print_notes([*document["notes"], *found.warnings])
    if json:
        print_json(document)
    else:
        print_table(["", "found"], [list(row) for row in audit_rows(document)])
        for failure in document["failures"]:
            print(f"failed: {failure}")
    if document["failures"]:
        raise typer.Exit(1)


def _encode(document: dict[str, Any]) -> bytes:
    from json import dumps

    return (dumps(document, indent=2, ensure_ascii=False) + "\n").encode(errors="backslashreplace")
