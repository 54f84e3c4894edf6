"""The web application of a review: a page, its script and style, and one route that saves."""

from __future__ import annotations

import hmac
import ipaddress
import json
import secrets
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from dallme.dataset import AUDIT, DistilledDataset
from dallme.dataset.card import check_audit, parse_audit
from dallme.errors import DallmeError, InputError
from dallme.files import folders
from dallme.report.page import render
from dallme.review import changes as reviewing
from dallme.review.changes import ChangeError
from dallme.review.versions import ConflictError, Version, Versions
from dallme.text import to_json

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from dallme.auditing.inputs import AuditInput
    from dallme.progress import Progress

#: Minimum length of a token in characters; the token is the only protection on the network.
SHORTEST_TOKEN = 16

#: Header with the secret of the process, which a page of another origin can neither read nor send.
SECRET_HEADER = "x-dallme-secret"  # noqa: S105 - the name, not the secret

#: Headers of every response. The page holds a policy of its own, and a browser applies both.
HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": "frame-ancestors 'none'",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


class RefusalError(DallmeError):
    """A request that the server refuses.

    Attributes:
        status: HTTP status.
    """

    def __init__(self, status: int, message: str) -> None:
        """Stores the status and the message."""
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Guard:
    """Access rules of one server.

    Attributes:
        host: Address that it listens on, as the user wrote it.
        port: Port that it listens on.
        token: Token of the reviewers; None, which needs loopback, requires none.
        secret: Secret of this process, which the page sends with every change.
    """

    host: str
    port: int
    token: str | None = None
    secret: str = field(default_factory=lambda: secrets.token_urlsafe(32))

    @property
    def cookie(self) -> str:
        """Name of the session cookie; browsers share cookies between ports, so it holds the port."""
        return f"dallme-review-{self.port}"

    def check(self, request: Request) -> None:
        """Checks the host, the token, the origin and the secret of a request.

        Raises:
            RefusalError: If one is wrong.
        """
        host = request.headers.get("host", "")
        if not self._is_ours(host):
            raise RefusalError(
                421, f"expected the address that dallme review printed, found the host {host!r}"
            )
        if self.token is not None and not self._is_known(request):
            raise RefusalError(
                401, "expected the token: open the address that dallme review printed, which holds it"
            )
        if request.method in ("GET", "HEAD"):
            return
        origin = request.headers.get("origin")
        if origin is not None and origin not in (f"http://{host}", f"https://{host}"):
            raise RefusalError(
                403, f"expected changes from the review page alone, found ones from {origin!r}"
            )
        if not _same(request.headers.get(SECRET_HEADER, ""), self.secret):
            raise RefusalError(
                403,
                "expected the secret of this server: it was restarted; reload the page, your changes are "
                "kept",
            )

    @cached_property
    def _is_local(self) -> bool:
        return is_loopback(self.host)

    def brings_token(self, query: Mapping[str, str]) -> bool:
        """Returns whether a query string holds the right token."""
        return self.token is not None and _same(query.get("token", ""), self.token)

    def _is_known(self, request: Request) -> bool:
        """Returns whether a request holds the token in its address or a header, or the session cookie."""
        kind, _, bearer = request.headers.get("authorization", "").partition(" ")
        return (
            (request.url.path == "/" and self.brings_token(request.query_params))
            or _same(request.cookies.get(self.cookie, ""), self.secret)
            or (kind.lower() == "bearer" and self.token is not None and _same(bearer, self.token))
        )

    def _is_ours(self, host: str) -> bool:
        """Returns whether a Host header names this server (DNS rebinding); numeric addresses are safe."""
        try:
            name = urlsplit(f"//{host}").hostname
        except ValueError:
            return False
        if name in ("localhost", self.host.lower(), socket.gethostname().lower()):
            return True
        try:
            return ipaddress.ip_address(name or "").is_loopback or not self._is_local
        except ValueError:
            return False


def is_loopback(host: str) -> bool:
    """Returns whether an address can be reached from this machine only.

    Raises:
        InputError: If it cannot be resolved.
    """
    try:
        addresses = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM) if host else []
    except (OSError, UnicodeError):
        addresses = []
    if not addresses:
        raise InputError(
            f"expected the address or name of this machine, found {host!r}; leave --host out for 127.0.0.1"
        )
    return all(ipaddress.ip_address(str(entry[4][0]).partition("%")[0]).is_loopback for entry in addresses)


def check_token(host: str, token: str | None) -> None:
    """Checks that the network cannot reach the texts without a token.

    Raises:
        InputError: If the address is not loopback and there is no token, or the token is too short.
    """
    if token is not None and (
        len(token) < SHORTEST_TOKEN or not token.isascii() or not token.isprintable() or " " in token
    ):
        raise InputError(
            f"expected a token of at least {SHORTEST_TOKEN} ASCII characters without spaces, "
            f"found {len(token)} characters"
        )
    if token is None and not is_loopback(host):
        raise InputError(
            f"expected a token for {host!r}, which others can reach, found none; set DALLME_REVIEW_TOKEN, "
            "or leave --host out"
        )


def _same(one: str, other: str) -> bool:
    """Returns whether two secrets are equal, compared in constant time."""
    return hmac.compare_digest(one.encode(errors="replace"), other.encode(errors="replace"))


@dataclass(eq=False)
class Session:
    """A review of one set.

    Attributes:
        versions: The versions of the set.
        look: Function that adds the source to a version; None without a source.
        points: Maximum number of source rows on the map.
        progress: Progress display.
    """

    versions: Versions
    look: Callable[[DistilledDataset], AuditInput] | None = None
    points: int = 25_000
    progress: Progress | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _page: tuple[tuple[Path, str], str] | None = None

    def page(self, secret: str) -> str:
        """Renders the page of the newest version with the data of the review script; cached by version.

        Args:
            secret: Secret of the process, for the script.

        Raises:
            InputError: If the version cannot be read, or the source or the audit is not its own.
        """
        with self._lock:
            version = self.versions.newest()
            key = (version.folder, version.digest)
            if self._page is None or self._page[0] != key:
                self._page = (key, self._render(version))
            html = self._page[1]
        data = to_json(self._state(version) | {"secret": secret})
        # All texts are escaped, so the last tag is the page's own.
        before, tag, after = html.rpartition("</body>")
        scripts = (
            f'<script type="application/json" id="data-review">{data}</script>\n'
            '<link rel="stylesheet" href="/review.css">\n<script src="/review.js"></script>\n'
        )
        return f"{before}{scripts}{tag}{after}"

    def newest(self) -> dict[str, Any]:
        """Returns number and digest of the newest version, by which a tab detects a newer one."""
        version = self.versions.newest()
        return {"version": version.number, "digest": version.digest}

    def save(self, document: Any) -> dict[str, Any]:
        """Saves changes of a page.

        Args:
            document: ``version`` and ``digest`` of the version on the page, and ``changes``.

        Returns:
            ``version``, ``digest``, ``folder`` and ``texts`` of the new version, and ``notes``.

        Raises:
            ChangeError: If the document is malformed, or a change cannot be made.
            ConflictError: If there is a newer version.
            OutputError: If the version cannot be written.
        """
        if not isinstance(document, dict) or set(document) != {"version", "digest", "changes"}:
            raise ChangeError(
                "expected an object with version, digest and changes, found another document; nothing "
                "was saved"
            )
        number, digest = document["version"], document["digest"]
        if type(number) is not int or type(digest) is not str:
            raise ChangeError(
                "expected version as a number and digest as a string, found others; nothing was saved"
            )
        version = self.versions.save(number, digest, reviewing.parse(document["changes"]))
        return {
            "version": version.number,
            "digest": version.digest,
            "folder": str(version.folder),
            "texts": len(version.distilled),
            "notes": version.history[-1]["notes"],
        }

    def _render(self, version: Version) -> str:
        content = folders.read_files(version.folder, (AUDIT,)).get(AUDIT)
        audit = None if content is None else parse_audit(content)
        if audit is not None:
            check_audit(audit, version.distilled)
        evidence = self.look(version.distilled) if self.look else None
        return render(
            version.distilled,
            evidence=evidence,
            audit=audit,
            points=self.points,
            editable=True,
            progress=self.progress,
        )

    def _state(self, version: Version) -> dict[str, Any]:
        """Collects the data of the review script; the texts are in the order of the cards."""
        distilled, accepted = version.distilled, reviewing.accepted_ids(version.distilled)
        rows = zip(
            reviewing.text_ids(distilled),
            distilled.texts,
            distilled.labels.tolist(),
            distilled.lineage,
            strict=True,
        )
        return {
            "version": version.number,
            "digest": version.digest,
            "set": self.versions.original().digest,
            "limit": reviewing.MAX_CHARACTERS,
            "classes": [{"id": label, "name": name} for label, name in distilled.label_names.items()],
            "texts": [
                {
                    "id": text_id,
                    "label": label,
                    "seen": reviewing.state(text, label),
                    "accepted": text_id in accepted,
                    "edited": lineage.decoder == reviewing.EDITED,
                }
                for text_id, text, label, lineage in rows
            ],
        }


#: Maximum number of bytes in the body of a request.
MAX_BODY = 10_000_000

_STATIC = Path(__file__).parent / "static"


def make_app(session: Session, guard: Guard) -> ASGIApp:
    """Makes the ASGI application.

    Args:
        session: The review.
        guard: The access rules.

    Returns:
        An application that serves ``/``, ``/review.js``, ``/review.css``, ``/version`` and, for POST,
        ``/save``. It opens no other file.
    """

    def page(request: Request) -> Response:
        if guard.brings_token(
            request.query_params
        ):  # browsers keep addresses, so the token goes into a cookie
            response = RedirectResponse("/", status_code=303)
            response.set_cookie(guard.cookie, guard.secret, httponly=True, samesite="strict")
            return response
        return HTMLResponse(session.page(guard.secret))

    def version(request: Request) -> Response:
        return JSONResponse(session.newest())

    async def save(request: Request) -> Response:
        _check_head(request)
        body = bytearray()
        try:
            async for chunk in request.stream():
                body += chunk
                _check_size(len(body))
        except ClientDisconnect:
            return Response(status_code=400)  # nobody reads it
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
    return _Guarded(Starlette(routes=routes, exception_handlers={DallmeError: _answer}), guard)


class _Guarded:
    """Applies the access rules to every request, and adds the headers to every response."""

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
    """Makes the response to an error: JSON for a POST, plain text for a page."""
    status = 500
    if isinstance(error, RefusalError):
        status = error.status
    elif isinstance(error, ConflictError):
        status = 409
    elif isinstance(error, ChangeError):
        status = 422
    elif isinstance(error, InputError):
        status = 503  # the versions on disk were changed
    if request.method != "POST":
        return Response(f"{error}\n", status_code=status, media_type="text/plain")
    return JSONResponse({"error": str(error), "text": getattr(error, "text", None)}, status_code=status)


def _check_head(request: Request) -> None:
    """Checks the content type and length of a request.

    Raises:
        RefusalError: If it is not JSON, or too large.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise RefusalError(
            415, f"expected application/json, found {kind or 'no content type'}; nothing was saved"
        )
    length = request.headers.get("content-length", "")
    if length.isdecimal() and len(length) < 20:
        _check_size(int(length))


def _check_size(size: int) -> None:
    """Raises :class:`RefusalError` if a body is too large."""
    if size > MAX_BODY:
        raise RefusalError(
            413, f"expected at most {MAX_BODY:,} bytes of changes, found more; nothing was saved"
        )


def _parse(body: bytes) -> Any:
    """Parses a JSON document.

    Raises:
        RefusalError: If it is malformed.
    """
    try:
        return json.loads(body.decode())
    except (ValueError, RecursionError) as error:
        raise RefusalError(
            400, f"expected a JSON document, found none: {type(error).__name__}; nothing was saved"
        ) from None
