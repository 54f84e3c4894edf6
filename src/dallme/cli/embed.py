"""``dallme embed``: fill the store, write vectors to a file, or show what is embedded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dallme.cli import options
from dallme.cli.output import make_progress, print_json, print_notes, print_table

if TYPE_CHECKING:
    from dallme.embedders.cost import Explanation

#: Texts that ``--explain`` shows.
SHOWN = 5


def embed(
    source: options.Source,
    output: Annotated[
        Path | None,
        typer.Option("--output", help="File for the vectors: .parquet (with texts and labels) or .npy."),
    ] = None,
    explain: Annotated[
        bool,
        typer.Option(
            "--explain", help="Embed nothing: show the exact strings, their tokens, and how many are cut."
        ),
    ] = False,
    text_column: options.TextColumn = None,
    label_column: options.LabelColumn = None,
    id_column: options.IdColumn = None,
    drop_bad_rows: options.DropBadRows = False,
    embedder: options.Embedder = "all-MiniLM-L6-v2",
    base_url: options.BaseUrl = None,
    dimensions: options.Dimensions = None,
    budget_usd: options.BudgetUsd = None,
    price: options.PriceUsd = None,
    unknown_words: options.UnknownWords = None,
    prompt: options.Prompt = None,
    store: options.Store = None,
    overwrite: options.Overwrite = False,
    json: options.Json = False,
) -> None:
    """Embed SOURCE into the store, so that later runs embed nothing; or into a file.

    Example: dallme embed reviews.csv --output vectors.parquet
    """
    from dallme.embedders.cache import EmbeddingStore, embed_with_store
    from dallme.embedders.cache.export import check_format, write_vectors
    from dallme.embedders.cost import explain as explain_texts
    from dallme.embedders.resolve import resolve
    from dallme.errors import OutputError
    from dallme.readers import read

    if output is not None:
        check_format(output)
        if output.exists() and not overwrite:
            raise OutputError(f"expected a new file, found {str(output)!r}; choose another, or --overwrite")
    model = resolve(
        options.configure_embedder(
            embedder,
            base_url=base_url,
            dimensions=dimensions,
            budget_usd=budget_usd,
            price=price,
            unknown_words=unknown_words,
        )
    )
    columns = {"text_column": text_column, "label_column": label_column, "id_column": id_column}
    texts = read(source, **columns, drop_bad_rows=drop_bad_rows, labelled=False)  # type: ignore[arg-type]
    print_notes(texts.notes)
    if explain:
        _show(explain_texts(model, texts.texts, prompt=prompt), json)
        return
    place = options.store_folder(store)
    table = EmbeddingStore(place)
    vectors = embed_with_store(model, texts.texts, prompt=prompt, store=table, progress=make_progress())
    if output is not None:
        write_vectors(output, vectors, texts)
    fingerprint = model.fingerprint(prompt)
    if json:
        document = {
            "rows": len(texts),
            "dimension": vectors.shape[1],
            "embedder": fingerprint.model,
            "prefix": model.prefix(prompt),
            "store": str(place / fingerprint.digest),
            "output": None if output is None else str(output),
            "cost_usd": model.spent_usd,
        }
        print_json(document)
    else:
        print(f"{len(texts):,} vectors of {vectors.shape[1]} dimensions in {output or place}")


def _show(found: Explanation, json: bool) -> None:
    examples = list(zip(found.strings[:SHOWN], found.tokens[:SHOWN], strict=True))
    if json:
        print_json(
            {
                "embedder": found.embedder,
                "prefix": found.prefix,
                "rows": len(found.strings),
                "token_limit": found.token_limit,
                "tokens": sum(found.tokens),
                "share_cut": found.share_cut,
                "examples": [{"string": string, "tokens": tokens} for string, tokens in examples],
            }
        )
        return
    limit = "all tokens" if found.token_limit is None else f"at most {found.token_limit} tokens"
    print(
        f"{found.embedder} reads {limit} of a text; {found.share_cut:.1%} of {len(found.strings):,} are cut"
    )
    print(f"before each text stands {found.prefix!r}" if found.prefix else "nothing stands before a text")
    print_table(["tokens", "what is embedded"], [[str(tokens), string] for string, tokens in examples])
