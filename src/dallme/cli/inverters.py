"""``dallme decode``: vectors in, texts out."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dallme.cli import options
from dallme.cli.output import make_progress, print_json, print_notes, print_table
from dallme.errors import InputError

if TYPE_CHECKING:
    from dallme.decoders.vec2text.correction import Decoded
    from dallme.decoders.vec2text.evaluation import CheckRow

#: Arguments of the verb that are options of the training, by the same names.
TRAINING = (
    "preset", "base", "correct", "minutes", "steps", "epochs", "batch_size", "learning_rate", "max_tokens", "noise",
    "dropout", "passages", "prompt", "lora_rank", "drafts", "patience", "save_every", "seed", "device",
)  # fmt: skip


InverterEmbedder = Annotated[
    str | None,
    typer.Option(
        "--embedder",
        help="The inverter's embedder: needed where it is a service, a path, or a model you have no vectors of.",
    ),
]


def train_inverter(
    source: options.Source,
    output: Annotated[
        Path, typer.Option("--output", help="Folder to write to; OUTPUT.partial holds the checkpoints.")
    ],
    embedder: options.Embedder = "all-MiniLM-L6-v2",
    preset: Annotated[str, typer.Option("--preset", help="Size: tiny, small or base.")] = "small",
    base: Annotated[
        str | None,
        typer.Option(
            "--base",
            help="scratch, embedder, vec2text, smollm2, a Hub id or a folder; by default the preset's.",
        ),
    ] = None,
    correct: Annotated[
        bool, typer.Option("--correct/--no-correct", help="Train the corrector as well.")
    ] = True,
    minutes: Annotated[
        float | None, typer.Option("--minutes", help="Time of the training, after the embedding.")
    ] = None,
    steps: Annotated[int | None, typer.Option("--steps", help="Optimizer steps of each stage.")] = None,
    epochs: Annotated[
        int | None, typer.Option("--epochs", help="Passes over the texts in each stage.")
    ] = None,
    batch_size: Annotated[int | None, typer.Option("--batch-size", help="Texts a step.")] = None,
    learning_rate: Annotated[
        float | None, typer.Option("--learning-rate", help="Peak of the linear schedule.")
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option("--max-tokens", help="Tokens that are learnt of a text.")
    ] = None,
    noise: Annotated[
        float, typer.Option("--noise", help="Length of the Gaussian noise put on the vectors.")
    ] = 0.0,
    dropout: Annotated[
        float, typer.Option("--dropout", help="Share of the activations that are dropped.")
    ] = 0.1,
    passages: Annotated[
        int, typer.Option("--passages", help="Passages that are learnt of each text beside it.")
    ] = 0,
    lora_rank: Annotated[
        int | None, typer.Option("--lora-rank", help="Train LoRA adapters of this rank only.")
    ] = None,
    drafts: Annotated[
        int, typer.Option("--drafts", help="Most texts whose own hypotheses the corrector learns from.")
    ] = 4_000,
    patience: Annotated[
        int, typer.Option("--patience", help="Measurements (ten a stage) without progress before it ends.")
    ] = 4,
    save_every: Annotated[int, typer.Option("--save-every", help="Steps between checkpoints.")] = 200,
    prompt: options.Prompt = None,
    text_column: options.TextColumn = None,
    drop_bad_rows: options.DropBadRows = False,
    base_url: options.BaseUrl = None,
    dimensions: options.Dimensions = None,
    budget_usd: options.BudgetUsd = None,
    price: options.PriceUsd = None,
    unknown_words: options.UnknownWords = None,
    seed: options.Seed = 0,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda or mps.")] = "auto",
    store: options.Store = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint.")] = False,
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
    from dallme.embedders.cache import EmbeddingStore, embed_with_store
    from dallme.embedders.resolve import resolve
    from dallme.progress import SilentProgress
    from dallme.readers import read

    given = locals()
    chosen: dict[str, Any] = {name: given[name] for name in TRAINING}
    TrainingOptions(**chosen)  # what is wrong with them is to be said before anything is loaded
    check_new(output, overwrite=overwrite)
    services = {"base_url": base_url, "dimensions": dimensions, "budget_usd": budget_usd, "price": price}
    model = resolve(options.configure_embedder(embedder, **services, unknown_words=unknown_words))  # type: ignore[arg-type]
    texts = read(source, text_column=text_column, drop_bad_rows=drop_bad_rows, labelled=False)
    first = os.environ.get("RANK", "0") == "0"  # of several processes one speaks
    print_notes(texts.notes if first else [])
    progress = make_progress() if first else SilentProgress()
    kept = EmbeddingStore(options.store_folder(store))
    embed = partial(embed_with_store, model, prompt=prompt, store=kept, progress=progress)
    config = train(
        texts,
        model,
        output,
        name=embedder,
        embed=embed,
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
    print(f"inverter for {config.embedder} in {output}; on {config.training['held_out']:,} held-out texts:")
    head = ["", "BLEU", "token F1", "exact", "cosine"]
    columns = ("bleu", "token_f1", "exact", "cosine")
    print_table(
        head,
        [[stage, *(f"{found[column]:.3f}" for column in columns)] for stage, found in config.scores.items()],
    )


def invert_check(
    inverter: Annotated[Path, typer.Argument(metavar="INVERTER", help="Folder of an inverter.")],
    test: Annotated[
        str, typer.Option("--test", help="Texts that it has not seen; a source like those of other verbs.")
    ],
    source: Annotated[
        str | None,
        typer.Option(
            "--source", help="Known texts: shows what the nearest of them reaches without an inverter."
        ),
    ] = None,
    rows: Annotated[int, typer.Option("--rows", help="Test texts, drawn at random.")] = 1000,
    steps: Annotated[
        str, typer.Option("--steps", help="Comma-separated numbers of correction steps.")
    ] = "0,1,5,10",
    beams: Annotated[str, typer.Option("--beams", help="Comma-separated numbers of texts held.")] = "1,4",
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
    """Decode the vectors of TEST's texts and compare what is written with the texts: BLEU, words, exact matches, cosine.

    Example: dallme invert-check inverter --test reviews-test.csv --source reviews.csv
    """
    import numpy as np

    from dallme.decoders.vec2text.evaluation import check_inverter, check_nearest, cut_corpus
    from dallme.decoders.vec2text.inverter import Inverter
    from dallme.embedders.cache import EmbeddingStore, embed_with_store
    from dallme.readers import read
    from dallme.validation import check_positive

    check_positive(rows, "rows")
    counts, held = _numbers(steps, "--steps", least=0), _numbers(beams, "--beams", least=1)
    loaded = Inverter.load(inverter, embedder=embedder, store=options.store_folder(store))
    loaded.check_steps(max(counts))
    columns: dict[str, Any] = {"text_column": text_column, "drop_bad_rows": drop_bad_rows, "labelled": False}
    held_out = read(test, **columns)
    known = read(source, **columns) if source else None
    print_notes([*held_out.notes, *(known.notes if known else ())])
    progress, table = make_progress(), EmbeddingStore(options.store_folder(store))
    embed = partial(
        embed_with_store, loaded.embedder, prompt=loaded.config.prompt, store=table, progress=progress
    )
    drawn = np.sort(np.random.default_rng(seed).permutation(len(held_out))[:rows])
    corpus = cut_corpus(loaded, [held_out.texts[row] for row in drawn.tolist()], embed, max_tokens)
    found = check_inverter(loaded, corpus, steps=counts, beams=held, seed=seed, progress=progress)
    if known is not None:
        found.append(check_nearest(cut_corpus(loaded, known.texts, embed, max_tokens), corpus))
    if json:
        print_json(
            {"inverter": str(inverter), "test_rows": len(corpus), "results": [row.as_dict() for row in found]}
        )
    else:
        print(f"{len(corpus):,} texts of at most {max_tokens or loaded.config.max_tokens} tokens")
        print_table(
            ["", "steps", "beam", "BLEU", "uncased", "token F1", "exact", "cosine"],
            [_cells(row) for row in found],
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


def _numbers(given: str, option: str, least: int) -> list[int]:
    """The numbers of a comma-separated list, each once, in order.

    Raises:
        InputError: If one is none, or less than `least`.
    """
    names = options.split_names(given)
    if not all(name.isdecimal() and int(name) >= least for name in names):
        raise InputError(
            f"expected {option} as whole numbers of at least {least}, separated by commas, found {given!r}"
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
        int, typer.Option("--steps", help="Correction steps at most; 0 writes from the vectors alone.")
    ] = 5,
    beam: Annotated[int, typer.Option("--beam", help="Texts held for each vector.")] = 4,
    embedder: InverterEmbedder = None,
    seed: options.Seed = 0,
    store: options.Store = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", help="File for the texts in place of the screen: a JSON object a line."),
    ] = None,
    overwrite: options.Overwrite = False,
    json: options.Json = False,
) -> None:
    """Write a text for each vector: a cluster's mean, or any other vector of the inverter's embedder.

    Example: dallme decode vectors.npy --decoder inverter
    """
    from dallme.decoders.vec2text.inverter import Inverter, find_inverter
    from dallme.embedders.cache.export import read_vectors
    from dallme.errors import OutputError

    if output is not None and output.exists() and not overwrite:
        raise OutputError(f"expected a new file, found {str(output)!r}; choose another, or --overwrite")
    matrix = read_vectors(vectors)
    folder = find_inverter(decoder.removeprefix("vec2text:"))
    inverter = Inverter.load(folder, embedder=embedder, store=options.store_folder(store))
    decoded = inverter.decode(matrix, steps=steps, beam=beam, seed=seed, progress=make_progress())
    rows = [_row(each) for each in decoded]
    if output is not None:
        _write(output, rows)
    if json:
        print_json(
            {
                "texts": rows,
                "embedder": inverter.config.embedder,
                "output": None if output is None else str(output),
            }
        )
    elif output is not None:
        print(f"{len(rows):,} texts in {output}")
    else:
        print_table(["cosine", "text"], [[f"{row['cosine']:.3f}", row["text"]] for row in rows])


def _row(decoded: Decoded) -> dict[str, Any]:
    return {"text": decoded.text, "cosine": round(decoded.cosine, 6), "steps": decoded.steps}


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    """Writes a JSON object a line, whole or not at all."""
    import json

    from dallme.atomic import atomic_write
    from dallme.errors import OutputError

    try:
        atomic_write(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode())
    except OSError as error:
        raise OutputError(
            f"expected to write texts to {str(path)!r}, could not: {error.strerror or error}"
        ) from error
