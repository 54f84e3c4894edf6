"""Tracking: each new row is told to the tools that people follow their experiments with. Off unless it is asked for."""

from __future__ import annotations

import ntpath
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

from dallme.errors import MissingDependencyError, UnknownNameError
from dallme.experiments.rows import Row
from dallme.experiments.spec import Experiment
from dallme.progress import Progress

#: The extra that installs what trackers need.
EXTRA = "track"

#: Parameters and metrics of a run.
Scalars = Mapping[str, str | float]


@dataclass(eq=False)
class Tracker(ABC):
    """Tells a tool of rows, a run each. A subclass writes :meth:`_log`.

    Attributes:
        library: The module that it talks to.
        project: What the runs are filed under.
        name: What the user calls the tracker.
        package: The module's name.
    """

    name: ClassVar[str]
    package: ClassVar[str]

    library: Any
    project: str

    def log(self, row: Row, experiment: Experiment, edition: str) -> None:
        """Logs a row: the numbers of its result as metrics, its configuration as parameters, neither texts nor folders."""
        group = f"{experiment.name}-{edition}"
        parameters = {"experiment": experiment.name, "edition": edition, **make_parameters(row.config)}
        with redirect_stdout(sys.stderr):  # some of them chat, and standard output is for results
            self._log(f"{group}-{row.key[:8]}", group, parameters, make_metrics(row.result))

    @abstractmethod
    def _log(self, run: str, group: str, parameters: Scalars, metrics: Scalars) -> None:
        """Logs a run by its name."""

    def close(self) -> None:  # noqa: B027 - most have nothing to close
        """Ends the tracking."""


class TrackioTracker(Tracker):
    """Trackio, which keeps runs on this machine; ``trackio show`` shows them."""

    name = "trackio"
    package = "trackio"

    def _log(self, run: str, group: str, parameters: Scalars, metrics: Scalars) -> None:
        self.library.init(project=self.project, name=run, group=group, config=dict(parameters))
        self.library.log(dict(metrics))
        self.library.finish()


class MLflowTracker(Tracker):
    """MLflow, at ``MLFLOW_TRACKING_URI`` or where it keeps runs by itself."""

    name = "mlflow"
    package = "mlflow"

    def _log(self, run: str, group: str, parameters: Scalars, metrics: Scalars) -> None:
        self.library.set_experiment(self.project)
        with self.library.start_run(run_name=run, tags={"group": group}):
            self.library.log_params(dict(parameters))
            self.library.log_metrics(dict(metrics))


class WandbTracker(Tracker):
    """Weights & Biases, with the account that it is logged in to."""

    name = "wandb"
    package = "wandb"

    def _log(self, run: str, group: str, parameters: Scalars, metrics: Scalars) -> None:
        with self.library.init(
            project=self.project, name=run, group=group, config=dict(parameters)
        ) as opened:
            opened.log(dict(metrics))


class TensorBoardTracker(Tracker):
    """Files for TensorBoard's HPARAMS page, in the folder ``runs/PROJECT``; written by tensorboardX, which needs no torch."""

    name = "tensorboard"
    package = "tensorboardX"

    _writer: Any = None

    def _log(self, run: str, group: str, parameters: Scalars, metrics: Scalars) -> None:
        if self._writer is None:
            self._writer = self.library.SummaryWriter(logdir=str(Path("runs") / self.project))
        self._writer.add_hparams(dict(parameters), dict(metrics), name=run)

    def close(self) -> None:
        """Closes the files."""
        if self._writer is not None:
            self._writer.close()


#: Name to tracker.
TRACKERS: dict[str, type[Tracker]] = {
    kind.name: kind for kind in (TrackioTracker, MLflowTracker, WandbTracker, TensorBoardTracker)
}


def make_trackers(names: Sequence[str], project: str) -> list[Tracker]:
    """Makes trackers and imports what they need, so that a missing package is noticed before long work.

    Args:
        names: Names of :data:`TRACKERS`; one that comes twice counts once.
        project: What the tool files the runs under.

    Raises:
        UnknownNameError: If there is no tracker of that name.
        MissingDependencyError: If its package is not installed.
    """
    for name in names:
        if name not in TRACKERS:
            raise UnknownNameError("tracker", name, TRACKERS)
    return [_make(TRACKERS[name], project) for name in dict.fromkeys(names)]


def _make(kind: type[Tracker], project: str) -> Tracker:
    try:
        return kind(import_module(kind.package), project)
    except ModuleNotFoundError as error:
        if error.name != kind.package:  # it is there, and broken
            raise
        raise MissingDependencyError(f"tracker {kind.name!r}", kind.package, EXTRA) from None


@contextmanager
def tracking(
    trackers: Sequence[Tracker], experiment: Experiment, edition: str, progress: Progress
) -> Iterator[Callable[[Row], None]]:
    """Gives a function that logs a row to all trackers, and closes them when the block ends.

    A tracker that fails is told of and not asked again: rows are kept whether they are tracked or not.

    Args:
        trackers: The trackers.
        experiment: Where the rows are from.
        edition: The edition.
        progress: Where to tell of failures.
    """
    active = list(trackers)

    def attempt(tracker: Tracker, action: Callable[..., None], *arguments: Any) -> None:
        try:
            action(*arguments)
        except Exception as error:  # whatever a tool and its network come up with
            if tracker in active:
                active.remove(tracker)
            progress.note(
                f"tracker {tracker.name!r} failed and is not used any more: {type(error).__name__}: {error}"
            )

    def log(row: Row) -> None:
        for tracker in tuple(active):
            attempt(tracker, tracker.log, row, experiment, edition)

    try:
        yield log
    finally:
        for tracker in trackers:
            attempt(tracker, tracker.close)


def make_metrics(result: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a result."""
    return {name: float(value) for name, value in result.items() if _is_number(value)}


def make_parameters(config: Mapping[str, Any]) -> dict[str, str | float]:
    """Numbers, switches and names of a configuration.

    A prompt is a text: only whether there is one is told. Of paths the last part is left. A table of options becomes
    ``table.option`` each; lists and tables within it are left out, as the ready sets of others are, which the method names.
    """
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat |= {f"{key}.{inner}": found for inner, found in value.items()}
        else:
            flat[key] = bool(value) if key == "prompt" else value
    named = {key: _public_name(value) if isinstance(value, str) else value for key, value in flat.items()}
    return {key: value for key, value in named.items() if isinstance(value, (str, bool)) or _is_number(value)}


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _public_name(name: str) -> str:
    """A name as others may see it: in ``PART:PATH``, or a path alone, only the last part of the path."""
    part, colon, argument = name.rpartition(":")
    if (
        argument.startswith(("/", "\\", "~", ".")) or argument.count("/") > 1
    ):  # an id of the Hub has one slash
        argument = ntpath.basename(argument.rstrip("/\\"))
    return f"{part}{colon}{argument}"
