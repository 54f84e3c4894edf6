"""``dallme curve``: how accuracy grows with the budget."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dallme.cli import options
from dallme.cli import options as completion
from dallme.cli.distill import DEFAULT_CLASSIFIERS
from dallme.cli.output import make_progress, print_json, print_notes, print_table
from dallme.errors import InputError, OutputError

if TYPE_CHECKING:
    from dallme.data import Budget
    from dallme.evaluation.curve import Curve


def curve(
    source: options.Source,
    test: options.Test,
    budgets: Annotated[
        str | None,
        typer.Option(
            "--budgets", help="Comma-separated texts per class; by default a series that fits SOURCE."
        ),
    ] = None,
    ratios: Annotated[
        str | None,
        typer.Option(
            "--ratios", help="Comma-separated shares of the rows, in (0, 1], in place of --budgets."
        ),
    ] = None,
    methods: Annotated[
        str | None,
        typer.Option(
            "--methods",
            help="Comma-separated baselines and decoders; by default DECODER,nearest,random.",
            autocompletion=completion.parts("baselines", "decoders", several=True),
        ),
    ] = None,
    classifiers: options.Classifiers = DEFAULT_CLASSIFIERS,
    runs: options.Runs = 1,
    target_recovered: Annotated[
        float | None,
        typer.Option("--target-recovered", help="Say the smallest budget that recovers this share, as 0.9."),
    ] = None,
    plot: Annotated[Path | None, typer.Option("--plot", help="Picture to write: .png, .svg or .pdf.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", help="File to write the JSON document to.")
    ] = None,
    text_column: options.TextColumn = None,
    label_column: options.LabelColumn = None,
    drop_bad_rows: options.DropBadRows = False,
    embedder: options.Embedder = "all-MiniLM-L6-v2",
    base_url: options.BaseUrl = None,
    dimensions: options.Dimensions = None,
    budget_usd: options.BudgetUsd = None,
    price: options.PriceUsd = None,
    unknown_words: options.UnknownWords = None,
    prompt: options.Prompt = None,
    condenser: options.Condenser = "k-centroid",
    decoder: options.Decoder = "teaching",
    max_tokens: options.MaxTokens = 128,
    seed: options.Seed = 0,
    store: options.Store = None,
    no_cache: options.NoCache = False,
    json: options.Json = False,
) -> None:
    """Measure accuracy against budget from one embedding, and say how many texts are enough.

    Example: dallme curve reviews.csv --test reviews-test.csv --budgets 1,2,5,10 --plot curve.png
    """
    from dallme.distiller import Distiller
    from dallme.evaluation.compare import check_methods
    from dallme.evaluation.curve import curve as measure
    from dallme.evaluation.curve import default_budgets
    from dallme.evaluation.evaluate import make_classifiers
    from dallme.readers import read

    wanted = _wanted(budgets, ratios)
    _check(target_recovered, plot, output)
    names = check_methods(options.split_names(methods) if methods else [decoder, "nearest", "random"])
    model = options.configure_embedder(
        embedder,
        base_url=base_url,
        dimensions=dimensions,
        budget_usd=budget_usd,
        price=price,
        unknown_words=unknown_words,
    )
    progress = make_progress()
    distiller = Distiller(
        per_class=1,  # each budget takes its place
        embedder=model,
        condenser=condenser,
        decoder=decoder,
        prompt=prompt,
        max_tokens=max_tokens,
        seed=seed,
        store=options.store_folder(store),
        progress=progress,
    )
    judges = make_classifiers(options.split_names(classifiers), distiller.cached_embedder)
    columns: dict[str, Any] = {
        "text_column": text_column,
        "label_column": label_column,
        "drop_bad_rows": drop_bad_rows,
    }
    texts = read(source, **columns)
    held_out = read(test, **columns, like=texts)
    print_notes([*texts.notes, *held_out.notes])
    steps, results = (
        wanted or default_budgets(texts),
        options.result_store(store, progress, no_cache=no_cache),
    )
    found = measure(distiller, texts, held_out, steps, names, judges, runs=runs, results=results)
    _finish(found, target_recovered, plot, output, json)


def _wanted(budgets: str | None, ratios: str | None) -> list[Budget]:
    """The budgets that were named; none if neither option is given."""
    from dallme.data import Budget

    if budgets is not None and ratios is not None:
        raise InputError("expected --budgets or --ratios, found both; leave one out")
    if budgets is not None:
        return [Budget(per_class=count) for count in _numbers("--budgets", budgets, int, "whole numbers")]
    return (
        [Budget(ratio=ratio) for ratio in _numbers("--ratios", ratios, float, "numbers")]
        if ratios is not None
        else []
    )


def _numbers(option: str, given: str, kind: Callable[[str], Any], what: str) -> list[Any]:
    try:
        return [kind(number) for number in options.split_names(given)]
    except ValueError:
        raise InputError(f"expected {option} as {what} separated by commas, found {given!r}") from None


def _check(target: float | None, plot: Path | None, output: Path | None) -> None:
    """Finds what is wrong with where and what to report, before any work."""
    from dallme.evaluation.curve import check_share
    from dallme.evaluation.plots import check_plot

    if target is not None:
        check_share(target)
    if plot is not None:
        check_plot(plot)
    if output is not None and (output.is_dir() or not output.parent.is_dir()):
        found = "a folder" if output.is_dir() else f"no folder at {str(output.parent)!r}"
        raise OutputError(
            f"expected a file to write to in a folder that is there, found {found}; choose another --output"
        )


def _finish(found: Curve, target: float | None, plot: Path | None, output: Path | None, json: bool) -> None:
    """Writes and prints what was measured."""
    import json as encoder

    from dallme.atomic import write_output
    from dallme.evaluation.plots import plot_curve

    knees = [found.knee(method) for method in found.methods]
    targets = (
        [] if target is None else [found.smallest_recovering(method, target) for method in found.methods]
    )
    document = found.as_dict() | {
        "knees": [finding.as_dict() for finding in knees],
        "target_recovered": target,
        "targets": [finding.as_dict() for finding in targets],
    }
    if output is not None:
        write_output(output, (encoder.dumps(document, indent=2, ensure_ascii=False) + "\n").encode())
    if plot is not None:
        plot_curve(found, plot)
    if json:
        print_json(document)
        return
    _show(found)
    print()
    for finding in (*knees, *targets):
        print(finding.words)
    print(f"embedding {found.seconds['embed']:.1f} s, everything after it {found.seconds['rest']:.1f} s")


def _show(found: Curve) -> None:
    """Prints the table, a row a budget and method."""
    print_notes(found.notes)
    print(f"accuracy on {found.test_rows:,} test rows (in brackets: share of the full data's accuracy)")
    body = []
    for place, step in enumerate(found.steps):
        for method in found.methods:
            cells = []
            for classifier in found.full:
                row = found.scores[method, classifier][place].as_dict()
                spread = f" ± {row['accuracy_std']:.3f}" if row["runs"] > 1 else ""
                share = "" if row["recovered"] is None else f" ({row['recovered']:.0%})"
                cells.append(f"{row['accuracy_mean']:.3f}{spread}{share}")
            body.append([step.words, f"{step.texts:,}", method, *cells])
    body.append(
        [
            "full data",
            f"{found.train_rows:,}",
            "",
            *(f"{score.accuracy:.3f}" for score in found.full.values()),
        ]
    )
    print_table(["budget", "texts", "method", *found.full], body)
