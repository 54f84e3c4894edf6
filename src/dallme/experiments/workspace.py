"""Shared inputs of runs: data sets, texts, inverters and results, each computed once and keyed by content."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import numpy as np

from dallme import registry
from dallme.data import LabelledTexts
from dallme.dataset import DistilledDataset
from dallme.decoders.base import SourceCache
from dallme.distiller import Distillation, Distiller
from dallme.embedders import resolve
from dallme.embedders.base import Embedder
from dallme.embedders.cache import CachedEmbedder
from dallme.errors import InputError, OutputError
from dallme.evaluation.results import ResultStore, sample
from dallme.evaluation.sets import count_sets, make_sets
from dallme.experiments import Candidate, Profile, Source
from dallme.experiments.runs import Run
from dallme.files.atomic import atomic_write, checksum, file_lock, sha256_of
from dallme.progress import Progress, SilentProgress
from dallme.readers import read
from dallme.readers.folders import data_files
from dallme.versions import __version__

#: The decoder that uses trained inverters.
VEC2TEXT = "vec2text"

#: Most seconds, a week, that a process waits for another one which computes the same.
LONGEST_WORK = 604_800.0

#: Baselines that read texts only, so that nothing is embedded for them.
WITHOUT_VECTORS = ("random", "random-sentences", "full", "eda", "tdd", "lora")


def needs_vectors(run: Run) -> bool:
    """Returns whether a run reads the vectors of its source."""
    if run.kind == "cost":
        return False
    return run.kind == "probe" or (
        run.part not in WITHOUT_VECTORS and run["method"] not in run.grid.candidates
    )


def corrects(run: Run) -> bool:
    """Returns whether a run's decoder corrects, so that its inverter needs a corrector."""
    return bool(run.grid.decoder_options.get("steps", 1))


@dataclass(frozen=True)
class TextSets:
    """Sets of texts of one method.

    Attributes:
        texts: The sets, in the order of their seeds.
        nearness: For a decoder's first set, the mean cosine of texts to prototypes (``prototype_cosine``) and
            the share of texts whose label a linear probe confirms (``label_agrees``); None if unknown.
            Empty for baselines.
    """

    texts: tuple[LabelledTexts, ...]
    nearness: Mapping[str, float | None]


def nearness(distilled: DistilledDataset) -> dict[str, float | None]:
    """Returns the nearness of a decoder's texts, as in :class:`TextSets`."""
    cosines = [each.cosine for each in distilled.lineage if each.cosine is not None]
    agreements = [each.label_agrees for each in distilled.lineage if each.label_agrees is not None]
    return {
        "prototype_cosine": float(np.mean(cosines)) if cosines else None,
        "label_agrees": float(np.mean(agreements)) if agreements else None,
    }


def cached_sets(path: Path, count: int, like: LabelledTexts, make: Callable[[], TextSets]) -> TextSets:
    """Returns the first sets of a file; makes and writes them if the file is missing, damaged or too short.

    Another process that asks for the same file waits until it is written.

    Args:
        path: The file; its folder is created.
        count: Number of sets. The sets of a method do not depend on it.
        like: The source, whose classes the sets have.
        make: Makes at least that many sets.

    Raises:
        OSError: If the folder cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _turn(path.with_suffix(".lock")):
        sets = _read_sets(path, like)
        if sets is None or len(sets.texts) < count:
            sets = make()
            tables = [{"texts": list(each.texts), "labels": each.labels.tolist()} for each in sets.texts]
            content = json.dumps({"nearness": dict(sets.nearness), "sets": tables})
            atomic_write(path, json.dumps({"crc32": checksum(content.encode()), "content": content}).encode())
    return TextSets(sets.texts[:count], sets.nearness)


@contextmanager
def _turn(lock: Path) -> Iterator[None]:
    """Waits for another process that computes the same, for at most :data:`LONGEST_WORK` seconds.

    Raises:
        OutputError: If it takes longer; the message names the process.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(file_lock(lock, limit=LONGEST_WORK))
        except TimeoutError as error:
            raise OutputError(
                f"expected to compute {lock.stem} in turn, found that {error.strerror}"
            ) from None
        yield


def _read_sets(path: Path, like: LabelledTexts) -> TextSets | None:
    """Reads a file of sets; None if it is missing or damaged."""
    try:
        outer = json.loads(path.read_bytes())
        if outer["crc32"] != checksum(outer["content"].encode()):
            return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
    content = json.loads(outer["content"])
    return TextSets(tuple(_labelled(like, **table) for table in content["sets"]), content["nearness"])


def _labelled(like: LabelledTexts, texts: list[str], labels: list[int]) -> LabelledTexts:
    ids = np.array(labels, dtype=np.int64)
    return LabelledTexts(texts, ids, like.label_names, np.arange(len(texts)), like.source)


@dataclass(frozen=True)
class Workspace:
    """Inputs and folders of a profile's runs. Data are read and models loaded on first use.

    Attributes:
        profile: The profile, which names the data sets.
        folder: Folder of the experiment's results. The folders ``sets`` and ``inverters`` next to it hold the
            texts and trained inverters that experiments share.
        data: Base of the relative paths of data sets; None for the working folder.
        store: Folder of vectors and of results of trainings.
        services: Options of embedders that are services, such as ``base_url``.
        progress: Progress display.
    """

    profile: Profile = field(hash=False)
    folder: Path
    data: Path | None
    store: Path
    services: Mapping[str, Any] = field(default_factory=dict, hash=False)
    progress: Progress = field(default_factory=SilentProgress, compare=False)

    @property
    def results(self) -> ResultStore:
        """Store of the results of trainings."""
        return ResultStore(self.store / "results", self.progress)

    def inputs(self, run: Run) -> dict[str, str]:
        """Returns hashes of the data sets, published sets and inverter's weights that a run names.

        Raises:
            InputError: If one of them cannot be read.
        """
        source, test = self.texts(run)
        hashes = {"source": source.digest, "test": test.digest if test else ""}
        if run["method"] in run.grid.candidates:
            hashes["candidate"] = ",".join(texts.digest for texts in self.candidate(run))
        if run.part == VEC2TEXT and not run["inverter_steps"]:
            hashes["inverter"] = _hash_weights(str(run["method"]).partition(":")[2])
        return hashes

    def texts(self, run: Run) -> tuple[LabelledTexts, LabelledTexts | None]:
        """Returns the source and the test set of a run, sampled as its grid says."""
        source = self.profile.data[run["data"]]
        return _read_texts(self.data, source, run.grid.train_rows, run.grid.test_rows)

    def test_set(self, run: Run) -> LabelledTexts:
        """Returns the test set of a run.

        Raises:
            InputError: If its data set has none.
        """
        test = self.texts(run)[1]
        if test is None:
            raise InputError(
                f"expected a test set in the experiment's data.{run['data']}, found none; give test = ..."
            )
        return test

    def candidate(self, run: Run) -> list[LabelledTexts]:
        """Returns the published sets that a run's method names."""
        return _read_candidate(self.data, run.grid.candidates[run["method"]], self.texts(run)[0])

    def embedder(self, name: str) -> Embedder:
        """Returns an embedder; services get the options of services."""
        return resolve(name, **(self.services if name.partition(":")[0] == "openai" else {}))

    def cached(self, embedder: Embedder, prompt: str | None = None) -> CachedEmbedder:
        """Returns an embedder that keeps its vectors in the store."""
        return CachedEmbedder(embedder, prompt, self.store, self.progress)

    def distiller(self, run: Run) -> Distiller:
        """Returns the distiller of a run; its decoder is the run's method, or else the cheapest decoder."""
        method = str(run["method"])
        decodes = run.part in registry.names("decoders")
        if method == VEC2TEXT and run["inverter_steps"]:
            method = f"{VEC2TEXT}:{self.inverter(run)}"
        return Distiller(
            per_class=run["per_class"],
            ratio=run["ratio"],
            embedder=self.embedder(run["embedder"]),
            prompt=run["prompt"] or None,
            condenser=run["condenser"],
            decoder=method if decodes else "nearest",
            decoder_options=known_options(method, run.grid.decoder_options) if decodes else {},
            max_tokens=run.grid.max_tokens,
            seed=run.grid.seed,
            store=self.store,
            progress=self.progress,
        )

    def distil(self, run: Run) -> tuple[Distiller, Distillation]:
        """Returns the distiller of a run and its first distillation, which runs with the same recipe share.

        Nothing is embedded for baselines that read texts only; their distillation has a source and no texts.
        """
        distiller, source = self.distiller(run), self.texts(run)[0]
        if not needs_vectors(run):
            no_vectors = distiller.adopt(source, np.ones((len(source), 1), np.float32))
            return distiller, Distillation(
                distiller.context(source, no_vectors), cast(Any, None), cast(Any, None)
            )
        shared = _shared_findings(source.digest, run["embedder"])
        return distiller, _DISTILLATIONS.get(
            (self.folder.parent, self._recipe(run)), lambda: distiller.run(source, cache=shared)
        )

    def embed(self, run: Run) -> None:
        """Stores the vectors of a run's source, and of a probe's test set, if the weights are known."""
        embedder = self.cached(self.embedder(run["embedder"]), run["prompt"] or None)
        if embedder.cache_key() is None:
            return
        for texts in self.texts(run)[: 2 if run.kind == "probe" else 1]:
            if texts is not None:
                embedder.embed(texts.texts)

    def sets(self, run: Run) -> TextSets:
        """Returns the sets of texts of a run's method, which all experiments of the profile share."""
        method, protocol, source = str(run["method"]), run.grid.plan(), self.texts(run)[0]
        if method == "full":
            return TextSets((source,), {})
        if method in run.grid.candidates:
            return TextSets(tuple(protocol.usable(self.candidate(run))), {})

        def make() -> TextSets:
            distiller, distillation = self.distil(run)
            name = str(distiller.decoder) if run.part == VEC2TEXT else method
            sets = tuple(make_sets(distiller, distillation, name, protocol))
            decodes = run.part in registry.names("decoders")
            return TextSets(sets, nearness(distillation.distilled) if decodes else {})

        path = self.folder.parent / "sets" / f"{_short_hash(self._recipe(run))}.json"
        return cached_sets(path, count_sets(method, protocol), source, make)

    def _recipe(self, run: Run) -> str:
        """Returns the settings that determine the texts of a run, as JSON, without their number and use."""
        inputs = self.inputs(run)
        parts = [__version__, run.recipe(), inputs["source"], inputs.get("inverter", "")]
        return json.dumps(parts, sort_keys=True)

    def inverter(self, run: Run) -> Path:
        """Returns the inverter of a run's embedder, trained on its source for the run's number of steps.

        An interrupted training is continued. A correcting decoder gets a corrector with as many steps. All
        experiments of the profile share the inverters.
        """
        from dallme.decoders.vec2text.model import FILE
        from dallme.decoders.vec2text.training import train_inverter

        source, steps, grid = self.texts(run)[0], run["inverter_steps"], run.grid
        correct, output = corrects(run), self.inverter_folder(run)
        output.parent.mkdir(parents=True, exist_ok=True)
        with _turn(output.with_suffix(".lock")):  # two processes may want the same inverter
            if not (output / FILE).is_file():
                embedder = self.embedder(run["embedder"])
                train_inverter(
                    source,
                    embedder,
                    output,
                    name=run["embedder"],
                    embed=self.cached(embedder).embed,
                    steps=steps,
                    preset=grid.preset,
                    correct=correct,
                    seed=grid.seed,
                    resume=True,
                    progress=self.progress,
                )
        return output

    def inverter_folder(self, run: Run) -> Path:
        """Returns the folder of the inverter that a run trains, which need not exist."""
        parts = [self.texts(run)[0].digest, run["embedder"], run.grid.preset, run["inverter_steps"]]
        return self.folder.parent / "inverters" / _short_hash([*parts, corrects(run), run.grid.seed])

    def quiet(self) -> Workspace:
        """Returns a copy without progress display, for other processes."""
        return replace(self, progress=SilentProgress())


def _short_hash(parts: Any) -> str:
    return sha256_of([json.dumps(parts)])[:16]


def known_options(decoder: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the options that a decoder has; one grid may hold several decoders."""
    known = {each.name for each in fields(registry.split("decoders", decoder)[0].load())}
    return {name: value for name, value in options.items() if name in known}


class RecentCache:
    """A cache of the last few values; runs that share a value follow each other."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.values: dict[Any, Any] = {}

    def get(self, key: Any, make: Callable[[], Any]) -> Any:
        """Returns the value of a key, and makes it if it is not cached."""
        if key not in self.values:
            value = make()
            while len(self.values) >= self.size:
                self.values.pop(next(iter(self.values)))
            self.values[key] = value
        return self.values[key]


_DISTILLATIONS = RecentCache(size=4)


def clear_caches() -> None:
    """Drops what the process has in memory of earlier runs."""
    _DISTILLATIONS.values.clear()
    for function in (_shared_findings, _read_texts, _read_candidate, _hash_weights):
        function.cache_clear()


@lru_cache(maxsize=2)
def _shared_findings(source: str, embedder: str) -> SourceCache:
    """Returns the cache that distillations of one source with one embedder share."""
    return SourceCache()


@lru_cache(maxsize=8)
def _read_texts(
    folder: Path | None, source: Source, train_rows: int, test_rows: int
) -> tuple[LabelledTexts, LabelledTexts | None]:
    train = read(_resolve_path(source.train, folder), **_columns(source))
    test = read(_resolve_path(source.test, folder), **_columns(source), like=train) if source.test else None
    if train_rows:
        train = sample(train, train_rows, np.random.default_rng(0))
    if test is not None and test_rows:
        test = sample(test, test_rows, np.random.default_rng(0))
    return train, test


@lru_cache(maxsize=8)
def _read_candidate(folder: Path | None, candidate: Candidate, like: LabelledTexts) -> list[LabelledTexts]:
    path = _resolve_path(candidate.path, folder)
    files = data_files(path) if Path(path).is_dir() else [path]
    return [read(file, **_columns(candidate), like=like) for file in files]


def _columns(source: Source | Candidate) -> dict[str, Any]:
    return {"text_column": source.text_column or None, "label_column": source.label_column or None}


def _resolve_path(path: str, folder: Path | None) -> Any:
    """Returns the path of a data set, in the folder of data if there is one, or its Hub id.

    Raises:
        InputError: If a relative path names a file that is not there.
    """
    if Path(path).is_absolute() or (folder is None and Path(path).exists()):
        return Path(path)
    if folder is not None and (folder / path).exists():
        return folder / path
    if Path(path).suffix or path.count("/") > 1:
        where = f"in {str(folder)!r}" if folder else "and no folder of data is given"
        raise InputError(
            f"expected the data set {path!r}, found none {where}; name the folder that holds it with --data"
        )
    return path


@lru_cache(maxsize=8)
def _hash_weights(inverter: str) -> str:
    from dallme.decoders.vec2text.inverter import find_inverter

    files = sorted(find_inverter(inverter).glob("*.safetensors"))
    return ",".join(sha256_of([file]) for file in files)
