"""How fast requests may follow each other: caps per minute, and pauses between attempts."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from random import SystemRandom

#: Seconds over which the caps count.
WINDOW = 60.0
#: Longest pause, in seconds, that is chosen without the service asking for it.
LONGEST_BACKOFF = 30.0

Sleep = Callable[[float], object]


class Pacer:
    """Lets requests through so that no minute sees more requests, or more tokens, than the caps say.

    Safe to use from several threads. A request that alone exceeds the cap on tokens takes a whole minute's worth.
    """

    def __init__(self, requests: int | None, tokens: int | None, clock: Callable[[], float] = time.monotonic) -> None:
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


def backoff(attempt: int, first: float, asked: float | None, draw: Callable[[float, float], float] | None = None) -> float:
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
