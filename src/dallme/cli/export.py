"""``dallme export``: a distilled set in the format of another tool."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dallme.cli import options
from dallme.cli import options as completion
from dallme.cli.output import make_progress, print_json, print_notes
from dallme.errors import InputError, OutputError
from dallme.report.exports import EXPORTS, Export, Material, find

if TYPE_CHECKING:
    from dallme.auditing.inputs import AuditInput
    from dallme.data import LabelledTexts
    from dallme.dataset import DistilledDataset

_FORMATS = "; ".join(f"{export.name}: {export.summary}" for export in EXPORTS)


def export(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="A folder that distill wrote.")],
    name: Annotated[
        str,
        typer.Option(
            "--format",
            "--export",
            metavar="NAME",
            help=f"The format. {_FORMATS}.",
            autocompletion=completion.words(*(export.name for export in EXPORTS)),
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", help="File to write; by default the name of the format, in the working directory."
        ),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(
            "--source", help="atlas: the source of the set, whose texts and vectors are written as well."
        ),
    ] = None,
    text_column: options.TextColumn = None,
    label_column: options.LabelColumn = None,
    id_column: options.IdColumn = None,
    drop_bad_rows: options.DropBadRows = False,
    embedder: Annotated[
        str | None,
        typer.Option("--embedder", help="atlas: the embedder, if not the one that the set was made with."),
    ] = None,
    store: options.Store = None,
    overwrite: options.Overwrite = False,
    json: options.Json = False,
) -> None:
    """Write a distilled set in the format of another tool.

    Example: dallme export distilled --format few-shot --output prompt.txt
    """
    format_ = find(name)
    target = output or Path(f"{format_.name}{format_.suffix}")
    _check(target, format_, source, overwrite=overwrite)

    from dallme.atomic import write_output
    from dallme.dataset import DistilledDataset
    from dallme.readers import read

    distilled = DistilledDataset.load(folder)
    evidence = None
    if source is not None:
        texts = read(
            source,
            text_column=text_column,
            label_column=label_column,
            id_column=id_column,
            drop_bad_rows=drop_bad_rows,
        )
        print_notes(texts.notes)
        evidence = _gather(distilled, texts, embedder, store)
    content = format_.write(Material(distilled, folder, evidence))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_output(target, content)
    except OSError as error:
        raise OutputError(
            f"expected to write {str(target)!r}, could not: {error.strerror or error}; nothing was written"
        ) from error
    if json:
        print_json(
            {"format": format_.name, "output": str(target), "texts": len(distilled), "bytes": len(content)}
        )
    else:
        print(f"{len(distilled):,} texts as {format_.name} in {target}")


def _check(target: Path, format_: Export, source: str | None, *, overwrite: bool) -> None:
    """Checks, before any work is done, what the options say together."""
    if source is not None and format_.name != "atlas":
        raise InputError(
            f"expected --source with --format atlas only, found it with {format_.name}; leave it out"
        )
    if target.is_dir():
        raise OutputError(
            f"expected a file to write to, found the folder {str(target)!r}; name a file with --output"
        )
    if target.exists() and not overwrite:
        raise OutputError(
            f"expected no file at {str(target)!r}, found one; choose another --output, or --overwrite"
        )


def _gather(
    distilled: DistilledDataset, texts: LabelledTexts, embedder: str | None, store: Path | None
) -> AuditInput:
    """The set beside its source, with vectors."""
    from dallme.auditing.inputs import gather

    evidence = gather(
        distilled, texts, embedder=embedder, store=options.store_folder(store), progress=make_progress()
    )
    if evidence.vectors is None:
        raise InputError(
            "expected an embedder, found a set that was made of ready vectors; name one with --embedder"
        )
    return evidence
