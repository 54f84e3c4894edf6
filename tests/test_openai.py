"""OpenAI's protocol, against a real server on this machine that makes faults happen."""

from __future__ import annotations

import logging
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from dallme.distiller import Distiller
from dallme.embedders import resolve
from dallme.embedders.cache import EmbeddingStore, embed_with_store, text_keys
from dallme.embedders.hashing import HashingEmbedder
from dallme.embedders.openai import MAX_TOKENS, OpenAIEmbedder, pack, prepare
from dallme.embedders.sentence_transformer import SentenceTransformerEmbedder
from dallme.errors import BudgetError, InputError, ServiceError
from dallme.services import concurrency as gathering
from dallme.services.concurrency import WINDOW, RateLimiter, backoff, gather, retry_after
from dallme.services.pricing import count_tokens, cut
from openai_server import OpenAIServer

HASHING = HashingEmbedder(32)
TEXTS = [f"text number {row} of some words" for row in range(60)]
KEY = "sk-planted-8d1c5a7e3f"


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "DALLME_PRICES"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    with OpenAIServer(HASHING) as running:
        yield running


def client(server: OpenAIServer, **options: object) -> OpenAIEmbedder:
    """An embedder that asks the server for 20 texts at a time, and does not wait long."""
    given = {
        "base_url": server.url,
        "dimensions": 32,
        "max_inputs": 20,
        "first_pause": 0.01,
        "price": 1.0,
    } | options
    return OpenAIEmbedder("m", **given)  # type: ignore[arg-type]


def test_vectors_equal_those_of_the_model_in_order(server: OpenAIServer) -> None:
    embedder = client(server)
    np.testing.assert_allclose(embedder.embed(TEXTS), HASHING.embed(TEXTS), atol=1e-6)
    assert server.requests == 3
    assert server.bodies == [{"model": "m", "encoding_format": "float", "dimensions": 32, "texts": 20}] * 3
    assert embedder.spent_usd == pytest.approx(count_tokens(TEXTS).sum() / 1e6)


def test_vectors_of_minilm_come_through_unchanged(minilm: SentenceTransformerEmbedder) -> None:
    with OpenAIServer(minilm) as server:
        embedder = OpenAIEmbedder("all-MiniLM-L6-v2", base_url=server.url)
        np.testing.assert_allclose(embedder.embed(TEXTS[:8]), minilm.embed(TEXTS[:8]), atol=1e-6)
        assert embedder.fingerprint().dimension == 384


def test_dimensions_are_sent_only_if_given(server: OpenAIServer) -> None:
    client(server, dimensions=None).embed(TEXTS[:1])
    assert "dimensions" not in server.bodies[0]
    assert client(server, dimensions=8).embed(TEXTS[:1]).shape == (1, 8)
    with pytest.raises(
        ServiceError,
        match="expected vectors of 48 dimensions from openai:m, found 32; the server does not know",
    ):
        client(server, dimensions=48).embed(TEXTS[:1])


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


# --- several at a time


def test_no_more_requests_are_under_way_than_allowed(server: OpenAIServer) -> None:
    server.pause = 0.05
    client(server, max_inputs=5, concurrency=3).embed(TEXTS)
    assert server.requests == 12
    assert server.busiest == 3


def test_a_request_follows_only_when_an_answer_was_taken(server: OpenAIServer) -> None:
    answers = client(server, max_inputs=5, concurrency=2).embed_batches(TEXTS)
    for taken in range(1, 4):
        next(answers)
        time.sleep(0.1)
        assert server.requests <= taken + 1
    answers.close()  # type: ignore[attr-defined]
    time.sleep(0.1)
    assert server.requests <= 4


def test_an_interruption_takes_what_is_under_way_along(monkeypatch: pytest.MonkeyPatch) -> None:
    started, wait = threading.Event(), gathering.wait

    def interrupted_wait(running: object, **options: object) -> object:
        monkeypatch.setattr(gathering, "wait", wait)
        started.wait(5)
        raise KeyboardInterrupt

    def ask(rows: np.ndarray, sleep: Callable[[float], object]) -> np.ndarray:
        started.set()
        time.sleep(0.05)
        return np.full((len(rows), 1), rows[0], dtype=np.float32)

    monkeypatch.setattr(gathering, "wait", interrupted_wait)
    answers = gather(ask, [np.array([row]) for row in range(10)], 2)
    assert sorted(int(next(answers)[0][0]) for _ in range(2)) == [0, 1]
    with pytest.raises(KeyboardInterrupt):
        next(answers)


def test_a_failure_ends_the_pauses_of_others(server: OpenAIServer) -> None:
    server.script.extend(["503", "400"])
    started = time.monotonic()
    with pytest.raises(ServiceError, match="400"):
        client(server, first_pause=30.0, concurrency=2).embed(TEXTS[:40])
    assert time.monotonic() - started < 15


# --- caps, pauses, packing


class FakeTime:
    """A clock that moves only when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now += seconds


@pytest.mark.parametrize(("requests", "tokens"), [(5, None), (None, 1000), (7, 900), (None, None)])
def test_no_minute_sees_more_than_the_caps(requests: int | None, tokens: int | None) -> None:
    clock, random = FakeTime(), np.random.default_rng(0)
    rate_limiter = RateLimiter(requests, tokens, clock)
    sent = []
    for size in random.integers(1, 500, 60).tolist():
        clock.now += float(random.exponential(2))
        rate_limiter.wait(size, clock.sleep)
        sent.append((clock.now, size))
    for start, _ in sent:
        minute = [size for moment, size in sent if start <= moment < start + WINDOW]
        assert requests is None or len(minute) <= requests
        assert tokens is None or sum(minute) <= tokens
    busy = requests is not None or tokens is not None
    assert (clock.now > 300) == busy  # no slower than need be, and not without a pause


def test_a_request_above_the_cap_takes_a_minute_of_its_own() -> None:
    clock = FakeTime()
    rate_limiter = RateLimiter(None, 100, clock)
    for _ in range(3):
        rate_limiter.wait(1000, clock.sleep)
    assert clock.now == 2 * WINDOW


def test_caps_are_those_of_openai_only_there(monkeypatch: pytest.MonkeyPatch) -> None:
    assert OpenAIEmbedder().caps == (3000, 1_000_000)
    assert OpenAIEmbedder(tokens_per_minute=5).caps == (3000, 5)
    assert OpenAIEmbedder("m", base_url="http://localhost/v1").caps == (None, None)
    monkeypatch.setenv("OPENAI_BASE_URL", "http://localhost/v1")
    assert OpenAIEmbedder().caps == (None, None)


def test_caps_hold_back_the_embedder(server: OpenAIServer, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = FakeTime()
    embedder = client(server, requests_per_minute=1, concurrency=1)
    embedder.service.rate_limiter = RateLimiter(1, None, clock)

    class Paused(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            if timeout:
                clock.sleep(timeout)
            return False

    # In that module alone: other threads of the process wait as well, and would turn the clock on.
    monkeypatch.setattr(
        "dallme.services.concurrency.threading", SimpleNamespace(**vars(threading) | {"Event": Paused})
    )
    list(embedder.embed_batches(TEXTS))
    assert clock.now == 2 * WINDOW


def test_backoff_doubles_with_jitter_and_respects_retry_after() -> None:
    drawn: list[tuple[float, float]] = []

    def highest(low: float, high: float) -> float:
        drawn.append((low, high))
        return high

    assert [backoff(attempt, 0.5, None, highest) for attempt in (0, 1, 2, 3, 20)] == [0.5, 1, 2, 4, 30]
    assert {low for low, _ in drawn} == {0}
    assert backoff(0, 0.5, 7.0, highest) == 7.5
    assert backoff(9, 0.5, 7.0, highest) == 8.0
    assert 0 <= backoff(3, 0.5, None) <= 4


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "-1"}, 0.0),
        ({"retry-after-ms": "250", "retry-after": "3"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "3"}, 3.0),
        ({"retry-after": "Mon, 02 Nov 2026 10:00:30 GMT"}, 30.0),
        ({"retry-after": "Mon, 02 Nov 2026 09:59:30 GMT"}, 0.0),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "tomorrow"}, None),
    ],
)
def test_what_a_service_asks_for_is_read(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers, datetime(2026, 11, 2, 10, 0, 0, tzinfo=UTC)) == seconds


@pytest.mark.parametrize(
    ("counts", "max_inputs", "dimension", "max_tokens", "sizes"),
    [
        ([1] * 5000, 2048, 256, None, [2048, 2048, 904]),
        ([1] * 5000, 9999, 256, None, [2048, 2048, 904]),
        ([1] * 1000, 2048, 3072, None, [341, 341, 318]),
        ([8000] * 80, 2048, 256, None, [37, 37, 6]),
        ([8000] * 5, 2048, 256, 16_000, [2, 2, 1]),
        ([400_000, 1, 1], 2048, 256, None, [1, 2]),
        ([5], 1, None, None, [1]),
    ],
)
def test_requests_keep_to_the_limits(
    counts: list[int], max_inputs: int, dimension: int | None, max_tokens: int | None, sizes: list[int]
) -> None:
    batches = pack(np.array(counts), max_inputs, dimension, max_tokens)
    assert [len(rows) for rows in batches] == sizes
    assert np.concatenate(batches).tolist() == list(range(len(counts)))


# --- tokens


def test_tokens_are_those_of_openai() -> None:
    # Known from OpenAI's own tokenizer, cl100k_base.
    assert count_tokens(
        ["hello world", "tiktoken is great!", "antidisestablishmentarianism", "お誕生日おめでとう"]
    ).tolist() == [
        2,
        6,
        6,
        9,
    ]


@pytest.mark.parametrize("text", ["word " * 50, "日本語🎉" * 30, " \n" * 200, "a" * 500])
@pytest.mark.parametrize("limit", [1, 7, 20])
def test_a_cut_text_is_a_start_that_fits(text: str, limit: int) -> None:
    start = cut(text, limit)
    assert text.startswith(start)
    assert count_tokens([start])[0] <= limit
    assert len(start) < len(text)


def test_texts_are_cut_at_the_limit_and_counted(server: OpenAIServer) -> None:
    embedder = client(server, max_tokens=4)
    vectors = embedder.embed(["one two three four five six", "one two", "one two three four"])
    np.testing.assert_allclose(vectors[0], vectors[2], atol=1e-6)
    assert embedder.notes == ("openai:m: 1 text is cut at 4 tokens",)
    assert set(server.paid) == {"one two three four", "one two"}


def test_the_limit_of_openais_models_holds_with_a_prompt() -> None:
    embedder = OpenAIEmbedder()
    assert embedder.token_limit == MAX_TOKENS
    assert OpenAIEmbedder(max_tokens=10**6).token_limit == MAX_TOKENS
    assert OpenAIEmbedder("m", base_url="http://localhost/v1").token_limit is None
    prepared = embedder.prepare(["word " * 9000, "word"], "topic")
    assert prepared.tokens.tolist() == [MAX_TOKENS, 10]
    assert prepared.cut == 1
    assert prepared.texts[1] == "Identify the topic of the given text: word"
    assert prepared.texts[0].startswith("Identify the topic of the given text: word word")


def test_a_prompt_must_leave_room() -> None:
    with pytest.raises(
        InputError, match="expected a prompt of fewer than 3 tokens, which leaves room for a text, found 4"
    ):
        prepare(["a"], "one two three four", 3)


# --- money


def test_the_budget_stops_a_run_and_a_larger_one_continues(server: OpenAIServer, tmp_path: Path) -> None:
    store = EmbeddingStore(tmp_path)
    first = client(server, price=1000, max_usd=0.3)  # 20 texts have 140 tokens
    with pytest.raises(BudgetError) as caught:
        embed_with_store(first, TEXTS, store=store)
    assert str(caught.value) == (
        "expected to stay within the budget of $0.3, stopped before a request of about $0.1400: "
        "$0.2800 is spent; "
        "what is answered is kept where a store is used; raise --budget-usd (max_usd) and run the "
        "same again to continue"
    )
    assert first.spent_usd == pytest.approx(0.28)
    assert len(store.table(first.fingerprint())) == len(server.paid) == 40
    second = client(server, price=1000, max_usd=0.3)
    np.testing.assert_allclose(embed_with_store(second, TEXTS, store=store), HASHING.embed(TEXTS), atol=1e-6)
    assert set(server.paid.values()) == {1}
    assert second.spent_usd == pytest.approx(0.14)


def test_lost_answers_count_towards_the_budget(server: OpenAIServer) -> None:
    server.script.extend(["truncate"] * 5)
    with pytest.raises(
        BudgetError, match=r"\$0\.0000 is spent, \$0\.2800 perhaps for answers that were lost;"
    ):
        client(server, price=1000, max_usd=0.3).embed(TEXTS[:20])
    assert server.requests == 2


def test_a_budget_of_nothing_sends_nothing(server: OpenAIServer) -> None:
    with pytest.raises(BudgetError):
        client(server, max_usd=0).embed(TEXTS)
    assert server.requests == 0


def test_prices_come_from_option_user_file_or_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def price(model: str, **options: float) -> float | None:
        return OpenAIEmbedder(model, base_url="http://localhost/v1", **options).resolved_price.usd_per_million  # type: ignore[arg-type]

    assert [price(f"text-embedding-{name}") for name in ("3-large", "3-small", "ada-002")] == [
        0.13,
        0.02,
        0.10,
    ]
    assert price("m") is None
    own = tmp_path / "prices.toml"
    own.write_text(
        'date = 2027-01-01\nsource = "us"\n[usd_per_million_tokens]\nm = 5\ntext-embedding-3-large = 0.2\n'
    )
    monkeypatch.setenv("DALLME_PRICES", str(own))
    assert [price("m"), price("text-embedding-3-large"), price("text-embedding-3-small")] == [5, 0.2, 0.02]
    assert str(OpenAIEmbedder().resolved_price) == "$0.20 per million tokens, us, as of 2027-01-01"
    assert price("m", price=7) == 7


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "expected a file of prices in DALLME_PRICES, could not read"),
        ("a = ", "expected TOML in the file of prices"),
        ("[usd_per_million_tokens]\nm = 'dear'", "with a number of at least 0 a model"),
        ("a = 1", "with a number of at least 0 a model"),
    ],
)
def test_a_file_of_prices_that_cannot_be_used(
    content: str | None, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "prices.toml"
    if content is not None:
        own.write_text(content)
    monkeypatch.setenv("DALLME_PRICES", str(own))
    with pytest.raises(InputError, match=message):
        OpenAIEmbedder().resolved_price  # noqa: B018


def test_the_manifest_records_cost_and_a_rerun_is_free(server: OpenAIServer, tmp_path: Path) -> None:
    labels = ["a", "b"] * 30
    for spends in (True, False):
        embedder = client(server)
        manifest = Distiller(per_class=2, embedder=embedder, store=tmp_path).distill(TEXTS, labels).manifest
        assert manifest["cost_usd"] == round(embedder.spent_usd, 6)
        assert (manifest["cost_usd"] > 0) == spends
    assert manifest["configuration"]["embedder"] == "openai:m"


# --- what it is


def test_the_name_leads_to_it(server: OpenAIServer) -> None:
    assert resolve("openai:m", base_url=server.url) == OpenAIEmbedder("m", base_url=server.url)
    assert resolve("openai") == OpenAIEmbedder("text-embedding-3-large")
    assert resolve("openai:m", base_url=server.url).name == "openai:m"


def test_the_fingerprint_says_what_changes_the_vectors() -> None:
    found = OpenAIEmbedder(dimensions=256).fingerprint("topic")
    assert found.model == "openai:text-embedding-3-large"
    assert found.weights == "api.openai.com/v1/text-embedding-3-large"
    assert (found.dimension, found.max_tokens) == (256, 8192)
    assert found.prompt == "Identify the topic of the given text: "
    here = OpenAIEmbedder(base_url="http://localhost:8080/v1/", dimensions=256).fingerprint("topic")
    assert here.weights == "localhost:8080/v1/text-embedding-3-large"


def test_a_dimension_that_nobody_told_is_asked_for_once(server: OpenAIServer) -> None:
    embedder = client(server, dimensions=None)
    assert embedder.fingerprint().dimension == embedder.fingerprint("topic").dimension == 32
    assert server.requests == 1
    assert embedder.spent_usd > 0


def test_models_of_known_families_see_their_prefix() -> None:
    embedder = OpenAIEmbedder("intfloat/e5-base-v2", base_url="http://localhost/v1")
    assert embedder.prefix() == "query: "
    assert embedder.prefix("topic") == "query: Identify the topic of the given text: "


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": " "}, "expected the name of a model, found a blank one"),
        ({"dimensions": 0}, "expected dimensions to be a whole number of at least 1, found 0"),
        ({"dimensions": 4000}, "expected dimensions of text-embedding-3-large from 1 to 3072, found 4000"),
        (
            {"model": "text-embedding-ada-002", "dimensions": 8},
            "expected dimensions of text-embedding-ada-002 of 1536 only",
        ),
        ({"max_usd": -1}, "expected max_usd to be a number of at least 0, found -1"),
        ({"price": float("nan")}, "expected price to be a number of at least 0, found nan"),
        (
            {"model": "m", "max_usd": 1},
            "expected the price of 'm' to keep to a budget, found none; give it with --price",
        ),
        ({"base_url": "localhost:8080"}, "expected base_url as http://HOST/PATH"),
        ({"base_url": "ftp://host"}, "expected base_url as http://HOST/PATH"),
        ({"base_url": "http://u:sk-secret@host/v1"}, "expected base_url without user, password and query"),
        ({"base_url": "http://host/v1?key=sk-secret"}, "expected base_url without user, password and query"),
        ({"concurrency": 0}, "expected concurrency to be a whole number of at least 1, found 0"),
        ({"max_retries": -1}, "expected max_retries to be a whole number of at least 0, found -1"),
        ({"max_inputs": 0}, "expected max_inputs to be a whole number of at least 1, found 0"),
        (
            {"requests_per_minute": 0},
            "expected requests_per_minute to be a whole number of at least 1, found 0",
        ),
    ],
)
def test_wrong_options_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError) as caught:
        OpenAIEmbedder(**options)  # type: ignore[arg-type]
    assert message in str(caught.value)
    assert "sk-secret" not in str(caught.value)


# --- the key


def test_openai_needs_a_key_and_others_do_not(server: OpenAIServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        InputError, match="expected a key in the environment variable OPENAI_API_KEY, found none"
    ):
        OpenAIEmbedder().embed(["a"])
    client(server).embed(TEXTS[:1])
    assert server.keys == {"Bearer none"}
    monkeypatch.setenv("OPENAI_API_KEY", f"{KEY}\n")
    client(server).embed(TEXTS[:1])
    assert server.keys == {"Bearer none", f"Bearer {KEY}"}


@pytest.mark.parametrize("key", ["sk-ä", "sk-a b", "sk-a\0b"])
def test_a_broken_key_is_not_shown(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", os.environ | {"OPENAI_API_KEY": key})
    with pytest.raises(InputError) as caught:
        OpenAIEmbedder().embed(["a"])
    assert (
        str(caught.value)
        == "expected a key of plain letters and signs in OPENAI_API_KEY, found others; was it copied whole?"
    )


def test_the_key_is_nowhere(
    server: OpenAIServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    caplog.set_level(logging.DEBUG)
    embedder, seen = client(server), []
    Distiller(per_class=2, embedder=embedder, store=tmp_path / "store").distill(TEXTS, ["a", "b"] * 30).save(
        tmp_path / "out"
    )
    for fault in ("400", "401", "403", "404", "429-insufficient_quota", "503", "drop", "half-json"):
        server.script.extend([fault] * 2)
        with pytest.raises(ServiceError) as caught:
            client(server, max_retries=1).embed(TEXTS[:1])
        seen += [
            str(caught.value),
            repr(caught.value),
            repr(caught.value.__cause__),
            repr(caught.value.__context__),
        ]
        server.script.clear()
    assert server.keys == {f"Bearer {KEY}"}
    assert any("[key]" in line for line in seen)  # the server put it into its message, and it was taken out
    seen += [
        repr(embedder),
        str(embedder.fingerprint()),
        repr(embedder.__getstate__()),
        repr(embedder.service),
        caplog.text,
    ]
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 3
    assert not any(KEY in text for text in seen)
    assert not any(KEY.encode() in path.read_bytes() for path in files)
    assert KEY.encode() not in pickle.dumps(embedder)


def test_a_copy_in_another_process_works(server: OpenAIServer) -> None:
    embedder = client(server)
    embedder.embed(TEXTS[:1])
    copy = pickle.loads(pickle.dumps(embedder))
    assert copy == embedder
    assert copy.spent_usd == 0
    np.testing.assert_allclose(copy.embed(TEXTS[:1]), HASHING.embed(TEXTS[:1]), atol=1e-6)


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
