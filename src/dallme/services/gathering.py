"""Several requests at a time, each answer handed over as soon as it is there."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TypeVar

import numpy as np

from dallme.services.pacing import Sleep

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
