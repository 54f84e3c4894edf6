"""What an experiment is: grids of cells, in editions, with what the paper reports beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from dallme.errors import InputError, UnknownNameError
from dallme.evaluation.plans import PLAIN, PROTOCOLS, Protocol

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
        base = PROTOCOLS.get(self.protocol, PLAIN)
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
