"""Sets with one broken file: every verb that reads them says so in one line and changes nothing."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from markdown_it import MarkdownIt

from broken import break_set
from dallme.cli.main import _status
from dallme.dataset import AUDIT, DistilledDataset
from dallme.dataset.card import check_audit, parse_audit, render
from dallme.errors import DallmeError, InputError
from dallme.review.changes import section
from dallme.review.versions import open_versions
from report_sets import audit_of, small_set

SEEDS = range(150)


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set with a comparison, an audit and a history."""
    distilled, _ = small_set(with_comparison=True)
    entry = {
        "version": 2, "parent": 1, "parent_sha256": "0" * 64, "when": "2026-01-01T00:00:00+00:00", "texts": 3,
        "changes": [{"index": 0, "id": 0, "action": "accept"}], "notes": ["a note"],
    }  # fmt: skip
    parts = {"history": [entry], "review": {"ids": [0, 1, 2], "accepted": [0]}, "decoding": {"requests": 3}}
    made = DistilledDataset(
        distilled.texts, distilled.labels, distilled.label_names, distilled.weights, distilled.lineage,
        distilled.manifest | parts,
    )  # fmt: skip
    return made.save(tmp_path_factory.mktemp("sets") / "few", audit=audit_of(made))


def _tree(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def _verbs(folder: Path, tmp_path: Path) -> dict[str, tuple[object, ...]]:
    test = tmp_path / "test.csv"
    test.write_text("text,label\n" + "a dull film,bad\na fine film,good\n" * 4)
    out = tmp_path / "out"
    return {
        "report": ("report", folder, "--output", out / "page.html"),
        "export": ("export", folder, "--format", "jsonl", "--output", out / "set.jsonl"),
        "evaluate": ("evaluate", folder, "--test", test, "--classifiers", "nb", "--runs", 1),
        "push": ("push", folder, "user/name", "--dry-run"),
        "review": ("review", folder, "--history"),
        "audit": ("audit", folder, "--source", test),  # the last, since it writes if the set is sound
    }


@pytest.mark.parametrize("seed", SEEDS)
def test_a_broken_set_is_read_or_refused_in_one_line(healthy: Path, tmp_path: Path, seed: int) -> None:
    folder = tmp_path / "few"
    shutil.copytree(healthy, folder)
    break_set(folder, seed)
    before = _tree(folder)
    message = ""
    try:
        distilled, files = DistilledDataset.read(folder)
        render(distilled)
        section(distilled)
        check_audit(parse_audit(files[AUDIT]), distilled)
    except InputError as error:
        message = str(error)
    assert "\n" not in message
    assert _tree(folder) == before


@pytest.mark.parametrize("seed", SEEDS[::10])
def test_every_verb_refuses_a_broken_set_in_one_line(
    healthy: Path,
    tmp_path: Path,
    seed: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "few"
    shutil.copytree(healthy, folder)
    break_set(folder, seed)
    (tmp_path / "out").mkdir()
    verbs = _verbs(folder, tmp_path)
    before = _tree(folder)
    for verb, arguments in verbs.items():
        monkeypatch.setattr("sys.argv", ["dallme", *map(str, arguments)])
        status = _status()
        answer = capsys.readouterr()
        assert status in (0, 2), f"{verb}: {answer.err}"
        if status == 2:
            assert "expected" in answer.err.splitlines()[-1], f"{verb}: {answer.err}"
            assert "Traceback" not in answer.err
        if verb != "audit" or status == 2:
            assert _tree(folder) == before


def test_a_whole_set_passes_every_check(healthy: Path) -> None:
    distilled, files = DistilledDataset.read(healthy)
    check_audit(parse_audit(files[AUDIT]), distilled)
    assert open_versions(healthy, writable=False).newest().number == 2


@pytest.mark.parametrize(
    "text", ["<script>alert(1)</script>", "| a | b |", "](http://x)", "a\n# b", "<b>&amp;"]
)
def test_texts_of_a_manifest_are_text_on_the_card(healthy: Path, text: str) -> None:
    distilled = DistilledDataset.load(healthy)
    entry = dict(distilled.manifest["history"][0]) | {"when": text}
    changes = {
        "history": [entry],
        "configuration": {"embedder": text, "decoder": text, text: text},
        "data": {"source": text, "sha256": text, "rows": 3},
        "dallme": text,
    }
    hostile = DistilledDataset(
        (text, "b", "c"), np.array([5, 5, 9]), {5: text, 9: "good"}, np.ones(3), distilled.lineage,
        distilled.manifest | changes,
    )  # fmt: skip
    card = render(hostile).split("---\n", 2)[2] + "\n" + section(hostile)
    tokens = [
        token
        for block in MarkdownIt("commonmark").enable("table").parse(card)
        for token in (block, *(block.children or ()))
    ]
    assert not [token for token in tokens if token.type in ("html_block", "html_inline", "link_open")]
    assert sum(token.type == "heading_open" for token in tokens) == card.count("\n#") + card.startswith("#")


def test_an_error_of_one_parser_is_an_error_of_dallme() -> None:
    for content in (b"", b"{}", b"[" * 100_000, b"\xff"):
        with pytest.raises(DallmeError):
            parse_audit(content)
