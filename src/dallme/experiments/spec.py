"""What an experiment is: grids of cells, in editions, with what the paper reports beside them."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, replace
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

from dallme.errors import InputError, UnknownNameError
from dallme.evaluation.protocol import DEFAULT, PROTOCOLS, Protocol

#: Kinds of cells; :mod:`dallme.experiments.kinds` has a function for each.
KINDS = ("accuracy", "probe", "cost", "training", "inverter")

#: Fields of a grid that list values; a cell takes one of each.
AXES = (
    "data",
    "per_class",
    "ratio",
    "embedder",
    "prompt",
    "condenser",
    "inverter_steps",
    "method",
    "classifier",
)


@dataclass(frozen=True)
class Source:
    """Where a data set is.

    Attributes:
        train: A Hub id with an optional ``@split``, or a path; a relative one is looked for below ``--data``.
        test: The same for the test set, or empty where none is needed.
        text_column: Column of the texts, or empty where it has a usual name.
        label_column: Column of the classes, or empty where it has a usual name.
    """

    train: str
    test: str = ""
    text_column: str = ""
    label_column: str = ""


@dataclass(frozen=True)
class Candidate:
    """Ready sets that others published: a file, or a folder of files, each of them a set.

    Attributes:
        path: A path as in :class:`Source`.
        text_column: Column of the texts, or empty.
        label_column: Column of the classes, or empty.
    """

    path: str
    text_column: str = ""
    label_column: str = ""


@dataclass(frozen=True)
class Grid:
    """Cells that are run alike: the product of its lists, under one set of options.

    Attributes:
        data: Names of data sets.
        per_class: Texts a class; give these or ratios.
        ratio: Shares of the source's rows.
        embedder: Names of embedders.
        prompt: Task prompts; an empty one is none.
        condenser: Names of condensers.
        inverter_steps: Steps that an inverter is trained for before ``vec2text`` decodes with it; 0 trains none.
        method: Names of baselines, decoders and candidates.
        classifier: Names of classifiers.
        label: What the rows of this grid are called in place of the values of the table's row axes.
        decoder_options: Options of the decoder, for methods that are decoders and have them.
        candidates: Name to ready sets; a name is a method as well.
        protocol: ``paper``, ``dpc``, or empty for the plain one.
        sets: Sets that a method makes, in place of the protocol's.
        models: Models on each set, in place of the protocol's.
        full_runs: Models on the full data.
        full_steps: Most optimizer steps on the full data; 0 sets no limit.
        training: Options of neural classifiers, such as learning_rate and steps.
        train_rows: Rows that are sampled of the source; 0 takes all.
        test_rows: Rows that are sampled of the test set; 0 takes all.
        max_tokens: Most tokens of a distilled text.
        preset: Preset of the inverters that are trained.
        corpus_rows: For ``cost``: rows that the plan is scaled to; 0 leaves it as it is.
        seed: Seed of the first run.
    """

    data: tuple[str, ...] = ()
    per_class: tuple[int, ...] = ()
    ratio: tuple[float, ...] = ()
    embedder: tuple[str, ...] = ("all-MiniLM-L6-v2",)
    prompt: tuple[str, ...] = ("",)
    condenser: tuple[str, ...] = ("k-centroid",)
    inverter_steps: tuple[int, ...] = (0,)
    method: tuple[str, ...] = ()
    classifier: tuple[str, ...] = ()
    label: str = ""
    decoder_options: Mapping[str, Any] = field(default_factory=dict)
    candidates: Mapping[str, Candidate] = field(default_factory=dict)
    protocol: str = ""
    sets: int = 0
    models: int = 0
    full_runs: int = 1
    full_steps: int = 0
    training: Mapping[str, Any] = field(default_factory=dict)
    train_rows: int = 0
    test_rows: int = 0
    max_tokens: int = 128
    preset: str = "small"
    corpus_rows: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        """Checks what can be checked without loading anything."""
        if self.per_class and self.ratio:
            raise InputError("expected per_class or ratio in a grid, found both")
        if self.protocol and self.protocol not in PROTOCOLS:
            raise UnknownNameError("protocol", self.protocol, PROTOCOLS)

    def plan(self) -> Protocol:
        """The protocol of this grid with its own numbers in it."""
        base = PROTOCOLS.get(self.protocol, DEFAULT)
        options = dict(base.training) | dict(self.training)
        return replace(
            base,
            sets=self.sets or base.sets,
            draws=self.sets or base.draws,
            models=self.models or base.models,
            full_runs=self.full_runs,
            full_steps=self.full_steps or None,
            training=options,
        )


@dataclass(frozen=True)
class Edition:
    """One way to run an experiment.

    Attributes:
        differs: What is not as in the paper, a sentence each.
        data: Name to data set.
        grid: The grids.
        beside: Row of our table to the row of the paper's that stands for the same.
        columns: Column of our table to that of the paper's.
        reasons: Row of our table, or ``ROW | COLUMN``, to a sentence that says why it falls short of the paper's.
    """

    differs: tuple[str, ...]
    data: Mapping[str, Source]
    grid: tuple[Grid, ...]
    beside: Mapping[str, str] = field(default_factory=dict)
    columns: Mapping[str, str] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Experiment:
    """One table or figure.

    Attributes:
        name: Its name, which is the file's.
        title: One line that says what it shows.
        place: Where the paper has it, such as ``Table 1, section 5.1``.
        kind: One of :data:`KINDS`.
        rows: Axes whose values name a row of the table.
        columns: Axes whose values name a column.
        measures: What a cell of the table shows of a result; several give a column each.
        average: Whether the mean over the columns is a column of its own.
        figure: ``lines``, ``bars`` or ``scatter``, or empty for none.
        x: Axis or measure along which a figure is drawn.
        reported: What the paper reports: row, column, then mean and, where it is given, deviation.
        says: What the paper concludes, in our words.
        editions: Name to edition.
    """

    name: str
    title: str
    place: str
    kind: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    editions: Mapping[str, Edition]
    measures: tuple[str, ...] = ("accuracy",)
    average: bool = False
    figure: str = ""
    x: str = ""
    reported: Mapping[str, Mapping[str, Sequence[float]]] = field(default_factory=dict)
    says: str = ""

    def __post_init__(self) -> None:
        """Checks the names of kind, axes and figure."""
        if self.kind not in KINDS:
            raise UnknownNameError("kind", self.kind, KINDS)
        for axis in (*self.rows, *self.columns):
            if axis not in AXES:
                raise UnknownNameError("axis", axis, AXES)
        if self.figure not in ("", "lines", "bars", "scatter"):
            raise UnknownNameError("figure", self.figure, ("lines", "bars", "scatter"))

    def edition(self, name: str) -> Edition:
        """The edition of that name.

        Raises:
            UnknownNameError: If there is none.
        """
        if name not in self.editions:
            raise UnknownNameError("edition", name, self.editions)
        return self.editions[name]


#: Ending of experiment files.
SUFFIX = ".toml"

_Record = TypeVar("_Record")

#: Types of plain values, by their annotation.
_PLAIN: dict[str, tuple[type, ...]] = {"str": (str,), "int": (int,), "float": (int, float), "bool": (bool,)}


def experiment_names() -> list[str]:
    """The names of the experiments that come with dallme."""
    return sorted(
        entry.name.removesuffix(SUFFIX) for entry in _folder().iterdir() if entry.name.endswith(SUFFIX)
    )


def load_experiment(name: str, overrides: Sequence[str] = ()) -> Experiment:
    """Reads an experiment.

    Args:
        name: Its name, or the path of a TOML file of the user's.
        overrides: ``KEY=VALUE`` each: a key of a grid, which is set in all grids of all editions, or a dotted path such as
            ``data.imdb.train``; the value is TOML, or else a string.

    Raises:
        UnknownNameError: If there is no such experiment, or a key is not known.
        InputError: If the file cannot be read, or a value has the wrong type.
    """
    if name.endswith(SUFFIX):
        path = Path(name)
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise InputError(f"expected an experiment in {name!r}, could not read it: {reason}") from error
        where = path.stem
    elif name in experiment_names():
        text, where = (_folder() / f"{name}{SUFFIX}").read_text(encoding="utf-8"), name
    else:
        raise UnknownNameError("experiment", name, experiment_names())
    return parse_experiment(text, where, overrides)


def parse_experiment(text: str, name: str, overrides: Sequence[str] = ()) -> Experiment:
    """Makes an experiment from the text of a TOML file.

    An edition may hold any key of a grid: it then holds for all its grids that do not say otherwise.
    """
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"expected TOML in the experiment {name!r}, could not read it: {error}") from error
    editions = content.pop("editions", None)
    if not isinstance(editions, dict) or not editions:
        raise InputError(f"experiment {name!r}: expected [editions.NAME], found none")
    _check_data(overrides, editions)
    parsed = {
        each: _edition(found, f"{name}: editions.{each}", overrides) for each, found in editions.items()
    }
    return _build(Experiment, content | {"name": name, "editions": parsed}, name)


def _edition(content: Any, where: str, overrides: Sequence[str]) -> Edition:
    content = dict(_mapping(content, where))
    grids = content.pop("grid", [{}])
    if not isinstance(grids, list) or not grids:
        raise InputError(f"{where}: expected [[grid]] tables, found {grids!r}")
    own = {each.name for each in fields(Edition)}
    sources = _mapping(content.pop("data", {}), f"{where}.data")
    axes = {"data": content.pop("datasets", list(sources))}
    common = axes | {key: content.pop(key) for key in [*content] if key not in own}
    merged = [common | _renamed(_mapping(each, f"{where}.grid")) for each in grids]
    sources = {each: dict(_mapping(found, f"{where}.data.{each}")) for each, found in sources.items()}
    for override in overrides:
        _override(override, merged, sources, where)
    built = {each: _build(Source, found, f"{where}.data.{each}") for each, found in sources.items()}
    made = tuple(_grid(each, f"{where}.grid[{place}]", built) for place, each in enumerate(merged))
    return _build(Edition, content | {"data": built, "grid": made}, where)


def _renamed(grid: Mapping[str, Any]) -> dict[str, Any]:
    """A grid names its data sets as an edition does, whose `data` says where they are."""
    found = dict(grid)
    if "datasets" in found:
        found["data"] = found.pop("datasets")
    return found


def _grid(content: Mapping[str, Any], where: str, data: Mapping[str, Source]) -> Grid:
    candidates = _mapping(content.get("candidates", {}), f"{where}.candidates")
    parsed = {
        name: _build(Candidate, _mapping(found, where), f"{where}.candidates.{name}")
        for name, found in candidates.items()
    }
    grid = _build(Grid, {**content, "candidates": parsed}, where)
    for name in grid.data:
        if name not in data:
            raise UnknownNameError(f"data set of {where}", name, data)
    return grid


def _override(
    override: str, grids: list[dict[str, Any]], sources: dict[str, dict[str, Any]], where: str
) -> None:
    """Sets one key, in place."""
    key, sign, text = override.partition("=")
    if not sign or not key:
        raise InputError(f"expected KEY=VALUE to set, found {override!r}")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    path = key.strip().split(".")
    if path[0] == "data" and len(path) == 3:
        if path[1] in sources:
            sources[path[1]][path[2]] = value
        return
    for grid in grids:
        if len(path) == 1:
            name = "data" if path[0] == "datasets" else path[0]
            grid[name] = [value] if name in AXES and not isinstance(value, list) else value
        elif len(path) == 2 and path[0] in ("training", "decoder_options"):
            grid[path[0]] = {**_mapping(grid.get(path[0], {}), f"{where}: {path[0]}"), path[1]: value}
        else:
            raise InputError(
                f"{where}: expected a key of a grid, data.NAME.KEY or training.KEY to set, found {key!r}"
            )


def _check_data(overrides: Sequence[str], editions: Mapping[str, Any]) -> None:
    """Checks that a data set that is set anew is one of some edition."""
    found = [
        each["data"]
        for each in editions.values()
        if isinstance(each, dict) and isinstance(each.get("data"), dict)
    ]
    known = sorted({name for sources in found for name in sources})
    for override in overrides:
        path = override.partition("=")[0].strip().split(".")
        if path[0] == "data" and len(path) == 3 and path[1] not in known:
            raise UnknownNameError("data set to set", path[1], known)


def _mapping(content: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(content, dict):
        raise InputError(f"{where}: expected a table, found {content!r}")
    return content


def _build(kind: type[_Record], content: Mapping[str, Any], where: str) -> _Record:
    """A dataclass from a table: lists become tuples; unknown and missing keys and wrong types are errors that name them."""
    known = {each.name: each for each in fields(kind)}  # type: ignore[arg-type]  # all are dataclasses
    for key in content:
        if key not in known:
            raise UnknownNameError(f"key of {where}", key, known)
    required = [
        each.name for each in known.values() if each.default is MISSING and each.default_factory is MISSING
    ]
    if missing := [name for name in required if name not in content]:
        raise InputError(f"{where}: expected the key {missing[0]!r}, found none")
    return kind(
        **{key: _typed(value, str(known[key].type), f"{where}: {key}") for key, value in content.items()}
    )


def _typed(value: Any, annotation: str, where: str) -> Any:
    """The value, if it is of the type that a field says."""
    outer, _, inner = annotation.removesuffix("]").partition("[")
    if outer in ("tuple", "Sequence"):
        if not isinstance(value, (list, tuple)):
            raise InputError(f"{where}: expected a list, found {value!r}")
        return tuple(_typed(each, inner.removesuffix(", ..."), where) for each in value)
    if outer == "Mapping":
        inner = inner.partition(", ")[2]
        return {key: _typed(each, inner, f"{where}.{key}") for key, each in _mapping(value, where).items()}
    plain = _PLAIN.get(annotation)
    if plain is not None and (
        not isinstance(value, plain) or (isinstance(value, bool) and annotation != "bool")
    ):
        raise InputError(f"{where}: expected {annotation}, found {value!r}")
    return float(value) if annotation == "float" else value


def _folder() -> Any:
    return files("dallme.experiments") / "files"
