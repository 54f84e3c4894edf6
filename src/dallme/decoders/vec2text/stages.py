"""The training loop: AdamW over batches of similar length, with ten measurements per stage."""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from dallme.decoders.vec2text.backbones import TrainingOptions
from dallme.decoders.vec2text.corpus import Batches, Corpus, Drafts, Embed, encode, pad
from dallme.decoders.vec2text.evaluation import Measures, measure
from dallme.decoders.vec2text.model import InverterModel
from dallme.decoders.vec2text.state import Checkpoints, TrainingState
from dallme.errors import DallmeError, MissingDependencyError
from dallme.models.devices import find_device, find_precision
from dallme.progress import Progress

T = TypeVar("T")

#: Share of a stage in which the learning rate rises.
WARMUP = 0.05

#: Measurements per stage, and held-out texts of each.
MEASUREMENTS, MEASURED = 10, 100

#: Scores that a measurement shows, and number of sample texts.
_SHOWN, SAMPLES = ("bleu", "token_f1", "exact", "cosine"), 2

#: Steps after which the time of a stage is estimated.
ESTIMATED = 10

#: Texts written per batch on a CPU, and on other devices, which are fastest with large batches.
WRITTEN_AT_ONCE, WRITTEN_AT_ONCE_ELSEWHERE = 128, 2_048

#: Minimum rise of BLEU, and minimum fall of the held-out loss, that count as progress. BLEU of a hundred
#: texts alone is too coarse.
_BETTER, _LOWER = 0.1, 0.001

#: Share of the corrector's time that the drafts may take, if the time is given.
_DRAFT_SHARE = 0.25

_NAMES = {1: "hypothesizer", 2: "corrector"}


@dataclass(frozen=True, eq=False)
class ProcessGroup:
    """The processes of a training; each computes its share of every batch. Most trainings have one.

    All build the same model and the same batches, and apply the gradient of the whole batch. So a training
    gives the same result as in one process, except for rounding and dropout. The first process alone measures
    and writes files.

    Attributes:
        accelerator: The ``accelerate.Accelerator`` of the processes; None for one process.
        device: Device of this process.
    """

    accelerator: Any
    device: torch.device

    @classmethod
    def join(cls, device: str) -> ProcessGroup:
        """Joins the processes that were launched with this one, if any.

        Args:
            device: ``auto``, ``cpu``, ``cuda`` or ``mps``.

        Raises:
            MissingDependencyError: If there are several and accelerate is not installed.
        """
        if int(os.environ.get("WORLD_SIZE", "1")) < 2:
            return cls(None, find_device(device))
        if find_spec("accelerate") is None:
            raise MissingDependencyError("training in several processes", "accelerate", "vec2text")
        from accelerate import Accelerator, DistributedDataParallelKwargs

        # The hypothesizer does not use the corrector's weights.
        unused = DistributedDataParallelKwargs(find_unused_parameters=True)
        accelerator = Accelerator(cpu=find_device(device).type == "cpu", kwargs_handlers=[unused])
        return cls(accelerator, accelerator.device)

    @property
    def count(self) -> int:
        """Number of processes."""
        return 1 if self.accelerator is None else int(self.accelerator.num_processes)

    @property
    def rank(self) -> int:
        """Number of this process, from 0."""
        return 0 if self.accelerator is None else int(self.accelerator.process_index)

    @property
    def first(self) -> bool:
        """Whether this process measures and writes."""
        return self.rank == 0

    def wrap(self, model: nn.Module) -> nn.Module:
        """Wraps a model so that its gradients are averaged over the processes."""
        wrapped: nn.Module = model if self.accelerator is None else self.accelerator.prepare_model(model)
        return wrapped

    def part_of(self, batch: dict[str, Tensor]) -> tuple[dict[str, Tensor], float]:
        """Returns this process's rows of a batch, and the weight of their loss in the mean.

        With fewer rows than processes some take the first row, with weight 0.

        Args:
            batch: Arguments of :meth:`~dallme.decoders.vec2text.model.InverterModel.loss`.
        """
        if self.count == 1:
            return batch, 1.0
        if self.rank >= len(batch["target"]):
            return {name: value[:1] for name, value in batch.items()}, 0.0
        part = {name: value[self.rank :: self.count] for name, value in batch.items()}
        share = float(part["text_mask"].sum() / batch["text_mask"].sum())
        return part, share * self.count

    def agree(self, loss: Tensor, seconds: float) -> tuple[Tensor | float, float]:
        """Returns the mean loss of the processes, and the clock of the first.

        All processes use this clock, so that they end at the same step. The loss of a single process is
        returned as it is, without waiting for its device.
        """
        if self.count == 1:
            return loss, seconds
        own = torch.tensor([float(loss) / self.count, seconds if self.first else 0.0], dtype=torch.float64)
        summed: list[float] = self.accelerator.reduce(own.to(self.device), reduction="sum").tolist()
        return summed[0], summed[1]

    def shared(self, make: Callable[[], T]) -> T:
        """Calls a function in the first process; all processes return its result or raise its error.

        Raises:
            DallmeError: If `make` fails. The first process raises the original error, of any type.
        """
        if self.count == 1:
            return make()
        from accelerate.utils import broadcast_object_list

        message: list[Any] = [None, None]
        raised: Exception | None = None
        if self.first:
            try:
                message[0] = make()
            except Exception as error:
                raised = error
                known = isinstance(error, DallmeError)
                message[1] = error if known else DallmeError(f"the first process failed: {error!r}")
        broadcast_object_list(message)
        if raised is not None:
            raise raised
        if message[1] is not None:
            raise message[1]
        result: T = message[0]
        return result

    @contextmanager
    def in_turn(self) -> Iterator[None]:
        """Runs the block in the first process before the others, which find its results in a store."""
        if self.accelerator is None:
            yield
        else:
            with self.accelerator.main_process_first():
                yield


@dataclass(eq=False)
class Trainer:
    """Trains the hypothesizer, then the corrector.

    Attributes:
        model: The model, trained in place.
        tokenizer: Its tokenizer.
        corpus: The training texts.
        held_out: The held-out texts.
        embed: Texts to vectors.
        checkpoints: Where progress is saved.
        options: The options, resolved.
        progress: Where progress is shown.
        processes: The processes that train.
    """

    model: InverterModel
    tokenizer: Any
    corpus: Corpus
    held_out: Corpus
    embed: Embed
    checkpoints: Checkpoints
    options: TrainingOptions
    progress: Progress
    processes: ProcessGroup
    _losses: list[Tensor | float] = field(default_factory=list, init=False)  # not in the state's sum yet

    def run(self) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Trains the remaining stages.

        Returns:
            The scores on all held-out texts, and the measurements of all stages.
        """
        state = self.checkpoints.restore(self.model) or TrainingState()
        if state.stage == 1:
            state = self._run_stage(state, None)
        if self.options.correct:
            started = time.perf_counter()
            if state.stage == 1:
                drafts, seconds = self.processes.shared(
                    lambda: (self.checkpoints.drafts() or self._write_drafts(), time.perf_counter() - started)
                )
                # Slow drafts must not use up the time of the corrector.
                limit = (self.options.stage_seconds(2) or 0.0) * _DRAFT_SHARE
                state = TrainingState(stage=2, seconds=min(seconds, limit), history=state.history)
            else:
                saved = self.checkpoints.drafts()
                assert saved is not None  # they are written before the stage starts
                drafts = saved
            state = self._run_stage(state, drafts)
        return self.processes.shared(self._scores), state.history

    def _run_stage(self, state: TrainingState, drafts: Drafts | None) -> TrainingState:
        """Trains from a state to the end of its stage; returns the state at the end."""
        options = self.options
        assert options.batch_size is not None
        parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        # The learning rate is set at each step. Short trainings need a second moment that forgets sooner than
        # torch's.
        optimizer = torch.optim.AdamW(parameters, lr=0.0, betas=(0.9, 0.98), weight_decay=0.01, fused=True)
        if state.step:
            self.checkpoints.restore(self.model, optimizer)
        batches = Batches(
            self.corpus,
            options.batch_size,
            options.seed,
            drafts,
            noise=options.noise,
            pad=self.model.pad_id,
            device=self.model.device,
        )
        wrapped = self.processes.wrap(self.model)
        started = time.perf_counter() - state.seconds
        with self.progress.task(_NAMES[state.stage], self._units(state.stage)) as task:
            task.advance(self._done(state))
            self.model.train()
            while (before := self._share(state)) < 1 and not has_converged(state, options.patience):
                shown = self._done(state)
                own = self._step(wrapped, batches.at(state.step), optimizer, parameters, state, before)
                loss, state.seconds = self.processes.agree(own, time.perf_counter() - started)
                self._losses.append(loss)
                state.step += 1
                task.advance(self._done(state) - shown)
                if state.step == ESTIMATED:
                    self._estimate(state)
                if int(min(self._share(state), 1.0) * MEASUREMENTS) > int(before * MEASUREMENTS):
                    self._measure(state, corrected=drafts is not None)
                if state.step % options.save_every == 0:
                    self._save(state, optimizer)
        self.model.eval()
        self._save(state, optimizer)
        return state

    def _step(
        self,
        model: nn.Module,
        batch: dict[str, Tensor],
        optimizer: torch.optim.Optimizer,
        parameters: list[Any],
        state: TrainingState,
        share: float,
    ) -> Tensor:
        """Makes one step; returns this process's part of the loss before it."""
        assert self.options.learning_rate is not None
        schedule = min((share + 1e-3) / WARMUP, (1 - share) / (1 - WARMUP))
        for group in optimizer.param_groups:
            group["lr"] = self.options.learning_rate * schedule
        # The first process draws the dropout of a single process.
        rank = [self.processes.rank] if self.processes.rank else []
        rng = np.random.default_rng([self.options.seed, state.stage, 4, state.step, *rank])
        torch.manual_seed(int(rng.integers(2**62)))
        device = self.model.device
        part, weight = self.processes.part_of(batch)
        with torch.autocast(device.type, torch.bfloat16, enabled=self._bfloat16):
            loss: Any = model(**{name: _send(value, device) for name, value in part.items()}) * weight
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        detached: Tensor = loss.detach()
        return detached

    @property
    def _bfloat16(self) -> bool:
        return find_precision(self.options.precision, self.model.device) == "bfloat16"

    def _add_losses(self, state: TrainingState) -> None:
        """Adds recent losses to the state's sum; reading each at its step would stall a GPU."""
        for loss in self._losses:  # one by one: rounding must not depend on when checkpoints are saved
            state.loss += float(loss)
        self._losses.clear()

    def _save(self, state: TrainingState, optimizer: torch.optim.Optimizer) -> None:
        self._add_losses(state)
        self.processes.shared(lambda: self.checkpoints.save(state, self.model, optimizer))

    def _share(self, state: TrainingState) -> float:
        """Share of the stage that is done, from 0 to 1 or slightly more."""
        seconds = self.options.stage_seconds(state.stage)
        return state.step / self._units(state.stage) if seconds is None else state.seconds / seconds

    def _units(self, stage: int) -> int:
        """Steps of a stage, or its seconds if the time is given."""
        seconds = self.options.stage_seconds(stage)
        if seconds is not None:
            return max(1, int(seconds))
        return self.options.stage_steps(stage, len(self.corpus)) or 1

    def _done(self, state: TrainingState) -> int:
        done = state.step if self.options.minutes is None else int(state.seconds)
        return min(done, self._units(state.stage))

    def _estimate(self, state: TrainingState) -> None:
        """Reports how long the stage will take."""
        minutes = state.seconds / self._share(state) / 60
        speed = state.step * (self.options.batch_size or 1) / state.seconds
        name = _NAMES[state.stage]
        self.progress.note(f"{name}: {speed:.0f} texts a second, about {minutes:.1f} minutes in all")

    def _measure(self, state: TrainingState, *, corrected: bool) -> None:
        """Measures on held-out texts, records the scores, and starts a new mean of the losses."""
        self._add_losses(state)
        state.history.append(self.processes.shared(lambda: self._measurement(state, corrected=corrected)))
        state.loss = 0.0
        self.model.train()

    def _measurement(self, state: TrainingState, *, corrected: bool) -> dict[str, Any]:
        """Returns an entry of the history."""
        self.model.eval()
        originals, vectors = self.held_out.texts[:MEASURED], self.held_out.vectors[:MEASURED]
        texts, measures = self._write_and_measure(vectors, originals, corrected=corrected)
        steps = state.step - sum(entry["steps"] for entry in state.history if entry["stage"] == state.stage)
        losses = {"loss": state.loss / steps, "held_out_loss": self._held_out_loss()}
        scores = {name: round(value, 4) for name, value in _known(measures).items() if name in _SHOWN}
        self.progress.note(
            f"{_NAMES[state.stage]} step {state.step:,}: loss {losses['loss']:.3f}, "
            f"held-out {losses['held_out_loss']:.3f}, "
            + ", ".join(f"{name} {value:.3f}" for name, value in scores.items())
        )
        for text, original in list(zip(texts, originals, strict=True))[:SAMPLES]:
            self.progress.note(f"  {original!r} -> {text!r}")
        rounded = {name: round(loss, 4) for name, loss in losses.items()}
        return {"stage": state.stage, "steps": steps} | rounded | scores

    @torch.no_grad()
    def _held_out_loss(self) -> float:
        """Mean loss of the hypothesizer over held-out texts, in nats per token."""
        device = self.model.device
        ids, mask = pad(self.held_out.ids[:MEASURED], self.model.pad_id)
        arrays = (self.held_out.vectors[:MEASURED], ids, mask)
        with torch.autocast(device.type, torch.bfloat16, enabled=self._bfloat16):
            return float(self.model.loss(*(torch.from_numpy(array).to(device) for array in arrays)))

    def _write_and_measure(
        self, vectors: np.ndarray, originals: list[str], *, corrected: bool
    ) -> tuple[list[str], Measures]:
        """Writes texts for vectors, corrects them once if wanted, and scores them."""
        texts = self._write(vectors)
        written = self.embed(texts)
        if corrected:
            texts = self._write(vectors, (texts, written))
            written = self.embed(texts)
        return texts, measure(texts, originals, np.einsum("ij,ij->i", written, vectors))

    def _scores(self) -> dict[str, Any]:
        """Scores the inverter on the held-out texts, without and with a correction."""
        scores = {}
        for name in ("hypotheses", "corrected once") if self.options.correct else ("hypotheses",):
            _, measures = self._write_and_measure(
                self.held_out.vectors, self.held_out.texts, corrected=name == "corrected once"
            )
            scores[name] = {key: round(value, 4) for key, value in _known(measures).items()}
        return scores

    def _write_drafts(self) -> Drafts:
        """Writes the model's own hypotheses for some of the training texts."""
        rng = np.random.default_rng([self.options.seed, 2, 5])
        rows = rng.permutation(len(self.corpus))[: self.options.drafts]
        seconds, started = self.options.stage_seconds(2), time.perf_counter()
        texts: list[str] = []
        with self.progress.task("drafts", len(rows)) as task:
            for start in range(0, len(rows), self._at_once):
                batch = rows[start : start + self._at_once]
                texts += self._write(self.corpus.vectors[batch])
                task.advance(len(batch))
                if seconds is not None and time.perf_counter() - started > seconds * _DRAFT_SHARE:
                    break
        drafts = Drafts(rows[: len(texts)], self._encode(texts), self.embed(texts))
        self.checkpoints.save_drafts(drafts)
        return drafts

    def _encode(self, texts: list[str]) -> list[np.ndarray]:
        assert self.options.max_tokens is not None
        return encode(texts, self.tokenizer, self.model.eos_id, self.options.max_tokens)

    @property
    def _at_once(self) -> int:
        return WRITTEN_AT_ONCE if self.model.device.type == "cpu" else WRITTEN_AT_ONCE_ELSEWHERE

    def _write(self, vectors: np.ndarray, current: tuple[list[str], np.ndarray] | None = None) -> list[str]:
        """Writes the most likely text for each vector, or the most likely correction of each current text."""
        # Weights in bfloat16 where that is fast: writing reads all of them for each token.
        model = copy.deepcopy(self.model).to(torch.bfloat16 if self._bfloat16 else torch.float32).eval()
        ids = None if current is None else self._encode(current[0])
        texts: list[str] = []
        for start in range(0, len(vectors), self._at_once):
            rows = slice(start, start + self._at_once)
            arrays = {"target": vectors[rows]}
            if current is not None and ids is not None:
                current_ids, current_mask = pad(ids[rows], self.model.pad_id)
                arrays |= {
                    "current": current[1][rows],
                    "current_ids": current_ids,
                    "current_mask": current_mask,
                }
            tensors: dict[str, Any] = {
                name: torch.from_numpy(array).to(self.model.device) for name, array in arrays.items()
            }
            written = model.generate(**tensors, max_new_tokens=self.options.max_tokens or 1)
            texts += self.tokenizer.batch_decode(written, skip_special_tokens=True)
        return [text.strip() or "." for text in texts]


def has_converged(state: TrainingState, patience: int) -> bool:
    """Returns whether the stage's last `patience` measurements improved neither BLEU nor held-out loss."""
    entries = [entry for entry in state.history if entry["stage"] == state.stage]
    before, recent = entries[:-patience], entries[-patience:]
    if not before:
        return False
    risen = max(entry["bleu"] for entry in recent) >= max(entry["bleu"] for entry in before) + _BETTER
    lowest = min(entry["held_out_loss"] for entry in before)
    fallen = min(entry["held_out_loss"] for entry in recent) <= lowest - _LOWER
    return not (risen or fallen)


def _known(measures: Measures) -> dict[str, float | int]:
    return {name: value for name, value in measures.as_dict().items() if value is not None}


def _send(tensor: Tensor, device: torch.device) -> Tensor:
    """Copies a tensor to a device; a GPU continues its work meanwhile."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)
