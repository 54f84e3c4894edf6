"""``dallme export``: writes a distilled set in the format of another tool."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dallme.cli import options
from dallme.cli.groups import DataWithIds, grouped
from dallme.cli.output import make_progress, print_json, print_notes, show, show_note
from dallme.cli.paths import check_file, write_file
from dallme.errors import InputError
from dallme.report.exports import EXPORTS, Material, count_collages, find

if TYPE_CHECKING:
    from dallme.auditing.inputs import AuditInput
    from dallme.data import LabelledTexts
    from dallme.dataset import DistilledDataset

#: Formats whose texts a language model reads as examples.
_PROMPTS = ("few-shot", "chat", "fine-tuning")

_FORMATS = "; ".join(f"{export.name}: {export.summary}" for export in EXPORTS)


@grouped
def export(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="A folder that distill wrote.")],
    name: Annotated[
        str,
        typer.Option(
            "--format",
            "--export",
            metavar="NAME",
            help=f"The format. {_FORMATS}.",
            autocompletion=options.words(*(export.name for export in EXPORTS)),
            rich_help_panel=options.OUTPUT,
        ),
    ],
    data: DataWithIds,
    output: Annotated[
        Path | None,
        options.option(
            "--output",
            "File to write; by default the name of the format, in the working directory.",
            options.OUTPUT,
        ),
    ] = None,
    source: Annotated[
        str | None,
        options.option(
            "--source",
            "atlas: the source of the set, whose texts and vectors are written as well.",
            options.DATA,
        ),
    ] = None,
    embedder: Annotated[
        str | None,
        options.option(
            "--embedder",
            "atlas: the embedder, if not the one that the set was made with.",
            options.EMBEDDER,
        ),
    ] = None,
    store: options.Store = None,
    allow_personal: options.AllowPersonal = False,
    overwrite: options.Overwrite = False,
    json: options.Json = False,
) -> None:
    """Write a distilled set in the format of another tool.

    Texts with personal data are refused unless --allow-personal is given.

    Example: dallme export distilled --format few-shot --output prompt.txt
    """
    from dallme.dataset import DistilledDataset
    from dallme.dataset.hub import SHARING
    from dallme.personal import check_personal

    format_ = find(name)
    target = output or Path(f"{format_.name}{format_.suffix}")
    if source is not None and format_.name != "atlas":
        raise InputError(
            f"expected --source with --format atlas only, found it with {format_.name}; leave it out"
        )
    check_file(target, source, overwrite=overwrite, parents=True)
    distilled, evidence = DistilledDataset.load(folder), None
    if not allow_personal:
        check_personal(distilled.texts, 0, SHARING)
    if format_.name in _PROMPTS and (count := count_collages(distilled)):
        show_note(
            f"{count:,} of {len(distilled):,} texts are collages of sentences from several rows, which read "
            "poorly as examples; for whole rows distil with --for prompt"
        )
    if source is not None:
        texts = data.read(source)
        print_notes(texts.notes)
        evidence = _gather(distilled, texts, embedder, store)
        if not allow_personal:
            check_personal(evidence.source.texts, 0, SHARING)
    content = format_.write(Material(distilled, folder, evidence))
    write_file(target, content)
    if json:
        print_json(
            {"format": format_.name, "output": str(target), "texts": len(distilled), "bytes": len(content)}
        )
    else:
        show(f"{len(distilled):,} texts as {format_.name} in {target}")


def _gather(
    distilled: DistilledDataset, texts: LabelledTexts, embedder: str | None, store: Path | None
) -> AuditInput:
    """Returns the set with its source and their vectors."""
    from dallme.auditing.inputs import gather

    evidence = gather(
        distilled, texts, embedder=embedder, store=options.writable_store(store), progress=make_progress()
    )
    if evidence.vectors is None:
        raise InputError(
            "expected an embedder, found a set that was made of ready vectors; name one with --embedder"
        )
    return evidence
