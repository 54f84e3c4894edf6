"""``dallme compare``: compares ways to fill one budget of texts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

from dallme.cli import options
from dallme.cli.distill import show_comparison
from dallme.cli.groups import BudgetOptions, DataOptions, PipelineOptions, ProtocolOptions, grouped
from dallme.cli.output import make_progress, print_json, print_notes
from dallme.errors import InputError


@grouped
def compare(
    source: options.Source,
    test: options.Test,
    data: DataOptions,
    budget: BudgetOptions,
    parts: PipelineOptions,
    training: ProtocolOptions,
    methods: Annotated[
        str | None,
        options.option(
            "--methods",
            "Comma-separated baselines and decoders; by default random,nearest,DECODER,full.",
            options.DECODER,
            autocompletion=options.parts("baselines", "decoders", several=True),
        ),
    ] = None,
    candidates: Annotated[
        list[str] | None,
        options.option(
            "--candidate",
            "A ready set to compare with, a source like SOURCE; each data file of a folder is one draw. "
            "Repeatable.",
            options.ADVANCED,
        ),
    ] = None,
    match: Annotated[
        str,
        options.option(
            "--match",
            "texts: as many texts for each method; tokens: as many as fit the tokens of the decoder's texts.",
            options.BUDGET,
            autocompletion=options.words("texts", "tokens"),
        ),
    ] = "texts",
    candidate_text_column: Annotated[
        str | None,
        options.option(
            "--candidate-text-column", "Column with the texts of the candidates.", options.ADVANCED
        ),
    ] = None,
    candidate_label_column: Annotated[
        str | None,
        options.option(
            "--candidate-label-column", "Column with the classes of the candidates.", options.ADVANCED
        ),
    ] = None,
    json: options.Json = False,
) -> None:
    """Compare ways to fill one budget: random texts, the nearest real texts, the decoder, and the full data.

    Example: dallme compare reviews.csv --test reviews-test.csv --per-class 10
    """
    from dallme.evaluation.compare import check_methods
    from dallme.evaluation.compare import compare as compare_methods
    from dallme.evaluation.evaluate import make_classifiers
    from dallme.evaluation.sets import check_match

    if not candidates and (candidate_text_column or candidate_label_column):
        raise InputError(
            "expected --candidate with the columns of candidates, found none; name a file or folder with it"
        )
    budget.check()
    check_match(match)
    protocol = training.plan()
    distiller = parts.distiller(budget, make_progress())
    chosen = parts.classifier_names(training.classifiers)
    classifiers = make_classifiers(chosen, distiller.cached_embedder, parts.classifier_options(chosen))
    names = options.split_names(methods) if methods else ["random", "nearest", parts.decoder_name, "full"]
    names = check_methods(names, classifiers)
    protocol.check(classifiers)
    texts = data.read(source)
    held_out = data.read(test, like=texts)
    columns = replace(data, text_column=candidate_text_column, label_column=candidate_label_column)
    ready = {name: [columns.read(file, like=texts) for file in _sets_at(name)] for name in candidates or ()}
    print_notes(
        [
            note
            for part in (texts, held_out, *(each for sets in ready.values() for each in sets))
            for note in part.notes
        ]
    )
    results = options.result_store(parts.store, distiller.progress, no_cache=training.no_cache)
    distillation = distiller.run(texts, test=held_out)
    comparison = compare_methods(
        distiller,
        distillation,
        held_out,
        names,
        classifiers,
        candidates=ready,
        protocol=protocol,
        results=results,
        soft_labels=training.soft_labels,
        match=match,
    ).as_dict()
    print_json(comparison) if json else show_comparison(comparison)


def _sets_at(candidate: str) -> list[str]:
    """Returns the sources of a candidate: each data file of a folder, or the one source that it is."""
    from dallme.readers.folders import data_files

    folder = Path(candidate).expanduser()
    return [*(map(str, data_files(folder)) if folder.is_dir() else ())] or [candidate]
