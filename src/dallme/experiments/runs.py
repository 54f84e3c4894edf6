"""Runs: the smallest units of an experiment that are computed and stored."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from dallme.errors import InputError, UnknownNameError
from dallme.experiments import AXES, Experiment, Grid, Profile
from dallme.files.atomic import sha256_of

#: Version of the meaning of a configuration; raise it to invalidate older rows.
VERSION = 1


@dataclass(frozen=True)
class Run:
    """One value of each axis, with the grid whose options apply.

    Attributes:
        kind: One of :data:`~dallme.experiments.KINDS`.
        values: Axis to value for the axes that the grid has, in the order of
            :data:`~dallme.experiments.AXES`.
        grid: The grid.
    """

    kind: str
    values: Mapping[str, Any]
    grid: Grid

    def __getitem__(self, axis: str) -> Any:
        """Returns the value of an axis, or None if the grid does not have the axis."""
        return self.values.get(axis)

    @property
    def part(self) -> str:
        """Name of the method without its argument: ``lora`` for ``lora:0.8%``."""
        return str(self["method"] or "").partition(":")[0]

    def config(self) -> dict[str, Any]:
        """Returns the configuration as JSON; it has all options except the label, which is only a name."""
        options = {key: value for key, value in asdict(self.grid).items() if key not in (*AXES, "label")}
        return {"kind": self.kind, "version": VERSION, **self.values, **options}

    def key(self, inputs: Mapping[str, str]) -> str:
        """Returns the SHA-256 of the configuration and the inputs, as hexadecimal.

        Args:
            inputs: Hashes of what the configuration names, such as data sets.
        """
        parts = {"config": self.config(), "inputs": dict(inputs)}
        return sha256_of([json.dumps(parts, sort_keys=True)])

    def recipe(self) -> dict[str, Any]:
        """Returns the part of the configuration that decides the texts; runs with equal texts share it."""
        options = {"decoder_options": dict(self.grid.decoder_options), "max_tokens": self.grid.max_tokens}
        options |= {"preset": self.grid.preset, "seed": self.grid.seed}
        return {axis: value for axis, value in self.values.items() if axis != "classifier"} | options

    def label(self, axes: Sequence[str]) -> str:
        """Returns the values along the given axes, as tables write them."""
        names = [name_value(axis, self.values[axis]) for axis in axes if axis in self.values]
        return " · ".join(name for name in names if name)

    def __str__(self) -> str:
        """Returns all values, for messages."""
        return ", ".join(f"{axis} {value}" for axis, value in self.values.items() if value not in ("", 0))


def name_value(axis: str, value: Any) -> str:
    """Returns a value of an axis as tables write it."""
    if axis == "prompt":
        return "with prompt" if value else "without prompt"
    if axis == "per_class":
        return f"{value} a class"
    if axis == "ratio":
        return f"{100 * value:g}%"
    if axis == "inverter_steps":
        return f"{value:,} steps" if value else ""
    return str(value)


def make_runs(experiment: Experiment, profile: Profile, only: Sequence[str] = ()) -> list[Run]:
    """Makes the runs of a profile: the Cartesian product of the axes of each grid.

    Args:
        experiment: The experiment.
        profile: One of its profiles.
        only: ``AXIS=VALUE[,VALUE]`` conditions; a run has to meet all of them.

    Raises:
        InputError: If no run is left.
        UnknownNameError: If an axis or a value is unknown.
    """
    runs = [Run(experiment.kind, values, grid) for grid in profile.grid for values in _product(grid)]
    for condition in only:
        axis, _, accepted = condition.partition("=")
        if axis not in AXES:
            raise UnknownNameError("axis", axis, AXES)
        known = {str(run[axis]) for run in runs}
        values = accepted.split(",")
        for value in values:
            if value not in known:
                raise UnknownNameError(f"value of {axis}", value, sorted(known))
        runs = [run for run in runs if str(run[axis]) in values]
    if not runs:
        raise InputError(f"experiment {experiment.name!r}: expected a run, found none")
    return runs


def _product(grid: Grid) -> Iterator[dict[str, Any]]:
    axes = [axis for axis in AXES if getattr(grid, axis)]
    for values in itertools.product(*(getattr(grid, axis) for axis in axes)):
        yield dict(zip(axes, values, strict=True))
