"""A local service whose answers are broken at random: JSON, shapes, lengths, codings, redirects, time."""

from __future__ import annotations

import gzip
import json
import random
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from broken import WRONG, break_bytes, break_json

#: Bytes of an endless answer before the server gives up, and seconds of a slow one.
ENDLESS, SLOW = 1 << 23, 2.0

#: Addresses that a redirect names.
PLACES = (
    "http://127.0.0.1:9/v1/embeddings", "https://example.org/", "file:///etc/passwd", "//example.org/v1",
    "javascript:alert(1)", "", "http://[::1", "\\\\host\\share", "ftp://127.0.0.1/", "data:,x", "#",
)  # fmt: skip


def embeddings(count: int) -> dict[str, Any]:
    """A right answer of the embeddings endpoint."""
    data = [{"index": row, "embedding": [1.0, float(row)]} for row in range(count)]
    return {"object": "list", "model": "m", "data": data, "usage": {"prompt_tokens": count}}


def completion() -> dict[str, Any]:
    """A right answer of the chat endpoint."""
    message = {"role": "assistant", "content": "A fine film."}
    usage = {"prompt_tokens": 5, "completion_tokens": 4}
    return {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": usage}


class HostileServer(ThreadingHTTPServer):
    """The server; use it as a context manager.

    Attributes:
        seed: Decides how all answers are broken, until it is changed.
    """

    daemon_threads = True

    def __init__(self) -> None:
        self.seed = 0
        super().__init__(("127.0.0.1", 0), _Handler)
        threading.Thread(target=self.serve_forever, args=[0.01], daemon=True).start()

    def __exit__(self, *arguments: object) -> None:
        self.shutdown()
        super().__exit__(*arguments)

    def handle_error(self, *_: object) -> None:
        """Keeps quiet: clients leave before the end of an answer."""

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class _Handler(BaseHTTPRequestHandler):
    server: HostileServer

    def log_message(self, *_: object) -> None:
        """Keeps quiet."""

    def do_POST(self) -> None:
        """Answers in the way that the seed decides."""
        asked = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))))
        answer = embeddings(len(asked["input"])) if "input" in asked else completion()
        rng = random.Random(self.server.seed)
        kinds = (
            self._json, self._json, self._json, self._bytes, self._shape, self._huge, self._endless, self._slow,
            self._redirect, self._error, self._status, self._drop, self._coding, self._head,
        )  # fmt: skip
        with suppress(OSError):  # the client has left
            rng.choice(kinds)(answer, rng)
        self.close_connection = True

    do_GET = do_POST

    def _send(self, content: bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(content))} | headers).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(content)

    def _json(self, answer: dict[str, Any], rng: random.Random) -> None:
        self._send(break_json(json.dumps(answer).encode(), rng))

    def _bytes(self, answer: dict[str, Any], rng: random.Random) -> None:
        self._send(break_bytes(json.dumps(answer).encode(), rng))

    def _shape(self, answer: dict[str, Any], rng: random.Random) -> None:
        """Repeats or removes a part of the answer, or puts another value in the place of all."""
        rows = answer.get("data") or answer["choices"]
        change = rng.randrange(4)
        if change == 0:
            rows.append(rows[0])
        elif change == 1:
            rows.clear()
        elif change == 2:
            rows[0] = rng.choice(WRONG)
        self._send(json.dumps(rng.choice(WRONG) if change == 3 else answer).encode())

    def _huge(self, answer: dict[str, Any], rng: random.Random) -> None:
        """Puts numbers that are none, or too large, or too many, in the place of a vector or a text."""
        value: Any = rng.choice(
            [
                [float("nan")] * 2,
                [1e400, 0],
                [1e39, 0],
                [10**400, 0],
                [0.0] * 100_000,
                ["1", "2"],
                [True, False],
            ]
        )
        if "data" in answer:
            answer["data"][0]["embedding"] = value
        else:
            answer["choices"][0]["message"]["content"] = str(value) * 10
            answer["usage"] = {"prompt_tokens": value[0], "completion_tokens": rng.choice(WRONG)}
        self._send(json.dumps(answer).encode())

    def _endless(self, answer: dict[str, Any], rng: random.Random) -> None:
        """Promises no length and goes on, up to some megabytes."""
        self.send_response(200)
        self.end_headers()
        self.wfile.write(rng.choice([b'{"data": [', b"[" * 1000, b'{"data": "', b" "]))
        piece = rng.choice([b"[", b" ", b"0,", b'{"index": 0},', b"\xff", b"x"]) * 65_536
        for _ in range(ENDLESS // len(piece)):
            self.wfile.write(piece)

    def _slow(self, answer: dict[str, Any], rng: random.Random) -> None:
        """Sends single bytes, and stops in the middle."""
        content = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        for place in range(int(SLOW / 0.05)):
            self.wfile.write(content[place : place + 1])
            time.sleep(0.05)

    def _redirect(self, answer: dict[str, Any], rng: random.Random) -> None:
        place = rng.choice([*PLACES, self.path])  # the last: a circle
        self._send(b"", rng.choice([301, 302, 303, 307, 308]), Location=place)

    def _error(self, answer: dict[str, Any], rng: random.Random) -> None:
        """Answers an error with the status of a success."""
        error = rng.choice([{"message": "no\nsuch\nmodel \x1b[31m"}, *WRONG])
        self._send(json.dumps({"error": error}).encode())

    def _status(self, answer: dict[str, Any], rng: random.Random) -> None:
        """Answers with an unusual status, and a wish to be asked again late."""
        wait = rng.choice(["0", "-1", "nan", "1e999", "9" * 99, "Thu, 01 Jan 1970 00:00:00 GMT", "x"])
        status = rng.choice([204, 206, 299, 400, 401, 404, 408, 413, 418, 429, 500, 503, 599])
        content = b"" if status == 204 else break_json(b'{"error": {"message": "no", "code": "x"}}', rng)
        self._send(content, status, Retry_After=wait)

    def _drop(self, answer: dict[str, Any], rng: random.Random) -> None:
        """Ends the connection before, within or after the head."""
        head = b"HTTP/1.1 200 OK\r\nContent-Length: 400\r\n\r\n"
        self.wfile.write(head[: rng.choice([0, 5, 20, len(head)])])

    def _coding(self, answer: dict[str, Any], rng: random.Random) -> None:
        """States a coding that the content has not, or packs much into little."""
        packed = gzip.compress(rng.choice([b"\0", b"[", b" "]) * ENDLESS)
        content = rng.choice([json.dumps(answer).encode(), packed, packed[:50]])
        coding = rng.choice(["gzip", "deflate", "br", "zstd", "x", "gzip, gzip"])
        self._send(content, Content_Encoding=coding)

    def _head(self, answer: dict[str, Any], rng: random.Random) -> None:
        """Sends a head that is no HTTP, or states another length."""
        content = json.dumps(answer).encode()
        heads = [
            b"nonsense\r\n\r\n", b"HTTP/9.9 abc\r\n\r\n", b"HTTP/1.1 200 OK\r\nA: " + b"a" * 200_000 + b"\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9999999\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n", b"HTTP/1.1 200 OK\r\n" * 300,
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffff\r\n", b"\0" * 100,
            b"HTTP/1.1 100 Continue\r\n\r\n" * 50,
        ]  # fmt: skip
        self.wfile.write(rng.choice(heads) + content)
