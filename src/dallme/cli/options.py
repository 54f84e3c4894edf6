"""Options that several verbs share, and functions that use their values."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dallme import registry
from dallme.cli.output import show_note
from dallme.cli.settings import option_types, typed_options
from dallme.errors import InputError, UnknownNameError

if TYPE_CHECKING:
    from dallme.embedders.base import Embedder as EmbedderPart
    from dallme.evaluation.protocol import Protocol as ProtocolPlan
    from dallme.evaluation.results import ResultStore
    from dallme.progress import Progress

#: Panels of ``--help``, in their order; the last one holds what few users need.
DATA, BUDGET, EMBEDDER, DECODER, OUTPUT, TRAINING, THRESHOLDS, ADVANCED = PANELS = (
    "Data",
    "Budget",
    "Embedder",
    "Decoder",
    "Output",
    "Training",
    "Thresholds",
    "Advanced",
)

#: A model that can be named where a part of a role is expected.
_MODELS = ("all-MiniLM-L6-v2",)


def parts(*roles: str, several: bool = False) -> Callable[[str], list[str]]:
    """Returns a completion of the names of parts, as typer's ``autocompletion`` takes it.

    Args:
        *roles: Roles of the registry whose parts can be named.
        several: Whether the value is a comma-separated list; then its last name is completed.
    """
    names = [name for role in roles for name in registry.names(role)]
    return _completer([*_MODELS, *names] if "embedders" in roles else names, several=several)


def words(*known: str) -> Callable[[str], list[str]]:
    """Returns a completion of one of the given words."""
    return _completer(list(known), several=False)


def _completer(known: list[str], *, several: bool) -> Callable[[str], list[str]]:
    def complete(incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",") if several else ("", "", incomplete)
        taken = before.split(",")
        return [f"{before}{comma}{name}" for name in known if name.startswith(last) and name not in taken]

    return complete


def option(flag: str, help: str, panel: str | None = None, **more: Any) -> Any:
    """Declares an option in a panel of ``--help``."""
    return typer.Option(flag, help=help, rich_help_panel=panel, **more)


Source = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        help="A file, a folder of files, or a Hugging Face id with optional :config and @split.",
    ),
]
Folder = Annotated[Path, typer.Argument(metavar="DIR", help="A folder that distill wrote.")]
Test = Annotated[str, option("--test", "Real data to test on; a source like SOURCE.", DATA)]
OptionalTest = Annotated[
    str | None,
    option("--test", "Real data to test on: adds a table of accuracies.", DATA),
]
SetSource = Annotated[
    str | None,
    option(
        "--source", "The data that the set was distilled from: adds the map and the nearest real texts.", DATA
    ),
]
SetEmbedder = Annotated[
    str | None,
    option(
        "--embedder",
        "Embedder in place of the one that the set was made with.",
        EMBEDDER,
        autocompletion=parts("embedders"),
    ),
]
Points = Annotated[int, option("--points", "Maximum number of source rows on the map.", OUTPUT)]
TextColumn = Annotated[
    str | None,
    option(
        "--text-column",
        "Column with the texts, by default one with a usual name; a,b joins two, a.b is nested.",
        DATA,
    ),
]
LabelColumn = Annotated[
    str | None, option("--label-column", "Column with the classes; by default one with a usual name.", DATA)
]
IdColumn = Annotated[
    str | None,
    option("--id-column", "Column with row ids for the lineage; by default rows are numbered.", ADVANCED),
]
DropBadRows = Annotated[
    bool,
    option("--drop-bad-rows", "Skip rows without a usable text or label, and report their number.", ADVANCED),
]
NormalizeLabels = Annotated[
    bool,
    option(
        "--normalize-labels",
        "Merge labels that differ only in case, white space or invisible characters.",
        DATA,
    ),
]
MissingLabels = Annotated[
    str | None,
    option(
        "--missing-labels",
        "Labels that mean a missing one, such as NA,-; '' keeps all. By default such labels are an error.",
        ADVANCED,
    ),
]
Delimiter = Annotated[
    str | None, option("--delimiter", "Delimiter of a CSV file; by default it is detected.", ADVANCED)
]
Encoding = Annotated[
    str | None, option("--encoding", "Encoding of text files; by default it is detected.", ADVANCED)
]
NoHeader = Annotated[
    bool,
    option("--no-header", "The first line is a row: columns are column_1, column_2 and so on.", ADVANCED),
]
Sheet = Annotated[str | None, option("--sheet", "Sheet of a spreadsheet; by default the first.", ADVANCED)]
Table = Annotated[str | None, option("--table", "Table of a SQLite file; by default the only one.", ADVANCED)]
MaxBytes = Annotated[
    int | None,
    option(
        "--max-bytes",
        "Bytes that the source may take in memory; by default 1 GiB, or 100 times its size.",
        ADVANCED,
    ),
]
Embedder = Annotated[
    str,
    option(
        "--embedder",
        "A sentence-transformers model, openai:MODEL, ...; see: dallme list embedders.",
        EMBEDDER,
        autocompletion=parts("embedders"),
    ),
]
Prompt = Annotated[
    str | None, option("--prompt", "Task-specific prompt put before each text when it is embedded.", ADVANCED)
]
Set = Annotated[
    list[str] | None,
    option(
        "--set",
        "Option of a part, such as decoder.beam=8; an unknown one lists the known ones. Repeatable.",
        DECODER,
        metavar="ROLE.OPTION=VALUE",
    ),
]
BaseUrl = Annotated[
    str | None,
    option(
        "--base-url",
        "Address of a server that speaks OpenAI's protocol; for openai:MODEL and llm:MODEL.",
        ADVANCED,
    ),
]
BudgetUsd = Annotated[
    float | None,
    option(
        "--budget-usd",
        "Budget in US dollars for a service; a request that could exceed it is not sent.",
        ADVANCED,
    ),
]
PriceUsd = Annotated[
    float | None,
    option(
        "--price",
        "US dollars per million tokens; by default DALLME_PRICES, then the built-in table.",
        ADVANCED,
    ),
]
Insecure = Annotated[
    bool,
    option(
        "--insecure",
        "Let --base-url begin with http:// for another machine: texts go there unencrypted, a key never.",
        ADVANCED,
    ),
]
Target = Annotated[
    str,
    option(
        "--for",
        "What you will train: any, words, vectors, encoder or prompt; chooses the decoder.",
        BUDGET,
        autocompletion=words("any", "words", "vectors", "encoder", "prompt"),
    ),
]
Decoder = Annotated[
    str | None,
    option(
        "--decoder",
        "Part that writes the texts, by default that of --for; see: dallme list decoders.",
        DECODER,
        autocompletion=parts("decoders"),
    ),
]
Seed = Annotated[int, option("--seed", "Seed of every random choice.", ADVANCED)]
Store = Annotated[
    Path | None,
    option(
        "--store",
        "Folder that keeps embeddings; by default DALLME_STORE, or the user's cache folder.",
        ADVANCED,
    ),
]
Classifiers = Annotated[
    str | None,
    option(
        "--classifiers",
        "Comma-separated; by default those of --for. See: dallme list classifiers.",
        TRAINING,
        autocompletion=parts("classifiers", several=True),
    ),
]
Holdout = Annotated[
    float | None,
    option(
        "--holdout",
        "Share of rows held out to test on, without --test; by default 0.2 where rows suffice. 0: none.",
        DATA,
    ),
]
AllowPersonal = Annotated[
    bool,
    option(
        "--allow-personal",
        "Let texts with e-mail addresses, telephone numbers and the like go out.",
        ADVANCED,
    ),
]
NoReport = Annotated[
    bool, option("--no-report", "Write no report.html; its map takes a while with many rows.", OUTPUT)
]
NoCache = Annotated[bool, option("--no-cache", "Train again: neither read nor store results.", ADVANCED)]
Json = Annotated[
    bool, option("--json", "Print one JSON document on standard output and nothing else there.", OUTPUT)
]
Overwrite = Annotated[bool, option("--overwrite", "Replace what an earlier run wrote.", OUTPUT)]


def store_folder(given: Path | None) -> Path:
    """Returns the folder that keeps embeddings: the given one, $DALLME_STORE, or the user's cache folder."""
    if given is not None:
        return given
    if os.environ.get("DALLME_STORE"):
        return Path(os.environ["DALLME_STORE"])
    from platformdirs import user_cache_path

    return user_cache_path("dallme") / "embeddings"


def writable_store(given: Path | None) -> Path | None:
    """Returns the folder that keeps embeddings, or None with a note where the cache folder is read-only."""
    folder = store_folder(given)
    parent = next((each for each in (folder, *folder.parents) if each.exists()), folder)
    named = given is not None or os.environ.get("DALLME_STORE")
    if named or (parent.is_dir() and os.access(parent, os.W_OK | os.X_OK)):
        return folder
    _note_once(
        f"vectors are not kept: {folder} cannot be written; name a folder with --store or DALLME_STORE"
    )
    return None


@functools.cache
def _note_once(note: str) -> None:
    show_note(note)


def result_store(store: Path | None, progress: Progress, *, no_cache: bool) -> ResultStore | None:
    """Returns the folder that keeps results, within the one that keeps embeddings; None if none are kept."""
    from dallme.evaluation.results import ResultStore

    folder = None if no_cache else writable_store(store)
    return None if folder is None else ResultStore(folder / "results", progress)


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
    """Returns a named protocol, or the default one, with the given options in place of its own.

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
    chosen: dict[str, Any] = {field: value for field, value in own.items() if value is not None}
    return replace(protocol, training={**protocol.training, **changed}, **chosen)


def split_names(names: str) -> list[str]:
    """Splits a comma-separated list.

    Raises:
        InputError: If there is no name in it.
    """
    found = [name.strip() for name in names.split(",") if name.strip()]
    if not found:
        raise InputError(f"expected names separated by commas, found {names!r}")
    return found


def service_options(
    base_url: str | None, max_usd: float | None, price: float | None, insecure: bool
) -> dict[str, Any]:
    """Returns the options of a service that were given, by the names of the dataclass fields."""
    values = {"base_url": base_url, "max_usd": max_usd, "price": price, "insecure": insecure or None}
    return {name: value for name, value in values.items() if value is not None}


def configure_embedder(
    name: str, values: Mapping[str, str], service: Mapping[str, Any], *, lenient: bool = False
) -> str | EmbedderPart:
    """Returns an embedder with its options; without any its name, so that nothing is looked up too early.

    Args:
        name: The embedder, as it was named.
        values: Options of ``--set``, by name.
        service: ``base_url``, ``max_usd``, ``price`` and ``insecure``, as far as given.
        lenient: Whether to ignore options that the embedder lacks, as with several embedders.

    Raises:
        InputError: If the embedder has no such option.
    """
    if not (values or service):
        return name
    from dallme.embedders import resolve

    known = option_types("embedder", name)
    if lenient:
        values = {option: value for option, value in values.items() if option in known}
        service = {option: value for option, value in service.items() if option in known}
    for option in service:
        if option not in known:
            raise InputError(
                f"expected no {_FLAGS[option]} with the embedder {name!r}, which calls no service"
            )
    return resolve(name, **typed_options("embedder", name, values), **service)


#: Options of a service by the flags that give them.
_FLAGS = {
    "base_url": "--base-url",
    "max_usd": "--budget-usd",
    "price": "--price",
    "insecure": "--insecure",
}


def configure(
    embedder: str, decoder: str, settings: Mapping[str, Mapping[str, str]], service: Mapping[str, Any]
) -> tuple[str | EmbedderPart, dict[str, Any]]:
    """Returns the embedder and the options of the decoder; those of a service go to the part that calls one.

    Args:
        embedder: The embedder, as it was named.
        decoder: The decoder, as it was named.
        settings: Role to options of ``--set``.
        service: ``base_url``, ``max_usd``, ``price`` and ``insecure``, as far as given.

    Raises:
        InputError: If a part has no such option, or one amount of money is given for two services.
    """
    options = typed_options("decoder", decoder, settings["decoder"])
    values = settings["embedder"]
    if not service or "base_url" not in option_types("decoder", decoder):
        return configure_embedder(embedder, values, service), options
    if "base_url" not in option_types("embedder", embedder):
        return configure_embedder(embedder, values, {}), options | dict(service)
    if set(service) - {"base_url", "insecure"}:
        raise InputError(
            f"expected --budget-usd and --price for one service, found two, {embedder!r} and {decoder!r}; "
            "name the part, as in --set decoder.max_usd=1 --set decoder.price=2"
        )
    return configure_embedder(embedder, values, service), options | dict(service)
