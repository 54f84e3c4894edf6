"""The same stages on the machines of a Ray cluster."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import chain, islice
from pickle import PicklingError  # only its name: what travels is packed by Ray
from typing import Any, ClassVar

import dallme
from dallme.errors import DallmeError, InputError, ServiceError
from dallme.scale.base import Chunk, Result
from dallme.validation import check_positive

#: Chunks that a worker is given at once: the second lies ready while it works on the first.
_DEPTH = 2

#: Seconds after which it is looked whether the cluster has become larger.
_LOOK = 1.0

#: Seconds in which a cluster has to answer.
_PATIENCE = 10.0

#: Seconds in which it has to have room for a worker; one that makes machines as they are wanted takes minutes.
_ROOM = 600.0

#: How often a chunk is given out whose worker dies, and how many workers may in turn fail to start.
_ATTEMPTS = 4

#: Ray's settings, which it reads as it is imported; those of the user go before them.
_SETTINGS = {
    "RAY_DEDUP_LOGS": "0",  # held back, its messages would come after all else was said
    "RAY_USAGE_STATS_ENABLED": "0",
}

#: Those of a cluster on this machine alone: it listens on 127.0.0.1. Ray does so by itself on Windows and macOS, hence the name.
_OWN_CLUSTER = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}


@dataclass
class RayEngine:
    """Works in worker processes of a Ray cluster, one for each core, or for each GPU where the work gains from one.

    The texts and vectors stay with this process, which sends chunks of them and puts the results together, and alone
    writes to the embedding store: the machines need no common file system but for models given by their folder. A chunk
    whose worker or machine dies is worked on elsewhere, and machines that join in the middle are put to work.

    Attributes:
        address: Of the cluster: ``HOST:PORT``, ``ray://HOST:PORT``, or ``auto`` for one on this machine. None takes
            RAY_ADDRESS if it is set, and starts a cluster on this machine for this process otherwise.
        cpus: Cores of a worker.
    """

    remote: ClassVar[bool] = True

    address: str | None = None
    cpus: int = 1
    _joined: bool = field(default=False, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Checks the options; nothing is started."""
        check_positive(self.cpus, "cpus")

    def map(
        self, work: Callable[[Chunk], Result], chunks: Iterable[Chunk], *, accelerated: bool = False
    ) -> Iterator[tuple[int, Result]]:
        """Calls `work` with each chunk on some worker; a single chunk is worked on here.

        Raises:
            InputError: If work or chunks cannot be sent to other processes.
            ServiceError: If the cluster cannot be reached, or its workers keep dying.
            DallmeError: What the work raises.
        """
        source = iter(chunks)
        first = list(islice(source, 2))
        if len(first) < 2:
            yield from ((place, work(chunk)) for place, chunk in enumerate(first))
            return
        self._connect()
        pool = _Pool(work, enumerate(chain(first, source)), self.cpus, accelerated)
        try:
            yield from pool.run()
        finally:
            pool.close()

    def close(self) -> None:
        """Leaves the cluster if this engine joined it; one that was started for it ends."""
        if self._joined:
            import ray

            ray.shutdown()
            self._joined = False

    def _connect(self) -> None:
        """Joins the cluster, unless this process is in one already."""
        address = self.address or os.environ.get("RAY_ADDRESS")
        for name, value in (_SETTINGS if address else _SETTINGS | _OWN_CLUSTER).items():
            os.environ.setdefault(name, value)
        import ray

        if ray.is_initialized():
            return
        own: dict[str, Any] = {"address": address} if address else {"include_dashboard": False}
        try:
            _knock(address)
            ray.init(**own, log_to_driver=False, logging_level=logging.ERROR, configure_logging=False)
        except (OSError, ValueError, RuntimeError) as error:  # all that ray.init is seen to raise
            raise ServiceError(
                f"expected a Ray cluster at {address or 'this machine'}, could not join it: {_first_line(error)}; "
                "check the address, or start one with: ray start --head"
            ) from error
        self._joined = True


def _knock(address: str | None) -> None:
    """Opens a connection to ``HOST:PORT`` and closes it: Ray ends the whole process where nobody answers.

    Raises:
        OSError: If nobody answers.
    """
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=_PATIENCE).close()


class _Worker:
    """What runs on a worker: it holds the work, and with it the models that the work loads."""

    def __init__(self, work: Callable[[Any], Any]) -> None:
        self._work = work

    def version(self) -> str:
        return dallme.__version__

    def run(self, chunk: Any) -> tuple[bool, Any]:
        """Whether it went well, and the result or what the work has to say to the user."""
        try:
            return True, self._work(chunk)
        except DallmeError as error:
            return False, error


@dataclass(eq=False)
class _Job:
    """A chunk on its way."""

    place: int
    chunk: Any
    attempts: int = 0
    worker: Any = None


@dataclass(eq=False)
class _Pool:
    """The workers of one map.

    Attributes:
        work: What is to be done.
        source: Positions and chunks that no worker has had yet.
        cpus: Cores of a worker.
        accelerated: Whether a worker gets a GPU, where there are any.
    """

    work: Any
    source: Iterator[tuple[int, Any]]
    cpus: int
    accelerated: bool
    _starting: dict[Any, Any] = field(default_factory=dict)
    _load: dict[Any, int] = field(default_factory=dict)
    _running: dict[Any, _Job] = field(default_factory=dict)
    _again: deque[_Job] = field(default_factory=deque)
    _failed_starts: int = 0

    def run(self) -> Iterator[tuple[int, Any]]:
        """Shares the chunks out until all are done."""
        import ray

        with _sendable(self.work):
            self._kept = ray.put(self.work)
        self._waiting = self._next()
        begun = time.monotonic()
        while self._waiting is not None or self._running:
            self._grow()
            self._share_out()
            done, _ = ray.wait([*self._running, *self._starting], num_returns=1, timeout=_LOOK)
            if self._load:
                begun = time.monotonic()
            elif time.monotonic() - begun > _ROOM:
                raise ServiceError(
                    f"expected room for a worker of {self.cpus} cores on the Ray cluster, found none in {_ROOM:.0f} seconds; "
                    "wait until other work on it is done, or ask for workers of fewer cores"
                )
            for ref in done:
                if ref in self._starting:
                    self._started(ref)
                elif (job := self._running.pop(ref, None)) is not None:
                    yield from self._finished(ref, job)

    def close(self) -> None:
        """Ends the workers."""
        import ray

        for worker in {*self._load, *self._starting.values()}:
            with suppress(ray.exceptions.RayError, ValueError):  # it is dead already, or the cluster is
                ray.kill(worker)

    def _next(self) -> _Job | None:
        """The next chunk: one that is to be worked on again, or a new one."""
        if self._again:
            return self._again.popleft()
        found = next(self.source, None)
        return None if found is None else _Job(*found)

    def _grow(self) -> None:
        """Asks for as many workers as the cluster has room for, but no more than chunks wait."""
        import ray

        if self._waiting is None or self._starting:
            return
        resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        gpus = int(resources.get("GPU", 0)) if self.accelerated else 0
        room = gpus or max(1, int(resources.get("CPU", 0)) // self.cpus)
        kind: Any = ray.remote(_Worker)
        options = {"num_cpus": self.cpus, "num_gpus": 1 if gpus else 0, "scheduling_strategy": "SPREAD"}
        for _ in range(room - len(self._load)):
            worker: Any = kind.options(**options).remote(self._kept)
            self._starting[worker.version.remote()] = worker

    def _share_out(self) -> None:
        """Hands chunks to workers that have room, the idlest first."""
        while self._waiting is not None and self._load:
            worker = min(self._load, key=self._load.__getitem__)
            if self._load[worker] >= _DEPTH:
                return
            job = self._waiting
            job.worker = worker
            with _sendable(job.chunk):
                self._running[worker.run.remote(job.chunk)] = job
            self._load[worker] += 1
            self._waiting = self._next()

    def _started(self, ref: Any) -> None:
        """Takes a worker in that is there now."""
        import ray

        worker = self._starting.pop(ref)
        try:
            version = ray.get(ref)
        except ray.exceptions.RayError as error:
            self._failed_starts += 1
            if self._failed_starts >= _ATTEMPTS and not self._load:
                raise ServiceError(
                    f"expected workers with dallme {dallme.__version__} on the Ray cluster, {self._failed_starts} could not "
                    f"start: {_last_line(error)}; install the same dallme, and what else the parts need, on every machine"
                ) from error
            return
        if version != dallme.__version__:
            raise ServiceError(
                f"expected dallme {dallme.__version__}, as here, on every machine of the Ray cluster, found {version} on one"
            )
        self._failed_starts = 0
        self._load[worker] = 0

    def _finished(self, ref: Any, job: _Job) -> Iterator[tuple[int, Any]]:
        """The result of a chunk; if its worker died the chunk waits again."""
        import ray

        lost = (ray.exceptions.RayActorError, ray.exceptions.ObjectLostError, ray.exceptions.OutOfMemoryError)
        try:
            fine, result = ray.get(ref)
        except lost as error:
            self._lose(job, error)
            return
        if job.worker in self._load:
            self._load[job.worker] -= 1
        if not fine:
            raise result
        yield job.place, result

    def _lose(self, job: _Job, error: Exception) -> None:
        """Gives a worker up, and its chunk to another."""
        import ray

        if self._load.pop(job.worker, None) is not None:
            with suppress(ray.exceptions.RayError, ValueError):
                ray.kill(job.worker)
        job.attempts += 1
        if job.attempts >= _ATTEMPTS:
            raise ServiceError(
                f"expected each chunk of the work to outlive its worker, found one whose worker died {job.attempts} times: "
                f"{_first_line(error)}; a worker may want more memory: give each more cores, so that fewer share a machine"
            ) from error
        if self._waiting is None:
            self._waiting = job
        else:
            self._again.append(job)


@contextmanager
def _sendable(thing: Any) -> Iterator[None]:
    """Turns the failure to send an object to another process into one :class:`InputError` that names it."""
    try:
        yield
    except (TypeError, AttributeError, PicklingError) as error:
        raise InputError(
            f"expected parts that can be sent to the workers of a Ray cluster, found {type(thing).__name__}: "
            f"{_first_line(error)}; keep open files, locks and connections out of it, or use the local engine"
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _last_line(error: Exception) -> str:
    """What a traceback ends with."""
    return str(error).strip().splitlines()[-1].strip()
