"""`dallme reproduce`: each experiment in both profiles at toy size, with a server and tiny models."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from dallme import registry
from dallme.baselines.tdd import TDDBaseline
from dallme.cli.main import app
from dallme.embedders.hashing import HashingEmbedder
from dallme.errors import InputError
from dallme.experiments import experiment_names, load_experiment, parse_experiment
from dallme.experiments.inverter_plan import (
    MEASURING_TEXTS,
    TRAINING_RATE,
    WEIGHTS,
    WRITING_RATE,
)
from dallme.experiments.kinds import compute
from dallme.experiments.page import write_results
from dallme.experiments.plan import count_trainings, plan_experiment
from dallme.experiments.rows import RowFile
from dallme.experiments.running import run_experiment
from dallme.experiments.runs import make_runs
from dallme.experiments.workspace import Workspace
from openai_server import OpenAIServer
from tiny_models import LABELS, TEST, TEST_LABELS, TEXTS, save_tiny_model

pytestmark = pytest.mark.usefixtures("one_torch_thread")

DATA_SETS = ("imdb", "ag_news", "sst2")
TOY = """
title = "Toy"
place = "nowhere"
kind = "accuracy"
rows = ["method"]
columns = ["classifier"]
[profiles.offline]
differs = []
data.toy = { train = "imdb/train.csv", test = "imdb/test.csv" }
per_class = [2]
embedder = ["hashing"]
method = ["random", "nearest"]
classifier = ["naive-bayes"]
"""


def write_rows(path: Path, texts: Any, labels: Any, columns: tuple[str, str] = ("text", "label")) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(
            [columns, *((text, "bad" if label == 9 else "good") for text, label in zip(texts, labels))]  # noqa: B905
        )


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Toy data sets and published sets, tiny models of each kind, and word vectors."""
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
        "".join(f"{word} {index} 0.5 {-index}\n" for index, word in enumerate(words))
    )
    kinds = {kind: save_tiny_model(kind, folder / kind) for kind in ("transformer", "text-to-text")}
    return {"folder": folder, "text-cnn": str(folder / "words.txt"), **kinds}


def toy_data(name: str, profile: str) -> list[str]:
    """Returns overrides that replace the data sets of a profile by toy data."""
    return [
        f"data.{each}.{part}={each}/{part}.csv"
        for each in load_experiment(name).profile(profile).data
        for part in ("train", "test")
    ]


def shrink(name: str, profile: str, toys: dict[str, Any]) -> list[str]:
    """Returns overrides that make an experiment small; they change sizes, models and paths only."""
    experiment = load_experiment(name)
    grids = experiment.profile(profile).grid
    kind = {"table1": "text-cnn", "table4": "transformer", "dpc": "transformer"}.get(name.partition("-")[0])
    kind = kind or ("text-to-text" if profile == "paper" else None)
    embedder = "openai:hashing" if profile == "paper" else "hashing"
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
    found += toy_data(name, profile)
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


#: Profiles that train inverters or encoders for long; the others run their code paths as well.
QUICK = {"cost", "table1-imdb", "table2"}
PAIRS = [
    pytest.param(name, profile, marks=[] if name in QUICK or quick else [pytest.mark.slow])
    for name in experiment_names()
    for profile, quick in (("offline", name not in {"dpc-sst2", "figure3", "section55"}), ("paper", False))
]


@pytest.fixture
def _short_tdd(monkeypatch: pytest.MonkeyPatch) -> None:
    """Learns matrices in two iterations; tests/test_tdd.py tests all of them."""
    trainer = TDDBaseline.trainer

    def short(self: TDDBaseline, *arguments: Any) -> Any:
        return trainer(replace(self, iterations=2, steps=2), *arguments)

    monkeypatch.setattr(TDDBaseline, "trainer", short)


@pytest.fixture
def _few_measurements(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measures each stage of an inverter's training once; a measurement takes longer than a step."""
    monkeypatch.setattr("dallme.decoders.vec2text.stages.MEASUREMENTS", 1)


@pytest.mark.usefixtures("_short_tdd", "_few_measurements")
@pytest.mark.parametrize(("name", "profile"), PAIRS)
def test_a_profile_runs_from_end_to_end(
    name: str, profile: str, toys: dict[str, Any], tmp_path: Path
) -> None:
    experiment = load_experiment(name, shrink(name, profile, toys))
    chosen = experiment.profile(profile)
    methods = {method for grid in chosen.grid for method in grid.method} - {"eda"}  # which needs WordNet
    only = [f"method={','.join(sorted(methods))}"] if methods else []
    with OpenAIServer(HashingEmbedder()) as server:
        services = {"base_url": server.url} if experiment.kind != "cost" else {}
        workspace = Workspace(chosen, tmp_path / "results", toys["folder"], tmp_path / "store", services)
        outcome = run_experiment(experiment, profile, tmp_path / "results", workspace, only=only)
        asked = server.requests
    assert [message for _, message in outcome.failures] == []
    assert len(outcome.computed) == len({json.dumps(run.config(), sort_keys=True) for run in outcome.runs})
    assert (asked > 0) == (profile == "paper" and experiment.kind != "cost")
    rows = RowFile(tmp_path / "results" / "rows.jsonl").load()
    for row in rows:
        for measure in set(experiment.measures) - {"recovered"}:  # which the table adds
            if measure == "prototype_cosine" and row.config["method"] in registry.names("baselines"):
                assert measure not in row.result  # they have no prototypes
            else:
                assert row.result[measure] is not None, (row.config, measure)
    write_results(experiment, profile, rows, tmp_path / "results")
    page = (tmp_path / "results" / "page.md").read_text()
    assert experiment.title in page
    assert all(sentence in page for sentence in chosen.differs)


def toy_workspace(toys: dict[str, Any], tmp_path: Path, *changes: str) -> tuple[Any, Workspace]:
    experiment = parse_experiment(TOY, "toy", changes)
    return experiment, Workspace(
        experiment.profile("offline"), tmp_path / "toy", toys["folder"], tmp_path / "store"
    )


def test_a_run_agrees_with_compare(toys: dict[str, Any], tmp_path: Path) -> None:
    from dallme import Distiller
    from dallme.evaluation.compare import compare
    from dallme.evaluation.evaluate import make_classifiers
    from dallme.evaluation.protocol import DEFAULT
    from dallme.readers import read

    experiment, workspace = toy_workspace(toys, tmp_path)
    runs = make_runs(experiment, experiment.profile("offline"))
    source = read(toys["folder"] / "imdb" / "train.csv")
    test = read(toys["folder"] / "imdb" / "test.csv", like=source)
    distiller = Distiller(per_class=2, embedder="hashing")
    judges = make_classifiers(["naive-bayes"])
    table = compare(distiller, distiller.run(source), test, ["random", "nearest"], judges, protocol=DEFAULT)
    for run, row in zip(runs, table.methods, strict=True):
        found = compute(run, workspace)
        assert found["accuracies"] == list(row.scores[0].accuracies)
        assert (found["texts"], found["runs"]) == (4, row.draws)
    assert -1 <= found["prototype_cosine"] <= 1


def test_the_key_hashes_the_inputs(toys: dict[str, Any], tmp_path: Path) -> None:
    experiment, workspace = toy_workspace(toys, tmp_path)
    run = make_runs(experiment, experiment.profile("offline"))[0]
    fewer = replace(run, grid=replace(run.grid, train_rows=20))
    assert workspace.inputs(run)["source"] != workspace.inputs(fewer)["source"]
    assert workspace.inputs(run)["test"] == workspace.inputs(fewer)["test"]
    keys = {each.key(workspace.inputs(each)) for each in (run, fewer)}
    assert len(keys) == 2
    other = {**workspace.inputs(run), "test": "0"}
    assert run.key(other) not in keys
    assert run.key(workspace.inputs(run)) in keys


def test_a_missing_data_set_names_the_option(toys: dict[str, Any], tmp_path: Path) -> None:
    experiment, workspace = toy_workspace(toys, tmp_path, "data.toy.train=imdb/none.csv")
    run = make_runs(experiment, experiment.profile("offline"))[0]
    with pytest.raises(
        InputError,
        match=r"expected the data set 'imdb/none.csv', found none in .*; name the folder .* --data",
    ):
        workspace.texts(run)
    with pytest.raises(InputError, match="and no folder of data is given"):
        replace(workspace, data=None).texts(run)


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
    runs = make_runs(experiment, experiment.profile("offline"))
    plan = plan_experiment(runs, [], workspace)
    outcome = run_experiment(experiment, "offline", tmp_path / "results", workspace)
    assert [message for _, message in outcome.failures] == []
    assert sum(count_trainings(run) for run in runs) == plan.runs[0].trainings == len(made) == 3 + 3 + 1 + 1
    after = plan_experiment(runs, RowFile(tmp_path / "results" / "rows.jsonl").load(), workspace)
    assert (after.runs[0].done, after.runs[0].trainings) == (4, 0)


@pytest.mark.parametrize("name", experiment_names())
def test_the_plan_of_every_paper_profile(name: str, toys: dict[str, Any]) -> None:
    """A plan needs neither the models nor a key."""
    command = ["reproduce", name, "--profile", "paper", "--plan", "--json", "--data", str(toys["folder"])]
    found = CliRunner().invoke(app, [*command, *(f"--set={each}" for each in toy_data(name, "paper"))])
    assert found.exit_code == 0, found.output
    plan = json.loads(found.stdout)["experiments"][0]["plan"]
    assert sum(group["cells"] for group in plan["cells"]) > 0
    assert all(group["done"] == 0 for group in plan["cells"])
    prices = {each["embedder"].partition(":")[2]: each["price_usd"] for each in plan["vectors"]}
    if name.startswith("table1"):
        assert 0 < prices["text-embedding-ada-002"] < prices["text-embedding-3-large"]


def test_a_plan_counts_inverters_and_what_they_write(toys: dict[str, Any], tmp_path: Path) -> None:
    changes = [
        'method=["vec2text"]', "inverter_steps=[10]", "sets=3", 'preset="base"', 'prompt=["topic"]',
        'embedder=["openai:text-embedding-3-large"]', "decoder_options.steps=2", "decoder_options.align=true",
        "decoder_options.candidates=200",
    ]  # fmt: skip
    experiment, workspace = toy_workspace(toys, tmp_path, *changes)
    runs = make_runs(experiment, experiment.profile("offline"))
    seen: set[str] = set()
    plan = plan_experiment(runs, [], workspace, seen)
    rows = len(workspace.texts(runs[0])[0])
    (writing,) = plan.writing
    assert (writing.inverters, writing.prototypes) == (1, 3 * 2 * 2)
    # Cut texts, drafts, measurements, alignment, three self-tests; 4 hypotheses, 2 steps of 16, a final beam.
    written = 4 * (1 + 2 * 4)
    expected = rows + rows + MEASURING_TEXTS + rows + 3 * 20 + 12 * (written + 4)
    assert writing.texts == pytest.approx(expected, abs=1)
    tokens = 128 + 16 + 2 * 128 + 3 * 16
    training = 10 * 128 * tokens * 6 * WEIGHTS["base"] / TRAINING_RATE
    written_texts = rows + MEASURING_TEXTS + 12 * written
    hours = (training + written_texts * 128 * 2 * WEIGHTS["base"] / WRITING_RATE) / 3600
    assert writing.gpu_hours == pytest.approx(plan.gpu_hours) == pytest.approx(hours)
    assert writing.price_usd is not None
    assert writing.price_usd == pytest.approx(writing.tokens * 0.13e-6, rel=0.01)
    assert plan.price_usd > writing.price_usd
    # Another experiment shares inverter, texts and vectors.
    again = plan_experiment(runs, [], workspace, seen)
    assert again.vectors == ()
    assert [(each.inverters, each.prototypes, each.texts) for each in again.writing] == [(0, 0, 0)]
    unreadable, elsewhere = toy_workspace(toys, tmp_path, *changes, "data.toy.train=none.csv")
    plan = plan_experiment(make_runs(unreadable, unreadable.profile("offline")), [], elsewhere)
    assert plan.writing == ()
    assert any(
        note.startswith("the cost of inverting openai:text-embedding-3-large on toy is")
        for note in plan.notes
    )


def test_a_plan_notes_unknown_prices(toys: dict[str, Any], tmp_path: Path) -> None:
    changes = ['embedder=["openai:text-embedding-3-large"]', "data.toy.train=none.csv"]
    experiment, workspace = toy_workspace(toys, tmp_path, *changes)
    plan = plan_experiment(make_runs(experiment, experiment.profile("offline")), [], workspace)
    assert plan.vectors[0].price_usd is None
    assert (
        "price of embedding toy with openai:text-embedding-3-large is unknown: expected the data set"
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
    assert "toy: 2 runs computed, 0 stored before" in found.stdout
    assert {"rows.jsonl", "table.md", "table.html", "page.md"} <= {
        path.name for path in (tmp_path / "out/offline/toy").iterdir()
    }
    again = json.loads(CliRunner().invoke(app, [*command, "--json"]).stdout)
    assert (again["experiments"][0]["computed"], again["experiments"][0]["found"]) == (0, 2)
    changed = json.loads(CliRunner().invoke(app, [*command, "--json", "--set", "test_rows=16"]).stdout)
    assert changed["experiments"][0]["computed"] == 2


def test_the_old_spelling_of_profile_is_noted(toys: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "toy.toml").write_text(TOY.replace("profiles", "editions"))
    command = ["reproduce", str(tmp_path / "toy.toml"), "--plan", "--json", "--data", str(toys["folder"])]
    found = CliRunner().invoke(app, [*command, "--edition", "offline"])
    assert found.exit_code == 0, found.output
    assert "note: --edition is deprecated; write --profile" in found.stderr
    assert "note: toy: the key 'editions' is deprecated; write 'profiles'" in found.stderr
    assert json.loads(found.stdout)["edition"] == "offline"
    assert "edition" not in CliRunner().invoke(app, command).stderr.replace("'editions'", "")


def test_pages_are_written_from_rows_alone(toys: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "toy.toml").write_text(TOY)
    command = ["reproduce", str(tmp_path / "toy.toml"), "--output", str(tmp_path / "out")]
    assert CliRunner().invoke(app, [*command, "--rows-only"]).exit_code == 0
    assert not (tmp_path / "out").exists()
    stored = ["--data", str(toys["folder"]), "--store", str(tmp_path / "store")]
    assert CliRunner().invoke(app, [*command, *stored, "--only", "method=random"]).exit_code == 0
    table = tmp_path / "out/offline/toy/table.md"
    before = table.read_text()
    table.unlink()
    found = CliRunner().invoke(app, [*command, "--rows-only", "--json"])  # without the data
    assert found.exit_code == 0, found.output
    assert json.loads(found.stdout)["experiments"][0]["rows"] == 1
    assert table.read_text() == before


def test_failed_runs_are_reported_at_the_end(toys: dict[str, Any], tmp_path: Path) -> None:
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
    assert "toy: 1 runs computed" in found.stdout
    assert (
        "failed: data toy, per_class 2, embedder hashing, condenser k-centroid, method lora" in found.stderr
    )
    assert "1 runs failed" in str(found.exception)


def test_experiments_are_listed() -> None:
    found = CliRunner().invoke(app, ["list", "experiments"])
    assert found.exit_code == 0
    assert all(name in found.stdout for name in experiment_names())
