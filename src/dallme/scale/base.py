"""The contract of an engine: pieces of work in, their results out, wherever they are worked on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar, runtime_checkable

Piece = TypeVar("Piece")
Result = TypeVar("Result")


@runtime_checkable
class Engine(Protocol):
    """Works on the pieces of a stage. A stage gives the same result on every engine."""

    @property
    def remote(self) -> bool:
        """Whether pieces may be worked on in other processes, so that work and pieces must be fit to travel."""

    def map(
        self, work: Callable[[Piece], Result], pieces: Iterable[Piece], *, accelerated: bool = False
    ) -> Iterator[tuple[int, Result]]:
        """Calls `work` with each piece.

        Args:
            work: What is to be done. A remote engine sends it once to each worker, which keeps it: models that it loads on
                first use are loaded once a worker.
            pieces: Taken as they are needed, so that they need not all be in memory.
            accelerated: Whether the work gains from a GPU.

        Yields:
            The position of a piece and its result, as soon as it is there, in any order; each position once.
        """

    def close(self) -> None:
        """Gives back what it holds; the next :meth:`map` takes it again."""


class LocalEngine:
    """Works in this process, on one piece after the other."""

    remote = False

    def map(
        self, work: Callable[[Piece], Result], pieces: Iterable[Piece], *, accelerated: bool = False
    ) -> Iterator[tuple[int, Result]]:
        """Calls `work` with each piece, in order."""
        for place, piece in enumerate(pieces):
            yield place, work(piece)

    def close(self) -> None:
        """Holds nothing."""


def in_order(results: Iterable[tuple[int, Result]]) -> list[Result]:
    """The results of :meth:`Engine.map` by position."""
    return [result for _, result in sorted(results, key=lambda found: found[0])]
