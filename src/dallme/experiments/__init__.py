"""Experiments: grids of runs in one or more profiles, and the numbers that the paper reports for them."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, replace
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

from dallme.errors import InputError, UnknownNameError
from dallme.evaluation.protocol import DEFAULT, PROTOCOLS, Protocol

#: Kinds of runs; :mod:`dallme.experiments.kinds` has a function for each.
KINDS = ("accuracy", "probe", "cost", "training", "inverter")

#: Fields of a grid that list values; a run takes one value of each.
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

#: Name of a grid's label in the conditions of claims.
LABEL = "label"

#: Measure of accuracy runs and trainings: mean number of words and punctuation marks of the texts.
TOKENS = "tokens_per_text"

#: Kinds of figures.
FIGURES = ("lines", "bars", "scatter")

#: Ending of experiment files.
SUFFIX = ".toml"

#: Deprecated keys of experiment files, and the keys that replace them.
RENAMED = {"editions": "profiles", "beside": "reported_row"}


@dataclass(frozen=True)
class Source:
    """A data set.

    Attributes:
        train: Hub id with an optional ``@split``, or path; ``--data`` is the base of relative paths.
        test: The same for the test set; empty if none is needed.
        text_column: Column of the texts; empty to use the common names.
        label_column: Column of the classes; empty to use the common names.
    """

    train: str
    test: str = ""
    text_column: str = ""
    label_column: str = ""


@dataclass(frozen=True)
class Candidate:
    """Distilled sets that others published: one file, or a folder with one file per set.

    Attributes:
        path: Path as in :class:`Source`.
        text_column: Column of the texts; empty to use the common names.
        label_column: Column of the classes; empty to use the common names.
    """

    path: str
    text_column: str = ""
    label_column: str = ""


@dataclass(frozen=True)
class Grid:
    """Runs that share their options: the Cartesian product of the axes.

    Attributes:
        data: Names of data sets.
        per_class: Texts per class; exclusive with ratio.
        ratio: Shares of the source's rows.
        embedder: Names of embedders.
        prompt: Task prompts; an empty string is no prompt.
        condenser: Names of condensers.
        inverter_steps: Training steps of the inverter that ``vec2text`` decodes with; 0 trains none.
        method: Names of baselines, decoders and candidates.
        classifier: Names of classifiers.
        label: Name of the grid's rows in the table; empty to name them by their axes.
        decoder_options: Options of the decoder, for methods that are decoders and have them.
        candidates: Published sets by name; a name is a valid method.
        protocol: ``paper``, ``dpc``, or empty for the default protocol.
        sets: Sets per method; 0 takes the protocol's number.
        models: Models per set; 0 takes the protocol's number.
        full_runs: Models trained on the full data.
        full_steps: Upper bound on optimizer steps on the full data; 0 sets none.
        training: Options of neural classifiers, such as learning_rate and steps.
        train_rows: Rows sampled from the source; 0 takes all.
        test_rows: Rows sampled from the test set; 0 takes all.
        max_tokens: Upper bound on the tokens per distilled text.
        preset: Preset of the inverters that are trained.
        corpus_rows: Number of rows that a ``cost`` run scales its plan to; 0 does not scale.
        seed: Seed of the first set.
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
        """Validates what needs no data."""
        if self.per_class and self.ratio:
            raise InputError("expected per_class or ratio in a grid, found both")
        if self.protocol and self.protocol not in PROTOCOLS:
            raise UnknownNameError("protocol", self.protocol, PROTOCOLS)

    def plan(self) -> Protocol:
        """Returns the protocol with the grid's own numbers."""
        base = PROTOCOLS.get(self.protocol, DEFAULT)
        return replace(
            base,
            sets=self.sets or base.sets,
            draws=self.sets or base.draws,
            models=self.models or base.models,
            full_runs=self.full_runs,
            full_steps=self.full_steps or None,
            training=dict(base.training) | dict(self.training),
        )


@dataclass(frozen=True)
class Profile:
    """One way to run an experiment, such as with models that need no Hub.

    Attributes:
        differs: Differences from the paper, one sentence each.
        data: Data sets by name.
        grid: The grids.
        reported_row: Our row to the paper's row that it is compared with.
        columns: Our column to the paper's column that it is compared with.
        reasons: Our row, or ``ROW | COLUMN``, to a sentence that explains a lower score than the paper's.
    """

    differs: tuple[str, ...]
    data: Mapping[str, Source]
    grid: tuple[Grid, ...]
    reported_row: Mapping[str, str] = field(default_factory=dict)
    columns: Mapping[str, str] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Claim:
    """A claim of the paper that can be checked on results.

    Each group of runs that agree on data set, budget, classifier and on conditions of both sides is one
    comparison. The claim holds if ``ours RELATION factor * other + margin``.

    Attributes:
        text: The claim as part of a sentence.
        ours: ``AXIS=VALUE[,VALUE]`` conditions on our runs, where the axis may be ``label``. The first value
            that has a result counts; ``*`` at the end of a value stands for any text.
        other: Conditions on the runs that ours are compared with; the best of them counts.
            Empty to compare with `limit`.
        limit: Number that ours are compared with.
        measure: Measure that is compared.
        relation: ``>``, ``<``, or ``=`` for a difference of at most `margin`.
        factor: Factor of the other number.
        margin: Number that is added to the other number.
        per: Further axes that both sides share.
    """

    text: str
    ours: tuple[str, ...]
    other: tuple[str, ...] = ()
    limit: float = 0.0
    measure: str = "accuracy"
    relation: str = ">"
    factor: float = 1.0
    margin: float = 0.0
    per: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Validates the names of relation and axes."""
        if self.relation not in ("<", "=", ">"):
            raise UnknownNameError("relation", self.relation, ("<", "=", ">"))
        for condition in (*self.ours, *self.other, *(f"{axis}=" for axis in self.per)):
            axis = condition.partition("=")[0]
            if axis not in (*AXES, LABEL):
                raise UnknownNameError("axis", axis, (*AXES, LABEL))


@dataclass(frozen=True)
class Experiment:
    """One table or figure.

    Attributes:
        name: Name of the experiment and of its file.
        title: One line that says what the experiment shows.
        place: Place in the paper, such as ``Table 1, section 5.1``.
        kind: One of :data:`KINDS`.
        rows: Axes whose values name a row of the table.
        columns: Axes whose values name a column.
        measures: Measures that the table shows; several measures give one column each.
        average: Whether the table has a column with the mean over the columns.
        figure: One of :data:`FIGURES`, or empty for none.
        x: Axis or measure on the figure's horizontal axis.
        reported: Numbers of the paper: row, column, then mean and, if given, deviation.
        says: The paper's conclusion, in our words.
        claims: Claims of the paper that the results are checked for.
        profiles: Profiles by name.
        notes: Remarks for the user on the file, such as its deprecated keys.
    """

    name: str
    title: str
    place: str
    kind: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    profiles: Mapping[str, Profile]
    measures: tuple[str, ...] = ("accuracy",)
    average: bool = False
    figure: str = ""
    x: str = ""
    reported: Mapping[str, Mapping[str, Sequence[float]]] = field(default_factory=dict)
    says: str = ""
    claims: tuple[Claim, ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Validates the names of kind, axes and figure."""
        if self.kind not in KINDS:
            raise UnknownNameError("kind", self.kind, KINDS)
        for axis in (*self.rows, *self.columns):
            if axis not in AXES:
                raise UnknownNameError("axis", axis, AXES)
        if self.figure and self.figure not in FIGURES:
            raise UnknownNameError("figure", self.figure, FIGURES)

    def profile(self, name: str) -> Profile:
        """Returns a profile.

        Raises:
            UnknownNameError: If the experiment has no such profile.
        """
        if name not in self.profiles:
            raise UnknownNameError("profile", name, self.profiles)
        return self.profiles[name]


_Record = TypeVar("_Record")

#: Python types of TOML scalars, by annotation.
_SCALARS: dict[str, tuple[type, ...]] = {"str": (str,), "int": (int,), "float": (int, float), "bool": (bool,)}


def experiment_names() -> list[str]:
    """Returns the names of the experiments that come with dallme."""
    entries = (entry.name for entry in _folder().iterdir())
    return sorted(name.removesuffix(SUFFIX) for name in entries if name.endswith(SUFFIX))


def load_experiment(name: str, overrides: Sequence[str] = ()) -> Experiment:
    """Reads an experiment.

    Args:
        name: Name of an experiment, or path of a TOML file.
        overrides: ``KEY=VALUE`` strings. KEY is a key of a grid, which is set in all grids of all profiles,
            or a dotted path such as ``data.imdb.train``. VALUE is TOML, or else a string.

    Raises:
        UnknownNameError: If there is no such experiment or key.
        InputError: If the file cannot be read, or a value has the wrong type.
    """
    if not name.endswith(SUFFIX):
        if name not in (names := experiment_names()):
            error = UnknownNameError("experiment", name, names)
            if similar := [each for each in names if each.startswith(name)]:
                raise InputError(f"{error}. Did you mean {' or '.join(similar)}?")
            raise error
        return parse_experiment((_folder() / f"{name}{SUFFIX}").read_text(encoding="utf-8"), name, overrides)
    try:
        text = Path(name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"expected an experiment in {name!r}, could not read it: {reason}") from error
    return parse_experiment(text, Path(name).stem, overrides)


def parse_experiment(text: str, name: str, overrides: Sequence[str] = ()) -> Experiment:
    """Parses the text of an experiment file.

    A profile may hold any key of a grid; it applies to all of its grids that do not set the key themselves.
    """
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"expected TOML in the experiment {name!r}, could not read it: {error}") from error
    notes: list[str] = []
    content = _rename_keys(content, name, notes)
    profiles = content.pop("profiles", None)
    if not isinstance(profiles, dict) or not profiles:
        raise InputError(f"experiment {name!r}: expected [profiles.NAME], found none")
    _check_data(overrides, profiles)
    parsed = {
        profile: _parse_profile(table, f"{name}: profiles.{profile}", overrides, notes)
        for profile, table in profiles.items()
    }
    claims = content.pop("claims", [])
    if not isinstance(claims, list):
        raise InputError(f"{name}: expected [[claims]] tables, found {claims!r}")
    content["claims"] = [
        build_record(Claim, _mapping(claim, f"{name}: claims[{index}]"), f"{name}: claims[{index}]")
        for index, claim in enumerate(claims)
    ]
    experiment = build_record(Experiment, content | {"name": name, "profiles": parsed}, name)
    return replace(experiment, notes=(*experiment.notes, *dict.fromkeys(notes)))


def _rename_keys(content: Mapping[str, Any], where: str, notes: list[str]) -> dict[str, Any]:
    """Replaces deprecated keys of a table, and notes the new spelling."""
    for old in sorted(set(content) & set(RENAMED)):
        if RENAMED[old] in content:
            raise InputError(f"{where}: expected {RENAMED[old]!r}, found its old name {old!r} as well")
        notes.append(f"{where}: the key {old!r} is deprecated; write {RENAMED[old]!r}")
    return {RENAMED.get(key, key): value for key, value in content.items()}


def _parse_profile(content: Any, where: str, overrides: Sequence[str], notes: list[str]) -> Profile:
    content = _rename_keys(_mapping(content, where), where, notes)
    grids = content.pop("grid", [{}])
    if not isinstance(grids, list) or not grids:
        raise InputError(f"{where}: expected [[grid]] tables, found {grids!r}")
    tables = _mapping(content.pop("data", {}), f"{where}.data")
    # A grid calls its data sets "data", but in a profile that key says where they are.
    shared = {"data": content.pop("datasets", list(tables))}
    own = {each.name for each in fields(Profile)}
    shared |= {key: content.pop(key) for key in [*content] if key not in own}
    merged = []
    for grid in grids:
        table = dict(_mapping(grid, f"{where}.grid"))
        if "datasets" in table:
            table["data"] = table.pop("datasets")
        merged.append(shared | table)
    sources = {name: dict(_mapping(table, f"{where}.data.{name}")) for name, table in tables.items()}
    for override in overrides:
        _override(override, merged, sources, where)
    data = {name: build_record(Source, table, f"{where}.data.{name}") for name, table in sources.items()}
    built = tuple(_parse_grid(table, f"{where}.grid[{index}]", data) for index, table in enumerate(merged))
    return build_record(Profile, content | {"data": data, "grid": built}, where)


def _parse_grid(content: Mapping[str, Any], where: str, data: Mapping[str, Source]) -> Grid:
    tables = _mapping(content.get("candidates", {}), f"{where}.candidates")
    candidates = {
        name: build_record(Candidate, _mapping(table, where), f"{where}.candidates.{name}")
        for name, table in tables.items()
    }
    grid = build_record(Grid, {**content, "candidates": candidates}, where)
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


def _check_data(overrides: Sequence[str], profiles: Mapping[str, Any]) -> None:
    """Raises an error if an override names a data set that no profile has."""
    tables = [profile.get("data") for profile in profiles.values() if isinstance(profile, dict)]
    known = sorted({name for table in tables if isinstance(table, dict) for name in table})
    for override in overrides:
        path = override.partition("=")[0].strip().split(".")
        if path[0] == "data" and len(path) == 3 and path[1] not in known:
            raise UnknownNameError("data set to set", path[1], known)


def _mapping(content: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(content, dict):
        raise InputError(f"{where}: expected a table, found {content!r}")
    return content


def build_record(kind: type[_Record], content: Mapping[str, Any], where: str) -> _Record:
    """Builds a dataclass from a TOML table; lists become tuples.

    Raises:
        UnknownNameError: If a key is unknown.
        InputError: If a key is missing, or a value has the wrong type.
    """
    known = {each.name: each for each in fields(kind)}  # type: ignore[arg-type]  # all are dataclasses
    for key in content:
        if key not in known:
            raise UnknownNameError(f"key of {where}", key, known)
    for name, each in known.items():
        if each.default is MISSING and each.default_factory is MISSING and name not in content:
            raise InputError(f"{where}: expected the key {name!r}, found none")
    return kind(
        **{key: _convert(value, str(known[key].type), f"{where}: {key}") for key, value in content.items()}
    )


def _convert(value: Any, annotation: str, where: str) -> Any:
    """Converts a TOML value to the type of a field.

    Raises:
        InputError: If the value has another type.
    """
    outer, _, inner = annotation.removesuffix("]").partition("[")
    if outer in ("tuple", "Sequence"):
        if not isinstance(value, (list, tuple)):
            raise InputError(f"{where}: expected a list, found {value!r}")
        return tuple(_convert(each, inner.removesuffix(", ..."), where) for each in value)
    if outer == "Mapping":
        inner = inner.partition(", ")[2]
        return {key: _convert(each, inner, f"{where}.{key}") for key, each in _mapping(value, where).items()}
    types = _SCALARS.get(annotation)
    if types is not None and (
        not isinstance(value, types) or (isinstance(value, bool) and annotation != "bool")
    ):
        raise InputError(f"{where}: expected {annotation}, found {value!r}")
    return float(value) if annotation == "float" else value


def _folder() -> Any:
    return files("dallme.experiments") / "files"
