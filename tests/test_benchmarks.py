"""What the documentation claims is what the benchmarks' JSON files hold."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


def test_the_pages_show_the_json_files() -> None:
    done = subprocess.run([sys.executable, str(BENCHMARKS / "render.py"), "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", sorted(BENCHMARKS.glob("*.json")), ids=lambda path: path.name)
def test_every_result_has_its_script_and_machine(path: Path) -> None:
    assert path.with_suffix(".py").is_file()
    assert json.loads(path.read_text())["machine"]["python"].startswith("3.")
