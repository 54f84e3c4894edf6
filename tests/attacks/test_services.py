"""Attacks on requests to a service: proxies, redirects and open addresses get neither key nor text."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from dallme.embedders.openai import OpenAIEmbedder
from dallme.errors import InputError, ServiceError

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
        threading.Thread(target=self.serve_forever, daemon=True).start()

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
