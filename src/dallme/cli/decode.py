"""``dallme decode``: vectors in, texts out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dallme.cli import options
from dallme.cli.output import print_json, print_table
from dallme.cli.progress import make_progress

if TYPE_CHECKING:
    from dallme.decoders.vec2text.search import Decoded


def decode(
    vectors: Annotated[
        Path, typer.Argument(metavar="VECTORS", help="A .npy of shape (n, d), or a .parquet that `dallme embed` wrote.")
    ],
    decoder: Annotated[
        str, typer.Option("--decoder", help="Folder of an inverter; by default the one that comes with dallme.")
    ] = "",
    steps: Annotated[int, typer.Option("--steps", help="Correction steps at most; 0 writes from the vectors alone.")] = 5,
    beam: Annotated[int, typer.Option("--beam", help="Texts held for each vector.")] = 4,
    seed: options.Seed = 0,
    output: Annotated[
        Path | None, typer.Option("--output", help="File for the texts in place of the screen: a JSON object a line.")
    ] = None,
    overwrite: options.Overwrite = False,
    json: options.Json = False,
) -> None:
    """Write a text for each vector: a cluster's mean, or any other vector of the inverter's embedder.

    Example: dallme decode vectors.npy --decoder inverter
    """
    from dallme.decoders.vec2text.fit import find_inverter
    from dallme.decoders.vec2text.inverter import Inverter
    from dallme.errors import OutputError
    from dallme.store.export import read_vectors

    if output is not None and output.exists() and not overwrite:
        raise OutputError(f"expected a new file, found {str(output)!r}; choose another, or --overwrite")
    matrix = read_vectors(vectors)
    inverter = Inverter.load(find_inverter(decoder.removeprefix("vec2text:")))
    decoded = inverter.decode(matrix, steps=steps, beam=beam, seed=seed, progress=make_progress())
    rows = [_row(each) for each in decoded]
    if output is not None:
        _write(output, rows)
    if json:
        print_json({"texts": rows, "embedder": inverter.config.embedder, "output": None if output is None else str(output)})
    elif output is not None:
        print(f"{len(rows):,} texts in {output}")
    else:
        print_table(["cosine", "text"], [[f"{row['cosine']:.3f}", row["text"]] for row in rows])


def _row(decoded: Decoded) -> dict[str, Any]:
    return {"text": decoded.text, "cosine": round(decoded.cosine, 6), "steps": decoded.steps}


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    """Writes a JSON object a line, whole or not at all."""
    import json

    from dallme.durable import replace_file
    from dallme.errors import OutputError

    try:
        replace_file(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode())
    except OSError as error:
        raise OutputError(f"expected to write texts to {str(path)!r}, could not: {error.strerror or error}") from error
