"""A verb that is interrupted: its input, an uninterrupted run, and what a kill may leave."""

from __future__ import annotations

import csv
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from _kills import Ended, Zygote

WORDS = {
    "animals": "dog cat horse sheep barks runs jumps sleeps",
    "money": "bank rate bond share rises falls pays owes",
}

Files = dict[str, bytes]


def write_source(path: Path, rows: int, seed: int) -> None:
    """Writes texts of two sentences in two classes."""
    rng = np.random.default_rng(seed)
    with path.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["text", "label"])
        for row in range(rows):
            label = list(WORDS)[row % 2]
            found = [*WORDS[label].split(), "the", "a", "day", "home"]
            out.writerow(
                [" ".join(" ".join(rng.choice(found, 6)).capitalize() + "." for _ in range(2)), label]
            )


@dataclass
class Victim:
    """A verb with its input.

    Attributes:
        name: What the tables call it.
        argv: Its arguments.
        output: What it writes, in its working folder.
        rows: Rows of its source.
        reference: What an uninterrupted run writes: name to content.
        before: What stood there before, as that of an older run; empty if nothing did.
        seconds: How long an uninterrupted run takes.
        changes: How often it changes the file system.
    """

    name: str
    argv: list[str]
    output: str
    rows: int = 80
    reference: Files = field(default_factory=dict)
    before: Files = field(default_factory=dict)
    seconds: float = 0.0
    changes: int = 0

    def prepare(self, work: Path) -> None:
        """Makes a fresh working folder."""
        work.mkdir(parents=True, exist_ok=True)
        write_source(work / "source.csv", self.rows, 0)
        write_source(work / "test.csv", 40, 1)

    def learn(self, zygote: Zygote, work: Path) -> None:
        """Finds out what an uninterrupted run does."""
        self.prepare(work)
        self.before = self.files(work)
        begun = time.perf_counter()
        ended = self.run(zygote, work, {})
        self.seconds, self.changes = time.perf_counter() - begun, ended.changes
        if ended.status:
            raise RuntimeError(f"{self.name} does not run: {ended.told}")
        self.reference = self.files(work)

    def run(self, zygote: Zygote, work: Path, job: dict[str, Any]) -> Ended:
        """One run, perhaps killed on the way."""
        return zygote.run(self.argv, work, **job)

    def files(self, work: Path) -> Files:
        """Returns the written files, without times; empty if there are none."""
        place = work / self.output
        if place.is_file():
            return {place.name: place.read_bytes()}
        return {path.name: path.read_bytes() for path in sorted(place.iterdir())} if place.is_dir() else {}

    def problem(self, work: Path) -> str:
        """Describes what is wrong after a kill; empty if the output is as before, or complete."""
        found = self.files(work)
        return (
            "" if found in (self.before, self.reference) else f"neither as before nor whole: {sorted(found)}"
        )

    def is_done(self, work: Path) -> bool:
        """Whether everything is there."""
        return self.files(work) == self.reference
