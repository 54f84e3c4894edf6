"""``dallme probe``: compares embedders by the accuracy of a linear classifier on their vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from dallme.cli import options
from dallme.cli.groups import DataOptions, EmbedderOptions, grouped
from dallme.cli.output import make_progress, print_json, print_notes, print_table
from dallme.cli.settings import parse_settings


@dataclass(frozen=True)
class _SeveralEmbedders(EmbedderOptions):
    embedder: Annotated[
        str,
        options.option(
            "--embedder",
            "Comma-separated embedders to compare.",
            options.EMBEDDER,
            autocompletion=options.parts("embedders", several=True),
        ),
    ] = "all-MiniLM-L6-v2"


@grouped
def probe(
    source: options.Source,
    test: options.Test,
    data: DataOptions,
    parts: _SeveralEmbedders,
    seed: options.Seed = 0,
    json: options.Json = False,
) -> None:
    """Train a linear classifier on the vectors of SOURCE: better vectors give better distilled texts.

    Example: dallme probe reviews.csv --test reviews-test.csv --embedder all-MiniLM-L6-v2,hashing
    """
    from dallme.embedders import resolve
    from dallme.embedders.cache import CachedEmbedder
    from dallme.evaluation.probe import probe as probe_vectors

    names = options.split_names(parts.embedder)
    values = parse_settings(parts.settings or (), ("embedder",))["embedder"]
    # An option is for those of several embedders that have it.
    models = {
        name: resolve(options.configure_embedder(name, values, parts.service, lenient=len(names) > 1))
        for name in names
    }
    texts = data.read(source)
    held_out = data.read(test, like=texts)
    print_notes([*texts.notes, *held_out.notes])
    store, progress = options.writable_store(parts.store), make_progress()
    results = []
    for name, model in models.items():
        embed = CachedEmbedder(model, parts.prompt, store, progress).embed
        results.append(probe_vectors(name, embed, texts, held_out, seed=seed).as_dict())
    if json:
        print_json({"results": results, "train_rows": len(texts), "test_rows": len(held_out)})
        return
    body = [
        [row["embedder"], str(row["dimension"]), f"{row['accuracy']:.3f}", f"{row['macro_f1']:.3f}"]
        for row in results
    ]
    print_table(["embedder", "dimension", "accuracy", "macro-F1"], body)
