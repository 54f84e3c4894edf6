"""Cost estimate of a profile: runs, trainings, time and money. Nothing is trained or sent."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, cast

from dallme import registry
from dallme.baselines.base import Baseline
from dallme.embedders.cache import EmbeddingStore
from dallme.embedders.cost import make_plan
from dallme.errors import DallmeError
from dallme.experiments.inverter_plan import PlannedWriting, plan_writing
from dallme.experiments.runs import Run
from dallme.experiments.workspace import Workspace

if TYPE_CHECKING:
    from dallme.classifiers.base import Classifier
    from dallme.experiments.rows import Row


@dataclass(frozen=True)
class PlannedRuns:
    """Runs of one data set and one classifier.

    Attributes:
        data: Name of the data set.
        what: Name of the classifier, or of the embedder if nothing is classified.
        runs: Number of runs.
        done: Number of runs that have a row.
        trainings: Remaining trainings, including those for the choice of learning rates.
        seconds: Estimated remaining time, from the mean of the stored rows; None without such rows.
    """

    data: str
    what: str
    runs: int
    done: int
    trainings: int
    seconds: float | None


@dataclass(frozen=True)
class PlannedVectors:
    """Cost of embedding one data set with one service.

    Attributes:
        data: Name of the data set.
        embedder: Name of the service's model.
        tokens: Tokens to send; None if the data set cannot be read.
        price_usd: Price of the tokens; None if unknown.
    """

    data: str
    embedder: str
    tokens: int | None
    price_usd: float | None


@dataclass(frozen=True)
class ExperimentPlan:
    """Cost estimate of the runs of a profile.

    Attributes:
        runs: Runs by data set and classifier.
        vectors: Embeddings by data set and service.
        writing: Inverters, and the texts that they write, by data set and embedder.
        notes: Values that are unknown, with the reason.
    """

    runs: tuple[PlannedRuns, ...]
    vectors: tuple[PlannedVectors, ...]
    writing: tuple[PlannedWriting, ...]
    notes: tuple[str, ...]

    @property
    def price_usd(self) -> float:
        """Sum of the known prices."""
        vectors = sum(each.price_usd or 0.0 for each in self.vectors)
        return vectors + sum(each.price_usd or 0.0 for each in self.writing)

    @property
    def gpu_hours(self) -> float:
        """Hours of inverters on one GPU; classifiers are not included."""
        return sum(each.gpu_hours for each in self.writing)

    def as_dict(self) -> dict[str, Any]:
        """Returns the JSON of the command line, which calls runs ``cells``."""
        groups = [asdict(group) for group in self.runs]
        return {
            "cells": [
                {("cells" if key == "runs" else key): value for key, value in group.items()}
                for group in groups
            ],
            "vectors": [asdict(each) for each in self.vectors],
            "writing": [asdict(each) for each in self.writing],
            "notes": list(self.notes),
        }


def plan_experiment(
    runs: Sequence[Run], rows: Sequence[Row], workspace: Workspace, seen: set[str] | None = None
) -> ExperimentPlan:
    """Estimates the cost of runs.

    Args:
        runs: The runs.
        rows: Stored rows; a row belongs to the run with the same configuration.
        workspace: Data and store of the runs.
        seen: Vectors, inverters and texts in the plans of other experiments, which are not counted again;
            extended in place.
    """
    seen = set() if seen is None else seen
    notes: list[str] = []
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        groups.setdefault((run["data"], str(run["classifier"] or run["embedder"])), []).append(run)
    seconds = {_as_text(row.config): row.seconds for row in rows}
    planned = []
    for (data, what), group in groups.items():
        done = [seconds[text] for run in group if (text := _as_text(run.config())) in seconds]
        left = [run for run in group if _as_text(run.config()) not in seconds]
        estimate = sum(done) / len(done) * len(left) if done else None
        trainings = sum(map(count_trainings, left))
        planned.append(PlannedRuns(data, what, len(group), len(done), trainings, estimate))
    vectors = _plan_vectors(runs, workspace, notes, seen)
    left = [run for run in runs if _as_text(run.config()) not in seconds]
    writing = plan_writing(left, workspace, notes, seen)
    return ExperimentPlan(tuple(planned), tuple(vectors), tuple(writing), tuple(dict.fromkeys(notes)))


def count_trainings(run: Run) -> int:
    """Counts the models that a run trains, including those for the choice of a learning rate."""
    if run["classifier"] is None:
        return 0
    if run.kind == "training":
        return 1
    protocol, classifier = run.grid.plan(), registry.split("classifiers", run["classifier"])[0].load()
    sets, full = protocol.sets, run.part in ("full", "lora", "tdd")
    if run.part in registry.names("baselines") and run.part not in run.grid.candidates:
        baseline: type[Baseline] = registry.find("baselines", run.part).load()
        sets = max(protocol.sets, protocol.draws) if baseline.varies and not full else 1
    # The protocol reads class attributes only.
    return protocol.trainings(cast("Classifier", classifier), sets, full=full)


def _plan_vectors(
    runs: Sequence[Run], workspace: Workspace, notes: list[str], seen: set[str]
) -> list[PlannedVectors]:
    """Estimates what services charge for vectors that the store does not hold."""
    if any(run.kind == "cost" for run in runs):  # such runs send nothing
        return []
    needed = {
        (run["data"], run["embedder"], run["prompt"]): run
        for run in runs
        if run["embedder"].partition(":")[0] == "openai"
    }
    totals: dict[tuple[str, str], PlannedVectors] = {}
    unreadable: dict[str, DallmeError] = {}  # a failed read can be slow, so it is not repeated
    for (data, embedder, prompt), run in needed.items():
        vectors = str(("vectors", workspace.profile.data[data], run.grid.train_rows, embedder, prompt))
        if vectors in seen:
            continue
        seen.add(vectors)
        total = totals.get((data, embedder), PlannedVectors(data, embedder, 0, 0.0))
        try:
            plan = make_plan(
                workspace.embedder(embedder),
                _source_texts(workspace, run, unreadable),
                prompt=prompt or None,
                store=EmbeddingStore(workspace.store),
            )
        except DallmeError as error:
            notes.append(f"the price of embedding {data} with {embedder} is unknown: {error}")
            totals[data, embedder] = PlannedVectors(data, embedder, None, None)
            continue
        tokens = None if total.tokens is None else total.tokens + plan.tokens
        unknown = total.price_usd is None or plan.price_usd is None
        price = None if unknown else cast(float, total.price_usd) + cast(float, plan.price_usd)
        totals[data, embedder] = PlannedVectors(data, embedder, tokens, price)
    return list(totals.values())


def _source_texts(workspace: Workspace, run: Run, unreadable: dict[str, DallmeError]) -> Sequence[str]:
    """Returns the texts of a run's source; raises the error of an earlier read of the same data set again."""
    if run["data"] in unreadable:
        raise unreadable[run["data"]]
    try:
        return workspace.texts(run)[0].texts
    except DallmeError as error:
        unreadable[run["data"]] = error
        raise


def _as_text(config: Mapping[str, Any]) -> str:
    """Returns a configuration as text, independent of the order of keys and of list or tuple."""
    return json.dumps(config, sort_keys=True)
