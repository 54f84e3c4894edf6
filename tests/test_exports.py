"""Exports: each file is read back as its tool reads it, and holds the texts as they are."""

from __future__ import annotations

import csv
import io
import json
import runpy
import subprocess
import sys
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from dallme import evaluate, read
from dallme.auditing.inputs import gather
from dallme.cli.main import _status
from dallme.data import LabelledTexts
from dallme.dataset import DistilledDataset, Lineage
from dallme.report.exports import EXPORTS, Export, Material, find, project
from dallme.text import words

TEXTS = (
    "A fine film {text}, warm and bright.",
    '=cmd|"/c calc"!A1 was a fine\nand "happy" film',
    "Dull, grim </script> & long; très 很好.",
)
NAMES = ("positive", "positive", "+negative")
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def distilled() -> DistilledDataset:
    lineage = (
        Lineage("extractive", (0, 1), (0,), ("A fine film {text}, warm and bright.",), (0,), 0.75),
        Lineage("extractive", (2,), (2,), (), (), None),
        Lineage("extractive", (3,), (3,), (), (), 0.5, True),
    )
    return DistilledDataset(
        texts=TEXTS,
        labels=np.array([1, 1, 0]),
        label_names={0: "+negative", 1: "positive"},
        weights=np.array([2.0, 1.0, 1.5]),
        lineage=lineage,
    )


@pytest.fixture
def folder(distilled: DistilledDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of a set, named as no folder should be; it lies in the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DALLME_STORE", str(tmp_path / "store"))
    return distilled.save(Path("out 'of\" {the} way"))


@pytest.fixture
def dallme(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command; gives its exit status, standard output and standard error."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["dallme", *map(str, arguments)])
        status = _status()
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call


def write(distilled: DistilledDataset, name: str, folder: str = "distilled") -> str:
    return find(name).write(Material(distilled, folder)).decode()


# Prompts


def test_a_prompt_ends_where_a_text_is_put(distilled: DistilledDataset) -> None:
    assert write(distilled, "few-shot") == (
        "Classify the text. Answer with the name of one of these classes and nothing else: +negative, "
        "positive.\n\n"
        "Text: A fine film {text}, warm and bright.\nClass: positive\n\n"
        "Text: Dull, grim </script> & long; très 很好.\nClass: +negative\n\n"
        'Text: =cmd|"/c calc"!A1 was a fine and "happy" film\nClass: positive\n\n'
        "Text: "
    )


def test_a_chat_is_one_line_of_messages(distilled: DistilledDataset) -> None:
    lines = write(distilled, "chat").splitlines()
    assert len(lines) == 1
    messages = json.loads(lines[0])["messages"]
    assert [message["role"] for message in messages] == ["system", *("user", "assistant") * 3]
    assert messages[0]["content"].startswith("Classify the text.")
    turns = [message["content"] for message in messages[1:]]
    assert turns == [TEXTS[0], "positive", TEXTS[2], "+negative", TEXTS[1], "positive"]


def test_fine_tuning_takes_a_chat_a_line(distilled: DistilledDataset) -> None:
    chats = [json.loads(line)["messages"] for line in write(distilled, "fine-tuning").split("\n")[:-1]]
    system = json.loads(write(distilled, "chat"))["messages"][0]
    assert chats == [
        [system, {"role": "user", "content": text}, {"role": "assistant", "content": name}]
        for text, name in ((TEXTS[0], "positive"), (TEXTS[2], "+negative"), (TEXTS[1], "positive"))
    ]


# Rows


def test_json_lines_hold_the_lineage(distilled: DistilledDataset) -> None:
    rows = [json.loads(line) for line in write(distilled, "jsonl").split("\n")[:-1]]
    assert rows == [
        {key: row[key] for key in row if key != "member_rows"} for row in distilled.to_arrow().to_pylist()
    ]
    assert rows[0]["text"] == TEXTS[0]
    assert (rows[0]["label_text"], rows[0]["weight"], rows[0]["sentence_rows"]) == ("positive", 2.0, [0])


@pytest.mark.parametrize("sign", ["=", "+", "-", "@", "\t", "\r", "\n"])
def test_a_spreadsheet_runs_no_text(distilled: DistilledDataset, sign: str) -> None:
    hostile = replace(distilled, texts=(f"{sign}HYPERLINK(A1)", " = no formula", "a = b"))
    rows = list(csv.reader(io.StringIO(write(hostile, "csv"), newline="")))
    assert rows == [
        ["text", "label", "label_text", "weight"],
        [f"'{sign}HYPERLINK(A1)", "1", "positive", "2.0"],
        [" = no formula", "1", "positive", "1.0"],
        ["a = b", "0", "'+negative", "1.5"],
    ]


def test_a_table_keeps_lines_and_quotes(distilled: DistilledDataset) -> None:
    rows = list(csv.DictReader(io.StringIO(write(distilled, "csv"), newline="")))
    assert [row["text"] for row in rows] == [TEXTS[0], f"'{TEXTS[1]}", TEXTS[2]]


# Programs


def execute(program: Path | str, *arguments: str) -> str:
    """Runs an exported program in this process, with warnings as errors; returns its standard output."""
    output = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings(), redirect_stdout(output):
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", DeprecationWarning)
        patch.setattr(sys, "argv", [str(program), *arguments])
        runpy.run_path(str(program), run_name="__main__")
    return output.getvalue()


def test_the_program_trains_what_it_says(folder: Path, dallme: Run) -> None:
    assert dallme("export", folder, "--format", "sklearn", "--output", "train.py")[0] == 0
    done = subprocess.run([sys.executable, "train.py"], capture_output=True, text=True, check=True)
    model = make_pipeline(TfidfVectorizer(), LogisticRegression(max_iter=1000)).fit(TEXTS, NAMES)
    expected = [f"{model.predict([text])[0]}: {text[:80]}" for text in ("Put your own texts here.", TEXTS[0])]
    assert done.stdout.splitlines() == ["trained on 3 texts of the classes: +negative, positive", *expected]
    folder.rename("elsewhere")
    assert execute("train.py", "elsewhere").splitlines()[1:] == expected


#: Chinese and emoji: neither has words for scikit-learn's own tokenizer.
CHINESE = {
    "good": (
        "这部电影非常好看，剧情感人",
        "演员精彩，音乐好听，我很喜欢",
        "画面感人，导演精彩，好看",
        "我喜欢这部好看的电影",
    ),
    "bad": (
        "这部电影非常难看，剧情无聊",
        "演员糟糕，音乐难听，我很讨厌",
        "画面无聊，导演糟糕，难看",
        "我讨厌这部难看的电影",
    ),
}
EMOJI = {"good": ("😀😀", "😀🎉", "🎉🎉😀", "😀"), "bad": ("😡😡", "😡👎", "👎👎😡", "😡")}
MIXED = {
    "good": ("A fine film", "好看的电影", "Ein fine film für alle", "好看的剧情"),
    "bad": ("A dull film", "难看的电影", "Ein dull film für alle", "难看的剧情"),
}


@pytest.mark.parametrize("rows", [CHINESE, EMOJI, MIXED], ids=["chinese", "emoji", "mixed"])
def test_the_sklearn_program_scores_as_evaluate(rows: dict[str, tuple[str, ...]], tmp_path: Path) -> None:
    train = read([text for texts in rows.values() for text in texts[:2]], ["good", "good", "bad", "bad"])
    test = read(
        [text for texts in rows.values() for text in texts[2:]], ["good", "good", "bad", "bad"], like=train
    )
    lineage = (Lineage("extractive"),) * 4
    distilled = DistilledDataset(train.texts, train.labels, train.label_names, np.ones(4), lineage)
    folder = distilled.save(tmp_path / "out")
    program = tmp_path / "train.py"
    classes = [test.label_names[label] for label in test.labels.tolist()]
    score = (
        f"\ntest, classes = {list(test.texts)!r}, {classes!r}\n"
        "print('accuracy', (model.predict(test) == classes).mean())\n"
    )
    program.write_text(write(distilled, "sklearn", str(folder)) + score, encoding="utf-8")
    output = execute(program)
    (measured,) = evaluate(folder, test, ["logistic-regression"])
    assert float(output.split()[-1]) == measured.accuracy
    assert measured.accuracy > 0.5


def test_the_sklearn_program_needs_no_dallme(distilled: DistilledDataset) -> None:
    source = write(distilled, "sklearn")
    namespace: dict[str, Any] = {}
    exec(source[: source.index("folder = ")], namespace)
    assert "import dallme" not in source
    assert "from dallme" not in source
    for text in ("A fine film!", "这部 good 电影", "😀🎉 !", "हिन्दी में", "x", ""):
        assert namespace["words"](text) == words(text)


def test_the_setfit_program_trains_on_the_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [texts[0] for rows in (CHINESE, EMOJI) for texts in rows.values()]
    train = read(texts, ["好", "坏", "好", "坏"])
    lineage = (Lineage("extractive"),) * 4
    distilled = DistilledDataset(train.texts, train.labels, train.label_names, np.ones(4), lineage)
    folder = distilled.save(tmp_path / "out")
    fake = ModuleType("setfit")
    exec(FAKE_SETFIT, vars(fake))
    monkeypatch.setitem(sys.modules, "setfit", fake)
    program = tmp_path / "train.py"
    program.write_text(write(distilled, "setfit", str(folder)), encoding="utf-8")
    for arguments, model in (
        ([], "sentence-transformers/all-MiniLM-L6-v2"),
        ([str(folder), "other"], "other"),
    ):
        output = execute(program, *arguments)
        names = [train.label_names[label] for label in train.labels.tolist()]
        assert json.loads(output.splitlines()[0]) == {
            "model": model,
            "rows": [*map(list, zip(texts, names, strict=True))],
        }


#: Stands in for the package: prints its training data, with the names of the classes.
FAKE_SETFIT = """
import json


class TrainingArguments:
    def __init__(self, **options):
        pass


class SetFitModel:
    @classmethod
    def from_pretrained(cls, name, labels):
        model = cls()
        model.name, model.labels = name, labels
        return model

    def save_pretrained(self, folder):
        pass

    def predict(self, texts):
        return [self.labels[0] for _ in texts]


class Trainer:
    def __init__(self, model, args, train_dataset):
        self.model, self.rows = model, train_dataset

    def train(self):
        names = [self.model.labels[label] for label in self.rows["label"]]
        print(json.dumps({"model": self.model.name, "rows": [*zip(self.rows["text"], names)]}))
"""


def test_the_setfit_program_names_folder_and_classes(distilled: DistilledDataset) -> None:
    folder = 'out\n" {x} \\'
    program = write(
        replace(distilled, label_names={0: "a'\n", 1: '"""', 2: "without a text"}), "setfit", folder
    )
    compile(program, "setfit", "exec")
    lines = dict(line.split(" = ", 1) for line in program.splitlines() if " = " in line)
    assert eval(lines["classes"]) == ["a'\n", '"""']
    assert eval(lines["folder"].replace("len(sys.argv) > 1", "False")) == folder


# Annotation


def test_argilla_takes_flat_records(distilled: DistilledDataset) -> None:
    assert json.loads(write(distilled, "argilla")) == [
        {"id": str(row), "text": TEXTS[row], "label": NAMES[row], "weight": weight}
        for row, weight in enumerate((2.0, 1.0, 1.5))
    ]


def test_label_studio_takes_tasks_with_predictions(distilled: DistilledDataset) -> None:
    tasks = json.loads(write(distilled, "label-studio"))
    assert [task["data"] for task in tasks] == [
        {"text": text, "weight": weight} for text, weight in zip(TEXTS, (2.0, 1.0, 1.5), strict=True)
    ]
    assert [task["predictions"] for task in tasks] == [
        [
            {
                "model_version": "dallme",
                "result": [
                    {"from_name": "label", "to_name": "text", "type": "choices", "value": {"choices": [name]}}
                ],
            }
        ]
        for name in NAMES
    ]


# Embedding Atlas


def test_an_atlas_without_a_source_holds_the_texts_alone(folder: Path, dallme: Run) -> None:
    assert dallme("export", folder, "--export", "atlas")[:2] == (0, "3 texts as atlas in atlas.parquet\n")
    assert pq.read_table("atlas.parquet").to_pydict() == {
        "text": list(TEXTS),
        "label": list(NAMES),
        "weight": [2.0, 1.0, 1.5],
    }


def test_an_atlas_maps_the_source(folder: Path, distilled: DistilledDataset, dallme: Run) -> None:
    rows = [(f"A fine film number {row}.", "positive") for row in range(5)] + [("A dull film.", "+negative")]
    with open("reviews.csv", "w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *rows])
    command = ("export", folder, "--format", "atlas", "--source", "reviews.csv", "--output", "map.parquet")
    assert dallme(*command) == (
        2,
        "",
        "error: expected an embedder, found a set that was made of ready vectors; "
        "name one with --embedder\n",
    )  # fmt: skip
    status, _, err = dallme(*command, "--embedder", "hashing")
    assert status == 0, err
    table = pq.read_table("map.parquet").to_pydict()
    assert table["text"] == [*TEXTS, *(text for text, _ in rows)]
    assert table["label"] == [*NAMES, *(name for _, name in rows)]
    assert table["kind"] == ["distilled"] * 3 + ["source"] * 6
    assert table["weight"] == [2.0, 1.0, 1.5] + [None] * 6
    source = LabelledTexts(
        [text for text, _ in rows], np.array([1] * 5 + [0]), distilled.label_names, np.arange(6)
    )
    evidence = gather(distilled, source, embedder="hashing")
    assert evidence.vectors is not None
    vectors = np.concatenate([evidence.own, evidence.vectors.vectors])
    np.testing.assert_allclose(table["vector"], vectors)
    places = np.array([table["projection_x"], table["projection_y"]]).T
    centred = vectors - vectors.mean(axis=0)
    expected = np.linalg.svd(centred, full_matrices=False)[1][:2]
    np.testing.assert_allclose(np.linalg.norm(places, axis=0), expected, rtol=1e-4)


def test_a_projection_keeps_the_widest_directions() -> None:
    points = np.array([[5, 1, 0], [-5, 1, 0], [0, 1, 2], [0, 1, -2]], dtype=np.float32)
    np.testing.assert_allclose(project(points), [[5, 0], [-5, 0], [0, 2], [0, -2]], atol=1e-6)
    np.testing.assert_allclose(project(points[:, :1]), [[5, 0], [-5, 0], [0, 0], [0, 0]], atol=1e-6)
    np.testing.assert_allclose(project(points[:1]), [[0, 0]], atol=1e-6)


# The command


@pytest.mark.parametrize("export", EXPORTS, ids=lambda export: export.name)
def test_every_format_is_written(folder: Path, dallme: Run, export: Export) -> None:
    status, out, err = dallme("export", folder, "--format", export.name, "--json")
    target = Path(f"{export.name}{export.suffix}")
    assert (status, err) == (0, "")
    assert json.loads(out) == {
        "format": export.name,
        "output": str(target),
        "texts": 3,
        "bytes": target.stat().st_size,
    }
    assert target.read_bytes() == export.write(Material(DistilledDataset.load(folder), str(folder)))


def test_help_names_every_format(dallme: Run) -> None:
    shown = " ".join(dallme("export", "--help")[1].replace("│", " ").split())
    for export in EXPORTS:
        assert f"{export.name}: {export.summary}" in shown


def test_nothing_is_overwritten_unasked(folder: Path, dallme: Run) -> None:
    Path("prompt.txt").write_text("mine")
    command = ("export", folder, "--format", "few-shot", "--output", "prompt.txt")
    assert dallme(*command) == (
        2, "", "error: expected a new file, found 'prompt.txt'; choose another, or --overwrite\n"
    )  # fmt: skip
    assert Path("prompt.txt").read_text() == "mine"
    assert dallme(*command, "--overwrite")[0] == 0
    assert Path("prompt.txt").read_text().startswith("Classify the text.")
    assert sorted(path.name for path in Path(".").iterdir()) == sorted([folder.name, "prompt.txt"])


def test_what_is_wrong_is_said_in_one_line(folder: Path, dallme: Run) -> None:
    known = ", ".join(export.name for export in EXPORTS)
    for arguments, message in {
        (folder, "--format", "word"): f"unknown format 'word'; known: {known}",
        (folder, "--format", "csv", "--source", "x.csv"): (
            "expected --source with --format atlas only, found it with csv; leave it out"
        ),
        (folder, "--format", "csv", "--output", folder): (
            f"expected a file to write to, found the folder {str(folder)!r}; name a file with --output"
        ),
        ("nowhere", "--format", "csv"): (
            "expected a folder with train.parquet and manifest.json, as dallme writes them, found none "
            "at 'nowhere'"
        ),
        (folder, "--format", "csv", "--output", folder / "manifest.json" / "x.csv"): (
            f"expected to write {str(folder / 'manifest.json' / 'x.csv')!r}, could not: File exists; "
            "nothing was written"
        ),
    }.items():
        assert dallme("export", *arguments) == (2, "", f"error: {message}\n")
    assert [path.name for path in Path(".").iterdir()] == [folder.name]
