"""Data of the demo; skipped where the archive is neither cached nor can be fetched."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import dallme
from dallme.cli import demo as demo_data
from dallme.errors import DallmeError, InputError, OutputError


@pytest.fixture(scope="module")
def sentences():
    try:
        demo_data._fetch()
    except DallmeError as error:
        pytest.skip(f"no demo data: {error}")
    return demo_data.load_movie_sentences()


def test_sentences_are_split_and_labelled_by_sign(sentences) -> None:
    train, test = sentences
    assert len(train) + len(test) == 10_605 - 39
    assert len(test) == round(0.2 * (10_605 - 39))
    assert not set(train.texts) & set(test.texts)
    known = dict(zip(train.texts, train.labels.tolist(), strict=True)) | dict(
        zip(test.texts, test.labels.tolist(), strict=True)
    )
    assert known["Effective but too tepid biopic"] == 0  # rated -0.6
    assert (
        known["If you sometimes like to go to the movies to have fun, Wasabi is a good place to start."] == 1
    )


def test_the_examples_are_files_that_distill_reads(
    sentences, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    demo_data.write_examples(*sentences, overwrite=False)
    for name, texts in zip(demo_data.EXAMPLES, sentences, strict=True):
        found = dallme.read(name)
        assert list(found.texts) == list(texts.texts)
        assert found.labels.tolist() == texts.labels.tolist()
    with pytest.raises(OutputError, match=r"found reviews.csv already; give --overwrite"):
        demo_data.write_examples(*sentences, overwrite=False)
    (tmp_path / "reviews.csv").write_text("mine")
    demo_data.write_examples(*sentences, overwrite=True)
    assert dallme.read("reviews.csv").class_counts == sentences[0].class_counts


def test_another_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other.tar.gz").write_bytes(b"something else")
    with pytest.raises(InputError, match="expected vaderSentiment-3.3.2.tar.gz with SHA-256 5d7c06e0"):
        demo_data.load_movie_sentences(tmp_path / "other.tar.gz")
    with pytest.raises(InputError, match="could not read it: No such file"):
        demo_data.load_movie_sentences(tmp_path / "none.tar.gz")


def test_a_failing_fetch_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platformdirs.user_cache_path", lambda name: tmp_path)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(
        DallmeError, match="fetch vaderSentiment-3.3.2.tar.gz by hand and give it with --archive"
    ):
        demo_data.load_movie_sentences()
    assert not list((tmp_path / "demo").iterdir())


@pytest.mark.slow
def test_demo_command(
    sentences, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from dallme.cli.main import _status

    monkeypatch.setattr("dallme.report.map.FIT_ROWS", 500)  # the map places the other rows
    command = [
        "dallme",
        "demo",
        "--output",
        str(tmp_path / "out"),
        "--embedder",
        "hashing",
        "--store",
        str(tmp_path / "s"),
        "--json",
    ]
    monkeypatch.setattr("sys.argv", command)
    assert _status() == 0
    document = json.loads(capsys.readouterr().out)
    assert len(document["texts"]) == 20
    rows = {row["method"]: row["results"] for row in document["comparison"]["methods"]}
    for random, extractive, teaching in zip(
        *(rows[name][:3] for name in ("random", "extractive", "teaching")), strict=True
    ):
        assert teaching["accuracy_mean"] > extractive["accuracy_mean"] > random["accuracy_mean"] + 0.08
    assert (tmp_path / "out" / "report.html").is_file()
    assert (tmp_path / "out" / "train.parquet").is_file()
