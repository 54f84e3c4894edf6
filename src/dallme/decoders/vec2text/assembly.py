"""Texts joined from pieces of the nearest real texts: what correction starts from."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from dallme.decoders.base import TokenCounter
from dallme.decoders.vec2text.search import Writer, embed_usable
from dallme.embedders.base import normalize
from dallme.text import clean, sentences

#: Nearest texts that pieces are taken from, pieces of one of them, and pieces for each vector, at most.
TEXTS, OF_ONE, PIECES = 32, 8, 96

#: Pieces that a text is joined from at most, and words that each has at least.
JOINED, WORDS = 4, 6

#: Cosine that a piece more must gain: a text of many pieces reads like a list.
WORTH = 0.01

#: Rounds of joining, and texts that are tried for each vector in a round.
ROUNDS, TRIED = 4, 8

#: Vectors that texts are joined for at once: memory grows with these, not with all.
_ROWS = 256

# Where a sentence may begin anew: after a semicolon, a colon, or a dash that stands alone.
_CUTS = re.compile(r"(?<=[;:])\s+|\s[-\u2013\u2014]{1,2}\s+")
# What a sentence begins with: a capital, a digit, or a letter of a script without capitals, perhaps after a quotation mark.
_BEGINS = re.compile(r"[\"'(\u201c\u2018]*[^\W_]")
_PAIRS = ("()", "[]", "\u201c\u201d")


def pieces_of(text: str, language: str = "en") -> list[str]:
    """Splits a clean text into pieces that can stand alone.

    They are its sentences, and the ends of each from a colon, a semicolon or a dash on that begin like a sentence and close their
    brackets; all have some words.

    Args:
        text: A clean text.
        language: ISO 639-1 code, for finding the ends of sentences.
    """
    found: dict[str, None] = {}
    for sentence in sentences(text, language):
        ends = [sentence[cut.end() :] for cut in _CUTS.finditer(sentence)]
        for part in (sentence, *filter(_stands_alone, ends)):
            if len(part.split()) >= WORDS:
                found[part] = None
    return list(found)


def pool_of(texts: Sequence[str], rows: Iterable[int], language: str = "en") -> dict[str, int]:
    """Pieces of some texts, with the row that each is from.

    Args:
        texts: The source.
        rows: Positions of texts, the nearest first; as many are read as are needed.
        language: ISO 639-1 code, for finding the ends of sentences.
    """
    pool: dict[str, int] = {}
    for row in islice(rows, TEXTS):
        for piece in pieces_of(clean(texts[row]), language)[:OF_ONE]:
            pool.setdefault(piece, int(row))
        if len(pool) >= PIECES:
            break
    return dict(islice(pool.items(), PIECES))


def _stands_alone(part: str) -> bool:
    begin = _BEGINS.match(part)
    whole = all(part.count(pair[0]) == part.count(pair[1]) for pair in _PAIRS) and part.count('"') % 2 == 0
    return begin is not None and not begin.group()[-1].islower() and whole


@dataclass(eq=False)
class _Row:
    """One vector, the pieces that may be joined for it, and the texts held: tuples of pieces, the nearest first."""

    target: np.ndarray
    pieces: list[str]
    held: list[tuple[str, ...]]

    def moves(self, known: dict[str, np.ndarray], tokens: dict[str, int], most: int) -> list[tuple[str, ...]]:
        """Those most likely to be near of the texts held with one piece more, with another one, or with one less.

        The vector of a text is about the mean of those of its pieces, each counted as often as it has tokens.
        """
        promised: dict[tuple[str, ...], float] = {}
        weighted = _weighted(self.pieces, known, tokens)
        lengths = np.array([tokens[piece] for piece in self.pieces], dtype=np.int64)
        for held in self.held:
            if any(piece not in known for piece in held):
                continue
            for place in range(len(held) + 1):  # what gives way; nothing at the end
                before, after = held[:place], held[place + 1 :]
                left = (*before, *after)
                base = _weighted(left, known, tokens).sum(axis=0)
                if len(left) < len(held) and left:
                    promised[left] = float(self._near(base[None])[0])
                room = most - sum(tokens[piece] for piece in left)
                fits = np.flatnonzero(lengths <= room) if len(left) < JOINED else np.array([], dtype=np.int64)
                near = self._near(base + weighted[fits])
                for best in np.argsort(-near, kind="stable")[: 2 * TRIED].tolist():
                    piece = self.pieces[fits[best]]
                    if piece not in held:
                        promised[(*before, piece, *after)] = float(near[best])
        fresh = [parts for parts in promised if " ".join(parts) not in known]
        return sorted(fresh, key=lambda parts: -promised[parts])[:TRIED]

    def _near(self, sums: np.ndarray) -> np.ndarray:
        """Cosines of vectors of shape (n, d), of any length, to the target."""
        near: np.ndarray = sums @ self.target / np.maximum(np.linalg.norm(sums, axis=1), 1e-9)
        return near

    def hold(self, found: Sequence[tuple[str, ...]], known: dict[str, np.ndarray], beam: int) -> None:
        """Keeps the nearest of the texts held and found, none twice; those held come first among equals."""
        texts: dict[str, tuple[str, ...]] = {}
        for parts in (*self.held, *found):
            texts.setdefault(" ".join(parts), parts)
        usable = [text for text in texts if text in known]
        worth = {text: float(known[text] @ self.target) - WORTH * len(texts[text]) for text in usable}
        self.held = [texts[text] for text in sorted(usable, key=lambda text: -worth[text])[:beam]]


def _weighted(pieces: Sequence[str], known: dict[str, np.ndarray], tokens: dict[str, int]) -> np.ndarray:
    """The pieces' vectors, each as long as the piece has tokens; float32 of shape (n, d)."""
    dimension = len(next(iter(known.values())))
    rows = [tokens[piece] * known[piece] for piece in pieces]
    return np.stack(rows) if rows else np.zeros((0, dimension), dtype=np.float32)


def assemble(
    writer: Writer,
    targets: np.ndarray,
    starts: Sequence[Sequence[str]],
    pools: Sequence[Sequence[str]],
    *,
    count_tokens: TokenCounter,
    max_tokens: int,
    beam: int,
) -> list[list[tuple[str, ...]]]:
    """Joins pieces of texts to texts whose vectors are near.

    From the `beam` nearest of the start and the pieces alone, a piece is added, exchanged or taken out, for some rounds: of all
    such moves those are tried, by embedding the text, that the mean of the pieces' vectors promises most of.

    Args:
        writer: What embeds.
        targets: float32 of shape (n, d).
        starts: For each of them the sentences of a text to start from.
        pools: For each of them pieces that may be joined.
        count_tokens: Tokens of each text.
        max_tokens: Most tokens of a text, by the sum of those of its pieces; a start may have more.
        beam: Texts held for each vector.

    Returns:
        For each vector at most `beam` texts as tuples of pieces, the nearest first; none where nothing can be embedded.
    """
    joined: list[list[tuple[str, ...]]] = []
    for first in range(0, len(targets), _ROWS):
        rows = slice(first, first + _ROWS)
        pieces = list(dict.fromkeys(piece for parts in (*starts[rows], *pools[rows]) for piece in parts))
        known = embed_usable(writer, list(dict.fromkeys([*pieces, *(" ".join(start) for start in starts[rows])])))
        tokens = dict(zip(pieces, (int(count) for count in count_tokens(pieces)), strict=True))
        made = []
        for target, start, pool in zip(normalize(targets[rows]), starts[rows], pools[rows], strict=True):
            usable = [piece for piece in pool if piece in known and tokens[piece] <= max_tokens]
            made.append(_Row(target, usable, []))
            made[-1].hold([tuple(start), *((piece,) for piece in usable)], known, beam)
        for _ in range(ROUNDS):
            moves = [row.moves(known, tokens, max_tokens) for row in made]
            known |= embed_usable(writer, list(dict.fromkeys(" ".join(parts) for found in moves for parts in found)))
            for row, found in zip(made, moves, strict=True):
                row.hold(found, known, beam)
        joined += [row.held for row in made]
    return joined
