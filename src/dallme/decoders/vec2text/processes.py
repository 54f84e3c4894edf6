"""One training in several processes, one a device: what ``accelerate launch`` or ``torchrun`` started."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from dallme.errors import DallmeError, MissingDependencyError
from dallme.models.devices import find_device

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
    alone: torch.device

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
        return self.alone

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
        part = {name: value[self.rank :: self.count] if self.rank < rows else value[:1] for name, value in batch.items()}
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
                told[1] = error if isinstance(error, DallmeError) else DallmeError(f"the first process failed: {error!r}")
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
