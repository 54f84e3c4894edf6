"""A local server with OpenAI's embeddings protocol over any embedder; it injects faults.

It answers on 127.0.0.1 at a port of its own and counts what a service would charge for.
"""

from __future__ import annotations

import json
import random
import socket
import threading
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from dallme.embedders.base import Embedder
from dallme.services.pricing import count_tokens

#: Faults that occur at random.
FAULTS = ("429", "429-after", "500", "503", "drop", "truncate", "delay")
#: Faults that occur after the work was done: a service may charge for it.
LOSING = ("drop", "truncate")

#: Answers that come whole and make no sense.
_SPOILT = ("half-json", "fewer", "twice", "nan", "ragged", "empty", "nonsense", "no-choices", "number")


@dataclass
class OpenAIServer:
    """The server; use it as a context manager.

    Attributes:
        embedder: What makes the vectors.
        rate: Share of requests that fail by chance.
        seed: Seed of the chance.
        script: Faults of the next requests, before any by chance; "ok" is none; see :meth:`_respond`.
        pause: Seconds that each answer takes.
        requests: Requests so far.
        bodies: What was asked, without the texts.
        paid: How often each text was answered with success.
        lost: How often each text was computed for an answer that was then dropped or cut off.
        busiest: Most requests at one time.
    """

    embedder: Embedder
    rate: float = 0.0
    seed: int = 0
    script: deque[str] = field(default_factory=deque)
    pause: float = 0.0
    requests: int = 0
    bodies: list[dict[str, Any]] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)
    faults: Counter[str] = field(default_factory=Counter)
    paid: Counter[str] = field(default_factory=Counter)
    lost: Counter[str] = field(default_factory=Counter)
    busiest: int = 0
    path: str = "/v1/embeddings"

    def __enter__(self) -> OpenAIServer:
        self._random = random.Random(self.seed)
        self._lock, self._now = threading.Lock(), 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        app = Starlette(routes=[Route(self.path, self._answer, methods=["POST"])])
        config = uvicorn.Config(
            app, log_level="critical", lifespan="off", ws="none", timeout_graceful_shutdown=1
        )
        self._server = uvicorn.Server(config)
        threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]}, daemon=True).start()
        while not self._server.started:
            time.sleep(0.005)
        return self

    def __exit__(self, *_: object) -> None:
        # It closes the socket and its thread ends in a fraction of a second; a test need not wait for that.
        self._server.should_exit = self._server.force_exit = True

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}/v1"

    async def _answer(self, request: Request) -> Response:
        body = json.loads(await request.body())
        texts = self._take(body)
        with self._lock:
            self.requests += 1
            self._now += 1
            self.busiest = max(self.busiest, self._now)
            self.bodies.append(body | {"texts": len(texts)})
            self.keys.add(request.headers.get("authorization", ""))
            fault = self._next_fault()
            self.faults[fault] += 1
        try:
            return await run_in_threadpool(self._respond, request, texts, body, fault)
        finally:
            with self._lock:
                self._now -= 1

    def _take(self, body: dict[str, Any]) -> list[str]:
        """Takes what is to be answered out of a request."""
        texts: list[str] = body.pop("input")
        return texts

    def _next_fault(self) -> str:
        if self.script:
            return self.script.popleft()
        return self._random.choice(FAULTS) if self._random.random() < self.rate else "ok"

    def _respond(self, request: Request, texts: list[str], body: dict[str, Any], fault: str) -> Response:
        time.sleep(self.pause)
        if refusal := _refusal(fault, len(texts), request.headers.get("authorization", "")):
            return refusal
        if fault == "delay":
            time.sleep(0.2)
        if fault == "hang":
            time.sleep(1.5)
        answer = self._make(texts, body)
        content = json.dumps(self._spoil(answer, fault))
        with self._lock:
            (self.lost if fault in (*LOSING, *_SPOILT) else self.paid).update(texts)
        if fault == "truncate":
            return _Broken(content[: len(content) // 2].encode(), promised=len(content))
        if fault == "drop":
            return _Broken(b"", promised=None)
        if fault == "half-json":
            content = content[: len(content) // 2]
        return Response(content, media_type="application/json")

    def _spoil(self, answer: dict[str, Any], fault: str) -> Any:
        """The answer, made wrong or merely unusual."""
        data = answer["data"]
        if fault == "reversed":
            data.reverse()
        elif fault == "fewer":
            data.pop()
        elif fault == "twice":
            data[-1]["index"] = 0
        elif fault == "nan":
            data[0]["embedding"][0] = float("nan")
        elif fault == "ragged":
            data[-1]["embedding"].pop()
        elif fault == "empty":
            answer["data"] = []
        elif fault == "no-usage":
            del answer["usage"]
        return "nonsense" if fault == "nonsense" else answer

    def _make(self, texts: list[str], body: dict[str, Any]) -> dict[str, Any]:
        vectors = self.embedder.embed(texts)
        if body.get("dimensions"):
            vectors = vectors[:, : body["dimensions"]]
        data = [
            {"object": "embedding", "index": row, "embedding": vector}
            for row, vector in enumerate(vectors.tolist())
        ]
        tokens = int(count_tokens(texts).sum())
        return {
            "object": "list",
            "model": body["model"],
            "data": data,
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }


def _refusal(fault: str, texts: int, authorization: str) -> Response | None:
    """Returns the error answer of a fault STATUS, STATUS-MORE or at-most-N; None for others."""
    if fault.startswith("at-most-"):
        most = int(fault.removeprefix("at-most-"))
        return (
            _error(413, f"batch size {texts} > maximum allowed batch size {most}") if texts > most else None
        )
    if fault.startswith("most-"):
        _, code, most = fault.split("-")
        too_many = f"batch size is invalid, it should not be larger than {most}"
        return _error(int(code), too_many) if texts > int(most) else None
    if fault == "error-200":
        return _error(200, "model not loaded")
    if fault == "deep":
        return Response("[" * 100_000)
    status, _, more = fault.partition("-")
    if not status.isdigit():
        return None
    headers = {
        "after": {"Retry-After": "0.05"},
        "ms": {"retry-after-ms": "20"},
        "ages": {"Retry-After": "86400"},
    }.get(more, {})
    code = more if more.startswith("insufficient") else None
    return _error(int(status), f"refused on purpose, {authorization}", code, headers)


def _error(
    status: int, message: str, code: str | None = None, headers: dict[str, str] | None = None
) -> JSONResponse:
    return JSONResponse({"error": {"message": message, "type": "error", "code": code}}, status, headers)


class _Broken(Response):
    """Half an answer, or none, and then a closed connection."""

    def __init__(self, content: bytes, promised: int | None) -> None:
        super().__init__(content, media_type="application/json")
        self.promised = promised

    async def __call__(
        self, scope: Any, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
    ) -> None:
        if self.promised is not None:
            head = [(b"content-type", b"application/json"), (b"content-length", str(self.promised).encode())]
            await send({"type": "http.response.start", "status": 200, "headers": head})
            await send({"type": "http.response.body", "body": self.body, "more_body": True})
        receive.__self__.transport.close()  # type: ignore[attr-defined]  # uvicorn's own end of the connection
