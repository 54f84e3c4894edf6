"""A manifest is somebody's input: what it names is opened, fetched or paid only if the user names it too."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from dallme.auditing.inputs import gather, restore_embedder
from dallme.data import LabelledTexts
from dallme.dataset import DistilledDataset
from dallme.distiller import Distiller
from dallme.embedders import resolve
from dallme.embedders.hashing import HashingEmbedder
from dallme.embedders.static import StaticEmbedder
from dallme.errors import InputError
from dallme.readers import read
from hostile import CODE, make_static_model, set_type
from openai_server import OpenAIServer

KEY = "sk-a-key-of-the-user"


@pytest.fixture
def rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LabelledTexts:
    """A source in the working directory, with a set of it in `few` and a store."""
    lines = [
        f"A {word} film number {row}.,{label}"
        for row in range(8)
        for word, label in (("fine", "g"), ("dull", "b"))
    ]
    (tmp_path / "rows.csv").write_text("\n".join(["text,label", *lines]) + "\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DALLME_STORE", str(tmp_path / "store"))
    source = read("rows.csv")
    Distiller(per_class=1, embedder="hashing", decoder="nearest").run(source).distilled.save("few")
    return source


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenAIServer]:
    """A paid service, with the user's key in the environment."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with OpenAIServer(HashingEmbedder()) as running:
        monkeypatch.setenv("OPENAI_BASE_URL", running.url)
        yield running


@pytest.fixture(autouse=True)
def downloads(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Counts the models that are fetched; `cached` are those that are here already."""
    hub: dict[str, Any] = {"fetched": [], "cached": {}}

    def snapshot_download(name: str, **options: Any) -> str:
        if name in hub["cached"]:
            return str(hub["cached"][name])
        if not options.get("local_files_only"):
            hub["fetched"].append(name)
        raise LocalEntryNotFoundError("offline")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    return hub


def _rename(embedder: Any, fingerprint: Any = None) -> DistilledDataset:
    """The set in `few` with another embedder in its manifest."""
    manifest = json.loads(Path("few/manifest.json").read_text())
    manifest["configuration"]["embedder"] = embedder
    if fingerprint is not None:
        manifest["embedder"] = fingerprint
    Path("few/manifest.json").write_text(json.dumps(manifest))
    return DistilledDataset.load("few")


def _command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object
) -> tuple[int, str]:
    """Status and errors of a command."""
    from dallme.cli.main import _status

    monkeypatch.setattr("sys.argv", ["dallme", *map(str, arguments)])
    status = _status()
    return status, capsys.readouterr().err


VERBS = {
    "report": ("report", "few", "--source", "rows.csv"),
    "audit": ("audit", "few", "--source", "rows.csv"),
    "review": ("review", "few", "--source", "rows.csv", "--no-browser", "--port", "0"),
    "export": (
        "export",
        "few",
        "--format",
        "atlas",
        "--source",
        "rows.csv",
        "--output",
        "out.jsonl",
        "--overwrite",
    ),
}


@pytest.mark.parametrize("verb", VERBS)
def test_a_service_is_not_paid_because_a_manifest_names_it(
    verb: str,
    rows: LabelledTexts,
    server: OpenAIServer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    _rename("openai:hashing")
    status, err = _command(monkeypatch, capsys, *VERBS[verb])
    assert status == 2
    assert "repeat it with --embedder openai:hashing to use it\n" in err
    assert server.requests == 0
    assert not server.keys


def test_a_service_is_used_when_the_user_repeats_it(
    rows: LabelledTexts,
    server: OpenAIServer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    Distiller(per_class=1, embedder="openai:hashing", decoder="nearest").run(rows).distilled.save(
        "few", overwrite=True
    )
    before = server.requests
    assert _command(monkeypatch, capsys, *VERBS["report"])[0] == 2
    assert server.requests == before
    status, err = _command(monkeypatch, capsys, *VERBS["report"], "--embedder", "openai:hashing")
    assert status == 0, err
    assert server.requests > before


@pytest.mark.parametrize("verb", VERBS)
def test_a_folder_in_a_manifest_is_not_opened(
    verb: str,
    rows: LabelledTexts,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    mark, folder = tmp_path / "ran", make_static_model(tmp_path / "few" / "model")
    (folder / "modeling_evil.py").write_text(CODE.format(mark=str(mark)))
    set_type(folder, 1, "modeling_evil.Evil")
    monkeypatch.setattr("dallme.models.language.check_sentence_transformer", _never)
    _rename(str(folder))
    status, err = _command(monkeypatch, capsys, *VERBS[verb])
    assert status == 2
    assert (
        f"found {str(folder)!r} in the manifest of the set: a path is never opened; repeat it with "
        f"--embedder {folder} " in err
    )
    assert not mark.exists()


def _never(*_: object) -> None:
    pytest.fail("a folder was opened")


@pytest.mark.parametrize("part", ["", "st:", "sentence-transformer:", "model2vec:", "glove:"])
@pytest.mark.parametrize(
    "path",
    [
        "few/model",
        "./few/model",
        "../x",
        "~",
        "/etc/passwd",
        "model",
        "\\\\host\\share",
        "a\0b",
        "",
        ".",
        "file.txt",
    ],
)
def test_no_form_of_a_path_is_opened(part: str, path: str, rows: LabelledTexts) -> None:
    Path("model").mkdir()
    Path("few/model").mkdir()
    Path("file.txt").write_text("a 1\n")
    with pytest.raises(InputError, match="a path is never opened|not on this machine"):
        gather(_rename(part + path), rows, store="store")


def test_a_folder_of_the_name_of_a_shipped_model_is_not_opened(rows: LabelledTexts) -> None:
    Path("all-MiniLM-L6-v2").mkdir()
    with pytest.raises(
        InputError, match="found 'all-MiniLM-L6-v2' in the manifest of the set: a path is never opened"
    ):
        gather(_rename("all-MiniLM-L6-v2"), rows, store="store")


@pytest.mark.parametrize(
    "name", ["org/model", "model2vec:org/model", "model2vec", "glove:6B.300d", "glove:org/model", "bge"]
)
def test_nothing_is_fetched_because_a_manifest_names_it(
    name: str, rows: LabelledTexts, downloads: dict[str, Any]
) -> None:
    with pytest.raises(
        InputError, match="not on this machine, and nothing is fetched for it; repeat it with --embedder"
    ):
        gather(_rename(name), rows, store="store")
    assert downloads["fetched"] == []


def test_a_model_of_the_cache_is_used_where_the_store_has_its_vectors(
    rows: LabelledTexts, downloads: dict[str, Any], static_folder: Path
) -> None:
    downloads["cached"]["org/model"] = static_folder
    made = Distiller(per_class=1, embedder="model2vec:org/model", decoder="nearest").run(rows).distilled
    with pytest.raises(
        InputError, match="your store has no vectors of it; repeat it with --embedder model2vec:org/model"
    ):
        gather(made, rows, store="store")
    with pytest.raises(InputError, match="your store has no vectors of it"):
        gather(made, rows)
    Distiller(per_class=1, embedder="model2vec:org/model", decoder="nearest", store="store").run(rows)
    assert gather(made, rows, store="store").own is not None
    assert gather(made, rows, embedder="model2vec:org/model").own is not None


def test_vectors_of_one_model_open_no_other(
    rows: LabelledTexts, downloads: dict[str, Any], static_folder: Path
) -> None:
    downloads["cached"] = {"org/model": static_folder, "org/other": static_folder}
    made = (
        Distiller(per_class=1, embedder="model2vec:org/model", decoder="nearest", store="store")
        .run(rows)
        .distilled
    )
    configuration = made.manifest["configuration"] | {"embedder": "model2vec:org/other"}
    with pytest.raises(
        InputError,
        match="found 'model2vec:org/other' in the manifest of the set: your store has no vectors of it",
    ):
        gather(replace(made, manifest=made.manifest | {"configuration": configuration}), rows, store="store")


@pytest.mark.parametrize("name", [["openai"], {"a": 1}, 3, True, "a\x1b[31mb", "--help", "x; rm -rf ~"])
def test_a_name_is_shown_and_never_run(name: Any, rows: LabelledTexts) -> None:
    with pytest.raises(InputError) as caught:
        gather(_rename(name), rows, store="store")
    assert "\x1b" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "--embedder x; rm" not in str(caught.value)


@pytest.mark.parametrize(
    "fingerprint", [3, "hashing", ["a"], {"model": "hashing"}, {"model": "a", "weights": "b", "evil": 1}]
)
def test_a_broken_fingerprint_is_said_in_one_line(fingerprint: Any, rows: LabelledTexts) -> None:
    with pytest.raises(
        InputError, match=r"^expected the fingerprint of an embedder in the manifest, found [^\n]+$"
    ):
        gather(_rename("hashing", fingerprint), rows, store="store")


@pytest.mark.parametrize(
    "name", ["hashing", "glove", "glove:6B.50d", "all-MiniLM-L6-v2", "sentence-transformers/all-MiniLM-L6-v2"]
)
def test_what_ships_needs_no_repeating(name: str) -> None:
    found = restore_embedder({"configuration": {"embedder": name}})
    assert found is not None
    assert found.name == resolve(name).name


def test_a_manifests_other_values_open_nothing(
    rows: LabelledTexts,
    server: OpenAIServer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    manifest = json.loads(Path("few/manifest.json").read_text())
    secret = Path("secret.txt")
    secret.write_text("a secret")
    traps = dict.fromkeys(
        ("base_url", "store", "test", "output", "language_model", "perplexity"), str(secret.resolve())
    )
    manifest["configuration"] |= traps | {
        "decoder": f"vec2text:{secret.resolve()}",
        "condenser": "openai",
        "base_url": server.url,
    }
    Path("few/manifest.json").write_text(json.dumps(manifest))
    opened: list[str] = []
    _watch(monkeypatch, opened)
    for arguments in (VERBS["report"], VERBS["audit"], VERBS["export"]):
        status, err = _command(monkeypatch, capsys, *arguments)
        assert status == 0, err
    assert not [path for path in opened if path.endswith(secret.name)]
    assert server.requests == 0


def _watch(monkeypatch: pytest.MonkeyPatch, opened: list[str]) -> None:
    """Notes the files that Python opens."""
    import builtins
    import io

    real: Callable[..., Any] = io.open

    def noting(file: Any, *arguments: Any, **options: Any) -> Any:
        if isinstance(file, str | os.PathLike):
            opened.append(os.fspath(file))
        return real(file, *arguments, **options)

    monkeypatch.setattr(builtins, "open", noting)
    monkeypatch.setattr(io, "open", noting)


def test_an_embedder_of_the_user_is_used_as_it_is(rows: LabelledTexts, static_folder: Path) -> None:
    own = gather(
        _rename("openai:hashing"), rows, embedder=StaticEmbedder(str(static_folder), unknown="zero")
    ).own
    assert own is not None
    assert own.shape == (2, 12)
