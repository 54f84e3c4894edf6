"""``dallme invert-check``: what an inverter is worth."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dallme.cli import options
from dallme.cli.output import print_json, print_notes, print_table
from dallme.cli.progress import make_progress
from dallme.errors import InputError

if TYPE_CHECKING:
    from dallme.decoders.vec2text.checking import CheckRow


def invert_check(
    inverter: Annotated[Path, typer.Argument(metavar="INVERTER", help="Folder of an inverter.")],
    test: Annotated[str, typer.Option("--test", help="Texts that it has not seen; a source like those of other verbs.")],
    source: Annotated[
        str | None, typer.Option("--source", help="Known texts: shows what the nearest of them reaches without an inverter.")
    ] = None,
    rows: Annotated[int, typer.Option("--rows", help="Test texts, drawn at random.")] = 1000,
    steps: Annotated[str, typer.Option("--steps", help="Comma-separated numbers of correction steps.")] = "0,1,5,10",
    beams: Annotated[str, typer.Option("--beams", help="Comma-separated numbers of texts held.")] = "1,4",
    max_tokens: Annotated[
        int | None, typer.Option("--max-tokens", help="Tokens of a test text; by default as many as the inverter writes.")
    ] = None,
    text_column: options.TextColumn = None,
    drop_bad_rows: options.DropBadRows = False,
    seed: options.Seed = 0,
    store: options.Store = None,
    json: options.Json = False,
) -> None:
    """Decode the vectors of TEST's texts and compare what is written with the texts: BLEU, words, exact matches, cosine.

    Example: dallme invert-check inverter --test reviews-test.csv --source reviews.csv
    """
    import numpy as np

    from dallme.decoders.vec2text.checking import check_inverter, check_nearest, cut_corpus
    from dallme.decoders.vec2text.inverter import Inverter
    from dallme.readers import read
    from dallme.store import EmbeddingStore, embed_with_store
    from dallme.validation import check_positive

    check_positive(rows, "rows")
    counts, held = _numbers(steps, "--steps", least=0), _numbers(beams, "--beams", least=1)
    loaded = Inverter.load(inverter)
    loaded.check_steps(max(counts))
    columns: dict[str, Any] = {"text_column": text_column, "drop_bad_rows": drop_bad_rows, "labelled": False}
    held_out = read(test, **columns)
    known = read(source, **columns) if source else None
    print_notes([*held_out.notes, *(known.notes if known else ())])
    progress, table = make_progress(), EmbeddingStore(options.store_folder(store))
    embed = partial(embed_with_store, loaded.embedder, prompt=loaded.config.prompt, store=table, progress=progress)
    drawn = np.sort(np.random.default_rng(seed).permutation(len(held_out))[:rows])
    corpus = cut_corpus(loaded, [held_out.texts[row] for row in drawn.tolist()], embed, max_tokens)
    found = check_inverter(loaded, corpus, steps=counts, beams=held, seed=seed, progress=progress)
    if known is not None:
        found.append(check_nearest(cut_corpus(loaded, known.texts, embed, max_tokens), corpus))
    if json:
        print_json({"inverter": str(inverter), "test_rows": len(corpus), "results": [row.as_dict() for row in found]})
    else:
        print(f"{len(corpus):,} texts of at most {max_tokens or loaded.config.max_tokens} tokens")
        print_table(["", "steps", "beam", "BLEU", "uncased", "token F1", "exact", "cosine"], [_cells(row) for row in found])


def _cells(row: CheckRow) -> list[str]:
    measures = row.measures
    shares = [measures.token_f1, measures.exact, measures.cosine or 0.0]
    counts = ["" if count is None else str(count) for count in (row.steps, row.beam)]
    return [row.method, *counts, f"{measures.bleu:.1f}", f"{measures.bleu_uncased:.1f}", *(f"{share:.3f}" for share in shares)]


def _numbers(given: str, option: str, least: int) -> list[int]:
    """The numbers of a comma-separated list, each once, in order.

    Raises:
        InputError: If one is none, or less than `least`.
    """
    names = options.split_names(given)
    if not all(name.isdecimal() and int(name) >= least for name in names):
        raise InputError(f"expected {option} as whole numbers of at least {least}, separated by commas, found {given!r}")
    return sorted({int(name) for name in names})
