"""What the documentation claims is what the benchmarks' JSON files hold."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


def test_the_pages_show_the_json_files() -> None:
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / "render.py"), "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", sorted(BENCHMARKS.glob("*.json")), ids=lambda path: path.name)
def test_every_result_has_its_script_and_machine(path: Path) -> None:
    assert path.with_suffix(".py").is_file()
    assert json.loads(path.read_text())["machine"]["python"].startswith("3.")


def test_the_table_under_which_parts_to_choose_is_that_of_the_main_job() -> None:
    page = (BENCHMARKS.parent / "docs" / "choosing.md").read_text(encoding="utf-8")
    names = {"random": "random texts", "full": "full data"}
    wanted: dict[str, list[str]] = {}
    for data in json.loads((BENCHMARKS / "main_job.json").read_text())["data"].values():
        for row in data["table"]["methods"]:
            means = [f"{result['accuracy_mean']:.3f}".removeprefix("0") for result in row["results"]]
            wanted.setdefault(names.get(row["method"], f"`{row['method']}`"), []).append(", ".join(means))
    for name, cells in wanted.items():
        assert f"| {name} | {' | '.join(cells)} |" in page
