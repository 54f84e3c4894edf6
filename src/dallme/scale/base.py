"""The contract of an engine: chunks of work in, their results out, wherever they are worked on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar, runtime_checkable

Chunk = TypeVar("Chunk")
Result = TypeVar("Result")


@runtime_checkable
class Engine(Protocol):
    """Works on the chunks of a stage. A stage gives the same result on every engine."""

    @property
    def remote(self) -> bool:
        """Whether chunks may be worked on in other processes, so that work and chunks must be fit to travel."""

    def map(
        self, work: Callable[[Chunk], Result], chunks: Iterable[Chunk], *, accelerated: bool = False
    ) -> Iterator[tuple[int, Result]]:
        """Calls `work` with each chunk.

        Args:
            work: What is to be done. A remote engine sends it once to each worker, which keeps it: models that it loads on
                first use are loaded once a worker.
            chunks: Taken as they are needed, so that they need not all be in memory.
            accelerated: Whether the work gains from a GPU.

        Yields:
            The position of a chunk and its result, as soon as it is there, in any order; each position once.
        """

    def close(self) -> None:
        """Gives back what it holds; the next :meth:`map` takes it again."""


class LocalEngine:
    """Works in this process, on one chunk after the other."""

    remote = False

    def map(
        self, work: Callable[[Chunk], Result], chunks: Iterable[Chunk], *, accelerated: bool = False
    ) -> Iterator[tuple[int, Result]]:
        """Calls `work` with each chunk, in order."""
        for place, chunk in enumerate(chunks):
            yield place, work(chunk)

    def close(self) -> None:
        """Holds nothing."""


def in_order(results: Iterable[tuple[int, Result]]) -> list[Result]:
    """The results of :meth:`Engine.map` by position."""
    return [result for _, result in sorted(results, key=lambda found: found[0])]
