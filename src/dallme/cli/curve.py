"""``dallme curve``: measures how accuracy grows with the budget."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from dallme.cli import options
from dallme.cli.groups import BudgetOptions, DataOptions, PipelineOptions, grouped
from dallme.cli.output import make_progress, print_json, print_notes, print_table, show
from dallme.cli.paths import check_file, write_file
from dallme.errors import InputError

if TYPE_CHECKING:
    from dallme.data import Budget
    from dallme.evaluation.curve import Curve


@grouped
def curve(
    source: options.Source,
    test: options.Test,
    data: DataOptions,
    parts: PipelineOptions,
    budgets: Annotated[
        str | None,
        options.option(
            "--budgets",
            "Comma-separated texts per class; by default a series that fits SOURCE.",
            options.BUDGET,
        ),
    ] = None,
    ratios: Annotated[
        str | None,
        options.option(
            "--ratios",
            "Comma-separated shares of the rows, in (0, 1], in place of --budgets.",
            options.BUDGET,
        ),
    ] = None,
    methods: Annotated[
        str | None,
        options.option(
            "--methods",
            "Comma-separated baselines and decoders; by default DECODER,nearest,random.",
            options.DECODER,
            autocompletion=options.parts("baselines", "decoders", several=True),
        ),
    ] = None,
    classifiers: options.Classifiers = None,
    runs: Annotated[
        int,
        options.option(
            "--runs", "Runs with different seeds; mean and deviation are reported.", options.TRAINING
        ),
    ] = 1,
    target_recovered: Annotated[
        float | None,
        options.option(
            "--target-recovered",
            "Report the smallest budget that recovers this share, such as 0.9.",
            options.OUTPUT,
        ),
    ] = None,
    plot: Annotated[
        Path | None, options.option("--plot", "Picture to write: .png, .svg or .pdf.", options.OUTPUT)
    ] = None,
    output: Annotated[
        Path | None, options.option("--output", "File to write the JSON document to.", options.OUTPUT)
    ] = None,
    no_cache: options.NoCache = False,
    json: options.Json = False,
) -> None:
    """Measure accuracy against budget from one embedding, and report how many texts are enough.

    Example: dallme curve reviews.csv --test reviews-test.csv --budgets 1,2,5,10 --plot curve.png
    """
    from dallme.evaluation.compare import check_methods
    from dallme.evaluation.curve import check_share, default_budgets
    from dallme.evaluation.curve import curve as measure
    from dallme.evaluation.evaluate import make_classifiers
    from dallme.evaluation.plots import check_plot

    named = _named_budgets(budgets, ratios)
    if target_recovered is not None:
        check_share(target_recovered)
    if plot is not None:
        check_plot(plot)
    for file in (plot, output):
        if file is not None:
            check_file(file, source, test)
    decoder = parts.decoder_name
    names = check_methods(options.split_names(methods) if methods else [decoder, "nearest", "random"])
    # The budgets of the curve take the place of this one.
    distiller = parts.distiller(BudgetOptions(per_class=1), make_progress())
    if distiller.decoder_options and decoder not in names:
        raise InputError(
            f"expected options of a decoder that is measured, found some of {decoder!r}; add it to --methods"
        )
    columns = parts.classifier_names(classifiers)
    trained = make_classifiers(columns, distiller.cached_embedder, parts.classifier_options(columns))
    texts = data.read(source)
    held_out = data.read(test, like=texts)
    print_notes([*texts.notes, *held_out.notes])
    results = options.result_store(parts.store, distiller.progress, no_cache=no_cache)
    steps = named or default_budgets(texts)
    measured = measure(distiller, texts, held_out, steps, names, trained, runs=runs, results=results)
    _finish(measured, target_recovered, plot, output, json=json)


def _named_budgets(budgets: str | None, ratios: str | None) -> list[Budget]:
    """Returns the budgets that were named; none if neither option is given."""
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


def _numbers(flag: str, value: str, kind: Callable[[str], Any], words: str) -> list[Any]:
    try:
        return [kind(number) for number in options.split_names(value)]
    except ValueError:
        raise InputError(f"expected {flag} as {words} separated by commas, found {value!r}") from None


def _finish(
    measured: Curve, target: float | None, plot: Path | None, output: Path | None, *, json: bool
) -> None:
    """Writes and prints the curve."""
    import json as encoder

    from dallme.evaluation.plots import plot_curve

    knees = [measured.knee(method) for method in measured.methods]
    targets = (
        []
        if target is None
        else [measured.smallest_recovering(method, target) for method in measured.methods]
    )
    document = measured.as_dict() | {
        "knees": [finding.as_dict() for finding in knees],
        "target_recovered": target,
        "targets": [finding.as_dict() for finding in targets],
    }
    if output is not None:
        write_file(output, (encoder.dumps(document, indent=2, ensure_ascii=False) + "\n").encode())
    if plot is not None:
        plot_curve(measured, plot)
    if json:
        print_json(document)
        return
    _show_table(measured)
    show()
    for finding in (*knees, *targets):
        show(finding.words)
    seconds = measured.seconds
    show(f"embedding {seconds['embed']:.1f} s, everything after it {seconds['rest']:.1f} s")


def _show_table(measured: Curve) -> None:
    """Prints the table, a row for each budget and method."""
    print_notes(measured.notes)
    show(f"accuracy on {measured.test_rows:,} test rows (in brackets: share of the full data's accuracy)")
    body = []
    for index, step in enumerate(measured.steps):
        for method in measured.methods:
            cells = []
            for classifier in measured.full:
                row = measured.scores[method, classifier][index].as_dict()
                spread = f" ± {row['accuracy_std']:.3f}" if row["runs"] > 1 else ""
                share = "" if row["recovered"] is None else f" ({row['recovered']:.0%})"
                cells.append(f"{row['accuracy_mean']:.3f}{spread}{share}")
            body.append([step.words, f"{step.texts:,}", method, *cells])
    full = [f"{score.accuracy:.3f}" for score in measured.full.values()]
    body.append(["full data", f"{measured.train_rows:,}", "", *full])
    print_table(["budget", "texts", "method", *measured.full], body)
