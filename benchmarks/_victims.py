"""Verbs that are interrupted, each on a small input, with checks of what they leave."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from _common import pick
from _kills import Ended, Moment, Zygote, left_over
from _set_victims import REPOSITORY, Evaluate, Export, HubServer, Push, Review
from _victim import Files, Victim
from dallme.dataset import DistilledDataset
from dallme.experiments.rows import Row
from dallme.files.folders import COMMITTED, finish

EXPERIMENT = """
title = "Toy"
place = "nowhere"
kind = "accuracy"
rows = ["method"]
columns = ["classifier"]
[profiles.offline]
differs = []
data.toy = { train = "source.csv", test = "test.csv" }
per_class = [2]
embedder = ["hashing"]
method = ["random", "nearest", "full"]
classifier = ["naive-bayes", "linear-svm"]
"""


class Distill(Victim):
    """``dallme distill``, perhaps over a set that is there."""

    def prepare(self, work: Path) -> None:
        super().prepare(work)
        if "--overwrite" in self.argv and self.reference:
            shutil.copytree(work.parent / "older", work / self.output)

    def learn(self, zygote: Zygote, work: Path) -> None:
        if "--overwrite" in self.argv:  # what it takes the place of: another seed's, and a file of the user's
            super().prepare(work)
            zygote.run([*self.argv[: self.argv.index("--overwrite")], "--seed", "5"], work)
            (work / self.output / "mine.txt").write_text("mine")
            shutil.copytree(work / self.output, work.parent / "older")
        super().learn(zygote, work)

    def files(self, work: Path) -> Files:
        place = work / self.output
        names = [path.name for path in place.iterdir()] if place.exists() else []
        if all(name.startswith(".") and name != COMMITTED for name in names):
            return {}
        finish(place)  # as the next writer does
        DistilledDataset.load(place)
        return {
            path.name: _timeless(path) for path in sorted(place.iterdir()) if not path.name.startswith(".")
        }


def _timeless(path: Path) -> bytes:
    """A file without what tells how long something took."""
    if path.name == "manifest.json":
        manifest = json.loads(path.read_bytes())
        return json.dumps({key: value for key, value in manifest.items() if key != "seconds"}).encode()
    if path.name in ("README.md", "report.html"):
        return re.sub(rb"((?:embed|condense|decode)(?:&#34;|\"): )[\d.]+", rb"\1", path.read_bytes())
    return path.read_bytes()


class Reproduce(Victim):
    """``dallme reproduce``: rows one by one, then table and page."""

    def prepare(self, work: Path) -> None:
        super().prepare(work)
        (work / "toy.toml").write_text(EXPERIMENT)

    def files(self, work: Path) -> Files:
        place = work / self.output
        rows = {}
        for line in (
            (place / "rows.jsonl").read_bytes().splitlines() if (place / "rows.jsonl").exists() else ()
        ):
            try:
                row = Row.parse(line)
            except ValueError:
                continue  # a half line, which a kill may leave, or a damaged one: every reader passes over it
            kept = {name: value for name, value in row.result.items() if name != "seconds"}
            rows[row.key] = json.dumps([row.config, kept]).encode()
        pages = {
            path.name: path.read_bytes()
            for path in sorted(place.glob("*"))
            if path.suffix in (".md", ".html")
        }
        return rows | pages

    def problem(self, work: Path) -> str:
        found = self.files(work)
        # A page without a row tells of what could not be computed, as on a full disk; it is written anew with
        # the row.
        complete = all(name in found for name in self.reference if "." not in name)
        wrong = [
            name
            for name in found
            if (complete or "." not in name) and self.reference.get(name) != found[name]
        ]
        ends = {".md": b"\n", ".html": b">\n"}
        half = [
            name
            for name, content in found.items()
            if "." in name and not content.endswith(ends[Path(name).suffix])
        ]
        return f"differ: {wrong}, cut short: {half}" if wrong or half else ""


class Train(Victim):
    """``dallme train-inverter``: checkpoints on the way."""

    def run(self, zygote: Zygote, work: Path, job: dict[str, Any]) -> Ended:
        ended = zygote.run(self.argv, work, **job)
        if (
            not job and ended.refused and self.is_done(work)
        ):  # killed when all was done but the removal of the checkpoints
            ended = zygote.run([*self.argv, "--overwrite"], work)
        return ended


def victims(steps: int = 12, hub: HubServer | None = None) -> list[Victim]:
    """All of them; ``push`` only with a stand-in for the Hub."""
    common = ["--embedder", "hashing", "--store", "store"]
    distill = ["distill", "source.csv", "--per-class", "3", "--max-tokens", "24", *common, "--output", "out"]
    train = [
        "train-inverter",
        "source.csv",
        "--preset",
        "tiny",
        "--steps",
        str(steps),
        "--batch-size",
        "8",
        "--drafts",
        "8",
    ]
    train += [
        "--max-tokens",
        "12",
        "--save-every",
        "3",
        "--device",
        "cpu",
        *common,
        "--output",
        "inverter",
        "--resume",
    ]
    reproduce = ["reproduce", "toy.toml", "--data", ".", "--store", "store"]
    evaluate = ["evaluate", "out", "--test", "test.csv", "--full", "source.csv", "--json"]
    evaluate += ["--classifiers", "naive-bayes,linear-svm,embedding-lr"]
    export = ["export", "out", "--format", "atlas", "--source", "source.csv", "--store", "store"]
    return [
        Distill("distill", [*distill, "--no-report"], "out"),
        Distill("distill --overwrite", [*distill, "--overwrite"], "out"),
        Evaluate("evaluate", [*evaluate, *common], "out"),
        Export("export", [*export, "--output", "atlas.parquet", "--overwrite"], "atlas.parquet"),
        *([Push("push", ["push", "out", REPOSITORY, "--json"], "out", hub=hub)] if hub else []),
        Victim(
            "embed",
            ["embed", "source.csv", *common, "--output", "vectors.parquet"],
            "vectors.parquet",
            rows=pick(4000, 400),
        ),
        Train("train-inverter", train, "inverter"),
        Reproduce("reproduce", [*reproduce, "--output", "results"], "results/offline/toy"),
        Review("review", ["review", "out", "--no-browser", "--port", "0", "--json"], "out"),
    ]


@dataclass
class HoldoutSplit:
    """What came of one: a fresh folder, kills, and a last run that is left alone.

    Attributes:
        kills: Those that ended a process.
        missed: Those that came after its end.
        losses: What was wrong, a line each.
    """

    kills: list[Moment] = field(default_factory=list)
    missed: int = 0
    losses: list[str] = field(default_factory=list)

    def count(self, moment: Moment, ended: Ended, work: Path, before: list[str]) -> None:
        """Counts a kill, and looks whether a process that was asked to end has done so in order.

        What earlier kills had left `before` is not its own; the last run has to remove that.
        """
        if not ended.status:
            self.missed += 1
            return
        self.kills.append(moment)
        if ended.status > 0 and "Traceback" in ended.told:
            self.losses.append(f"{moment}: a traceback: {ended.told[-300:]}")
        if ended.status > 0 and (
            found := [name for name in left_over(work) if name not in ("inverter.partial", *before)]
        ):
            self.losses.append(f"{moment}: it could clean up and left {found}")


def interrupt(victim: Victim, zygote: Zygote, work: Path, moments: list[Moment]) -> HoldoutSplit:
    """Kills a victim at each of the moments, one run after the other, and lets it end."""
    trial, last = HoldoutSplit(), Ended(0, 0, "")
    victim.prepare(work)
    for moment in [*moments, None]:
        if victim.is_done(work):
            break
        before = left_over(work)
        try:
            last = victim.run(zygote, work, moment.job if moment else {})
            if moment:
                trial.count(moment, last, work, before)
            if wrong := victim.problem(work):
                trial.losses.append(f"{moment}: {wrong}")
        except Exception as error:
            trial.losses.append(f"{moment}: {type(error).__name__}: {error}")
    if not victim.is_done(work):
        trial.losses.append(f"{moments}: the result differs from an uninterrupted run's; {last.told[-300:]}")
    elif found := left_over(work):
        # All was done, and the process was killed when it had still to tidy up: the next run does.
        victim.run(zygote, work, {})
        again = [*victim.argv, *([] if "--overwrite" in victim.argv else ["--overwrite"])]
        if victim.name not in ("reproduce", "review", "evaluate", "push"):
            zygote.run(again, work)
        if not victim.is_done(work) or left_over(work):
            trial.losses.append(f"{moments}: {found} stays: {left_over(work)}")
    return trial
