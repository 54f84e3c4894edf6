"""Verbs on a distilled set that are interrupted: evaluate, export, push and review."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from _kills import Ended, Zygote
from _victim import Files, Victim
from dallme.dataset import DistilledDataset

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))

from hub_server import HubServer, Repository

#: Id of the repository that is pushed to.
REPOSITORY = "me/few"

#: What the review server answers where another one was faster.
CONFLICT = 409


class OfSet(Victim):
    """A verb on a distilled set that is there."""

    def prepare(self, work: Path) -> None:
        super().prepare(work)
        if (made := work.parent / "set").exists():
            shutil.copytree(made, work / "out")

    def learn(self, zygote: Zygote, work: Path) -> None:
        super().prepare(work)
        options = ["--per-class", "3", "--embedder", "hashing", "--no-report", "--output", "out"]
        zygote.run(["distill", "source.csv", *options], work)
        shutil.move(work / "out", work.parent / "set")
        super().learn(zygote, work)

    def set_files(self, work: Path) -> Files:
        """Returns the files of the set, which the verb only reads."""
        DistilledDataset.load(work / "out")
        return {f"out/{path.name}": path.read_bytes() for path in sorted((work / "out").iterdir())}


class Evaluate(OfSet):
    """``dallme evaluate``: what it prints is its output; the scores go to the store on the way."""

    def run(self, zygote: Zygote, work: Path, job: dict[str, Any]) -> Ended:
        ended = super().run(zygote, work, job)
        if not ended.status:
            printed = json.loads(ended.told[ended.told.index("{") :])
            scores = [{**score, "seconds": None} for score in printed["results"]]
            self.printed[work] = json.dumps(scores).encode()
        return ended

    @cached_property
    def printed(self) -> dict[Path, bytes]:
        """The printed results of the runs that ended, by working folder."""
        return {}

    def files(self, work: Path) -> Files:
        results = {"results": self.printed[work]} if work in self.printed else {}
        return self.set_files(work) | results


class Export(OfSet):
    """``dallme export --overwrite`` over an older file."""

    def prepare(self, work: Path) -> None:
        super().prepare(work)
        (work / self.output).write_bytes(b"an older export")

    def files(self, work: Path) -> Files:
        return self.set_files(work) | super().files(work)


@dataclass
class Push(OfSet):
    """``dallme push`` to a local stand-in for the Hub, over the files of an older commit.

    Attributes:
        hub: The stand-in; see :func:`local_hub`.
    """

    hub: HubServer | None = None

    def prepare(self, work: Path) -> None:
        super().prepare(work)
        assert self.hub is not None
        older = {"train.parquet": b"older rows", "README.md": b"an older card", "audit.json": b"{}"}
        self.hub.repositories = {REPOSITORY: Repository(True, {"main": older})}

    def run(self, zygote: Zygote, work: Path, job: dict[str, Any]) -> Ended:
        ended = super().run(zygote, work, job)
        time.sleep(0.1)  # the server may still be at a commit that it got before the kill
        return ended

    def files(self, work: Path) -> Files:
        assert self.hub is not None
        pushed = self.hub.repositories[REPOSITORY].branches["main"]
        return self.set_files(work) | {f"hub/{name}": content for name, content in pushed.items()}


@contextmanager
def local_hub() -> Iterator[HubServer]:
    """Runs a stand-in for the Hub; processes that are started meanwhile use it, with a valid token."""
    with HubServer() as hub, tempfile.TemporaryDirectory() as home:
        os.environ |= {
            "HF_ENDPOINT": hub.url,
            "HF_TOKEN": hub.token,
            "HF_HOME": home,
            "HF_HUB_DISABLE_XET": "1",
        }
        yield hub


class Review(OfSet):
    """``dallme review``: a browser saves again and again; what was answered must be there."""

    saves = 8

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
