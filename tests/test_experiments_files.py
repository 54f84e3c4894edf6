"""Experiments that come with dallme: their files, the parts that they name, and the paper's numbers."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from dallme import registry
from dallme.classifiers.training import NeuralClassifier
from dallme.decoders.vec2text.backbones import PRESETS
from dallme.embedders.prompts import TEMPLATES
from dallme.experiments import Experiment, Profile, experiment_names, load_experiment
from dallme.experiments.result_table import make_result_table
from dallme.experiments.runs import Run, make_runs
from dallme.models.word_vectors import HUB, WHEEL
from dallme.services.pricing import price_of

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


NAMES = (
    "cost", "dpc-agnews", "dpc-imdb", "dpc-sst2", "figure3", "figure4", "figure5", "generators", "section55",
    "table1-agnews", "table1-imdb", "table2", "table3", "table4",
)  # fmt: skip


PROFILES = ("offline", "paper")


MINILM = "all-MiniLM-L6-v2"


@pytest.fixture(params=[(name, profile) for name in NAMES for profile in PROFILES], ids="-".join)
def pair(request: pytest.FixtureRequest) -> tuple[Experiment, Profile]:
    name, profile = request.param
    experiment = load_experiment(name)
    return experiment, experiment.profile(profile)


def benchmark(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Imports a benchmark script."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", BENCHMARKS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def settings(run: Run) -> dict[str, Any]:
    """Returns the options that decide which stored results of trainings a run uses."""
    plan, grid = run.grid.plan(), run.grid
    found = {
        name: getattr(plan, name)
        for name in ("name", "sets", "models", "training", "full_steps", "full_runs")
    }
    found["tuned"] = plan.tune and "learning_rate" not in plan.training
    own = {
        name: getattr(grid, name)
        for name in ("train_rows", "test_rows", "max_tokens", "seed", "decoder_options")
    }
    return found | own | {axis: run[axis] for axis in ("per_class", "prompt", "condenser", "inverter_steps")}


def plain(**options: Any) -> dict[str, Any]:
    """Returns the settings of the benchmarks."""
    found = {
        "name": "paper",
        "models": 1,
        "full_steps": None,
        "full_runs": 1,
        "tuned": not options.get("training"),
    }
    found |= {
        "train_rows": 0,
        "test_rows": 0,
        "max_tokens": 128,
        "seed": 0,
        "decoder_options": {},
        "training": {},
    }
    return found | {"prompt": "", "condenser": "k-centroid", "inverter_steps": 0} | options


class TestFiles:
    def test_all_of_the_paper_is_there(self) -> None:
        assert experiment_names() == list(NAMES)
        assert all(sorted(load_experiment(name).profiles) == list(PROFILES) for name in NAMES)

    def test_every_run_has_what_its_kind_needs(self, pair: tuple[Experiment, Profile]) -> None:
        experiment, profile = pair
        runs = make_runs(experiment, profile)
        needed = {"probe": ("embedder",), "cost": ("embedder",)}.get(
            experiment.kind, ("method", "classifier")
        )
        for run in runs:
            assert run["data"]
            assert all(run[axis] for axis in needed), run
            assert (run["per_class"] is None) != (run["ratio"] is None) or experiment.kind in (
                "probe",
                "cost",
            ), run
        assert len({str(run.config()) for run in runs}) == len(runs)

    def test_every_data_set_is_used_and_has_its_kind_of_path(self, pair: tuple[Experiment, Profile]) -> None:
        experiment, profile = pair
        assert {run["data"] for run in make_runs(experiment, profile)} == set(profile.data)
        offline = profile is experiment.profiles["offline"]
        for source in profile.data.values():
            assert all(
                place.endswith(".parquet") == offline for place in (source.train, source.test) if place
            )
            assert all(("@" in place) != offline for place in (source.train, source.test) if place)
            assert bool(source.test) == (experiment.kind != "cost")

    def test_every_name_is_known(self, pair: tuple[Experiment, Profile]) -> None:
        trained = {each.name for each in fields(NeuralClassifier)}
        for run in make_runs(*pair):
            check_embedder(run["embedder"])
            registry.find("condensers", run["condenser"])
            assert run["prompt"] in ("", *TEMPLATES)
            assert run.grid.preset in PRESETS
            assert set(run.grid.training) <= trained
            if run["classifier"]:
                check_classifier(run["classifier"])
            if run["method"] and run["method"] not in run.grid.candidates:
                decodes = run["method"].partition(":")[0] in registry.names("decoders")
                part, _ = registry.split("decoders" if decodes else "baselines", run["method"])
                assert part.name != "tdd" or run["classifier"].startswith("text-cnn")
                if decodes:
                    registry.make("decoders", run["method"], **run.grid.decoder_options)

    def test_the_paper_profile_decodes_as_the_paper(self) -> None:
        """From the hypothesis, in 20 steps, with inverters of T5-Base; a linear map takes prompted vectors."""
        runs = [
            run
            for name in NAMES
            for run in make_runs(*_profile(name, "paper"))
            if run["method"] == "vec2text"
        ]
        assert len(runs) > 100
        for run in runs:
            options = dict(run.grid.decoder_options)
            assert options.pop("align", False) or not run["prompt"]
            assert options == {"start": "hypothesis", "steps": 20}
            assert run.grid.preset == "base"
            assert run["inverter_steps"] >= 500

    def test_every_row_of_the_paper_is_used(self, pair: tuple[Experiment, Profile]) -> None:
        table = make_result_table(*pair, [])
        papers = {paper for paper in table.rows.values() if paper}
        assert papers >= set(pair[1].reported_row.values())
        assert {column.paper for column in table.columns} >= set(pair[1].columns.values())

    def test_what_is_read_on_the_page_is_in_sentences(self, pair: tuple[Experiment, Profile]) -> None:
        experiment, profile = pair
        assert experiment.title
        assert experiment.place
        assert profile.differs
        for sentence in (experiment.says, *profile.differs):
            assert sentence.endswith(".")
            assert "\n" not in sentence

    @pytest.mark.parametrize("name", [name for name in NAMES if name != "cost"])
    def test_a_sample_of_ag_news_is_called_one(self, name: str) -> None:
        profile = load_experiment(name).profile("offline")
        assert any("18,060" in sentence for sentence in profile.differs) == ("ag_news" in profile.data)


def check_embedder(name: str) -> None:
    """Fails if there is no embedder of that name; weights are not loaded."""
    part, _, argument = name.partition(":")
    if not argument:
        assert name == "hashing" or name == MINILM or name.count("/") == 1
        return
    kind = registry.find("embedders", part).name
    assert kind in ("glove", "openai")
    assert argument in (WHEEL, *HUB) if kind == "glove" else price_of(argument).usd_per_million


def check_classifier(name: str) -> None:
    """Fails if there is no classifier of that name; weights are not loaded."""
    part, argument = registry.split("classifiers", name)
    if part.name != "embedding-lr":  # which wants an embedder
        registry.make("classifiers", name)
    if part.name in ("text-cnn", "text-rnn"):
        assert argument in (None, "glove.6B.zip!glove.6B.100d.txt")


class TestSettings:
    @pytest.mark.parametrize(("name", "data"), [("table1-imdb", "imdb"), ("table1-agnews", "ag_news")])
    def test_table_1_has_the_settings_of_the_comparison_table(
        self, name: str, data: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        script = benchmark("comparison_table", monkeypatch)
        wanted = {}
        for group in script.GROUPS.values():
            training = group.get("training", {}) | (
                {"steps": group["steps"][data]} if "steps" in group else {}
            )
            options = {
                "sets": group["sets"],
                "test_rows": group.get("test_rows", 0),
                "full_steps": group.get("full_steps"),
            }
            for method in group.get("methods", script.METHODS):
                for classifier in group["classifiers"]:
                    wanted[method, classifier] = plain(
                        per_class=script.PER_CLASS[data], training=training, **options
                    )
        wanted = {
            key: value for key, value in wanted.items() if key[1] != "embedding-lr"
        }  # which is not in the paper
        experiment = load_experiment(name)
        runs = make_runs(experiment, experiment.profile("offline"))
        # The benchmark has no written texts and no random sentences.
        words = {"logistic-regression", "linear-svm", "naive-bayes"}
        written = [run for run in runs if run["method"] == "vec2text"]
        options = [{"start": "hypothesis", "steps": steps} for steps in (0, 5)]
        expected = [plain(per_class=script.PER_CLASS[data], sets=1, decoder_options=each) for each in options]
        assert [settings(run) for run in written] == [each for each in expected for _ in words]
        assert {run["classifier"] for run in written} == words
        joined = {run["classifier"]: settings(run) for run in runs if run["method"] == "random-sentences"}
        assert set(joined) == words
        runs = [run for run in runs if run["method"] not in ("vec2text", "random-sentences")]
        ours = {
            (run["method"], run["classifier"]): settings(run) for run in runs if run["embedder"] == MINILM
        }
        assert all(joined[name] == ours["random", name] for name in words)
        teaching = {
            classifier: ours.pop((method, classifier))
            for method, classifier in list(ours)
            if method == "teaching"
        }
        assert teaching == {
            classifier: ours[method, classifier] for method, classifier in wanted if method == "extractive"
        }
        for key, expected in list(wanted.items()):
            found = ours[key]
            if key[1].startswith(("text", "transformer", "causal")):
                assert found["sets"] <= expected["sets"]
                wanted[key] = wanted[key] | {"sets": found["sets"]}
            if key[1].startswith(("transformer", "causal")):
                assert found["test_rows"] <= expected["test_rows"]
                assert found["training"]["steps"] <= expected["training"]["steps"]
                steps = expected["training"] | {"steps": found["training"]["steps"]}
                wanted[key] = wanted[key] | {"test_rows": found["test_rows"], "training": steps}
        assert ours == wanted
        others = [run for run in runs if run["embedder"] != MINILM]
        assert {(run["embedder"], run["method"]) for run in others} == {("glove:6B.50d", "extractive")}
        assert sorted(run["classifier"] for run in others) == sorted([*words, "text-cnn", "text-rnn"])
        assert all(settings(run) == wanted["extractive", run["classifier"]] for run in others)

    def test_sst_2_is_alike_for_every_method(self) -> None:
        dpc = {"learning_rate": 1e-4, "batch_size": 16, "steps": 80, "warmup": 0.5}
        runs = make_runs(*_offline("dpc-sst2"))
        joined = [run for run in runs if run["method"] == "random-sentences"]
        assert len(joined) == 3 * 3
        assert all(settings(run) == plain(per_class=run["per_class"], sets=5) for run in joined)
        runs = [run for run in runs if run not in joined]
        assert {run["method"] for run in runs} == {
            "random",
            "k-center",
            "nearest",
            "extractive",
            "teaching",
            "DiLM",
        }
        assert len(runs) == 3 * 6 * 7
        for run in runs:
            size = run["per_class"]
            encoder = run["classifier"].startswith("transformer")
            wanted = (
                plain(name="dpc", per_class=size, sets=1, training=dpc)
                if encoder
                else plain(per_class=size, sets=5)
            )
            assert settings(run) == wanted
            assert run.grid.candidates["DiLM"].path == f"dilm_sst2/dpc{size}"

    @pytest.mark.parametrize("name", ["figure4", "figure5", "section55", "generators", "table3"])
    def test_offline_means_are_over_the_linear_classifiers(self, name: str) -> None:
        experiment = load_experiment(name)
        places: dict[tuple[str, ...], set[str]] = {}
        for run in make_runs(experiment, experiment.profile("offline")):
            axes = (axis for axis in run.values if axis != "classifier")
            places.setdefault(tuple(str(run[axis]) for axis in axes), set()).add(run["classifier"])
        assert all(found == {"logistic-regression", "linear-svm", "naive-bayes"} for found in places.values())

    def test_figures_4_and_5_run_from_a_thousandth_to_a_tenth(self) -> None:
        for name in ("figure4", "figure5"):
            experiment = load_experiment(name)
            for profile in experiment.profiles.values():
                lines: dict[tuple[str, str], list[float]] = {}
                for run in make_runs(experiment, profile, only=["classifier=naive-bayes"]):
                    lines.setdefault((run["method"], run["embedder"]), []).append(run["ratio"])
                wanted = [0.001, 0.005, 0.01, 0.05, 0.1]
                assert all(
                    ratios == wanted[: 3 if method == "teaching" else 5]
                    for (method, _), ratios in lines.items()
                )
                assert {method for method, _ in lines} >= {"full", "random"}


def _profile(name: str, profile: str) -> tuple[Experiment, Profile]:
    experiment = load_experiment(name)
    return experiment, experiment.profile(profile)


def _offline(name: str) -> tuple[Experiment, Profile]:
    return _profile(name, "offline")


def numbers() -> Iterator[tuple[str, str, str, tuple[float, ...]]]:
    for name in NAMES:
        for row, columns in load_experiment(name).reported.items():
            for column, values in columns.items():
                yield name, row, column, tuple(values)


class TestReported:
    def test_every_number_is_in_its_range(self) -> None:
        ranges = {
            "seconds": (10, 20_000),
            "dimension": (300, 3072),
            "price_usd": (0.1, 10),
            "change": (-1, 0),
        }
        for name, row, column, values in numbers():
            kind = next((kind for kind in ranges if kind in column), "")
            low, high = ranges.get(kind, (0.5, 1))
            assert low <= values[0] <= high, (name, row, column)
            assert len(values) in (1, 2), (name, row, column)
            assert all(0 <= deviation <= 0.033 for deviation in values[1:]), (name, row, column)

    @pytest.mark.parametrize("name", ["table1-imdb", "table1-agnews"])
    def test_averages_of_table_1_are_the_means_of_their_rows(self, name: str) -> None:
        for row, columns in load_experiment(name).reported.items():
            single = [values[0] for column, values in columns.items() if column != "average"]
            assert len(single) == (1 if row == "TDD" else 7)
            if "average" in columns:
                assert columns["average"][0] == pytest.approx(sum(single) / 7, abs=0.002), row

    def test_tables_that_share_numbers_agree(self) -> None:
        agnews, prompts = load_experiment("table1-agnews").reported, load_experiment("table3").reported
        names = {"GloVe.6B.300d": "GloVe 300d"}
        for row, columns in prompts.items():
            assert columns["with prompt"][0] == agnews[names.get(row, row)]["average"][0]

    def test_numbers_that_the_issue_sums_up(self) -> None:
        """The paper's best rows without T5-Base, which the offline profile is compared with."""
        for name, wanted in (("table1-imdb", 0.685), ("table1-agnews", 0.814)):
            best = load_experiment(name).reported["text-embedding-3-large"]
            single = [values[0] for column, values in best.items() if column not in ("average", "T5-Base")]
            assert sum(single) / len(single) == pytest.approx(wanted, abs=5e-4)

    def test_a_few_numbers_as_they_are_printed(self) -> None:
        reported = {name: load_experiment(name).reported for name in NAMES}
        assert tuple(reported["table1-imdb"]["DeepCore"]["DistilBERT"]) == (0.734, 0.023)
        assert tuple(reported["table1-agnews"]["random"]["NB"]) == (0.686, 0.007)
        assert tuple(reported["table2"]["text-embedding-3-large"]["IMDB"]) == (0.964,)
        assert tuple(reported["table3"]["text-embedding-ada-002"]["without prompt"]) == (0.789,)
        assert tuple(reported["table4"]["LoRA (0.4% params), full data"]["AG News, seconds"]) == (10351.0,)
        assert tuple(reported["figure4"]["best embedder"]["recovered at 10%"]) == (0.985,)
        assert tuple(reported["figure5"]["best embedder"]["recovered at 1%"]) == (0.954,)
        assert tuple(reported["cost"]["commercial embedders"]["price_usd"]) == (1.7,)
