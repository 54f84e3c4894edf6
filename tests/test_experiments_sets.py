"""What cells of one edition share: sets of texts on the disk, and the cores."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dallme.data import LabelledTexts
from dallme.decoders.extractive.candidates import SentenceFilter
from dallme.distiller import Distillation, Distiller
from dallme.embedders.hashing import HashingEmbedder
from dallme.experiments import kinds
from dallme.experiments.running import _cores_shared, _next
from dallme.experiments.runs import Run, make_cells
from dallme.experiments.spec import Experiment, parse_experiment
from dallme.experiments.workspace import MadeSets, Workspace, _shared, kept_sets

SOURCE = LabelledTexts(["a", "b", "c"], np.array([4, 7, 4]), {4: "good", 7: "bad"}, np.arange(3))


def made(*texts: str) -> MadeSets:
    """A set of two texts for each of the given ones."""
    sets = (
        replace(SOURCE, texts=[text, f"{text}é"], labels=np.array([7, 4]), row_ids=np.arange(2))
        for text in texts
    )
    return MadeSets(tuple(sets), {"prototype_cosine": 0.25, "label_agrees": None})


def never() -> MadeSets:
    raise AssertionError("made again")


def texts_of(found: MadeSets) -> list[list[str]]:
    return [list(each.texts) for each in found.texts]


def test_sets_are_made_once_and_the_first_of_them_serve_whoever_wants_fewer(tmp_path: Path) -> None:
    first = kept_sets(tmp_path / "a.json", 2, SOURCE, lambda: made("x", "y"))
    again = kept_sets(tmp_path / "a.json", 2, SOURCE, never)
    assert texts_of(first) == texts_of(again) == [["x", "xé"], ["y", "yé"]]
    assert again.texts[0].labels.tolist() == [7, 4]
    assert again.texts[0].label_names == SOURCE.label_names
    assert again.texts[0].digest == first.texts[0].digest
    assert dict(again.nearness) == {"prototype_cosine": 0.25, "label_agrees": None}
    assert texts_of(kept_sets(tmp_path / "a.json", 1, SOURCE, never)) == [["x", "xé"]]


def test_whoever_wants_more_makes_all(tmp_path: Path) -> None:
    kept_sets(tmp_path / "a.json", 1, SOURCE, lambda: made("x"))
    assert len(kept_sets(tmp_path / "a.json", 3, SOURCE, lambda: made("x", "y", "z")).texts) == 3
    assert len(kept_sets(tmp_path / "a.json", 3, SOURCE, never).texts) == 3


@pytest.mark.parametrize(
    "damage",
    [lambda old: old[:-9], lambda old: old.replace(b"xx", b"xy"), lambda old: b"[]", lambda old: b""],
)
def test_a_damaged_file_counts_as_none(tmp_path: Path, damage: Any) -> None:
    file = tmp_path / "a.json"
    kept_sets(file, 1, SOURCE, lambda: made("xx"))
    file.write_bytes(damage(file.read_bytes()))
    assert texts_of(kept_sets(file, 1, SOURCE, lambda: made("new"))) == [["new", "newé"]]
    assert texts_of(kept_sets(file, 1, SOURCE, never)) == [["new", "newé"]]


def make_experiment(folder: Path, name: str, *grids: str) -> tuple[Experiment, Workspace, list[Run]]:
    """An experiment on eight films, the workspace to run it in, and its cells."""
    rows = [
        {"text": f"{word} film number{row}", "label": word} for row in range(4) for word in ("fine", "poor")
    ]
    (folder / "films.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    head = "title = 't'\nplace = 'Table 9'\nkind = 'accuracy'\nrows = ['method']\ncolumns = ['classifier']\n"
    head += "[editions.offline]\ndiffers = []\nembedder = ['hashing']\nper_class = [1]\nprotocol = 'paper'\n"
    head += "[editions.offline.data]\nfilms = { train = 'films.jsonl', test = 'films.jsonl' }\n"
    experiment = parse_experiment(
        head + "".join(f"[[editions.offline.grid]]\n{grid}\n" for grid in grids), name
    )
    edition = experiment.edition("offline")
    workspace = Workspace(edition, folder / "results" / name, folder, folder / "store")
    return experiment, workspace, make_cells(experiment, edition)


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The decoders of all runs that are made, in their order."""
    found: list[str] = []
    run = Distiller.run

    def counted(self: Distiller, source: LabelledTexts, **options: Any) -> Distillation:
        found.append(str(self.decoder))
        return run(self, source, **options)

    monkeypatch.setattr(Distiller, "run", counted)
    monkeypatch.setattr("dallme.experiments.workspace._KEPT.things", {})
    return found


LINEAR = "method = ['nearest']\nsets = 2\nclassifier = ['logistic-regression', 'naive-bayes']"
ONE_SET = "method = ['nearest']\nsets = 1\ntest_rows = 4\nclassifier = ['linear-svm']"


def test_grids_and_experiments_share_what_they_distil(
    tmp_path: Path, runs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for name in ("one", "two"):
        _, workspace, cells = make_experiment(tmp_path, name, LINEAR, ONE_SET)
        for cell in cells:
            monkeypatch.setattr(
                "dallme.experiments.workspace._KEPT.things", {}
            )  # as in a process that has just been started
            found.append(kinds.run_cell(cell, workspace))
    assert runs == ["nearest"]
    assert [each["runs"] for each in found] == [2, 2, 1] * 2
    assert [each["accuracies"] for each in found[:3]] == [each["accuracies"] for each in found[3:]]
    assert all(0 < each["prototype_cosine"] <= 1 for each in found)


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
def test_other_texts_are_made_anew(tmp_path: Path, runs: list[str], other: str) -> None:
    method = "" if "method" in other else "method = ['nearest']\n"
    _, workspace, cells = make_experiment(
        tmp_path, "one", LINEAR, f"{method}{other}\nclassifier = ['naive-bayes']"
    )
    for cell in cells:
        kinds.run_cell(cell, workspace)
    assert len(runs) == 2


def test_vectors_can_be_made_before_the_cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, workspace, cells = make_experiment(tmp_path, "one", LINEAR)
    workspace.embed(cells[0])
    monkeypatch.setattr(HashingEmbedder, "_embed", lambda *_, **__: pytest.fail("embedded again"))
    monkeypatch.setattr("dallme.experiments.workspace._KEPT.things", {})
    assert kinds.run_cell(cells[0], workspace)["texts"] == 2


def test_a_job_takes_no_cell_whose_texts_another_one_is_making(tmp_path: Path) -> None:
    methods = "method = ['nearest', 'extractive']\nclassifier = ['logistic-regression', 'naive-bayes']"
    _, _, cells = make_experiment(tmp_path, "one", methods)
    assert [cell["method"] for cell in cells] == ["nearest", "nearest", "extractive", "extractive"]
    waiting = [(str(place), cell) for place, cell in enumerate(cells)]
    assert _next(waiting, []) == 0
    assert _next(waiting[1:], cells[:1]) == 1
    assert _next(waiting[3:], [cells[0], cells[2]]) == 0  # none is left but such


def test_a_job_may_make_texts_that_differ_in_an_option_of_the_decoder(tmp_path: Path) -> None:
    method = "method = ['extractive']\nclassifier = ['naive-bayes']\ndecoder_options = "
    _, _, few = make_experiment(tmp_path, "few", method + "{ max_length = 5 }")
    _, _, many = make_experiment(tmp_path, "many", method + "{ max_length = 9 }")
    assert _next([("few", few[0]), ("many", many[0])], few) == 1


def test_processes_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(12)), raising=False)
    for jobs, threads in ((2, "6"), (5, "2"), (40, "1")):
        with _cores_shared(jobs):
            assert os.environ["OMP_NUM_THREADS"] == threads
        assert "OMP_NUM_THREADS" not in os.environ
    monkeypatch.delattr(os, "sched_getaffinity")  # as on a Mac
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    with _cores_shared(2):
        assert os.environ["OMP_NUM_THREADS"] == "4"
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    with _cores_shared(2):
        assert os.environ["OMP_NUM_THREADS"] == "3"
    assert os.environ["OMP_NUM_THREADS"] == "3"


def test_other_budgets_and_decoders_read_the_sentences_of_a_source_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at: list[str] = []
    find = SentenceFilter.sentences
    monkeypatch.setattr(
        SentenceFilter, "sentences", lambda self, text: looked_at.append(text) or find(self, text)
    )
    monkeypatch.setattr("dallme.experiments.workspace._KEPT.things", {})
    _shared.cache_clear()
    grid = "per_class = [1, 2]\nsets = 2\nmethod = ['extractive']\nclassifier = ['naive-bayes']"
    _, workspace, cells = make_experiment(tmp_path, "one", grid)
    for cell in cells:
        kinds.run_cell(cell, workspace)
    assert len(cells) == 2
    assert len(looked_at) == 8


@pytest.mark.parametrize(
    ("kind", "files"), [("accuracy", ["films.jsonl"]), ("probe", ["films.jsonl", "seen.jsonl"])]
)
def test_a_test_set_that_is_read_as_vectors_is_embedded_ahead_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, files: list[str]
) -> None:
    _, workspace, cells = make_experiment(
        tmp_path, "one", "method = ['nearest']\nclassifier = ['naive-bayes']"
    )
    (tmp_path / "seen.jsonl").write_text(
        '{"text": "a fine film", "label": "fine"}\n{"text": "a poor film", "label": "poor"}\n'
    )
    known = workspace.edition.data["films"]
    workspace = replace(
        workspace, edition=replace(workspace.edition, data={"films": replace(known, test="seen.jsonl")})
    )
    embedded: list[int] = []
    monkeypatch.setattr(
        "dallme.experiments.workspace.embed_with_store",
        lambda embedder, texts, **options: embedded.append(len(texts)),
    )
    workspace.embed(replace(cells[0], kind=kind))
    assert embedded == [{"films.jsonl": 8, "seen.jsonl": 2}[file] for file in files]
