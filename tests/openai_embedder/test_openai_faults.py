"""Faults of a service: requests that are repeated, refused or lost, and runs that are killed."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from dallme.embedders.cache import EmbeddingStore, embed_with_store, text_keys
from dallme.embedders.openai import OpenAIEmbedder
from dallme.errors import ServiceError
from openai_cases import HASHING, TEXTS, client
from openai_server import OpenAIServer


@pytest.mark.parametrize(
    "fault",
    [
        *(
            "408",
            "409",
            "429",
            "429-after",
            "429-ms",
            "500",
            "502",
            "503",
            "503-after",
            "drop",
            "truncate",
            "half-json",
            "fewer",
        ),
        *("twice", "nan", "ragged", "empty", "nonsense"),
    ],
)
def test_what_fails_in_passing_is_asked_again(server: OpenAIServer, fault: str) -> None:
    server.script.extend(["ok", fault])
    np.testing.assert_allclose(client(server).embed(TEXTS), HASHING.embed(TEXTS), atol=1e-6)
    assert server.requests == 4
    assert set(server.paid.values()) == {1}


@pytest.mark.parametrize("oddity", ["reversed", "no-usage", "delay"])
def test_what_is_merely_unusual_is_taken(server: OpenAIServer, oddity: str) -> None:
    server.script.append(oddity)
    embedder = client(server)
    np.testing.assert_allclose(embedder.embed(TEXTS), HASHING.embed(TEXTS), atol=1e-6)
    assert server.requests == 3
    assert embedder.spent_usd > 0


def test_a_time_out_is_asked_again(server: OpenAIServer) -> None:
    server.script.append("hang")
    embedder = client(server, timeout=0.5, concurrency=1)
    np.testing.assert_allclose(embedder.embed(TEXTS[:20]), HASHING.embed(TEXTS[:20]), atol=1e-6)
    assert server.requests == 2


def test_a_service_that_keeps_failing_is_given_up(server: OpenAIServer) -> None:
    server.script.extend(["503"] * 9)
    with pytest.raises(ServiceError) as caught:
        client(server, max_retries=2).embed(TEXTS[:5])
    address = server.url.removeprefix("http://").removesuffix("/v1")
    assert str(caught.value) == (
        f"expected embeddings from {address}, found 3 failures in a row, the last: status 503 "
        f"(refused on purpose, Bearer none); "
        "what is answered is kept where a store is used: run the same again to continue"
    )
    assert server.requests == 3


@pytest.mark.parametrize(
    ("status", "message"),
    [
        ("401", "found that the key is refused (401); check the environment variable OPENAI_API_KEY"),
        ("403", "found status 403 (refused on purpose, Bearer none); check that the account may use 'm'"),
        (
            "404",
            "found no model 'm' there: status 404 (refused on purpose, Bearer none); check the name "
            "and --base-url",
        ),
        (
            "400",
            "found status 400 (refused on purpose, Bearer none); the server may take fewer or shorter texts",
        ),
        (
            "413",
            "found status 413 (refused on purpose, Bearer none); the server may take fewer or shorter texts",
        ),
        (
            "429-insufficient_quota",
            "found that the account has no credit left: status 429 (refused on purpose, Bearer none)",
        ),
        (
            "429-ages",
            "and a request to retry after 86400 seconds; the limit is 900; what is answered is kept",
        ),
    ],
)
def test_a_refusal_ends_it_at_once(server: OpenAIServer, status: str, message: str) -> None:
    server.script.append(status)
    with pytest.raises(ServiceError) as caught:
        client(server).embed(TEXTS[:1])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert server.requests == 1


def test_no_server_at_all_is_a_clear_error(server: OpenAIServer) -> None:
    embedder = OpenAIEmbedder("m", base_url="http://127.0.0.1:9/v1", max_retries=1, first_pause=0.01)
    with pytest.raises(
        ServiceError,
        match=r"from 127\.0\.0\.1:9, found 2 failures in a row, the last: a broken connection \(",
    ):
        embedder.embed(TEXTS[:1])


def test_a_server_that_takes_fewer_texts_is_sent_fewer(server: OpenAIServer) -> None:
    server.script.extend(["at-most-6"] * 100)
    embedder = client(server, concurrency=1)
    np.testing.assert_allclose(embedder.embed(TEXTS), HASHING.embed(TEXTS), atol=1e-6)
    assert [body["texts"] for body in server.bodies[:3]] == [20, 10, 5]
    assert set(server.paid.values()) == {1}


def test_a_failure_leaves_what_others_answered_in_the_store(server: OpenAIServer, tmp_path: Path) -> None:
    server.script.extend(["ok", "400", "ok"])
    server.pause = 0.05
    store = EmbeddingStore(tmp_path)
    with pytest.raises(ServiceError, match="status 400"):
        embed_with_store(client(server, concurrency=3), TEXTS, store=store)
    assert len(store.table(client(server).fingerprint())) == 40
    np.testing.assert_allclose(
        embed_with_store(client(server), TEXTS, store=store), HASHING.embed(TEXTS), atol=1e-6
    )
    assert set(server.paid.values()) == {1}


# --- killed and resumed

CLIENT = """
import sys
from dallme.embedders.openai import OpenAIEmbedder
from dallme.embedders.cache import EmbeddingStore, embed_with_store
embedder = OpenAIEmbedder("m", base_url=sys.argv[1], dimensions=32, max_inputs=10,
    first_pause=0.01, concurrency=3)
texts = [f"text number {row} of some words" for row in range(400)]
embed_with_store(embedder, texts, store=EmbeddingStore(sys.argv[2]))
"""


def test_a_killed_run_resumes_without_paying_twice(tmp_path: Path) -> None:
    texts = [f"text number {row} of some words" for row in range(400)]
    with OpenAIServer(HASHING, rate=0.1, seed=3, pause=0.03) as server:
        running = subprocess.Popen([sys.executable, "-c", CLIENT, server.url, str(tmp_path)])
        while len(server.paid) < 150:
            assert running.poll() is None
            time.sleep(0.005)
        running.send_signal(signal.SIGKILL)
        running.wait()
        time.sleep(0.3)  # what was under way at the server ends
        embedder = OpenAIEmbedder(
            "m", base_url=server.url, dimensions=32, max_inputs=10, first_pause=0.01, concurrency=3
        )
        store = EmbeddingStore(tmp_path)
        there = store.table(embedder.fingerprint()).lookup(text_keys(texts))
        assert 100 <= there.sum() < 400
        np.testing.assert_allclose(
            embed_with_store(embedder, texts, store=store), HASHING.embed(texts), atol=1e-6
        )
        stored = {text for text, held in zip(texts, there, strict=True) if held}
        assert {server.paid[text] for text in stored} == {1}
        twice = [text for text in texts if server.paid[text] > 1]
        assert len(twice) <= 3 * 10  # at most what was under way
        assert set(server.paid) == set(texts)


@pytest.mark.parametrize("status", [400, 413, 422])
def test_batches_halve_on_any_answer_that_is_too_large(server: OpenAIServer, status: int) -> None:
    server.script.extend([f"most-{status}-5"] * 60)
    np.testing.assert_allclose(client(server).embed(TEXTS), HASHING.embed(TEXTS), atol=1e-6)
    assert max(server.paid.values()) == 1


def test_an_error_with_status_200_ends_at_once_with_its_reason(server: OpenAIServer) -> None:
    server.script.extend(["error-200"] * 9)
    with pytest.raises(ServiceError, match=r"found an error in its answer \(model not loaded\)"):
        client(server).embed(TEXTS[:1])
    assert server.requests == 1


def test_a_vector_with_nan_names_its_text(server: OpenAIServer) -> None:
    server.script.append("nan")
    with pytest.raises(ServiceError, match="NaN or infinity in the vector of the text 'text number 0 of"):
        client(server, max_retries=0).embed(TEXTS[:3])


def test_a_deep_answer_is_one_line(server: OpenAIServer) -> None:
    server.script.append("deep")
    with pytest.raises(ServiceError, match="an answer that cannot be used"):
        client(server, max_retries=0).embed(TEXTS[:3])
