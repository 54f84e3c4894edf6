"""A cell: the smallest piece of an experiment that is computed, kept and looked up."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from dallme.atomic import sha256_of
from dallme.errors import InputError, UnknownNameError
from dallme.experiments.spec import AXES, Edition, Experiment, Grid

#: Raised when cells of older versions mean something else.
VERSION = 1


@dataclass(frozen=True)
class Run:
    """One value of each axis, and the grid whose options it is run with.

    Attributes:
        kind: One of :data:`~dallme.experiments.spec.KINDS`.
        values: Axis to value, for the axes that the grid gives values; in the order of :data:`~dallme.experiments.spec.AXES`.
        grid: The grid.
    """

    kind: str
    values: Mapping[str, Any]
    grid: Grid

    def __getitem__(self, axis: str) -> Any:
        """The value of an axis, or None where the grid has none."""
        return self.values.get(axis)

    def config(self) -> dict[str, Any]:
        """Everything that it is run with, as JSON; the label is only a name, and left out."""
        options = {key: value for key, value in asdict(self.grid).items() if key not in (*AXES, "label")}
        return {"kind": self.kind, "version": VERSION, **self.values, **options}

    def key(self, inputs: Mapping[str, str]) -> str:
        """SHA-256 of the configuration and of what it reads, as hexadecimal.

        Args:
            inputs: Name to hash of what stands behind names in the configuration, such as data sets.
        """
        parts = {"config": self.config(), "inputs": dict(inputs)}
        return sha256_of([json.dumps(parts, sort_keys=True)])

    def recipe(self) -> dict[str, Any]:
        """All that the cell says of how its texts are made, as JSON; cells that are given the same texts have it in common."""
        options = {"decoder_options": dict(self.grid.decoder_options), "max_tokens": self.grid.max_tokens}
        options |= {"preset": self.grid.preset, "seed": self.grid.seed}
        return {axis: value for axis, value in self.values.items() if axis != "classifier"} | options

    def label(self, axes: Sequence[str]) -> str:
        """What its values along some axes are called, of those that are there."""
        named = [name_value(axis, self.values[axis]) for axis in axes if axis in self.values]
        return " · ".join(each for each in named if each)

    def __str__(self) -> str:
        """All values, for messages."""
        return ", ".join(f"{axis} {value}" for axis, value in self.values.items() if value not in ("", 0))


def name_value(axis: str, value: Any) -> str:
    """How a table writes a value of an axis."""
    if axis == "prompt":
        return "with prompt" if value else "without prompt"
    if axis == "per_class":
        return f"{value} a class"
    if axis == "ratio":
        return f"{100 * value:g}%"
    if axis == "inverter_steps":
        return f"{value:,} steps" if value else ""
    return str(value)


def make_cells(experiment: Experiment, edition: Edition, only: Sequence[str] = ()) -> list[Run]:
    """The cells of an edition: the product of the axes of each grid.

    Args:
        experiment: The experiment.
        edition: One of its editions.
        only: ``AXIS=VALUE`` each, several values of one axis joined by commas: the cells that agree with all of them.

    Raises:
        InputError: If no cell is left.
        UnknownNameError: If an axis or a value is not known.
    """
    cells = [Run(experiment.kind, values, grid) for grid in edition.grid for values in _product(grid)]
    for condition in only:
        axis, _, wanted = condition.partition("=")
        if axis not in AXES:
            raise UnknownNameError("axis", axis, AXES)
        known = {str(cell[axis]) for cell in cells}
        values = wanted.split(",")
        for value in values:
            if value not in known:
                raise UnknownNameError(f"value of {axis}", value, sorted(known))
        cells = [cell for cell in cells if str(cell[axis]) in values]
    if not cells:
        raise InputError(f"experiment {experiment.name!r}: expected a cell to run, found none")
    return cells


def _product(grid: Grid) -> Iterator[dict[str, Any]]:
    axes = [axis for axis in AXES if getattr(grid, axis)]
    for values in itertools.product(*(getattr(grid, axis) for axis in axes)):
        yield dict(zip(axes, values, strict=True))
