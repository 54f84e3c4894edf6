"""Reviews without a browser: what changes do to a set, versions on disk, and who may speak to the server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from dallme import review as server
from dallme.cli.main import _status
from dallme.dataset import CARD, MANIFEST, TABLE, DistilledDataset, Lineage
from dallme.errors import InputError, MissingDependencyError, OutputError
from dallme.files import folders
from dallme.review.changes import Change, ChangeError, apply, parse, state
from dallme.review.versions import ConflictError, Version, Versions, open_versions
from report_sets import small_set

TOKEN = "a-token-of-24-characters"
FIRST, SECOND, THIRD = "A dull film. It was slow.", "Bad, bad.", "Fine and warm."


def change(number: int, **what: Any) -> Change:
    """A change to a text of the small set as it was made."""
    seen = [state(FIRST, 5), state(SECOND, 5), state(THIRD, 9)][number]
    return Change(number, seen, **what)


ODD = "expected changes with id, seen and any of text, label, drop, accept, found another object"


@pytest.fixture
def few(tmp_path: Path) -> Path:
    return small_set(with_comparison=True)[0].save(tmp_path / "few")


@pytest.fixture
def versions(few: Path) -> Versions:
    return open_versions(few)


def save(versions: Versions, *changes: Change) -> Version:
    newest = versions.newest()
    return versions.save(newest.number, newest.digest, changes)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


# --- changes
# ---------------------------------------------------------------------------------------------------------


def test_changes_make_another_set_and_leave_the_first_as_it_is() -> None:
    before, _ = small_set(with_comparison=True)
    after, done = apply(
        before, [change(2, label=5, accept=True), change(0, text="New words."), change(1, drop=True)]
    )
    assert after.texts == ("New words.", THIRD)
    assert after.labels.tolist() == [5, 5]
    assert after.weights.tolist() == [2.0, 4.5]
    assert after.lineage == (Lineage("edited", (0, 1), (0, 1)), replace(before.lineage[2], label_agrees=None))
    assert after.manifest["review"] == {"ids": [0, 2], "accepted": [2]}
    assert "comparison" not in after.manifest
    assert done == [
        {"index": 0, "id": 0, "action": "edit", "before": FIRST, "after": "New words."},
        {"index": 1, "id": 1, "action": "drop", "before": {"text": SECOND, "label": "bad"}, "after": None},
        {"index": 2, "id": 2, "action": "relabel", "before": "good", "after": "bad"},
        {"index": 2, "id": 2, "action": "accept", "before": False, "after": True},
    ]
    assert before.texts == (FIRST, SECOND, THIRD)
    assert before.labels.tolist() == [5, 5, 9]
    assert "comparison" in before.manifest


def test_a_text_that_was_accepted_is_no_longer_when_it_changes() -> None:
    once, _ = apply(small_set()[0], [change(0, accept=True), change(1, accept=True), change(2, accept=True)])
    again, done = apply(
        once, [change(0, text="New."), change(1, accept=False), change(2, label=5, accept=True)]
    )
    assert again.manifest["review"]["accepted"] == [2]
    assert [(step["id"], step["action"]) for step in done] == [
        (0, "edit"),
        (1, "unaccept"),
        (2, "relabel"),
        (2, "accept"),
    ]


def test_relabelling_drops_the_probes_verdict() -> None:
    after, _ = apply(small_set()[0], [change(1, label=9)])
    assert small_set()[0].lineage[1].label_agrees is False
    assert after.lineage[1].label_agrees is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            [Change(7, "x", drop=True)],
            "expected the id of a text of this version, found 7; nothing was saved",
        ),
        ([change(1, text=" \n")], "text 1 has a blank text; nothing was saved"),
        (
            [change(1, text="a\0b")],
            "text 1 holds a NUL byte (is the file binary or UTF-16?); nothing was saved",
        ),
        (
            [change(1, text="\ud83d")],
            "text 1 holds a lone surrogate, which is not valid Unicode; nothing was saved",
        ),
        (
            [change(1, text="x" * 100_001)],
            "text 1 has 100,001 characters, the limit is 100,000; nothing was saved",
        ),
        ([change(1, label=7)], "text 1: unknown class 7; known: 5 (bad), 9 (good); nothing was saved"),
        (
            [change(1, drop=True, text="a")],
            "text 1: expected nothing else of a text that is dropped, found more",
        ),
        ([], "expected at least one change, found none; nothing was saved"),
        (
            [change(0, text=FIRST, label=5, accept=False)],
            "expected at least one change, found none; nothing was saved",
        ),
        (
            [change(row, drop=True) for row in range(3)],
            "expected at least one text to stay, found all of them dropped; nothing was",
        ),
    ],
)
def test_changes_that_cannot_be_made(changes: list[Change], message: str) -> None:
    with pytest.raises(ChangeError) as caught:
        apply(small_set()[0], changes)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({}, "expected a list of changes, found dict"),
        ([3], ODD),
        ([{"id": 1}], ODD),
        ([{"id": 1, "seen": "", "weight": 3}], ODD),
        ([{"id": True, "seen": ""}], "expected id as int, found bool"),
        ([{"id": 1, "seen": "", "label": "bad"}], "expected label as int, found str"),
        (
            [{"id": 1, "seen": ""}, {"id": 1, "seen": ""}],
            "expected one change per text, found 2 for text 1; nothing was saved",
        ),
    ],
)
def test_documents_that_are_no_changes(document: Any, message: str) -> None:
    with pytest.raises(ChangeError) as caught:
        parse(document)
    assert str(caught.value) == message


# --- versions
# --------------------------------------------------------------------------------------------------------


def test_a_save_writes_a_new_folder_and_nothing_else(few: Path, versions: Versions) -> None:
    before = files(few)
    saved = save(versions, change(0, text="New words."), change(1, drop=True), change(2, label=5))
    assert saved.folder == few / "versions" / "0002"
    assert files(few) == before
    assert sorted(files(saved.folder)) == [folders.RECORD, CARD, "changes.json", MANIFEST, TABLE]
    loaded = DistilledDataset.load(saved.folder)
    assert loaded.texts == ("New words.", THIRD)
    assert loaded.manifest == saved.distilled.manifest
    (entry,) = loaded.manifest["history"]
    full = json.loads((saved.folder / "changes.json").read_text())
    assert (entry["version"], entry["parent"], entry["texts"]) == (2, 1, 2)
    assert entry["parent_sha256"] == versions.original().digest
    assert entry["notes"] == full["notes"] == [
        "the table that compares the texts with other methods was left out: it was measured on version "
        "1; run dallme evaluate "
        "or compare for the new texts",
        "no text is left of the class 'good'",
    ]  # fmt: skip
    assert entry["changes"] == [
        {"index": 0, "id": 0, "action": "edit"},
        {"index": 1, "id": 1, "action": "drop"},
        {"index": 2, "id": 2, "action": "relabel", "before": "good", "after": "bad"},
    ]
    assert full["changes"][0] == {
        "index": 0,
        "id": 0,
        "action": "edit",
        "before": FIRST,
        "after": "New words.",
    }
    assert full["changes"][1]["before"] == {"text": SECOND, "label": "bad"}
    card = (saved.folder / CARD).read_text()
    assert "A person accepted 0 of these 2 texts." in card
    assert f"| 2 | {entry['when']} | 1 | 1 | 1 | 0 | 0 |" in card
    assert "## Accuracy" not in card


def test_what_was_taken_out_is_in_no_file_that_is_shared(versions: Versions) -> None:
    saved = save(versions, change(0, text="New words."), change(1, drop=True))
    for name, content in files(saved.folder).items():
        found = [old for old in (FIRST, SECOND) if old.encode() in content]
        assert found == ([FIRST, SECOND] if name == "changes.json" else []), name
    table = DistilledDataset.load(saved.folder).to_pandas().to_json()
    assert "It was slow." not in table


def test_versions_follow_each_other(versions: Versions) -> None:
    save(versions, change(1, drop=True))
    third = save(versions, change(2, text="Finer."))
    assert third.folder.name == "0003"
    assert [(entry["version"], entry["parent"]) for entry in third.history] == [(2, 1), (3, 2)]
    assert third.history[1]["changes"] == [{"index": 1, "id": 2, "action": "edit"}]  # it had moved up
    assert third.history[1]["notes"] == []
    assert open_versions(versions.base).newest().digest == third.digest


def test_marks_alone_keep_the_table_and_its_comparison(few: Path, versions: Versions) -> None:
    saved = save(versions, change(0, accept=True))
    assert files(saved.folder)[TABLE] == files(few)[TABLE]
    assert saved.distilled.manifest["comparison"] == small_set(with_comparison=True)[0].manifest["comparison"]
    assert "A person accepted 1 of these 3 texts." in (saved.folder / CARD).read_text()


def test_a_save_from_an_older_version_is_refused(versions: Versions) -> None:
    first = versions.newest()
    save(versions, change(0, text="New words."))
    with pytest.raises(
        ConflictError,
        match="expected changes to version 2, which is the newest, found changes to version 1: ",
    ):
        versions.save(first.number, first.digest, [change(1, drop=True)])
    second = versions.newest()
    with pytest.raises(
        ConflictError, match="found changes to version 2"
    ):  # of that number, but of other texts
        versions.save(2, first.digest, [change(1, drop=True)])
    with pytest.raises(
        ConflictError,
        match="expected a change to text 0 as it is in version 2, found a change to an earlier text",
    ):
        versions.save(2, second.digest, [change(0, text="Not on what was seen.")])
    assert versions.newest().digest == second.digest


def test_of_two_saves_at_once_one_is_refused(few: Path, versions: Versions) -> None:
    """As two programs would: each has versions of its own, and only the lock on disk between them."""
    first, started = versions.newest(), threading.Barrier(4)
    ended: list[str] = []

    def work(number: int) -> None:
        own = open_versions(few)
        started.wait()
        try:
            ended.append(own.save(first.number, first.digest, [change(0, text=f"Of {number}.")]).folder.name)
        except ConflictError:
            ended.append("refused")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(ended) == ["0002", "refused", "refused", "refused"]


_SAVES = """
import sys
from pathlib import Path
from dallme.review.changes import Change, state
from dallme.review.versions import open_versions

versions = open_versions(Path(sys.argv[1]))
for number in range(10_000):
    newest = versions.newest()
    text = newest.distilled.texts[0]
    versions.save(newest.number, newest.digest, [Change(0, state(text, 5), text=f"Words of {number}.")])
    print(number, flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signal")
def test_a_killed_program_leaves_whole_versions_only(few: Path, versions: Versions) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _SAVES, str(few)], stdout=subprocess.PIPE, text=True
    ) as program:
        assert program.stdout
        for _ in range(3):
            program.stdout.readline()
        time.sleep(0.01)
        program.send_signal(signal.SIGKILL)
    partial = few / "versions" / ".0099.left.partial"  # as one that was killed while it wrote
    partial.mkdir()
    (partial / TABLE).write_bytes(b"half")
    numbers = sorted(path.name for path in (few / "versions").iterdir() if not path.name.startswith("."))
    assert len(numbers) >= 3
    for name in numbers:
        loaded = DistilledDataset.load(few / "versions" / name)
        assert len(loaded.manifest["history"]) == int(name) - 1
        assert (few / "versions" / name / "changes.json").is_file()
    assert versions.newest().folder.name == numbers[-1]
    assert save(versions, change(1, drop=True)).number == int(numbers[-1]) + 1
    assert not partial.exists()


def test_versions_of_another_set_are_not_taken_for_its_own(few: Path, versions: Versions) -> None:
    save(versions, change(0, drop=True))
    distilled, _ = small_set()
    replace(distilled, texts=("Of", "other", "words.")).save(few, overwrite=True)
    with pytest.raises(
        InputError,
        match=r"found '.*0002', which was made of another; move the versions away, or choose another",
    ):
        open_versions(few)


def test_a_version_is_reviewed_by_way_of_its_set_or_elsewhere(
    few: Path, versions: Versions, tmp_path: Path
) -> None:
    save(versions, change(0, drop=True))
    second = save(versions, change(1, text="Worse."))
    with pytest.raises(
        InputError,
        match=r"expected the set itself, found '.*0003', one of its versions; review '.*few' to continue",
    ):
        open_versions(second.folder)
    elsewhere = open_versions(second.folder, tmp_path / "elsewhere")
    assert elsewhere.newest().number == 3
    fourth = save(elsewhere, change(2, drop=True))
    assert fourth.folder == tmp_path / "elsewhere" / "0004"
    assert fourth.distilled.texts == ("Worse.",)
    assert [entry["version"] for entry in fourth.history] == [2, 3, 4]
    assert versions.newest().number == 3


def test_a_read_only_folder_is_noticed_before_the_review(few: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="expected a folder to write to, found a file at '.*file'"):
        open_versions(few, tmp_path / "file")


def test_a_full_disk_leaves_no_version(versions: Versions, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, content: bytes) -> None:
        path.write_bytes(content[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("dallme.files.folders.write_new", full)
    with pytest.raises(OutputError, match="the disk is full; nothing was written"):
        save(versions, change(0, drop=True))
    assert [path.name for path in versions.place.iterdir()] == [".lock"]


@pytest.mark.parametrize("review", [{"ids": [0, 0, 1]}, {"ids": [1]}, {"accepted": [8]}])
def test_a_manifest_whose_review_does_not_fit_is_refused(few: Path, review: dict[str, Any]) -> None:
    manifest = json.loads((few / MANIFEST).read_text())
    (few / MANIFEST).write_text(json.dumps(manifest | {"review": review}))
    with pytest.raises(
        InputError, match="take 'review' and 'history' out of manifest.json to review the set again"
    ):
        open_versions(few)


# --- the command line
# ------------------------------------------------------------------------------------------------


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["dallme", "review", *arguments])
    return _status()


def test_a_port_that_is_taken_is_one_clear_line(
    few: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with server.listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        assert run(monkeypatch, str(few), "--no-browser", "--port", str(port)) == 2
    assert (
        capsys.readouterr().err
        == f"error: expected a free port, found {port} in use; end what uses it, or choose another --port\n"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--host", "0.0.0.0"], "error: expected a token for '0.0.0.0', which others can reach, found none; set DALLME_REVIEW_TOKEN"),
        (["--port", "70000"], "error: expected a port from 0 to 65535, found 70000"),
        (["--points", "0"], "error: expected --points to be a whole number of at least 1, found 0"),
        (["--host", "203.0.113.7", "--token-file", "token"], "error: expected to listen at '203.0.113.7', port 8710, could not: "),
        (["--token", TOKEN], "error: expected the token in DALLME_REVIEW_TOKEN or in a file named with --token-file, found it on the"),
        (["--token-file", "none"], "error: expected a token in 'none', could not read it: "),
        (["--source", "nowhere.csv", "--port", "0"], "error: "),
    ],
)  # fmt: skip
def test_options_that_make_no_sense(
    few: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.delenv("DALLME_REVIEW_TOKEN", raising=False)
    monkeypatch.chdir(few.parent)
    Path("token").write_text(f"{TOKEN}\n")
    assert run(monkeypatch, str(few), "--no-browser", *arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith(message)
    assert error.count("\n") == 1


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "find_spec", lambda name: None if name == "uvicorn" else name)
    with pytest.raises(
        MissingDependencyError,
        match=r"dallme review needs the package 'uvicorn', which is not installed; run: pip",
    ):
        server.check_packages()


def test_the_history_is_printed(
    few: Path, versions: Versions, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, str(few), "--history") == 0
    assert capsys.readouterr().out == f"version 1, 3 texts, in {few}\n"
    saved = save(versions, change(0, text="New."), change(1, drop=True), change(2, accept=True))
    assert run(monkeypatch, str(few), "--history") == 0
    head, _, row = capsys.readouterr().out.splitlines()
    assert head == f"version 2, 2 texts, in {saved.folder}"
    assert row.split() == ["2", "1", saved.history[0]["when"], "2", "1", "0", "1", "1", "0"]
    assert run(monkeypatch, str(few), "--history", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {
        "version": 2,
        "folder": str(saved.folder),
        "history": saved.history,
    }


def test_the_history_needs_no_permission_to_write(
    few: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("dallme.files.folders.os.access", lambda _, mode: not mode & os.W_OK)
    before = sorted(few.rglob("*"))
    assert run(monkeypatch, str(few), "--history") == 0
    assert capsys.readouterr().out == f"version 1, 3 texts, in {few}\n"
    assert sorted(few.rglob("*")) == before
    assert run(monkeypatch, str(few), "--no-browser", "--port", "0") == 2
    assert "without write permission" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signal")
def test_from_start_to_ctrl_c(tmp_path: Path, few: Path) -> None:
    rows = [f"dull film {row},bad" for row in range(4)] + [f"fine film {row},good" for row in range(4)]
    (tmp_path / "reviews.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    command = [
        sys.executable,
        "-c",
        "from dallme.cli.main import run; run()",
        "review",
        str(few),
        "--no-browser",
        "--port",
        "0",
    ]
    command += ["--json", "--source", str(tmp_path / "reviews.csv"), "--store", str(tmp_path / "store")]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ)
    ) as program:
        assert program.stdout
        assert program.stderr
        lines = iter(program.stdout.readline, "}\n")
        told = json.loads("".join(lines) + "}")
        page = httpx.get(told["address"], timeout=20).text
        assert (told["version"], told["texts"], told["versions"]) == (1, 3, str(few / "versions"))
        assert 'id="map"' in page
        program.send_signal(signal.SIGINT)
        rest, error = program.communicate(timeout=20)
    assert (program.returncode, rest) == (0, "")
    assert error == ""
