"""The command line: what it prints, what it writes, and one clear line for whatever is wrong."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dallme.cli.main import _status
from dallme.validation import MAX_CHARACTERS

GOOD = ["fine", "good", "great", "lovely", "superb", "happy", "warm", "bright"]
BAD = ["bad", "poor", "awful", "dull", "weak", "sad", "cold", "grim"]


def sentence(words: list[str], row: int) -> str:
    """A sentence whose words depend on the row."""
    first, second = words[row % len(words)], words[(row * 3 + 1) % len(words)]
    return f"The {first} film number {row} was {second} from start to end."


def write_csv(
    path: Path, rows: list[tuple[object, object]], head: tuple[str, str] = ("text", "label")
) -> Path:
    with path.open("w", newline="", encoding="utf-8") as handle:
        csv.writer(handle).writerows([head, *rows])
    return path


@pytest.fixture
def reviews(tmp_path: Path) -> Path:
    """Eighty reviews of two classes."""
    rows = [(sentence(GOOD, row), "good") for row in range(40)] + [
        (sentence(BAD, row), "bad") for row in range(40)
    ]
    return write_csv(tmp_path / "reviews.csv", rows)


@pytest.fixture
def held_out(tmp_path: Path) -> Path:
    """Forty other reviews."""
    rows = [(sentence(GOOD, row), "good") for row in range(40, 60)] + [
        (sentence(BAD, row), "bad") for row in range(40, 60)
    ]
    return write_csv(tmp_path / "held-out.csv", rows)


@pytest.fixture(autouse=True)
def own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DALLME_STORE", str(tmp_path / "store"))
    return tmp_path / "store"


@pytest.fixture
def dallme(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Runs the command in this process; gives its exit status, standard output and standard error."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["dallme", *map(str, arguments)])
        capsys.readouterr()
        status = _status()
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


QUICK = ("--embedder", "hashing")


def test_distill_writes_a_folder_that_datasets_reads(dallme, reviews: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    status, out, _ = dallme("distill", reviews, "--output", output, "--per-class", 3, *QUICK)
    assert status == 0
    lines = out.splitlines()
    assert lines[0].split() == ["label", "text"]
    assert [line.split()[0] for line in lines[1:7]] == ["bad"] * 3 + ["good"] * 3
    assert lines[-2] == f"80 rows → 6 texts in {output}; open report.html in it"
    assert lines[-1] == f"next: dallme audit {output} --source {reviews}"
    assert sorted(path.name for path in output.iterdir()) == [
        ".dallme-files.json",
        "README.md",
        "manifest.json",
        "report.html",
        "train.parquet",
    ]
    loaded = datasets.load_dataset(str(output), split="train", cache_dir=str(tmp_path / "cache"))
    assert loaded.num_rows == 6
    assert loaded.features["label"].names == ["bad", "good"]
    assert sum(loaded["weight"]) == 80


def test_distill_json_is_one_document_and_nothing_else(
    dallme, reviews: Path, held_out: Path, tmp_path: Path
) -> None:
    status, out, _ = dallme(
        "distill",
        reviews,
        "--output",
        tmp_path / "out",
        "--per-class",
        2,
        "--test",
        held_out,
        "--json",
        *QUICK,
    )
    assert status == 0
    document = json.loads(out)
    assert [text["label_text"] for text in document["texts"]] == ["bad", "bad", "good", "good"]
    assert [method["method"] for method in document["comparison"]["methods"]] == [
        "random",
        "nearest",
        "teaching",
        "full",
    ]
    assert document["comparison"]["test_rows"] == 40
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest == document["manifest"]
    page = (tmp_path / "out" / "report.html").read_text()
    plain = " ".join(re.sub(r"<[^>]+>", " ", page).split())
    assert all(text["text"] in plain for text in document["texts"])
    assert 'id="map"' in page
    assert manifest["configuration"]["budget"] == {"per_class": 2, "allocation": "equal"}
    assert manifest["data"]["rows"] == 80


def test_the_same_seed_gives_the_same_bytes(dallme, reviews: Path, tmp_path: Path) -> None:
    for name, seed in (("one", 3), ("two", 3), ("three", 4)):
        assert (
            dallme("distill", reviews, "--output", tmp_path / name, "--per-class", 3, "--seed", seed, *QUICK)[
                0
            ]
            == 0
        )
    content = {name: (tmp_path / name / "train.parquet").read_bytes() for name in ("one", "two", "three")}
    assert content["one"] == content["two"]
    assert content["one"] != content["three"]
    assert (tmp_path / "one" / "README.md").read_bytes() == (tmp_path / "two" / "README.md").read_bytes()


def test_a_second_run_embeds_nothing(
    dallme, reviews: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dallme.embedders.hashing import HashingEmbedder

    assert (
        dallme("distill", reviews, "--output", tmp_path / "one", "--per-class", 3, "--no-report", *QUICK)[0]
        == 0
    )
    assert not (tmp_path / "one" / "report.html").exists()
    embedded: list[str] = []
    original = HashingEmbedder._embed

    def counting(self: HashingEmbedder, texts: list[str], prompt: str | None) -> np.ndarray:
        embedded.extend(texts)
        return original(self, texts, prompt)

    monkeypatch.setattr(HashingEmbedder, "_embed", counting)
    run = ("distill", reviews, "--output", tmp_path / "two", "--total", 2, "--decoder", "nearest", *QUICK)
    assert dallme(*run)[0] == 0
    assert (
        embedded == []
    )  # neither the source nor the distilled texts, whose cosine to the prototype is in the lineage


def test_evaluate_prints_what_the_documentation_says(
    dallme, reviews: Path, held_out: Path, tmp_path: Path
) -> None:
    dallme("distill", reviews, "--output", tmp_path / "out", "--per-class", 4, *QUICK)
    status, out, _ = dallme(
        "evaluate", tmp_path / "out", "--test", held_out, "--full", reviews, "--runs", 2, "--json"
    )
    assert status == 0
    results = json.loads(out)["results"]
    assert [result["classifier"] for result in results] == [
        "logistic-regression",
        "linear-svm",
        "naive-bayes",
    ]
    for result in results:
        assert {
            "accuracy_mean",
            "accuracy_std",
            "macro_f1_mean",
            "runs",
            "full_accuracy",
            "recovered",
        } <= set(result)
        assert result["runs"] == 1  # another run of a linear classifier would give the same
        assert result["full_accuracy"] == 1.0
        assert result["recovered"] == result["accuracy_mean"] > 0.7


def test_evaluate_takes_any_source_and_aliases(dallme, reviews: Path, held_out: Path) -> None:
    status, out, _ = dallme(
        "evaluate", reviews, "--test", held_out, "--classifiers", "elr,nb", "--json", *QUICK
    )
    assert status == 0
    results = json.loads(out)["results"]
    assert [result["classifier"] for result in results] == ["embedding-lr", "naive-bayes"]
    assert results[1]["accuracy_mean"] == 1.0
    assert results[1]["full_accuracy"] is None
    assert results[1]["recovered"] is None


def test_compare_gives_gain_over_random(dallme, reviews: Path, held_out: Path) -> None:
    status, out, _ = dallme(
        "compare", reviews, "--test", held_out, "--per-class", 2, "--classifiers", "lr", "--json", *QUICK
    )
    assert status == 0
    rows = {row["method"]: row["results"][0] for row in json.loads(out)["methods"]}
    assert rows["random"]["runs"] == 10
    assert rows["random"]["gain_over_random"] == 0
    assert rows["full"]["recovered"] == 1
    teaching = rows["teaching"]
    assert teaching["gain_over_random"] == pytest.approx(
        teaching["accuracy_mean"] - rows["random"]["accuracy_mean"]
    )


def test_compare_prints_a_table(dallme, reviews: Path, held_out: Path) -> None:
    status, out, _ = dallme(
        "compare", reviews, "--test", held_out, "--ratio", 0.05, "--methods", "random,nearest", *QUICK
    )
    assert status == 0
    lines = out.splitlines()
    assert lines[2].split()[:2] == ["method", "texts"]
    assert [line.split()[0] for line in lines[3:]] == ["random", "nearest"]


def test_compare_takes_ready_sets(dallme, reviews: Path, held_out: Path, tmp_path: Path) -> None:
    folder = tmp_path / "theirs"
    folder.mkdir()
    for number, (good, bad) in enumerate(
        [("good", "bad"), ("bad", "good")]
    ):  # the second has its labels crossed
        rows = [(sentence(GOOD, row), good) for row in range(8)] + [
            (sentence(BAD, row), bad) for row in range(8)
        ]
        write_csv(folder / f"{number}.csv", rows, ("review", "mood"))
    (folder / "README.md").write_text("no set")
    assert dallme("distill", reviews, "--output", tmp_path / "ours", "--per-class", 2, *QUICK)[0] == 0
    run = (
        "compare",
        reviews,
        "--test",
        held_out,
        "--per-class",
        2,
        "--methods",
        "full",
        "--classifiers",
        "nb",
        *QUICK,
    )
    columns = ("--candidate-text-column", "review", "--candidate-label-column", "mood")
    status, out, _ = dallme(*run, "--candidate", folder, "--candidate", folder / "0.csv", *columns, "--json")
    assert status == 0
    rows = json.loads(out)["methods"]
    assert [(row["method"], row["texts"], row["draws"]) for row in rows] == [
        ("full", 80, 1),
        (str(folder), 16, 2),
        (str(folder / "0.csv"), 16, 1),
    ]
    assert [row["results"][0]["accuracy_mean"] for row in rows] == [1, 0.5, 1]
    status, out, _ = dallme(*run, "--candidate", tmp_path / "ours", "--json")
    assert status == 0
    assert [(row["texts"], row["draws"]) for row in json.loads(out)["methods"]] == [(80, 1), (4, 1)]


def test_what_is_wrong_with_a_candidate_is_said(
    dallme, reviews: Path, held_out: Path, tmp_path: Path
) -> None:
    run = ("compare", reviews, "--test", held_out, "--per-class", 2, *QUICK)
    fails(dallme(*run, "--candidate", tmp_path / "none.csv"), "none.csv")
    fails(
        dallme(*run, "--candidate-text-column", "review"),
        "expected --candidate with the columns of candidates, found none",
    )
    other = write_csv(tmp_path / "other.csv", [("A fine film.", "fine"), ("A bad film.", "bad")])
    fails(dallme(*run, "--candidate", other), "other.csv", "fine")
    (tmp_path / "empty").mkdir()
    fails(dallme(*run, "--candidate", tmp_path / "empty"), "expected a folder with data files")


def test_list(dallme) -> None:
    status, out, _ = dallme("list", "condensers", "--json")
    assert status == 0
    names = [part["name"] for part in json.loads(out)["parts"]]
    assert names == ["k-centroid", "gaussian-mixture", "medoid", "random"]
    assert "extractive" in dallme("list")[1]


def test_help_shows_an_example(dallme) -> None:
    for verb in ("distill", "evaluate", "embed", "probe", "compare", "list", "demo"):
        status, out, _ = dallme(verb, "--help")
        assert status == 0
        assert f"Example: dallme {verb}" in " ".join(out.split())


def fails(result: tuple[int, str, str], *parts: str) -> None:
    """Checks that a run ended in one clear line and status 2, with nothing on standard output."""
    status, out, err = result
    assert (status, out) == (2, "")
    lines = [line for line in err.splitlines() if not line.startswith("note:")]
    assert len(lines) == 1, err
    assert lines[0].startswith("error: ")
    for part in parts:
        assert part in lines[0]


BAD_FILES: dict[str, tuple[bytes, tuple[str, ...]]] = {
    "empty file": (b"", ("empty",)),
    "head only": (b"text,label\n", ("expected rows", "found none")),
    "no such columns": (b"words,kind\na b,x\nc d,y\n", ("words", "kind", "--text-column")),
    "mis-encoded": (b"text,label\ncaf\xc3\xa9,x\ncaf\xe9 noir,y\n", ("UTF-8", "3", "--encoding")),
    "binary": (bytes(99), ("NUL", "binary")),
    "ragged": (b"text,label\na fine day,x\na bad day,y,z\n", ("3",)),
    "blank text": (b"text,label\na fine day,x\n   ,y\n", ("line 3", "blank", "--drop-bad-rows")),
    "missing label": (b"text,label\na fine day,x\na bad day,\n", ("line 3", "--drop-bad-rows")),
    "one class": (b"text,label\na fine day,x\na bad day,x\n", ("class",)),
    "a class with one row": (b"text,label\na fine day,x\na bad day,y\na dull day,x\n", ("'y'", "1")),
    "repeated rows": (b"text,label\n" + b"a fine day,x\n" * 5 + b"a bad day,y\n" * 5, ("different texts",)),
    "nul": (b"text,label\na fine day,x\na b\0d day,y\n", ("NUL",)),
    "huge text": (b"text,label\na fine day,x\n" + b"a" * MAX_CHARACTERS + b",y\n", (f"{MAX_CHARACTERS:,}",)),
    "scores": (b"text,label\na fine day,0.37\na bad day,0.91\n", ("classes",)),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_file(dallme, tmp_path: Path, name: str) -> None:
    content, parts = BAD_FILES[name]
    source = tmp_path / "source.csv"
    source.write_bytes(content)
    fails(dallme("distill", source, "--output", tmp_path / "out", "--per-class", 2, *QUICK), *parts)
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "store") == ["source.csv"]


def test_unreadable_parquet(dallme, tmp_path: Path) -> None:
    (tmp_path / "source.parquet").write_bytes(b"PAR1 but not really")
    fails(
        dallme(
            "distill", tmp_path / "source.parquet", "--output", tmp_path / "out", "--per-class", 2, *QUICK
        ),
        "source.parquet",
    )


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ((), ("exactly one of --per-class, --ratio and --total",)),
        (("--per-class", 2, "--ratio", 0.1), ("exactly one",)),
        (("--ratio", 0), ("(0, 1]",)),
        (("--ratio", 1.5), ("(0, 1]", "1.5")),
        (("--per-class", 0), ("at least 1",)),
        (("--per-class", 41), ("41", "40", "'bad'")),
        (("--total", 81), ("80", "81")),
        (
            ("--per-class", 2, "--decoder", "vec2txt"),
            ("unknown decoder 'vec2txt'", "extractive, teaching, nearest"),
        ),
        (("--per-class", 2, "--condenser", "kmeans"), ("unknown condenser 'kmeans'", "k-centroid")),
        (("--per-class", 2, "--classifiers", "bert"), ("unknown classifier 'bert'", "naive-bayes")),
        (("--per-class", 2, "--allocation", "fair"), ("unknown allocation 'fair'", "sqrt")),
        (("--per-class", 2, "--text-column", "body"), ("body", "text", "label")),
        (("--per-class", 2, "--max-tokens", 0), ("--max-tokens",)),
        (("--per-class", 2, "--seed", -1), ("seed",)),
        (("--per-class", "two"), ("--per-class",)),
        (("--per-class", 2, "--colour", "red"), ("--colour",)),
        (("--per-class", 2, "--test", "missing.csv"), ("missing.csv",)),
    ],
)
def test_bad_option(
    dallme, reviews: Path, tmp_path: Path, arguments: tuple[object, ...], parts: tuple[str, ...]
) -> None:
    fails(dallme("distill", reviews, "--output", tmp_path / "out", *QUICK, *arguments), *parts)
    assert not (tmp_path / "out").exists()


def test_unknown_embedder_offline(
    dallme, reviews: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    result = dallme(
        "distill", reviews, "--output", tmp_path / "out", "--per-class", 2, "--embedder", "some/model"
    )
    fails(result, "'some/model'", "hashing")


def test_unknown_verb_and_role(dallme) -> None:
    fails(dallme("destill"), "destill", "distill, plan, embed", "compare, curve", "doctor, list")
    fails(dallme("list", "decoder"), "unknown role 'decoder'", "decoders")


def test_missing_source_names_close_matches(dallme, reviews: Path, tmp_path: Path) -> None:
    fails(
        dallme("distill", tmp_path / "review.csv", "--output", tmp_path / "out", "--per-class", 2, *QUICK),
        "reviews.csv",
    )


def test_nothing_is_overwritten_unless_asked(dallme, reviews: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    output.mkdir()
    (output / "thesis.txt").write_text("mine")
    run = ("distill", reviews, "--output", output, "--per-class", 2, *QUICK)
    fails(dallme(*run), "thesis.txt", "--overwrite")
    assert dallme(*run, "--overwrite")[0] == 0
    assert (output / "thesis.txt").read_text() == "mine"
    assert (output / "train.parquet").is_file()
    fails(dallme("distill", reviews, "--output", reviews, "--per-class", 2, *QUICK), "file")


def test_vectors_with_nan_are_refused(tmp_path: Path) -> None:
    from dallme import DallmeError, Distiller

    texts, labels = ["a b c d", "e f g h"], [0, 1]
    with pytest.raises(DallmeError, match="expected vectors with 2 rows, one per text, found 3"):
        Distiller(per_class=1).distill(texts, labels, vectors=np.ones((3, 4)))
    with pytest.raises(DallmeError, match="found NaN or infinity in 1 rows, the first is row 1"):
        Distiller(per_class=1).distill(texts, labels, vectors=[[1, 2], [np.nan, 0]])


def test_duplicates_and_overlap_are_said(dallme, reviews: Path, tmp_path: Path) -> None:
    lines = reviews.read_text().splitlines()
    doubled = tmp_path / "doubled.csv"
    doubled.write_text("\n".join([*lines, lines[1]]) + "\n")
    status, _, err = dallme(
        "compare", doubled, "--test", reviews, "--per-class", 2, "--methods", "random", *QUICK
    )
    assert status == 0
    assert "1 row" in err
    assert "80 of 80 test rows have a text that is in the source as well" in err


def test_int_labels_keep_their_ids(dallme, tmp_path: Path) -> None:
    texts = [sentence(GOOD, row) for row in range(10)] + [sentence(BAD, row) for row in range(10)]
    pq.write_table(pa.table({"text": texts, "label": [3] * 10 + [-1] * 10}), tmp_path / "source.parquet")
    assert (
        dallme(
            "distill", tmp_path / "source.parquet", "--output", tmp_path / "out", "--per-class", 2, *QUICK
        )[0]
        == 0
    )
    assert pq.read_table(tmp_path / "out" / "train.parquet")["label"].to_pylist() == [-1, -1, 3, 3]


def test_a_real_process_ends_in_status_2(reviews: Path, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-c",
        "from dallme.cli.main import run; run()",
        "distill",
        str(tmp_path / "none.csv"),
    ]
    done = subprocess.run(
        [*command, "--output", str(tmp_path / "out"), "--per-class", "2"],
        capture_output=True,
        text=True,
        env=os.environ,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr


def test_full_disk(dallme, reviews: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno

    from dallme.files import folders

    def full(path: Path, content: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(folders, "write_new", full)
    status, out, err = dallme("distill", reviews, "--output", tmp_path / "out", "--per-class", 2, *QUICK)
    assert (status, out) == (2, "")
    assert "the disk is full; nothing was written; make room or choose another folder" in err.splitlines()[-1]
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".out*"))


def test_embed_fills_the_store_and_writes_vectors(
    dallme, reviews: Path, tmp_path: Path, own_store: Path
) -> None:
    status, out, _ = dallme("embed", reviews, "--json", *QUICK)
    assert status == 0
    document = json.loads(out)
    assert (document["rows"], document["dimension"], document["embedder"]) == (80, 256, "hashing")
    assert Path(document["store"]).parent == own_store
    assert list(Path(document["store"]).glob("*.arrow"))
    for name in ("vectors.npy", "vectors.parquet"):
        assert dallme("embed", reviews, "--output", tmp_path / name, *QUICK)[0] == 0
    matrix = np.load(tmp_path / "vectors.npy", allow_pickle=False)
    table = pq.read_table(tmp_path / "vectors.parquet")
    assert table.column_names == ["row_id", "text", "label", "label_text", "vector"]
    assert np.array_equal(np.stack(table["vector"].to_numpy()), matrix)
    assert table["label_text"][0].as_py() == "good"
    fails(dallme("embed", reviews, "--output", tmp_path / "vectors.npy", *QUICK), "--overwrite")
    fails(dallme("embed", reviews, "--output", tmp_path / "vectors.txt", *QUICK), ".parquet or .npy")


def test_explain_shows_the_exact_string(dallme, reviews: Path, own_store: Path) -> None:
    status, out, _ = dallme("embed", reviews, "--explain", "--prompt", "topic", "--json", *QUICK)
    assert status == 0
    document = json.loads(out)
    first = document["examples"][0]["string"]
    assert first == f"Identify the topic of the given text: {sentence(GOOD, 0)}"
    assert document["share_cut"] == 0
    assert document["token_limit"] is None
    assert not own_store.exists()
    assert first in " ".join(dallme("embed", reviews, "--explain", "--prompt", "topic", *QUICK)[1].split())


def test_probe_compares_embedders(dallme, reviews: Path, held_out: Path) -> None:
    status, out, _ = dallme("probe", reviews, "--test", held_out, "--embedder", "hashing", "--json")
    assert status == 0
    (result,) = json.loads(out)["results"]
    assert (result["embedder"], result["dimension"], result["accuracy"]) == ("hashing", 256, 1.0)
    fails(dallme("probe", reviews, "--test", held_out, "--embedder", ","), "names separated by commas")


def test_texts_without_labels_can_be_embedded_and_planned(dallme, tmp_path: Path) -> None:
    source = tmp_path / "texts.jsonl"
    source.write_text("\n".join(json.dumps({"text": f"text {row}", "year": row}) for row in range(5)) + "\n")
    status, out, _ = dallme("embed", source, "--output", tmp_path / "vectors.parquet", "--json", *QUICK)
    assert (status, json.loads(out)["rows"]) == (0, 5)
    assert pq.read_table(tmp_path / "vectors.parquet").column_names == ["row_id", "text", "vector"]
    assert dallme("plan", source, *QUICK)[0] == 0
    fails(
        dallme("distill", source, "--output", tmp_path / "out", "--per-class", 1, *QUICK),
        "label",
        "'text', 'year'",
    )
    source.write_text('{"text": "good"}\n{"text": " "}\n')
    fails(dallme("embed", source, *QUICK), "line 2 has a blank text", "--drop-bad-rows")
    assert json.loads(dallme("embed", source, "--drop-bad-rows", "--json", *QUICK)[1])["rows"] == 1


def test_texts_of_one_class_can_be_embedded(dallme, tmp_path: Path) -> None:
    source = write_csv(tmp_path / "one.csv", [("a fine day", "good"), ("a good day", "good")])
    assert json.loads(dallme("embed", source, "--json", *QUICK)[1])["rows"] == 2
    fails(
        dallme("distill", source, "--output", tmp_path / "out", "--per-class", 1, *QUICK),
        "expected at least two classes, found only 'good'",
    )


def test_a_note_is_printed_once(capsys: pytest.CaptureFixture[str]) -> None:
    from dallme.cli.output import print_notes

    print_notes(["one", "two", "one"])
    assert capsys.readouterr().err == "note: one\nnote: two\n"
