"""``dallme train-inverter``, ``invert-check`` and ``decode``: models that write texts from vectors."""

from __future__ import annotations

import os
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dallme.cli import options
from dallme.cli.groups import EmbedderOptions, grouped
from dallme.cli.output import make_progress, print_json, print_notes, print_table, show
from dallme.cli.paths import check_apart, check_file, write_file
from dallme.errors import InputError

if TYPE_CHECKING:
    from dallme.decoders.vec2text.correction import Decoded
    from dallme.decoders.vec2text.evaluation import CheckRow


InverterEmbedder = Annotated[
    str | None,
    typer.Option(
        "--embedder",
        help="The inverter's embedder; needed for a service, a path, or a model without stored vectors.",
    ),
]


@grouped
def train_inverter(
    source: options.Source,
    output: Annotated[
        Path,
        options.option(
            "--output", "Folder to write to; OUTPUT.partial holds the checkpoints.", options.TRAINING
        ),
    ],
    parts: EmbedderOptions,
    preset: Annotated[
        str, options.option("--preset", "Size: tiny, small or base.", options.TRAINING)
    ] = "small",
    base: Annotated[
        str | None,
        typer.Option(
            "--base",
            help="scratch, embedder, vec2text, smollm2, a Hub id or a folder; by default the preset's.",
        ),
    ] = None,
    correct: Annotated[
        bool, options.option("--correct/--no-correct", "Train the corrector as well.", options.TRAINING)
    ] = True,
    minutes: Annotated[
        float | None,
        options.option("--minutes", "Time of the training, after the embedding.", options.TRAINING),
    ] = None,
    steps: Annotated[
        int | None, options.option("--steps", "Optimizer steps of each stage.", options.TRAINING)
    ] = None,
    epochs: Annotated[
        int | None, options.option("--epochs", "Passes over the texts in each stage.", options.TRAINING)
    ] = None,
    batch_size: Annotated[
        int | None, options.option("--batch-size", "Texts per step.", options.ADVANCED)
    ] = None,
    learning_rate: Annotated[
        float | None, options.option("--learning-rate", "Peak of the linear schedule.", options.ADVANCED)
    ] = None,
    max_tokens: Annotated[
        int | None, options.option("--max-tokens", "Maximum tokens per training text.", options.ADVANCED)
    ] = None,
    noise: Annotated[
        float,
        options.option("--noise", "Length of the Gaussian noise added to the vectors.", options.ADVANCED),
    ] = 0.0,
    dropout: Annotated[float, options.option("--dropout", "Dropout rate.", options.ADVANCED)] = 0.1,
    passages: Annotated[
        int,
        options.option("--passages", "Passages of each text that are trained on as well.", options.ADVANCED),
    ] = 0,
    lora_rank: Annotated[
        int | None, options.option("--lora-rank", "Train LoRA adapters of this rank only.", options.ADVANCED)
    ] = None,
    drafts: Annotated[
        int | None,
        options.option(
            "--drafts",
            "Maximum number of texts whose hypotheses the corrector learns from; by default the preset's.",
            options.ADVANCED,
        ),
    ] = None,
    patience: Annotated[
        int,
        options.option(
            "--patience",
            "Measurements (ten per stage) without progress before a stage ends.",
            options.ADVANCED,
        ),
    ] = 4,
    save_every: Annotated[
        int, options.option("--save-every", "Steps between checkpoints.", options.ADVANCED)
    ] = 200,
    text_column: options.TextColumn = None,
    drop_bad_rows: options.DropBadRows = False,
    seed: options.Seed = 0,
    device: Annotated[str, options.option("--device", "auto, cpu, cuda or mps.", options.ADVANCED)] = "auto",
    resume: Annotated[
        bool, options.option("--resume", "Continue from the last checkpoint.", options.OUTPUT)
    ] = False,
    overwrite: options.Overwrite = False,
    json: options.Json = False,
) -> None:
    """Train an inverter on the texts of SOURCE: it writes a text for a vector of the embedder.

    Example: dallme train-inverter reviews.csv --embedder all-MiniLM-L6-v2 --minutes 60 --output inverter

    On several GPUs: accelerate launch --multi_gpu $(which dallme) train-inverter reviews.csv ...
    """
    from dallme.decoders.vec2text.checkpoint import check_new
    from dallme.decoders.vec2text.training import TrainingOptions
    from dallme.decoders.vec2text.training import train_inverter as train
    from dallme.embedders import resolve
    from dallme.embedders.cache import CachedEmbedder
    from dallme.progress import SilentProgress
    from dallme.readers import read

    values = locals() | {"prompt": parts.prompt}
    names = [field.name for field in fields(TrainingOptions)]
    chosen: dict[str, Any] = {name: values[name] for name in names if name in values}
    TrainingOptions(**chosen)  # wrong values fail before anything is loaded
    check_new(output, overwrite=overwrite)
    check_apart(output, source)
    parts.check_key()
    model = resolve(parts.configured())
    texts = read(source, text_column=text_column, drop_bad_rows=drop_bad_rows, labelled=False)
    first = os.environ.get("RANK", "0") == "0"  # of several processes only this one prints
    print_notes(texts.notes if first else [])
    progress = make_progress() if first else SilentProgress()
    embedder = CachedEmbedder(model, parts.prompt, options.writable_store(parts.store), progress)
    config = train(
        texts,
        model,
        output,
        name=parts.embedder,
        embed=embedder.embed,
        resume=resume,
        overwrite=overwrite,
        progress=progress,
        **chosen,
    )
    if not first:
        return
    if json:
        print_json({"output": str(output), "training": config.training, "scores": config.scores})
        return
    show(f"inverter for {config.embedder} in {output}; on {config.training['held_out']:,} held-out texts:")
    head = ["", "BLEU", "token F1", "exact", "cosine"]
    columns = ("bleu", "token_f1", "exact", "cosine")
    print_table(
        head,
        [
            [stage, *(f"{scores[column]:.3f}" for column in columns)]
            for stage, scores in config.scores.items()
        ],
    )


def invert_check(
    inverter: Annotated[Path, typer.Argument(metavar="INVERTER", help="Folder of an inverter.")],
    test: Annotated[str, typer.Option("--test", help="Held-out texts; a source as for other verbs.")],
    source: Annotated[
        str | None,
        typer.Option("--source", help="Known texts: adds the baseline of the nearest known text."),
    ] = None,
    rows: Annotated[int, typer.Option("--rows", help="Test texts, drawn at random.")] = 1000,
    steps: Annotated[
        str, typer.Option("--steps", help="Comma-separated numbers of correction steps.")
    ] = "0,1,5,10",
    beams: Annotated[str, typer.Option("--beams", help="Comma-separated beam widths.")] = "1,4",
    max_tokens: Annotated[
        int | None,
        typer.Option(
            "--max-tokens", help="Tokens of a test text; by default as many as the inverter writes."
        ),
    ] = None,
    embedder: InverterEmbedder = None,
    text_column: options.TextColumn = None,
    drop_bad_rows: options.DropBadRows = False,
    seed: options.Seed = 0,
    store: options.Store = None,
    json: options.Json = False,
) -> None:
    """Decode the vectors of TEST's texts and compare the result with the texts: BLEU, words, exact, cosine.

    Example: dallme invert-check inverter --test reviews-test.csv --source reviews.csv
    """
    import numpy as np

    from dallme.decoders.vec2text.evaluation import check_inverter, check_nearest, cut_corpus
    from dallme.decoders.vec2text.inverter import Inverter
    from dallme.embedders.cache import CachedEmbedder
    from dallme.readers import read
    from dallme.validation import check_positive

    check_positive(rows, "rows")
    counts, widths = _numbers(steps, "--steps", least=0), _numbers(beams, "--beams", least=1)
    loaded = Inverter.load(inverter, embedder=embedder, store=options.store_folder(store))
    loaded.check_steps(max(counts))
    columns: dict[str, Any] = {"text_column": text_column, "drop_bad_rows": drop_bad_rows, "labelled": False}
    held_out = read(test, **columns)
    known = read(source, **columns) if source else None
    print_notes([*held_out.notes, *(known.notes if known else ())])
    progress, folder = make_progress(), options.writable_store(store)
    embed = CachedEmbedder(loaded.embedder, loaded.config.prompt, folder, progress).embed
    drawn = np.sort(np.random.default_rng(seed).permutation(len(held_out))[:rows])
    corpus = cut_corpus(loaded, [held_out.texts[row] for row in drawn.tolist()], embed, max_tokens)
    results = check_inverter(loaded, corpus, steps=counts, beams=widths, seed=seed, progress=progress)
    if known is not None:
        results.append(check_nearest(cut_corpus(loaded, known.texts, embed, max_tokens), corpus))
    if json:
        print_json(
            {
                "inverter": str(inverter),
                "test_rows": len(corpus),
                "results": [row.as_dict() for row in results],
            }
        )
    else:
        show(f"{len(corpus):,} texts of at most {max_tokens or loaded.config.max_tokens} tokens")
        print_table(
            ["", "steps", "beam", "BLEU", "uncased", "token F1", "exact", "cosine"],
            [_cells(row) for row in results],
        )


def _cells(row: CheckRow) -> list[str]:
    measures = row.measures
    shares = [measures.token_f1, measures.exact, measures.cosine or 0.0]
    counts = ["" if count is None else str(count) for count in (row.steps, row.beam)]
    return [
        row.method,
        *counts,
        f"{measures.bleu:.1f}",
        f"{measures.bleu_uncased:.1f}",
        *(f"{share:.3f}" for share in shares),
    ]


def _numbers(value: str, flag: str, least: int) -> list[int]:
    """Returns the numbers of a comma-separated list, each once, in order.

    Raises:
        InputError: If one is none, or less than `least`.
    """
    names = options.split_names(value)
    if not all(name.isdecimal() and int(name) >= least for name in names):
        raise InputError(
            f"expected {flag} as whole numbers of at least {least}, separated by commas, found {value!r}"
        )
    return sorted({int(name) for name in names})


def decode(
    vectors: Annotated[
        Path,
        typer.Argument(
            metavar="VECTORS", help="A .npy of shape (n, d), or a .parquet that `dallme embed` wrote."
        ),
    ],
    decoder: Annotated[
        str,
        typer.Option("--decoder", help="Folder of an inverter; by default the one that comes with dallme."),
    ] = "",
    steps: Annotated[
        int, typer.Option("--steps", help="Maximum correction steps; 0 writes from the vectors alone.")
    ] = 5,
    beam: Annotated[int, typer.Option("--beam", help="Beam width: candidate texts per vector.")] = 4,
    embedder: InverterEmbedder = None,
    seed: options.Seed = 0,
    store: options.Store = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", help="File for the texts in place of the screen: one JSON object per line."),
    ] = None,
    overwrite: options.Overwrite = False,
    json: options.Json = False,
) -> None:
    """Write a text for each vector: a cluster's mean, or any other vector of the inverter's embedder.

    Example: dallme decode vectors.npy --decoder inverter
    """
    import json as encoder

    from dallme.decoders.vec2text.inverter import Inverter, find_inverter
    from dallme.embedders.cache.export import read_vectors

    if output is not None:
        check_file(output, vectors, overwrite=overwrite)
    matrix = read_vectors(vectors)
    folder = find_inverter(decoder.removeprefix("vec2text:"))
    inverter = Inverter.load(folder, embedder=embedder, store=options.store_folder(store))
    decoded = inverter.decode(matrix, steps=steps, beam=beam, seed=seed, progress=make_progress())
    rows = [_row(each) for each in decoded]
    if output is not None:
        lines = (encoder.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        write_file(output, "".join(lines).encode())
    if json:
        print_json(
            {
                "texts": rows,
                "embedder": inverter.config.embedder,
                "output": None if output is None else str(output),
            }
        )
    elif output is not None:
        show(f"{len(rows):,} texts in {output}")
    else:
        print_table(["cosine", "text"], [[f"{row['cosine']:.3f}", row["text"]] for row in rows])


def _row(decoded: Decoded) -> dict[str, Any]:
    return {"text": decoded.text, "cosine": round(decoded.cosine, 6), "steps": decoded.steps}
