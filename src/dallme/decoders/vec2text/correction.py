"""Search for texts near a vector: multi-step correction, and start texts joined from pieces of real texts.

The correction (Morris et al., section 4) writes texts, embeds them, keeps the nearest and corrects those.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Protocol

import numpy as np

from dallme.data import DecodedText, Prototypes
from dallme.decoders import postprocess
from dallme.decoders.base import Context, TokenCounter
from dallme.decoders.nearest import nearest_unused
from dallme.embedders.base import normalize
from dallme.text import clean, sentences

#: A row is finished after this many steps without a nearer text, or at this cosine.
PATIENCE, CLOSE_ENOUGH = 2, 0.999

#: Sampling temperature of all texts but the most likely one; 1 is the model's own distribution.
TEMPERATURE = 0.7


class TextGenerator(Protocol):
    """Writes and embeds texts, as an :class:`~dallme.decoders.vec2text.inverter.Inverter` does."""

    def write(
        self,
        targets: np.ndarray,
        *,
        current: Sequence[str] | None = None,
        current_vectors: np.ndarray | None = None,
        samples: int = 1,
        seeds: Sequence[int] | None = None,
        again: Sequence[bool] | None = None,
    ) -> list[list[str]]:
        """Writes `samples` texts for each target, or corrections of the current texts.

        The first text of each target is the most likely one; the others are sampled.

        Where `again` is set, the most likely correction of that text is known and is not written.
        """

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Embeds texts; float32 of shape (n, d), of length 1."""


@dataclass(frozen=True)
class Candidate:
    """A written text with its cosine to the target.

    Attributes:
        text: The text.
        cosine: Cosine of its vector to the target.
        vector: Its vector, float32 of shape (d,).
    """

    text: str
    cosine: float
    vector: np.ndarray = field(compare=False, repr=False)


@dataclass(frozen=True)
class Decoded:
    """The texts written for one vector.

    Attributes:
        text: The nearest text; blank if none could be written.
        cosine: Cosine of its vector to the target; 0 if none could be written.
        steps: Number of correction steps made.
        candidates: The final beam, nearest first; the first is `text`.
    """

    text: str
    cosine: float
    steps: int
    candidates: tuple[Candidate, ...]


@dataclass
class _Row:
    """One target vector and its beam of candidates."""

    target: np.ndarray
    rng: np.random.Generator
    beam: list[Candidate] = field(default_factory=list)
    corrected: set[str] = field(default_factory=set)
    steps: int = 0
    stale: int = 0

    @property
    def done(self) -> bool:
        return not self.beam or self.beam[0].cosine >= CLOSE_ENOUGH or self.stale >= PATIENCE

    @property
    def decoded(self) -> Decoded:
        best = self.beam[0] if self.beam else Candidate("", 0.0, np.zeros_like(self.target))
        return Decoded(best.text, best.cosine, self.steps, tuple(self.beam))

    def next_seed(self) -> int:
        return int(self.rng.integers(2**62))

    def add(self, candidates: list[Candidate], width: int) -> None:
        """Keeps the `width` nearest texts; earlier ones win ties, so the best never gets worse."""
        best = self.beam[0].text if self.beam else None
        merged = [*self.beam, *candidates]
        latest = {candidate.text: candidate for candidate in [*candidates, *self.beam]}
        order = {candidate.text: rank for rank, candidate in enumerate(merged)}
        self.beam = sorted(latest.values(), key=lambda each: (-each.cosine, order[each.text]))[:width]
        self.stale = self.stale + 1 if self.beam and self.beam[0].text == best else 0


def trajectory(
    generator: TextGenerator,
    targets: np.ndarray,
    *,
    steps: int,
    beam: int,
    starts: Sequence[Sequence[str]] | None = None,
    seed: int = 0,
    first: int = 0,
) -> Iterator[list[Decoded]]:
    """Decodes vectors and yields the texts after each step.

    The first texts are `beam` hypotheses written from each vector alone, or the given ones. A step writes
    `beam` corrections of each text in the beam, the most likely one and `beam` - 1 sampled ones, and keeps
    the `beam` nearest of all. A text that stays gets only sampled corrections later: its most likely one is
    known. A row that no longer gets nearer leaves the batch. Its samples depend on the seed and its number
    alone, not on the other rows.

    Args:
        generator: Writes and embeds texts.
        targets: float32 of shape (n, d).
        steps: Correction steps.
        beam: Candidates kept for each vector.
        starts: Texts to start from for each of the n vectors, in place of hypotheses.
        seed: Seed of all sampling.
        first: Number of the first row, if these are some of many.

    Yields:
        The texts of the n vectors: `steps` + 1 lists, the first before any correction.
    """
    rows = [
        _Row(vector, np.random.default_rng([seed, first + index]))
        for index, vector in enumerate(normalize(targets))
    ]
    texts = [list(row) for row in starts] if starts is not None else _hypotheses(generator, rows, beam)
    _add_texts(generator, rows, texts, beam)
    yield [row.decoded for row in rows]
    for _ in range(steps):
        active = [row for row in rows if not row.done]
        if active:
            _add_texts(generator, active, _corrections(generator, active, beam), beam)
        for row in active:
            row.steps += 1
        yield [row.decoded for row in rows]


def _hypotheses(generator: TextGenerator, rows: list[_Row], count: int) -> list[list[str]]:
    """Writes the most likely text and `count` - 1 sampled ones for each row."""
    targets = np.stack([row.target for row in rows])
    return generator.write(targets, samples=count, seeds=[row.next_seed() for row in rows])


def _corrections(generator: TextGenerator, rows: list[_Row], count: int) -> list[list[str]]:
    """Writes the most likely correction and `count` - 1 sampled ones of each candidate.

    The most likely correction of a text that was corrected before is already in the beam, or was rejected.
    """
    pairs = [(row, candidate) for row in rows for candidate in row.beam]
    written = iter(
        generator.write(
            np.stack([row.target for row, _ in pairs]),
            current=[candidate.text for _, candidate in pairs],
            current_vectors=np.stack([candidate.vector for _, candidate in pairs]),
            samples=count,
            seeds=[row.next_seed() for row, _ in pairs],
            again=[candidate.text in row.corrected for row, candidate in pairs],
        )
    )
    for row, candidate in pairs:
        row.corrected.add(candidate.text)
    return [[text for _ in row.beam for text in next(written)] for row in rows]


def _add_texts(generator: TextGenerator, rows: list[_Row], proposals: list[list[str]], width: int) -> None:
    """Embeds new texts, each once, and adds them to the beams of their rows."""
    new = []
    for row, texts in zip(rows, proposals, strict=True):
        known = {candidate.text for candidate in row.beam}
        tidied = dict.fromkeys(" ".join(text.split()) for text in texts)
        new.append([text for text in tidied if text not in known])
    vectors = embed_usable(generator, list(dict.fromkeys(text for texts in new for text in texts)))
    for row, texts in zip(rows, new, strict=True):
        usable = [text for text in texts if text in vectors]
        row.add([Candidate(text, float(vectors[text] @ row.target), vectors[text]) for text in usable], width)


def embed_usable(generator: TextGenerator, texts: Sequence[str]) -> dict[str, np.ndarray]:
    """Returns the vector of each text; blank texts and those that cannot be embedded are left out."""
    return postprocess.embed_usable(generator.embed, texts)


#: Limits of a pool: nearest texts that pieces come from, pieces of one text, and pieces in all.
POOL_TEXTS, PIECES_PER_TEXT, POOL_PIECES = 32, 8, 96

#: Maximum number of pieces in a joined text, and minimum number of words in a piece.
JOINED, PIECE_WORDS = 4, 6

#: Cosine that an additional piece must gain: a text of many pieces reads like a list.
PIECE_COST = 0.01

#: Rounds of joining, and texts embedded for each vector in a round.
ROUNDS, MOVES = 4, 8

#: Vectors worked on at once; bounds the memory.
_ROWS = 256

# A sentence may begin after a semicolon, a colon, or a dash that stands alone.
_CUTS = re.compile(r"(?<=[;:])\s+|\s[-\u2013\u2014]{1,2}\s+")
# The first letter or digit of a piece, with an opening quotation mark or bracket before it.
_BEGINS = re.compile(r"[\"'(\u201c\u2018]*[^\W_]")
_PAIRS = ("()", "[]", "\u201c\u201d")


def real_starts(
    prototypes: Prototypes,
    targets: np.ndarray,
    generator: TextGenerator,
    context: Context,
    *,
    beam: int,
    language: str,
) -> list[list[DecodedText]]:
    """Finds real texts, and joins texts from pieces of real texts, near each prototype.

    Args:
        prototypes: m prototypes.
        targets: Their vectors in the generator's space, float32 of shape (m, d).
        generator: Embeds the texts.
        context: The source and its limits.
        beam: Maximum number of joined texts for each prototype.
        language: ISO 639-1 code, for splitting into sentences.

    Returns:
        For each prototype the nearest real text of its class, none twice in a class, followed by joined
        texts. The lineage of each names the row of each piece.
    """
    used: dict[int, set[str]] = {int(label): set() for label in np.unique(prototypes.labels)}
    nearest, pools = [], []
    for vector, label in zip(prototypes.vectors, prototypes.labels.tolist(), strict=True):
        nearest.append(nearest_unused(vector, label, used[label], context, language))
        rows = np.flatnonzero(context.vectors.labels == label)
        order = rows[np.argsort(-(context.vectors.vectors[rows] @ vector), kind="stable")]
        pools.append(make_pool(context.source.texts, order, language))
    joined = assemble(
        generator,
        targets,
        [text.sentences for text in nearest],
        [list(pool) for pool in pools],
        count_tokens=context.count_tokens,
        max_tokens=context.max_tokens,
        beam=beam,
    )
    return [
        [start, *(_with_rows(pieces, start, pool) for pieces in texts if " ".join(pieces) != start.text)]
        for start, pool, texts in zip(nearest, pools, joined, strict=True)
    ]


def _with_rows(pieces: tuple[str, ...], start: DecodedText, pool: Mapping[str, int]) -> DecodedText:
    return DecodedText(" ".join(pieces), pieces, tuple(pool.get(piece, start.rows[0]) for piece in pieces))


def make_pool(texts: Sequence[str], rows: Iterable[int], language: str = "en") -> dict[str, int]:
    """Collects pieces of some texts, each with the row that it comes from.

    Args:
        texts: The source.
        rows: Positions of texts, nearest first; only as many as needed are read.
        language: ISO 639-1 code, for splitting into sentences.
    """
    pool: dict[str, int] = {}
    for row in islice(rows, POOL_TEXTS):
        for piece in split_pieces(clean(texts[row]), language)[:PIECES_PER_TEXT]:
            pool.setdefault(piece, int(row))
        if len(pool) >= POOL_PIECES:
            break
    return dict(islice(pool.items(), POOL_PIECES))


def split_pieces(text: str, language: str = "en") -> list[str]:
    """Splits a clean text into pieces of at least :data:`PIECE_WORDS` words that can stand alone.

    The pieces are the sentences, and their ends after a colon, a semicolon or a dash if these begin like a
    sentence and close their brackets.

    Args:
        text: A clean text.
        language: ISO 639-1 code, for splitting into sentences.
    """
    pieces: dict[str, None] = {}
    for sentence in sentences(text, language):
        ends = [sentence[cut.end() :] for cut in _CUTS.finditer(sentence)]
        for piece in (sentence, *filter(_stands_alone, ends)):
            if len(piece.split()) >= PIECE_WORDS:
                pieces[piece] = None
    return list(pieces)


def _stands_alone(piece: str) -> bool:
    begin = _BEGINS.match(piece)
    closed = (
        all(piece.count(pair[0]) == piece.count(pair[1]) for pair in _PAIRS) and piece.count('"') % 2 == 0
    )
    return begin is not None and not begin.group()[-1].islower() and closed


def assemble(
    generator: TextGenerator,
    targets: np.ndarray,
    starts: Sequence[Sequence[str]],
    pools: Sequence[Sequence[str]],
    *,
    count_tokens: TokenCounter,
    max_tokens: int,
    beam: int,
) -> list[list[tuple[str, ...]]]:
    """Joins pieces of texts into texts whose vectors are near the targets.

    A beam search starts from the given text and from single pieces. A move adds, exchanges or removes a
    piece. The mean of the pieces' vectors predicts the vector of a text; only the most promising moves are
    embedded.

    Args:
        generator: Embeds the texts.
        targets: float32 of shape (n, d).
        starts: The sentences of a text to start from, for each target.
        pools: Pieces that may be joined, for each target.
        count_tokens: Counts the tokens of each text.
        max_tokens: Maximum number of tokens per text, as the sum over its pieces; a start may have more.
        beam: Texts kept for each target.

    Returns:
        For each target at most `beam` texts as tuples of pieces, nearest first; none if nothing can be
        embedded.
    """
    joined: list[list[tuple[str, ...]]] = []
    for first in range(0, len(targets), _ROWS):
        rows = slice(first, first + _ROWS)
        pieces = list(dict.fromkeys(piece for parts in (*starts[rows], *pools[rows]) for piece in parts))
        texts = dict.fromkeys([*pieces, *(" ".join(start) for start in starts[rows])])
        known = embed_usable(generator, list(texts))
        tokens = dict(zip(pieces, (int(count) for count in count_tokens(pieces)), strict=True))
        searches = []
        for target, start, pool in zip(normalize(targets[rows]), starts[rows], pools[rows], strict=True):
            usable = [piece for piece in pool if piece in known and tokens[piece] <= max_tokens]
            searches.append(_Search(target, usable, []))
            searches[-1].add([tuple(start), *((piece,) for piece in usable)], known, beam)
        for _ in range(ROUNDS):
            moves = [search.moves(known, tokens, max_tokens) for search in searches]
            new = dict.fromkeys(" ".join(pieces) for row in moves for pieces in row)
            known |= embed_usable(generator, list(new))
            for search, row in zip(searches, moves, strict=True):
                search.add(row, known, beam)
        joined += [search.beam for search in searches]
    return joined


@dataclass(eq=False)
class _Search:
    """The beam search for one target: the pieces that may be joined, and the texts kept, nearest first."""

    target: np.ndarray
    pieces: list[str]
    beam: list[tuple[str, ...]]

    def moves(
        self, known: dict[str, np.ndarray], tokens: dict[str, int], max_tokens: int
    ) -> list[tuple[str, ...]]:
        """Returns the most promising texts with one piece more, exchanged or less than those in the beam.

        The vector of a text is predicted as the mean of its pieces' vectors, weighted by their tokens.
        """
        predicted: dict[tuple[str, ...], float] = {}
        weighted = _weighted(self.pieces, known, tokens)
        lengths = np.array([tokens[piece] for piece in self.pieces], dtype=np.int64)
        for text in self.beam:
            if any(piece not in known for piece in text):
                continue
            for position in range(len(text) + 1):  # the piece that is replaced; none at the end
                before, after = text[:position], text[position + 1 :]
                rest = (*before, *after)
                base = _weighted(rest, known, tokens).sum(axis=0)
                if len(rest) < len(text) and rest:
                    predicted[rest] = float(self._cosines(base[None])[0])
                room = max_tokens - sum(tokens[piece] for piece in rest)
                fits = np.flatnonzero(lengths <= room) if len(rest) < JOINED else np.array([], dtype=np.int64)
                cosines = self._cosines(base + weighted[fits])
                for best in np.argsort(-cosines, kind="stable")[: 2 * MOVES].tolist():
                    piece = self.pieces[fits[best]]
                    if piece not in text:
                        predicted[(*before, piece, *after)] = float(cosines[best])
        new = [text for text in predicted if " ".join(text) not in known]
        return sorted(new, key=lambda text: -predicted[text])[:MOVES]

    def _cosines(self, sums: np.ndarray) -> np.ndarray:
        """Cosines to the target of vectors of shape (n, d) and any length."""
        cosines: np.ndarray = sums @ self.target / np.maximum(np.linalg.norm(sums, axis=1), 1e-9)
        return cosines

    def add(self, texts: Sequence[tuple[str, ...]], known: dict[str, np.ndarray], width: int) -> None:
        """Keeps the `width` best texts; earlier ones win ties."""
        joined: dict[str, tuple[str, ...]] = {}
        for pieces in (*self.beam, *texts):
            joined.setdefault(" ".join(pieces), pieces)
        usable = [text for text in joined if text in known]
        score = {text: float(known[text] @ self.target) - PIECE_COST * len(joined[text]) for text in usable}
        self.beam = [joined[text] for text in sorted(usable, key=lambda text: -score[text])[:width]]


def _weighted(pieces: Sequence[str], known: dict[str, np.ndarray], tokens: dict[str, int]) -> np.ndarray:
    """The pieces' vectors scaled by their numbers of tokens; float32 of shape (n, d)."""
    rows = [tokens[piece] * known[piece] for piece in pieces]
    return np.stack(rows) if rows else np.zeros((0, len(next(iter(known.values())))), dtype=np.float32)
