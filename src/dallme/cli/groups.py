"""Groups of options: one parameter of a verb declares several command-line options."""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable, Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_type_hints

from dallme import registry
from dallme.cli import options
from dallme.cli.options import ADVANCED, BUDGET, PANELS, TRAINING, option, parts, words
from dallme.cli.settings import option_types, parse_settings, part_class, typed_options
from dallme.decoders.targets import find_target
from dallme.errors import InputError

if TYPE_CHECKING:
    from dallme.condensers.base import Condenser
    from dallme.data import LabelledTexts
    from dallme.distiller import Distiller
    from dallme.embedders.base import Embedder
    from dallme.embedders.cache import EmbeddingStore
    from dallme.evaluation.protocol import Protocol
    from dallme.progress import Progress


class Group:
    """A dataclass of options that is one parameter of a verb; see :func:`grouped`."""


def grouped(verb: Callable[..., None]) -> Callable[..., None]:
    """Gives a verb the signature that typer reads: each option of a :class:`Group` is a parameter of its own.

    Parameters are ordered by the panels of ``--help``.
    """
    signature = inspect.signature(verb, eval_str=True)
    groups: dict[str, type] = {}
    parameters: list[inspect.Parameter] = []
    for parameter in signature.parameters.values():
        kind = parameter.annotation
        if not (isinstance(kind, type) and issubclass(kind, Group)):
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))
            continue
        groups[parameter.name] = kind
        hints = get_type_hints(kind, include_extras=True)
        for field in fields(kind):  # type: ignore[arg-type]
            default = inspect.Parameter.empty if field.default is MISSING else field.default
            parameters.append(
                inspect.Parameter(
                    field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hints[field.name]
                )
            )

    @functools.wraps(verb)
    def command(**values: Any) -> None:
        made = {
            name: kind(**{field.name: values.pop(field.name) for field in fields(kind)})
            for name, kind in groups.items()
        }
        verb(**made, **values)

    parameters.sort(key=lambda parameter: (_panel(parameter), parameter.name == "settings"))
    command.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command


def _panel(parameter: inspect.Parameter) -> int:
    """Returns the position of a parameter's panel; arguments come first."""
    declared = get_args(parameter.annotation)
    panel = getattr(declared[1], "rich_help_panel", None) if len(declared) > 1 else None
    return PANELS.index(panel) if panel in PANELS else -1


@dataclass(frozen=True)
class DataOptions(Group):
    """Options for reading a source."""

    text_column: options.TextColumn = None
    label_column: options.LabelColumn = None
    drop_bad_rows: options.DropBadRows = False
    normalize_labels: options.NormalizeLabels = False
    missing_labels: options.MissingLabels = None
    max_bytes: options.MaxBytes = None
    delimiter: options.Delimiter = None
    encoding: options.Encoding = None
    no_header: options.NoHeader = False
    sheet: options.Sheet = None
    table: options.Table = None

    def flags(self) -> list[str]:
        """Returns the options that were given, as words of a command."""
        words = []
        for each in fields(self):
            value, flag = getattr(self, each.name), f"--{each.name.replace('_', '-')}"
            if value != each.default:
                words += [flag] if value is True else [flag, str(value)]
        return words

    def arguments(self) -> dict[str, Any]:
        """Returns the options as arguments of :func:`dallme.read`."""
        given = asdict(self)
        given["header"] = not given.pop("no_header")
        return given

    def read(self, source: str, **more: Any) -> LabelledTexts:
        """Reads a source; `more` are arguments of :func:`dallme.read`. Test data has no use for ids."""
        from dallme.readers import read

        arguments = self.arguments()
        if more.get("like") is not None:
            arguments.pop("id_column", None)
        return read(source, **arguments, **more)


@dataclass(frozen=True)
class DataWithIds(DataOptions):
    """Options for reading a source whose row ids are recorded in the lineage."""

    id_column: options.IdColumn = None


@dataclass(frozen=True)
class BudgetOptions(Group):
    """Options for the number of texts."""

    per_class: Annotated[int | None, option("--per-class", "Texts per class.", BUDGET)] = None
    ratio: Annotated[float | None, option("--ratio", "Texts as a share of the rows, in (0, 1].", BUDGET)] = (
        None
    )
    total: Annotated[int | None, option("--total", "Texts in all.", BUDGET)] = None
    allocation: Annotated[
        str,
        option(
            "--allocation",
            "How a total is divided: equal, proportional or sqrt.",
            ADVANCED,
            autocompletion=words("equal", "proportional", "sqrt"),
        ),
    ] = "equal"

    def check(self) -> None:
        """Checks the budget before anything is loaded.

        Raises:
            InputError: If it is not exactly one of the three, or out of range.
        """
        from dallme.data import Budget

        sizes = {"--per-class": self.per_class, "--ratio": self.ratio, "--total": self.total}
        named = [flag for flag, value in sizes.items() if value is not None]
        if len(named) != 1:
            found = ", ".join(named) or "none"
            raise InputError(f"expected exactly one of --per-class, --ratio and --total, found {found}")
        Budget(**asdict(self))


@dataclass(frozen=True)
class EmbedderOptions(Group):
    """The embedder, its options, and the store of its vectors."""

    embedder: options.Embedder = "all-MiniLM-L6-v2"
    prompt: options.Prompt = None
    settings: options.Set = None
    base_url: options.BaseUrl = None
    budget_usd: options.BudgetUsd = None
    price: options.PriceUsd = None
    insecure: options.Insecure = False
    store: options.Store = None

    @property
    def service(self) -> dict[str, Any]:
        """The options of a service that were given, by the names of the dataclass fields."""
        return options.service_options(self.base_url, self.budget_usd, self.price, self.insecure)

    def classifier_options(self, names: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Returns the options of ``--set classifier.OPTION`` for each of the classifiers that has them.

        Raises:
            InputError: If none of the classifiers has an option.
        """
        from dallme.evaluation.evaluate import check_classifiers

        names, values = check_classifiers(names), parse_settings(self.settings or ())["classifier"]
        known = {name: option_types("classifier", name) for name in names} if values else {}
        for each in values:
            if not any(each in types for types in known.values()):
                listed = sorted({option for types in known.values() for option in types})
                raise InputError(
                    f"None of the classifiers {', '.join(names)} has an option {each!r}. "
                    + (f"Options: {', '.join(listed)}." if listed else "They have no options.")
                )
        return {
            name: typed_options("classifier", name, {key: values[key] for key in values if key in types})
            for name, types in known.items()
        }

    def configured(self, *roles: str) -> str | Embedder:
        """Returns the embedder with its options; see :func:`~dallme.cli.options.configure_embedder`.

        Args:
            *roles: Other roles whose options the verb takes.
        """
        values = parse_settings(self.settings or (), ("embedder", *roles))["embedder"]
        return options.configure_embedder(self.embedder, values, self.service)

    def check_key(self) -> None:
        """Checks the key of the embedder before anything is read; see :func:`check_keys`."""
        check_keys(self, self.configured())

    def open_store(self) -> EmbeddingStore | None:
        """Returns the store of the vectors; None where the default folder cannot be written."""
        from dallme.embedders.cache import EmbeddingStore

        folder = options.writable_store(self.store)
        return None if folder is None else EmbeddingStore(folder)


def check_keys(parts: EmbedderOptions, embedder: str | Embedder, decoder: Any = None) -> None:
    """Checks the keys of services before the source is read; stored vectors and answers may need none.

    Raises:
        InputError: If a key is missing or cannot be one.
    """
    store = options.store_folder(parts.store)
    address = getattr(decoder, "address", None)
    if address is not None and not (store / "answers").is_dir():
        _read_key(address)
    if not getattr(part_class("embedder", parts.embedder), "paid", False):
        return
    from dallme.embedders import resolve

    service: Any = resolve(embedder)
    name = json.dumps(service.name)
    tables = store.glob("*/fingerprint.json")
    if not any(name in table.read_text(encoding="utf-8", errors="replace") for table in tables):
        _read_key(service.address)


def _read_key(address: str) -> None:
    from dallme.services.client import read_key

    read_key(address)


@dataclass(frozen=True)
class PipelineOptions(EmbedderOptions):
    """The three parts of the pipeline with their options."""

    condenser: Annotated[
        str,
        option("--condenser", "See: dallme list condensers.", ADVANCED, autocompletion=parts("condensers")),
    ] = "k-centroid"
    target: options.Target = "any"
    decoder: options.Decoder = None
    max_tokens: Annotated[int, option("--max-tokens", "Maximum tokens per distilled text.", ADVANCED)] = 128
    total_tokens: Annotated[
        int | None, option("--total-tokens", "Maximum tokens of all texts together.", BUDGET)
    ] = None
    seed: options.Seed = 0

    @property
    def decoder_name(self) -> str:
        """The decoder that was named, or that of the target."""
        return self.decoder or find_target(self.target).decoder

    def classifier_names(self, named: str | None) -> list[str]:
        """Returns the classifiers that were named, separated by commas, or those of the target."""
        return options.split_names(named) if named else list(find_target(self.target).classifiers)

    def distiller(self, budget: BudgetOptions, progress: Progress, **more: Any) -> Distiller:
        """Returns the distiller; `more` are arguments of its own, such as the engine.

        Raises:
            InputError: If an option cannot be used, or the key of a service is missing.
        """
        from dallme.distiller import Distiller

        settings = parse_settings(self.settings or ())
        embedder, decoder_options = options.configure(
            self.embedder, self.decoder_name, settings, self.service
        )
        condenser: str | Condenser = self.condenser
        if settings["condenser"]:
            chosen = typed_options("condenser", self.condenser, settings["condenser"])
            condenser = registry.make("condensers", self.condenser, **chosen)
        distiller = Distiller(
            **asdict(budget),
            embedder=embedder,
            condenser=condenser,
            target=self.target,
            decoder=self.decoder,
            decoder_options=decoder_options,
            prompt=self.prompt,
            max_tokens=self.max_tokens,
            total_tokens=self.total_tokens,
            seed=self.seed,
            store=options.writable_store(self.store),
            progress=progress,
            **more,
        )
        check_keys(self, embedder, distiller.resolved_decoder)
        return distiller


@dataclass(frozen=True)
class ProtocolOptions(Group):
    """Options for training and testing classifiers."""

    classifiers: options.Classifiers = None
    protocol: Annotated[
        str | None,
        option(
            "--protocol",
            "paper: 10 sets, learning rates chosen on held-out rows; dpc: 5 sets x 20 models, 200 steps.",
            TRAINING,
            autocompletion=words("paper", "dpc"),
        ),
    ] = None
    runs: Annotated[
        int | None,
        option(
            "--runs",
            "Sets with different seeds, by default the protocol's; mean and deviation are reported.",
            TRAINING,
        ),
    ] = None
    models: Annotated[
        int | None, option("--models", "Models that a neural classifier trains on each set.", ADVANCED)
    ] = None
    learning_rate: Annotated[
        float | None, option("--learning-rate", "Learning rate of neural classifiers.", ADVANCED)
    ] = None
    epochs: Annotated[
        int | None, option("--epochs", "Passes over the training texts, for neural classifiers.", ADVANCED)
    ] = None
    steps: Annotated[
        int | None, option("--steps", "Optimizer steps of neural classifiers, in place of epochs.", ADVANCED)
    ] = None
    batch_size: Annotated[
        int | None, option("--batch-size", "Texts per step, for neural classifiers.", ADVANCED)
    ] = None
    full_runs: Annotated[
        int | None,
        option("--full-runs", "Models that a neural classifier trains on the full data.", ADVANCED),
    ] = None
    full_steps: Annotated[
        int | None,
        option("--full-steps", "Maximum optimizer steps of a neural classifier on the full data.", ADVANCED),
    ] = None
    soft_labels: Annotated[
        bool,
        option("--soft-labels", "Also learn from soft labels, where a classifier can.", TRAINING),
    ] = False
    no_cache: options.NoCache = False

    @property
    def names(self) -> list[str]:
        """The classifiers that were named, or those of the default target."""
        return options.split_names(self.classifiers or ",".join(find_target("any").classifiers))

    def plan(self) -> Protocol:
        """Returns the protocol with the options that were given in place of its own."""
        given = asdict(self)
        return options.make_protocol(
            given.pop("protocol"), **{name: given[name] for name in _PROTOCOL_OPTIONS}
        )


#: Options of :func:`~dallme.cli.options.make_protocol`.
_PROTOCOL_OPTIONS = (
    "runs",
    "models",
    "learning_rate",
    "epochs",
    "steps",
    "batch_size",
    "full_runs",
    "full_steps",
)
