"""Benchmarks: the pages show the JSON files, and every script still runs."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from forks import run_script

ROOT = Path(__file__).resolve().parents[1]
BENCHMARKS = ROOT / "benchmarks"

#: Modules that are no benchmark of their own.
HELPERS = {"render", "store_candidates"}
SCRIPTS = sorted(path.stem for path in BENCHMARKS.glob("[!_]*.py") if path.stem not in HELPERS)

#: Scripts that `make bench` leaves out: one trains a model on a GPU, one fine-tunes for hours, one needs clones
#: of other repositories.
ON_REQUEST = {"shipped_inverter", "targets", "unseen"}

#: Scripts that write no JSON file of their own.
WITHOUT_RESULTS = {"shipped_inverter", "code_size"}

#: Packages that a script needs in addition to those of the tests.
PACKAGES = {"fuzz_readers": "atheris", "engines": "ray", "report": "umap"}

#: Scripts whose smoke run takes less than ten seconds.
QUICK = {"code_size", "first_words"}


#: Part of the output of a smoke run, where the results alone would not show that all of it ran.
PRINTED = {"embedding_speed": "'least_cosine': "}


def run(script: str, *options: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    path, environment = BENCHMARKS / f"{script}.py", os.environ | {"OMP_NUM_THREADS": "1"}
    environment.pop("DALLME_DATA", None)
    if script not in {"render", *QUICK} and sys.platform != "win32":
        return run_script(path, *options, folder=folder, environment=environment)
    return subprocess.run(
        [sys.executable, str(path), *options],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        cwd=folder,
    )


def test_the_pages_show_the_json_files() -> None:
    done = run("render", "--check")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", sorted(BENCHMARKS.glob("*.json")), ids=lambda path: path.name)
def test_every_result_has_its_script_and_machine(path: Path) -> None:
    assert path.with_suffix(".py").is_file()
    assert json.loads(path.read_text())["machine"]["python"].startswith("3.")


def test_make_bench_runs_every_script() -> None:
    (listed,) = re.findall(r"for script in ([\w ]+); do", (ROOT / "Makefile").read_text(encoding="utf-8"))
    assert sorted(listed.split()) == sorted({*SCRIPTS} - ON_REQUEST)


@pytest.mark.parametrize(
    "script", [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in SCRIPTS]
)
def test_a_smoke_run_ends_well_and_writes_no_results(script: str, tmp_path: Path) -> None:
    if script in PACKAGES and find_spec(PACKAGES[script]) is None:
        pytest.skip(f"{PACKAGES[script]} is not installed")
    if script == "report" and not (os.environ.get("CHROMIUM") or shutil.which("chromium")):
        pytest.skip("no browser")
    path = BENCHMARKS / f"{script}.json"
    before = path.read_bytes() if path.exists() else None
    done = run(script, "--smoke", folder=tmp_path)  # scripts find their files from any working directory
    assert done.returncode == 0, done.stderr[-2000:]
    assert (path.read_bytes() if path.exists() else None) == before
    if script not in WITHOUT_RESULTS:
        assert '"machine": {' in done.stdout
    assert PRINTED.get(script, "") in done.stdout


def test_the_table_of_choosing_is_that_of_the_main_job() -> None:
    page = (ROOT / "docs" / "choosing.md").read_text(encoding="utf-8")
    names = {"random": "random texts", "full": "full data"}
    rows: dict[str, list[str]] = {}
    for data in json.loads((BENCHMARKS / "main_job.json").read_text())["data"].values():
        for row in data["table"]["methods"]:
            means = [f"{result['accuracy_mean']:.3f}" for result in row["results"]]
            rows.setdefault(names.get(row["method"], f"`{row['method']}`"), []).append(", ".join(means))
    for name, cells in rows.items():
        assert f"| {name} | {' | '.join(cells)} |" in page
