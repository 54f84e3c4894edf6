"""Options of parts on the command line: ``--set``, the flags that it replaces, and groups of options."""

from __future__ import annotations

import inspect
import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dallme import registry
from dallme.cli.distill import distill
from dallme.cli.main import app
from dallme.cli.settings import OLD_FLAGS, ROLES, option_types, parse_settings, rewrite_flags, typed_options
from dallme.errors import InputError, UnknownNameError

ROWS = [
    f"{word} film number {row},{label}" for row in range(12) for word, label in (("fine", 1), ("dull", 0))
]


@pytest.fixture
def reviews(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DALLME_STORE", str(tmp_path / "store"))
    monkeypatch.setattr(sys, "argv", [])
    (tmp_path / "reviews.csv").write_text("\n".join(["text,label", *ROWS]) + "\n")
    return tmp_path / "reviews.csv"


def run(*arguments: object) -> tuple[int, str]:
    """Runs a verb; gives its exit status and what it wrote, or the error that ended it."""
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return done.exit_code, done.output + str(done.exception or "")


def test_settings_are_grouped_by_role() -> None:
    parsed = parse_settings(
        ["decoder.beam=8", "embedder.max-tokens=64", "decoder.beam=2", "decoder.start=a=b"]
    )
    assert parsed == {
        "classifier": {},
        "embedder": {"max_tokens": "64"},
        "condenser": {},
        "decoder": {"beam": "2", "start": "a=b"},
    }


@pytest.mark.parametrize("setting", ["beam", "beam=8", "decoder.=8", "decoder.beam", "=", ""])
def test_a_setting_of_another_form_is_an_error(setting: str) -> None:
    with pytest.raises(InputError, match=r"expected --set ROLE\.OPTION=VALUE, such as decoder\.OPTION=VALUE"):
        parse_settings([setting])


def test_an_unknown_role_lists_those_of_the_verb() -> None:
    with pytest.raises(UnknownNameError, match="unknown role in --set 'decoder'; known: embedder"):
        parse_settings(["decoder.beam=8"], ("embedder",))


@pytest.mark.parametrize("part", registry.PARTS, ids=lambda part: f"{part.role}-{part.name}")
def test_options_of_every_part_are_read_from_its_dataclass(part: registry.Part) -> None:
    roles = {role: word for word, role in ROLES.items()}
    if part.role not in roles or part.missing:
        pytest.skip("its options cannot be set")
    types = option_types(roles[part.role], part.name)
    for name, kinds in types.items():
        assert set(kinds) <= {"int", "float", "str", "bool", "None"}, name
    if part.role == "decoders":
        assert types, part.name


def test_values_become_the_types_of_the_fields() -> None:
    values = {"beam": "8", "temperature": "0.5", "max_copied_span": "3", "language": "de"}
    assert typed_options("decoder", "search", values) == {
        "beam": 8,
        "temperature": 0.5,
        "max_copied_span": 3,
        "language": "de",
    }
    assert typed_options("decoder", "llm:m", {"max_copied_span": "none"}) == {"max_copied_span": None}
    assert typed_options("decoder", "vec2text", {"align": "Yes", "self_test": "false"}) == {
        "align": True,
        "self_test": False,
    }
    assert typed_options("embedder", "some/model", {"max_tokens": "64"}) == {"max_tokens": 64}


@pytest.mark.parametrize(
    ("role", "name", "values", "message"),
    [
        ("decoder", "nearest", {"beam": "8"}, "Decoder 'nearest' has no option 'beam'. Options: language."),
        ("condenser", "medoid", {"k": "8"}, "Condenser 'medoid' has no option 'k'. Options: backend."),
        ("condenser", "random", {"k": "8"}, "Condenser 'random' has no option 'k'. It has no options."),
        (
            "embedder",
            "hashing",
            {"dimensions": "8"},
            "Embedder 'hashing' has no option 'dimensions'. Options: dimension.",
        ),
        (
            "decoder",
            "search",
            {"beam": "8.5"},
            "expected --set decoder.beam to be a whole number, found '8.5'",
        ),
        (
            "decoder",
            "search",
            {"beam": "none"},
            "expected --set decoder.beam to be a whole number, found 'none'",
        ),
        (
            "decoder",
            "llm",
            {"max_copied_span": "x"},
            "expected --set decoder.max_copied_span to be a whole number or none, found 'x'",
        ),
        (
            "decoder",
            "vec2text",
            {"align": "2"},
            "expected --set decoder.align to be true or false, found '2'",
        ),
        (
            "decoder",
            "llm:m",
            {"model": "n"},
            "expected option 'model' of decoder 'llm:m' once, found it in the name and in --set",
        ),
    ],
)
def test_wrong_options_are_one_line(role: str, name: str, values: dict[str, str], message: str) -> None:
    with pytest.raises(InputError) as caught:
        typed_options(role, name, values)
    assert str(caught.value) == message


def test_old_flags_become_settings() -> None:
    arguments = ["a.csv", "--beam", "8", "--align", "--temperature=0.5", "--seed", "1", "--", "--beam"]
    assert rewrite_flags(arguments, OLD_FLAGS) == (
        [
            "a.csv",
            "--set",
            "decoder.beam=8",
            "--set",
            "decoder.align=true",
            "--set",
            "decoder.temperature=0.5",
            "--seed",
            "1",
            "--",
            "--beam",
        ],
        [
            "--beam is now --set decoder.beam=8; --beam will be removed in the next version",
            "--align is now --set decoder.align=true; --align will be removed in the next version",
            "--temperature is now --set decoder.temperature=0.5; --temperature will be removed in the next version",
        ],
    )
    assert rewrite_flags(["--beam"], OLD_FLAGS) == (["--beam"], [])


def test_set_and_the_old_flag_do_the_same(reviews: Path, tmp_path: Path) -> None:
    command = (
        "distill",
        reviews,
        "--per-class",
        1,
        "--embedder",
        "hashing",
        "--decoder",
        "nearest",
        "--no-report",
    )
    assert run(*command, "--output", tmp_path / "new", "--set", "decoder.language=de")[0] == 0
    status, output = run(*command, "--output", tmp_path / "old", "--language", "de")
    assert status == 0
    assert "note: --language is now --set decoder.language=de" in output
    for name in ("new", "old"):
        configuration = json.loads((tmp_path / name / "manifest.json").read_text())["configuration"]
        assert configuration["decoder_options"] == {"language": "de"}
    same = [(tmp_path / name / "train.parquet").read_bytes() for name in ("new", "old")]
    assert same[0] == same[1]


def test_options_of_embedder_and_condenser_reach_them(reviews: Path, tmp_path: Path) -> None:
    settings = ("--set", "embedder.dimension=32", "--set", "condenser.backend=scikit-learn")
    command = ("distill", reviews, "--per-class", 1, "--embedder", "hashing", "--no-report", *settings)
    status, output = run(*command, "--output", tmp_path / "out")
    assert status == 0, output
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["embedder"]["dimension"] == 32
    assert manifest["configuration"]["condenser_options"] == {"backend": "scikit-learn"}


@pytest.mark.parametrize(
    "verb", ["distill", "compare", "curve", "plan", "evaluate", "embed", "probe", "train-inverter"]
)
def test_every_verb_with_parts_names_the_known_options(verb: str, reviews: Path, tmp_path: Path) -> None:
    more = {
        "distill": ("--output", tmp_path / "out", "--per-class", 1),
        "compare": ("--test", reviews, "--per-class", 1),
        "curve": ("--test", reviews),
        "evaluate": ("--test", reviews),
        "probe": ("--test", reviews),
        "train-inverter": ("--output", tmp_path / "out"),
    }.get(verb, ())
    status, output = run(verb, reviews, *more, "--embedder", "hashing", "--set", "embedder.beam=8")
    assert status != 0
    assert "Embedder 'hashing' has no option 'beam'. Options: dimension." in output


def test_options_of_a_decoder_that_is_not_measured_are_refused(reviews: Path) -> None:
    command = ("curve", reviews, "--test", reviews, "--embedder", "hashing", "--methods", "random")
    status, output = run(*command, "--decoder", "nearest", "--set", "decoder.language=de")
    assert status != 0
    assert "expected options of a decoder that is measured, found some of 'nearest'" in output


def test_the_first_options_of_distill_are_those_that_most_need() -> None:
    names = list(inspect.signature(distill).parameters)
    first = names[: names.index("json") + 1]
    assert first[0] == "source"
    assert {"test", "text_column", "label_column", "per_class", "embedder", "decoder", "output"} <= set(first)
    assert not {"engine", "address", "base_url", "price", "seed", "store"} & set(first)


def test_a_verb_is_written_with_few_parameters() -> None:
    for verb in ("distill", "compare", "curve", "evaluate"):
        function = getattr(__import__(f"dallme.cli.{verb}", fromlist=[verb]), verb)
        assert len(inspect.getfullargspec(function.__wrapped__).args) <= 16


def test_help_groups_verbs_and_options() -> None:
    output = CliRunner().invoke(app, ["--help"]).output
    panels = [
        output.index(f" {panel} ") for panel in ("Measure", "Understand and share", "Inverters", "Setup")
    ]
    assert panels == sorted(panels)
    output = CliRunner().invoke(app, ["distill", "--help"]).output
    panels = [
        output.index(f"─ {panel} ─")
        for panel in ("Data", "Budget", "Embedder", "Decoder", "Output", "Advanced")
    ]
    assert panels == sorted(panels)
