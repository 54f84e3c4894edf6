"""Options that several verbs share, declared once."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dallme import registry
from dallme.errors import InputError, UnknownNameError

if TYPE_CHECKING:
    from dallme.embedders.base import Embedder as EmbedderPart
    from dallme.evaluation.protocol import Protocol as ProtocolPlan
    from dallme.evaluation.results import ResultStore
    from dallme.progress import Progress

#: Models that may be named beside the parts of the role.
_MODELS = ("all-MiniLM-L6-v2",)


def parts(*roles: str, several: bool = False) -> Callable[[str], list[str]]:
    """Completes the names of parts.

    Args:
        *roles: Roles of the registry whose parts may be named.
        several: Whether the value is a comma-separated list; then its last name is completed.

    Returns:
        What typer's ``autocompletion`` takes: a function from the value as far as it is typed to the possible values.
    """
    names = [name for role in roles for name in registry.names(role)]
    return _completer([*_MODELS, *names] if "embedders" in roles else names, several=several)


def words(*known: str) -> Callable[[str], list[str]]:
    """Completes one of the given words; as :func:`parts`."""
    return _completer(list(known), several=False)


def _completer(known: list[str], *, several: bool) -> Callable[[str], list[str]]:
    def complete(incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",") if several else ("", "", incomplete)
        taken = before.split(",")
        return [f"{before}{comma}{name}" for name in known if name.startswith(last) and name not in taken]

    return complete


Source = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        help="A file, a folder of files, or a Hugging Face id with optional :config and @split.",
    ),
]
Test = Annotated[str, typer.Option("--test", help="Real data to test on; a source like SOURCE.")]
OptionalTest = Annotated[
    str | None, typer.Option("--test", help="Real data to test on: prints the honest table.")
]
TextColumn = Annotated[
    str | None, typer.Option("--text-column", help="Column with the texts; by default one with a usual name.")
]
LabelColumn = Annotated[
    str | None,
    typer.Option("--label-column", help="Column with the classes; by default one with a usual name."),
]
IdColumn = Annotated[
    str | None,
    typer.Option("--id-column", help="Column with row ids for the lineage; by default rows are numbered."),
]
DropBadRows = Annotated[
    bool, typer.Option("--drop-bad-rows", help="Leave out rows without a usable text or label, and say so.")
]
PerClass = Annotated[int | None, typer.Option("--per-class", help="Texts per class.")]
Ratio = Annotated[float | None, typer.Option("--ratio", help="Texts as a share of the rows, in (0, 1].")]
Total = Annotated[int | None, typer.Option("--total", help="Texts in all.")]
Allocation = Annotated[
    str,
    typer.Option(
        "--allocation",
        help="How a total is divided: equal, proportional or sqrt.",
        autocompletion=words("equal", "proportional", "sqrt"),
    ),
]
Embedder = Annotated[
    str,
    typer.Option(
        "--embedder",
        help="A sentence-transformers model (Hub id or folder), openai:MODEL, ...; see: dallme list embedders.",
        autocompletion=parts("embedders"),
    ),
]
Prompt = Annotated[
    str | None,
    typer.Option("--prompt", help="Task-specific prompt put before each text when it is embedded."),
]
BaseUrl = Annotated[
    str | None,
    typer.Option(
        "--base-url",
        help="Address of a server that speaks OpenAI's protocol; for openai:MODEL and llm:MODEL.",
    ),
]
Dimensions = Annotated[
    int | None, typer.Option("--dimensions", help="Length of the vectors to ask a service for.")
]
BudgetUsd = Annotated[
    float | None,
    typer.Option("--budget-usd", help="Most US dollars to spend on a service; stops before the limit."),
]
PriceUsd = Annotated[
    float | None,
    typer.Option(
        "--price", help="US dollars per million tokens; by default DALLME_PRICES, then the built-in table."
    ),
]
UnknownWords = Annotated[
    str | None,
    typer.Option(
        "--unknown-words",
        help="glove: a text of words it does not know is an error, or a zero vector with: zero.",
    ),
]
Condenser = Annotated[
    str, typer.Option("--condenser", help="See: dallme list condensers.", autocompletion=parts("condensers"))
]
Decoder = Annotated[
    str, typer.Option("--decoder", help="See: dallme list decoders.", autocompletion=parts("decoders"))
]
MaxTokens = Annotated[int, typer.Option("--max-tokens", help="Most tokens of a distilled text.")]
Seed = Annotated[int, typer.Option("--seed", help="Seed of every random choice.")]
Store = Annotated[
    Path | None,
    typer.Option(
        "--store", help="Folder that keeps embeddings; by default DALLME_STORE, or the user's cache folder."
    ),
]
Engine = Annotated[
    str,
    typer.Option(
        "--engine",
        help="Where the work is done: local, or ray, on the machines of a Ray cluster.",
        autocompletion=words("local", "ray"),
    ),
]
Address = Annotated[
    str | None,
    typer.Option(
        "--address",
        help="The Ray cluster, such as HOST:6379; by default RAY_ADDRESS, else one is started on this machine.",
    ),
]
Classifiers = Annotated[
    str,
    typer.Option(
        "--classifiers",
        help="Comma-separated; see: dallme list classifiers.",
        autocompletion=parts("classifiers", several=True),
    ),
]
Runs = Annotated[
    int, typer.Option("--runs", help="Runs with different seeds; mean and deviation are reported.")
]
Sets = Annotated[
    int | None,
    typer.Option(
        "--runs",
        help="Sets with different seeds, by default the protocol's; mean and deviation are reported.",
    ),
]
Protocol = Annotated[
    str | None,
    typer.Option(
        "--protocol",
        help="paper: 10 sets, learning rates chosen on held-out rows; dpc: 5 sets x 20 models, 200 steps.",
        autocompletion=words("paper", "dpc"),
    ),
]
Models = Annotated[
    int | None, typer.Option("--models", help="Models that a neural classifier trains on each set.")
]
LearningRate = Annotated[
    float | None, typer.Option("--learning-rate", help="Learning rate of neural classifiers.")
]
Epochs = Annotated[
    int | None, typer.Option("--epochs", help="Passes over the training texts, for neural classifiers.")
]
Steps = Annotated[
    int | None, typer.Option("--steps", help="Optimizer steps of neural classifiers, in place of epochs.")
]
BatchSize = Annotated[int | None, typer.Option("--batch-size", help="Texts a step, for neural classifiers.")]
FullRuns = Annotated[
    int | None, typer.Option("--full-runs", help="Models that a neural classifier trains on the full data.")
]
FullSteps = Annotated[
    int | None,
    typer.Option("--full-steps", help="Most optimizer steps of a neural classifier on the full data."),
]
NoCache = Annotated[
    bool, typer.Option("--no-cache", help="Train anew: neither use results of earlier runs nor keep these.")
]
Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON document on standard output and nothing else there.")
]
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
    from dallme.evaluation.protocol import DEFAULT, PROTOCOLS

    if name is not None and name not in PROTOCOLS:
        raise UnknownNameError("protocol", name, PROTOCOLS)
    if epochs is not None and steps is not None:
        raise InputError("expected at most one of --epochs and --steps, found both")
    protocol = DEFAULT if name is None else PROTOCOLS[name]
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

    known = {
        called: part
        for part in registry.PARTS
        if part.role == "embedders"
        for called in (part.name, *part.aliases)
    }
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


DecoderSteps = Annotated[
    int | None, typer.Option("--decoder-steps", help="vec2text: correction steps, 5 by default.")
]
Beam = Annotated[
    int | None, typer.Option("--beam", help="vec2text, search: texts held for each prototype, 4 by default.")
]
Start = Annotated[
    str | None,
    typer.Option(
        "--start", help="vec2text: what is corrected: nearest (real text, the default) or hypothesis."
    ),
]
Align = Annotated[
    bool,
    typer.Option(
        "--align", help="vec2text: map the vectors into the inverter's space, if it is of another embedder."
    ),
]
Drafts = Annotated[
    int | None,
    typer.Option(
        "--drafts", help="llm: texts written for each prototype, of which one is kept; 4 by default."
    ),
]
Examples = Annotated[
    int | None, typer.Option("--examples", help="llm: rows that the model is shown, 4 by default.")
]
Temperature = Annotated[
    float | None, typer.Option("--temperature", help="llm, search: how freely the model writes.")
]
MaxCopiedSpan = Annotated[
    int | None,
    typer.Option(
        "--max-copied-span",
        help="llm, search: most words in a row that a text may share with one source row.",
    ),
]
Language = Annotated[
    str | None,
    typer.Option(
        "--language", help="ISO 639-1 code of the texts, for finding the ends of sentences; en by default."
    ),
]
OutputPrice = Annotated[
    float | None,
    typer.Option("--output-price", help="llm: US dollars per million tokens written, beside --price."),
]


def configure_decoder(
    name: str,
    *,
    steps: int | None = None,
    beam: int | None = None,
    start: str | None = None,
    align: bool = False,
    drafts: int | None = None,
    examples: int | None = None,
    temperature: float | None = None,
    max_copied_span: int | None = None,
    output_price: float | None = None,
    language: str | None = None,
) -> dict[str, Any]:
    """The options that were given, as the decoder's own.

    Args:
        name: ``NAME`` or ``NAME:ARGUMENT``.
        steps: ``--decoder-steps``.
        beam: ``--beam``.
        start: ``--start``.
        align: ``--align``.
        drafts: ``--drafts``.
        examples: ``--examples``.
        temperature: ``--temperature``.
        max_copied_span: ``--max-copied-span``.
        output_price: ``--output-price``.
        language: ``--language``.

    Raises:
        InputError: If the decoder has no such option.
    """
    found = {
        "--decoder-steps": ("steps", steps),
        "--beam": ("beam", beam),
        "--start": ("start", start),
        "--align": ("align", align or None),
        "--drafts": ("drafts", drafts),
        "--examples": ("examples", examples),
        "--temperature": ("temperature", temperature),
        "--max-copied-span": ("max_copied_span", max_copied_span),
        "--output-price": ("output_price", output_price),
        "--language": ("language", language),
    }
    given = {option: field for option, field in found.items() if field[1] is not None}
    if not given:
        return {}
    takes = decoder_takes(name)
    for option, (field, _) in given.items():
        if field not in takes:
            raise InputError(f"expected no {option} with the decoder {name!r}, which has no such option")
    return dict(given.values())


def decoder_takes(name: str) -> set[str]:
    """The names of the options of a decoder."""
    part, _ = registry.split("decoders", name)
    return {field.name for field in fields(part.load())}


def configure(
    embedder: str, decoder: str, options_given: dict[str, Any], services: dict[str, Any]
) -> tuple[str | EmbedderPart, dict[str, Any]]:
    """The embedder and the options of the decoder; those of a service go to whichever of the two asks one, or to both.

    Args:
        embedder: The embedder, as it was named.
        decoder: The decoder, as it was named.
        options_given: As :func:`configure_decoder` takes them.
        services: ``base_url``, ``dimensions``, ``budget_usd``, ``price`` and ``unknown_words``, None for those not given.

    Returns:
        The embedder, and all options of the decoder.

    Raises:
        InputError: If neither has such an option, or if one amount of money is given for two services.
    """
    own = configure_decoder(decoder, **options_given)
    shared = {
        name: services[name] for name in ("base_url", "budget_usd", "price") if services[name] is not None
    }
    if not shared or "base_url" not in decoder_takes(decoder):
        return configure_embedder(embedder, **services), own
    both = "base_url" in embedder_takes(embedder)
    if both and set(shared) - {"base_url"}:
        raise InputError(
            f"expected --budget-usd and --price for one service, found two, {embedder!r} and {decoder!r}; embed first, with "
            "dallme embed and a budget of its own, then distil from the store; prices of several models go into the file that "
            "DALLME_PRICES names"
        )
    left = {name: services[name] for name in ("dimensions", "unknown_words")} | (
        {"base_url": services["base_url"]} if both else {}
    )
    names = {"budget_usd": "max_usd"}
    return configure_embedder(embedder, **left), own | {
        names.get(name, name): value for name, value in shared.items()
    }
