"""``dallme reproduce``: runs an experiment of the paper with one command."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dallme.cli import options
from dallme.cli.output import make_progress, print_json, print_notes, print_table, show
from dallme.errors import DallmeError, InputError

if TYPE_CHECKING:
    from dallme.experiments import Experiment
    from dallme.experiments.plan import ExperimentPlan
    from dallme.experiments.running import Outcome

#: Name that selects every experiment that comes with dallme.
ALL = "all"


def reproduce(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="An experiment (see: dallme list experiments), a TOML file, or all."
        ),
    ],
    profile: Annotated[
        str,
        typer.Option(
            "--profile", help="offline: models that need no Hub and no key; paper: the paper's own models."
        ),
    ] = "offline",
    edition: Annotated[str | None, typer.Option("--edition", hidden=True)] = None,
    output: Annotated[
        Path,
        typer.Option(
            "--output", help="Folder of results; rows, table, figure and page go to OUTPUT/PROFILE/NAME."
        ),
    ] = Path("results"),
    data: Annotated[
        Path | None,
        typer.Option(
            "--data", envvar="DALLME_DATA", help="Folder of the data sets, such as imdb/train.parquet."
        ),
    ] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Print the cost estimate and compute nothing.")
    ] = False,
    rows_only: Annotated[
        bool,
        typer.Option(
            "--rows-only", help="Write tables, figures and pages from stored rows; compute nothing."
        ),
    ] = False,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", help="KEY=VALUE: another value for a key of the experiment's grids."),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option("--only", help="AXIS=VALUE[,VALUE]: only these runs, such as classifier=naive-bayes."),
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", help="Processes that compute runs.")] = 1,
    page: Annotated[
        Path | None, typer.Option("--page", help="Write one page with all results of the profile.")
    ] = None,
    base_url: options.BaseUrl = None,
    budget_usd: options.BudgetUsd = None,
    price: options.PriceUsd = None,
    insecure: options.Insecure = False,
    store: options.Store = None,
    json: options.Json = False,
) -> None:
    """Run an experiment and compare it with the paper. Runs that have a stored row are not computed again.

    Example: dallme reproduce table2 --data data
    """
    from dallme.evaluation.plots import find_matplotlib
    from dallme.experiments import experiment_names, load_experiment
    from dallme.experiments.page import write_results
    from dallme.experiments.plan import plan_experiment
    from dallme.experiments.rows import ROWS, RowFile
    from dallme.experiments.running import run_experiment
    from dallme.experiments.runs import make_runs
    from dallme.experiments.workspace import Workspace

    if edition is not None:
        print_notes(["--edition is deprecated; write --profile"])
        profile = edition
    names = experiment_names() if name == ALL else [name]
    experiments = [load_experiment(each, changes or ()) for each in names]
    if budget_usd is not None and jobs > 1:
        raise InputError(
            "expected --budget-usd with one job, found several, which do not know what the others spend"
        )
    services = options.service_options(base_url, budget_usd, price, insecure)
    store_folder, progress = options.store_folder(store), make_progress()
    documents: list[dict[str, Any]] = []
    failed, seen = 0, set[str]()
    estimates: list[ExperimentPlan] = []
    if not plan and any(experiment.figure for experiment in experiments):
        find_matplotlib()
    for experiment in experiments:
        print_notes(experiment.notes)
        selected, folder = experiment.profile(profile), output / profile / experiment.name
        runs, rows = make_runs(experiment, selected, only or ()), RowFile(folder / ROWS)
        workspace = Workspace(selected, folder, data, store_folder, services, progress)
        if plan:
            estimate = plan_experiment(runs, rows.load(), workspace, seen)
            estimates.append(estimate)
            if not json:
                _print_plan(experiment, estimate)
            documents.append({"name": experiment.name, "plan": estimate.as_dict()})
            continue
        if rows_only:
            if stored := rows.load():
                write_results(experiment, profile, stored, folder)
                documents.append({"name": experiment.name, "folder": str(folder), "rows": len(stored)})
            continue
        outcome = run_experiment(experiment, profile, folder, workspace, only=only or (), jobs=jobs)
        write_results(experiment, profile, rows.load(), folder)
        failed += len(outcome.failures)
        documents.append(_show_outcome(experiment, outcome, folder, json=json))
    if page is not None and not plan:
        _write_page(page, output / profile, profile)
    _print_totals(estimates, json=json)
    if json:
        print_json({"edition": profile, "experiments": documents})
    if failed:
        raise DallmeError(
            f"{failed} runs failed, see above; the others are stored, and the same command tries these again"
        )


def _print_plan(experiment: Experiment, plan: ExperimentPlan) -> None:
    show(f"{experiment.name}: {experiment.title}")
    body = [
        [each.data, each.what, f"{each.runs}", f"{each.done}", f"{each.trainings:,}", _time(each.seconds)]
        for each in plan.runs
    ]
    print_table(["data", "what", "runs", "done", "trainings left", "time left"], body)
    for each in plan.vectors:
        cost = "unknown" if each.price_usd is None else f"{each.price_usd:.2f} USD"
        show(f"embedding {each.data} with {each.embedder}: {cost}")
    if plan.writing:
        body = [
            [each.data, each.embedder, f"{each.inverters}", f"{each.prototypes:,}", f"{each.texts:,}",
             "unknown" if each.price_usd is None else f"{each.price_usd:.2f} USD", f"{each.gpu_hours:.1f}"]
            for each in plan.writing
        ]  # fmt: skip
        show("inverters, what they write, and the texts embedded again:")
        head = ["data", "embedder", "inverters", "prototypes", "texts embedded", "price", "GPU-hours"]
        print_table(head, body)
    print_notes(plan.notes)


def _print_totals(plans: Sequence[ExperimentPlan], *, json: bool) -> None:
    """Prints the sums over several plans."""
    if len(plans) > 1 and not json:
        price, hours = sum(plan.price_usd for plan in plans), sum(plan.gpu_hours for plan in plans)
        inverters = sum(each.inverters for plan in plans for each in plan.writing)
        show(f"in all {price:.2f} USD; {inverters} inverters; {hours:.0f} GPU-hours for them and their texts")


def _show_outcome(experiment: Experiment, outcome: Outcome, folder: Path, *, json: bool) -> dict[str, Any]:
    """Prints the table of an experiment and its failed runs; returns the same as a document."""
    failures = [{"cell": str(run), "error": message} for run, message in outcome.failures]
    if not json:
        show((folder / "table.md").read_text(encoding="utf-8"))
        counts = f"{len(outcome.computed)} runs computed, {len(outcome.existing)} stored before"
        show(f"{experiment.name}: {counts}; see {folder / 'page.md'}")
    print_notes([f"failed: {each['cell']}: {each['error']}" for each in failures])
    return {
        "name": experiment.name,
        "folder": str(folder),
        "cells": len(outcome.runs),
        "computed": len(outcome.computed),
        "found": len(outcome.existing),
        "failures": failures,
    }


def _write_page(page: Path, root: Path, profile: str) -> None:
    """Writes one page about all experiments that have results."""
    from dallme.experiments.page import results_page
    from dallme.files.atomic import atomic_write

    prefix = Path(os.path.relpath(root.resolve(), page.resolve().parent)).as_posix()
    atomic_write(page, results_page(root, profile, f"{prefix}/").encode())


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "unknown"
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
