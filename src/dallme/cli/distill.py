"""``dallme distill``: many texts in, a few out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dallme.cli import options
from dallme.cli import options as decoders
from dallme.cli.output import clean_output, make_progress, print_json, print_notes, print_table

if TYPE_CHECKING:
    from dallme.data import LabelledTexts
    from dallme.dataset import DistilledDataset
    from dallme.distiller import Distillation, Distiller

DEFAULT_CLASSIFIERS = "lr,svm,nb"

NoReport = Annotated[
    bool, typer.Option("--no-report", help="Write no report.html, whose map takes a while with many rows.")
]


def distill(
    source: options.Source,
    output: Annotated[Path, typer.Option("--output", help="Folder to write to.")],
    test: options.OptionalTest = None,
    text_column: options.TextColumn = None,
    label_column: options.LabelColumn = None,
    id_column: options.IdColumn = None,
    drop_bad_rows: options.DropBadRows = False,
    per_class: options.PerClass = None,
    ratio: options.Ratio = None,
    total: options.Total = None,
    allocation: options.Allocation = "equal",
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
    engine: options.Engine = "local",
    address: options.Address = None,
    classifiers: options.Classifiers = DEFAULT_CLASSIFIERS,
    no_report: NoReport = False,
    overwrite: options.Overwrite = False,
    json: options.Json = False,
) -> None:
    """Distil SOURCE into a few readable texts.

    Example: dallme distill reviews.csv --per-class 10 --output distilled --test reviews-test.csv
    """
    from dallme.data import Budget
    from dallme.dataset import folder
    from dallme.evaluation.evaluate import check_classifiers, make_classifiers
    from dallme.scale.resolve import make_engine

    folder.check(output, overwrite=overwrite, source=source)
    Budget(
        per_class, ratio, total, allocation
    )  # what is wrong with it is to be said before anything is loaded
    judge_names = check_classifiers(options.split_names(classifiers))

    from dallme.distiller import Distiller
    from dallme.readers import read

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
        engine=make_engine(engine, address),
        progress=make_progress(),
    )
    judges = make_classifiers(judge_names, distiller) if test else {}
    columns: dict[str, Any] = {
        "text_column": text_column,
        "label_column": label_column,
        "drop_bad_rows": drop_bad_rows,
    }
    with clean_output(distiller.resolved_engine):
        texts = read(source, **columns, id_column=id_column, engine=distiller.resolved_engine)
        held_out = read(test, **columns, like=texts) if test else None
        print_notes([*texts.notes, *(held_out.notes if held_out else ())])
        distillation = distiller.run(texts, test=held_out)
    comparison = None if held_out is None else _compare(distiller, distillation, held_out, decoder, judges)
    distilled = distillation.distilled.with_comparison(comparison) if comparison else distillation.distilled
    distilled.save(
        output, overwrite=overwrite, beside={} if no_report else report_of(distilled, distillation, distiller)
    )
    if json:
        print_json(_document(distilled, output, comparison))
    else:
        _show(len(texts), distilled, output, comparison)


def _show(rows: int, distilled: DistilledDataset, output: Path, comparison: dict[str, Any] | None) -> None:
    print(f"{rows:,} rows → {len(distilled):,} texts in {output}")
    if comparison:
        show_comparison(comparison)


def _compare(
    distiller: Distiller,
    distillation: Distillation,
    held_out: LabelledTexts,
    decoder: str,
    judges: dict[str, Any],
) -> dict[str, Any]:
    """The honest table: the new set beside random texts, the nearest real ones and all."""
    from dallme.evaluation.compare import compare

    methods = dict.fromkeys(["random", "nearest", decoder, "full"])
    return compare(distiller, distillation, held_out, list(methods), judges).as_dict()


def report_of(
    distilled: DistilledDataset, distillation: Distillation, distiller: Distiller
) -> dict[str, bytes]:
    """The report of a set that was just made, as a file to save beside it."""
    from dallme.audit.inputs import AuditInput
    from dallme.dataset.distilled import REPORT
    from dallme.report.page import render

    context = distillation.context
    evidence = AuditInput(distilled, context.source, context.vectors, distiller.embed_texts(distilled.texts))
    return {REPORT: render(distilled, evidence=evidence, progress=distiller.progress).encode()}


def _document(distilled: DistilledDataset, output: Path, comparison: dict[str, Any] | None) -> dict[str, Any]:
    rows = zip(
        distilled.texts, distilled.labels.tolist(), distilled.weights.tolist(), distilled.lineage, strict=True
    )
    texts = [
        {
            "text": text,
            "label": label,
            "label_text": distilled.label_names[label],
            "weight": weight,
            "cosine": lineage.cosine,
        }
        for text, label, weight, lineage in rows
    ]
    return {
        "output": str(output),
        "texts": texts,
        "manifest": distilled.manifest.as_dict(),
        "comparison": comparison,
    }


def show_comparison(comparison: dict[str, Any]) -> None:
    """Prints the honest table and how to read it."""
    from dallme.dataset.tables import comparison_cells, star_note

    print_notes(comparison["notes"])
    print(
        f"\naccuracy on {comparison['test_rows']:,} test rows (in brackets: share of the full data's accuracy)"
    )
    print_table(*comparison_cells(comparison))
    if note := star_note(comparison):
        print(note)
