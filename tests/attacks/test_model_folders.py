"""A model folder is somebody's input: nothing in it is run or unpickled, and it leads to no other place."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dallme.classifiers.generative import CausalClassifier, TextToTextClassifier
from dallme.classifiers.transformer import TransformerClassifier
from dallme.decoders.vec2text.backbones import PRESETS, make_base
from dallme.decoders.vec2text.checkpoint import load
from dallme.decoders.vec2text.inverter import SHIPPED
from dallme.embedders import resolve
from dallme.embedders.sentence_transformer import SentenceTransformerEmbedder
from dallme.errors import DallmeError, InputError
from dallme.models.checking import MODULES, check_sentence_transformer
from hostile import CODE, Payload, edit, make_static_model, module_folder, pickle_weights, set_type
from tiny_models import save_tiny_model

KINDS = {
    "transformer": TransformerClassifier,
    "causal": CausalClassifier,
    "text-to-text": TextToTextClassifier,
}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return make_static_model(tmp_path / "model")


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """The file that code of a folder leaves if it runs."""
    return tmp_path / "ran"


@pytest.fixture(autouse=True)
def no_pickles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes every reading of a pickle by torch fail the test."""

    def refuse(*_: object, **__: object) -> Any:
        pytest.fail("torch.load was called")

    monkeypatch.setattr(torch, "load", refuse)


def _refusal(folder: Path, **options: Any) -> str:
    """What is said of a folder of sentence-transformers, in one line."""
    with pytest.raises(InputError) as caught:
        resolve(str(folder), **options).embed(["a fine film"])
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_an_honest_folder_is_used(model: Path) -> None:
    assert resolve(str(model)).embed(["a fine film"]).shape == (1, 4)


def test_a_python_file_of_the_folder_is_not_run(model: Path, mark: Path) -> None:
    (model / "modeling_evil.py").write_text(CODE.format(mark=str(mark)))
    set_type(model, 1, "modeling_evil.Evil")
    assert _refusal(model) == (
        "expected module types of sentence-transformers, found 'modeling_evil.Evil' in "
        f"{str(model / 'modules.json')!r}; "
        "use another model: dallme runs no code of a model's folder"
    )
    assert not mark.exists()


def test_an_importable_class_is_not_imported(
    model: Path, mark: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "evil_on_path.py").write_text(CODE.format(mark=str(mark)))
    monkeypatch.syspath_prepend(tmp_path / "lib")
    set_type(model, 1, "evil_on_path.Evil")
    assert "found 'evil_on_path.Evil' in" in _refusal(model)
    assert not mark.exists()
    assert "evil_on_path" not in sys.modules


@pytest.mark.parametrize(
    "kind",
    [
        "sentence_transformers.util.misc.import_from_string", "sentence_transformers.SentenceTransformer",
        "os.system",
        None, 3,
        "sentence_transformers.models.Pooling\n", "sentence_transformers.cross_encoder.CrossEncoder",
        "builtins.exec",
        ["a"],
        "sentence_transformers.models.Transformer.evil.Pooling", "xsentence_transformers.models.Pooling",
    ],
)  # fmt: skip
def test_no_class_but_the_modules_of_the_library_is_a_type(model: Path, kind: Any) -> None:
    set_type(model, 1, kind)
    assert _refusal(model).startswith(f"expected module types of sentence-transformers, found {kind!r} in ")


@pytest.mark.parametrize("name", MODULES)
def test_types_are_those_of_the_installed_library(name: str) -> None:
    import sentence_transformers.sentence_transformer.modules as known

    if name == "Asym":
        from sentence_transformers.base.modules.router import Asym

        assert Asym is not None
    else:
        assert hasattr(known, name) or hasattr(
            __import__("sentence_transformers.base.modules", fromlist=[name]), name
        )


@pytest.mark.parametrize("file", ["router_config.json", "config.json"])
@pytest.mark.parametrize(
    "router", ["sentence_transformers.models.Router", "sentence_transformers.models.Asym"]
)
def test_types_within_a_router_are_checked(model: Path, mark: Path, file: str, router: str) -> None:
    (model / "modeling_evil.py").write_text(CODE.format(mark=str(mark)))
    place = model / "1_Router"
    place.mkdir()
    types = {"query_0_Evil": "modeling_evil.Evil"}
    edit(place / file, types=types, structure={"query": list(types), "document": list(types)}, parameters={})
    set_type(model, 1, router, "1_Router")
    assert f"found 'modeling_evil.Evil' in {str(place / file)!r}" in _refusal(model)
    assert not mark.exists()
    edit(place / file, types={"../../elsewhere": "sentence_transformers.models.Pooling"})
    assert "found the path '../../elsewhere'" in _refusal(model)


def test_a_word_tokenizer_of_the_folder_is_not_run(model: Path, mark: Path) -> None:
    (model / "modeling_evil.py").write_text(CODE.format(mark=str(mark)))
    (model / "0_Words").mkdir()
    edit(
        model / "0_Words" / "wordembedding_config.json",
        tokenizer_class="modeling_evil.Evil",
        max_seq_length=8,
    )
    set_type(model, 0, "sentence_transformers.models.WordEmbeddings", "0_Words")
    assert "expected a word tokenizer of sentence-transformers, found 'modeling_evil.Evil'" in _refusal(model)
    assert not mark.exists()


@pytest.mark.parametrize("name", ["os.system", "torch.hub.load", "torch.utils.cpp_extension.load", 3])
def test_an_activation_function_is_one_of_torch(model: Path, name: Any) -> None:
    edit(module_folder(model, 1) / "config.json", activation_function=name)
    assert f"expected an activation function of torch.nn, found {name!r}" in _refusal(model)


@pytest.mark.parametrize("path", ["../other", "/etc", "a/../../b", "..\\other", "C:/x", 3])
def test_modules_lie_within_the_folder(model: Path, path: Any) -> None:
    set_type(model, 1, "sentence_transformers.models.Dense", path)
    assert f"found the path {path!r} in " in _refusal(model)


def test_a_model_of_another_type_is_refused(model: Path) -> None:
    edit(model / "config_sentence_transformers.json", model_type="evil.Type")
    assert "expected a model of the type SentenceTransformer, found 'evil.Type' in " in _refusal(model)


@pytest.mark.parametrize("place", [0, 1])
def test_a_module_with_a_pickle_alone_is_refused_and_can_be_converted(model: Path, place: int) -> None:
    expected = resolve(str(model)).embed(["a fine film"])
    pickle_weights(module_folder(model, place))
    said = _refusal(model)
    assert (
        "found pytorch_model.bin, which is never unpickled; if you trust it, convert it with: python -c "
        in said
    )
    command = shlex.split(said.partition("convert it with: ")[2])
    subprocess.run([sys.executable, *command[1:]], check=True)
    np.testing.assert_array_equal(resolve(str(model)).embed(["a fine film"]), expected)


def test_weights_under_another_name_do_not_hide_a_pickle(model: Path) -> None:
    place = module_folder(model, 1)
    shutil.copy(place / "model.safetensors", place / "other.safetensors")
    pickle_weights(place)
    assert "found pytorch_model.bin" in _refusal(model)


@pytest.mark.parametrize("ending", ["bin", "pt", "pth", "pkl", "ckpt", "pickle"])
def test_pickles_of_every_name_are_refused(model: Path, mark: Path, ending: str) -> None:
    (module_folder(model, 1) / "model.safetensors").unlink()
    torch.save(Payload(mark), module_folder(model, 1) / f"weights.{ending}")
    assert f"found weights.{ending}, which is never unpickled" in _refusal(model)
    assert not mark.exists()


# Folders of transformers


def _index_of_pickles(folder: Path) -> None:
    """Names the pickle as a part of the weights as safetensors."""
    names = dict.fromkeys(("model.embed_tokens.weight",), pickle_weights(folder).name)
    edit(folder / "model.safetensors.index.json", metadata={}, weight_map=names)
    (folder / "extra.safetensors").write_bytes(b"")


def _index_of_another_place(folder: Path) -> None:
    edit(folder / "model.safetensors.index.json", metadata={}, weight_map={"a": "../other/model.safetensors"})


def _explicit_pickle(folder: Path) -> None:
    edit(folder / "config.json", transformers_weights=pickle_weights(folder).name)
    (folder / "extra.safetensors").write_bytes(b"")


TRICKS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "pickle": (pickle_weights, "found pytorch_model.bin, which is never unpickled"),
    "index of pickles": (_index_of_pickles, "found the name 'pytorch_model.bin' in it"),
    "index of another place": (_index_of_another_place, "found the name '../other/model.safetensors' in it"),
    "named pickle": (_explicit_pickle, "found the name 'pytorch_model.bin' in it"),
    "adapter": (
        lambda folder: edit(folder / "adapter_config.json", base_model_name_or_path="/elsewhere"),
        "found adapter_config.json, which names another model",
    ),
    "kernel": (
        lambda folder: edit(folder / "config.json", attn_implementation="evil/kernel"),
        "found 'evil/kernel' in",
    ),
    "nested kernel": (
        lambda folder: edit(
            folder / "config.json", text_config={"_attn_implementation": {"": "evil/kernel"}}
        ),
        "found {'': 'evil/kernel'} in",
    ),
}


@pytest.mark.parametrize("trick", TRICKS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_classifier_loads_nothing_but_safetensors_of_the_folder(
    kind: str, trick: str, tmp_path: Path
) -> None:
    folder = save_tiny_model(kind, tmp_path / "model")
    play, message = TRICKS[trick]
    play(tmp_path / "model")
    with pytest.raises(InputError, match=re.escape(message)):
        KINDS[kind](model=folder).find()


@pytest.mark.parametrize(
    ("kind", "key", "value", "largest"),
    [
        ("transformer", "num_hidden_layers", 1_000, 100),
        ("causal", "num_hidden_layers", 10**30, 100),
        ("text-to-text", "num_decoder_layers", 1_000, 100),
        ("transformer", "vocab_size", 2**40, 2**20),
        ("causal", "hidden_size", 1e308, 2**20),
        ("text-to-text", "d_model", 2**21, 2**20),
    ],
)
def test_sizes_beyond_the_weights_are_refused_before_anything_is_built(
    kind: str, key: str, value: float, largest: int, tmp_path: Path
) -> None:
    folder = Path(save_tiny_model(kind, tmp_path / "model"))
    KINDS[kind](model=str(folder)).find()
    edit(folder / "config.json", **{key: value})
    with pytest.raises(InputError, match=f"^expected {key} of at most {largest:,} in [^\n]*, found"):
        KINDS[kind](model=str(folder)).find()


@pytest.mark.parametrize("trick", TRICKS)
def test_a_plain_transformer_as_an_embedder_is_checked_alike(trick: str, tmp_path: Path) -> None:
    folder = save_tiny_model("transformer", tmp_path / "model")
    play, message = TRICKS[trick]
    play(tmp_path / "model")
    assert message in _refusal(Path(folder))
    with pytest.raises(InputError, match=re.escape(message)):
        make_base("embedder", ["a fine film"], SentenceTransformerEmbedder(folder), preset=PRESETS["tiny"])
    with pytest.raises(InputError, match=re.escape(message)):
        make_base(folder, ["a fine film"], SentenceTransformerEmbedder(folder), preset=PRESETS["tiny"])


@pytest.mark.parametrize(
    "arguments",
    [
        {"gguf_file": "evil.gguf"}, {"attn_implementation": "evil/kernel"},
        {"adapter_kwargs": {"_adapter_model_path": "x"}},
        {"pretrained_model_name": "../other"}, {"quantization_config": {}}, {"nested": {"use_kernels": True}},
    ],
)  # fmt: skip
@pytest.mark.parametrize("group", ["model_args", "processor_kwargs", "config_args"])
def test_arguments_of_a_module_lead_nowhere(group: str, arguments: dict[str, Any], tmp_path: Path) -> None:
    folder = Path(save_tiny_model("transformer", tmp_path / "model"))
    kind = "sentence_transformers.models.Transformer"
    (folder / "modules.json").write_text(f'[{{"idx": 0, "name": "0", "path": "", "type": "{kind}"}}]')
    edit(folder / "sentence_bert_config.json", **{group: {"torch_dtype": "float32"}})
    check_sentence_transformer(folder)
    edit(folder / "sentence_bert_config.json", **{group: arguments})
    assert "expected arguments that lead to no other file or code, found" in _refusal(folder)


def map_to_code(folder: Path, mark: Path, kind: str) -> None:
    """Names code of the folder as its configuration, models and tokenizer."""
    (folder / "modeling_evil.py").write_text(CODE.format(mark=str(mark)))
    names = (
        "AutoConfig",
        "AutoModel",
        "AutoModelForCausalLM",
        "AutoModelForSeq2SeqLM",
        "AutoModelForSequenceClassification",
    )
    edit(folder / "config.json", model_type=kind, auto_map=dict.fromkeys(names, "modeling_evil.Evil"))
    edit(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": [None, "modeling_evil.Evil"]})


def _never_asked(*_: object) -> str:
    pytest.fail("the user was asked whether to run the code")


@pytest.mark.parametrize("model_type", ["evil", None])
@pytest.mark.parametrize("kind", KINDS)
def test_auto_map_is_not_followed(
    kind: str, model_type: str | None, tmp_path: Path, mark: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("builtins.input", _never_asked)
    folder = Path(save_tiny_model(kind, tmp_path / "model"))
    known = {"transformer": "bert", "causal": "llama", "text-to-text": "t5"}[kind]
    map_to_code(folder, mark, model_type or known)
    for use in (
        lambda: KINDS[kind](model=str(folder), epochs=1, steps=1).fit(
            ["a fine film", "dull"], np.array([0, 1]), seed=0
        ),
        lambda: (
            resolve(str(folder)).embed(["a fine film"])
            if kind == "transformer"
            else resolve(str(folder)).fingerprint()
        ),
        lambda: make_base(
            str(folder), ["a"], SentenceTransformerEmbedder(str(folder)), preset=PRESETS["tiny"]
        ),
        lambda: make_base(
            "embedder", ["a"], SentenceTransformerEmbedder(str(folder)), preset=PRESETS["tiny"]
        ),
    ):
        said = ""
        try:
            use()
        except DallmeError as error:
            said = str(error)
        assert "\n" not in said
        assert not mark.exists()


# Inverters and static models


def test_an_inverters_folder_runs_nothing(
    tmp_path: Path, mark: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not SHIPPED.is_dir():
        pytest.skip("no inverter comes with this installation")
    monkeypatch.setattr("builtins.input", _never_asked)
    folder = tmp_path / "inverter"
    shutil.copytree(SHIPPED, folder)
    kept = (folder / "config.json").read_bytes()
    map_to_code(folder, mark, "evil")
    with pytest.raises(InputError, match=r"^expected an inverter in .*, could not read it: [^\n]+$"):
        load(folder, "cpu")
    assert not mark.exists()
    (folder / "config.json").write_bytes(kept)
    edit(folder / "config.json", attn_implementation="evil/kernel")
    with pytest.raises(InputError, match="found 'evil/kernel' in"):
        load(folder, "cpu")
    (folder / "config.json").write_bytes(kept)
    pickle_weights(folder)
    with pytest.raises(InputError, match="could not read it"):
        load(folder, "cpu")


def test_a_static_model_reads_safetensors_alone(static_folder: Path, tmp_path: Path, mark: Path) -> None:
    folder = tmp_path / "static"
    shutil.copytree(static_folder, folder)
    (folder / "modeling_evil.py").write_text(CODE.format(mark=str(mark)))
    set_type(folder, 0, "modeling_evil.Evil")
    assert resolve(f"model2vec:{folder}").embed(["a fine film"]).shape == (
        1,
        12,
    )  # only weights and tokenizer are read
    (folder / "model.safetensors").unlink()
    torch.save(Payload(mark), folder / "pytorch_model.bin")
    with pytest.raises(DallmeError, match="expected a model2vec model in"):
        resolve(f"model2vec:{folder}").embed(["a fine film"])
    assert not mark.exists()


def test_word_vectors_of_a_folder_are_no_pickle(model: Path, mark: Path) -> None:
    place = model / "0_Words"
    place.mkdir()
    edit(place / "wordembedding_config.json", tokenizer_class="evil.WhitespaceTokenizer", max_seq_length=8)
    edit(place / "whitespacetokenizer_config.json", vocab=["a"], stop_words=[], do_lower_case=False)
    torch.save(Payload(mark), place / "pytorch_model.bin")
    (model / "1_Pooling").mkdir()
    edit(model / "1_Pooling" / "config.json", pooling_mode="mean")
    set_type(model, 0, "evil.WordEmbeddings", "0_Words")
    set_type(model, 1, "evil.Pooling", "1_Pooling")
    with pytest.raises(DallmeError):
        resolve(f"glove:{model}").embed(["a fine film"])
    assert not mark.exists()
