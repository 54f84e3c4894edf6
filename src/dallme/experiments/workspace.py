"""What cells share: data sets read once, distillations made once, inverters trained once, results kept by content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

import dallme
from dallme import registry
from dallme.atomic import atomic_write, checksum, file_lock
from dallme.data import LabelledTexts
from dallme.dataset import DistilledDataset
from dallme.decoders.base import SourceCache
from dallme.distiller import Distillation, Distiller
from dallme.embedders.base import Embedder
from dallme.embedders.cache import EmbeddingStore, embed_with_store
from dallme.embedders.resolve import resolve
from dallme.errors import InputError
from dallme.evaluation.compare import count_sets, make_sets
from dallme.evaluation.results import ResultStore, sample
from dallme.experiments.runs import Run
from dallme.experiments.spec import Candidate, Edition, Source
from dallme.progress import Progress, SilentProgress
from dallme.readers import read
from dallme.readers.files import data_files


@dataclass(frozen=True)
class MadeSets:
    """The sets of texts of one method.

    Attributes:
        texts: The sets, those of the first seeds first.
        nearness: Of a decoder's first set, the mean cosine of texts to their prototypes (``prototype_cosine``) and the share of
            the texts whose label a linear probe agrees with (``label_agrees``), None where they are not known; of a baseline
            nothing.
    """

    texts: tuple[LabelledTexts, ...]
    nearness: Mapping[str, float | None]


def nearness(distilled: DistilledDataset) -> dict[str, float | None]:
    """What :class:`MadeSets` says of a decoder's texts."""
    cosines = [each.cosine for each in distilled.lineage if each.cosine is not None]
    agree = [each.label_agrees for each in distilled.lineage if each.label_agrees is not None]
    return {
        "prototype_cosine": float(np.mean(cosines)) if cosines else None,
        "label_agrees": float(np.mean(agree)) if agree else None,
    }


def kept_sets(path: Path, count: int, like: LabelledTexts, make: Callable[[], MadeSets]) -> MadeSets:
    """The first sets of a file; where it has fewer, is damaged or is not there, they are made, and the file is written.

    A process that wants what another one is making waits for it.

    Args:
        path: The file; its folder is made.
        count: How many sets are wanted; those of a method do not depend on it.
        like: The source, whose classes they have.
        make: Makes as many.

    Raises:
        OSError: If the folder cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with file_lock(path.with_suffix(".lock")):
        found = _read(path, like)
        if found is None or len(found.texts) < count:
            found = make()
            content = json.dumps(
                {
                    "nearness": dict(found.nearness),
                    "sets": [
                        {"texts": list(each.texts), "labels": each.labels.tolist()} for each in found.texts
                    ],
                }
            )
            atomic_write(path, json.dumps({"crc32": checksum(content.encode()), "content": content}).encode())
    return MadeSets(found.texts[:count], found.nearness)


def _read(path: Path, like: LabelledTexts) -> MadeSets | None:
    try:
        outer = json.loads(path.read_bytes())
        if outer["crc32"] != checksum(outer["content"].encode()):
            return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError):  # not there, or damaged
        return None
    content = json.loads(outer["content"])
    return MadeSets(
        tuple(_like(like, each["texts"], each["labels"]) for each in content["sets"]), content["nearness"]
    )


def _like(source: LabelledTexts, texts: list[str], labels: list[int]) -> LabelledTexts:
    return LabelledTexts(
        texts, np.array(labels, dtype=np.int64), source.label_names, np.arange(len(texts)), source.source
    )


#: The decoder that trained inverters are for.
VEC2TEXT = "vec2text"


@dataclass(frozen=True)
class Workspace:
    """Where an edition is run, and with what. Cheap: data are read, and models loaded, where a cell needs them.

    Attributes:
        edition: The edition, which says where the data sets are.
        folder: The folder of the results; inverters that are trained on the way stand below it, and what experiments of the
            edition share, in the folder ``sets`` beside it.
        data: The folder that relative paths of data sets start from; None where there is none.
        store: The folder that keeps vectors and results of trainings.
        services: Options of embedders that are services, such as ``base_url``.
        progress: Where to show progress.
    """

    edition: Edition = field(hash=False)
    folder: Path
    data: Path | None
    store: Path
    services: Mapping[str, Any] = field(default_factory=dict, hash=False)
    progress: Progress = field(default_factory=SilentProgress, compare=False)

    @property
    def results(self) -> ResultStore:
        """Where results of trainings are kept."""
        return ResultStore(self.store / "results", self.progress)

    def inputs(self, cell: Run) -> dict[str, str]:
        """Hashes of what stands behind names in a cell's configuration: data sets, ready sets, an inverter's weights.

        Raises:
            InputError: If one of them cannot be read.
        """
        source, test = self.texts(cell)
        found = {"source": source.digest, "test": test.digest if test else ""}
        if cell["method"] in cell.grid.candidates:
            found["candidate"] = ",".join(texts.digest for texts in self.candidate(cell))
        if str(cell["method"] or "").partition(":")[0] == VEC2TEXT and not cell["inverter_steps"]:
            found["inverter"] = _weights_of(str(cell["method"]).partition(":")[2])
        return found

    def texts(self, cell: Run) -> tuple[LabelledTexts, LabelledTexts | None]:
        """The source and the test set of a cell, sampled if its grid says so."""
        known = self.edition.data[cell["data"]]
        return _texts(self.data, known, cell.grid.train_rows, cell.grid.test_rows)

    def test_set(self, cell: Run) -> LabelledTexts:
        """The test set of a cell.

        Raises:
            InputError: If its data set has none.
        """
        test = self.texts(cell)[1]
        if test is None:
            raise InputError(
                f"expected a test set in the experiment's data.{cell['data']}, found none; give test = ..."
            )
        return test

    def candidate(self, cell: Run) -> list[LabelledTexts]:
        """The ready sets that a cell's method stands for."""
        return _candidate(self.data, cell.grid.candidates[cell["method"]], self.texts(cell)[0])

    def embedder(self, name: str) -> Embedder:
        """An embedder; one that is a service with the options for services."""
        return resolve(name, **(self.services if name.partition(":")[0] == "openai" else {}))

    def distiller(self, cell: Run) -> Distiller:
        """The distiller of a cell; its decoder is the cell's method if that is one, else the cheapest."""
        method = str(cell["method"])
        decodes = method.partition(":")[0] in registry.names("decoders")
        if method == VEC2TEXT and cell["inverter_steps"]:
            method = f"{VEC2TEXT}:{self.inverter(cell)}"
        return Distiller(
            per_class=cell["per_class"],
            ratio=cell["ratio"],
            embedder=self.embedder(cell["embedder"]),
            prompt=cell["prompt"] or None,
            condenser=cell["condenser"],
            decoder=method if decodes else "nearest",
            decoder_options=_known_options(method, cell.grid.decoder_options) if decodes else {},
            max_tokens=cell.grid.max_tokens,
            seed=cell.grid.seed,
            store=self.store,
            progress=self.progress,
        )

    def distil(self, cell: Run) -> tuple[Distiller, Distillation]:
        """The distiller of a cell and its first run, which cells that are given the same texts share."""
        distiller, source = self.distiller(cell), self.texts(cell)[0]
        shared = _shared(source.digest, cell["embedder"])
        return distiller, _KEPT.get(
            (self.folder.parent, self._made_of(cell)), lambda: distiller.run(source, cache=shared)
        )

    def embed(self, cell: Run) -> None:
        """Puts the vectors of a cell's source, and of a test set that is read as vectors, where one can tell which they are."""
        embedder, prompt = self.embedder(cell["embedder"]), cell["prompt"] or None
        if embedder.fingerprint(prompt).weights == "unknown":
            return
        source, test = self.texts(cell)
        for texts in (source, test if cell.kind == "probe" else None):
            if texts is not None:
                embed_with_store(
                    embedder,
                    texts.texts,
                    prompt=prompt,
                    store=EmbeddingStore(self.store),
                    progress=self.progress,
                )

    def sets(self, cell: Run) -> MadeSets:
        """The sets of texts that a cell's method makes; they are kept beside the results of all experiments of the edition."""
        method, plan, source = str(cell["method"]), cell.grid.plan(), self.texts(cell)[0]
        if method == "full":
            return MadeSets((source,), {})
        if method in cell.grid.candidates:
            return MadeSets(tuple(plan.usable(self.candidate(cell))), {})

        def make() -> MadeSets:
            distiller, run = self.distil(cell)
            named = str(distiller.decoder) if method.partition(":")[0] == VEC2TEXT else method
            decodes = named.partition(":")[0] in registry.names("decoders")
            return MadeSets(
                tuple(make_sets(distiller, run, named, plan)), nearness(run.distilled) if decodes else {}
            )

        path = self.folder.parent / "sets" / f"{_hash_of(self._made_of(cell))}.json"
        return kept_sets(path, count_sets(method, plan), source, make)

    def _made_of(self, cell: Run) -> str:
        """All that the texts of a cell are made of, as JSON; neither how many sets of them, nor what is done with them."""
        inputs = self.inputs(cell)
        parts = [dallme.__version__, cell.recipe(), inputs["source"], inputs.get("inverter", "")]
        return json.dumps(parts, sort_keys=True)

    def inverter(self, cell: Run) -> Path:
        """The inverter that is trained for a cell's embedder, on its source, for as many steps as the cell says.

        An interrupted training goes on where it was. A correcting decoder gets a corrector, trained as long.
        """
        from dallme.decoders.vec2text.model import FILE
        from dallme.decoders.vec2text.training import train_inverter

        source, steps, grid = self.texts(cell)[0], cell["inverter_steps"], cell.grid
        correct = bool(grid.decoder_options.get("steps", 1))
        parts = [source.digest, cell["embedder"], grid.preset, steps, correct, grid.seed]
        output = self.folder / "inverters" / _hash_of(parts)
        output.parent.mkdir(parents=True, exist_ok=True)
        with file_lock(output.with_suffix(".lock")):  # two jobs may want the same
            if not (output / FILE).is_file():
                embedder, store = self.embedder(cell["embedder"]), EmbeddingStore(self.store)
                embed = partial(embed_with_store, embedder, store=store, progress=self.progress)
                options: dict[str, Any] = {
                    "steps": steps,
                    "preset": grid.preset,
                    "correct": correct,
                    "seed": grid.seed,
                }
                options |= {"name": cell["embedder"], "resume": True, "progress": self.progress}
                train_inverter(source, embedder, output, embed=embed, **options)
        return output

    def quiet(self) -> Workspace:
        """The same, silent: for other processes."""
        return replace(self, progress=SilentProgress())


def _hash_of(parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def _known_options(decoder: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that a decoder has: one grid may hold several decoders."""
    known = {each.name for each in fields(registry.split("decoders", decoder)[0].load())}
    return {name: value for name, value in options.items() if name in known}


class _Kept:
    """The few last things that were made, by what they were made of: cells that share them follow each other."""

    def __init__(self, most: int) -> None:
        self.most, self.things = most, {}  # type: int, dict[Any, Any]

    def get(self, key: Any, make: Any) -> Any:
        if key not in self.things:
            made = make()
            while len(self.things) >= self.most:
                self.things.pop(next(iter(self.things)))
            self.things[key] = made
        return self.things[key]


_KEPT = _Kept(most=4)


@lru_cache(maxsize=2)
def _shared(source: str, embedder: str) -> SourceCache:
    """Returns the cache that distillations of one source with one embedder share."""
    return SourceCache()


@lru_cache(maxsize=8)
def _texts(
    folder: Path | None, source: Source, train_rows: int, test_rows: int
) -> tuple[LabelledTexts, LabelledTexts | None]:
    columns: dict[str, Any] = {
        "text_column": source.text_column or None,
        "label_column": source.label_column or None,
    }
    train = read(_place(source.train, folder), **columns)
    test = read(_place(source.test, folder), **columns, like=train) if source.test else None
    if train_rows:
        train = sample(train, train_rows, np.random.default_rng(0))
    if test is not None and test_rows:
        test = sample(test, test_rows, np.random.default_rng(0))
    return train, test


@lru_cache(maxsize=8)
def _candidate(folder: Path | None, candidate: Candidate, like: LabelledTexts) -> list[LabelledTexts]:
    place = _place(candidate.path, folder)
    columns: dict[str, Any] = {
        "text_column": candidate.text_column or None,
        "label_column": candidate.label_column or None,
    }
    return [
        read(each, **columns, like=like) for each in (data_files(place) if Path(place).is_dir() else [place])
    ]


def _place(path: str, folder: Path | None) -> Any:
    """Where a data set is: a path as it is, one below the folder of data, or a Hub id.

    Raises:
        InputError: If it is the relative path of a file, and no folder of data is given or it has none of that name.
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
def _weights_of(inverter: str) -> str:
    """The hash of an inverter's weights."""
    from dallme.decoders.vec2text.inverter import find_inverter

    files = sorted(find_inverter(inverter).glob("*.safetensors"))
    return ",".join(hashlib.sha256(file.read_bytes()).hexdigest() for file in files)
