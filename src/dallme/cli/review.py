"""``dallme review``: opens a distilled set in the browser, to accept, edit, relabel and drop texts."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dallme.cli import options
from dallme.cli.groups import DataWithIds, grouped
from dallme.cli.output import make_progress, print_json, print_notes, print_table, show
from dallme.errors import InputError

if TYPE_CHECKING:
    from dallme.auditing.inputs import AuditInput
    from dallme.dataset import DistilledDataset
    from dallme.progress import Progress
    from dallme.review.versions import Versions


@grouped
def review(
    folder: options.Folder,
    data: DataWithIds,
    source: options.SetSource = None,
    embedder: options.SetEmbedder = None,
    store: options.Store = None,
    points: options.Points = 25_000,
    output: Annotated[
        Path | None,
        options.option("--output", "Folder for the versions; by default DIR/versions.", options.OUTPUT),
    ] = None,
    host: Annotated[
        str, typer.Option("--host", help="Address to listen at; any other than loopback needs a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", help="Port to listen at; 0 takes a free one.")] = 8710,
    token_file: Annotated[
        Path | None,
        typer.Option(
            "--token-file",
            help="File with a token that the browser must send, 16 characters or more; "
            "by default the variable DALLME_REVIEW_TOKEN.",
        ),
    ] = None,
    token: Annotated[str | None, typer.Option("--token", hidden=True)] = None,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Whether to open the page.")] = True,
    history: Annotated[
        bool, typer.Option("--history", help="Print the changes so far, and start no server.")
    ] = False,
    json: options.Json = False,
) -> None:
    """Accept, edit, relabel and drop the texts of a distilled set in the browser; a save makes a new version.

    Example: dallme review distilled --source reviews.csv
    """
    from dallme.review.versions import open_versions
    from dallme.validation import check_positive

    check_positive(points, "--points")
    versions = open_versions(folder, output, writable=not history)
    if history:
        _print_history(versions, json=json)
        return

    from dallme import review as server
    from dallme.review.app import Guard, Session, check_token, is_loopback

    server.check_packages()
    secret = _read_token(token, token_file)
    check_token(host, secret)
    with server.listen(host, port) as taken:
        guard = Guard(host, taken.getsockname()[1], secret)
        progress = make_progress()
        look = None if source is None else _look(source, data, embedder, store, progress)
        session = Session(versions, look, points, progress)
        session.page(guard.secret)  # errors of the page are shown here, not in the browser
        if not is_loopback(host):
            print_notes(
                [f"others can reach {host}, and texts and token go unencrypted; use a network you trust"]
            )
        _announce(versions, server.address(guard), json=json)
        if browser:
            _open(server.address(guard))
        try:
            server.make_server(session, guard).run(sockets=[taken])
        except KeyboardInterrupt:
            return  # Ctrl-C is how a review ends


def _read_token(token: str | None, file: Path | None) -> str | None:
    """Reads the token from a file, else from the environment.

    Raises:
        InputError: If it was given on the command line, or the file cannot be read.
    """
    if token is not None:
        raise InputError(
            "expected the token in DALLME_REVIEW_TOKEN or in a file named with --token-file, found it on the "
            "command line, which every user of this machine can read"
        )
    if file is None:
        return os.environ.get("DALLME_REVIEW_TOKEN")
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        raise InputError(f"expected a token in {str(file)!r}, could not read it: {error}") from None


def _look(
    source: str, data: DataWithIds, embedder: str | None, store: Path | None, progress: Progress
) -> Callable[[DistilledDataset], AuditInput]:
    """Reads the source and returns a function that adds it to a version; the embedder is loaded once."""
    from dallme.auditing.inputs import gather, restore_embedder

    texts = data.read(source)
    print_notes(texts.notes)
    loaded: list[Any] = []

    def look(distilled: DistilledDataset) -> AuditInput:
        vectors = options.writable_store(store)
        if not loaded:
            loaded.append(restore_embedder(distilled.manifest, embedder, vectors))
        return gather(distilled, texts, embedder=loaded[0], store=vectors, progress=progress)

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
            },
            secret=True,
        )
    else:
        show(f"version {newest.number}, {len(newest.distilled):,} texts: {address}", secret=True)
        show(f"each save makes a new folder in {versions.place}; Ctrl-C ends")
    sys.stdout.flush()


def _open(address: str) -> None:
    """Opens the page where there is a screen; a text browser would take over the terminal."""
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
    show(f"version {newest.number}, {len(newest.distilled):,} texts, in {newest.folder}")
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
        rows = [
            [entry["version"], entry["parent"], entry["when"], entry["texts"], *count_actions(entry).values()]
            for entry in newest.history
        ]
        print_table(head, [[str(cell) for cell in row] for row in rows])
