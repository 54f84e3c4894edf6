"""Several requests at a time, each answer handed over as soon as it is there."""

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

#: Seconds over which the caps count.
WINDOW = 60.0
#: Longest pause, in seconds, that is chosen without the service asking for it.
LONGEST_BACKOFF = 30.0

Sleep = Callable[[float], object]


class RateLimiter:
    """Lets requests through so that no minute sees more requests, or more tokens, than the caps say.

    Safe to use from several threads. A request that alone exceeds the cap on tokens takes a whole minute's worth.
    """

    def __init__(
        self, requests: int | None, tokens: int | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Keeps the caps per minute (None: no cap) and the clock, in seconds."""
        self._requests = requests
        self._tokens = tokens
        self._clock = clock
        self._sent: deque[tuple[float, int]] = deque()
        self._sum = 0
        self._lock = threading.Lock()

    def wait(self, tokens: int, sleep: Sleep = time.sleep) -> None:
        """Waits until a request of so many tokens may be sent, and counts it."""
        while pause := self._admit(min(tokens, self._tokens or tokens)):
            sleep(pause)

    def _admit(self, tokens: int) -> float:
        """Counts the request if it may go now, and returns 0; else the seconds until it is worth asking again."""
        with self._lock:
            now = self._clock()
            while self._sent and self._sent[0][0] + WINDOW <= now:
                self._sum -= self._sent.popleft()[1]
            full = self._requests is not None and len(self._sent) >= self._requests
            heavy = self._tokens is not None and self._sum + tokens > self._tokens
            if full or heavy:
                return max(self._sent[0][0] + WINDOW - now, 1e-3)
            self._sent.append((now, tokens))
            self._sum += tokens
            return 0.0


def backoff(
    attempt: int, first: float, asked: float | None, draw: Callable[[float, float], float] | None = None
) -> float:
    """Seconds to wait before the next attempt: exponential with full jitter, and never less than the service asks for.

    Args:
        attempt: Number of the attempt that failed, from 0.
        first: Longest pause after the first one, in seconds; it doubles with each, up to :data:`LONGEST_BACKOFF`.
        asked: What the service asks for, in seconds, or None.
        draw: Draws a number between two; by default evenly.
    """
    jitter = (draw or SystemRandom().uniform)(0.0, min(first * 2.0**attempt, LONGEST_BACKOFF))
    return jitter if asked is None else asked + min(jitter, 1.0)


def retry_after(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Seconds that a service asks to wait, None if it does not.

    It says so in ``retry-after-ms``, or in ``Retry-After`` as seconds or a date.
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
    """A service takes fewer texts at a time than it was sent."""


class _StoppedError(Exception):
    """Another request failed for good while this one was waiting."""


def gather(
    ask: Callable[[np.ndarray, Sleep], Answer], batches: Sequence[np.ndarray], concurrency: int
) -> Iterator[tuple[np.ndarray, Answer]]:
    """Asks for several batches at a time and hands each over as soon as it is answered.

    A new request is sent only after what was answered was taken by the caller, so that no more than `concurrency` answers
    are ever not yet in safety. When one fails for good, or the user interrupts, no more are sent; those under way are still
    waited for and handed over, since they are paid for, and then the failure is raised.

    Args:
        ask: Sends what stands at some positions, such as texts to embed; its second argument sleeps, and ends the work if
            another batch failed. Where it raises :class:`TooManyTextsError`, the batches become smaller.
        batches: Positions of each batch.
        concurrency: Requests at a time.

    Yields:
        Positions and answer of each batch, in the order of the answers.
    """
    stop = threading.Event()
    failure: BaseException | None = None
    queue = _Queue(batches)
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
                    raise  # the second time the user means it
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


class _Queue:
    """Batches that wait, cut to the size that the service is known to take."""

    def __init__(self, batches: Sequence[np.ndarray]) -> None:
        self._batches = deque(batches)
        self._most = max(map(len, batches), default=1)

    def take(self) -> np.ndarray | None:
        """The next batch, None if there is none."""
        if not self._batches:
            return None
        batch = self._batches.popleft()
        if len(batch) > self._most:
            self._batches.appendleft(batch[self._most :])
        return batch[: self._most]

    def halve(self, batch: np.ndarray) -> None:
        """Puts a batch back that was too large, and makes those that follow half its size."""
        self._most = min(self._most, max(1, len(batch) // 2))
        self._batches.appendleft(batch)
