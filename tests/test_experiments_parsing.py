"""Experiment files: keys and values that are read or refused, overrides and conditions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dallme.errors import InputError, UnknownNameError
from dallme.experiments import Experiment, load_experiment, parse_experiment
from dallme.experiments.runs import make_runs

TOY = """
title = "A toy"
place = "nowhere"
kind = "accuracy"
rows = ["method"]
columns = ["classifier"]

[reported.random]
LR = [0.5, 0.1]

[profiles.offline]
differs = ["All."]
per_class = [1, 2]
classifier = ["logistic-regression"]

[profiles.offline.data]
toy = { train = "toy.csv", test = "test.csv" }

[[profiles.offline.grid]]
method = ["random", "nearest"]

[[profiles.offline.grid]]
per_class = [3]
method = ["DiLM"]
training = { steps = 5 }
candidates.DiLM = { path = "sets" }
"""


def toy(old: str = "", new: str = "", overrides: tuple[str, ...] = ()) -> Experiment:
    assert old in TOY
    return parse_experiment(TOY.replace(old, new, 1) if old else TOY, "toy", overrides)


class TestReading:
    def test_a_grid_inherits_the_keys_of_its_profile(self) -> None:
        experiment = toy()
        runs = make_runs(experiment, experiment.profile("offline"))
        found = [
            (run["per_class"], run["method"], run["classifier"], dict(run.grid.training)) for run in runs
        ]
        first = [
            (size, method, "logistic-regression", {}) for size in (1, 2) for method in ("random", "nearest")
        ]
        assert found == [*first, (3, "DiLM", "logistic-regression", {"steps": 5})]
        assert runs[0]["data"] == "toy"
        assert runs[-1].grid.candidates["DiLM"].path == "sets"

    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [
            ('title = "A toy"', 'titel = "A toy"', "unknown key of toy 'titel'; known: name, title"),
            (
                "per_class = [1, 2]",
                "per_clas = [1]",
                "unknown key of toy: profiles.offline.grid[0] 'per_clas'",
            ),
            ("training = { steps = 5 }", "sts = 5", "unknown key of toy: profiles.offline.grid[1] 'sts'"),
            (
                "train =",
                "trian =",
                "unknown key of toy: profiles.offline.data.toy 'trian'; known: train, test",
            ),
            ("path =", "pth =", "candidates.DiLM 'pth'; known: path"),
            ('kind = "accuracy"', 'kind = "speed"', "unknown kind 'speed'; known: accuracy, probe"),
            ('rows = ["method"]', 'rows = ["metod"]', "unknown axis 'metod'; known: data, per_class"),
            (
                "per_class = [3]",
                'datasets = ["tyo"]',
                "unknown data set of toy: profiles.offline.grid[1] 'tyo'; known: toy",
            ),
            ("per_class = [3]", 'protocol = "dcp"', "unknown protocol 'dcp'; known: paper, dpc"),
        ],
    )
    def test_an_unknown_name_is_named(self, old: str, new: str, message: str) -> None:
        with pytest.raises(UnknownNameError) as caught:
            toy(old, new)
        assert message in str(caught.value)

    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [
            (
                "per_class = [1, 2]",
                "per_class = 1",
                "profiles.offline.grid[0]: per_class: expected a list, found 1",
            ),
            ("per_class = [1, 2]", 'per_class = ["1"]', "per_class: expected int, found '1'"),
            ("per_class = [1, 2]", "per_class = [true]", "per_class: expected int, found True"),
            ("per_class = [3]", "ratio = [0.1]", "expected per_class or ratio in a grid, found both"),
            ("{ steps = 5 }", "5", "training: expected a table, found 5"),
            ('differs = ["All."]', 'differs = "All."', "differs: expected a list, found 'All.'"),
            ('differs = ["All."]', "", "profiles.offline: expected the key 'differs', found none"),
            ('title = "A toy"', "title = 3", "toy: title: expected str, found 3"),
            ("LR = [0.5, 0.1]", "LR = 0.5", "toy: reported.random.LR: expected a list, found 0.5"),
            ("LR = [0.5, 0.1]", 'LR = ["a half"]', "reported.random.LR: expected float, found 'a half'"),
            (
                "[[profiles.offline.grid]]\nper_class",
                "[profiles.x]\nper_class",
                "profiles.x: expected the key 'differs', found none",
            ),
            ("rows =", "rows", "expected TOML in the experiment 'toy', could not read it: "),
        ],
    )
    def test_a_wrong_value_is_named_with_its_key(self, old: str, new: str, message: str) -> None:
        with pytest.raises(InputError) as caught:
            toy(old, new)
        assert message in str(caught.value)

    def test_an_experiment_needs_a_profile(self) -> None:
        with pytest.raises(InputError, match=r"experiment 'toy': expected \[profiles.NAME\], found none"):
            parse_experiment('title = "A toy"', "toy")

    def test_deprecated_keys_are_read_and_noted(self) -> None:
        old = TOY.replace("profiles.", "editions.") + '[editions.offline.beside]\nnearest = "random"\n'
        experiment = parse_experiment(old, "toy")
        assert experiment.profile("offline").reported_row == {"nearest": "random"}
        assert experiment.notes == (
            "toy: the key 'editions' is deprecated; write 'profiles'",
            "toy: profiles.offline: the key 'beside' is deprecated; write 'reported_row'",
        )
        assert toy().notes == ()

    def test_a_key_and_its_deprecated_name_clash(self) -> None:
        with pytest.raises(InputError, match="expected 'profiles', found its old name 'editions' as well"):
            parse_experiment(TOY + "[editions.paper]\ndiffers = []\n", "toy")

    def test_a_file_of_the_users_is_read(self, tmp_path: Path) -> None:
        (tmp_path / "mine.toml").write_text(TOY)
        assert load_experiment(str(tmp_path / "mine.toml")).name == "mine"

    def test_a_file_that_cannot_be_read_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(
            InputError, match=r"expected an experiment in '.*none.toml', could not read it: No such file"
        ):
            load_experiment(str(tmp_path / "none.toml"))
        (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
        with pytest.raises(InputError, match=r"bytes.toml', could not read it: 'utf-8' codec"):
            load_experiment(str(tmp_path / "bytes.toml"))

    def test_unknown_experiments_and_profiles_list_the_known(self) -> None:
        with pytest.raises(UnknownNameError, match="unknown experiment 'table5'; known: cost, dpc-agnews"):
            load_experiment("table5")
        with pytest.raises(InputError, match=r"'table1'; .*\. Did you mean table1-agnews or table1-imdb\?$"):
            load_experiment("table1")
        with pytest.raises(UnknownNameError, match="unknown profile 'paper'; known: offline"):
            toy().profile("paper")


class TestSetting:
    @pytest.mark.parametrize(
        ("override", "axis", "values"),
        [
            ("method=random", "method", {"random"}),
            ('method=["nearest", "full"]', "method", {"nearest", "full"}),
            ("per_class=7", "per_class", {7}),
            ("classifier=transformer:a/b", "classifier", {"transformer:a/b"}),
            ("datasets=toy", "data", {"toy"}),
        ],
    )
    def test_an_axis_is_set_in_all_grids(self, override: str, axis: str, values: set[Any]) -> None:
        experiment = toy(overrides=(override,))
        assert {run[axis] for run in make_runs(experiment, experiment.profile("offline"))} == values

    def test_options_are_set_in_all_grids(self) -> None:
        profile = toy(
            overrides=("sets=4", "protocol=dpc", "training.steps=9", "decoder_options.beam = 2")
        ).profile("offline")
        assert [grid.sets for grid in profile.grid] == [4, 4]
        assert [grid.plan().name for grid in profile.grid] == ["dpc", "dpc"]
        assert [grid.training["steps"] for grid in profile.grid] == [9, 9]
        assert [grid.decoder_options["beam"] for grid in profile.grid] == [2, 2]

    def test_a_budget_takes_the_place_of_the_other(self) -> None:
        profile = toy(overrides=("per_class=[]", "ratio=0.5")).profile("offline")
        assert [(grid.per_class, grid.ratio) for grid in profile.grid] == [((), (0.5,))] * 2

    def test_a_data_set_is_set(self) -> None:
        source = (
            toy(overrides=("data.toy.train=other.csv", 'data.toy.text_column="words"'))
            .profile("offline")
            .data["toy"]
        )
        assert (source.train, source.test, source.text_column) == ("other.csv", "test.csv", "words")

    @pytest.mark.parametrize(
        ("override", "message"),
        [
            ("sets", "expected KEY=VALUE to set, found 'sets'"),
            ("=3", "expected KEY=VALUE to set, found '=3'"),
            ("sts=3", "unknown key of toy: profiles.offline.grid[0] 'sts'"),
            ("sets=many", "grid[0]: sets: expected int, found 'many'"),
            ("data.tyo.train=a.csv", "unknown data set to set 'tyo'; known: toy"),
            ("data.toy.trian=a.csv", "unknown key of toy: profiles.offline.data.toy 'trian'"),
            (
                "labels.x=1",
                "expected a key of a grid, data.NAME.KEY or training.KEY to set, found 'labels.x'",
            ),
        ],
    )
    def test_what_cannot_be_set_is_named(self, override: str, message: str) -> None:
        with pytest.raises(InputError) as caught:
            toy(overrides=(override,))
        assert message in str(caught.value)

    def test_an_override_reaches_a_shipped_experiment(self) -> None:
        experiment = load_experiment("table1-imdb", ["data.imdb.train=mine.csv", "sets=2"])
        assert {profile.data["imdb"].train for profile in experiment.profiles.values()} == {"mine.csv"}
        assert {grid.sets for profile in experiment.profiles.values() for grid in profile.grid} == {2}


class TestOnly:
    def test_runs_that_meet_all_conditions_are_left(self) -> None:
        experiment = toy()
        runs = make_runs(
            experiment, experiment.profile("offline"), only=["method=nearest,DiLM", "per_class=2,3"]
        )
        assert [(run["per_class"], run["method"]) for run in runs] == [(2, "nearest"), (3, "DiLM")]

    @pytest.mark.parametrize(
        ("only", "message"),
        [
            (["metod=nearest"], "unknown axis 'metod'; known: data, per_class"),
            (["method=neerest"], "unknown value of method 'neerest'; known: DiLM, nearest, random"),
            (["method=DiLM", "per_class=2"], "unknown value of per_class '2'; known: 3"),
        ],
    )
    def test_unknown_ones_are_named(self, only: list[str], message: str) -> None:
        experiment = toy()
        with pytest.raises(UnknownNameError) as caught:
            make_runs(experiment, experiment.profile("offline"), only=only)
        assert message in str(caught.value)
