"""``dallme push``: uploads a distilled set to the Hugging Face Hub."""

from __future__ import annotations

from typing import Annotated

import typer

from dallme.cli import options
from dallme.cli.output import print_json, print_notes, show


def push(
    folder: options.Folder,
    repo_id: Annotated[str, typer.Argument(metavar="ID", help="user/name or organisation/name on the Hub.")],
    private: Annotated[
        bool,
        typer.Option(
            "--private/--public",
            help="Visibility of a new repository; an existing public one needs --public.",
        ),
    ] = True,
    license: Annotated[
        str | None,
        typer.Option(
            "--license", help="Licence as the Hub names it (cc-by-4.0); by default that of the source's card."
        ),
    ] = None,
    language: Annotated[
        str | None,
        typer.Option(
            "--language", help="Comma-separated ISO 639 codes; by default those of the source's card."
        ),
    ] = None,
    commit_message: Annotated[
        str | None, typer.Option("--commit-message", help="Message of the commit.")
    ] = None,
    revision: Annotated[
        str | None, typer.Option("--revision", help="Branch to write to, created if missing.")
    ] = None,
    allow_personal: options.AllowPersonal = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the files and the card; send nothing.")
    ] = False,
    json: options.Json = False,
) -> None:
    """Upload a distilled set and its card to the Hugging Face Hub, in one commit.

    It sends train.parquet, README.md, manifest.json and audit.json, and nothing else: no report, no source
    texts, no vectors. Texts with personal data are refused unless --allow-personal is given. The token is
    that of `hf auth login`, or HF_TOKEN.

    Example: dallme push distilled user/reviews-distilled --license cc-by-4.0 --dry-run
    """
    from dallme.dataset import AUDIT, CARD, DistilledDataset
    from dallme.dataset.hub import prepare, send

    distilled, files = DistilledDataset.read(folder)
    audit = files.get(AUDIT)
    languages = options.split_names(language) if language is not None else ()
    upload = prepare(
        distilled,
        repo_id,
        license=license,
        languages=languages,
        audit=audit,
        allow_personal=allow_personal,
    )
    print_notes(upload.notes)
    address = None if dry_run else send(upload, private=private, message=commit_message, revision=revision)
    sizes = {name: len(content) for name, content in upload.files.items()}
    readme = upload.files[CARD].decode()
    if json:
        sent = {
            "repo_id": repo_id,
            "address": address,
            "private": private,
            "files": sizes,
            "notes": list(upload.notes),
        }
        print_json(sent | ({"card": readme} if dry_run else {}))
        return
    for name, size in sizes.items():
        show(f"{name}  {size:,} bytes")
    show(f"\n{readme}" if dry_run else f"{len(sizes)} files in {address}")
