"""``dallme review``: a distilled set in the browser, to accept, edit, relabel and drop texts."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dallme.cli import options
from dallme.cli.output import make_progress, print_json, print_notes, print_table

if TYPE_CHECKING:
    from dallme.audit.inputs import AuditInput
    from dallme.dataset import DistilledDataset
    from dallme.progress import Progress
    from dallme.review.versions import Versions


def review(
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
    points: Annotated[int, typer.Option("--points", help="Most source rows that the map shows.")] = 25_000,
    output: Annotated[
        Path | None, typer.Option("--output", help="Folder for the versions; by default DIR/versions.")
    ] = None,
    host: Annotated[
        str, typer.Option("--host", help="Address to listen at; others than loopback need --token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", help="Port to listen at; 0 takes a free one.")] = 8710,
    token: Annotated[
        str | None,
        typer.Option(
            "--token",
            envvar="DALLME_REVIEW_TOKEN",
            help="What a browser has to bring, 16 characters or more.",
        ),
    ] = None,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Whether to open the page.")] = True,
    history: Annotated[
        bool, typer.Option("--history", help="Print what was changed so far, and serve nothing.")
    ] = False,
    json: options.Json = False,
) -> None:
    """Accept, edit, relabel and drop the texts of a distilled set in the browser; each save makes a new version.

    Example: dallme review distilled --source reviews.csv
    """
    from dallme.review.versions import open_versions
    from dallme.validation import check_positive

    check_positive(points, "--points")
    versions = open_versions(folder, output, writable=not history)
    if history:
        _print_history(versions, json=json)
        return

    from dallme.review import server
    from dallme.review.app import Guard, Session, check_token, is_loopback

    server.check_packages()
    check_token(host, token)
    with server.listen(host, port) as taken:
        guard = Guard(host, taken.getsockname()[1], token)
        progress = make_progress()
        columns: dict[str, Any] = {
            "text_column": text_column,
            "label_column": label_column,
            "id_column": id_column,
        }
        look = (
            None
            if source is None
            else _look(source, columns | {"drop_bad_rows": drop_bad_rows}, embedder, store, progress)
        )
        session = Session(versions, look, points, progress)
        session.page(guard.secret)  # what is wrong with it is said here, not in the browser
        if not is_loopback(host):
            print_notes(
                [
                    f"others can reach {host}: texts and token go over the network as they are, so use one that you trust"
                ]
            )
        _announce(versions, server.address(guard), json=json)
        if browser:
            _open(server.address(guard))
        try:
            server.make_server(session, guard).run(sockets=[taken])
        except KeyboardInterrupt:
            return  # Ctrl-C is how a review ends


def _look(
    source: str, columns: dict[str, Any], embedder: str | None, store: Path | None, progress: Progress
) -> Callable[[DistilledDataset], AuditInput]:
    """Reads the source, and gives what sets a version beside it; the embedder is loaded once."""
    from dallme.audit.inputs import gather, restore_embedder
    from dallme.readers import read

    texts = read(source, **columns)
    print_notes(texts.notes)
    made: list[Any] = []

    def look(distilled: DistilledDataset) -> AuditInput:
        vectors = options.store_folder(store)
        if not made:
            made.append(restore_embedder(distilled.manifest, embedder, vectors))
        return gather(distilled, texts, embedder=made[0], store=vectors, progress=progress)

    return look


def _announce(versions: Versions, address: str, *, json: bool) -> None:
    newest = versions.newest()
    if json:
        print_json(
            {
                "address": address,
                "folder": str(newest.folder),
                "version": newest.number,
                "texts": len(newest.distilled),
                "versions": str(versions.place),
            }
        )
    else:
        print(f"version {newest.number}, {len(newest.distilled):,} texts: {address}")
        print(f"each save makes a new folder in {versions.place}; Ctrl-C ends")
    sys.stdout.flush()


def _open(address: str) -> None:
    """Opens the page where there is a screen; a browser of the terminal would take the terminal."""
    import webbrowser

    if sys.platform != "linux" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        webbrowser.open(address)


def _print_history(versions: Versions, *, json: bool) -> None:
    """Prints what each review changed, the oldest first."""
    from dallme.review.changes import count_actions

    newest = versions.newest()
    if json:
        print_json({"version": newest.number, "folder": str(newest.folder), "history": newest.history})
        return
    print(f"version {newest.number}, {len(newest.distilled):,} texts, in {newest.folder}")
    if newest.history:
        head = [
            "version",
            "made from",
            "when",
            "texts",
            "edited",
            "relabelled",
            "dropped",
            "accepted",
            "no longer accepted",
        ]
        told = [(entry, count_actions(entry).values()) for entry in newest.history]
        rows = [
            [entry["version"], entry["parent"], entry["when"], entry["texts"], *counts]
            for entry, counts in told
        ]
        print_table(head, [[str(cell) for cell in row] for row in rows])
