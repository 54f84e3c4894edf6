"""``dallme audit``: reports copied text, personal data and doubtful labels of a distilled set."""

from __future__ import annotations

from typing import Annotated

import typer

from dallme.cli import options
from dallme.cli.groups import DataWithIds, grouped
from dallme.cli.output import make_progress, print_json, print_notes, print_table, show, show_note
from dallme.cli.paths import write_file


@grouped
def audit(
    folder: options.Folder,
    data: DataWithIds,
    source: Annotated[
        str | None,
        options.option(
            "--source",
            "The data that the set was distilled from; by default the file in its manifest.",
            options.DATA,
        ),
    ] = None,
    test: Annotated[
        str | None, options.option("--test", "Test data, for the check of contamination.", options.DATA)
    ] = None,
    max_copied_span: Annotated[
        int | None,
        options.option(
            "--max-copied-span",
            "Fail if a text shares a longer run of words with a source row.",
            options.THRESHOLDS,
        ),
    ] = None,
    min_cluster: Annotated[
        int | None,
        options.option(
            "--min-cluster", "Fail if a text has fewer source rows behind it.", options.THRESHOLDS
        ),
    ] = None,
    max_personal: Annotated[
        int | None,
        options.option(
            "--max-personal",
            "Fail if the texts hold more e-mail addresses, telephone numbers and the like.",
            options.THRESHOLDS,
        ),
    ] = None,
    perplexity: Annotated[
        str | None,
        options.option(
            "--perplexity",
            "A causal model that scores how the texts read, such as smollm2.",
            options.ADVANCED,
        ),
    ] = None,
    language: Annotated[
        str,
        options.option("--language", "ISO 639-1 code, for sentence boundaries.", options.ADVANCED),
    ] = "en",
    embedder: options.SetEmbedder = None,
    store: options.Store = None,
    json: options.Json = False,
) -> None:
    """Report copied text, personal data and doubtful labels of a set; status 1 if a threshold is exceeded.

    Example: dallme audit distilled --source reviews.csv --test reviews-test.csv --min-cluster 5
    """
    from json import dumps

    from dallme.auditing import Thresholds
    from dallme.auditing import audit as examine
    from dallme.auditing.inputs import find_source, gather
    from dallme.dataset import AUDIT, DistilledDataset
    from dallme.report.summary import audit_rows

    thresholds = Thresholds(max_copied_span, min_cluster, max_personal)
    distilled, progress = DistilledDataset.load(folder), make_progress()
    if source is None:
        source = str(find_source(distilled.manifest, folder))
        show_note(f"the source is {source}, as the manifest names it; --source names another")
    texts = data.read(source)
    held_out = data.read(test, like=texts) if test else None
    print_notes([*texts.notes, *(held_out.notes if held_out else ())])
    inputs = gather(
        distilled, texts, embedder=embedder, store=options.writable_store(store), progress=progress
    )
    result = examine(
        inputs,
        test=held_out,
        thresholds=thresholds,
        language=language,
        language_model=perplexity,
        progress=progress,
    )
    document = result.as_dict()
    content = dumps(document, indent=2, ensure_ascii=False) + "\n"
    write_file(folder / AUDIT, content.encode(errors="backslashreplace"))
    print_notes([*document["notes"], *result.warnings])
    if json:
        print_json(document)
    else:
        print_table(["", "found"], [list(row) for row in audit_rows(document)])
        for line in result.personal_texts:
            show(f"personal data in {line}")
        for failure in document["failures"]:
            show(f"failed: {failure}")
    if document["failures"]:
        raise typer.Exit(1)
