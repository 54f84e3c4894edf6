"""``dallme distill``: distils many labelled texts into a few."""

from __future__ import annotations

import shlex
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from dallme.cli import options
from dallme.cli.groups import BudgetOptions, DataWithIds, PipelineOptions, grouped
from dallme.cli.output import (
    clean_output,
    make_progress,
    print_json,
    print_notes,
    print_table,
    show,
    show_note,
)
from dallme.cli.paths import check_folder, write_file
from dallme.errors import DallmeError, InputError

if TYPE_CHECKING:
    from dallme.data import LabelledTexts
    from dallme.dataset import DistilledDataset
    from dallme.distiller import Distillation, Distiller


@grouped
def distill(
    source: options.Source,
    output: Annotated[Path, options.option("--output", "Folder to write to.", options.OUTPUT)],
    data: DataWithIds,
    budget: BudgetOptions,
    parts: PipelineOptions,
    test: options.OptionalTest = None,
    holdout: options.Holdout = None,
    classifiers: options.Classifiers = None,
    engine: Annotated[
        str,
        options.option(
            "--engine",
            "Where the work runs: local, or ray for the machines of a Ray cluster.",
            options.ADVANCED,
            autocompletion=options.words("local", "ray"),
        ),
    ] = "local",
    address: Annotated[
        str | None,
        options.option(
            "--address",
            "The Ray cluster, such as HOST:6379; by default RAY_ADDRESS, else one is started here.",
            options.ADVANCED,
        ),
    ] = None,
    soft_labels: Annotated[
        bool,
        options.option("--soft-labels", "Add class probabilities of each text.", options.OUTPUT),
    ] = False,
    redact: Annotated[
        bool,
        options.option(
            "--redact",
            "Replace e-mail addresses, telephone numbers and the like by <EMAIL_1> … before anything else.",
            options.DATA,
        ),
    ] = False,
    max_personal: Annotated[
        int | None,
        options.option(
            "--max-personal",
            "Fail, and write nothing, if the texts hold more e-mail addresses and the like.",
            options.OUTPUT,
        ),
    ] = None,
    no_report: options.NoReport = False,
    overwrite: options.Overwrite = False,
    json: options.Json = False,
) -> None:
    """Distil SOURCE into a few readable texts.

    Example: dallme distill reviews.csv --per-class 10 --output distilled --test reviews-test.csv
    """
    from dallme.evaluation.evaluate import check_classifiers, make_classifiers
    from dallme.report.summary import recovered_share
    from dallme.scale import make_engine

    check_folder(output, source, test, overwrite=overwrite)
    budget.check()
    if test is not None and holdout:
        raise InputError("expected --test or --holdout, found both; leave one out")
    names = check_classifiers(parts.classifier_names(classifiers))
    distiller = parts.distiller(
        budget,
        make_progress(),
        engine=make_engine(engine, address),
        redact=redact,
        max_personal=max_personal,
        soft_labels=soft_labels,
    )
    settings = parts.classifier_options(names)
    compared = test is not None or holdout != 0
    trained = make_classifiers(names, distiller.cached_embedder, settings) if compared else {}
    with clean_output(distiller.resolved_engine):
        texts = data.read(source, engine=distiller.resolved_engine)
        summary = texts.summary
        if redact:  # before rows are held out, so that an audit numbers the placeholders alike
            texts = texts.redacted()
        if test is None:
            texts, held_out = hold_out(texts, distiller, holdout)
        else:
            held_out = data.read(test, like=texts)
        print_notes([summary, *texts.notes, *(held_out.notes if held_out else ())])
        distillation = distiller.run(texts, test=held_out)
    distilled, comparison = distillation.distilled, None
    if held_out is not None:
        methods = list(dict.fromkeys(["random", "nearest", parts.decoder_name, "full"]))
        distilled = save_compared(
            distiller, distillation, held_out, methods, trained, output, overwrite=overwrite
        )
        comparison = distilled.manifest["comparison"]
    else:
        distilled.save(output, overwrite=overwrite)
    if not no_report:
        write_report(distilled, distillation, distiller, output)
    print_notes([*thin_notes(distilled), *personal_notes(distilled, redact=redact)])
    if json:
        print_json(_document(distilled, output, comparison))
        return
    show_texts(distilled)
    if comparison:
        show_comparison(comparison)
        show(recovered_share(distilled.manifest) or "")
    show_end(len(texts), len(distilled), output)
    show("next: " + shlex.join(["dallme", "audit", str(output), "--source", source, *data.flags()]))


#: A text that stands for fewer rows may be an outlier, if others stand for many more.
FEW_ROWS, MANY_ROWS = 3, 10


def thin_notes(distilled: DistilledDataset) -> list[str]:
    """Returns a note on texts that stand for very few rows, where a text stands for many on average."""
    thin = [index for index, weight in enumerate(distilled.weights.tolist()) if weight < FEW_ROWS]
    if not thin or distilled.weights.mean() < MANY_ROWS:
        return []
    shown = ", ".join(map(str, thin[:10])) + (", …" if len(thin) > 10 else "")
    return [
        f"{len(thin)} of {len(distilled):,} texts stand for fewer than {FEW_ROWS} rows each "
        f"({'text' if len(thin) == 1 else 'texts'} {shown}): these rows may be outliers; fewer texts per "
        "class join them with others"
    ]


def personal_notes(distilled: DistilledDataset, *, redact: bool = False) -> list[str]:
    """Returns notes on personal data in the texts and in the source, without a value."""
    from dallme.personal import describe_kinds, describe_texts

    notes = []
    replaced = (distilled.manifest.personal or {}).get("redacted") or {}
    if redact:
        notes.append(f"replaced in the source: {describe_kinds(replaced) or 'nothing'}")
    _, found = describe_texts(distilled.texts)
    if found:
        advice = (
            "edit the texts with dallme review" if redact else "--redact replaces such data in the source"
        )
        notes.append(f"the texts may hold personal data: {found}; {advice}")
    return notes


#: Texts that are printed, and characters of each.
SHOWN_TEXTS, SHOWN_CHARACTERS = 10, 200


def show_texts(distilled: DistilledDataset) -> None:
    """Prints the first texts of each class in a table, with personal data masked and sentences apart."""
    from dallme.personal import mask

    of_class: dict[int, list[int]] = {}
    for index, label in enumerate(distilled.labels.tolist()):
        of_class.setdefault(label, []).append(index)
    in_turn = [index for row in zip_longest(*of_class.values()) for index in row if index is not None]
    rows = []
    for index in sorted(in_turn[:SHOWN_TEXTS]):
        lineage, text = distilled.lineage[index], distilled.texts[index]
        if len(set(lineage.sentence_rows)) > 1:
            text = " / ".join(lineage.sentences)
        text = " ".join(mask(text).split())
        if len(text) > SHOWN_CHARACTERS:
            text = text[: SHOWN_CHARACTERS - 1].rstrip() + "…"
        rows.append([distilled.label_names[int(distilled.labels[index])], text])
    print_table(["label", "text"], rows)
    if (more := len(distilled) - len(rows)) > 0:
        show(f"… and {more:,} more; sentences of different rows are set apart by /")


def show_end(rows: int, texts: int, output: Path) -> None:
    """Prints where the set and its page are."""
    from dallme.dataset import REPORT

    hint = f"; open {REPORT} in it" if (output / REPORT).is_file() else ""
    show(f"\n{rows:,} rows → {texts:,} texts in {output}{hint}")


#: Share of the rows that is held out, where each class and the held-out rows have at least so many.
HOLDOUT, _MIN_CLASS, _MIN_HELD_OUT = 0.2, 20, 200


def hold_out(
    texts: LabelledTexts, distiller: Distiller, share: float | None
) -> tuple[LabelledTexts, LabelledTexts | None]:
    """Holds out rows to test on, with a note.

    Args:
        texts: All rows.
        distiller: Gives the seed, and the budget that the remaining rows must allow.
        share: Share of the rows; None holds out :data:`HOLDOUT` if there are enough rows, and 0 none.

    Returns:
        The remaining rows, and the held-out ones or None.

    Raises:
        InputError: If the share is not in [0, 1), or leaves too few rows for the budget.
    """
    from dallme.readers.splits import split

    if share == 0:
        return texts, None
    rest, held_out = split(texts, HOLDOUT if share is None else share, seed=distiller.seed)
    if share is not None and not len(held_out):
        raise InputError(f"expected --holdout {share} to hold out rows, found none of {len(texts):,}")
    try:
        distiller.allocate(rest)
    except InputError:
        if share is not None:
            raise
        return texts, None
    if share is None and (min(texts.class_counts.values()) < _MIN_CLASS or len(held_out) < _MIN_HELD_OUT):
        return texts, None
    note = (
        f"held out {len(held_out):,} of {len(texts):,} rows to test on, the same share of each class; "
        f"the texts are distilled from the other {len(rest):,}; --holdout 0 uses all"
    )
    return replace(rest, notes=(*rest.notes, note)), held_out


def save_compared(
    distiller: Distiller,
    distillation: Distillation,
    test: Any,
    methods: list[str],
    classifiers: dict[str, Any],
    output: Path,
    *,
    overwrite: bool,
) -> DistilledDataset:
    """Compares a new set with other methods and saves it; if the comparison fails, saves it without one.

    Returns:
        The set with the comparison in its manifest.
    """
    from dallme.evaluation.compare import compare

    try:
        comparison = compare(
            distiller, distillation, test, methods, classifiers, soft_labels=distiller.soft_labels
        ).as_dict()
    except Exception:
        distillation.distilled.save(output, overwrite=overwrite)
        show_note(f"the texts are in {output}; they could not be compared")
        raise
    distilled = distillation.distilled.with_comparison(comparison)
    distilled.save(output, overwrite=overwrite)
    return distilled


def write_report(
    distilled: DistilledDataset, distillation: Distillation, distiller: Distiller, output: Path
) -> None:
    """Writes the page of a set that was just saved; a failure is a note, since the texts are safe."""
    from dallme.auditing.inputs import AuditInput
    from dallme.dataset import REPORT
    from dallme.report.page import render

    try:
        context = distillation.context
        vectors = distiller.cached_embedder.embed(distilled.texts)
        evidence = AuditInput(distilled, context.source, context.vectors, vectors)
        page = render(distilled, evidence=evidence, progress=distiller.progress)
        write_file(output / REPORT, page.encode())
    except Exception as error:
        reason = str(error) if isinstance(error, DallmeError) else f"{type(error).__name__}: {error}"
        show_note(
            f"no {REPORT}: {' '.join(reason.split())}; the texts are written, try dallme report {output}"
        )


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
    """Prints the comparison table and how to read it."""
    from dallme.dataset.card import comparison_cells, star_note

    print_notes(comparison["notes"])
    show(
        f"\naccuracy on {comparison['test_rows']:,} test rows "
        "(in brackets: share of the full data's accuracy, tokens a text)"
    )
    print_table(*comparison_cells(comparison))
    if note := star_note(comparison):
        show(note)
