"""Guarantees of docs/security.md: no pickles, encrypted connections, no stored keys, open licences."""

from __future__ import annotations

import ast
import csv
import io
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, metadata, requires
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.requirements import Requirement

import dallme
from dallme.cli.demo import _read_archive
from dallme.dataset.hub import prepare
from dallme.embedders.glove import GloVeEmbedder
from dallme.embedders.openai import OpenAIEmbedder
from dallme.errors import DallmeError, InputError
from dallme.models.locate import locate
from dallme.readers import read
from dallme.report.exports import Material, find, unguard
from dallme.validation import is_private_line
from report_sets import small_set

SOURCE = Path(dallme.__file__).parent
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(SOURCE.rglob("*.py"))}
PROJECT = tomllib.loads((SOURCE.parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]

# Nothing is unpickled or run

#: Modules that unpickle, and functions that unpickle or run what they read.
FORBIDDEN_MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
FORBIDDEN_CALLS = {
    "eval", "exec", "__import__", "torch.load", "pandas.read_pickle", "pd.read_pickle", "yaml.load", "yaml.unsafe_load",
    "os.system",
    "extractall", "unpack_archive",
}  # fmt: skip


def dangers(tree: ast.AST) -> list[str]:
    """The calls of a module that could run the content of a file."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [name.name for name in node.names if name.name.split(".")[0] in FORBIDDEN_MODULES]
        elif isinstance(node, ast.ImportFrom):
            forbidden = (node.module or "").split(".")[0] in FORBIDDEN_MODULES
            found += (
                [node.module or ""]
                if forbidden and {name.name for name in node.names} != {"PicklingError"}
                else []
            )
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name in FORBIDDEN_CALLS or name.rpartition(".")[2] in ("extractall", "unpack_archive"):
                found.append(name)
            for keyword in node.keywords:
                said = ast.unparse(keyword.value)
                if (keyword.arg, said) in {
                    ("trust_remote_code", "True"),
                    ("allow_pickle", "True"),
                    ("shell", "True"),
                }:
                    found.append(f"{keyword.arg}={said}")
                if (keyword.arg, said) in {
                    ("use_safetensors", "False"),
                    ("weights_only", "False"),
                    ("verify", "False"),
                }:
                    found.append(f"{keyword.arg}={said}")
    return found


@pytest.mark.parametrize("path", TREES, ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_nothing_is_unpickled_or_run(path: Path) -> None:
    assert dangers(TREES[path]) == []


@pytest.mark.parametrize(
    "line",
    [
        "import pickle", "from joblib import load", "torch.load(f)", "eval(x)", "a.extractall(b)", "f(trust_remote_code=True)",
        "np.load(f, allow_pickle=True)", "run(x, shell=True)", "f(use_safetensors=False)", "get(x, verify=False)", "yaml.load(f)",
    ],
)  # fmt: skip
def test_what_would_run_is_noticed(line: str) -> None:
    assert dangers(ast.parse(line))


def test_models_load_from_safetensors_without_remote_code() -> None:
    """Each `from_pretrained` of weights says so; what loads a tokenizer or a configuration has no weights to unpickle."""
    seen = 0
    for path, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(".from_pretrained"):
                name = ast.unparse(node.func)
                if re.search(r"Tokenizer|Config|StaticModel|nn\.Embedding", name):
                    continue
                arguments = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
                assert arguments.get("use_safetensors") == "True", f"{path.name}:{node.lineno} {name}"
                seen += 1
    assert seen >= 2


# Archives


def test_an_archive_of_word_vectors_is_never_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
        archive.writestr("../../outside.txt", "film 0.1 0.2\ngood 0.3 0.4\n")
    assert GloVeEmbedder(str(tmp_path / "evil.zip")).embed(["good film"]).shape == (1, 2)
    names = {path.name for path in tmp_path.rglob("*")} | {path.name for path in tmp_path.parent.iterdir()}
    assert "outside.txt" not in names


def test_the_demos_archive_is_known_by_its_hash(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("../x"), io.BytesIO())
    with pytest.raises(InputError, match="with SHA-256 5d7c06e0.*, found "):
        _read_archive(tmp_path / "a.tar.gz")


# Nothing travels open


@pytest.mark.parametrize(
    ("address", "private"),
    [
        ("https://example.org/v1", True), ("http://127.0.0.1:8080/v1", True), ("http://[::1]:1", True),
        ("http://localhost", True),
        ("http://api.localhost:1", True), ("HTTPS://h", True), ("http://example.org", False), ("http://10.0.0.7:8080/v1", False),
        ("http://localhost.example.org", False), ("http://127.0.0.1.example.org", False), ("ftp://h", False), ("", False),
        ("http://[", False), ("http://127.0.0.1@example.org", False),
    ],
)  # fmt: skip
def test_private_lines(address: str, private: bool) -> None:
    assert is_private_line(address) is private


@pytest.mark.parametrize(
    "address", ["http://user:hf_secret@mirror.example:80/x", "http://mirror.example:80", "mirror.example:80"]
)
def test_the_hub_is_not_asked_in_the_open(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", address)
    calls = (
        lambda: locate("owner/no-such-model"),
        lambda: read("owner/no-such-data"),
        lambda: prepare(small_set()[0], "me/reviews"),
    )
    for call in calls:
        with pytest.raises(InputError) as caught:
            call()
        assert (
            "expected an address that begins with https:// in HF_ENDPOINT, found another for 'mirror.example:80'"
            in str(caught.value)
        )
        assert "secret" not in str(caught.value)


def test_a_key_is_not_sent_in_the_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-planted")
    embedder = OpenAIEmbedder(
        "m", base_url="http://gpu-server.invalid:8080/v1", dimensions=3, max_retries=0, insecure=True
    )
    with pytest.raises(InputError) as caught:
        embedder.embed(["a"])
    assert "where a key is sent along, found http:// for 'gpu-server.invalid'" in str(caught.value)
    assert "sk-planted" not in str(caught.value)
    assert embedder.notes == (f"{embedder.name}: texts went unencrypted to gpu-server.invalid:8080",)
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(
        DallmeError, match="expected embeddings from gpu-server.invalid:8080"
    ):  # without a key it is tried
        embedder.embed(["a"])


# No key is written

KEYS = {
    "OPENAI_API_KEY": "sk-planted-0123456789",
    "HF_TOKEN": "hf_planted9876543210",
    "DALLME_REVIEW_TOKEN": "review-planted-token",
}


@pytest.mark.slow
def test_no_key_is_in_any_file_or_output(tmp_path: Path) -> None:
    rows = [(f"a fine and warm film number {row}", "good") for row in range(12)]
    rows += [(f"a dull and slow film number {row}", "bad") for row in range(12)]
    with (tmp_path / "reviews.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *rows])
    environment = os.environ | KEYS | {
        "HOME": str(tmp_path / "home"), "XDG_CACHE_HOME": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1",
        "OPENAI_BASE_URL": "http://127.0.0.1:9/v1",
    }  # fmt: skip
    code = (
        "import logging, sys; logging.basicConfig(level=logging.DEBUG)\n"
        "from dallme.cli.main import _status\n"
        "for line in sys.argv[1:]:\n"
        "    sys.argv = ['dallme', *line.split()]\n"
        "    print(line, _status())\n"
    )
    commands = [
        "distill reviews.csv --per-class 2 --embedder hashing --output out --store store",
        "audit out --source reviews.csv --store store",
        "report out --source reviews.csv --overwrite --store store",
        "export out --format csv --output out.csv",
        "push out me/reviews --dry-run",
        "doctor",
        "distill owner/none --per-class 2 --embedder hashing --output none",
        "no-such-verb",
    ]
    command = [sys.executable, "-c", code, *commands]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, timeout=300, check=False
    )
    outputs = (done.stdout + done.stderr).decode(errors="replace")
    assert [line for line in outputs.splitlines() if line.startswith(("distill reviews", "audit out", "export out"))] == [
        f"{commands[0]} 0", f"{commands[1]} 0", f"{commands[3]} 0",
    ]  # fmt: skip
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    names = {path.name for path in files}
    assert names >= {"manifest.json", "report.html", "audit.json", "README.md", "train.parquet", "out.csv"}
    for key in KEYS.values():
        assert key not in outputs
        assert [path.name for path in files if key.encode() in path.read_bytes()] == []


# Spreadsheets


@settings(deadline=None)
@given(
    st.lists(
        st.one_of(st.text(max_size=6), st.text(st.sampled_from("'=+-@\t\r\n＝x "), max_size=6)),
        min_size=3,
        max_size=3,
    )
)
def test_a_table_runs_nothing_and_loses_nothing(texts: list[str]) -> None:
    texts = [text if text.strip() else "x" for text in (text.replace("\0", "") for text in texts)]
    made = replace(small_set()[0], texts=tuple(texts))
    rows = list(csv.reader(io.StringIO(find("csv").write(Material(made, "out")).decode(), newline="")))[1:]
    assert not any(re.match(r"[=+\-@\t\r\n＝＋－＠]", row[0]) for row in rows)
    assert [unguard(row[0]) for row in rows] == texts


# Licences

#: Licences that the Open Source Initiative or Creative Commons call free, as packages name them.
OPEN = re.compile(
    r"MIT|BSD|Apache|ISC|PSF|Python Software Foundation|MPL|Mozilla Public|HPND|Unlicense|CC0|PDDL|Zlib|BSL-1\.0|OSI Approved",
    re.IGNORECASE,
)
CLOSED = re.compile(
    r"AGPL|Affero|SSPL|Business Source|BUSL|Elastic|Commons Clause|Non-?Commercial|CC-BY-NC|Proprietary", re.I
)


def licence_of(package: str) -> str:
    """All that a package says of its licence, shortly."""
    known = metadata(package)
    classifiers = [line for line in known.get_all("Classifier") or [] if line.startswith("License")]
    return " | ".join(
        [known.get("License-Expression") or "", (known.get("License") or "")[:200], *classifiers]
    )


def installed() -> dict[str, str]:
    """Licences of all that dallme needs, alone or with any of a user's extras, as far as it is installed here."""
    extras = [
        group
        for name, group in PROJECT["optional-dependencies"].items()
        if name not in ("bench", "dev", "docs")
    ]
    waiting = [Requirement(line) for group in (PROJECT["dependencies"], *extras) for line in group]
    seen: set[tuple[str, str]] = set()
    found: dict[str, str] = {}
    while waiting:
        wanted = waiting.pop()
        for extra in {"", *wanted.extras} - {extra for name, extra in seen if name == wanted.name}:
            seen.add((wanted.name, extra))
            try:
                found[wanted.name] = licence_of(wanted.name)
            except PackageNotFoundError:
                continue
            needed = map(Requirement, requires(wanted.name) or ())
            waiting += [
                more for more in needed if more.marker is None or more.marker.evaluate({"extra": extra})
            ]
    return found


def test_every_licence_is_open() -> None:
    found = installed()
    assert {"torch", "transformers", "numpy", "presidio-analyzer", "starlette"} <= set(found)
    assert len(found) > 80
    assert {
        name: licence for name, licence in found.items() if CLOSED.search(licence) or not OPEN.search(licence)
    } == {}


@pytest.mark.parametrize(
    "licence", ["GNU Affero General Public License v3", "AGPL-3.0", "CC-BY-NC-4.0", "Proprietary", ""]
)
def test_a_closed_licence_is_noticed(licence: str) -> None:
    assert CLOSED.search(licence) or not OPEN.search(licence)


# Whom the review server answers (see also tests/test_review_server.py)


def test_no_answer_may_be_read_by_another_origin(tmp_path: Path) -> None:
    testclient: Any = pytest.importorskip("starlette.testclient")
    from dallme.review.app import Guard, Session, make_app
    from dallme.review.versions import open_versions

    session = Session(open_versions(small_set()[0].save(tmp_path / "few")))
    client = testclient.TestClient(
        make_app(session, Guard("127.0.0.1", 8710)), base_url="http://127.0.0.1:8710"
    )
    for method, path in (("GET", "/"), ("GET", "/version"), ("OPTIONS", "/save"), ("POST", "/save")):
        answer = client.request(
            method, path, headers={"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
        )
        assert not [name for name in answer.headers if name.startswith("access-control-")]
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
