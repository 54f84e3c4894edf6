"""A trained inverter in use: vectors in, texts out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from dallme.data import Fingerprint
from dallme.decoders.vec2text.corpus import encode, pad
from dallme.decoders.vec2text.correction import TEMPERATURE, Decoded, trajectory
from dallme.decoders.vec2text.model import FILE, InverterConfig
from dallme.embedders import resolve, resolve_named
from dallme.embedders.base import Embedder
from dallme.embedders.cache import EmbeddingStore
from dallme.errors import InputError
from dallme.models.devices import find_device, find_precision
from dallme.progress import Progress, SilentProgress
from dallme.scale import Engine, in_order
from dallme.validation import check_positive, check_seed, check_vectors

if TYPE_CHECKING:
    from dallme.decoders.vec2text.model import InverterModel

#: The inverter that ships with dallme.
SHIPPED = Path(__file__).parent / "shipped"

#: Where the correction starts: ``hypothesis``, or one or more texts for each vector.
Start: TypeAlias = str | Sequence[str] | Sequence[Sequence[str]]

#: Vectors decoded at once; bounds the memory.
ROWS = 512

#: Maximum number of tokens per batch, prefix and padding included, and of bytes of its keys and values, by
#: kind of device.
BATCH_TOKENS = {"cuda": 262_144}
BATCH_TOKENS_ELSEWHERE, BATCH_BYTES_ELSEWHERE = 131_072, 1_500_000_000


def find_inverter(name: str) -> Path:
    """Returns the folder of an inverter: the one named, or the shipped one if the name is blank.

    Raises:
        InputError: If the name is blank and none ships with this installation.
    """
    if name:
        return Path(name).expanduser()
    if not (SHIPPED / FILE).is_file():
        raise InputError(
            "expected the folder of an inverter, as in vec2text:FOLDER, found none named and none in this "
            "installation; train one with: dallme train-inverter"
        )
    return SHIPPED


def check_fit(
    config: InverterConfig, folder: Path, fingerprint: Fingerprint, earlier_weights: str | None = None
) -> None:
    """Checks that an inverter was trained for the embedder that made some vectors.

    Raises:
        InputError: If it was not; the message names the differences and other inverters that fit.
    """
    incompatibilities = config.incompatibilities(fingerprint, earlier_weights)
    if not incompatibilities:
        return
    fitting = []
    for other in (SHIPPED, *sorted(path.parent for path in folder.parent.glob(f"*/{FILE}"))):
        try:
            fits = not InverterConfig.read(other).incompatibilities(fingerprint, earlier_weights)
        except InputError:
            continue
        if fits and other != folder:
            fitting.append(f"vec2text:{other}" if other != SHIPPED else "vec2text")
    advice = f"use {' or '.join(fitting)}" if fitting else "train one for it with: dallme train-inverter"
    raise InputError(
        f"expected an inverter for the embedder of these vectors, found {str(folder)!r}, trained for "
        f"{config.embedder!r}: {'; '.join(incompatibilities)}; {advice}; "
        "or map the vectors into its space with --set decoder.align=true"
    )


@dataclass(frozen=True, eq=False)
class Inverter:
    """A trained inverter, with the embedder whose vectors it decodes.

    Attributes:
        config: The record of its training.
        model: The weights.
        tokenizer: Its tokenizer.
        own_embedder: The user's embedder, an object or a name. By default the one that `config` names is
            used, if it ships with dallme or the user has its model and vectors of it.
        store: Folder with the user's vectors; None if there is none.
        search: ``sample`` writes the most likely text and sampled ones for each target; ``beam`` writes the
            best texts of a beam search over tokens, which depend on no seed.
    """

    config: InverterConfig
    model: InverterModel
    tokenizer: Any
    own_embedder: Embedder | str | None = None
    store: Path | None = None
    search: str = "sample"

    @classmethod
    def load(
        cls,
        folder: str | Path,
        device: str = "auto",
        *,
        precision: str = "auto",
        embedder: Embedder | str | None = None,
        store: Path | None = None,
    ) -> Inverter:
        """Loads an inverter.

        Args:
            folder: Its folder.
            device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
            precision: ``auto``, ``bfloat16`` or ``float32``.
            embedder: The embedder that it was trained for, an object or a name; by default the one in its
                record.
            store: Folder with the user's vectors; an embedder in the record is known to the user if it made
                some.

        Raises:
            InputError: If there is none in the folder.
        """
        from dallme.decoders.vec2text.checkpoint import load

        model, tokenizer, config = load(folder, device)
        if find_precision(precision, find_device(device)) == "bfloat16":
            model = model.bfloat16()
        if model.device.type == "cpu":  # torch's fused attention is slow there for one new token at a time
            model.language_model.set_attn_implementation("eager")
        return cls(config, model, tokenizer, embedder, store)

    @cached_property
    def embedder(self) -> Embedder:
        """The embedder of the vectors, which embeds the written texts again.

        Raises:
            InputError: If the inverter was trained for another embedder. Or if the record names a service, a
                path or a model without vectors in the user's store.
        """
        if self.own_embedder is not None:
            embedder = resolve(self.own_embedder)
        else:
            embedder = resolve_named(self.config.embedder, f"{FILE} of the inverter", self._has_vectors)
        incompatibilities = self.config.incompatibilities(
            embedder.fingerprint(self.config.prompt), embedder.earlier_weights
        )
        if incompatibilities:
            raise InputError(
                f"expected the embedder that the inverter was trained for, found {embedder.name!r} with "
                f"{'; '.join(incompatibilities)} (the inverter's first)"
            )
        return embedder

    def _has_vectors(self, candidate: Embedder) -> bool:
        """Returns whether the store has vectors of the record's fingerprint, which the candidate makes."""
        fingerprint = self.config.fingerprint
        if self.store is None or fingerprint.model != candidate.name:
            return False
        store = EmbeddingStore(self.store)
        precisions = ("float32", "bfloat16")
        return any(store.has(replace(fingerprint, precision=precision)) for precision in precisions)

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Embeds texts as in the inverter's training, prompt included; float32 of shape (n, d)."""
        return self.embedder.embed(texts, prompt=self.config.prompt)

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
        """Decodes vectors: writes texts and corrects them as long as they get nearer.

        Args:
            vectors: Vectors of shape (n, d); only their direction counts.
            steps: Maximum number of correction steps; 0 writes from the vectors alone.
            beam: Texts kept for each vector, and corrections of each in a step.
            start: ``hypothesis``, or one or more texts to correct for each vector.
            seed: Seed of all sampling.
            progress: Where to show progress.
            engine: Where to decode, some hundred vectors per worker; by default in this process.

        Returns:
            The nearest text for each vector, with the rest of its final beam.

        Raises:
            InputError: If the vectors have another dimension, or correction is asked of an inverter that
                cannot correct.
        """
        progress = progress or SilentProgress()
        if engine is not None and engine.remote and len(vectors) > ROWS:
            return self._decode_remotely(vectors, steps, beam, start, seed, progress, engine)
        chunks = self._chunks(vectors, steps, beam, start, seed, progress)
        return [decoded for states in chunks for decoded in states[-1]]

    def trajectory(
        self, vectors: Any, *, steps: int, beam: int = 4, seed: int = 0, progress: Progress | None = None
    ) -> list[list[Decoded]]:
        """Decodes vectors once and returns the texts after 0, 1, ... `steps` steps.

        Raises:
            InputError: As :meth:`decode`.
        """
        progress = progress or SilentProgress()
        chunks = self._chunks(vectors, steps, beam, "hypothesis", seed, progress, all_states=True)
        return [[decoded for part in parts for decoded in part] for parts in zip(*chunks, strict=True)]

    def _chunks(
        self,
        vectors: Any,
        steps: int,
        beam: int,
        start: Start,
        seed: int,
        progress: Progress,
        all_states: bool = False,
    ) -> Iterator[list[list[Decoded]]]:
        """Decodes some rows at a time; yields the states after all steps, or the last one."""
        checked, starts = self._check(vectors, steps, beam, start, seed)
        with progress.task("decode", total=len(checked) * (steps + 1)) as task:
            for first in range(0, len(checked), ROWS):
                rows = slice(first, first + ROWS)
                states: list[list[Decoded]] = []
                options: dict[str, Any] = {"steps": steps, "beam": beam, "seed": seed, "first": first}
                texts = None if starts is None else starts[rows]
                for state in trajectory(self, checked[rows], starts=texts, **options):
                    states = [*states, state] if all_states else [state]
                    task.advance(len(state))
                yield states

    def _decode_remotely(
        self, vectors: Any, steps: int, beam: int, start: Start, seed: int, progress: Progress, engine: Engine
    ) -> list[Decoded]:
        """Decodes some rows on each worker."""
        checked, starts = self._check(vectors, steps, beam, start, seed)
        slices = [slice(first, first + ROWS) for first in range(0, len(checked), ROWS)]
        pieces = ((rows.start, checked[rows], None if starts is None else starts[rows]) for rows in slices)
        results: list[tuple[int, list[Decoded]]] = []
        with progress.task("decode", total=len(checked)) as task:
            for piece, decoded in engine.map(_Decoding(self, steps, beam, seed), pieces, accelerated=True):
                results.append((piece, decoded))
                task.advance(len(decoded))
        return [decoded for part in in_order(results) for decoded in part]

    def __getstate__(self) -> dict[str, Any]:
        """Returns what is sent to another process: the weights on the CPU, without the resolved embedder."""
        return {
            "config": self.config,
            "model": self.model if self.model.device.type == "cpu" else deepcopy(self.model).cpu(),
            "tokenizer": self.tokenizer,
            "own_embedder": self.own_embedder,
            "store": self.store,
            "search": self.search,
        }

    def _check(
        self, vectors: Any, steps: int, beam: int, start: Start, seed: int
    ) -> tuple[np.ndarray, list[list[str]] | None]:
        """Checks all arguments of a decoding; returns the vectors and the texts to start from."""
        checked = check_vectors(vectors, dimension=self.config.fingerprint.dimension)
        check_positive(beam, "beam")
        check_seed(seed)
        self.check_steps(steps)
        if start == "hypothesis":
            return checked, None
        if isinstance(start, str) or len(start) != len(checked):
            raise InputError(
                f"expected start as 'hypothesis' or one text for each of {len(checked)} vectors, found "
                + (repr(start) if isinstance(start, str) else f"{len(start)} texts")
            )
        if steps == 0:
            raise InputError("expected at least 1 step to correct given texts, found 0")
        return checked, [[texts] if isinstance(texts, str) else list(texts) for texts in start]

    def check_steps(self, steps: int) -> None:
        """Checks a number of correction steps.

        Raises:
            InputError: If it is negative, or positive and the inverter was not trained to correct.
        """
        if isinstance(steps, bool) or not isinstance(steps, (int, np.integer)) or steps < 0:
            raise InputError(f"expected steps to be a whole number of at least 0, found {steps!r}")
        if steps and not self.config.corrects:
            raise InputError(
                f"expected 0 steps with an inverter that was not trained to correct, found {steps}"
            )

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
        """Writes texts once, without comparing their vectors.

        Args:
            targets: float32 of shape (n, d), of length 1.
            current: n texts to correct; without them texts are written from the targets alone.
            current_vectors: Their vectors of shape (n, d); by default they are embedded.
            samples: Texts for each target: the most likely one, and sampled ones.
            temperature: Sampling temperature; 1 is the model's own distribution.
            seeds: n seeds of the sampling, by default the positions; the batch does not change the samples.
            again: For which of the n only the sampled texts are written; by default for none.

        Returns:
            For each target `samples` texts, which may be blank or equal. With `again` it is one less, or none
            with a beam search.
        """
        import torch

        seeds = range(len(targets)) if seeds is None else seeds
        ids = None
        if current is not None:
            if current_vectors is None:
                current_vectors = self.embed(current)
            ids = encode(current, self.tokenizer, self.model.eos_id, self.config.max_tokens)
        known = np.zeros(len(targets), dtype=bool) if again is None else np.array(again, dtype=bool)
        # A beam search would find the same texts again.
        counts = np.where(known, 0, samples) if self.beams(samples) else samples - known.astype(np.int64)
        written: list[list[str]] = [[] for _ in targets]
        with torch.inference_mode():
            for rows in self.split_batches(ids, counts):
                sampling = {
                    "samples": samples,
                    "temperature": temperature,
                    "seeds": [int(seeds[row]) for row in rows],
                    "again": known[rows].tolist(),
                    "beams": self.beams(samples) or 1,
                }
                texts = iter(self._write_batch(rows, targets, ids, current_vectors, sampling))
                for row in rows.tolist():
                    written[row] = list(islice(texts, int(counts[row])))
        return written

    def beams(self, samples: int) -> int:
        """Returns the width of the beam search over tokens; 0 if texts are sampled."""
        return samples if self.search == "beam" and samples > 1 else 0

    def split_batches(self, ids: list[np.ndarray] | None, counts: np.ndarray) -> list[np.ndarray]:
        """Splits rows into the largest batches of similar length and size that fit in memory.

        Args:
            ids: Tokens of the current text of each row, if there are any.
            counts: Texts to write for each row, of shape (n,); rows with none are left out.

        Returns:
            Positions of the rows of each batch.
        """
        lengths = np.array([len(row) for row in ids] if ids else [0] * len(counts), dtype=np.int64)
        # The longest come first: what does not fit in memory fails at once.
        order = np.argsort(-lengths, kind="stable")
        order = order[counts[order] > 0]
        if not len(order):
            return []
        prefix = int(lengths[order[0]]) + 3 * self.config.pseudo_tokens
        most = max(1, self._batch_tokens // (prefix + self.config.max_tokens))
        before, texts = np.cumsum(counts[order]) - counts[order], int(counts.sum())
        size = -(-texts // -(-texts // most))
        return np.split(order, np.flatnonzero(np.diff(before // size)) + 1)

    @property
    def _batch_tokens(self) -> int:
        """Tokens of a batch: enough to keep the processor busy, fewer for a large model."""
        fitting = BATCH_BYTES_ELSEWHERE // self.model.bytes_per_token
        return BATCH_TOKENS.get(self.model.device.type) or min(BATCH_TOKENS_ELSEWHERE, fitting)

    def _write_batch(
        self,
        rows: np.ndarray,
        targets: np.ndarray,
        ids: list[np.ndarray] | None,
        current_vectors: np.ndarray | None,
        sampling: dict[str, Any],
    ) -> list[str]:
        import torch

        arrays: dict[str, np.ndarray] = {}
        if ids is not None and current_vectors is not None:
            tokens, mask = pad([ids[row] for row in rows], self.model.pad_id)
            arrays = {"current": current_vectors[rows], "current_ids": tokens, "current_mask": mask}
        tensors: dict[str, Any] = {
            name: torch.from_numpy(np.ascontiguousarray(array)).to(self.model.device)
            for name, array in (arrays | {"target": targets[rows]}).items()
        }
        written = self.model.generate(**tensors, max_new_tokens=self.config.max_tokens, **sampling)
        texts: list[str] = self.tokenizer.batch_decode(written.cpu(), skip_special_tokens=True)
        return [text.replace("\ufffd", "").strip() for text in texts]


@dataclass(eq=False)
class _Decoding:
    """Decodes some rows on a worker.

    Attributes:
        inverter: The inverter.
        steps: Maximum number of correction steps.
        beam: Texts kept for each vector.
        seed: Seed of all sampling.
    """

    inverter: Inverter
    steps: int
    beam: int
    seed: int

    def __call__(self, piece: tuple[int, np.ndarray, list[list[str]] | None]) -> list[Decoded]:
        """Decodes rows, given the number of the first, their vectors and the texts to start from."""
        first, vectors, starts = piece
        self.inverter.model.to(find_device("auto"))
        options: dict[str, Any] = {"steps": self.steps, "beam": self.beam, "seed": self.seed, "first": first}
        *_, last = trajectory(self.inverter, vectors, starts=starts, **options)
        return last
