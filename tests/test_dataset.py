"""The distilled dataset: lineage, conversions, files, card and manifest."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import pytest
from huggingface_hub import DatasetCard
from markdown_it import MarkdownIt

from dallme.data import DecodedText, Fingerprint, LabelledTexts, Prototypes
from dallme.dataset import DistilledDataset, Lineage, trace
from dallme.dataset.card import render
from dallme.dataset.manifest import PACKAGES, Clock, build_manifest
from dallme.distiller import Distiller
from dallme.errors import InputError, OutputError
from dallme.files import folders

FILES = {"train.parquet", "README.md", "manifest.json"}
HOSTILE = "<script>alert(1)</script> | a `code` **bold** [link](http://x) &lt;b&gt; $x$ ~~no~~ \\ # 很好"

MANIFEST = {
    "data": {"source": "reviews.csv", "rows": 25000, "notes": []},
    "configuration": {"embedder": "all-MiniLM-L6-v2", "prompt": None, "seed": 0},
}

COMPARISON = {
    "methods": [
        {
            "method": "full",
            "texts": 25000,
            "results": [
                {"classifier": "lr", "accuracy_mean": 0.88, "accuracy_std": 0.0, "runs": 1, "recovered": 1.0},
                {"classifier": "nb", "accuracy_mean": 0.83, "accuracy_std": 0.0, "runs": 1, "recovered": 1.0},
            ],
        },
        {
            "method": "random",
            "texts": 20,
            "results": [
                {
                    "classifier": "lr",
                    "accuracy_mean": 0.6149,
                    "accuracy_std": 0.0312,
                    "runs": 10,
                    "recovered": 0.7,
                },
                {"classifier": "nb", "accuracy_mean": 0.6, "accuracy_std": 0.0, "runs": 1, "recovered": None},
            ],
        },
    ],
}


def _distilled(ids: tuple[Any, ...] = (10, 11, 12, 13), **changes: Any) -> DistilledDataset:
    a, b, c, d = ids
    lineage = (
        Lineage("extractive", (a, b), (a,), ("A fine film.", "See it."), (a, b), 0.75),
        Lineage("extractive", (c,), (c,), ("Dull.",), (c,), None),
        Lineage("llm", (d,), (), (), (), 0.5),
    )
    dataset = DistilledDataset(
        texts=("A fine film. See it.", "Dull.", "Good, très bien."),
        labels=np.array([1, 0, 1]),
        label_names={0: "negative", 1: "positive"},
        weights=np.array([2.0, 1.0, 1.5]),
        lineage=lineage,
        manifest=MANIFEST,
    )
    return replace(dataset, **changes)


@pytest.fixture
def distilled() -> DistilledDataset:
    return _distilled()


# Lineage


def test_trace_names_the_source_rows_and_the_cosine() -> None:
    prototypes = Prototypes(
        vectors=np.array([[3, 0], [0, 2], [0, 0]], dtype=np.float32),
        labels=np.array([0, 1, 1]),
        weights=np.ones(3),
        members=(np.array([3, 0, 1, 4]), np.array([2]), np.array([5])),
        spread=np.zeros(3),
    )
    decoded = [
        DecodedText("One. Two.", ("One.", "Two."), (0, 3)),
        DecodedText("Three.", ("Three.",), (2,)),
        DecodedText("Four."),
    ]
    ids = np.array(["a", "b", "c", "d", "e", "f"], dtype=object)
    own = np.array([[0.6, 0.8], [0, 1], [1, 0]], dtype=np.float32)
    first, second, third = trace(prototypes, decoded, ids, own, "extractive")
    assert first == Lineage(
        "extractive", ("d", "a", "b", "e"), ("d", "a", "b"), ("One.", "Two."), ("a", "d"), pytest.approx(0.6)
    )
    assert second == Lineage("extractive", ("c",), ("c",), ("Three.",), ("c",), 1.0)
    assert third == Lineage(
        "extractive", ("f",), ("f",), (), (), 0.0
    )  # a prototype of zeros has no direction
    assert [row.cosine for row in trace(prototypes, decoded, np.arange(6), None, "x")] == [None] * 3
    assert trace(prototypes, decoded, np.arange(6), None, "x")[0].member_rows == (3, 0, 1, 4)


# What it can be turned into


def test_columns_of_one_length() -> None:
    with pytest.raises(InputError, match=r"expected columns of one length, found lengths \[2, 3\]"):
        _distilled(texts=("a", "b"))


def test_texts_for_classifiers(distilled: DistilledDataset) -> None:
    texts = distilled.to_labelled_texts()
    assert texts.texts == list(distilled.texts)
    assert texts.labels.tolist() == [1, 0, 1]
    assert texts.label_names == distilled.label_names
    assert len(distilled) == len(texts) == 3


def test_a_pandas_frame(distilled: DistilledDataset) -> None:
    frame = distilled.to_pandas()
    assert list(frame.columns) == [
        "text", "label", "label_text", "weight", "cosine", "label_agrees", "copied_span", "copied_rows",
        "decoder", "sentences", "sentence_rows", "nearest_rows", "member_rows",
    ]  # fmt: skip
    assert frame.label_text.tolist() == ["positive", "negative", "positive"]
    assert frame.weight.tolist() == [2.0, 1.0, 1.5]
    assert frame.member_rows[0].tolist() == [10, 11]
    assert pd.isna(frame.cosine[1])


def test_a_dataset_with_class_names(distilled: DistilledDataset) -> None:
    dataset = distilled.to_dataset()
    assert dataset.features["label"] == datasets.ClassLabel(names=["negative", "positive"])
    assert dataset.features["sentence_rows"] == datasets.List(datasets.Value("int64"))
    assert dataset[0]["text"] == "A fine film. See it."


def test_class_ids_that_do_not_count_from_zero_stay_numbers() -> None:
    dataset = _distilled(labels=np.array([7, -1, 7]), label_names={-1: "b", 7: "a"}).to_dataset()
    assert dataset.features["label"] == datasets.Value("int64")
    assert dataset["label"][:] == [7, -1, 7]


def test_a_comparison_is_added_to_the_manifest_of_a_copy(distilled: DistilledDataset) -> None:
    assert distilled.with_comparison(COMPARISON).manifest == MANIFEST | {"comparison": COMPARISON}
    assert "comparison" not in distilled.manifest


# On disk


def _same(one: DistilledDataset, other: DistilledDataset) -> None:
    assert one.texts == other.texts
    assert one.labels.dtype == np.int64
    assert one.labels.tolist() == other.labels.tolist()
    assert one.weights.dtype == np.float64
    assert one.weights.tolist() == other.weights.tolist()
    assert one.label_names == other.label_names
    assert list(one.label_names) == list(other.label_names)
    assert one.lineage == other.lineage
    assert one.manifest == other.manifest


@pytest.mark.parametrize("ids", [(10, 11, 12, 13), ("r1", "r2", "07", "é")])
def test_what_is_saved_is_loaded(tmp_path: Path, ids: tuple[Any, ...]) -> None:
    distilled = _distilled(ids)
    assert distilled.save(tmp_path / "new" / "out") == tmp_path / "new" / "out"
    assert {path.name for path in (tmp_path / "new" / "out").iterdir()} == FILES | {folders.RECORD}
    _same(DistilledDataset.load(str(tmp_path / "new" / "out")), distilled)


@pytest.mark.parametrize(
    "names",
    [{0: "negative", 1: "positive", 2: "mixed"}, {-4: "unused", 0: "negative", 1: "positive", 9: "x"}],
)
def test_classes_without_a_text_are_loaded_as_well(tmp_path: Path, names: dict[int, str]) -> None:
    distilled = _distilled(label_names=names)
    _same(DistilledDataset.load(distilled.save(tmp_path / "out")), distilled)


def test_the_same_dataset_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        _distilled().save(tmp_path / name)
    DistilledDataset.load(tmp_path / "a").save(tmp_path / "c")
    for file in FILES:
        assert len({(tmp_path / name / file).read_bytes() for name in "abc"}) == 1


def test_the_folder_is_a_dataset_of_the_datasets_library(tmp_path: Path, distilled: DistilledDataset) -> None:
    distilled.save(tmp_path / "out")
    read = datasets.load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))
    assert list(read) == ["train"]  # and manifest.json is not taken for data
    assert read["train"].features == distilled.to_dataset().features
    assert read["train"].to_list() == distilled.to_dataset().to_list()
    assert read["train"].features["label"].names == ["negative", "positive"]


def test_a_source_whose_name_is_no_valid_unicode(tmp_path: Path) -> None:
    distilled = _distilled(manifest={"data": {"source": os.fsdecode(b"caf\xe9.csv")}})
    found = DistilledDataset.load(distilled.save(tmp_path / "out"))
    assert found.manifest == distilled.manifest
    (tmp_path / "out" / "README.md").read_text(encoding="utf-8")


def test_a_folder_that_is_no_distilled_dataset_is_an_error(
    tmp_path: Path, distilled: DistilledDataset
) -> None:
    with pytest.raises(InputError) as caught:
        DistilledDataset.load(tmp_path)
    assert str(caught.value) == (
        "expected a folder with train.parquet and manifest.json, as dallme writes them, found none at "
        f"{str(tmp_path)!r}"
    )
    distilled.save(tmp_path / "out")
    for file, content in {"manifest.json": "{", "train.parquet": "no table"}.items():
        (tmp_path / "out" / file).write_text(content)
        with pytest.raises(
            InputError, match="expected a distilled dataset in .*, found files that cannot be read: "
        ):
            DistilledDataset.load(tmp_path / "out")
        (tmp_path / "out" / file).unlink()  # it is not ours any more
        distilled.save(tmp_path / "out", overwrite=True)
    pd.DataFrame({"text": ["a"], "label": [0]}).to_parquet(tmp_path / "out" / "train.parquet")
    with pytest.raises(InputError, match="found files that cannot be read: "):
        DistilledDataset.load(tmp_path / "out")


# The card


def _card(distilled: DistilledDataset, tmp_path: Path) -> DatasetCard:
    (tmp_path / "README.md").write_text(render(distilled), encoding="utf-8")
    return DatasetCard.load(tmp_path / "README.md")


def test_the_card_tells_the_hub_what_it_is(distilled: DistilledDataset, tmp_path: Path) -> None:
    card = _card(distilled, tmp_path)
    assert card.data.to_dict() == {
        "pretty_name": "Distilled reviews.csv",
        "task_categories": ["text-classification"],
        "size_categories": ["n<1K"],
        "tags": ["dataset-distillation", "dallme"],
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": "train.parquet"}]}],
    }
    assert (
        "25,000 rows → **3 texts**, for training a text classifier with the classes negative, positive."
        in card.text
    )
    assert "- **positive**: A fine film. See it.\n- **negative**: Dull.\n" in card.text
    assert "| embedder | all-MiniLM-L6-v2 |" in card.text
    assert "prompt" not in card.text
    assert "## Accuracy" not in card.text


@pytest.mark.parametrize(
    ("count", "size"), [(999, "n<1K"), (1000, "1K<n<10K"), (10_000, "10K<n<100K"), (100_000, "100K<n<1M")]
)
def test_the_card_tells_the_size(tmp_path: Path, count: int, size: str) -> None:
    row = Lineage("x")
    many = DistilledDataset(
        ("a",) * count, np.zeros(count, dtype=np.int64), {0: "a"}, np.ones(count), (row,) * count
    )
    assert _card(many, tmp_path).data.size_categories == [size]


def test_the_card_holds_the_comparison_table(distilled: DistilledDataset, tmp_path: Path) -> None:
    assert _card(distilled.with_comparison(COMPARISON), tmp_path).text.count(
        "| method | texts | lr | nb |\n"
        "| --- | --- | --- | --- |\n"
        "| full | 25,000 | 0.880 | 0.830 |\n"
        "| random | 20 | 0.615 ± 0.031 (70%) | 0.600 |\n"
    ) == 1  # fmt: skip


def _inline(markdown: str) -> Iterator[Any]:
    """The pieces of a rendered text, as a reader that knows tables and HTML sees them."""
    for block in MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).parse(markdown):
        assert block.type != "html_block"
        yield from block.children or ()


def test_whatever_a_text_holds_stays_text() -> None:
    hostile = _distilled(
        texts=(HOSTILE, "line\nbreak\n\n## no heading", "x"),
        label_names={0: "<b>neg</b>\n# x", 1: "a*b*|c"},
        manifest={"data": {"source": "<img src=x>\n# y", "rows": 9}, "configuration": {"prompt": "a|b\n<i>"}},
    )
    markdown = render(hostile).split("---\n", 2)[2]
    pieces = list(_inline(markdown))
    assert not [piece.content for piece in pieces if piece.type in ("html_inline", "link_open", "s_open")]
    shown = "".join(piece.content for piece in pieces if piece.type in ("text", "text_special", "softbreak"))
    assert HOSTILE in shown
    for text in ("<img src=x> # y", "<b>neg</b> # x", "a*b*|c", "line break ## no heading", "a|b <i>"):
        assert text in shown
    assert re.findall(r"^#+ .*", markdown, re.MULTILINE)[0].startswith("# Distilled ")
    assert "\\$x\\$" in markdown  # the Hub would read it as a formula


def test_the_metadata_of_a_hostile_name_is_yaml(tmp_path: Path) -> None:
    name = "a: 'b'\n---\n- \"c\" # 很好 " + "long " * 40
    card = _card(_distilled(manifest={"data": {"source": name}}), tmp_path)
    assert card.data.pretty_name == f"Distilled {name}"


def test_a_dataset_without_manifest_has_a_card_as_well(tmp_path: Path) -> None:
    card = _card(_distilled(manifest={}), tmp_path)
    assert card.data.pretty_name == "Distilled dataset"
    assert "a larger dataset → **3 texts**" in card.text


# The folder

CONTENT = {"README.md": b"new a", "train.parquet": b"new b"}


def _entries(path: Path) -> dict[str, bytes]:
    return {
        str(entry.relative_to(path)): entry.read_bytes()
        for entry in path.rglob("*")
        if entry.is_file() and entry.name != folders.RECORD
    }


def test_a_missing_or_empty_folder_is_filled(tmp_path: Path) -> None:
    folders.write(tmp_path / "deep" / "missing", CONTENT, overwrite=False)
    (tmp_path / "empty").mkdir()
    folders.write(tmp_path / "empty", CONTENT, overwrite=False)
    assert _entries(tmp_path / "deep") == {f"missing/{name}": content for name, content in CONTENT.items()}
    assert _entries(tmp_path / "empty") == CONTENT
    expected = tmp_path / "reference"
    expected.mkdir()
    assert (tmp_path / "deep" / "missing").stat().st_mode == expected.stat().st_mode


def test_the_working_directory_and_links_are_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    folders.write(tmp_path / "link", CONTENT, overwrite=False)
    assert _entries(tmp_path / "real") == CONTENT
    assert (tmp_path / "link").is_symlink()
    (tmp_path / "loose").symlink_to("later")
    folders.write(tmp_path / "loose", CONTENT, overwrite=False)
    assert _entries(tmp_path / "later") == CONTENT
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert folders.write(Path("."), CONTENT, overwrite=False) == Path(".")
    assert _entries(tmp_path / "here") == CONTENT


def test_a_folder_that_holds_something_is_refused(tmp_path: Path) -> None:
    for name in "dbca":
        (tmp_path / name).write_bytes(b"old")
    for call in (folders.check, lambda path, overwrite: folders.write(path, CONTENT, overwrite=overwrite)):
        with pytest.raises(OutputError) as caught:
            call(tmp_path, overwrite=False)
        assert str(caught.value) == (
            f"expected an empty or missing folder, found {str(tmp_path)!r} with a, b, c …; choose "
            "another, or --overwrite"
        )
    assert set(_entries(tmp_path)) == set("abcd")


def test_overwriting_removes_what_tells_of_the_old_set(tmp_path: Path) -> None:
    folders.write(tmp_path, {"report.html": b"old", "audit.json": b"old"}, overwrite=True)
    (tmp_path / "mine.txt").write_bytes(b"old")
    _distilled().save(tmp_path, overwrite=True, beside={"audit.json": b"new"})
    held = _entries(tmp_path)
    assert set(held) == {"README.md", "audit.json", "manifest.json", "mine.txt", "train.parquet"}
    assert (held["audit.json"], held["mine.txt"]) == (b"new", b"old")


def test_overwriting_keeps_foreign_files(tmp_path: Path) -> None:
    folders.write(tmp_path, {"README.md": b"old a"}, overwrite=True)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "mine").write_bytes(b"mine")
    folders.check(tmp_path, overwrite=True)
    folders.write(tmp_path, CONTENT, overwrite=True)
    assert _entries(tmp_path) == CONTENT | {"sub/mine": b"mine"}


def test_a_file_in_the_way_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"old")
    for path in (file, file / "below" / "out"):
        for overwrite in (False, True):
            with pytest.raises(OutputError) as caught:
                folders.check(path, overwrite=overwrite)
            assert (
                str(caught.value)
                == f"expected a folder to write to, found a file at {str(file)!r}; choose another --output"
            )
    assert file.read_bytes() == b"old"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_write_permission_is_an_error(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    with pytest.raises(
        OutputError,
        match="expected a folder that can be written to, found .*closed' without write permission",
    ):
        folders.check(closed / "out", overwrite=False)
    closed.chmod(0o700)


def test_write_permission_is_asked_for_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(folders.os, "access", lambda path, mode: bool(asked.append(path)))
    with pytest.raises(OutputError) as caught:
        folders.check(tmp_path / "not" / "there", overwrite=False)
    assert (
        str(caught.value)
        == f"expected a folder that can be written to, found {str(tmp_path)!r} without write permission"
    )
    assert asked == [tmp_path]


@pytest.mark.parametrize("before", [None, {}, {"README.md": b"old a", "mine": b"mine"}])
@pytest.mark.parametrize("fails_at", [1, 2])
def test_a_full_disk_leaves_everything_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: dict[str, bytes] | None, fails_at: int
) -> None:
    out = tmp_path / "out"
    if before is not None:
        out.mkdir()
        own = {name: content for name, content in before.items() if name in folders.SET_FILES}
        folders.write(out, own, overwrite=True)
        for name in before.keys() - own.keys():
            (out / name).write_bytes(before[name])
    written: list[Path] = []
    write = folders.write_new

    def full(path: Path, content: bytes) -> None:
        written.append(path)
        if len(written) == fails_at:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, content)

    monkeypatch.setattr(folders, "write_new", full)
    with pytest.raises(OutputError) as caught:
        folders.write(out, CONTENT, overwrite=True)
    assert str(caught.value) == (
        f"expected to write 2 files to {str(out)!r}, could not: the disk is full; nothing was written; "
        "make room or choose another folder"
    )
    assert out.exists() == (before is not None)
    assert _entries(tmp_path) == {f"out/{name}": content for name, content in (before or {}).items()}
    assert [path for path in tmp_path.rglob("*") if path.is_dir()] == ([] if before is None else [out])


def test_of_two_writers_at_once_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, write = tmp_path / "out", folders.write_new
    refusals: list[OutputError] = []

    def second() -> None:
        try:
            folders.write(out, {"README.md": b"second", "train.parquet": b"second"}, overwrite=False)
        except OutputError as error:
            refusals.append(error)

    other = threading.Thread(target=second)

    def interrupted(path: Path, content: bytes) -> None:
        """While the first writer works, a second one wants to write the same folder."""
        if not other.ident:
            other.start()
            other.join(timeout=0.2)
            assert other.is_alive()  # it waits
        write(path, content)

    monkeypatch.setattr(folders, "write_new", interrupted)
    folders.write(out, CONTENT, overwrite=False)
    other.join()
    assert "expected an empty or missing folder" in str(refusals[0])
    assert _entries(tmp_path) == {f"out/{name}": content for name, content in CONTENT.items()}


@pytest.mark.parametrize("steps", range(6))
def test_a_killed_overwrite_is_completed_by_the_next_writer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    """Readers see the new files and change nothing; the files that stood there are never mixed with them."""
    out = tmp_path / "out"
    folders.write(out, {"README.md": b"old a", "audit.json": b"old"}, overwrite=False)
    (out / "mine").write_bytes(b"mine")
    moved: list[str] = []

    def killed(*paths: Path) -> None:
        if len(moved) == steps:
            raise KeyboardInterrupt
        moved.append(str(paths[0]))
        replace(*paths)

    replace = os.replace
    with monkeypatch.context() as patched:
        patched.setattr(folders.os, "replace", killed)
        with contextlib.suppress(KeyboardInterrupt):
            folders.write(out, CONTENT, overwrite=True, outdated=["audit.json"])
    before = _entries(tmp_path)
    assert folders.read_files(out, ["README.md", "train.parquet", "audit.json", "mine"]) == CONTENT | {
        "mine": b"mine"
    }
    assert _entries(tmp_path) == before
    folders.finish(out)
    assert _entries(tmp_path) == {"out/mine": b"mine"} | {
        f"out/{name}": content for name, content in CONTENT.items()
    }


def test_an_interrupted_overwriting_is_done_before_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    folders.write(out, {"README.md": b"old a"}, overwrite=False)
    pressed: list[Path] = []

    def interrupted(*paths: Path) -> None:
        if not pressed:
            pressed.append(paths[0])
            raise KeyboardInterrupt
        replace(*paths)

    replace = os.replace
    monkeypatch.setattr(folders.os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        folders.write(out, CONTENT, overwrite=True)
    assert _entries(tmp_path) == {f"out/{name}": content for name, content in CONTENT.items()}


def test_a_flipped_bit_of_the_table_is_noticed(tmp_path: Path) -> None:
    texts = tuple(f"text {number}" for number in range(50))
    rows = tuple(Lineage("nearest") for _ in texts)
    place = DistilledDataset(texts, np.zeros(50, np.int64), {0: "a"}, np.ones(50), rows).save(
        tmp_path / "out"
    )
    whole = (place / "train.parquet").read_bytes()
    position = 200  # among the texts
    (place / "train.parquet").write_bytes(
        whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :]
    )
    with pytest.raises(InputError, match="found files that cannot be read"):
        DistilledDataset.load(place)


def test_what_a_killed_writer_left_does_not_count_and_goes(tmp_path: Path) -> None:
    out = tmp_path / "out"
    for left in (out / ".out.x1.partial", tmp_path / ".out.x2.partial"):
        left.mkdir(parents=True)
        (left / "README.md").write_bytes(b"half")
    folders.check(out, overwrite=False)
    folders.write(out, CONTENT, overwrite=False)
    assert _entries(tmp_path) == {f"out/{name}": content for name, content in CONTENT.items()}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


# The manifest


def test_the_manifest_holds_what_made_the_set() -> None:
    texts = LabelledTexts(
        ["a", "b", "c"], np.array([1, 0, 1]), {0: "x", 1: "y", 2: "z"}, np.arange(3), "file.csv", ("a note",)
    )
    clock = Clock()
    with clock.lap("embed"):
        pass
    with pytest.raises(RuntimeError), clock.lap("decode"):
        raise RuntimeError
    assert list(clock.seconds) == ["embed"]
    manifest = build_manifest({"seed": 3}, texts, Fingerprint("m", "w", 4), {"embed": 1.23456})
    assert json.loads(json.dumps(manifest.as_dict())) == manifest
    assert manifest["configuration"] == {"seed": 3}
    assert manifest["data"] == {
        "source": "file.csv", "sha256": texts.digest, "rows": 3, "classes": {"x": 1, "y": 2},
        "notes": ["a note"],
    }  # fmt: skip
    assert manifest["embedder"]["dimension"] == 4
    assert manifest["seconds"] == {"embed": 1.235}
    assert set(manifest["versions"]) == {"python", *PACKAGES}
    assert manifest["versions"]["numpy"] == np.__version__


# At a prompt and in a notebook


def test_a_set_is_a_sequence_of_its_texts() -> None:
    distilled = Distiller(per_class=1, embedder="hashing", progress=False).distill(
        ["a <b>fine</b> film", "jane.doe@example.org hates it"], ["good & fine", "bad"]
    )
    assert [text.label_text for text in distilled] == ["bad", "good & fine"]
    assert distilled[-1].text == distilled.texts[1]
    assert (distilled[0].label, distilled[0].weight, distilled[0].lineage) == (0, 1.0, distilled.lineage[0])
    with pytest.raises(IndexError):
        distilled[2]
    assert repr(distilled) == "<DistilledDataset: 2 texts of 2 rows, classes bad, good & fine>"
    html = distilled._repr_html_()
    assert "good &amp; fine" in html
    assert "jane.doe" not in html
    assert "j*** hates it" in html
    assert html.count("<tr>") == 3
