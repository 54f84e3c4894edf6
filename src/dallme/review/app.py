"""The web application of a review: a page, its script and style, and one address that saves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from dallme.errors import DallmeError, InputError
from dallme.review.changes import ChangeError
from dallme.review.guard import HEADERS, Guard, RefusalError
from dallme.review.session import Session
from dallme.review.versions import ConflictError

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: Bytes of a request's body at most.
MAX_BODY = 10_000_000

_STATIC = Path(__file__).parent / "static"


def make_app(session: Session, guard: Guard) -> ASGIApp:
    """The application.

    Args:
        session: What is reviewed.
        guard: Who may review it.

    Returns:
        An ASGI application that answers ``/``, ``/review.js``, ``/review.css``, ``/version`` and, to POST, ``/save``. It opens no
        other file, whatever it is asked for.
    """

    def page(request: Request) -> Response:
        if guard.brings_token(request.query_params):  # take it out of the address, which people copy and browsers keep
            response = RedirectResponse("/", status_code=303)
            response.set_cookie(guard.cookie, guard.secret, httponly=True, samesite="strict")
            return response
        return HTMLResponse(session.page(guard.secret))

    def version(request: Request) -> Response:
        return JSONResponse(session.newest())

    async def save(request: Request) -> Response:
        _check_head(request)
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            _check_size(len(body))
        return JSONResponse(await run_in_threadpool(session.save, _parse(bytes(body))), status_code=201)

    def file(name: str, kind: str) -> Route:
        return Route(f"/{name}", lambda request: FileResponse(_STATIC / name, media_type=kind))

    routes = [
        Route("/", page),
        Route("/version", version),
        Route("/save", save, methods=["POST"]),
        file("review.js", "text/javascript"),
        file("review.css", "text/css"),
    ]
    return _Door(Starlette(routes=routes, exception_handlers={DallmeError: _answer}), guard)


class _Door:
    """Asks the guard before anything else, and sends the headers with every answer."""

    def __init__(self, app: ASGIApp, guard: Guard) -> None:
        self._app, self._guard = app, guard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        app = self._app
        request = Request(scope)
        try:
            self._guard.check(request)
        except RefusalError as refusal:
            app = _answer(request, refusal)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                message = {**message, "headers": [*message.get("headers", []), *own]}
            await send(message)

        await app(scope, receive, send_with_headers)


def _answer(request: Request, error: Exception) -> Response:
    """An error as a JSON document with one line for a person; for a page that cannot be shown, as plain text."""
    status = 500
    if isinstance(error, RefusalError):
        status = error.status
    elif isinstance(error, ConflictError):
        status = 409
    elif isinstance(error, ChangeError):
        status = 422
    elif isinstance(error, InputError):
        status = 503  # the versions on disk are not as they were
    if request.method != "POST":
        return Response(f"{error}\n", status_code=status, media_type="text/plain")
    return JSONResponse({"error": str(error), "text": getattr(error, "text", None)}, status_code=status)


def _check_head(request: Request) -> None:
    """Checks what a request says of its body.

    Raises:
        RefusalError: If it is no JSON, or too large.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise RefusalError(415, f"expected application/json, found {kind or 'no content type'}; nothing was saved")
    said = request.headers.get("content-length", "")
    if said.isdecimal() and len(said) < 20:
        _check_size(int(said))


def _check_size(size: int) -> None:
    """Raises :class:`RefusalError` if a body is too large."""
    if size > MAX_BODY:
        raise RefusalError(413, f"expected at most {MAX_BODY:,} bytes of changes, found more; nothing was saved")


def _parse(body: bytes) -> Any:
    """Reads a JSON document.

    Raises:
        RefusalError: If it is none.
    """
    try:
        return json.loads(body.decode())
    except (ValueError, RecursionError) as error:
        raise RefusalError(400, f"expected a JSON document, found none: {type(error).__name__}; nothing was saved") from None
