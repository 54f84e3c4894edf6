"""The committed page of results is built from the committed rows."""

from __future__ import annotations

from pathlib import Path

import pytest

from dallme.experiments import load_experiment
from dallme.experiments.page import results_page, write_results
from dallme.experiments.rows import RowFile

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "results" / "offline"
NAMES = sorted(path.parent.name for path in RESULTS.glob("*/rows.jsonl"))
PAGE = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")


def test_there_are_results() -> None:
    assert "table1-imdb" in NAMES


def test_the_page_is_built_from_the_rows() -> None:
    assert results_page(RESULTS, "offline", "../results/offline/") == PAGE


@pytest.mark.parametrize("name", NAMES)
def test_the_page_holds_the_table_of_the_rows(name: str, tmp_path: Path) -> None:
    rows = RowFile(RESULTS / name / "rows.jsonl").load()
    assert rows
    write_results(load_experiment(name), "offline", rows, tmp_path)
    assert (tmp_path / "table.md").read_text(encoding="utf-8") in PAGE
    figure = RESULTS / name / "figure.svg"
    assert (tmp_path / "figure.svg").exists() == figure.exists()
    assert figure.exists() == (f"results/offline/{name}/figure.svg" in PAGE)
