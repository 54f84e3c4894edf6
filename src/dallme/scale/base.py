"""The contract of an engine: chunks of work in, results out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar, runtime_checkable

Chunk = TypeVar("Chunk")
Result = TypeVar("Result")


@runtime_checkable
class Engine(Protocol):
    """Runs the chunks of a stage. A stage gives the same result on every engine."""

    @property
    def remote(self) -> bool:
        """Whether chunks may run in other processes; then work and chunks must be picklable."""

    def map(
        self, work: Callable[[Chunk], Result], chunks: Iterable[Chunk], *, accelerated: bool = False
    ) -> Iterator[tuple[int, Result]]:
        """Calls `work` with each chunk.

        Args:
            work: Function of a chunk. A remote engine sends it once to each worker, which keeps it; a model
                that it loads on first use loads once per worker.
            chunks: Chunks, taken as needed; they are never all in memory.
            accelerated: Whether the work benefits from a GPU.

        Yields:
            Position of a chunk and its result, as soon as it is ready, in any order; each position once.
        """

    def close(self) -> None:
        """Releases its resources; the next :meth:`map` acquires them again."""


class LocalEngine:
    """Runs in this process, one chunk after the other."""

    remote = False

    def map(
        self, work: Callable[[Chunk], Result], chunks: Iterable[Chunk], *, accelerated: bool = False
    ) -> Iterator[tuple[int, Result]]:
        """Calls `work` with each chunk, in order."""
        for position, chunk in enumerate(chunks):
            yield position, work(chunk)

    def close(self) -> None:
        """Does nothing: there is nothing to release."""


def in_order(results: Iterable[tuple[int, Result]]) -> list[Result]:
    """Returns the results of :meth:`Engine.map`, sorted by position."""
    return [result for _, result in sorted(results, key=lambda pair: pair[0])]
