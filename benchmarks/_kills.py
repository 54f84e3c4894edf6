"""Kills of `dallme`: a signal at a random time or file-system change, and full disks."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

#: Modules that are imported once for all processes.
MODULES = (
    "dallme.cli.main",
    "dallme.distiller",
    "dallme.evaluation.compare",
    "dallme.condensers.k_centroid",
    "dallme.decoders.extractive.decoder",
    "dallme.report.page",
    "dallme.auditing.inputs",
    "dallme.experiments.running",
    "dallme.experiments.page",
    "dallme.review.app",
    "sklearn.manifold",
    "faiss",
    "uvicorn",
)

#: Modules of a verb that trains a model; they take longer to import than the others.
TRAINING_MODULES = (
    "dallme.decoders.vec2text.training",
    "dallme.decoders.vec2text.model",
    "transformers.models.llama.modeling_llama",
)

SIGNALS = {"SIGKILL": signal.SIGKILL, "SIGTERM": signal.SIGTERM, "Ctrl-C": signal.SIGINT}

#: Suffixes of what a killed process may leave for the next one to remove.
LEFT_OVER = (".tmp", ".partial", ".new", ".old", ".dallme-commit")


@dataclass
class Ended:
    """How a process ended.

    Attributes:
        status: Its exit status; negative for the signal that killed it.
        changes: Its changes to the file system.
        told: Its standard output and error.
    """

    status: int
    changes: int
    told: str

    @property
    def refused(self) -> str:
        """The one line of a user error; empty if the process ended otherwise."""
        lines = [line for line in self.told.splitlines() if line.startswith("error: ")]
        return lines[-1] if self.status == 2 and lines and "Traceback" not in self.told else ""


@dataclass
class Running:
    """A process.

    Attributes:
        pid: Its id.
        log: File of its output.
        wait: Function that waits for its end.
    """

    pid: int
    log: Path
    wait: Callable[[], Ended]


class Zygote:
    """Starts processes of `dallme`."""

    def __init__(self, modules: tuple[str, ...] = MODULES) -> None:
        environment = os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "TQDM_DISABLE": "1"}
        script = Path(__file__).with_name("_zygote.py")
        self._process = subprocess.Popen(
            [sys.executable, str(script), json.dumps(modules)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        assert self._line() == "ready"

    def _line(self) -> str:
        assert self._process.stdout
        return self._process.stdout.readline().strip()

    def start(self, argv: list[str], cwd: Path, **job: Any) -> Running:
        """Starts a process; only one at a time."""
        log = cwd.parent / f"{cwd.name}.{self._process.pid}.log"
        log.unlink(missing_ok=True)
        assert self._process.stdin
        print(
            json.dumps({"argv": argv, "cwd": str(cwd), "log": str(log), **job}),
            file=self._process.stdin,
            flush=True,
        )

        def wait() -> Ended:
            status, changes = json.loads(self._line())
            return Ended(status, changes, log.read_text(errors="replace") if log.exists() else "")

        return Running(int(self._line()), log, wait)

    def run(
        self,
        argv: list[str],
        cwd: Path,
        *,
        after: float | None = None,
        number: int = signal.SIGKILL,
        **job: Any,
    ) -> Ended:
        """Runs a process to its end, or kills it after some seconds."""
        running = self.start(argv, cwd, **job)
        timer = threading.Timer(after, _kill, (running.pid, number)) if after is not None else None
        if timer:
            timer.start()
        ended = running.wait()
        if timer:
            timer.cancel()
        return ended

    def close(self) -> None:
        """Ends it."""
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()


def _kill(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def left_over(work: Path) -> list[str]:
    """Lists what killed processes left in a folder."""
    return sorted(str(path.relative_to(work)) for path in work.rglob("*") if path.name.endswith(LEFT_OVER))


@dataclass
class Moment:
    """When and how a process is killed."""

    how: str
    signal: str
    job: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def draw(cls, rng: random.Random, seconds: float, changes: int) -> Moment:
        """Draws a moment for a process with this duration and number of file-system changes."""
        name = rng.choice(["SIGKILL", "SIGKILL", "SIGTERM", "Ctrl-C"])
        if rng.random() < 0.5 or not changes:
            return cls("time", name, {"after": rng.uniform(0.02, 0.9) * seconds, "number": SIGNALS[name]})
        return cls("change", name, {"at": rng.randint(1, changes), "signal": SIGNALS[name]})


@contextmanager
def small_disk(place: Path, size: int) -> Iterator[Callable[[str], None]]:
    """Mounts a file system of `size` bytes; yields a function that remounts it, as with `size=4096` or `ro`.

    Raises:
        PermissionError: If this process may not mount one.
    """
    place.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "dallme-test", str(place)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise PermissionError("there is no command mount") from None
    if done.returncode:
        raise PermissionError(f"this user may not mount a file system: {done.stderr.strip()}")
    try:

        def remount(option: str) -> None:
            subprocess.run(["mount", "-o", f"remount,{option}", str(place)], check=True, capture_output=True)

        yield remount
    finally:
        for _ in range(20):
            if not subprocess.run(["umount", str(place)], capture_output=True, check=False).returncode:
                break
            time.sleep(0.1)
