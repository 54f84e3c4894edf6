"""Engines: a run on a Ray cluster gives the bytes of a local run, whatever dies or joins meanwhile."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from dallme.cli.main import app
from dallme.decoders.vec2text import inverter as inverters
from dallme.decoders.vec2text.inverter import Inverter, find_inverter
from dallme.distiller import Distiller
from dallme.embedders.base import EncoderEmbedder, TextError
from dallme.embedders.cache import EmbeddingStore, embed_with_store
from dallme.embedders.glove import GloVeEmbedder
from dallme.embedders.hashing import HashingEmbedder
from dallme.embedders.openai import OpenAIEmbedder
from dallme.errors import DallmeError, InputError, MissingDependencyError, ServiceError, UnknownNameError
from dallme.progress import SilentProgress
from dallme.scale import LocalEngine, RayEngine, in_order, make_engine

WORDS = {
    "good": ["warm", "funny", "lovely", "great", "fine", "clever", "bright"],
    "bad": ["dull", "boring", "awful", "weak", "sad", "slow", "flat"],
}
SHARED = ["the", "film", "story", "cast", "plot", "scene", "music", "ending", "actor", "script"]


def make_texts(rows: int) -> tuple[list[str], list[str]]:
    """Texts of two sentences, some of them twice, with words of their class among others."""
    rng = np.random.default_rng(0)
    labels = [("good", "bad")[row % 2] for row in range(rows)]
    texts = [
        " ".join(
            f"{' '.join(rng.choice(SHARED, 4))} {' '.join(rng.choice(WORDS[label], 3))}." for _ in range(2)
        )
        for label in labels
    ]
    return [*texts[:-2], *texts[:2]], labels


TEXTS, LABELS = make_texts(1400)

#: Settings of Ray for tests: no usage reports, and no port beyond this machine.
SETTINGS = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}

#: A node of the tests' cluster.
NODE = {"num_cpus": 1, "object_store_memory": 100 * 2**20, "node_ip_address": "127.0.0.1"}


@dataclass
class SlowEmbedder:
    """Says how often it was asked, and takes its time."""

    log: str

    def encode(self, texts: list[str]) -> np.ndarray:
        with open(self.log, "a") as file:
            file.write(f"{os.getpid()}\n")
        time.sleep(0.15)
        return HashingEmbedder(dimension=16)._embed(texts, None)

    @property
    def workers(self) -> set[int]:
        return {int(line) for line in Path(self.log).read_text().split()} - {os.getpid()}


class Disturbance(SilentProgress):
    """Kills a worker and adds a node as soon as two workers have embedded something."""

    def __init__(self, cluster: Any, encoder: SlowEmbedder) -> None:
        self.cluster, self.encoder, self.killed = cluster, encoder, False

    @contextmanager
    def task(self, description: str, total: int) -> Iterator[Any]:
        yield self

    def advance(self, steps: int = 1) -> None:
        if steps and not self.killed and len(self.encoder.workers) >= 2:
            os.kill(self.encoder.workers.pop(), signal.SIGKILL)
            self.cluster.add_node(**NODE)
            self.killed = True


class Travelling:
    """Sends work and pieces nowhere, but packs and unpacks them as if, and hands results over backwards."""

    remote = True

    def map(
        self, work: Any, pieces: Iterable[Any], *, accelerated: bool = False
    ) -> Iterator[tuple[int, Any]]:
        cloudpickle = pytest.importorskip(
            "ray.cloudpickle", reason="no Ray to pack with; pip install 'dallme[ray]'"
        )

        def through_pickle(thing: Any) -> Any:
            return cloudpickle.loads(cloudpickle.dumps(thing))

        there = through_pickle(work)
        yield from reversed(
            [(place, through_pickle(there(through_pickle(piece)))) for place, piece in enumerate(pieces)]
        )

    def close(self) -> None:
        pass


class Refusing(Travelling):
    def map(
        self, work: Any, pieces: Iterable[Any], *, accelerated: bool = False
    ) -> Iterator[tuple[int, Any]]:
        raise AssertionError("nothing was to be sent")


@pytest.fixture(autouse=True, scope="module")
def _ray_settings() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SETTINGS.items():
            patch.setenv(name, os.environ.get(name, value))
        yield


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes of one core each, both on this machine, with a driver that has joined them."""
    ray = pytest.importorskip("ray", reason="no Ray to make a cluster with; pip install 'dallme[ray]'")
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args=NODE)
    made.add_node(**NODE)
    ray.init(address=made.address, log_to_driver=False, logging_level="ERROR")
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers find this module nowhere
    yield made
    ray.shutdown()
    made.shutdown()


def distilled(tmp_path: Path, engine: Any, **options: Any) -> bytes:
    chosen = {"per_class": 3, "embedder": "hashing", "max_tokens": 40, **options}
    Distiller(engine=engine, **chosen).distill(TEXTS, LABELS).save(tmp_path / "set", overwrite=True)
    return (tmp_path / "set" / "train.parquet").read_bytes()


# Without a cluster


def test_the_local_engine_works_on_one_piece_after_the_other() -> None:
    asked = []
    pieces = (asked.append(piece) or piece for piece in range(3))
    found = LocalEngine().map(lambda piece: 10 * piece, pieces)
    assert next(found) == (0, 0)
    assert asked == [0]
    assert in_order([(2, "c"), *[(0, "a"), (1, "b")]]) == ["a", "b", "c"]
    assert list(found) == [(1, 10), (2, 20)]


def test_engines_are_found_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(make_engine("local"), LocalEngine)
    with pytest.raises(UnknownNameError, match="unknown engine 'spark'; known: local, ray"):
        Distiller(per_class=1, engine="spark")
    with pytest.raises(
        InputError, match="expected an engine: one of local, ray or an object with map, found 3"
    ):
        Distiller(per_class=1, engine=3)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="expected an address with the engine ray only, found 'host:1'"):
        make_engine("local", "host:1")
    monkeypatch.setattr("dallme.scale.find_spec", lambda name: None)
    with pytest.raises(
        MissingDependencyError, match=r"engine 'ray' needs the package 'ray'.*pip install 'dallme\[ray\]'"
    ):
        make_engine("ray")


def test_a_cluster_that_is_not_there() -> None:
    pytest.importorskip("ray", reason="no Ray to look for a cluster with; pip install 'dallme[ray]'")
    with pytest.raises(
        ServiceError, match="expected a Ray cluster at 127.0.0.1:1, could not join it: .*refused; check"
    ):
        list(RayEngine("127.0.0.1:1").map(str, range(2)))


def test_a_private_cluster_is_local_and_keeps_user_settings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ray = pytest.importorskip("ray", reason="no Ray to look at the settings of; pip install 'dallme[ray]'")
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    names = ("RAY_ADDRESS", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "RAY_USAGE_STATS_ENABLED")
    for name in names:
        monkeypatch.setenv(name, "")  # so that what is set below is undone
        monkeypatch.delenv(name)
    RayEngine("127.0.0.1:1")._connect()
    assert [os.environ.get(name) for name in names] == [None, None, "0"]
    RayEngine()._connect()
    assert [os.environ.get(name) for name in names] == [None, "0", "0"]
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "1")
    RayEngine()._connect()
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "1"


def test_nothing_of_ray_is_loaded_before_it_is_asked_for() -> None:
    code = "import sys, dallme.distiller, dallme.scale; print('ray' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        == "False\n"
    )


def test_an_embedder_through_pickles_without_its_weights() -> None:
    import copy

    embedder = GloVeEmbedder()
    embedder.tally[:] = 5
    assert embedder.__dict__.keys() > {"tally"}
    assert copy.copy(embedder).__dict__ == {"source": "6B.50d", "unknown": "error"}


@pytest.mark.parametrize(
    "error",
    [
        TextError(3, "text", "is odd"),
        UnknownNameError("kind", "x", ["a", "b"]),
        MissingDependencyError("p", "q", "r"),
    ],
)
def test_an_error_crosses_to_another_process_whole(error: DallmeError) -> None:
    import copy

    found = copy.copy(error)
    assert (type(found), str(found), vars(found)) == (type(error), str(error), vars(error))


@pytest.mark.parametrize(
    ("decoder", "condenser"), [("extractive", "gmm"), ("nearest", "medoid"), ("teaching", "random")]
)
def test_all_that_is_sent_is_fit_to_through_pickle(tmp_path: Path, decoder: str, condenser: str) -> None:
    options = {"decoder": decoder, "condenser": condenser}
    assert distilled(tmp_path, Travelling(), **options) == distilled(tmp_path, "local", **options)


def test_an_inverter_decodes_elsewhere_what_it_decodes_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inverters, "ROWS", 1)
    inverter = Inverter.load(find_inverter(""), "cpu", precision="float32")
    vectors = (
        np.random.default_rng(0).normal(size=(2, inverter.config.fingerprint.dimension)).astype(np.float32)
    )
    found = inverter.decode(vectors, steps=0, beam=1, engine=Travelling())
    assert found == inverter.decode(vectors, steps=0, beam=1)


def test_a_service_is_asked_from_one_process_alone() -> None:
    assert not OpenAIEmbedder.picklable
    with pytest.raises(
        ServiceError, match="OPENAI_API_KEY|could not be reached|refused"
    ):  # here: nothing was sent elsewhere
        embed_with_store(
            OpenAIEmbedder("m", base_url="http://127.0.0.1:1", dimensions=3, max_retries=0),
            TEXTS,
            engine=Refusing(),
        )


def test_an_embedder_that_differs_on_a_machine_is_noticed() -> None:
    class Changing(HashingEmbedder):
        def __setstate__(self, state: dict[str, Any]) -> None:
            self.__dict__.update(state | {"dimension": 7})

    with pytest.raises(
        InputError,
        match="expected the embedder Fingerprint.*dimension=256.* on every machine, found .*dimension=7",
    ):
        embed_with_store(Changing(), TEXTS, engine=Travelling())


# On two nodes


def test_a_set_is_the_same_on_two_nodes(cluster: Any, tmp_path: Path) -> None:
    assert distilled(tmp_path, "ray") == distilled(tmp_path, "local")


def test_workers_fill_the_same_store_as_a_local_run(cluster: Any, tmp_path: Path) -> None:
    embedder = HashingEmbedder()
    made = embed_with_store(
        embedder, TEXTS, store=EmbeddingStore(tmp_path / "a"), engine=RayEngine(), chunk=100
    )
    assert np.array_equal(made, embed_with_store(embedder, TEXTS, chunk=100))
    again = embed_with_store(embedder, TEXTS, store=EmbeddingStore(tmp_path / "a"), engine=None, chunk=10_000)
    assert np.array_equal(made, again)
    assert len(EmbeddingStore(tmp_path / "a").table(embedder.fingerprint())) == len(set(TEXTS))


def test_the_command_line_joins_a_cluster(cluster: Any, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    for part, start in enumerate(range(0, len(TEXTS), 500)):
        rows = zip(TEXTS[start : start + 500], LABELS[start : start + 500], strict=True)
        (folder / f"part{part}.jsonl").write_text(
            "".join(json.dumps({"text": t, "label": k}) + "\n" for t, k in rows)
        )
    digests = set()
    for extra in (["--engine", "ray", "--address", cluster.address], []):
        command = [
            "distill",
            str(folder),
            "--per-class",
            "2",
            "--embedder",
            "hashing",
            "--decoder",
            "extractive",
            "--no-report",
        ]
        command += [
            "--store",
            str(tmp_path / "store"),
            "--output",
            str(tmp_path / "out"),
            "--overwrite",
            *extra,
        ]
        ran = CliRunner().invoke(app, command)
        assert ran.exit_code == 0, ran.output
        digests.add(hashlib.sha256((tmp_path / "out" / "train.parquet").read_bytes()).hexdigest())
    assert len(digests) == 1


@pytest.mark.slow
def test_a_killed_worker_and_a_new_node_change_nothing(cluster: Any, tmp_path: Path) -> None:
    encoder = SlowEmbedder(str(tmp_path / "log"))
    disturbance = Disturbance(cluster, encoder)
    made = embed_with_store(
        EncoderEmbedder(encoder), TEXTS, engine=RayEngine(), chunk=12, progress=disturbance
    )
    assert np.array_equal(made, HashingEmbedder(dimension=16).embed(TEXTS))
    assert disturbance.killed
    assert len(encoder.workers) >= 4  # two, one in the place of the killed one, and one on the new node


# What goes wrong there


def die(piece: int) -> int:
    if piece == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return piece


def test_work_that_kills_every_worker_is_given_up(cluster: Any) -> None:
    with pytest.raises(
        ServiceError, match="found one chunk whose worker died 4 times: .*; a worker may need more memory"
    ):
        list(RayEngine().map(die, range(4)))


def test_a_cluster_without_room(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dallme.scale._ROOM", 2)
    with pytest.raises(
        ServiceError,
        match="expected room for a worker of 64 cores on the Ray cluster, found none in 2 seconds",
    ):
        list(RayEngine(cpus=64).map(str, range(3)))


def test_what_the_work_has_to_say_arrives(cluster: Any) -> None:
    texts = [*TEXTS[:30], "zxqv"]
    with pytest.raises(
        TextError, match=r"row 30 \('zxqv'\) has no word, stop words aside, that glove:6B.50d knows"
    ):
        embed_with_store(GloVeEmbedder(), texts, engine=RayEngine(), chunk=10)


def test_what_cannot_be_pickled_is_named(cluster: Any) -> None:
    lock = threading.Lock()
    with pytest.raises(
        InputError, match="expected parts that can be sent to the workers of a Ray .*, found function: .*lock"
    ):
        list(RayEngine().map(lambda piece: (lock, piece), range(3)))
