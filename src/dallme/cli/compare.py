"""``dallme compare``: the honest table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from dallme.cli import options
from dallme.cli import options as completion
from dallme.cli import options as decoders
from dallme.cli.distill import DEFAULT_CLASSIFIERS, show_comparison
from dallme.cli.output import make_progress, print_json, print_notes
from dallme.errors import InputError


def compare(
    source: options.Source,
    test: options.Test,
    per_class: options.PerClass = None,
    ratio: options.Ratio = None,
    total: options.Total = None,
    allocation: options.Allocation = "equal",
    methods: Annotated[
        str | None,
        typer.Option(
            "--methods",
            help="Comma-separated baselines and decoders; by default random,nearest,DECODER,full.",
            autocompletion=completion.parts("baselines", "decoders", several=True),
        ),
    ] = None,
    candidates: Annotated[
        list[str] | None,
        typer.Option(
            "--candidate",
            help="A ready set to compare with, taken as it is: a source like SOURCE; each data file of a folder is one draw. "
            "May be given several times.",
        ),
    ] = None,
    candidate_text_column: Annotated[
        str | None, typer.Option("--candidate-text-column", help="Column with the texts of the candidates.")
    ] = None,
    candidate_label_column: Annotated[
        str | None,
        typer.Option("--candidate-label-column", help="Column with the classes of the candidates."),
    ] = None,
    classifiers: options.Classifiers = DEFAULT_CLASSIFIERS,
    protocol: options.Protocol = None,
    runs: options.Sets = None,
    models: options.Models = None,
    learning_rate: options.LearningRate = None,
    epochs: options.Epochs = None,
    steps: options.Steps = None,
    batch_size: options.BatchSize = None,
    full_runs: options.FullRuns = None,
    full_steps: options.FullSteps = None,
    no_cache: options.NoCache = False,
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
    decoder_steps: decoders.DecoderSteps = None,
    beam: decoders.Beam = None,
    start: decoders.Start = None,
    align: decoders.Align = False,
    drafts: decoders.Drafts = None,
    examples: decoders.Examples = None,
    temperature: decoders.Temperature = None,
    max_copied_span: decoders.MaxCopiedSpan = None,
    output_price: decoders.OutputPrice = None,
    language: decoders.Language = None,
    max_tokens: options.MaxTokens = 128,
    seed: options.Seed = 0,
    store: options.Store = None,
    json: options.Json = False,
) -> None:
    """Compare ways to fill one budget: random, nearest real texts, the decoder, and the full data beside them.

    Example: dallme compare reviews.csv --test reviews-test.csv --per-class 10
    """
    from dallme.distiller import Distiller
    from dallme.evaluation.compare import check_methods
    from dallme.evaluation.compare import compare as compare_methods
    from dallme.evaluation.evaluate import make_classifiers
    from dallme.readers import read

    _check_columns(candidates, candidate_text_column, candidate_label_column)
    plan = options.make_protocol(
        protocol,
        runs=runs,
        models=models,
        learning_rate=learning_rate,
        epochs=epochs,
        steps=steps,
        batch_size=batch_size,
        full_runs=full_runs,
        full_steps=full_steps,
    )
    services = {"base_url": base_url, "dimensions": dimensions, "budget_usd": budget_usd, "price": price}
    steering = {"steps": decoder_steps, "beam": beam, "start": start, "align": align, "language": language}
    writing = {
        "drafts": drafts,
        "examples": examples,
        "temperature": temperature,
        "output_price": output_price,
    }
    writing |= {"max_copied_span": max_copied_span}
    model, own = decoders.configure(
        embedder, decoder, steering | writing, services | {"unknown_words": unknown_words}
    )
    distiller = Distiller(
        per_class=per_class,
        ratio=ratio,
        total=total,
        allocation=allocation,
        embedder=model,
        condenser=condenser,
        decoder=decoder,
        decoder_options=own,
        prompt=prompt,
        max_tokens=max_tokens,
        seed=seed,
        store=options.store_folder(store),
        progress=make_progress(),
    )
    judges = make_classifiers(options.split_names(classifiers), distiller.cached_embedder)
    wanted = check_methods(
        options.split_names(methods) if methods else ["random", "nearest", decoder, "full"], judges
    )
    plan.check(judges)
    columns: dict[str, Any] = {
        "text_column": text_column,
        "label_column": label_column,
        "drop_bad_rows": drop_bad_rows,
    }
    texts = read(source, **columns)
    held_out = read(test, **columns, like=texts)
    theirs = {"text_column": candidate_text_column, "label_column": candidate_label_column}
    ready = {
        name: [read(part, **columns | theirs, like=texts) for part in _sets_at(name)]
        for name in candidates or ()
    }
    print_notes(
        [
            *texts.notes,
            *held_out.notes,
            *(note for sets in ready.values() for part in sets for note in part.notes),
        ]
    )
    results = options.result_store(store, distiller.progress, no_cache=no_cache)
    run = distiller.run(texts, test=held_out)
    found = compare_methods(
        distiller, run, held_out, wanted, judges, candidates=ready, protocol=plan, results=results
    ).as_dict()
    print_json(found) if json else show_comparison(found)


def _check_columns(candidates: list[str] | None, text_column: str | None, label_column: str | None) -> None:
    if not candidates and (text_column or label_column):
        raise InputError(
            "expected --candidate with the columns of candidates, found none; name a file or folder with it"
        )


def _sets_at(candidate: str) -> list[str | Path]:
    """What to read for a candidate: each data file of a folder, or the one source that it is."""
    from dallme.readers.files import data_files

    folder = Path(candidate).expanduser()
    return [*(data_files(folder) if folder.is_dir() else ())] or [candidate]
