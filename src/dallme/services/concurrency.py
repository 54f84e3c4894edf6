"""Concurrent requests: a rate limiter, exponential backoff, and a pool that yields answers as they arrive."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from random import SystemRandom
from typing import TypeVar

import numpy as np

#: Seconds of the sliding window of a rate limit.
WINDOW = 60.0
#: Longest pause, in seconds, that the service did not ask for.
LONGEST_BACKOFF = 30.0

Sleep = Callable[[float], object]


class RateLimiter:
    """Delays requests until no minute has more requests, or more tokens, than the limits.

    Thread-safe. A request above the token limit counts as a full minute's tokens.
    """

    def __init__(
        self, requests: int | None, tokens: int | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Stores the limits per minute (None: no limit) and the clock, in seconds."""
        self._requests = requests
        self._tokens = tokens
        self._clock = clock
        self._sent: deque[tuple[float, int]] = deque()
        self._sum = 0
        self._lock = threading.Lock()

    def wait(self, tokens: int, sleep: Sleep = time.sleep) -> None:
        """Waits until a request of that many tokens may be sent, and counts it."""
        while pause := self._admit(min(tokens, self._tokens or tokens)):
            sleep(pause)

    def _admit(self, tokens: int) -> float:
        """Counts the request and returns 0 if it may be sent; else returns the seconds until the next try."""
        with self._lock:
            now = self._clock()
            while self._sent and self._sent[0][0] + WINDOW <= now:
                self._sum -= self._sent.popleft()[1]
            too_many = self._requests is not None and len(self._sent) >= self._requests
            too_large = self._tokens is not None and self._sum + tokens > self._tokens
            if too_many or too_large:
                return max(self._sent[0][0] + WINDOW - now, 1e-3)
            self._sent.append((now, tokens))
            self._sum += tokens
            return 0.0


def backoff(
    attempt: int, first: float, asked: float | None, draw: Callable[[float, float], float] | None = None
) -> float:
    """Returns the pause before the next attempt: exponential, with full jitter, at least `asked`.

    Args:
        attempt: Number of the failed attempt, from 0.
        first: Longest pause after the first attempt, in seconds; it doubles up to :data:`LONGEST_BACKOFF`.
        asked: Pause that the service asks for, in seconds, or None.
        draw: Draws a number between two; by default uniformly.
    """
    jitter = (draw or SystemRandom().uniform)(0.0, min(first * 2.0**attempt, LONGEST_BACKOFF))
    return jitter if asked is None else asked + min(jitter, 1.0)


def retry_after(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Returns the seconds that a service asks to wait; None if it does not ask.

    The headers are ``retry-after-ms``, or ``Retry-After`` with seconds or a date.
    """
    for name, scale in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        try:
            seconds = float(headers[name]) * scale
        except (KeyError, ValueError):
            continue
        if not math.isnan(seconds):
            return max(seconds, 0.0)
    try:
        date = parsedate_to_datetime(headers["retry-after"])
    except (KeyError, ValueError, IndexError, TypeError):  # no header, or no date in it
        return None
    date = date if date.tzinfo else date.replace(tzinfo=UTC)
    return max((date - (now or datetime.now(UTC))).total_seconds(), 0.0)


Answer = TypeVar("Answer")


class TooManyTextsError(Exception):
    """A request held more texts than the service accepts."""


class _StoppedError(Exception):
    """Another request failed permanently while this one was waiting."""


def gather(
    ask: Callable[[np.ndarray, Sleep], Answer], batches: Sequence[np.ndarray], concurrency: int
) -> Iterator[tuple[np.ndarray, Answer]]:
    """Sends several batches at a time and yields each answer as soon as it arrives.

    A new request is sent only after the caller received the previous answer, so at most `concurrency` answers
    are unsaved at any time. After a permanent failure or an interrupt no more are sent. Requests in progress
    are awaited and yielded, because they are paid for; then the failure is raised.

    Args:
        ask: Sends the texts at some positions. Its second argument sleeps, and raises once another batch has
            failed. If it raises :class:`TooManyTextsError`, batches are halved.
        batches: Positions of each batch.
        concurrency: Requests at a time.

    Yields:
        Positions and answer of each batch, in the order of the answers.
    """
    stop = threading.Event()
    failure: BaseException | None = None
    queue = _BatchQueue(batches)
    running: dict[Future[Answer], np.ndarray] = {}

    def sleep(seconds: float) -> None:
        if stop.wait(seconds):
            raise _StoppedError

    pool = ThreadPoolExecutor(concurrency, thread_name_prefix="dallme-openai")
    try:
        while True:
            while failure is None and len(running) < concurrency and (batch := queue.take()) is not None:
                running[pool.submit(ask, batch, sleep)] = batch
            if not running:
                break
            try:
                done = wait(running, return_when=FIRST_COMPLETED).done
            except KeyboardInterrupt as interrupt:
                if failure is not None:
                    raise  # a second interrupt ends the wait
                failure, done = interrupt, set()
                stop.set()
            for future in done:
                batch, error = running.pop(future), future.exception()
                if error is None:
                    yield batch, future.result()
                elif isinstance(error, TooManyTextsError):
                    queue.halve(batch)
                else:
                    failure = failure or error
                    stop.set()
    finally:
        stop.set()
        pool.shutdown(wait=False, cancel_futures=True)
    if failure is not None:
        raise failure


class _BatchQueue:
    """Queue of batches, cut to the size that the service is known to accept."""

    def __init__(self, batches: Sequence[np.ndarray]) -> None:
        self._batches = deque(batches)
        self._limit = max(map(len, batches), default=1)

    def take(self) -> np.ndarray | None:
        """Removes and returns the next batch; None if there is none."""
        if not self._batches:
            return None
        batch = self._batches.popleft()
        if len(batch) > self._limit:
            self._batches.appendleft(batch[self._limit :])
        return batch[: self._limit]

    def halve(self, batch: np.ndarray) -> None:
        """Returns a batch that was too large to the queue; it and the following are cut to half its size."""
        self._limit = min(self._limit, max(1, len(batch) // 2))
        self._batches.appendleft(batch)
