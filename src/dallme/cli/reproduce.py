"""``dallme reproduce``: a table or figure of the paper, from one command."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dallme.cli import options
from dallme.cli.output import make_progress, print_json, print_notes, print_table
from dallme.errors import DallmeError, InputError

if TYPE_CHECKING:
    from dallme.experiments.plan import ExperimentPlan
    from dallme.experiments.running import Outcome
    from dallme.experiments.spec import Experiment
    from dallme.experiments.workspace import Workspace

#: Stands for every experiment that comes with dallme.
ALL = "all"


def reproduce(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="An experiment (see: dallme list experiments), a TOML file, or all."
        ),
    ],
    edition: Annotated[
        str,
        typer.Option(
            "--edition", help="offline: models that need no Hub and no key; paper: the paper's own models."
        ),
    ] = "offline",
    output: Annotated[
        Path,
        typer.Option(
            "--output", help="Folder of results: rows, table, figure and page stand in OUTPUT/EDITION/NAME."
        ),
    ] = Path("results"),
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            envvar="DALLME_DATA",
            help="Folder that holds the data sets, such as imdb/train.parquet.",
        ),
    ] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Say what it would take, and do nothing.")] = False,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", help="KEY=VALUE: another value for a key of the experiment's grids."),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option("--only", help="AXIS=VALUE[,VALUE]: only these cells, as classifier=naive-bayes."),
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", help="Processes that compute cells.")] = 1,
    track: Annotated[
        list[str] | None,
        typer.Option("--track", help="Send each row to trackio, mlflow, wandb or tensorboard as well."),
    ] = None,
    page: Annotated[
        Path | None, typer.Option("--page", help="Write one page with all results of the edition there.")
    ] = None,
    base_url: options.BaseUrl = None,
    budget_usd: options.BudgetUsd = None,
    price: options.PriceUsd = None,
    store: options.Store = None,
    json: options.Json = False,
) -> None:
    """Run an experiment of the paper and set ours beside it: results, table, figure and page. What is there stays.

    Example: dallme reproduce table2 --data data
    """
    from dallme.evaluation.plots import find_matplotlib
    from dallme.experiments.page import write_results
    from dallme.experiments.rows import RowFile
    from dallme.experiments.running import run_experiment
    from dallme.experiments.runs import make_cells
    from dallme.experiments.spec import experiment_names, load_experiment
    from dallme.experiments.tracking import make_trackers
    from dallme.experiments.workspace import Workspace

    loaded = [
        load_experiment(each, changes or ()) for each in (experiment_names() if name == ALL else [name])
    ]
    if budget_usd is not None and jobs > 1:
        raise InputError(
            "expected --budget-usd with one job, found several, which do not know what the others spend"
        )
    given = {"base_url": base_url, "max_usd": budget_usd, "price": price}
    services = {option: value for option, value in given.items() if value is not None}
    kept, progress, documents, failed = options.store_folder(store), make_progress(), [], 0
    if not plan and any(experiment.figure for experiment in loaded):
        find_matplotlib()
    for experiment in loaded:
        chosen, folder = experiment.edition(edition), output / edition / experiment.name
        workspace = Workspace(chosen, folder, data, kept, services, progress)
        cells, rows = make_cells(experiment, chosen, only or ()), RowFile(folder / "rows.jsonl")
        if plan:
            documents.append(_show_plan(experiment, cells, rows.load(), workspace, json=json))
            continue
        trackers = make_trackers(track or (), f"dallme-{experiment.name}")
        outcome = run_experiment(
            experiment, edition, folder, workspace, only=only or (), jobs=jobs, trackers=trackers
        )
        write_results(experiment, edition, rows.load(), folder)
        failed += len(outcome.failures)
        documents.append(_show_outcome(experiment, outcome, folder, json=json))
    if page is not None and not plan:
        _write_page(page, output / edition, edition)
    if json:
        print_json({"edition": edition, "experiments": documents})
    if failed:
        raise DallmeError(
            f"{failed} cells failed, see above; the others are kept, and the same command tries these again"
        )


def _show_plan(
    experiment: Experiment, cells: Any, rows: Any, workspace: Workspace, *, json: bool
) -> dict[str, Any]:
    """Prints the plan of one experiment; the same as a document."""
    from dallme.experiments.plan import plan_experiment

    found: ExperimentPlan = plan_experiment(cells, rows, workspace)
    if not json:
        print(f"{experiment.name}: {experiment.title}")
        body = [
            [
                each.data,
                each.what,
                f"{each.cells}",
                f"{each.done}",
                f"{each.trainings:,}",
                _time(each.seconds),
            ]
            for each in found.cells
        ]
        print_table(["data", "what", "cells", "done", "trainings left", "time left"], body)
        for each in found.vectors:
            cost = "not known" if each.price_usd is None else f"{each.price_usd:.2f} USD"
            print(f"embedding {each.data} with {each.embedder}: {cost}")
        print_notes(found.notes)
    return {"name": experiment.name, "plan": found.as_dict()}


def _show_outcome(experiment: Experiment, outcome: Outcome, folder: Path, *, json: bool) -> dict[str, Any]:
    """Prints the table of one experiment and the cells that failed; the same as a document."""
    failures = [{"cell": str(cell), "error": message} for cell, message in outcome.failures]
    if not json:
        print((folder / "table.md").read_text(encoding="utf-8"))
        print(
            f"{experiment.name}: {len(outcome.computed)} cells computed, {len(outcome.found)} found; see {folder / 'page.md'}"
        )
    print_notes([f"failed: {each['cell']}: {each['error']}" for each in failures])
    return {
        "name": experiment.name,
        "folder": str(folder),
        "cells": len(outcome.cells),
        "computed": len(outcome.computed),
        "found": len(outcome.found),
        "failures": failures,
    }


def _write_page(page: Path, root: Path, edition: str) -> None:
    """Writes one page about all experiments that have results."""
    from dallme.atomic import atomic_write
    from dallme.experiments.page import results_page

    prefix = Path(os.path.relpath(root.resolve(), page.resolve().parent)).as_posix()
    atomic_write(page, results_page(root, edition, f"{prefix}/").encode())


def _time(seconds: float | None) -> str:
    return (
        "not known" if seconds is None else f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
    )
