"""``dallme benchmark``: checks and scores a submission, and writes the leaderboard."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dallme.cli import options
from dallme.cli.output import make_progress, print_json, print_notes, print_table, show
from dallme.errors import InputError

if TYPE_CHECKING:
    from dallme.leaderboard.submission import Check, Submission

#: Default folder of the rows and the leaderboard.
RESULTS = Path("results/benchmark")

#: Columns of the leaderboard that a score prints, without the method.
SHOWN = 11

app = typer.Typer(
    help="Check and score a submission to the benchmark, and write the leaderboard.\n\n"
    "Example: dallme benchmark score my-method --data data",
    context_settings={"help_option_names": ["-h", "--help"]},
)

Submitted = Annotated[
    Path, typer.Argument(metavar="FOLDER", help="Submission: DATASET/BUDGET/KK.parquet and submission.toml.")
]
Data = Annotated[
    Path | None,
    options.option("--data", "Folder of the data sets, such as sst2/train.parquet.", envvar="DALLME_DATA"),
]
Specs = Annotated[
    Path | None,
    options.option("--datasets", "TOML file with data sets in place of those of the benchmark."),
]
Only = Annotated[
    str | None, options.option("--only", "Comma-separated data sets; by default all that are there.")
]


@app.command()
def check(
    folder: Submitted,
    data: Data = None,
    datasets: Specs = None,
    only: Only = None,
    json: options.Json = False,
) -> None:
    """Check a submission by the rules of the benchmark; nothing is trained.

    Example: dallme benchmark check my-method --data data
    """
    checked, submission = _check(folder, data, datasets, only)
    sets = [
        {"dataset": each.data.name, "budget": each.budget, "draws": len(each.draws)} for each in checked.sets
    ]
    if json:
        print_json({"method": submission.name, "sets": sets})
        return
    print_table(
        ["data set", "texts a class", "sets"], [[str(value) for value in each.values()] for each in sets]
    )
    show(f"{submission.name}: no problem found")


@app.command()
def score(
    folder: Submitted,
    data: Data = None,
    datasets: Specs = None,
    only: Only = None,
    classifiers: Annotated[
        str | None,
        options.option(
            "--classifiers",
            "Comma-separated; by default embedding-lr, logistic-regression and naive-bayes.",
            autocompletion=options.parts("classifiers", several=True),
        ),
    ] = None,
    embedder: Annotated[
        str | None,
        options.option(
            "--embedder",
            "Embedder of embedding-lr, nearest and herding; by default all-MiniLM-L6-v2, if installed.",
            autocompletion=options.parts("embedders"),
        ),
    ] = None,
    baselines: Annotated[
        bool,
        options.option(
            "--baselines", "Score random texts at equal texts and at equal tokens, nearest and herding too."
        ),
    ] = False,
    output: Annotated[Path, options.option("--output", "Folder of the rows and the leaderboard.")] = RESULTS,
    store: options.Store = None,
    json: options.Json = False,
) -> None:
    """Check a submission and score it. A row that is stored is not computed again.

    Example: dallme benchmark score my-method --data data --baselines
    """
    from dallme.experiments.rows import ROWS, RowFile
    from dallme.leaderboard.page import COLUMNS, cells, make_entries
    from dallme.leaderboard.scoring import make_tools, score_submission

    checked, submission = _check(folder, data, datasets, only)
    names, progress = options.split_names(classifiers) if classifiers else None, make_progress()
    tools, notes = make_tools(embedder, names, options.store_folder(store), progress)
    print_notes(notes)
    file = RowFile(output / ROWS, progress)
    computed, stored = score_submission(submission, checked.sets, tools, file, baselines=baselines)
    entries = [each for each in make_entries(file.load()) if each.method == submission.name]
    body = [[text for text, _ in cells(each)[1:SHOWN]] for each in entries]
    if json:
        results = [dict(zip([*COLUMNS][1:SHOWN], row, strict=True)) for row in body]
        print_json({"method": submission.name, "computed": computed, "found": stored, "results": results})
        return
    print_table([*COLUMNS][1:SHOWN], body)
    show(f"{submission.name}: {computed} rows computed, {stored} stored before; see {output / ROWS}")


@app.command()
def page(
    results: Annotated[
        Path, typer.Argument(metavar="RESULTS", help="Folder with the rows of score.")
    ] = RESULTS,
) -> None:
    """Write the leaderboard, leaderboard.html and leaderboard.md, from the rows in RESULTS alone.

    Example: dallme benchmark page results/benchmark
    """
    from dallme.cli.paths import write_file
    from dallme.experiments.rows import ROWS, RowFile
    from dallme.leaderboard.page import render_html, render_markdown

    rows = RowFile(results / ROWS, make_progress()).load()
    if not rows:
        raise InputError(
            f"expected rows in {str(results / ROWS)!r}, found none; run dallme benchmark score first"
        )
    pages = {"leaderboard.html": render_html(rows), "leaderboard.md": render_markdown(rows)}
    for name, content in pages.items():
        write_file(results / name, content.encode())
        show(str(results / name))


def _check(
    folder: Path, data: Path | None, datasets: Path | None, only: str | None
) -> tuple[Check, Submission]:
    """Checks a submission and shows its problems, one line each.

    Raises:
        InputError: If there is any problem.
    """
    from dallme.leaderboard.datasets import load_specs
    from dallme.leaderboard.submission import check_submission

    checked = check_submission(folder, load_specs(datasets), data, options.split_names(only) if only else ())
    print_notes(checked.notes)
    *others, last = checked.problems or ("",)
    for problem in others:
        show(f"error: {problem}", error=True)
    if last or checked.submission is None:
        raise InputError(last)
    return checked, checked.submission
