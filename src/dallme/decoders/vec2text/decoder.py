"""The paper's third step (section 3.2): a model writes a text for each prototype."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, ClassVar

import numpy as np

from dallme.data import DecodedText, Prototypes
from dallme.decoders.base import Context, Decoder, DecodingResult, TokenCounter
from dallme.decoders.nearest import first_sentences, nearest_unused
from dallme.decoders.vec2text.alignment import fit_alignment
from dallme.decoders.vec2text.correction import Decoded, Writer, embed_usable
from dallme.decoders.vec2text.inverter import Inverter, check_fit, find_inverter, self_test
from dallme.decoders.vec2text.model import InverterConfig
from dallme.embedders.base import normalize
from dallme.errors import InputError
from dallme.text import clean, sentences
from dallme.validation import check_positive


def real_starts(
    prototypes: Prototypes, targets: np.ndarray, writer: Writer, context: Context, *, beam: int, language: str
) -> list[list[DecodedText]]:
    """Real texts, and texts joined from pieces of real texts, near each prototype.

    Args:
        prototypes: m prototypes.
        targets: Their vectors in the space of `writer`, float32 of shape (m, d).
        writer: What embeds.
        context: The source and its limits.
        beam: Joined texts for each prototype at most.
        language: ISO 639-1 code, for finding the ends of sentences.

    Returns:
        For each prototype the nearest real text of its class, none twice in a class, and after it what was joined; the lineage
        of each names the row of each piece.
    """
    taken: dict[int, set[str]] = {int(label): set() for label in np.unique(prototypes.labels)}
    nearest, pools = [], []
    for vector, label in zip(prototypes.vectors, prototypes.labels.tolist(), strict=True):
        nearest.append(nearest_unused(vector, label, taken[label], context, language))
        rows = np.flatnonzero(context.vectors.labels == label)
        order = rows[np.argsort(-(context.vectors.vectors[rows] @ vector), kind="stable")]
        pools.append(pool_of(context.source.texts, order, language))
    joined = assemble(
        writer,
        targets,
        [text.sentences for text in nearest],
        [list(pool) for pool in pools],
        count_tokens=context.count_tokens,
        max_tokens=context.max_tokens,
        beam=beam,
    )
    return [
        [start, *(_with_rows(parts, start, pool) for parts in found if " ".join(parts) != start.text)]
        for start, pool, found in zip(nearest, pools, joined, strict=True)
    ]


def _with_rows(parts: tuple[str, ...], start: DecodedText, pool: Mapping[str, int]) -> DecodedText:
    """A joined text with the row that each piece was taken from."""
    return DecodedText(" ".join(parts), parts, tuple(pool.get(piece, start.rows[0]) for piece in parts))


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
        known = embed_usable(
            writer, list(dict.fromkeys([*pieces, *(" ".join(start) for start in starts[rows])]))
        )
        tokens = dict(zip(pieces, (int(count) for count in count_tokens(pieces)), strict=True))
        made = []
        for target, start, pool in zip(normalize(targets[rows]), starts[rows], pools[rows], strict=True):
            usable = [piece for piece in pool if piece in known and tokens[piece] <= max_tokens]
            made.append(_Row(target, usable, []))
            made[-1].hold([tuple(start), *((piece,) for piece in usable)], known, beam)
        for _ in range(ROUNDS):
            moves = [row.moves(known, tokens, max_tokens) for row in made]
            known |= embed_usable(
                writer, list(dict.fromkeys(" ".join(parts) for found in moves for parts in found))
            )
            for row, found in zip(made, moves, strict=True):
                row.hold(found, known, beam)
        joined += [row.held for row in made]
    return joined


#: Texts that are drawn more freely where all of a prototype's texts are taken already.
MORE_SAMPLES, MORE_TEMPERATURE = 8, 1.0


@dataclass(frozen=True, eq=False)
class Choice:
    """A text that may be kept.

    Attributes:
        text: The text as it would stand in the result.
        cosine: Cosine of its vector to the prototype.
    """

    text: DecodedText
    cosine: float


@dataclass(frozen=True, eq=False)
class Chooser:
    """Chooses for each prototype the nearest text, those with the label of the prototype before the others.

    Attributes:
        inverter: Writes more texts where they are needed.
        context: The source and its limits.
        prototypes: m prototypes.
        targets: Their vectors in the inverter's space, float32 of shape (m, d).
        probe: Tells the class of vectors in the inverter's space, fitted on the source; None where there is one class only.
        language: ISO 639-1 code, for finding the ends of sentences.
    """

    inverter: Inverter
    context: Context
    prototypes: Prototypes
    targets: np.ndarray
    probe: Any
    language: str

    def choose(
        self,
        decoded: Sequence[Decoded],
        starts: Sequence[Sequence[DecodedText]] | None,
        rng: np.random.Generator,
    ) -> list[Choice]:
        """One text for each prototype, none twice in a class.

        Args:
            decoded: What was written for each prototype.
            starts: The real texts, and those joined from them, that each was started from; one of them may be kept as well.
            rng: Seed of what is written in addition.

        Raises:
            InputError: If a class has neither a written nor a real text left.
        """
        texts = [[candidate.text for candidate in row.candidates] for row in decoded]
        first: Sequence[Sequence[DecodedText]] = [()] * len(texts) if starts is None else starts
        taken: dict[int, set[str]] = {int(label): set() for label in np.unique(self.prototypes.labels)}
        chosen = []
        for place, options in enumerate(self._choices(texts, first)):
            used = taken[int(self.prototypes.labels[place])]
            free = self._free(options, used) or self._free(self._more(place, int(rng.integers(2**31))), used)
            kept = free[0] if free else self._real(place, used)
            used.add(kept.text.text)
            chosen.append(kept)
        return chosen

    def _choices(
        self,
        texts: Sequence[Sequence[str]],
        starts: Sequence[Sequence[DecodedText]],
        places: Sequence[int] | None = None,
    ) -> list[list[Choice]]:
        """Cuts texts to the limit, embeds what is left, and says how near and of which class it is."""
        places = range(len(texts)) if places is None else places
        cut = [{found.text: found for text in row if (found := self._cut(text))} for row in texts]
        for options, given in zip(cut, starts, strict=True):
            options.update({start.text: start for start in given})
        vectors = embed_usable(
            self.inverter, list(dict.fromkeys(text for options in cut for text in options))
        )
        classes = self._classes(vectors)
        directions = normalize(self.targets[list(places)])
        return [
            [
                Choice(
                    replace(text, label_agrees=None if self.probe is None else classes[text.text] == label),
                    float(vectors[text.text] @ direction),
                )
                for text in options.values()
                if text.text in vectors
            ]
            for label, direction, options in zip(
                self.prototypes.labels[list(places)].tolist(), directions, cut, strict=True
            )
        ]

    def _cut(self, text: str) -> DecodedText | None:
        """A written text, cut after a whole sentence; it comes from no row."""
        found = first_sentences(text, 0, self.context.max_tokens, self.context.count_tokens, self.language)
        return None if found is None else replace(found, rows=())

    def _classes(self, vectors: dict[str, np.ndarray]) -> dict[str, int]:
        if self.probe is None or not vectors:
            return {}
        return dict(zip(vectors, self.probe.predict(np.stack(list(vectors.values()))).tolist(), strict=True))

    @staticmethod
    def _free(options: Sequence[Choice], used: set[str]) -> list[Choice]:
        """The texts that are not taken, the best first."""
        left = [option for option in options if option.text.text not in used]
        return sorted(left, key=lambda option: (option.text.label_agrees is False, -option.cosine))

    def _more(self, place: int, seed: int) -> list[Choice]:
        target = normalize(self.targets[place : place + 1])
        texts = self.inverter.write(target, samples=MORE_SAMPLES, temperature=MORE_TEMPERATURE, seeds=[seed])
        return self._choices(texts, [()], [place])[0]

    def _real(self, place: int, used: set[str]) -> Choice:
        """The nearest real text, where nothing that can be used was written."""
        label = int(self.prototypes.labels[place])
        found = nearest_unused(self.prototypes.vectors[place], label, set(used), self.context, self.language)
        choices = self._choices([[]], [[found]], [place])[0]
        return choices[0] if choices else Choice(found, 0.0)  # the inverter's embedder may make nothing of it


#: What correction may start from.
STARTS = ("nearest", "hypothesis")

#: Source texts that a map between two embedders is fitted on, at most, and how many are embedded at once for it.
ALIGNED_TEXTS, ALIGNED_AT_ONCE = 20_000, 512


@dataclass(frozen=True, eq=False)
class _Space:
    """The inverter's space: the prototypes in it, and source texts to test and to learn the classes from."""

    targets: np.ndarray
    tried: np.ndarray
    vectors: np.ndarray
    rows: np.ndarray


@dataclass(frozen=True)
class Vec2TextDecoder(Decoder):
    """Writes a text for each prototype and corrects it until its vector is near (section 3.2; Morris et al. 2023).

    Of the texts held at the end the nearest one is kept whose class, by logistic regression over the full data's vectors, is
    that of the prototype; if there is none, the nearest. Prefer it to ``nearest`` and ``extractive`` where no text of the
    source may be copied, or where a good inverter for the embedder is at hand; see ``dallme invert-check``.

    Attributes:
        inverter: Folder of an inverter; blank for the one that comes with the package.
        steps: Correction steps at most; 0 writes from the vectors alone and needs the start ``hypothesis``.
        beam: Texts that are held for each prototype.
        start: ``nearest``: correction starts at the nearest real text of the class and at texts joined from pieces of the nearest
            ones, which are kept if nothing written is nearer; ``hypothesis``: at texts written from the prototype alone.
        align: Whether an inverter of another embedder may be used: a linear map between the spaces is fitted on the source.
        self_test: Whether the inverter is tried on 20 source texts first.
        language: ISO 639-1 code, for finding the ends of sentences.
    """

    argument: ClassVar[str] = "inverter"

    inverter: str = ""
    steps: int = 5
    beam: int = 4
    start: str = "nearest"
    align: bool = False
    self_test: bool = True
    language: str = "en"

    def __post_init__(self) -> None:
        """Checks the options; nothing is loaded."""
        check_positive(self.beam, "beam")
        if isinstance(self.steps, bool) or not isinstance(self.steps, int) or self.steps < 0:
            raise InputError(f"expected steps to be a whole number of at least 0, found {self.steps!r}")
        if self.start not in STARTS:
            raise InputError(f"expected start as one of {', '.join(STARTS)}, found {self.start!r}")
        if self.start == "nearest" and self.steps == 0:
            raise InputError(
                "expected at least 1 step to correct the nearest text, found 0; start from hypothesis, or use nearest"
            )

    def check(self, context: Context) -> None:
        """Checks that there is an inverter, and that it fits the embedder unless `align` is set.

        Raises:
            DallmeError: If there is none, or it does not fit.
        """
        folder = find_inverter(self.inverter)
        if not self.align:
            check_fit(InverterConfig.read(folder), folder, context.vectors.fingerprint)

    def _decode(self, prototypes: Prototypes, context: Context, rng: np.random.Generator) -> DecodingResult:
        inverter, space = self._prepare(prototypes, context, rng)
        if self.self_test:
            texts = [context.source.texts[row] for row in space.rows.tolist()]
            found = self_test(inverter, space.tried, texts, rng)
            if found:
                context.progress.note(
                    f"{found.texts} source texts, decoded and embedded again, have a mean cosine of {found.cosine:.3f} to their "
                    f"vectors (chance: {found.chance:.3f})"
                )
        starts = None
        if self.start == "nearest":
            starts = real_starts(
                prototypes, space.targets, inverter, context, beam=self.beam, language=self.language
            )
        decoded = inverter.decode(
            space.targets,
            steps=self.steps,
            beam=self.beam,
            start="hypothesis" if starts is None else [[text.text for text in texts] for texts in starts],
            seed=int(rng.integers(2**32)),
            progress=context.progress,
            engine=context.engine,
        )
        probe = _fit_probe(space.vectors, context.vectors.labels[space.rows])
        chosen = Chooser(inverter, context, prototypes, space.targets, probe, self.language).choose(
            decoded, starts, rng
        )
        context.progress.note(_summary(chosen))
        return DecodingResult(tuple(choice.text for choice in chosen))

    def _prepare(
        self, prototypes: Prototypes, context: Context, rng: np.random.Generator
    ) -> tuple[Inverter, _Space]:
        """Loads the inverter and takes the prototypes into its space."""
        folder = find_inverter(self.inverter)
        inverter = Inverter.load(folder)
        inverter.check_steps(self.steps)
        vectors = context.vectors.vectors
        if not inverter.config.incompatibilities(context.vectors.fingerprint):
            inverter = replace(inverter, own_embedder=context.embedder)
            return inverter, _Space(prototypes.vectors, vectors, vectors, np.arange(len(vectors)))
        if context.embedder is not None and not inverter.config.incompatibilities(
            context.embedder.fingerprint(inverter.config.prompt)
        ):
            inverter = replace(inverter, own_embedder=context.embedder)  # the same but for the prompt
        rows = np.sort(rng.permutation(len(vectors))[:ALIGNED_TEXTS])
        own = _embed(inverter, [context.source.texts[row] for row in rows.tolist()], context)
        alignment = fit_alignment(vectors[rows], own, int(rng.integers(2**32)))
        context.progress.note(
            f"vectors of {context.vectors.fingerprint.model} mapped into the space of {inverter.config.embedder}: held-out texts "
            f"have a mean cosine of {alignment.cosine:.3f} to their own vectors there (chance: {alignment.chance:.3f})"
        )
        return inverter, _Space(alignment.map(prototypes.vectors), alignment.map(vectors[rows]), own, rows)


def _embed(inverter: Inverter, texts: Sequence[str], context: Context) -> np.ndarray:
    """The texts' vectors by the inverter's embedder, float32 of shape (n, e)."""
    made = []
    with context.progress.task("align", total=len(texts)) as task:
        for start in range(0, len(texts), ALIGNED_AT_ONCE):
            made.append(inverter.embed(texts[start : start + ALIGNED_AT_ONCE]))
            task.advance(len(made[-1]))
    return np.concatenate(made)


def _fit_probe(vectors: np.ndarray, labels: np.ndarray) -> Any:
    """A linear classifier of the full data's vectors, or None if there is one class."""
    from sklearn.linear_model import LogisticRegression

    if len(np.unique(labels)) < 2:
        return None
    return LogisticRegression(max_iter=1000, random_state=0).fit(vectors, labels)


def _summary(chosen: Sequence[Choice]) -> str:
    """What is to be known of the texts, in one line."""
    agree = [choice.text.label_agrees for choice in chosen if choice.text.label_agrees is not None]
    copied = sum(bool(choice.text.rows) for choice in chosen)
    parts = [
        f"{len(chosen)} texts with a mean cosine of {np.mean([choice.cosine for choice in chosen]):.3f} to their prototypes"
    ]
    if agree:
        parts.append(
            f"{np.mean(agree):.0%} of them have the prototype's label by a linear probe of the full data"
        )
    if copied:
        parts.append(
            f"{copied} are real texts, or joined from pieces of them, to which nothing better was written"
        )
    return "; ".join(parts)
