"""The review in the browser: its server binds a port before any work is done, and ends quietly."""

from __future__ import annotations

import errno
import os
import socket
from importlib.util import find_spec
from typing import TYPE_CHECKING
from urllib.parse import quote

from dallme.errors import InputError, MissingDependencyError, OutputError

if TYPE_CHECKING:
    import uvicorn

    from dallme.review.app import Guard, Session

#: Default port. It is fixed because a browser stores unsaved changes by address.
PORT = 8710

#: Connections in the queue while the server is busy.
_WAITING = 64


def check_packages() -> None:
    """Checks that the packages of the extra ``review`` are installed.

    Raises:
        MissingDependencyError: If one is missing.
    """
    for package in ("starlette", "uvicorn"):
        if find_spec(package) is None:
            raise MissingDependencyError("dallme review", package, "review")


def listen(host: str, port: int) -> socket.socket:
    """Binds a port; connections wait until the server runs.

    Args:
        host: Address or name of this machine.
        port: The port; 0 takes a free one.

    Raises:
        InputError: If the port is out of range.
        OutputError: If the port is in use or not allowed, or the address is not one of this machine.
    """
    if not 0 <= port < 2**16:
        raise InputError(f"expected a port from 0 to {2**16 - 1}, found {port}")
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listening = socket.socket(family, kind, protocol)
    try:
        if os.name == "posix":  # elsewhere two programs could bind one port
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(_WAITING)
    except OSError as error:
        listening.close()
        if error.errno == errno.EADDRINUSE:
            raise OutputError(
                f"expected a free port, found {port} in use; end what uses it, or choose another --port"
            ) from None
        raise OutputError(
            f"expected to listen at {host!r}, port {port}, could not: {error.strerror or error}"
        ) from None
    return listening


def address(guard: Guard) -> str:
    """Returns the address of the page, with the token."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(guard.host, guard.host)  # noqa: S104 - not to listen on
    query = f"?token={quote(guard.token, safe='')}" if guard.token is not None else ""
    return f"http://{f'[{host}]' if ':' in host else host}:{guard.port}/{query}"


def make_server(session: Session, guard: Guard) -> uvicorn.Server:
    """Makes the server; ``run(sockets=[...])`` serves until interrupted, and completes a running save.

    Args:
        session: The review.
        guard: The access rules.
    """
    import uvicorn

    from dallme.review.app import make_app

    config = uvicorn.Config(
        make_app(session, guard),
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        lifespan="off",
        ws="none",
        timeout_graceful_shutdown=5,
    )
    return uvicorn.Server(config)
