"""What running an edition would take: cells, trainings, time, money. Nothing is trained, and no service is asked."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, cast

from dallme import registry
from dallme.embedders.cache import EmbeddingStore
from dallme.embedders.cost import make_plan
from dallme.errors import DallmeError
from dallme.experiments.runs import Run
from dallme.experiments.workspace import Workspace

if TYPE_CHECKING:
    from dallme.classifiers.base import Classifier
    from dallme.experiments.rows import Row


@dataclass(frozen=True)
class PlannedCells:
    """The cells of one data set and one classifier.

    Attributes:
        data: The data set.
        what: The classifier, or the embedder where nothing is classified.
        cells: Their number.
        done: How many have a row.
        trainings: Trainings that are left, those for the choice of learning rates included.
        seconds: Time that is left, by the mean of the rows that are done; None if none is.
    """

    data: str
    what: str
    cells: int
    done: int
    trainings: int
    seconds: float | None


@dataclass(frozen=True)
class PlannedVectors:
    """What it costs to embed one data set with one service.

    Attributes:
        data: The data set.
        embedder: The service's model.
        tokens: Tokens to send, or None if the data are not at hand.
        price_usd: What they cost, or None if that is not known.
    """

    data: str
    embedder: str
    tokens: int | None
    price_usd: float | None


@dataclass(frozen=True)
class ExperimentPlan:
    """What running an edition would take.

    Attributes:
        cells: By data set and classifier.
        vectors: By data set and service.
        notes: What could not be found out, and why.
    """

    cells: tuple[PlannedCells, ...]
    vectors: tuple[PlannedVectors, ...]
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """The fields of the command line's JSON."""
        return asdict(self)


def plan_experiment(cells: Sequence[Run], rows: Sequence[Row], workspace: Workspace) -> ExperimentPlan:
    """Plans cells.

    Args:
        cells: The cells.
        rows: The rows that are there; a row counts as a cell's if the configurations agree.
        workspace: Where they would be run.
    """
    notes: list[str] = []
    planned = []
    groups: dict[tuple[str, str], list[Run]] = {}
    for cell in cells:
        groups.setdefault((cell["data"], str(cell["classifier"] or cell["embedder"])), []).append(cell)
    known = {_text(row.config): row.seconds for row in rows}
    for (data, what), members in groups.items():
        done = [known[_text(cell.config())] for cell in members if _text(cell.config()) in known]
        left = [cell for cell in members if _text(cell.config()) not in known]
        seconds = sum(done) / len(done) * len(left) if done else None
        planned.append(PlannedCells(data, what, len(members), len(done), sum(map(trainings, left)), seconds))
    return ExperimentPlan(
        tuple(planned), tuple(_vectors(cells, workspace, notes)), tuple(dict.fromkeys(notes))
    )


def trainings(cell: Run) -> int:
    """Models that a cell trains, those for the choice of a learning rate included; inverters do not count."""
    method = str(cell["method"]).partition(":")[0]
    if cell["classifier"] is None:
        return 0
    if cell.kind == "training":
        return 1
    plan, kind = cell.grid.plan(), registry.split("classifiers", cell["classifier"])[0].load()
    baselines = {part.name: part for part in registry.PARTS if part.role == "baselines"}
    sets, full = plan.sets, method in ("full", "lora", "tdd")
    if method in baselines and method not in cell.grid.candidates:
        varies = getattr(baselines[method].load(), "varies", False) and not full
        sets = max(plan.sets, plan.draws) if varies else 1
    return plan.trainings(
        cast("Classifier", kind), sets, full=full
    )  # only what stands in the class is looked at


def _vectors(cells: Sequence[Run], workspace: Workspace, notes: list[str]) -> list[PlannedVectors]:
    """The services that texts are sent to, and what they charge; what the store holds is not sent again."""
    wanted = {
        (cell["data"], cell["embedder"], cell["prompt"]): cell
        for cell in cells
        if _is_service(cell["embedder"])
    }
    if any(cell.kind == "cost" for cell in cells):  # which sends nothing
        return []
    found: dict[tuple[str, str], PlannedVectors] = {}
    missing: dict[str, DallmeError] = {}  # what cannot be reached takes long to fail
    for (data, embedder, prompt), cell in wanted.items():
        before = found.get((data, embedder), PlannedVectors(data, embedder, 0, 0.0))
        try:
            if data in missing:
                raise missing[data]
            texts = _source_texts(workspace, cell, missing)
            plan = make_plan(
                workspace.embedder(embedder),
                texts,
                prompt=prompt or None,
                store=EmbeddingStore(workspace.store),
            )
        except DallmeError as error:
            notes.append(f"the price of embedding {data} with {embedder} is not known: {error}")
            found[data, embedder] = PlannedVectors(data, embedder, None, None)
            continue
        tokens = None if before.tokens is None else before.tokens + plan.tokens
        price = (
            None if before.price_usd is None or plan.price_usd is None else before.price_usd + plan.price_usd
        )
        found[data, embedder] = PlannedVectors(data, embedder, tokens, price)
    return list(found.values())


def _source_texts(workspace: Workspace, cell: Run, missing: dict[str, DallmeError]) -> Sequence[str]:
    """The texts of a cell's source; if it cannot be read, that is remembered."""
    try:
        return workspace.texts(cell)[0].texts
    except DallmeError as error:
        missing[cell["data"]] = error
        raise


def _is_service(embedder: str) -> bool:
    return embedder.partition(":")[0] == "openai"


def _text(config: Mapping[str, Any]) -> str:
    """A configuration as text, the same for the same configuration, read from a file or not."""
    return json.dumps(config, sort_keys=True)
