"""``dallme embed``: fills the store, writes vectors to a file, or shows what is embedded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from dallme.cli import options
from dallme.cli.groups import DataWithIds, EmbedderOptions, grouped
from dallme.cli.output import make_progress, print_json, print_notes, print_table, show
from dallme.cli.paths import check_file
from dallme.errors import OutputError

if TYPE_CHECKING:
    from dallme.embedders.cost import Explanation

#: Texts that ``--explain`` shows.
SHOWN = 5


@grouped
def embed(
    source: options.Source,
    data: DataWithIds,
    parts: EmbedderOptions,
    output: Annotated[
        Path | None,
        options.option(
            "--output", "File for the vectors: .parquet (with texts and labels) or .npy.", options.OUTPUT
        ),
    ] = None,
    explain: Annotated[
        bool,
        options.option(
            "--explain",
            "Embed nothing: show the exact strings, their tokens, and the share that is cut.",
            options.OUTPUT,
        ),
    ] = False,
    overwrite: options.Overwrite = False,
    json: options.Json = False,
) -> None:
    """Embed SOURCE into the store, so that later runs embed nothing; or into a file.

    Example: dallme embed reviews.csv --output vectors.parquet
    """
    from dallme.embedders import resolve
    from dallme.embedders.cache import embed_with_store
    from dallme.embedders.cache.export import check_format, write_vectors
    from dallme.embedders.cost import explain as explain_texts

    if output is not None:
        check_format(output)
        check_file(output, source, overwrite=overwrite)
    if not explain:
        parts.check_key()
    model = resolve(parts.configured())
    texts = data.read(source, labelled=False)
    print_notes(texts.notes)
    if explain:
        _show_explanation(explain_texts(model, texts.texts, prompt=parts.prompt), json=json)
        return
    store = parts.open_store()
    if store is None and output is None:
        raise OutputError("expected a store or a file for the vectors, found neither; name one with --store")
    vectors = embed_with_store(model, texts.texts, prompt=parts.prompt, store=store, progress=make_progress())
    if output is not None:
        write_vectors(output, vectors, texts)
    fingerprint, folder = model.fingerprint(parts.prompt), options.writable_store(parts.store)
    if json:
        document = {
            "rows": len(texts),
            "dimension": vectors.shape[1],
            "embedder": fingerprint.model,
            "prefix": model.prefix(parts.prompt),
            "store": None if folder is None else str(folder / fingerprint.digest),
            "output": None if output is None else str(output),
            "cost_usd": model.spent_usd,
        }
        print_json(document)
    else:
        show(f"{len(texts):,} vectors of {vectors.shape[1]} dimensions in {output or folder}")


def _show_explanation(explanation: Explanation, *, json: bool) -> None:
    examples = list(zip(explanation.strings[:SHOWN], explanation.tokens[:SHOWN], strict=True))
    limit, rows = explanation.token_limit, len(explanation.strings)
    if json:
        print_json(
            {
                "embedder": explanation.embedder,
                "prefix": explanation.prefix,
                "rows": rows,
                "token_limit": limit,
                "tokens": sum(explanation.tokens),
                "share_cut": explanation.share_cut,
                "examples": [{"string": string, "tokens": tokens} for string, tokens in examples],
            }
        )
        return
    read = "all tokens" if limit is None else f"at most {limit} tokens"
    show(f"{explanation.embedder} reads {read} of a text; {explanation.share_cut:.1%} of {rows:,} are cut")
    show(
        f"prefix of each text: {explanation.prefix!r}"
        if explanation.prefix
        else "no prefix is put before a text"
    )
    print_table(["tokens", "what is embedded"], [[str(tokens), string] for string, tokens in examples])
