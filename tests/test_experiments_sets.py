"""Shared inputs of the runs of a profile: sets of texts on the disk, vectors, and the cores."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dallme import registry
from dallme.baselines.base import ModelBaseline
from dallme.data import LabelledTexts
from dallme.decoders.extractive.candidates import SentenceFilter
from dallme.distiller import Distillation, Distiller
from dallme.embedders.hashing import HashingEmbedder
from dallme.errors import DallmeError
from dallme.experiments import Experiment, kinds, parse_experiment
from dallme.experiments.running import next_run, run_experiment, share_cores
from dallme.experiments.runs import Run, make_runs
from dallme.experiments.workspace import WITHOUT_VECTORS, TextSets, Workspace, cached_sets, clear_caches

SOURCE = LabelledTexts(["a", "b", "c"], np.array([4, 7, 4]), {4: "good", 7: "bad"}, np.arange(3))


def make_sets(*texts: str) -> TextSets:
    """Returns a set of two texts for each of the given texts."""
    sets = (
        replace(SOURCE, texts=[text, f"{text}é"], labels=np.array([7, 4]), row_ids=np.arange(2))
        for text in texts
    )
    return TextSets(tuple(sets), {"prototype_cosine": 0.25, "label_agrees": None})


def never() -> TextSets:
    raise AssertionError("the sets were made again")


def texts_of(sets: TextSets) -> list[list[str]]:
    return [list(each.texts) for each in sets.texts]


def test_sets_are_made_once_and_serve_smaller_requests(tmp_path: Path) -> None:
    first = cached_sets(tmp_path / "a.json", 2, SOURCE, lambda: make_sets("x", "y"))
    again = cached_sets(tmp_path / "a.json", 2, SOURCE, never)
    assert texts_of(first) == texts_of(again) == [["x", "xé"], ["y", "yé"]]
    assert again.texts[0].labels.tolist() == [7, 4]
    assert again.texts[0].label_names == SOURCE.label_names
    assert again.texts[0].digest == first.texts[0].digest
    assert dict(again.nearness) == {"prototype_cosine": 0.25, "label_agrees": None}
    assert texts_of(cached_sets(tmp_path / "a.json", 1, SOURCE, never)) == [["x", "xé"]]


def test_a_larger_request_makes_all_sets(tmp_path: Path) -> None:
    cached_sets(tmp_path / "a.json", 1, SOURCE, lambda: make_sets("x"))
    assert len(cached_sets(tmp_path / "a.json", 3, SOURCE, lambda: make_sets("x", "y", "z")).texts) == 3
    assert len(cached_sets(tmp_path / "a.json", 3, SOURCE, never).texts) == 3


@pytest.mark.parametrize(
    "damage",
    [lambda old: old[:-9], lambda old: old.replace(b"xx", b"xy"), lambda old: b"[]", lambda old: b""],
)
def test_a_damaged_file_counts_as_none(tmp_path: Path, damage: Any) -> None:
    file = tmp_path / "a.json"
    cached_sets(file, 1, SOURCE, lambda: make_sets("xx"))
    file.write_bytes(damage(file.read_bytes()))
    assert texts_of(cached_sets(file, 1, SOURCE, lambda: make_sets("new"))) == [["new", "newé"]]
    assert texts_of(cached_sets(file, 1, SOURCE, never)) == [["new", "newé"]]


def make_experiment(folder: Path, name: str, *grids: str) -> tuple[Experiment, Workspace, list[Run]]:
    """Returns an experiment on eight films, its workspace, and its runs."""
    rows = [
        {"text": f"{word} film number{row}", "label": word} for row in range(4) for word in ("fine", "poor")
    ]
    (folder / "films.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    head = "title = 't'\nplace = 'Table 9'\nkind = 'accuracy'\nrows = ['method']\ncolumns = ['classifier']\n"
    head += "[profiles.offline]\ndiffers = []\nembedder = ['hashing']\nper_class = [1]\nprotocol = 'paper'\n"
    head += "[profiles.offline.data]\nfilms = { train = 'films.jsonl', test = 'films.jsonl' }\n"
    experiment = parse_experiment(
        head + "".join(f"[[profiles.offline.grid]]\n{grid}\n" for grid in grids), name
    )
    profile = experiment.profile("offline")
    workspace = Workspace(profile, folder / "results" / name, folder, folder / "store")
    return experiment, workspace, make_runs(experiment, profile)


@pytest.fixture
def decoders(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Decoders of all distillations, in order."""
    names: list[str] = []
    distil = Distiller.run

    def counted(self: Distiller, source: LabelledTexts, **options: Any) -> Distillation:
        names.append(str(self.decoder))
        return distil(self, source, **options)

    monkeypatch.setattr(Distiller, "run", counted)
    clear_caches()
    return names


LINEAR = "method = ['nearest']\nsets = 2\nclassifier = ['logistic-regression', 'naive-bayes']"
ONE_SET = "method = ['nearest']\nsets = 1\ntest_rows = 4\nclassifier = ['linear-svm']"


def test_grids_and_experiments_share_what_they_distil(tmp_path: Path, decoders: list[str]) -> None:
    results = []
    for name in ("one", "two"):
        _, workspace, runs = make_experiment(tmp_path, name, LINEAR, ONE_SET)
        for run in runs:
            clear_caches()  # as in a new process
            results.append(kinds.compute(run, workspace))
    assert decoders == ["nearest"]
    assert [each["runs"] for each in results] == [2, 2, 1] * 2
    assert [each["accuracies"] for each in results[:3]] == [each["accuracies"] for each in results[3:]]
    assert all(0 < each["prototype_cosine"] <= 1 for each in results)


@pytest.mark.parametrize(
    "other",
    [
        "method = ['extractive']",
        "method = ['nearest']\nseed = 5",
        "method = ['nearest']\nper_class = [2]",
        "max_tokens = 9",
        "preset = 'tiny'",
    ],
)
def test_other_recipes_make_other_texts(tmp_path: Path, decoders: list[str], other: str) -> None:
    method = "" if "method" in other else "method = ['nearest']\n"
    _, workspace, runs = make_experiment(
        tmp_path, "one", LINEAR, f"{method}{other}\nclassifier = ['naive-bayes']"
    )
    for run in runs:
        kinds.compute(run, workspace)
    assert len(decoders) == 2


def test_vectors_can_be_made_before_the_cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, workspace, runs = make_experiment(tmp_path, "one", LINEAR)
    workspace.embed(runs[0])
    monkeypatch.setattr(HashingEmbedder, "_embed", lambda *_, **__: pytest.fail("embedded again"))
    clear_caches()
    assert kinds.compute(runs[0], workspace)["texts"] == 2


@pytest.mark.parametrize("baseline", registry.names("baselines"))
def test_baselines_that_read_texts_only_are_known(baseline: str) -> None:
    labels = np.arange(8) % 2
    source = LabelledTexts(
        [f"a text number {row}" for row in range(8)], labels, {0: "a", 1: "b"}, np.arange(8)
    )
    made = registry.make("baselines", baseline)
    if isinstance(made, ModelBaseline):
        assert baseline in WITHOUT_VECTORS
        return
    try:
        made.find()
        made.select(source, None, {0: 1, 1: 1}, seed=0)
    except (DallmeError, AttributeError, AssertionError) as error:
        if baseline in WITHOUT_VECTORS:
            pytest.skip(str(error))  # its data are not installed
    else:
        assert baseline in WITHOUT_VECTORS


@pytest.mark.parametrize("jobs", [1, 2])
def test_runs_that_read_texts_only_embed_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jobs: int
) -> None:
    methods = "method = ['random', 'full']\nsets = 2\nclassifier = ['naive-bayes']"
    experiment, workspace, _ = make_experiment(tmp_path, "one", methods)
    monkeypatch.setattr(
        "dallme.experiments.running._compute_in_pool",
        lambda waiting, workspace, jobs: iter([(waiting.popleft()[1], "in another process")]),
    )
    monkeypatch.setattr(HashingEmbedder, "_embed", lambda *_, **__: pytest.fail("it embedded the source"))
    outcome = run_experiment(experiment, "offline", workspace.folder, workspace, jobs=jobs)
    assert not (tmp_path / "store" / "hashing").exists()
    assert [message for _, message in outcome.failures] == ["in another process"] * (0 if jobs == 1 else 2)


def test_random_texts_do_not_depend_on_vectors(tmp_path: Path) -> None:
    from dallme.evaluation.sets import make_sets as draw_sets

    _, workspace, runs = make_experiment(
        tmp_path, "one", "method = ['random']\nsets = 3\nclassifier = ['naive-bayes']"
    )
    distiller = workspace.distiller(runs[0])
    distillation = distiller.run(workspace.texts(runs[0])[0])
    expected = draw_sets(distiller, distillation, "random", runs[0].grid.plan())
    assert [each.digest for each in workspace.sets(runs[0]).texts] == [each.digest for each in expected]


def test_a_process_skips_texts_that_another_one_makes(tmp_path: Path) -> None:
    methods = "method = ['nearest', 'extractive']\nclassifier = ['logistic-regression', 'naive-bayes']"
    _, _, runs = make_experiment(tmp_path, "one", methods)
    assert [run["method"] for run in runs] == ["nearest", "nearest", "extractive", "extractive"]
    waiting = [(str(index), run) for index, run in enumerate(runs)]
    assert next_run(waiting, []) == 0
    assert next_run(waiting[1:], runs[:1]) == 1
    assert next_run(waiting[3:], [runs[0], runs[2]]) == 0  # no other run is left


def test_decoder_options_make_other_texts(tmp_path: Path) -> None:
    method = "method = ['extractive']\nclassifier = ['naive-bayes']\ndecoder_options = "
    _, _, few = make_experiment(tmp_path, "few", method + "{ max_length = 5 }")
    _, _, many = make_experiment(tmp_path, "many", method + "{ max_length = 9 }")
    assert next_run([("few", few[0]), ("many", many[0])], few) == 1


def test_processes_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(12)), raising=False)
    for jobs, threads in ((2, "6"), (5, "2"), (40, "1")):
        with share_cores(jobs):
            assert os.environ["OMP_NUM_THREADS"] == threads
        assert "OMP_NUM_THREADS" not in os.environ
    monkeypatch.delattr(os, "sched_getaffinity")  # as on a Mac
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    with share_cores(2):
        assert os.environ["OMP_NUM_THREADS"] == "4"
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    with share_cores(2):
        assert os.environ["OMP_NUM_THREADS"] == "3"
    assert os.environ["OMP_NUM_THREADS"] == "3"


def test_budgets_share_the_sentences_of_a_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    split: list[str] = []
    find = SentenceFilter.sentences
    monkeypatch.setattr(
        SentenceFilter, "sentences", lambda self, text: split.append(text) or find(self, text)
    )
    clear_caches()
    grid = "per_class = [1, 2]\nsets = 2\nmethod = ['extractive']\nclassifier = ['naive-bayes']"
    _, workspace, runs = make_experiment(tmp_path, "one", grid)
    for run in runs:
        kinds.compute(run, workspace)
    assert len(runs) == 2
    assert len(split) == 8


@pytest.mark.parametrize(
    ("kind", "files"), [("accuracy", ["films.jsonl"]), ("probe", ["films.jsonl", "seen.jsonl"])]
)
def test_the_test_set_of_a_probe_is_embedded_ahead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, files: list[str]
) -> None:
    _, workspace, runs = make_experiment(
        tmp_path, "one", "method = ['nearest']\nclassifier = ['naive-bayes']"
    )
    (tmp_path / "seen.jsonl").write_text(
        '{"text": "a fine film", "label": "fine"}\n{"text": "a poor film", "label": "poor"}\n'
    )
    known = workspace.profile.data["films"]
    workspace = replace(
        workspace, profile=replace(workspace.profile, data={"films": replace(known, test="seen.jsonl")})
    )
    embedded: list[int] = []
    monkeypatch.setattr(
        "dallme.embedders.cache.embed_with_store",
        lambda embedder, texts, **options: embedded.append(len(texts)),
    )
    workspace.embed(replace(runs[0], kind=kind))
    assert embedded == [{"films.jsonl": 8, "seen.jsonl": 2}[file] for file in files]
