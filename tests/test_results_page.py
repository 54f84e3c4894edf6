"""The committed results are what their rows say."""

from __future__ import annotations

from pathlib import Path

import pytest

from dallme.experiments.page import results_page, write_results
from dallme.experiments.rows import RowFile
from dallme.experiments.spec import load_experiment

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "results" / "offline"
NAMES = sorted(path.parent.name for path in RESULTS.glob("*/rows.jsonl"))


def test_there_are_results() -> None:
    assert "table1-imdb" in NAMES


def test_the_page_is_that_of_the_rows() -> None:
    assert (ROOT / "docs" / "results.md").read_text(encoding="utf-8") == results_page(
        RESULTS, "offline", "../results/offline/"
    )


@pytest.mark.parametrize("name", NAMES)
def test_tables_are_those_of_the_rows(name: str, tmp_path: Path) -> None:
    rows = RowFile(RESULTS / name / "rows.jsonl").load()
    assert rows
    write_results(load_experiment(name), "offline", rows, tmp_path)
    for file in ("table.md", "table.html", "page.md"):
        assert (tmp_path / file).read_text(encoding="utf-8") == (RESULTS / name / file).read_text(
            encoding="utf-8"
        ), file
