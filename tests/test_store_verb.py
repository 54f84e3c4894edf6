"""``dallme store``: what is kept, for which models, and the removal of what nobody uses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from dallme.cli.main import app
from dallme.data import Fingerprint
from dallme.embedders.base import Embedder
from dallme.embedders.cache import EmbeddingStore, embed_with_store, text_keys, upkeep
from dallme.embedders.hashing import HashingEmbedder
from dallme.errors import DallmeError
from store_cases import FINGERPRINT, all_keys, filled, reopened, shards, vectors_of

OTHER = Fingerprint("owner/other-model", weights="2", dimension=4, prompt="topic: ", max_tokens=64)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store with 60 vectors of one model and 20 of another, unused for 40 days."""
    filled(tmp_path)
    keys = all_keys([0])
    table = EmbeddingStore(tmp_path).table(OTHER)
    table.append(keys, vectors_of(keys))
    then = time.time() - 40 * 86_400
    for path in table.folder.iterdir():
        os.utime(path, (then, then))
    return tmp_path


def run(*arguments: Any) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["store", *map(str, arguments)])
    return done.exit_code, done.output + (
        str(done.exception) if isinstance(done.exception, DallmeError) else ""
    )


def document(*arguments: Any) -> dict[str, Any]:
    status, output = run(*arguments, "--json")
    assert status == 0, output
    parsed: dict[str, Any] = json.loads(output)
    return parsed


def test_list_names_models_vectors_bytes_and_last_use(store: Path) -> None:
    (store / "answers").mkdir()
    (store / "answers" / "a.json").write_bytes(b"x" * 1000)
    listed = document("list", "--store", store)
    assert [table["fingerprint"]["model"] for table in listed["tables"]] == ["fake", "owner/other-model"]
    assert [(table["vectors"], table["shards"]) for table in listed["tables"]] == [(60, 3), (20, 1)]
    assert listed["others"] == {"answers": 1000}
    on_disk = sum(path.stat().st_size for path in store.rglob("*") if path.is_file())
    assert listed["bytes"] == on_disk - (store / "format.json").stat().st_size
    assert listed["tables"][0]["last_used"].startswith(time.strftime("%Y-%m-%dT", time.gmtime()))
    status, output = run("--store", store)
    assert status == 0
    assert "owner/other-model" in output
    assert "float32, tokens 64, prompt topic:" in output
    assert run("list", "--store", store / "none")[0] == 0


def test_a_use_is_recorded(store: Path) -> None:
    embed_with_store(HashingEmbedder(), ["a text"], store=EmbeddingStore(store))
    folder = store / HashingEmbedder().fingerprint().digest
    for path in folder.iterdir():
        os.utime(path, (1000, 1000))
    embed_with_store(HashingEmbedder(), ["a text"], store=EmbeddingStore(store))  # reads alone
    (info,) = [info for info in upkeep.list_tables(store) if info.folder == folder]
    assert info.age_days < 0.1


def test_verify_finds_damage_and_the_texts_are_embedded_again(store: Path) -> None:
    assert document("verify", "--store", store)["damaged"] == 0
    path = shards(store / FINGERPRINT.digest)[0]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    status, output = run("verify", "--store", store, "--json")
    assert status == 1
    assert json.loads(output)["damaged"] == 1
    assert not path.exists()
    assert path.with_suffix(".damaged").exists()
    assert len(reopened(store)) == 40
    assert run("verify", "--store", store)[0] == 0


def test_compact_joins_files_and_loses_no_vector(store: Path) -> None:
    path = shards(store / FINGERPRINT.digest)[0]
    (path.with_name("old.damaged")).write_bytes(b"x")
    done = document("compact", "--store", store)
    (own,) = [pair for pair in done["tables"] if pair["before"]["fingerprint"]["model"] == "fake"]
    assert (own["before"]["shards"], own["after"]["shards"]) == (3, 1)
    keys = all_keys([0, 1, 2])
    assert np.array_equal(reopened(store).read(keys), vectors_of(keys))
    assert not list(store.rglob("*.damaged"))


def test_remove_takes_the_chosen_tables_alone(store: Path) -> None:
    status, output = run("remove", "--embedder", "other-model", "--store", store)
    assert status != 0
    assert "expected --yes to remove 20 vectors of 1 tables" in output
    assert not document("remove", "--embedder", "fake", "--older-than", "30d", "--yes", "--store", store)[
        "tables"
    ]
    done = document("remove", "--older-than", "30d", "--yes", "--store", store)
    assert [(table["fingerprint"]["model"], table["removed"]) for table in done["tables"]] == [
        ("owner/other-model", True)
    ]
    assert len(reopened(store)) == 60
    assert {path.name for path in store.iterdir()} == {FINGERPRINT.digest, "format.json"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("remove",), "expected --embedder or --older-than"),
        (("remove", "--embedder", "x"), "unknown model of the store 'x'; known: fake, owner/other-model"),
        (("remove", "--older-than", "30"), "expected --older-than as 30d, 12h or 4w, found '30'"),
        (("list", "--yes"), "expected --embedder, --older-than and --yes with remove, found one with 'list'"),
        (("shrink",), "unknown task 'shrink'; known: list, verify, compact, remove"),
    ],
)
def test_errors_are_one_line(store: Path, arguments: tuple[str, ...], message: str) -> None:
    status, output = run(*arguments, "--store", store)
    assert status != 0
    assert message in output


def test_a_table_that_a_process_uses_is_kept(store: Path) -> None:
    held = EmbeddingStore(store).table(FINGERPRINT, hold=True)
    code = "import sys; from dallme.cli.main import run; sys.argv[0] = 'dallme'; run()"
    command = ["store", "remove", "--embedder", "fake", "--yes", "--store", str(store)]
    done = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "kept, as a process uses it" in done.stdout
    assert len(held.read(all_keys([0, 1, 2]))) == 60
    del held
    assert upkeep.remove_table(upkeep.list_tables(store)[0])
    assert len(reopened(store)) == 0


def test_a_table_that_is_being_filled_is_kept(tmp_path: Path) -> None:
    kept: list[bool] = []

    class Removing(HashingEmbedder):
        """Tries to remove the table after its first batch is stored."""

        chunk = 1

        def _embed(self, texts: list[str], prompt: str | None) -> Any:
            kept.extend(upkeep.remove_table(info) for info in upkeep.list_tables(tmp_path))
            return super()._embed(texts, prompt)

    texts = ["one text", "another text", "a third text"]
    embedder: Embedder = Removing()
    embed_with_store(embedder, texts, store=EmbeddingStore(tmp_path))
    assert kept == [False, False]
    assert EmbeddingStore(tmp_path).table(embedder.fingerprint()).lookup(text_keys(texts)).all()
    assert not list(tmp_path.rglob("*.tmp"))


def test_marks_of_killed_processes_do_not_count(store: Path) -> None:
    folder = store / FINGERPRINT.digest
    (folder / "in-use.0123abcd.tmp").write_bytes(b"")
    info = next(info for info in upkeep.list_tables(store) if info.folder == folder)
    assert upkeep.remove_table(info)
    assert not folder.exists()


def test_an_interrupted_removal_is_ended_later(store: Path) -> None:
    folder = store / FINGERPRINT.digest
    folder.rename(store / f"{FINGERPRINT.digest}.0123abcd.removed")
    assert [info.fingerprint.model for info in upkeep.list_tables(store)] == ["owner/other-model"]
    assert {path.name for path in store.iterdir()} == {OTHER.digest, "format.json"}
