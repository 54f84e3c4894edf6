"""``dallme train-inverter``: teach a language model to write texts from the vectors of an embedder."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from dallme.cli import options
from dallme.cli.output import print_json, print_notes, print_table
from dallme.cli.progress import make_progress

#: Arguments of the verb that are options of the training, by the same names.
TRAINING = (
    "preset", "base", "correct", "minutes", "steps", "epochs", "batch_size", "learning_rate", "max_tokens", "noise", "mix",
    "dropout", "passages", "prompt", "lora_rank", "drafts", "patience", "save_every", "seed", "device",
)  # fmt: skip


def train_inverter(
    source: options.Source,
    output: Annotated[Path, typer.Option("--output", help="Folder to write to; OUTPUT.partial holds the checkpoints.")],
    embedder: options.Embedder = "all-MiniLM-L6-v2",
    preset: Annotated[str, typer.Option("--preset", help="Size: tiny, small or base.")] = "small",
    base: Annotated[
        str | None,
        typer.Option("--base", help="scratch, embedder, vec2text, smollm2, a Hub id or a folder; by default the preset's."),
    ] = None,
    correct: Annotated[bool, typer.Option("--correct/--no-correct", help="Train the corrector as well.")] = True,
    minutes: Annotated[float | None, typer.Option("--minutes", help="Time of the training, after the embedding.")] = None,
    steps: Annotated[int | None, typer.Option("--steps", help="Optimizer steps of each stage.")] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", help="Passes over the texts in each stage.")] = None,
    batch_size: Annotated[int | None, typer.Option("--batch-size", help="Texts a step.")] = None,
    learning_rate: Annotated[float | None, typer.Option("--learning-rate", help="Peak of the linear schedule.")] = None,
    max_tokens: Annotated[int | None, typer.Option("--max-tokens", help="Tokens that are learnt of a text.")] = None,
    noise: Annotated[float, typer.Option("--noise", help="Length of the Gaussian noise put on the vectors.")] = 0.0,
    mix: Annotated[float, typer.Option("--mix", help="Share of batches whose vectors are mixed with their neighbours'.")] = 0.0,
    dropout: Annotated[float, typer.Option("--dropout", help="Share of the activations that are dropped.")] = 0.1,
    passages: Annotated[int, typer.Option("--passages", help="Passages that are learnt of each text beside it.")] = 0,
    lora_rank: Annotated[int | None, typer.Option("--lora-rank", help="Train LoRA adapters of this rank only.")] = None,
    drafts: Annotated[int, typer.Option("--drafts", help="Most texts whose own hypotheses the corrector learns from.")] = 4_000,
    patience: Annotated[int, typer.Option("--patience", help="Measurements (ten a stage) without progress before it ends.")] = 4,
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
    from dallme.decoders.vec2text.folder import check_new
    from dallme.decoders.vec2text.training import TrainingOptions
    from dallme.decoders.vec2text.training import train_inverter as train
    from dallme.embedders.resolve import resolve
    from dallme.progress import SilentProgress
    from dallme.readers import read
    from dallme.store import EmbeddingStore, embed_with_store

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
        texts, model, output, name=embedder, embed=embed, resume=resume, overwrite=overwrite, progress=progress, **chosen
    )
    if not first:
        return
    if json:
        print_json({"output": str(output), "training": config.training, "scores": config.scores})
        return
    print(f"inverter for {config.embedder} in {output}; on {config.training['held_out']:,} held-out texts:")
    head = ["", "BLEU", "token F1", "exact", "cosine"]
    columns = ("bleu", "token_f1", "exact", "cosine")
    print_table(head, [[stage, *(f"{found[column]:.3f}" for column in columns)] for stage, found in config.scores.items()])
