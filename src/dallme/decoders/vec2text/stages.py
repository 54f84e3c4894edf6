"""The loop: AdamW over batches of like length, measured ten times a stage on held-out texts."""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from dallme.decoders.vec2text.checkpoint import Checkpoints, State
from dallme.decoders.vec2text.corpus import Batches, Corpus, Drafts, Embed, encode, pad
from dallme.decoders.vec2text.evaluation import Measures, measure
from dallme.decoders.vec2text.model import InverterModel
from dallme.errors import DallmeError, MissingDependencyError
from dallme.models.devices import find_device, find_precision
from dallme.progress import Progress

if TYPE_CHECKING:
    from dallme.decoders.vec2text.training import TrainingOptions

Made = TypeVar("Made")


@dataclass(frozen=True, eq=False)
class Processes:
    """The processes of a training, of which each takes its share of every batch; most often this one alone.

    All make the same model and the same batches. The gradient that each applies is that of the whole batch, so that a
    training gives what it gives in one process, but for rounding and the draws of dropout. The first process alone
    measures, writes drafts, checkpoints and the result.

    Attributes:
        accelerator: What joins them; None for one process.
        alone: Device of the one process.
    """

    accelerator: Any
    file_lock: torch.device

    @classmethod
    def join(cls, device: str) -> Processes:
        """Joins the processes that were started with this one, if any were.

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

        # The hypothesizer leaves the corrector's weights unused.
        unused = DistributedDataParallelKwargs(find_unused_parameters=True)
        joined = Accelerator(cpu=find_device(device).type == "cpu", kwargs_handlers=[unused])
        return cls(joined, joined.device)

    @property
    def device(self) -> torch.device:
        """The device of this process."""
        return self.file_lock

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
        """The model with gradients that are averaged over the processes."""
        wrapped: nn.Module = model if self.accelerator is None else self.accelerator.prepare_model(model)
        return wrapped

    def part_of(self, batch: dict[str, Tensor]) -> tuple[dict[str, Tensor], float]:
        """This process's rows of a batch, and what its loss counts so that the mean over the processes is that of the batch.

        With fewer rows than processes some take the first row, and count nothing.

        Args:
            batch: Arguments of :meth:`~dallme.decoders.vec2text.model.InverterModel.loss`.
        """
        if self.count == 1:
            return batch, 1.0
        rows = len(batch["target"])
        part = {
            name: value[self.rank :: self.count] if self.rank < rows else value[:1]
            for name, value in batch.items()
        }
        share = float(part["text_mask"].sum() / batch["text_mask"].sum()) if self.rank < rows else 0.0
        return part, share * self.count

    def agreed(self, loss: Tensor, seconds: float) -> tuple[Tensor | float, float]:
        """The mean of the processes' losses, and the first one's clock, which ends all at the same step.

        The loss of a single process is handed back as it is, on its device and not waited for.
        """
        if self.count == 1:
            return loss, seconds
        own = torch.tensor([float(loss) / self.count, seconds if self.first else 0.0], dtype=torch.float64)
        told: list[float] = self.accelerator.reduce(own.to(self.device), reduction="sum").tolist()
        return told[0], told[1]

    def shared(self, make: Callable[[], Made]) -> Made:
        """What the first process makes, in all of them; what it raises too, so that none waits for ever.

        Raises:
            DallmeError: In the first what `make` raises, in the others the same for errors that the user can mend.
        """
        if self.count == 1:
            return make()
        from accelerate.utils import broadcast_object_list

        told: list[Any] = [None, None]
        raised: Exception | None = None
        if self.first:
            try:
                told[0] = make()
            except Exception as error:
                raised = error
                told[1] = (
                    error
                    if isinstance(error, DallmeError)
                    else DallmeError(f"the first process failed: {error!r}")
                )
        broadcast_object_list(told)
        if raised is not None:
            raise raised
        if told[1] is not None:
            raise told[1]
        made: Made = told[0]
        return made

    @contextmanager
    def in_turn(self) -> Iterator[None]:
        """Lets the first process go through the block before the others, which find what it left in a store."""
        if self.accelerator is None:
            yield
        else:
            with self.accelerator.main_process_first():
                yield


#: Share of a stage in which the learning rate rises.
WARMUP = 0.05

#: How often a stage is measured, and on how many held-out texts.
MEASUREMENTS, MEASURED = 10, 100

#: What is shown of it, and how many texts.
_SHOWN, SAMPLES = ("bleu", "token_f1", "exact", "cosine"), 2

#: Steps after which the time is estimated.
ESTIMATED = 10

#: Texts that are written at once on a processor, and on other devices, which need more of them to be busy.
WRITTEN_AT_ONCE, WRITTEN_AT_ONCE_ELSEWHERE = 128, 2_048

#: Rise of BLEU, and fall of the held-out loss, that count as one: BLEU of a hundred texts alone is too rough.
_BETTER, _LOWER = 0.1, 0.001

#: Share of the corrector's time that the drafts may take, where time is given.
_DRAFT_SHARE = 0.25

_NAMES = {1: "hypothesizer", 2: "corrector"}


@dataclass(eq=False)
class Stages:
    """A training under way.

    Attributes:
        model: What is trained, in place.
        tokenizer: Its tokenizer.
        corpus: The training texts.
        held: The held-out texts.
        embed: Texts to vectors.
        checkpoints: Where to keep what is done.
        options: The options, resolved.
        progress: Where to show progress.
        processes: Those that train.
    """

    model: InverterModel
    tokenizer: Any
    corpus: Corpus
    held: Corpus
    embed: Embed
    checkpoints: Checkpoints
    options: TrainingOptions
    progress: Progress
    processes: Processes
    _losses: list[Tensor | float] = field(
        default_factory=list, init=False
    )  # of steps that the state's sum does not hold yet

    def run(self) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Trains what is still to be trained.

        Returns:
            The scores on all held-out texts, and what was measured on the way.
        """
        state = self.checkpoints.restore(self.model) or State()
        if state.stage == 1:
            state = self._stage(state, None)
        if self.options.correct:
            begun = time.perf_counter()
            if state.stage == 1:
                drafts, seconds = self.processes.shared(
                    lambda: (self.checkpoints.drafts() or self._write_drafts(), time.perf_counter() - begun)
                )
                state = State(stage=2, seconds=seconds, history=state.history)
            else:
                found = self.checkpoints.drafts()
                assert found is not None  # they are written before the stage begins
                drafts = found
            state = self._stage(state, drafts)
        return self.processes.shared(self._scores), state.history

    def _stage(self, state: State, drafts: Drafts | None) -> State:
        """Trains from a state to the end of its stage; the state that stands there."""
        options = self.options
        assert options.batch_size is not None
        parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        # The learning rate is set at each step. Short trainings want a second moment that forgets sooner than torch's.
        optimizer = torch.optim.AdamW(parameters, lr=0.0, betas=(0.9, 0.98), weight_decay=0.01, fused=True)
        if state.step:
            self.checkpoints.restore(self.model, optimizer)
        batches = Batches(
            self.corpus,
            options.batch_size,
            options.seed,
            drafts,
            noise=options.noise,
            mix=options.mix,
            pad=self.model.pad_id,
            device=self.model.device,
        )
        wrapped = self.processes.wrap(self.model)
        begun = time.perf_counter() - state.seconds
        with self.progress.task(_NAMES[state.stage], self._units(state.stage)) as task:
            task.advance(self._done(state))
            self.model.train()
            while (before := self._share(state)) < 1 and not self._converged(state):
                shown = self._done(state)
                own = self._step(wrapped, batches.at(state.step), optimizer, parameters, state, before)
                loss, state.seconds = self.processes.agreed(own, time.perf_counter() - begun)
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

    def _add_losses(self, state: State) -> None:
        """Adds the losses since the last time to the state's sum; to read each at its step would keep a GPU waiting."""
        for loss in self._losses:
            state.loss += float(loss)
        self._losses.clear()

    def _save(self, state: State, optimizer: torch.optim.Optimizer) -> None:
        self._add_losses(state)
        self.processes.shared(lambda: self.checkpoints.save(state, self.model, optimizer))

    def _step(
        self,
        model: torch.nn.Module,
        batch: dict[str, Tensor],
        optimizer: torch.optim.Optimizer,
        parameters: list[Any],
        state: State,
        share: float,
    ) -> Tensor:
        """One step; the loss before it, as much of it as this process has to say."""
        assert self.options.learning_rate is not None
        for group in optimizer.param_groups:
            group["lr"] = self.options.learning_rate * min(
                (share + 1e-3) / WARMUP, (1 - share) / (1 - WARMUP)
            )
        rank = (
            [self.processes.rank] if self.processes.rank else []
        )  # the first draws what one process would draw
        drawn = np.random.default_rng([self.options.seed, state.stage, 4, state.step, *rank])
        torch.manual_seed(int(drawn.integers(2**62)))  # dropout
        device = self.model.device
        part, counts = self.processes.part_of(batch)
        with torch.autocast(device.type, torch.bfloat16, enabled=self._bfloat16):
            loss: Any = model(**{name: _send(value, device) for name, value in part.items()}) * counts
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        lost: Tensor = loss.detach()
        return lost

    @property
    def _bfloat16(self) -> bool:
        return find_precision(self.options.precision, self.model.device) == "bfloat16"

    def _share(self, state: State) -> float:
        """How much of the stage is done, from 0 to 1 or a little more."""
        seconds = self.options.stage_seconds(state.stage)
        if seconds is not None:
            return state.seconds / seconds
        return state.step / self._units(state.stage)

    def _units(self, stage: int) -> int:
        """Steps of a stage, or its seconds where time is given."""
        seconds = self.options.stage_seconds(stage)
        return (
            max(1, int(seconds or 0))
            if seconds is not None
            else self.options.stage_steps(stage, len(self.corpus)) or 1
        )

    def _done(self, state: State) -> int:
        done = state.step if self.options.minutes is None else int(state.seconds)
        return min(done, self._units(state.stage))

    def _estimate(self, state: State) -> None:
        """Says how long the stage will take."""
        left = self._share(state)
        seconds = state.seconds / left
        speed = state.step * (self.options.batch_size or 1) / state.seconds
        self.progress.note(
            f"{_NAMES[state.stage]}: {speed:.0f} texts a second, about {seconds / 60:.1f} minutes in all"
        )

    def _converged(self, state: State) -> bool:
        """Whether for some measurements neither BLEU has risen nor the held-out loss fallen."""
        found = [entry for entry in state.history if entry["stage"] == state.stage]
        before, since = found[: -self.options.patience], found[-self.options.patience :]
        if not before:
            return False
        risen = max(entry["bleu"] for entry in since) >= max(entry["bleu"] for entry in before) + _BETTER
        fallen = (
            min(entry["held_out_loss"] for entry in since)
            <= min(entry["held_out_loss"] for entry in before) - _LOWER
        )
        return not (risen or fallen)

    def _measure(self, state: State, *, corrected: bool) -> None:
        """Measures on held-out texts, notes it, and begins a new mean of the losses."""
        self._add_losses(state)
        state.history.append(self.processes.shared(lambda: self._measured(state, corrected=corrected)))
        state.loss = 0.0
        self.model.train()

    def _measured(self, state: State, *, corrected: bool) -> dict[str, Any]:
        """What is measured, as the history has it."""
        self.model.eval()
        rows = slice(0, MEASURED)
        vectors = self.held.vectors[rows]
        texts, found = self._write_and_measure(vectors, self.held.texts[rows], corrected=corrected)
        steps = state.step - sum(entry["steps"] for entry in state.history if entry["stage"] == state.stage)
        loss, held_out = state.loss / steps, self._held_out_loss(rows)
        scores = {
            name: round(value, 4)
            for name, value in found.as_dict().items()
            if name in _SHOWN and value is not None
        }
        self.progress.note(
            f"{_NAMES[state.stage]} step {state.step:,}: loss {loss:.3f}, held-out {held_out:.3f}, "
            + ", ".join(f"{name} {value:.3f}" for name, value in scores.items())
        )
        for text, original in list(zip(texts, self.held.texts[rows], strict=True))[:SAMPLES]:
            self.progress.note(f"  {original!r} -> {text!r}")
        return {
            "stage": state.stage,
            "steps": steps,
            "loss": round(loss, 4),
            "held_out_loss": round(held_out, 4),
        } | scores

    @torch.no_grad()
    def _held_out_loss(self, rows: slice) -> float:
        """Mean loss of the hypothesizer over held-out texts, in nats a token."""
        ids, mask = pad(self.held.ids[rows], self.model.pad_id)
        arrays = (self.held.vectors[rows], ids, mask)
        with torch.autocast(self.model.device.type, torch.bfloat16, enabled=self._bfloat16):
            return float(
                self.model.loss(*(torch.from_numpy(array).to(self.model.device) for array in arrays))
            )

    def _write_and_measure(
        self, vectors: np.ndarray, originals: list[str], *, corrected: bool
    ) -> tuple[list[str], Measures]:
        """Texts written for vectors, corrected once if wanted, and what they are worth."""
        texts = self._write(vectors)
        made = self.embed(texts)
        if corrected:
            texts = self._write(vectors, (texts, made))
            made = self.embed(texts)
        return texts, measure(texts, originals, np.einsum("ij,ij->i", made, vectors))

    def _scores(self) -> dict[str, Any]:
        """What the inverter reaches on the held-out texts, without and with a correction."""
        scores = {}
        for name, corrected in (("hypotheses", False), ("corrected once", True))[
            : 2 if self.options.correct else 1
        ]:
            _, found = self._write_and_measure(self.held.vectors, self.held.texts, corrected=corrected)
            scores[name] = {
                key: round(value, 4) for key, value in found.as_dict().items() if value is not None
            }
        return scores

    def _write_drafts(self) -> Drafts:
        """The model's own hypotheses for some of the training texts, embedded again."""
        rng = np.random.default_rng([self.options.seed, 2, 5])
        rows = rng.permutation(len(self.corpus))[: self.options.drafts]
        seconds, begun = self.options.stage_seconds(2), time.perf_counter()
        texts: list[str] = []
        with self.progress.task("drafts", len(rows)) as task:
            for start in range(0, len(rows), self._at_once):
                texts += self._write(self.corpus.vectors[rows[start : start + self._at_once]])
                task.advance(min(self._at_once, len(rows) - start))
                if seconds is not None and time.perf_counter() - begun > seconds * _DRAFT_SHARE:
                    break
        drafts = Drafts(rows[: len(texts)], self._encode(texts), self.embed(texts))
        self.checkpoints.save_drafts(drafts)
        return drafts

    def _encode(self, texts: list[str]) -> list[np.ndarray]:
        assert self.options.max_tokens is not None
        return encode(texts, self.tokenizer, self.model.eos_id, self.options.max_tokens)

    @property
    def _at_once(self) -> int:
        """Texts that the model's device writes at once."""
        return WRITTEN_AT_ONCE if self.model.device.type == "cpu" else WRITTEN_AT_ONCE_ELSEWHERE

    def _write(self, vectors: np.ndarray, current: tuple[list[str], np.ndarray] | None = None) -> list[str]:
        """The likeliest text for each vector, none blank; with current texts and their vectors, one correction of them."""
        # Weights in bfloat16 where that is fast: writing reads all of them for each token.
        writer = copy.deepcopy(self.model).to(torch.bfloat16 if self._bfloat16 else torch.float32).eval()
        ids = None if current is None else self._encode(current[0])
        texts: list[str] = []
        for start in range(0, len(vectors), self._at_once):
            rows = slice(start, start + self._at_once)
            given: dict[str, Any] = {}
            if current is not None and ids is not None:
                current_ids, current_mask = pad(ids[rows], self.model.pad_id)
                given = {
                    "current": current[1][rows],
                    "current_ids": current_ids,
                    "current_mask": current_mask,
                }
            tensors: dict[str, Any] = {
                name: torch.from_numpy(array).to(self.model.device) for name, array in given.items()
            }
            target = torch.from_numpy(vectors[rows]).to(self.model.device)
            written = writer.generate(target, **tensors, max_new_tokens=self.options.max_tokens or 1)
            texts += self.tokenizer.batch_decode(written, skip_special_tokens=True)
        return [text.strip() or "." for text in texts]


def _send(tensor: Tensor, device: torch.device) -> Tensor:
    """Puts a tensor on a device; a GPU goes on with what it has to do meanwhile."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)
