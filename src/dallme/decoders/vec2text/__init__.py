"""The decoder ``vec2text``: a language model conditioned on a vector writes a text near it, and corrects it.

Reference: Morris, Kuleshov, Shmatikov, Rush, "Text Embeddings Reveal (Almost) As Much As Text", EMNLP 2023.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from dallme.data import DecodedText, Prototypes
from dallme.decoders.base import Context, Decoder, DecodingResult
from dallme.decoders.nearest import first_sentences, nearest_unused
from dallme.decoders.postprocess import audit_written, copied_spans, note_of_audit
from dallme.decoders.vec2text.alignment import fit_alignment, self_test
from dallme.decoders.vec2text.correction import Decoded, embed_usable, real_starts
from dallme.decoders.vec2text.inverter import Inverter, check_fit, find_inverter
from dallme.decoders.vec2text.model import InverterConfig
from dallme.embedders.base import normalize
from dallme.errors import InputError
from dallme.validation import check_positive

if TYPE_CHECKING:
    from dallme.decoders.vec2text.inverter import Inverter

#: Texts that the correction may start from.
STARTS = ("hypothesis", "nearest")

#: Ways to propose texts in a step.
SEARCHES = ("sample", "beam")

#: Maximum number of source texts to fit the map between two embedders, and the number embedded at once.
ALIGNED_TEXTS, ALIGNED_AT_ONCE = 20_000, 512

#: Number of texts sampled if all texts of a prototype are already used, and their temperature.
MORE_SAMPLES, MORE_TEMPERATURE = 8, 1.0


@dataclass(frozen=True, eq=False)
class _Space:
    """The inverter's vector space.

    Attributes:
        targets: The prototypes, float32 of shape (m, e).
        vectors: Source texts embedded there, float32 of shape (n, e).
        mapped: Vectors of the same texts, computed as those of the prototypes: embedded, or mapped from
            another space.
        rows: Their positions in the source, int64 of shape (n,).
    """

    targets: np.ndarray
    vectors: np.ndarray
    mapped: np.ndarray
    rows: np.ndarray


@dataclass(frozen=True)
class Vec2TextDecoder(Decoder):
    """Writes a text for each prototype and corrects it until its vector is near (section 3.2).

    From the final beam it selects the nearest text that a probe of the full data assigns to the prototype's
    class, or else the nearest text. The probe is a logistic regression on vectors. Prefer it to ``nearest``
    and ``extractive`` if new texts are wanted and a good inverter for the embedder exists; see
    ``dallme invert-check``. The manifest records the longest copied span and the share of copied texts.

    Attributes:
        inverter: Folder of an inverter; blank for the one that ships with dallme.
        steps: Maximum number of correction steps; 0 returns the hypotheses and needs the start
            ``hypothesis``.
        beam: Texts kept for each prototype.
        start: ``hypothesis`` corrects texts written from the prototype alone, as the paper does; ``nearest``
            corrects the nearest real text of the class and texts joined from pieces of real texts. It
            returns these, and so copies, unless a written text is nearer.
        search: ``sample`` proposes the most likely text and samples in a step; ``beam`` proposes the best
            texts of a beam search over tokens, as Morris et al.
        align: Whether an inverter of another embedder may be used, with a linear map fitted on the source.
        embedder: Embedder of the inverter, for `align`; by default the one in its record. That embedder must
            ship with dallme, or the user must have its model and its vectors.
        self_test: Whether the inverter is tested on 20 source texts first.
        language: ISO 639-1 code, for splitting into sentences.
    """

    argument: ClassVar[str] = "inverter"

    inverter: str = ""
    steps: int = 5
    beam: int = 4
    start: str = "hypothesis"
    search: str = "sample"
    align: bool = False
    embedder: str = ""
    self_test: bool = True
    language: str = "en"

    def __post_init__(self) -> None:
        """Checks the options; nothing is loaded."""
        check_positive(self.beam, "beam")
        if isinstance(self.steps, bool) or not isinstance(self.steps, int) or self.steps < 0:
            raise InputError(f"expected steps to be a whole number of at least 0, found {self.steps!r}")
        for name, value, known in (("start", self.start, STARTS), ("search", self.search, SEARCHES)):
            if value not in known:
                raise InputError(f"expected {name} as one of {', '.join(known)}, found {value!r}")
        if self.start == "nearest" and self.steps == 0:
            raise InputError(
                "expected at least 1 step to correct the nearest text, found 0; "
                "start from hypothesis, or use the decoder nearest"
            )

    def check(self, context: Context) -> None:
        """Checks that there is an inverter, and that it fits the embedder unless `align` is set.

        Raises:
            DallmeError: If there is none, or it does not fit.
        """
        folder = find_inverter(self.inverter)
        if not self.align:
            check_fit(
                InverterConfig.read(folder), folder, context.vectors.fingerprint, _earlier_weights(context)
            )

    def _decode(self, prototypes: Prototypes, context: Context, rng: np.random.Generator) -> DecodingResult:
        loaded, space = self._load(prototypes, context, rng)
        inverter = replace(loaded, search=self.search)
        if self.self_test:
            originals = [context.source.texts[row] for row in space.rows.tolist()]
            if result := self_test(inverter, space.mapped, originals, rng):
                context.progress.note(
                    f"{result.texts} source texts, decoded and embedded again, have a mean cosine of "
                    f"{result.cosine:.3f} to their vectors (chance: {result.chance:.3f})"
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
            start="hypothesis" if starts is None else [[text.text for text in row] for row in starts],
            seed=int(rng.integers(2**32)),
            progress=context.progress,
            engine=context.engine,
        )
        probe = _fit_probe(space.vectors, context.vectors.labels[space.rows])
        selector = CandidateSelector(inverter, context, prototypes, space.targets, probe, self.language)
        selected = selector.select(decoded, starts, rng)
        texts = copied_spans([scored.text for scored in selected], context)
        audit = audit_written(texts, context)
        context.progress.note(f"{_summary(selected)}; {note_of_audit(audit | {'real_texts': []})}")
        return DecodingResult(tuple(texts), {"copied_share": copied_share(texts), "audit": audit})

    def _load(
        self, prototypes: Prototypes, context: Context, rng: np.random.Generator
    ) -> tuple[Inverter, _Space]:
        """Loads the inverter and brings the prototypes into its space."""
        folder = find_inverter(self.inverter)
        store = None if context.answers is None else context.answers.parent
        inverter = Inverter.load(folder, embedder=self.embedder or None, store=store)
        inverter.check_steps(self.steps)
        vectors = context.vectors.vectors
        earlier = _earlier_weights(context)
        if not inverter.config.incompatibilities(context.vectors.fingerprint, earlier):
            inverter = replace(inverter, own_embedder=context.embedder)
            return inverter, _Space(prototypes.vectors, vectors, vectors, np.arange(len(vectors)))
        if context.embedder is not None and not inverter.config.incompatibilities(
            context.embedder.fingerprint(inverter.config.prompt), earlier
        ):
            inverter = replace(inverter, own_embedder=context.embedder)  # it differs by the prompt alone
        # Equal rows for all seeds: their vectors are computed, and paid for, once.
        rows = np.sort(np.random.default_rng(0).permutation(len(vectors))[:ALIGNED_TEXTS])
        texts = [context.source.texts[row] for row in rows.tolist()]
        space = ("vec2text", "aligned", inverter.config.fingerprint.digest)
        embedded = context.cached(space, lambda: _embed(inverter, texts, context))
        alignment = fit_alignment(vectors[rows], embedded, int(rng.integers(2**32)))
        context.progress.note(
            f"vectors of {context.vectors.fingerprint.model} mapped into the space of "
            f"{inverter.config.embedder}: held-out texts have a mean cosine of "
            f"{alignment.cosine:.3f} to their own vectors there (chance: {alignment.chance:.3f})"
        )
        targets, mapped = alignment.map(prototypes.vectors), alignment.map(vectors[rows])
        return inverter, _Space(targets, embedded, mapped, rows)


def _embed(inverter: Inverter, texts: Sequence[str], context: Context) -> np.ndarray:
    """Embeds texts with the inverter's embedder; float32 of shape (n, e)."""
    parts = []
    with context.progress.task("align", total=len(texts)) as task:
        for start in range(0, len(texts), ALIGNED_AT_ONCE):
            parts.append(inverter.embed(texts[start : start + ALIGNED_AT_ONCE]))
            task.advance(len(parts[-1]))
    return np.concatenate(parts)


def _fit_probe(vectors: np.ndarray, labels: np.ndarray) -> Any:
    """Fits a linear classifier on the full data's vectors; None if there is one class."""
    from sklearn.linear_model import LogisticRegression

    if len(np.unique(labels)) < 2:
        return None
    return LogisticRegression(max_iter=1000, random_state=0).fit(vectors, labels)


@dataclass(frozen=True, eq=False)
class ScoredText:
    """A text that may be selected.

    Attributes:
        text: The text in its final form.
        cosine: Cosine of its vector to the prototype.
    """

    text: DecodedText
    cosine: float


@dataclass(frozen=True, eq=False)
class CandidateSelector:
    """Selects the nearest text for each prototype; texts with the prototype's label come first.

    Attributes:
        inverter: Writes more texts if all are already used.
        context: The source and its limits.
        prototypes: m prototypes.
        targets: Their vectors in the inverter's space, float32 of shape (m, d).
        probe: Classifier of vectors in the inverter's space; None if there is one class.
        language: ISO 639-1 code, for splitting into sentences.
    """

    inverter: Inverter
    context: Context
    prototypes: Prototypes
    targets: np.ndarray
    probe: Any
    language: str

    def select(
        self,
        decoded: Sequence[Decoded],
        starts: Sequence[Sequence[DecodedText]] | None,
        rng: np.random.Generator,
    ) -> list[ScoredText]:
        """Selects one text for each prototype, none twice in a class.

        Args:
            decoded: The texts written for each prototype.
            starts: The real and joined texts that correction started from, which may be selected as well.
            rng: Source of the seeds of additional texts.

        Raises:
            InputError: If a class has neither a written nor a real text left.
        """
        written = [[candidate.text for candidate in row.candidates] for row in decoded]
        real: Sequence[Sequence[DecodedText]] = [()] * len(decoded) if starts is None else starts
        used: dict[int, set[str]] = {int(label): set() for label in np.unique(self.prototypes.labels)}
        selected = []
        for index, options in enumerate(self._score(written, real, range(len(decoded)))):
            taken = used[int(self.prototypes.labels[index])]
            free = _unused(options, taken) or _unused(self._more(index, int(rng.integers(2**31))), taken)
            best = free[0] if free else self._nearest_real(index, taken)
            taken.add(best.text.text)
            selected.append(best)
        return selected

    def _score(
        self, written: Sequence[Sequence[str]], real: Sequence[Sequence[DecodedText]], indices: Sequence[int]
    ) -> list[list[ScoredText]]:
        """Cuts written texts to the limit, embeds all, and scores them for the prototypes at `indices`."""
        options = [
            {cut.text: cut for text in texts if (cut := self._cut(text))}
            | {start.text: start for start in starts}
            for texts, starts in zip(written, real, strict=True)
        ]
        vectors = embed_usable(self.inverter, list(dict.fromkeys(text for row in options for text in row)))
        classes: dict[str, int] = {}
        if self.probe is not None and vectors:
            predicted = self.probe.predict(np.stack(list(vectors.values()))).tolist()
            classes = dict(zip(vectors, predicted, strict=True))
        directions = normalize(self.targets[list(indices)])
        scored = []
        for row, index, direction in zip(options, indices, directions, strict=True):
            label = int(self.prototypes.labels[index])
            texts = [text for text in row.values() if text.text in vectors]
            agrees = [None if self.probe is None else classes[text.text] == label for text in texts]
            scored.append(
                [
                    ScoredText(replace(text, label_agrees=agree), float(vectors[text.text] @ direction))
                    for text, agree in zip(texts, agrees, strict=True)
                ]
            )
        return scored

    def _cut(self, text: str) -> DecodedText | None:
        """Cuts a written text after a whole sentence; it comes from no row."""
        cut = first_sentences(text, 0, self.context.max_tokens, self.context.count_tokens, self.language)
        return None if cut is None else replace(cut, rows=())

    def _more(self, index: int, seed: int) -> list[ScoredText]:
        """Samples more texts for a prototype."""
        target = normalize(self.targets[index : index + 1])
        texts = self.inverter.write(target, samples=MORE_SAMPLES, temperature=MORE_TEMPERATURE, seeds=[seed])
        return self._score(texts, [()], [index])[0]

    def _nearest_real(self, index: int, used: set[str]) -> ScoredText:
        """Returns the nearest real text, for a prototype without a usable written text."""
        vector, label = self.prototypes.vectors[index], int(self.prototypes.labels[index])
        real = nearest_unused(vector, label, set(used), self.context, self.language)
        scored = self._score([[]], [[real]], [index])[0]
        return scored[0] if scored else ScoredText(real, 0.0)  # the inverter's embedder cannot embed it


def _earlier_weights(context: Context) -> str | None:
    """The weights of the embedder in inverters of version 0.1."""
    return None if context.embedder is None else context.embedder.earlier_weights


def _unused(options: Sequence[ScoredText], used: set[str]) -> list[ScoredText]:
    """The texts that are not used yet, best first."""
    unused = [option for option in options if option.text.text not in used]
    return sorted(unused, key=lambda option: (option.text.label_agrees is False, -option.cosine))


def copied_share(texts: Sequence[DecodedText]) -> float:
    """Returns the share of texts that are source texts or joined from pieces of them."""
    return float(np.mean([bool(text.rows) for text in texts]))


def _summary(selected: Sequence[ScoredText]) -> str:
    """Describes the selected texts in one line."""
    cosine = np.mean([scored.cosine for scored in selected])
    agree = [scored.text.label_agrees for scored in selected if scored.text.label_agrees is not None]
    copied = sum(bool(scored.text.rows) for scored in selected)
    parts = [f"{len(selected)} texts with a mean cosine of {cosine:.3f} to their prototypes"]
    if agree:
        parts.append(
            f"{np.mean(agree):.0%} of them have the prototype's label by a linear probe of the full data"
        )
    if copied:
        parts.append(
            f"{copied} of {len(selected)} ({copied / len(selected):.0%}) are real texts, or joined from "
            "pieces of them; no written text was nearer"
        )
    return "; ".join(parts)
