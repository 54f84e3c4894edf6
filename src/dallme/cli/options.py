"""Options that several verbs share, declared once."""

from __future__ import annotations

import os
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dallme.cli import completion
from dallme.errors import InputError, UnknownNameError

if TYPE_CHECKING:
    from dallme.embedders.base import Embedder as EmbedderPart
    from dallme.evaluation.plans import Protocol as ProtocolPlan
    from dallme.evaluation.results import ResultStore
    from dallme.progress import Progress

Source = Annotated[
    str,
    typer.Argument(metavar="SOURCE", help="A file, a folder of files, or a Hugging Face id with optional :config and @split."),
]
Test = Annotated[str, typer.Option("--test", help="Real data to test on; a source like SOURCE.")]
OptionalTest = Annotated[str | None, typer.Option("--test", help="Real data to test on: prints the honest table.")]
TextColumn = Annotated[str | None, typer.Option("--text-column", help="Column with the texts; by default one with a usual name.")]
LabelColumn = Annotated[
    str | None, typer.Option("--label-column", help="Column with the classes; by default one with a usual name.")
]
IdColumn = Annotated[
    str | None, typer.Option("--id-column", help="Column with row ids for the lineage; by default rows are numbered.")
]
DropBadRows = Annotated[bool, typer.Option("--drop-bad-rows", help="Leave out rows without a usable text or label, and say so.")]
PerClass = Annotated[int | None, typer.Option("--per-class", help="Texts per class.")]
Ratio = Annotated[float | None, typer.Option("--ratio", help="Texts as a share of the rows, in (0, 1].")]
Total = Annotated[int | None, typer.Option("--total", help="Texts in all.")]
Allocation = Annotated[
    str,
    typer.Option(
        "--allocation",
        help="How a total is divided: equal, proportional or sqrt.",
        autocompletion=completion.words("equal", "proportional", "sqrt"),
    ),
]
Embedder = Annotated[
    str,
    typer.Option(
        "--embedder",
        help="A sentence-transformers model (Hub id or folder), openai:MODEL, ...; see: dallme list embedders.",
        autocompletion=completion.parts("embedders"),
    ),
]
Prompt = Annotated[str | None, typer.Option("--prompt", help="Task-specific prompt put before each text when it is embedded.")]
BaseUrl = Annotated[
    str | None,
    typer.Option(
        "--base-url",
        help="Address of a server that speaks OpenAI's protocol; for openai:MODEL and llm:MODEL.",
    ),
]
Dimensions = Annotated[int | None, typer.Option("--dimensions", help="Length of the vectors to ask a service for.")]
BudgetUsd = Annotated[
    float | None, typer.Option("--budget-usd", help="Most US dollars to spend on a service; stops before the limit.")
]
PriceUsd = Annotated[
    float | None,
    typer.Option("--price", help="US dollars per million tokens; by default DALLME_PRICES, then the built-in table."),
]
UnknownWords = Annotated[
    str | None,
    typer.Option("--unknown-words", help="glove: a text of words it does not know is an error, or a zero vector with: zero."),
]
Condenser = Annotated[
    str, typer.Option("--condenser", help="See: dallme list condensers.", autocompletion=completion.parts("condensers"))
]
Decoder = Annotated[
    str, typer.Option("--decoder", help="See: dallme list decoders.", autocompletion=completion.parts("decoders"))
]
MaxTokens = Annotated[int, typer.Option("--max-tokens", help="Most tokens of a distilled text.")]
Seed = Annotated[int, typer.Option("--seed", help="Seed of every random choice.")]
Store = Annotated[
    Path | None,
    typer.Option("--store", help="Folder that keeps embeddings; by default DALLME_STORE, or the user's cache folder."),
]
Engine = Annotated[
    str,
    typer.Option(
        "--engine",
        help="Where the work is done: local, or ray, on the machines of a Ray cluster.",
        autocompletion=completion.words("local", "ray"),
    ),
]
Address = Annotated[
    str | None,
    typer.Option(
        "--address", help="The Ray cluster, such as HOST:6379; by default RAY_ADDRESS, else one is started on this machine."
    ),
]
Classifiers = Annotated[
    str,
    typer.Option(
        "--classifiers",
        help="Comma-separated; see: dallme list classifiers.",
        autocompletion=completion.parts("classifiers", several=True),
    ),
]
Runs = Annotated[int, typer.Option("--runs", help="Runs with different seeds; mean and deviation are reported.")]
Sets = Annotated[
    int | None,
    typer.Option("--runs", help="Sets with different seeds, by default the protocol's; mean and deviation are reported."),
]
Protocol = Annotated[
    str | None,
    typer.Option(
        "--protocol",
        help="paper: 10 sets, learning rates chosen on held-out rows; dpc: 5 sets x 20 models, 200 steps.",
        autocompletion=completion.words("paper", "dpc"),
    ),
]
Models = Annotated[int | None, typer.Option("--models", help="Models that a neural classifier trains on each set.")]
LearningRate = Annotated[float | None, typer.Option("--learning-rate", help="Learning rate of neural classifiers.")]
Epochs = Annotated[int | None, typer.Option("--epochs", help="Passes over the training texts, for neural classifiers.")]
Steps = Annotated[int | None, typer.Option("--steps", help="Optimizer steps of neural classifiers, in place of epochs.")]
BatchSize = Annotated[int | None, typer.Option("--batch-size", help="Texts a step, for neural classifiers.")]
FullRuns = Annotated[int | None, typer.Option("--full-runs", help="Models that a neural classifier trains on the full data.")]
FullSteps = Annotated[
    int | None, typer.Option("--full-steps", help="Most optimizer steps of a neural classifier on the full data.")
]
NoCache = Annotated[bool, typer.Option("--no-cache", help="Train anew: neither use results of earlier runs nor keep these.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output and nothing else there.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what an earlier run wrote.")]


def store_folder(given: Path | None) -> Path:
    """The folder that keeps embeddings: the one given, else $DALLME_STORE, else the user's cache folder."""
    if given is not None:
        return given
    if os.environ.get("DALLME_STORE"):
        return Path(os.environ["DALLME_STORE"])
    from platformdirs import user_cache_path

    return user_cache_path("dallme") / "embeddings"


def result_store(store: Path | None, progress: Progress, *, no_cache: bool) -> ResultStore | None:
    """The folder that keeps results, within the one that keeps embeddings; None if none are to be kept."""
    from dallme.evaluation.results import ResultStore

    return None if no_cache else ResultStore(store_folder(store) / "results", progress)


def make_protocol(
    name: str | None,
    *,
    runs: int | None,
    models: int | None = None,
    learning_rate: float | None = None,
    epochs: int | None = None,
    steps: int | None = None,
    batch_size: int | None = None,
    full_runs: int | None = None,
    full_steps: int | None = None,
) -> ProtocolPlan:
    """The protocol of a name, or what is done without one, with the options that were given in place of its own.

    Raises:
        UnknownNameError: If there is no such protocol.
        InputError: If an option makes no sense.
    """
    from dallme.evaluation.plans import PLAIN, PROTOCOLS

    if name is not None and name not in PROTOCOLS:
        raise UnknownNameError("protocol", name, PROTOCOLS)
    if epochs is not None and steps is not None:
        raise InputError("expected at most one of --epochs and --steps, found both")
    protocol = PLAIN if name is None else PROTOCOLS[name]
    own = {"sets": runs, "models": models, "full_runs": full_runs, "full_steps": full_steps}
    training = {"learning_rate": learning_rate, "epochs": epochs, "steps": steps, "batch_size": batch_size}
    changed: dict[str, Any] = {option: value for option, value in training.items() if value is not None}
    if epochs is not None:
        changed["steps"] = None  # a protocol may count in steps
    kept: dict[str, Any] = {field: value for field, value in own.items() if value is not None}
    return replace(protocol, training={**protocol.training, **changed}, **kept)


def configure_embedder(
    name: str,
    *,
    base_url: str | None = None,
    dimensions: int | None = None,
    budget_usd: float | None = None,
    price: float | None = None,
    unknown_words: str | None = None,
    lenient: bool = False,
) -> str | EmbedderPart:
    """The embedder with the options that were given; without any the name itself, so that nothing is looked up before its time.

    Raises:
        InputError: If the embedder has no such option, and `lenient` does not say to pass it over.
    """
    found = {
        "--base-url": ("base_url", base_url),
        "--dimensions": ("dimensions", dimensions),
        "--budget-usd": ("max_usd", budget_usd),
        "--price": ("price", price),
        "--unknown-words": ("unknown", unknown_words),
    }
    given = {option: field for option, field in found.items() if field[1] is not None}
    if not given:
        return name

    from dallme.embedders.resolve import resolve

    takes = embedder_takes(name)
    unknown = [option for option, (field, _) in given.items() if field not in takes]
    if unknown and not lenient:
        raise InputError(f"expected no {unknown[0]} with the embedder {name!r}, which has no such option")
    return resolve(name, **{field: value for field, value in given.values() if field in takes})


def embedder_takes(name: str) -> set[str]:
    """The names of the options of the embedder that is meant by a name."""
    from dallme import registry

    known = {called: part for part in registry.PARTS if part.role == "embedders" for called in (part.name, *part.aliases)}
    part = known.get(name.partition(":")[0]) or registry.find("embedders", "sentence-transformer")
    return {field.name for field in fields(part.load())}


def split_names(names: str) -> list[str]:
    """The names of a comma-separated list.

    Raises:
        InputError: If there is none.
    """
    found = [name.strip() for name in names.split(",") if name.strip()]
    if not found:
        raise InputError(f"expected names separated by commas, found {names!r}")
    return found
