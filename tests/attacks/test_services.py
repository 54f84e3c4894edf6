"""Attacks on requests to a service: other places get neither key nor text, and no answer lasts for ever."""

from __future__ import annotations

import contextlib
import gzip
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

from dallme.cli.main import _status
from dallme.cli.options import configure_embedder
from dallme.cli.settings import typed_options
from dallme.embedders.cache import CachedEmbedder
from dallme.embedders.openai import OpenAIEmbedder
from dallme.errors import InputError, ServiceError
from dallme.progress import SilentProgress

KEY = "sk-planted-3f1c"
ANSWER = b'{"data": [{"index": 0, "embedding": [1.0, 0.0]}], "usage": {"prompt_tokens": 1}}'


class Server(ThreadingHTTPServer):
    """A local server that records request bodies and headers, and may redirect."""

    def __init__(self, location: str | None = None) -> None:
        self.seen: list[str] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                """Keeps quiet."""

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                server.seen.append(f"{self.path} {self.headers} {body.decode()}")
                redirect = location is not None and "moved" not in self.path
                self.send_response(307 if redirect else 200)
                if redirect:
                    self.send_header("Location", str(location))
                content = b"" if redirect else ANSWER
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, args=[0.01], daemon=True).start()

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.server_address[1]}"


@pytest.fixture
def other() -> Iterator[Server]:
    with Server() as server:
        yield server
        server.shutdown()


def embedder(server: Server) -> OpenAIEmbedder:
    return OpenAIEmbedder("m", base_url=f"{server.url}/v1", max_retries=0)


def test_loopback_takes_no_proxy(other: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with Server() as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        monkeypatch.delenv("NO_PROXY", raising=False)
        assert embedder(other).embed(["a text"]).tolist() == [[1.0, 0.0]]
        assert not proxy.seen
        proxy.shutdown()
    assert KEY in other.seen[0]


def test_a_redirect_to_another_origin_is_refused(other: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with Server(location=f"{other.url}/v1/embeddings") as server:
        with pytest.raises(ServiceError, match=r"found a redirect to another address \(307\)"):
            embedder(server).embed(["a private text"])
        server.shutdown()
    assert not other.seen


def test_a_redirect_within_the_origin_is_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with Server(location="/moved/embeddings") as server:
        assert embedder(server).embed(["a text"]).shape == (1, 2)
        server.shutdown()


def test_an_unencrypted_address_needs_a_word() -> None:
    with pytest.raises(InputError, match=r"expected base_url to begin with https://.*--insecure"):
        OpenAIEmbedder("m", base_url="http://example.org/v1")
    assert OpenAIEmbedder("m", base_url="http://example.org/v1", insecure=True).insecure


@pytest.mark.parametrize(
    "parts",
    [
        ["--embedder", "openai:m", "--decoder", "nearest"],
        ["--embedder", "hashing", "--decoder", "llm:m"],
        ["--embedder", "openai:m", "--decoder", "llm:m"],
    ],
)
def test_the_flag_allows_an_unencrypted_address(
    parts: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setattr("dallme.services.client.Service.ask", Mock(side_effect=ServiceError("asked")))
    (tmp_path / "s.csv").write_text("text,label\n" + "a film,good\na bore,bad\n" * 4)
    command = ["dallme", "distill", str(tmp_path / "s.csv"), "--per-class", "1", *parts]
    command += ["--output", str(tmp_path / "o"), "--store", str(tmp_path / "store")]
    command += ["--base-url", "http://example.org/v1"]
    monkeypatch.setattr("sys.argv", command)
    assert _status() == 2
    assert "expected base_url to begin with https://" in capsys.readouterr().err
    monkeypatch.setattr("sys.argv", [*command, "--insecure"])
    assert _status() == 2
    assert capsys.readouterr().err.endswith("error: asked\n")


def test_the_flag_needs_a_service() -> None:
    with pytest.raises(InputError, match="expected no --insecure with the embedder 'hashing'"):
        configure_embedder("hashing", {}, {"insecure": True})


def test_the_flag_sends_no_key_in_the_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    embedder = OpenAIEmbedder("m", base_url="http://example.org/v1", insecure=True)
    with pytest.raises(InputError, match="expected base_url to begin with https:// where a key is sent"):
        embedder.embed(["a text"])


# Answers without an end, and pauses


Write = Callable[[bytes], object]


class Raw(socketserver.ThreadingTCPServer):
    """A server whose every answer is what a function writes, byte by byte, into the connection."""

    daemon_threads = True

    def __init__(self, answer: Callable[[Write], None]) -> None:
        self.requests = 0
        server = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                server.requests += 1
                length = 0
                while (line := self.rfile.readline()) not in (b"\r\n", b""):
                    name, _, value = line.partition(b":")
                    length = int(value) if name.lower() == b"content-length" else length
                self.rfile.read(length)
                with contextlib.suppress(OSError):
                    answer(self.wfile.write)

            def finish(self) -> None:
                with contextlib.suppress(OSError):
                    super().finish()

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, args=[0.01], daemon=True).start()

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    def client(self, **options: Any) -> OpenAIEmbedder:
        """An embedder that asks this server."""
        url = f"http://127.0.0.1:{self.server_address[1]}/v1"
        return OpenAIEmbedder("m", base_url=url, dimensions=2, first_pause=0.01, **options)


def head(*lines: str, status: str = "200 OK") -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", "Content-Type: application/json", *lines, "", ""]).encode()


def whole(content: bytes, *lines: str, status: str = "200 OK") -> bytes:
    return head(f"Content-Length: {len(content)}", "Connection: close", *lines, status=status) + content


def endless(write: Write) -> None:
    write(head())
    while True:
        write(b" " * 65_536)


def endless_error(write: Write) -> None:
    write(head(status="400 Bad Request"))
    while True:
        write(b" " * 65_536)


def bomb(write: Write) -> None:
    write(whole(gzip.compress(b" " * 2**24), "Content-Encoding: gzip"))


def drip(first: bytes, each: bytes) -> Callable[[Write], None]:
    def answer(write: Write) -> None:
        write(first)
        while True:
            write(each)
            time.sleep(0.05)

    return answer


SLOW = {
    "body": drip(head(), b" "),
    "headers": drip(b"HTTP/1.1 200 OK\r\nX-Slow: ", b"x"),
    "interim answers": drip(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "chunks": drip(head("Transfer-Encoding: chunked"), b"1\r\n \r\n"),
    "error": drip(head(status="503 Service Unavailable"), b" "),
}


@pytest.mark.parametrize("answer", [endless, endless_error, bomb])
def test_an_answer_has_a_size(answer: Callable[[Write], None]) -> None:
    with Raw(answer) as server:
        with pytest.raises(ServiceError) as caught:
            server.client(max_answer_bytes=2**20).embed(["a text"])
        assert "found an answer of more than 1,048,576 bytes; raise max_answer_bytes" in str(caught.value)
        assert "\n" not in str(caught.value)
        assert server.requests == 1


@pytest.mark.parametrize("kind", SLOW)
def test_a_request_has_a_total_time(kind: str) -> None:
    started = time.monotonic()
    with Raw(SLOW[kind]) as server, pytest.raises(ServiceError) as caught:
        server.client(max_seconds=0.5, max_retries=1).embed(["a text"])
    assert time.monotonic() - started < 5
    last = "found 2 failures in a row, the last: an answer that takes longer than 0.5 seconds (max_seconds); "
    assert last in str(caught.value)


def test_a_left_answer_is_not_read_on() -> None:
    written = []

    def answer(write: Write) -> None:
        written.append(0)
        drip(head(), b" ")(lambda content: (write(content), written.append(0))[0])

    with Raw(answer) as server:
        with pytest.raises(ServiceError):
            server.client(max_seconds=0.3, max_retries=0).embed(["a text"])
        time.sleep(1.0)
        count = len(written)
        time.sleep(0.5)
        assert len(written) <= count + 1  # the connection is closed


def test_a_compressed_answer_is_read() -> None:
    with Raw(lambda write: write(whole(gzip.compress(ANSWER), "Content-Encoding: gzip"))) as server:
        assert server.client().embed(["a text"]).tolist() == [[1.0, 0.0]]


@pytest.mark.parametrize("encoding", ["br", "gzip, gzip", "zstd"])
def test_an_encoding_nobody_asked_for_is_refused(encoding: str) -> None:
    message = f"an answer in the encoding '{encoding}' in place of gzip"
    answer = whole(ANSWER, f"Content-Encoding: {encoding}")
    with Raw(lambda write: write(answer)) as server, pytest.raises(ServiceError, match=message):
        server.client().embed(["a text"])


@pytest.mark.parametrize(
    "part",
    [
        b"",
        b"HTTP/1.1 200",
        head("Content-Length: 1000") + ANSWER,
        head("Transfer-Encoding: chunked") + b"400\r\n" + ANSWER,
        head("Transfer-Encoding: chunked") + b"not hex\r\n",
        head("Content-Length: 1000", "Content-Encoding: gzip") + gzip.compress(ANSWER)[:-9],
        whole(b"no gzip", "Content-Encoding: gzip"),
        whole(gzip.compress(ANSWER)[:-9], "Content-Encoding: gzip"),
        whole(b"", "Location: http://[::1/v1", status="307 Temporary Redirect"),
        b"SSH-2.0-OpenSSH\r\n",
    ],
)
def test_half_an_answer_is_one_line(part: bytes) -> None:
    with Raw(lambda write: write(part)) as server:
        with pytest.raises(ServiceError) as caught:
            server.client(max_retries=2).embed(["a text"])
        assert "\n" not in str(caught.value)
        assert "found 3 failures in a row" in str(caught.value) or "a redirect" in str(caught.value)
        assert server.requests == (1 if b"Location" in part else 3)


class Notes(SilentProgress):
    """Progress that keeps the notes."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, message: str) -> None:
        self.lines.append(message)


def busy_once(seconds: str) -> Callable[[Write], None]:
    """Asks the first requests to wait, and answers the next one."""
    answers = iter([whole(b"{}", f"Retry-After: {seconds}", status="429 Too Many Requests"), whole(ANSWER)])
    return lambda write: write(next(answers))


@pytest.fixture
def no_sleep(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Skips long pauses and returns them."""
    pauses: list[float] = []

    class Event(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            pauses.append(timeout or 0.0)
            return super().wait(0)

    fake = SimpleNamespace(**vars(threading) | {"Event": Event})
    monkeypatch.setattr("dallme.services.concurrency.threading", fake)
    return pauses


@pytest.mark.parametrize(("seconds", "shown"), [("60", True), ("6", True), ("1", False)])
def test_a_long_pause_is_shown(seconds: str, shown: bool, no_sleep: list[float], tmp_path: Path) -> None:
    notes = Notes()
    with Raw(busy_once(seconds)) as server:
        CachedEmbedder(server.client(), store=tmp_path, progress=notes).embed(["a text"])
        line = f"m at 127.0.0.1:{server.server_address[1]}: status 429; the next attempt is in {seconds}"
    assert max(no_sleep) >= float(seconds)
    assert len(notes.lines) == shown
    assert not shown or notes.lines[0][: len(line) - 1] == line[:-1]


def test_requests_that_wait_together_share_a_line(no_sleep: list[float]) -> None:
    notes = Notes()
    answers = [whole(b"{}", "Retry-After: 60", status="429 Too Many Requests")] * 3 + [whole(ANSWER)] * 3
    queue = iter(answers)
    with Raw(lambda write: write(next(queue))) as server:
        embedder = server.client(max_inputs=1, concurrency=3)
        embedder.report_to(notes)
        embedder.embed(["one", "two", "three"])
    assert len(no_sleep) >= 3
    assert len(notes.lines) == 1


def test_a_slow_failure_is_shown_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dallme.services.client.SHOWN_PAUSE", 0.3)
    notes = Notes()
    with Raw(SLOW["body"]) as server:
        embedder = server.client(max_seconds=0.5, max_retries=1)
        embedder.report_to(notes)
        with pytest.raises(ServiceError):
            embedder.embed(["a text"])
    assert len(notes.lines) == 1
    assert "an answer that takes longer than 0.5 seconds" in notes.lines[0]


def test_a_pause_above_the_limit_ends_it(no_sleep: list[float]) -> None:
    with Raw(busy_once("7")) as server, pytest.raises(ServiceError, match=r"after 7 seconds; the limit is 6"):
        server.client(max_pause=6).embed(["a text"])
    with Raw(busy_once("1e300")) as server, pytest.raises(ServiceError, match=r"after 1e\+300 seconds"):
        server.client().embed(["a text"])
    with Raw(busy_once("1200")) as server:
        server.client(max_pause=1500).embed(["a text"])
    assert max(no_sleep) >= 1200


@pytest.mark.parametrize("option", ["timeout", "max_seconds", "max_pause", "max_answer_bytes"])
@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), True])
def test_limits_are_checked(option: str, value: float) -> None:
    with pytest.raises(InputError, match=f"expected {option} to be"):
        OpenAIEmbedder("m", **{option: value})  # type: ignore[arg-type]


def test_limits_can_be_raised_on_the_command_line() -> None:
    values = {"max_answer_bytes": "1000", "max_seconds": "2.5", "max_pause": "3", "insecure": "true"}
    expected = {"max_answer_bytes": 1000, "max_seconds": 2.5, "max_pause": 3.0, "insecure": True}
    assert typed_options("embedder", "openai:m", values) == expected
    assert typed_options("decoder", "llm:m", values) == expected
