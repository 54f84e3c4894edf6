"""An inverter that is ready for use: vectors in, texts out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from dallme.data import Fingerprint
from dallme.decoders.vec2text.alignment import matched_and_mismatched
from dallme.decoders.vec2text.corpus import pad
from dallme.decoders.vec2text.correction import TEMPERATURE, Decoded, embed_usable, trajectory
from dallme.decoders.vec2text.model import FILE, InverterConfig
from dallme.embedders.base import Embedder
from dallme.embedders.resolve import resolve
from dallme.errors import InputError
from dallme.models.devices import find_device, find_precision
from dallme.progress import Progress, SilentProgress
from dallme.scale.base import Engine, in_order
from dallme.validation import check_positive, check_seed, check_vectors

if TYPE_CHECKING:
    from dallme.decoders.vec2text.model import InverterModel

#: Texts that are tried.
TEXTS = 20

#: What decoded texts must be nearer to their own vectors than to those of others, in cosine. An inverter of another space gives
#: about 0.00 +- 0.02; a barely trained one of the right space gives 0.1.
MARGIN = 0.05


@dataclass(frozen=True)
class RoundTrip:
    """What came back.

    Attributes:
        cosine: Mean cosine of the decoded texts' vectors to the vectors that they were written from.
        chance: Mean cosine to the vectors of the other texts.
        texts: Texts that were tried.
    """

    cosine: float
    chance: float
    texts: int

    @property
    def passes(self) -> bool:
        """Whether the decoded texts are clearly nearer to their own vectors."""
        return self.cosine - self.chance >= MARGIN


def round_trip(inverter: Inverter, vectors: np.ndarray) -> RoundTrip:
    """Decodes vectors without correction, embeds the texts, and compares. Texts that cannot be embedded count as zeros.

    Args:
        inverter: The inverter.
        vectors: Vectors of real texts in the inverter's space, float32 of shape (n, d), n >= 2.
    """
    written = [texts[0] for texts in inverter.write(vectors)]
    known = embed_usable(inverter, list(dict.fromkeys(written)))
    zeros = np.zeros(vectors.shape[1], dtype=np.float32)
    returned = np.stack([known.get(text, zeros) for text in written])
    return RoundTrip(*matched_and_mismatched(returned, vectors), len(vectors))


def self_test(
    inverter: Inverter, vectors: np.ndarray, texts: Sequence[str], rng: np.random.Generator
) -> RoundTrip | None:
    """Tries an inverter on some of the source.

    Args:
        inverter: The inverter.
        vectors: Vectors of the source in the inverter's space, float32 of shape (n, d).
        texts: The n source texts.
        rng: Chooses the texts.

    Returns:
        The round trip, or None where there are not two different texts.

    Raises:
        InputError: If the decoded texts are not clearly nearer to their own vectors than to those of others.
    """
    chosen: dict[str, int] = {}
    for row in rng.permutation(len(texts)).tolist():
        chosen.setdefault(texts[row], row)
        if len(chosen) == TEXTS:
            break
    if len(chosen) < 2:
        return None
    found = round_trip(inverter, vectors[list(chosen.values())])
    if not found.passes:
        raise InputError(
            f"expected an inverter that decodes these vectors, found that {found.texts} decoded texts have a mean cosine of "
            f"{found.cosine:.3f} to their own vectors and {found.chance:.3f} to those of others, less than {MARGIN} apart; "
            "train one on texts like these, or longer"
        )
    return found


def find_inverter(name: str) -> Path:
    """The folder of an inverter: the one named, or the one that comes with the package if the name is blank.

    Raises:
        InputError: If the name is blank and none comes with the package.
    """
    if name:
        return Path(name).expanduser()
    if not (SHIPPED / FILE).is_file():
        raise InputError(
            "expected the folder of an inverter, as in vec2text:FOLDER, found none named and none in this installation; "
            "train one with: dallme train-inverter"
        )
    return SHIPPED


def check_fit(config: InverterConfig, folder: Path, fingerprint: Fingerprint) -> None:
    """Checks that an inverter was trained for the embedder that made some vectors.

    Raises:
        InputError: If it was not; it names what differs and the inverters at hand that fit.
    """
    incompatibilities = config.incompatibilities(fingerprint)
    if not incompatibilities:
        return
    fitting = [
        f"vec2text:{other}" if other != SHIPPED else "vec2text"
        for other in fitting_inverters(folder, fingerprint)
    ]
    advice = (
        f"use {' or '.join(fitting)}"
        if fitting
        else "train one for this embedder with: dallme train-inverter"
    )
    raise InputError(
        f"expected an inverter for the embedder of these vectors, found {str(folder)!r}, trained for {config.embedder!r}: "
        f"{'; '.join(incompatibilities)}; {advice}; or map the vectors into its space with --align"
    )


def fitting_inverters(folder: Path, fingerprint: Fingerprint) -> list[Path]:
    """Inverters that decode such vectors: the one that comes with the package, and the neighbours of a folder."""
    found = []
    for other in (SHIPPED, *sorted(path.parent for path in folder.parent.glob(f"*/{FILE}"))):
        try:
            fits = not InverterConfig.read(other).incompatibilities(fingerprint)
        except InputError:
            continue
        if fits and other != folder:
            found.append(other)
    return found


#: The inverter that comes with the package.
SHIPPED = Path(__file__).parent / "shipped"

#: What the correction starts from: ``hypothesis``, or for each vector a text, or several.
Start: TypeAlias = str | Sequence[str] | Sequence[Sequence[str]]

#: Vectors that are decoded at once: memory grows with these, not with all.
ROWS = 512

#: Tokens of a batch that is written at once, prefix and padding included, by kind of device; and most bytes of keys and values.
BATCH_TOKENS = {"cuda": 262_144}
BATCH_TOKENS_ELSEWHERE, BATCH_BYTES_ELSEWHERE = 131_072, 1_500_000_000


@dataclass(frozen=True, eq=False)
class Inverter:
    """A trained inverter, with the embedder whose vectors it decodes.

    Attributes:
        config: What its weights mean.
        model: The weights.
        tokenizer: Its tokenizer.
        own_embedder: The embedder, if the caller has it already; else the one that `config` names is looked up on first use.
    """

    config: InverterConfig
    model: InverterModel
    tokenizer: Any
    own_embedder: Embedder | None = None

    @classmethod
    def load(
        cls,
        folder: str | Path,
        device: str = "auto",
        *,
        precision: str = "auto",
        embedder: Embedder | None = None,
    ) -> Inverter:
        """Reads an inverter.

        Args:
            folder: Its folder.
            device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
            precision: ``auto``, ``bfloat16`` or ``float32``.
            embedder: The embedder that it was trained for, if the caller has it already.

        Raises:
            InputError: If there is none.
        """
        from dallme.decoders.vec2text.checkpoint import load

        model, tokenizer, config = load(folder, device)
        if find_precision(precision, find_device(device)) == "bfloat16":
            model = model.bfloat16()
        if model.device.type == "cpu":  # torch's own attention is slow there for one new token at a time
            model.language_model.set_attn_implementation("eager")
        return cls(config, model, tokenizer, embedder)

    @cached_property
    def embedder(self) -> Embedder:
        """The embedder that texts are embedded again with.

        Raises:
            InputError: If it is not the one that the inverter was trained for.
        """
        embedder = resolve(self.own_embedder or self.config.embedder)
        if incompatibilities := self.config.incompatibilities(embedder.fingerprint(self.config.prompt)):
            raise InputError(
                f"expected the embedder that the inverter was trained for, found {embedder.name!r} with {'; '.join(incompatibilities)} "
                "(the inverter's first)"
            )
        return embedder

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Embeds texts as those were that the inverter learnt from, prompt included; float32 of shape (n, d)."""
        return self.embedder.embed(texts, prompt=self.config.prompt)

    def write(
        self,
        targets: np.ndarray,
        *,
        current: Sequence[str] | None = None,
        current_vectors: np.ndarray | None = None,
        samples: int = 1,
        temperature: float = TEMPERATURE,
        seeds: Sequence[int] | None = None,
        again: Sequence[bool] | None = None,
    ) -> list[list[str]]:
        """Writes texts, without looking whether they are near.

        Args:
            targets: float32 of shape (n, d), of length 1.
            current: n texts to correct; without them texts are written from the targets alone.
            current_vectors: Their vectors of shape (n, d); without them they are embedded.
            samples: Texts for each target: the likeliest, and others that are drawn.
            temperature: How freely they are drawn; 1 is the model's own distribution.
            seeds: n seeds of the draws, by default the positions; a target is drawn for alike in whatever batch it stands.
            again: For which of the n the likeliest text is known, and only the drawn ones are written; by default for none.

        Returns:
            For each target `samples` texts, or one less, which may be blank or alike.
        """
        import torch

        seeds = range(len(targets)) if seeds is None else seeds
        if current is not None and current_vectors is None:
            current_vectors = self.embed(current)
        ids = None if current is None else self._tokens(current)
        known = np.zeros(len(targets), dtype=bool) if again is None else np.array(again, dtype=bool)
        counts = samples - known.astype(np.int64)
        written: list[list[str]] = [[] for _ in targets]
        with torch.inference_mode():
            for rows in self._batches(ids, counts):
                drawn = {
                    "samples": samples,
                    "temperature": temperature,
                    "seeds": [int(seeds[row]) for row in rows],
                }
                texts = iter(
                    self._write_batch(
                        rows, targets, ids, current_vectors, drawn | {"again": known[rows].tolist()}
                    )
                )
                for row in rows.tolist():
                    written[row] = list(islice(texts, int(counts[row])))
        return written

    def decode(
        self,
        vectors: Any,
        *,
        steps: int = 5,
        beam: int = 4,
        start: Start = "hypothesis",
        seed: int = 0,
        progress: Progress | None = None,
        engine: Engine | None = None,
    ) -> list[Decoded]:
        """Decodes vectors: writes texts, and corrects them as long as they get nearer.

        Args:
            vectors: Vectors of shape (n, d), of any length: only their direction counts.
            steps: Correction steps at most; 0 writes from the vectors alone.
            beam: Texts that are held, and written for each held one in a step.
            start: ``hypothesis``, or for each vector a text to correct, or several.
            seed: Seed of the draws.
            progress: Where to show progress.
            engine: Where it is done; by default here. Some hundred vectors at a time go to a worker.

        Returns:
            The nearest text for each vector, with the others that were held at the end.

        Raises:
            InputError: If the vectors are of another dimension, or the inverter cannot correct and is asked to.
        """
        progress = progress or SilentProgress()
        if engine is not None and engine.remote and len(vectors) > ROWS:
            return self._shared_out(vectors, steps, beam, start, seed, progress, engine)
        decoded: list[Decoded] = []
        for states in self._chunks(vectors, steps, beam, start, seed, progress):
            decoded += states[-1]
        return decoded

    def _shared_out(
        self, vectors: Any, steps: int, beam: int, start: Start, seed: int, progress: Progress, engine: Engine
    ) -> list[Decoded]:
        """What :meth:`decode` gives, some rows on each worker."""
        checked, starts = self._checked(vectors, steps, beam, start, seed)
        slices = [slice(first, first + ROWS) for first in range(0, len(checked), ROWS)]
        pieces = ((rows.start, checked[rows], None if starts is None else starts[rows]) for rows in slices)
        found: list[tuple[int, list[Decoded]]] = []
        with progress.task("decode", total=len(checked)) as task:
            for place, decoded in engine.map(_Decoding(self, steps, beam, seed), pieces, accelerated=True):
                found.append((place, decoded))
                task.advance(len(decoded))
        return [decoded for part in in_order(found) for decoded in part]

    def __getstate__(self) -> dict[str, Any]:
        """What goes to another process: the weights from wherever they are, the embedder without its own."""
        return {
            "config": self.config,
            "model": self.model if self.model.device.type == "cpu" else deepcopy(self.model).cpu(),
            "tokenizer": self.tokenizer,
            "own_embedder": self.own_embedder,
        }

    def trajectory(
        self, vectors: Any, *, steps: int, beam: int = 4, seed: int = 0, progress: Progress | None = None
    ) -> list[list[Decoded]]:
        """What :meth:`decode` gives after 0, 1, ... `steps` steps, in one run: `steps` + 1 lists of n texts.

        Raises:
            InputError: As :meth:`decode`.
        """
        chunks = self._chunks(
            vectors, steps, beam, "hypothesis", seed, progress or SilentProgress(), keep=True
        )
        return [[decoded for part in parts for decoded in part] for parts in zip(*chunks, strict=True)]

    def _chunks(
        self,
        vectors: Any,
        steps: int,
        beam: int,
        start: Start,
        seed: int,
        progress: Progress,
        keep: bool = False,
    ) -> Iterator[list[list[Decoded]]]:
        """Decodes some rows at a time; of their states all are kept, or the last."""
        checked, starts = self._checked(vectors, steps, beam, start, seed)
        with progress.task("decode", total=len(checked) * (steps + 1)) as task:
            for first in range(0, len(checked), ROWS):
                rows = slice(first, first + ROWS)
                states: list[list[Decoded]] = []
                given = None if starts is None else starts[rows]
                for state in trajectory(
                    self, checked[rows], steps=steps, beam=beam, starts=given, seed=seed, first=first
                ):
                    states = [*states, state] if keep else [state]
                    task.advance(len(state))
                yield states

    def _checked(
        self, vectors: Any, steps: int, beam: int, start: Start, seed: int
    ) -> tuple[np.ndarray, list[list[str]] | None]:
        """The vectors, and the texts to start from, if all that was asked for can be done."""
        checked = check_vectors(vectors, dimension=self.config.fingerprint.dimension)
        check_positive(beam, "beam")
        check_seed(seed)
        self.check_steps(steps)
        starts = self._check_start(start, len(checked))
        if starts is not None and steps == 0:
            raise InputError("expected at least 1 step to correct given texts, found 0")
        return checked, starts

    def check_steps(self, steps: int) -> None:
        """Checks a number of correction steps.

        Raises:
            InputError: If it is negative, or the inverter was not trained to correct and it is not 0.
        """
        if isinstance(steps, bool) or not isinstance(steps, (int, np.integer)) or steps < 0:
            raise InputError(f"expected steps to be a whole number of at least 0, found {steps!r}")
        if steps and not self.config.corrects:
            raise InputError(
                f"expected 0 steps with an inverter that was not trained to correct, found {steps}"
            )

    def _check_start(self, start: Start, count: int) -> list[list[str]] | None:
        if start == "hypothesis":
            return None
        if isinstance(start, str) or len(start) != count:
            found = repr(start) if isinstance(start, str) else f"{len(start)} texts"
            raise InputError(
                f"expected start as 'hypothesis' or one text for each of {count} vectors, found {found}"
            )
        return [[given] if isinstance(given, str) else list(given) for given in start]

    def _tokens(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Tokens of texts as the corrector learnt them: cut, with the end."""
        most = self.config.max_tokens - 1
        found = self.tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
        return [np.array([*tokens[:most], self.model.eos_id], dtype=np.int64) for tokens in found]

    def _batches(self, ids: list[np.ndarray] | None, counts: np.ndarray) -> list[np.ndarray]:
        """Positions for which there are texts to write, in batches of like length and size, as large as fits."""
        lengths = (
            np.zeros(len(counts), dtype=np.int64)
            if ids is None
            else np.array([len(row) for row in ids], dtype=np.int64)
        )
        # The longest come first: what does not fit in memory fails at once.
        order = np.argsort(-lengths, kind="stable")
        order = order[counts[order] > 0]
        if not len(order):
            return []
        most = max(
            1,
            self._batch_tokens
            // (int(lengths[order[0]]) + 3 * self.config.pseudo_tokens + self.config.max_tokens),
        )
        before, texts = np.cumsum(counts[order]) - counts[order], int(counts.sum())
        size = -(-texts // -(-texts // most))
        return np.split(order, np.flatnonzero(np.diff(before // size)) + 1)

    @property
    def _batch_tokens(self) -> int:
        """Tokens of a batch: as many as keep the processor busy, and fewer for a large model."""
        device = self.model.device.type
        return BATCH_TOKENS.get(device) or min(
            BATCH_TOKENS_ELSEWHERE, BATCH_BYTES_ELSEWHERE // self.model.bytes_a_token
        )

    def _write_batch(
        self,
        rows: np.ndarray,
        targets: np.ndarray,
        ids: list[np.ndarray] | None,
        current_vectors: np.ndarray | None,
        drawn: dict[str, Any],
    ) -> list[str]:
        import torch

        def tensor(array: np.ndarray) -> torch.Tensor:
            return torch.from_numpy(np.ascontiguousarray(array)).to(self.model.device)

        current: dict[str, Any] = {}
        if ids is not None and current_vectors is not None:
            tokens, mask = pad([ids[row] for row in rows], self.model.pad_id)
            current = {
                "current": tensor(current_vectors[rows]),
                "current_ids": tensor(tokens),
                "current_mask": tensor(mask),
            }
        found = self.model.generate(
            tensor(targets[rows]), **current, max_new_tokens=self.config.max_tokens, **drawn
        )
        texts: list[str] = self.tokenizer.batch_decode(found.cpu(), skip_special_tokens=True)
        return [text.replace("\ufffd", "").strip() for text in texts]


@dataclass(eq=False)
class _Decoding:
    """Decodes some rows on a worker.

    Attributes:
        inverter: What decodes.
        steps: Correction steps at most.
        beam: Texts that are held.
        seed: Seed of the draws.
    """

    inverter: Inverter
    steps: int
    beam: int
    seed: int

    def __call__(self, piece: tuple[int, np.ndarray, list[list[str]] | None]) -> list[Decoded]:
        """What is written for rows, given the number of the first, their vectors and the texts to start from."""
        first, vectors, starts = piece
        self.inverter.model.to(find_device("auto"))
        states = trajectory(
            self.inverter,
            vectors,
            steps=self.steps,
            beam=self.beam,
            starts=starts,
            seed=self.seed,
            first=first,
        )
        return [*states][-1]
