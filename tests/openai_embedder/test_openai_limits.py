"""Limits of a service: requests at a time, caps a minute, and pauses."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from types import SimpleNamespace

import numpy as np
import pytest

from dallme.embedders.openai import OpenAIEmbedder, pack
from dallme.errors import ServiceError
from dallme.services import concurrency as gathering
from dallme.services.concurrency import WINDOW, RateLimiter, backoff, gather, retry_after
from openai_cases import TEXTS, client
from openai_server import OpenAIServer


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
