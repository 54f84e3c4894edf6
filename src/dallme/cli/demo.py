"""``dallme demo``: the main job on real data, in one command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dallme.cli import options
from dallme.cli.distill import NoReport, report_of, show_comparison
from dallme.cli.output import print_json, print_notes
from dallme.cli.progress import make_progress


def demo(
    output: Annotated[Path, typer.Option("--output", help="Folder to write to.")] = Path("dallme-demo"),
    per_class: Annotated[int, typer.Option("--per-class", help="Texts per class.")] = 10,
    embedder: options.Embedder = "all-MiniLM-L6-v2",
    seed: options.Seed = 0,
    store: options.Store = None,
    archive: Annotated[
        Path | None, typer.Option("--archive", help="The data's source archive, if it is here already; else pip fetches it.")
    ] = None,
    no_report: NoReport = False,
    overwrite: options.Overwrite = False,
    json: options.Json = False,
) -> None:
    """Distil 10,605 human-rated sentences from movie reviews into a few texts.

    Example: dallme demo --output demo --overwrite
    """
    from dallme.distilled import folder

    folder.check(output, overwrite=overwrite)

    from dallme.demo_data import load_movie_sentences
    from dallme.distiller import Distiller
    from dallme.evaluation.compare import compare
    from dallme.evaluation.protocol import LINEAR, make_classifiers

    progress = make_progress()
    train, test = load_movie_sentences(archive, seed=seed)
    print_notes([*train.notes, *test.notes])
    distiller = Distiller(per_class=per_class, embedder=embedder, seed=seed, store=options.store_folder(store), progress=progress)
    judges = make_classifiers([*LINEAR, "embedding-lr"], distiller)
    distillation = distiller.run(train)
    found = compare(distiller, distillation, test, ["random", "nearest", "extractive", "teaching", "full"], judges).as_dict()
    distilled = distillation.distilled.with_comparison(found)
    distilled.save(output, overwrite=overwrite, beside={} if no_report else report_of(distilled, distillation, distiller))
    if json:
        print_json({"output": str(output), "texts": list(distilled.texts), "comparison": found})
        return
    for label, name in distilled.label_names.items():
        print(f"\n{name}")
        for text in (text for text, own in zip(distilled.texts, distilled.labels.tolist(), strict=True) if own == label):
            print(f"  • {text}")
    show_comparison(found)
    print(
        f"\n{len(train):,} rows → {len(distilled)} texts, written to {output}" + ("" if no_report else "; open report.html in it")
    )
