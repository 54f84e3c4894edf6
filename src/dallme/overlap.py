"""Detection of word runs that a few texts share with many others."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

#: Words of a shared run that count as contamination (Brown et al. 2020, "Language Models are Few-Shot
#: Learners", appendix C).
CONTAMINATION = 13

#: A word; each character of Han and kana counts as one, since they are written without spaces.
WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|\w+")


def words_of(text: str) -> list[str]:
    """Returns the words of a text, case-folded."""
    return WORD.findall(text.casefold())


@dataclass(frozen=True, eq=False)
class Overlap:
    """The overlap of one text with the rows that were read.

    Attributes:
        runs: For each word of the text the length, in words, of the longest run that ends with it and is in a
            row, int64 of shape (words,).
        row: Position of a row that holds the longest run; None if no word is shared.
        start: Start of the longest run in the text, in characters.
        end: End of it.
    """

    runs: np.ndarray
    row: int | None = None
    start: int = 0
    end: int = 0

    @property
    def longest(self) -> int:
        """Number of words of the longest shared run."""
        return int(self.runs.max(initial=0))

    def share_of_grams(self, length: int) -> float:
        """Returns the share of the text's runs of `length` words that are in a row; 0 for a shorter text."""
        ends = self.runs[length - 1 :]
        return float(np.mean(ends >= length)) if len(ends) else 0.0


class SuffixAutomaton:
    """A suffix automaton over the words of a few texts, which finds their overlap with any number of rows.

    A state stands for the runs that end at the same positions of the texts (Blumer et al. 1985, "The smallest
    automaton recognizing the subwords of a text"). Reading a row takes time linear in its length; memory does
    not grow with the rows.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        """Builds the automaton.

        Args:
            texts: The few texts.
        """
        self.texts = list(texts)
        self._next: list[dict[str, int]] = [{}]
        self._link, self._length = [-1], [0]
        self._ends: list[list[int]] = []
        for text in self.texts:
            state, ends = 0, []
            for word in words_of(text):
                state = self._extend(state, word)
                ends.append(state)
            self._ends.append(ends)

    def read(self, rows: Iterable[str]) -> list[Overlap]:
        """Reads rows and returns the overlap of each text with any one of them.

        Args:
            rows: Texts, read one by one.

        Returns:
            The overlap of each text, in the order of the texts.
        """
        best, origin = [0] * len(self._length), [-1] * len(self._length)
        following, link, lengths = self._next, self._link, self._length
        for position, row in enumerate(rows):
            state = matched = 0
            for word in words_of(row):
                while state and word not in following[state]:
                    state = link[state]
                    matched = lengths[state]
                target = following[state].get(word)
                if target is None:
                    matched = 0
                    continue
                state, matched = target, matched + 1
                if matched > best[state]:
                    best[state], origin[state] = matched, position
        for state in sorted(range(1, len(lengths)), key=lengths.__getitem__, reverse=True):
            parent = link[state]
            # A row that holds a run holds all of its endings.
            if best[state] and parent > 0 and lengths[parent] > best[parent]:
                best[parent], origin[parent] = lengths[parent], origin[state]
        return [self._overlap(index, best, origin) for index in range(len(self.texts))]

    def _overlap(self, index: int, best: list[int], origin: list[int]) -> Overlap:
        """Returns the overlap of a text, from the longest run of each state and the row that holds it."""
        runs, rows = [], []
        for state in self._ends[index]:
            while state > 0 and not best[state]:
                state = self._link[state]
            runs.append(best[state] if state > 0 else 0)
            rows.append(origin[state] if state > 0 else -1)
        lengths = np.array(runs, dtype=np.int64)
        if not lengths.any():
            return Overlap(lengths)
        last = int(np.argmax(lengths))
        # Positions in the text as written; case-folding rarely changes the number of words.
        spans = [match.span() for match in WORD.finditer(self.texts[index])]
        if len(spans) != len(runs):
            return Overlap(lengths, rows[last], 0, len(self.texts[index]))
        return Overlap(lengths, rows[last], spans[last - runs[last] + 1][0], spans[last][1])

    def _extend(self, last: int, word: str) -> int:
        """Adds `word` after the state `last`; returns the new state."""
        known = self._next[last].get(word)
        if known is not None:
            return known if self._length[known] == self._length[last] + 1 else self._split(last, known, word)
        state, above = self._add({}, self._length[last] + 1), last
        while above >= 0 and word not in self._next[above]:
            self._next[above][word] = state
            above = self._link[above]
        if above < 0:
            self._link[state] = 0
            return state
        target = self._next[above][word]
        self._link[state] = (
            target if self._length[target] == self._length[above] + 1 else self._split(above, target, word)
        )
        return state

    def _split(self, above: int, target: int, word: str) -> int:
        """Moves the runs that come from `above` out of `target` into a new state."""
        copy = self._add(dict(self._next[target]), self._length[above] + 1)
        self._link[copy], self._link[target] = self._link[target], copy
        while above >= 0 and self._next[above].get(word) == target:
            self._next[above][word] = copy
            above = self._link[above]
        return copy

    def _add(self, following: dict[str, int], length: int) -> int:
        self._next.append(following)
        self._link.append(0)
        self._length.append(length)
        return len(self._length) - 1


@dataclass(frozen=True, eq=False)
class Contamination:
    """The overlap of a few texts with test rows.

    Attributes:
        rows: Number of test rows.
        exact: Texts with exactly the words of a test row, in its order.
        overlaps: Overlap of each text with any test row.
    """

    rows: int
    exact: tuple[int, ...]
    overlaps: tuple[Overlap, ...]

    @classmethod
    def find(cls, automaton: SuffixAutomaton, rows: Iterable[str]) -> Contamination:
        """Reads test rows, one by one.

        Args:
            automaton: The texts.
            rows: Test rows, without markup.
        """
        own: dict[tuple[str, ...], list[int]] = {}
        for index, text in enumerate(automaton.texts):
            own.setdefault(tuple(words_of(text)), []).append(index)
        exact: set[int] = set()
        count = 0

        def compared() -> Iterator[str]:
            nonlocal count
            for row in rows:
                count += 1
                exact.update(own.get(tuple(words_of(row)), ()))
                yield row

        overlaps = automaton.read(compared())
        return cls(count, tuple(sorted(exact)), tuple(overlaps))

    @property
    def shared(self) -> list[int]:
        """Texts that share a run of thirteen words with a test row."""
        return [index for index, overlap in enumerate(self.overlaps) if overlap.longest >= CONTAMINATION]

    def as_dict(self) -> dict[str, Any]:
        """Returns the entry of the audit and the manifest; it quotes no test row."""
        return {
            "rows": self.rows,
            "exact": list(self.exact),
            "longest_span": max((overlap.longest for overlap in self.overlaps), default=0),
            "shared_13grams": self.shared,
        }
