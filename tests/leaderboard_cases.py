"""Inputs of the tests of `dallme benchmark`: an invented data set, and an invented method."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from dallme.cli.main import app
from dallme.experiments.rows import Row, RowFile
from dallme.readers import read

DESCRIPTION = """
name = "{name}"
authors = ["A. Author", "B. Author"]
paper = "https://example.org/paper"
code = ""
licence = "CC0-1.0"

[used]
labels = true
test_data = "none"
model_calls = {calls}

[cost]
seconds = 2.5
"""
GOOD, BAD = ("fine", "warm", "bright", "lovely"), ("dull", "cold", "grey", "dreary")
TRAIN = [
    f"The {noun} was a {word} one from its start to the end"
    for noun in ("film", "play", "song")
    for word in (*GOOD, *BAD)
]
TEST = [f"They say this {noun} is {word}" for noun in ("story", "book") for word in (*GOOD, *BAD)]
#: Texts of the invented method, two sets of two texts a class.
SETS = (
    (["A fine and warm thing", "Bright and lovely", "A dull and cold thing", "Grey and dreary"]),
    (["Fine, bright, warm", "A lovely day", "Dull, grey, cold", "A dreary day"]),
)
LABELS = ["good", "good", "bad", "bad"]


def label_of(text: str) -> str:
    return "good" if any(word in text for word in GOOD) else "bad"


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def as_rows(texts: list[str], labels: list[Any] = LABELS) -> list[dict[str, Any]]:
    return [{"text": text, "label": label} for text, label in zip(texts, labels, strict=True)]


def make_bench(tmp_path: Path) -> Path:
    """A folder with a data set, its description in `data.toml`, and the submission `mine`."""
    tables = []
    for name in ("things", "others"):
        for part, texts in (("train", TRAIN), ("test", TEST)):
            own = [text if name == "things" else f"{text} again" for text in texts]
            write_jsonl(
                tmp_path / "data" / name / f"{part}.jsonl", as_rows(own, [label_of(text) for text in own])
            )
        train = read(tmp_path / "data" / name / "train.jsonl")
        test = read(tmp_path / "data" / name / "test.jsonl", like=train)
        tables.append(
            f'[{name}]\ntrain = "{name}/train.jsonl"\ntest = "{name}/test.jsonl"\n'
            f'train_sha256 = "{train.digest}"\ntest_sha256 = "{test.digest}"\n'
        )
    (tmp_path / "data.toml").write_text("".join(tables))
    make_submission(tmp_path / "mine", "mine")
    return tmp_path


def make_submission(folder: Path, name: str, calls: int = 0, data: str = "things") -> None:
    for number, texts in enumerate(SETS):
        write_jsonl(folder / data / "2" / f"{number:02}.jsonl", as_rows(texts))
    (folder / "submission.toml").write_text(DESCRIPTION.format(name=name, calls=calls))


def run(bench: Path, action: str, folder: str = "mine", *more: str, embedder: str | None = "hashing") -> Any:
    """Runs a verb; an error of the user is the result's exception."""
    command = ["benchmark", action, str(bench / folder), *more]
    if action != "page":
        command += ["--data", str(bench / "data"), "--datasets", str(bench / "data.toml")]
    if action == "score":
        command += ["--output", str(bench / "results"), "--store", str(bench / "store")]
        command += ["--embedder", embedder] if embedder and "--embedder" not in more else []
    return CliRunner().invoke(app, command)


def rows_of(bench: Path) -> list[Row]:
    return RowFile(bench / "results" / "rows.jsonl").load()


def replace_in(old: str, new: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "submission.toml"
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))

    return change
