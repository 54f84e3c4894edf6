"""`dallme reproduce`: every experiment in both editions at toy size, with a server and tiny models in the place of the Hub."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from dallme.cli.main import app
from dallme.embedders.hashing import HashingEmbedder
from dallme.errors import InputError
from dallme.experiments.kinds import run_cell
from dallme.experiments.page import write_results
from dallme.experiments.plan import plan_experiment, trainings
from dallme.experiments.rows import RowFile
from dallme.experiments.running import run_experiment
from dallme.experiments.runs import make_cells
from dallme.experiments.spec import experiment_names, load_experiment, parse_experiment
from dallme.experiments.workspace import Workspace
from openai_server import OpenAIServer
from tiny_models import LABELS, TEST, TEST_LABELS, TEXTS, save_tiny_model

DATA_SETS = ("imdb", "ag_news", "sst2")
TOY = """
title = "Toy"
place = "nowhere"
kind = "accuracy"
rows = ["method"]
columns = ["classifier"]
[editions.offline]
differs = []
data.toy = { train = "imdb/train.csv", test = "imdb/test.csv" }
per_class = [2]
embedder = ["hashing"]
method = ["random", "nearest"]
classifier = ["naive-bayes"]
"""


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def write_rows(path: Path, texts: Any, labels: Any, columns: tuple[str, str] = ("text", "label")) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(
            [columns, *((text, "bad" if label == 9 else "good") for text, label in zip(texts, labels))]  # noqa: B905
        )


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Toy data sets and ready sets, tiny models of each kind, word vectors, and a server of embeddings."""
    folder = tmp_path_factory.mktemp("toys")
    for name in DATA_SETS:
        write_rows(folder / name / "train.csv", TEXTS, LABELS)
        write_rows(folder / name / "test.csv", TEST, TEST_LABELS)
    for size in (5, 10, 20):
        write_rows(
            folder / "dilm_sst2" / f"dpc{size}" / "set.csv", TEXTS[:6], LABELS[:6], ("sentence", "labels")
        )
    words = sorted({word for text in [*TEXTS, *TEST] for word in text.split()})
    (folder / "words.txt").write_text(
        "".join(f"{word} {place} 0.5 {-place}\n" for place, word in enumerate(words))
    )
    kinds = {kind: save_tiny_model(kind, folder / kind) for kind in ("transformer", "text-to-text")}
    return {"folder": folder, "text-cnn": str(folder / "words.txt"), **kinds}


def at_hand(name: str, edition: str) -> list[str]:
    """What puts toy data in the place of an edition's."""
    return [
        f"data.{each}.{part}={each}/{part}.csv"
        for each in load_experiment(name).edition(edition).data
        for part in ("train", "test")
    ]


def shrink(name: str, edition: str, toys: dict[str, Any]) -> list[str]:
    """What makes an experiment small; nothing but sizes, models and places is changed."""
    experiment = load_experiment(name)
    grids = experiment.edition(edition).grid
    kind = {"table1": "text-cnn", "table4": "transformer", "dpc": "transformer"}.get(name.partition("-")[0])
    kind = kind or ("text-to-text" if edition == "paper" else None)
    embedder = "openai:hashing" if edition == "paper" else "hashing"
    found = [
        "test_rows=16",
        "sets=1",
        "models=1",
        "full_runs=1",
        "full_steps=2",
        "preset=tiny",
        "max_tokens=16",
    ]
    found += ["training.steps=2", "training.learning_rate=0.01"]
    found += at_hand(name, edition)
    if any("vec2text" in grid.method for grid in grids):
        found += ["inverter_steps=[1, 2]" if experiment.kind == "inverter" else "inverter_steps=[2]"]
        found += ["decoder_options.steps=1", "decoder_options.beam=1", "decoder_options.self_test=false"]
    if experiment.kind != "cost":
        found += [
            f'embedder=["{embedder}"]',
            "ratio=[0.1]" if any(grid.ratio for grid in grids) else "per_class=[2]",
        ]
    if experiment.kind not in ("cost", "probe"):
        found += [f'classifier=["{kind}:{toys[kind]}"]' if kind else 'classifier=["naive-bayes"]']
    if experiment.kind in ("cost", "probe"):  # whose grids have no budget
        found = [each for each in found if not each.startswith("per_class")]
    return found


@pytest.mark.parametrize("edition", ["offline", "paper"])
@pytest.mark.parametrize("name", experiment_names())
def test_an_edition_runs_from_end_to_end(
    name: str, edition: str, toys: dict[str, Any], tmp_path: Path
) -> None:
    experiment = load_experiment(name, shrink(name, edition, toys))
    chosen = experiment.edition(edition)
    methods = {method for grid in chosen.grid for method in grid.method} - {"eda"}  # which needs WordNet
    only = [f"method={','.join(sorted(methods))}"] if methods else []
    with OpenAIServer(HashingEmbedder()) as server:
        services = {"base_url": server.url} if experiment.kind != "cost" else {}
        workspace = Workspace(chosen, tmp_path / "results", toys["folder"], tmp_path / "store", services)
        outcome = run_experiment(experiment, edition, tmp_path / "results", workspace, only=only)
        asked = server.requests
    assert [message for _, message in outcome.failures] == []
    assert len(outcome.computed) == len({json.dumps(cell.config(), sort_keys=True) for cell in outcome.cells})
    assert (asked > 0) == (edition == "paper" and experiment.kind != "cost")
    rows = RowFile(tmp_path / "results" / "rows.jsonl").load()
    for row in rows:
        for measure in set(experiment.measures) - {"recovered"}:  # which the table adds
            assert row.result[measure] is not None, (row.config, measure)
    write_results(experiment, edition, rows, tmp_path / "results")
    page = (tmp_path / "results" / "page.md").read_text()
    assert experiment.title in page
    assert all(sentence in page for sentence in chosen.differs)


def toy_workspace(toys: dict[str, Any], tmp_path: Path, *changes: str) -> tuple[Any, Workspace]:
    experiment = parse_experiment(TOY, "toy", changes)
    return experiment, Workspace(
        experiment.edition("offline"), tmp_path / "toy", toys["folder"], tmp_path / "store"
    )


def test_a_cell_says_what_compare_says(toys: dict[str, Any], tmp_path: Path) -> None:
    from dallme import Distiller
    from dallme.evaluation.compare import compare
    from dallme.evaluation.evaluate import make_classifiers
    from dallme.evaluation.protocol import DEFAULT
    from dallme.readers import read

    experiment, workspace = toy_workspace(toys, tmp_path)
    cells = make_cells(experiment, experiment.edition("offline"))
    source = read(toys["folder"] / "imdb" / "train.csv")
    test = read(toys["folder"] / "imdb" / "test.csv", like=source)
    distiller = Distiller(per_class=2, embedder="hashing")
    judges = make_classifiers(["naive-bayes"])
    table = compare(distiller, distiller.run(source), test, ["random", "nearest"], judges, protocol=DEFAULT)
    for cell, row in zip(cells, table.methods, strict=True):
        found = run_cell(cell, workspace)
        assert found["accuracies"] == list(row.scores[0].accuracies)
        assert (found["texts"], found["runs"]) == (4, row.draws)
    assert -1 <= found["prototype_cosine"] <= 1


def test_what_a_cell_reads_is_in_its_key(toys: dict[str, Any], tmp_path: Path) -> None:
    experiment, workspace = toy_workspace(toys, tmp_path)
    cell = make_cells(experiment, experiment.edition("offline"))[0]
    fewer = replace(cell, grid=replace(cell.grid, train_rows=20))
    assert workspace.inputs(cell)["source"] != workspace.inputs(fewer)["source"]
    assert workspace.inputs(cell)["test"] == workspace.inputs(fewer)["test"]
    keys = {each.key(workspace.inputs(each)) for each in (cell, fewer)}
    assert len(keys) == 2
    other = {**workspace.inputs(cell), "test": "0"}
    assert cell.key(other) not in keys
    assert cell.key(workspace.inputs(cell)) in keys


def test_a_data_set_that_is_not_there_says_where_to_put_it(toys: dict[str, Any], tmp_path: Path) -> None:
    experiment, workspace = toy_workspace(toys, tmp_path, "data.toy.train=imdb/none.csv")
    cell = make_cells(experiment, experiment.edition("offline"))[0]
    with pytest.raises(
        InputError,
        match=r"expected the data set 'imdb/none.csv', found none in .*; name the folder .* --data",
    ):
        workspace.texts(cell)
    with pytest.raises(InputError, match="and no folder of data is given"):
        replace(workspace, data=None).texts(cell)


def test_a_plan_counts_the_trainings_that_a_run_makes(
    toys: dict[str, Any], tmp_path: Path, monkeypatch: Any
) -> None:
    from dallme.evaluation import evaluate as protocol

    made = []
    real = protocol.train_and_test
    monkeypatch.setattr(
        protocol, "train_and_test", lambda *args, **options: made.append(1) or real(*args, **options)
    )
    experiment, workspace = toy_workspace(
        toys, tmp_path, "sets=3", 'method=["random", "nearest", "full", "herding"]'
    )
    cells = make_cells(experiment, experiment.edition("offline"))
    plan = plan_experiment(cells, [], workspace)
    outcome = run_experiment(experiment, "offline", tmp_path / "results", workspace)
    assert [message for _, message in outcome.failures] == []
    assert sum(trainings(cell) for cell in cells) == plan.cells[0].trainings == len(made) == 3 + 3 + 1 + 1
    after = plan_experiment(cells, RowFile(tmp_path / "results" / "rows.jsonl").load(), workspace)
    assert (after.cells[0].done, after.cells[0].trainings) == (4, 0)


@pytest.mark.parametrize("name", experiment_names())
def test_the_plan_of_every_paper_edition(name: str, toys: dict[str, Any]) -> None:
    """The models are not at hand, and there is no key; it says all the same what it would take."""
    command = ["reproduce", name, "--edition", "paper", "--plan", "--json", "--data", str(toys["folder"])]
    found = CliRunner().invoke(app, [*command, *(f"--set={each}" for each in at_hand(name, "paper"))])
    assert found.exit_code == 0, found.output
    plan = json.loads(found.stdout)["experiments"][0]["plan"]
    assert sum(group["cells"] for group in plan["cells"]) > 0
    assert all(group["done"] == 0 for group in plan["cells"])
    prices = {each["embedder"].partition(":")[2]: each["price_usd"] for each in plan["vectors"]}
    if name.startswith("table1"):
        assert 0 < prices["text-embedding-ada-002"] < prices["text-embedding-3-large"]


def test_a_plan_says_whose_price_is_not_known(toys: dict[str, Any], tmp_path: Path) -> None:
    changes = ['embedder=["openai:text-embedding-3-large"]', "data.toy.train=none.csv"]
    experiment, workspace = toy_workspace(toys, tmp_path, *changes)
    plan = plan_experiment(make_cells(experiment, experiment.edition("offline")), [], workspace)
    assert plan.vectors[0].price_usd is None
    assert (
        "price of embedding toy with openai:text-embedding-3-large is not known: expected the data set"
        in plan.notes[0]
    )


def test_the_verb_runs_shows_and_resumes(toys: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "toy.toml").write_text(TOY)
    folders = [
        "--data",
        str(toys["folder"]),
        "--output",
        str(tmp_path / "out"),
        "--store",
        str(tmp_path / "store"),
    ]
    command = ["reproduce", str(tmp_path / "toy.toml"), *folders]
    found = CliRunner().invoke(app, [*command, "--page", str(tmp_path / "page.md")])
    assert found.exit_code == 0, found.output
    assert "toy: 2 cells computed, 0 found" in found.stdout
    assert {"rows.jsonl", "table.md", "table.html", "page.md"} <= {
        path.name for path in (tmp_path / "out/offline/toy").iterdir()
    }
    again = json.loads(CliRunner().invoke(app, [*command, "--json"]).stdout)
    assert (again["experiments"][0]["computed"], again["experiments"][0]["found"]) == (0, 2)
    changed = json.loads(CliRunner().invoke(app, [*command, "--json", "--set", "test_rows=16"]).stdout)
    assert changed["experiments"][0]["computed"] == 2


def test_failing_cells_are_told_of_at_the_end(toys: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "toy.toml").write_text(TOY)
    folders = [
        "--data",
        str(toys["folder"]),
        "--output",
        str(tmp_path / "out"),
        "--store",
        str(tmp_path / "store"),
    ]
    command = ["reproduce", str(tmp_path / "toy.toml"), *folders, "--set", 'method=["lora", "random"]']
    found = CliRunner().invoke(app, command)
    assert found.exit_code != 0
    assert "toy: 1 cells computed" in found.stdout
    assert (
        "failed: data toy, per_class 2, embedder hashing, condenser k-centroid, method lora" in found.stderr
    )
    assert "1 cells failed" in str(found.exception)


def test_experiments_are_listed() -> None:
    found = CliRunner().invoke(app, ["list", "experiments"])
    assert found.exit_code == 0
    assert all(name in found.stdout for name in experiment_names())
