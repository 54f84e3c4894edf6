"""How much of a few texts stands word by word in many others."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

#: Words of a run that a text and a test row may not share: the length that tells contamination apart from chance (Brown et
#: al. 2020, "Language Models are Few-Shot Learners", appendix C).
CONTAMINATION = 13

# Han and kana are written without spaces: each character counts as a word.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|\w+")


def words_of(text: str) -> list[str]:
    """The words of a text, case-folded."""
    return _WORD.findall(text.casefold())


@dataclass(frozen=True, eq=False)
class Overlap:
    """What one text shares with the rows that were read.

    Attributes:
        runs: For each word of the text the length, in words, of the longest run that ends with it and stands in some row,
            int64 of shape (words,).
        row: Position of a row that holds the longest run; None if no word is shared.
        start: Where the longest run begins in the text, in characters.
        end: Where it ends.
    """

    runs: np.ndarray
    row: int | None = None
    start: int = 0
    end: int = 0

    @property
    def longest(self) -> int:
        """Words of the longest shared run."""
        return int(self.runs.max(initial=0))

    def share_of_grams(self, length: int) -> float:
        """Share of the text's runs of `length` words that stand in some row; 0 for a shorter text."""
        ends = self.runs[length - 1 :]
        return float(np.mean(ends >= length)) if len(ends) else 0.0


class SuffixAutomaton:
    """All runs of words of a few texts, in a suffix automaton, through which any number of rows is read.

    A state stands for the runs that end at the same places of the texts (Blumer et al. 1985, "The smallest automaton
    recognizing the subwords of a text"). Reading a row takes time in its length, and memory does not grow with the rows.
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
        """Reads rows and tells what each text shares with any one of them.

        Args:
            rows: Texts, read one by one.

        Returns:
            What each text shares, in the order of the texts.
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
            # Whoever holds a run holds its endings, whole.
            if best[state] and parent > 0 and lengths[parent] > best[parent]:
                best[parent], origin[parent] = lengths[parent], origin[state]
        return [self._copied(index, best, origin) for index in range(len(self.texts))]

    def _copied(self, index: int, best: list[int], origin: list[int]) -> Overlap:
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
        # The words of the text as it is written: case-folding may change the number of letters, not of words.
        places = [match.span() for match in _WORD.finditer(self.texts[index])]
        first = last - runs[last] + 1
        if len(places) != len(runs):
            return Overlap(lengths, rows[last], 0, len(self.texts[index]))
        return Overlap(lengths, rows[last], places[first][0], places[last][1])

    def _extend(self, last: int, word: str) -> int:
        """The state after `word`, which follows what leads to `last`."""
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
        """Takes the runs that come from `above` out of `target` into a state of their own."""
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
    """What a few texts share with test rows.

    Attributes:
        rows: Test rows that were read.
        exact: Texts that have the words of a test row, all of them in its order and no others.
        copied: What each text shares with any test row.
    """

    rows: int
    exact: tuple[int, ...]
    copied: tuple[Overlap, ...]

    @classmethod
    def find(cls, phrases: SuffixAutomaton, rows: Iterable[str]) -> Contamination:
        """Reads test rows, one by one.

        Args:
            phrases: The texts.
            rows: Test rows, without markup.
        """
        own: dict[tuple[str, ...], list[int]] = {}
        for index, text in enumerate(phrases.texts):
            own.setdefault(tuple(words_of(text)), []).append(index)
        exact: set[int] = set()
        count = 0

        def watched() -> Iterator[str]:
            nonlocal count
            for row in rows:
                count += 1
                exact.update(own.get(tuple(words_of(row)), ()))
                yield row

        copied = phrases.read(watched())
        return cls(count, tuple(sorted(exact)), tuple(copied))

    @property
    def shared(self) -> list[int]:
        """Texts that share a run of thirteen words with a test row."""
        return [index for index, copied in enumerate(self.copied) if copied.longest >= CONTAMINATION]

    def as_dict(self) -> dict[str, Any]:
        """What is written about it; no test row is quoted."""
        return {
            "rows": self.rows,
            "exact": list(self.exact),
            "longest_span": max((copied.longest for copied in self.copied), default=0),
            "shared_13grams": self.shared,
        }
