"""A review server that runs beside a test."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dallme.review import listen, make_server
from dallme.review.app import Guard, Session
from dallme.review.versions import open_versions


@contextmanager
def serving(folder: Path, port: int = 0) -> Iterator[Guard]:
    """Serves a set on a free port, or on the one given."""
    taken = listen("127.0.0.1", port)
    guard = Guard("127.0.0.1", taken.getsockname()[1])
    server = make_server(Session(open_versions(folder)), guard)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [taken]})
    thread.start()
    try:
        yield guard
    finally:
        server.should_exit = True
        thread.join()
