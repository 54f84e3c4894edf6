"""Verbs that are interrupted, each on a small input, with checks of what they leave."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import re
import shutil
import signal
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from _kills import Ended, Moment, Zygote, left_over
from dallme.dataset import DistilledDataset
from dallme.experiments.rows import Row
from dallme.folders import COMMITTED, finish

WORDS = {
    "animals": "dog cat horse sheep barks runs jumps sleeps",
    "money": "bank rate bond share rises falls pays owes",
}

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

Files = dict[str, bytes]

#: What the review server answers where another one was faster.
CONFLICT = 409


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


class Review(Victim):
    """``dallme review``: a browser saves again and again; what was answered must be there."""

    saves = 8

    def prepare(self, work: Path) -> None:
        super().prepare(work)
        if self.before:
            shutil.copytree(work.parent / "reviewed", work / "out")

    def learn(self, zygote: Zygote, work: Path) -> None:
        super().prepare(work)
        zygote.run(
            [
                "distill",
                "source.csv",
                "--per-class",
                "3",
                "--embedder",
                "hashing",
                "--no-report",
                "--output",
                "out",
            ],
            work,
        )
        shutil.copytree(work / "out", work.parent / "reviewed")
        super().learn(zygote, work)

    def files(self, work: Path) -> Files:
        found = {"0001": (work / "out" / "train.parquet").read_bytes()}
        for path in sorted((work / "out" / "versions").glob("0*")):
            DistilledDataset.load(path)
            found |= {path.name: (path / "train.parquet").read_bytes()}
        return found

    def problem(self, work: Path) -> str:
        found = self.files(work)
        wrong = [name for name, content in found.items() if self.reference.get(name) != content]
        return f"differ: {wrong}" if wrong else ""

    def run(self, zygote: Zygote, work: Path, job: dict[str, Any]) -> Ended:
        """Serves until the client has saved everything or the server is gone; then sends Ctrl-C."""
        kill = {name: value for name, value in job.items() if name in ("at", "signal")}
        running = zygote.start(self.argv, work, **kill)
        begun, answered = time.perf_counter(), 0
        timer = None
        if "after" in job:
            timer = threading.Timer(job["after"], lambda: os.kill(running.pid, job["number"]))
            timer.start()
        with contextlib.suppress(OSError, ValueError):  # the server is gone
            answered = self._client(running, begun)
        if answered >= self.saves and not job:
            os.kill(running.pid, signal.SIGINT)
        elif timer is None and job:
            with contextlib.suppress(ProcessLookupError):
                os.kill(running.pid, signal.SIGKILL)
        ended = running.wait()
        if timer:
            timer.cancel()
        there = len(self.files(work)) - 1
        if there < answered:
            raise AssertionError(f"{answered} saves were answered, {there} are there")
        return ended

    def _client(self, running: Any, begun: float) -> int:
        """Saves; how many saves are answered."""
        told = ""
        while '"versions"' not in told:
            told = running.log.read_text() if running.log.exists() else ""
            time.sleep(0.02)
            os.kill(running.pid, 0)  # raises if the server is gone
            if time.perf_counter() - begun > 60:
                raise OSError("the server does not come")
        address = json.loads(told[told.index("{") :])["address"]
        answered = 0
        while True:
            page = urllib.request.urlopen(address, timeout=30).read().decode()
            state = json.loads(re.search(r'id="data-review">(.*?)</script>', page, re.DOTALL)[1])  # type: ignore[index]
            done = state["version"] - 1
            answered = max(answered, done)
            if done >= self.saves:
                return answered
            text = state["texts"][done % len(state["texts"])]
            change = {"id": text["id"], "seen": text["seen"], "text": f"The dog of save {done} runs home."}
            body = json.dumps(
                {"version": state["version"], "digest": state["digest"], "changes": [change]}
            ).encode()
            headers = {"Content-Type": "application/json", "x-dallme-secret": state["secret"]}
            try:
                urllib.request.urlopen(
                    urllib.request.Request(f"{address}save", body, headers), timeout=30
                ).read()
            except urllib.error.HTTPError as error:
                if error.code == CONFLICT:  # another server has saved meanwhile: look again
                    continue
                raise
            answered = done + 1


def victims(steps: int = 12) -> list[Victim]:
    """All of them."""
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
    return [
        Distill("distill", [*distill, "--no-report"], "out"),
        Distill("distill --overwrite", [*distill, "--overwrite"], "out"),
        Victim(
            "embed",
            ["embed", "source.csv", *common, "--output", "vectors.parquet"],
            "vectors.parquet",
            rows=4000,
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
        if victim.name not in ("reproduce", "review"):
            zygote.run(again, work)
        if not victim.is_done(work) or left_over(work):
            trial.losses.append(f"{moments}: {found} stays: {left_over(work)}")
    return trial
