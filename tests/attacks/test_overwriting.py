"""What ``--overwrite`` and output files may replace: what dallme wrote, and nothing else."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from dallme.cli.main import app
from dallme.dataset import DistilledDataset, Lineage
from dallme.errors import OutputError
from dallme.files import folders
from dallme.files.atomic import write_output


def _save(path: Path, word: str = "old", overwrite: bool = False) -> Path:
    texts = (f"a fine {word} film", f"a dull {word} film")
    rows = (Lineage("nearest", (0,), (0,), ("a",), (0,)), Lineage("nearest", (1,), (1,), ("b",), (1,)))
    made = DistilledDataset(
        texts, np.array([0, 1]), {0: "good", 1: "bad"}, np.ones(2), rows, {"configuration": {}, "dallme": "0"}
    )
    return made.save(path, overwrite=overwrite)


@pytest.mark.parametrize("name", sorted(folders.SET_FILES))
@pytest.mark.parametrize("recorded", [True, False])
def test_a_file_of_the_user_is_not_replaced(tmp_path: Path, name: str, recorded: bool) -> None:
    out = _save(tmp_path / "out")
    if not recorded:  # as version 0.1 left it
        (out / folders.RECORD).unlink()
    (out / name).write_bytes(b"my own notes")
    with pytest.raises(
        OutputError, match=f"found '.*{name}', which is another or was changed since"
    ) as error:
        _save(out, "new", overwrite=True)
    assert "nothing was written" in str(error.value)
    assert (out / name).read_bytes() == b"my own notes"


def test_an_edited_card_is_not_replaced(tmp_path: Path) -> None:
    card = _save(tmp_path / "out") / "README.md"
    edited = card.read_bytes() + b"\nWhat I found out about this set.\n"
    card.write_bytes(edited)
    with pytest.raises(OutputError, match=r"README.md', which is another or was changed since"):
        _save(tmp_path / "out", "new", overwrite=True)
    assert card.read_bytes() == edited


@pytest.mark.parametrize("recorded", [True, False])
def test_a_set_that_nobody_changed_is_replaced(tmp_path: Path, recorded: bool) -> None:
    out = _save(tmp_path / "out")
    if not recorded:
        (out / folders.RECORD).unlink()
    (out / "notes.txt").write_bytes(b"mine")
    _save(out, "new", overwrite=True)
    assert DistilledDataset.load(out).texts[0] == "a fine new film"
    assert (out / "notes.txt").read_bytes() == b"mine"


def test_a_page_written_later_is_replaced_with_its_set(tmp_path: Path) -> None:
    out = _save(tmp_path / "out")
    folders.add(out, "report.html", b"<html>dallme</html>")
    folders.add(out, "report.html", b"<html>dallme, again</html>")
    _save(out, "new", overwrite=True)
    assert not (out / "report.html").exists()
    (out / "report.html").write_bytes(b"mine")
    with pytest.raises(OutputError, match=r"report.html', which is another"):
        folders.add(out, "report.html", b"<html>dallme</html>")
    assert (out / "report.html").read_bytes() == b"mine"


def test_the_source_is_never_the_output(tmp_path: Path) -> None:
    source = tmp_path / "data"
    source.mkdir()
    rows = "text,label\n" + "".join(
        f"a {word} film number {n},{word}\n" for n in range(6) for word in ("fine", "dull")
    )
    (source / "train.csv").write_text(rows)
    options = ["--per-class", "1", "--embedder", "hashing", "--overwrite"]
    for output in (source, source / "deep" / "out"):
        answer = CliRunner().invoke(app, ["distill", str(source), "--output", str(output), *options])
        assert isinstance(answer.exception, OutputError), answer.output
        assert "apart from what is read" in str(answer.exception)
    assert [path.name for path in source.iterdir()] == ["train.csv"]
    distilled = _save(tmp_path / "set")
    before = (distilled / "train.parquet").read_bytes()
    answer = CliRunner().invoke(
        app, ["distill", str(distilled / "train.parquet"), "--output", str(distilled), *options]
    )
    assert "apart from what is read" in str(answer.exception)
    assert (distilled / "train.parquet").read_bytes() == before


def test_an_output_that_is_a_link_keeps_the_link(tmp_path: Path) -> None:
    (tmp_path / "real.txt").write_bytes(b"old")
    (tmp_path / "link.txt").symlink_to("real.txt")
    write_output(tmp_path / "link.txt", b"new")
    assert (tmp_path / "link.txt").is_symlink()
    assert (tmp_path / "real.txt").read_bytes() == b"new"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_an_output_that_is_a_pipe_is_written_to(tmp_path: Path) -> None:
    pipe, read = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    write_output(pipe, b"content")
    reader.join(timeout=10)
    assert read == [b"content"]
    assert pipe.is_fifo()


def test_an_output_that_is_a_device_stays_one() -> None:
    before = os.stat(os.devnull)
    write_output(Path(os.devnull), b"content")
    assert os.stat(os.devnull).st_rdev == before.st_rdev
