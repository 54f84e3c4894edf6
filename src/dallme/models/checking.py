"""Checks of a model folder before loading: no code runs, no pickle is read, no other folder is opened."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from dallme.errors import InputError

#: Suffixes of files that torch and scikit-learn unpickle.
PICKLES = (".bin", ".ckpt", ".pickle", ".pkl", ".pt", ".pth")

#: Modules of sentence-transformers that are transformers of the transformers library.
_TRANSFORMERS = ("Transformer", "CLIPModel")

#: Modules that hold modules.
_ROUTERS = ("Router", "Asym")

#: Module classes of sentence-transformers that embed texts.
MODULES = (
    *_TRANSFORMERS, *_ROUTERS, "BoW", "CNN", "Dense", "Dropout", "LSTM", "LayerNorm", "Normalize", "Pooling",
    "StaticEmbedding", "WeightedLayerPooling", "WordEmbeddings", "WordWeights",
)  # fmt: skip

_PACKAGES = r"sentence_transformers\.(?:models|base\.modules|sentence_transformer\.modules)"
_MODULE = re.compile(rf"{_PACKAGES}(?:\.\w+)?\.({'|'.join(MODULES)})")
_TOKENIZER = re.compile(rf"{_PACKAGES}\.tokenizer(?:\.\w+)?\.(?:Phrase|Whitespace|Word)Tokenizer")
_ACTIVATION = re.compile(r"torch\.nn\.(?:modules\.(?:activation|linear)\.)?[A-Z]\w*")

#: Modules whose configuration names a class: the file, the key, the allowed classes and their description.
_NAMED_CLASSES = {
    "Dense": ("config.json", "activation_function", _ACTIVATION, "an activation function of torch.nn"),
    "WordEmbeddings": (
        "wordembedding_config.json",
        "tokenizer_class",
        _TOKENIZER,
        "a word tokenizer of sentence-transformers",
    ),
}

#: Attention implementations of torch; others may be fetched from the Hub and run.
_ATTENTION = (None, "eager", "sdpa", "flex_attention")

#: Loader arguments that name another place, file or code.
_FORBIDDEN = {
    "adapter_kwargs", "allow_all_kernels", "auto_map", "cache_dir", "code_revision", "config",
    "custom_generate", "gguf_file", "kernel_config", "quantization_config", "state_dict", "token",
    "use_kernels",
}  # fmt: skip


#: Keys of a configuration that count parts, each with tensors of its own, and keys that state sizes.
_PARTS = re.compile(r"(?:^|_)(?:layers?|blocks?|depth|experts)$")
_SIZES = re.compile(
    r"(?:^|_)(?:size|dim|model|ff|kv|embd|inner|features|heads?|positions|embeddings|buckets)$"
)

#: Parts and sizes that are small for any model, and bytes of the longest header of safetensors.
_FEW_PARTS, _SMALL_SIZE, _LONGEST_HEADER = 100, 1 << 20, 100_000_000


def check_transformer(folder: Path, *, weights: bool = True) -> None:
    """Checks the folder of a transformers model.

    Args:
        folder: The folder.
        weights: Whether its weights are loaded as well as its configuration.

    Raises:
        InputError: If it has weights as pickles only, describes far more layers than its weights hold, names
            files or models elsewhere, or asks for foreign code.
    """
    adapter = folder / "adapter_config.json"
    if adapter.is_file():
        raise InputError(
            f"expected a model with all its weights in {str(folder)!r}, found {adapter.name}, "
            "which names another model; merge the adapter into its model first (peft: merge_and_unload) "
            "and save that"
        )
    for key, value in _pairs(_read_object(folder / "config.json")):
        names_kernel = key.strip("_") in ("attn_implementation", "experts_implementation")
        if names_kernel and not _is_known_attention(value):
            raise InputError(
                f"expected attention as {', '.join(filter(None, _ATTENTION))}, found {value!r} in "
                f"{str(folder / 'config.json')!r}; remove it there: it may be code that is fetched and run"
            )
        if key == "transformers_weights" and value is not None:
            _check_name(value, folder / "config.json")
    if weights:
        for index in sorted(folder.glob("*.safetensors.index.json")):
            names = _read_object(index).get("weight_map")
            for name in set(map(str, names.values())) if isinstance(names, dict) else ():
                _check_name(name, index)
        _check_pickles(folder, "*.safetensors")
        _check_sizes(folder)


def check_sentence_transformer(folder: Path) -> None:
    """Checks the folder of a sentence-transformers model: the type and the weights of each module.

    Raises:
        InputError: If a module is not part of sentence-transformers, lies outside the folder, has weights as
            pickles only, or its configuration names code or a model elsewhere.
    """
    kind = _read_object(folder / "config_sentence_transformers.json").get("model_type", "SentenceTransformer")
    if kind != "SentenceTransformer":
        raise InputError(
            f"expected a model of the type SentenceTransformer, found {kind!r} in "
            f"{str(folder / 'config_sentence_transformers.json')!r}; choose a model that embeds texts"
        )
    description = folder / "modules.json"
    if not description.is_file():
        check_transformer(folder)
        return
    modules = _read_json(description)
    if not isinstance(modules, list) or not all(isinstance(module, dict) for module in modules):
        raise InputError(
            f"expected a list of modules in {str(description)!r}, found something else; copy the model again"
        )
    for module in modules:
        _check_module(folder, module.get("path", ""), module.get("type"), description)


def _check_module(folder: Path, path: Any, kind: Any, description: Path) -> None:
    """Checks a module, and the modules in it if it is a router."""
    match = _MODULE.fullmatch(kind) if isinstance(kind, str) else None
    if match is None:
        raise InputError(
            f"expected module types of sentence-transformers, found {kind!r} in {str(description)!r}; "
            "use another model: dallme runs no code of a model's folder"
        )
    if not isinstance(path, str) or not _is_inside(path):
        raise InputError(
            f"expected modules within {str(folder)!r}, found the path {path!r} in {str(description)!r}"
        )
    module_folder, name = folder / path, match[1]
    if name in _TRANSFORMERS:
        check_transformer(module_folder)
        for file in sorted(module_folder.glob("sentence_*_config.json")):
            _check_arguments(file)
        return
    if name in _ROUTERS:
        new, old = module_folder / "router_config.json", module_folder / "config.json"
        file = new if new.is_file() else old
        types = _read_object(file).get("types")
        if not isinstance(types, dict):
            raise InputError(
                f"expected the types of the modules of a {name} in {str(module_folder)!r}, found none; "
                "copy the model again"
            )
        for inner, inner_kind in types.items():
            _check_module(module_folder, inner, inner_kind, file)
        return
    _check_pickles(module_folder, "model.safetensors")
    _check_sizes(module_folder)
    if name in _NAMED_CLASSES:
        _check_class(module_folder, *_NAMED_CLASSES[name])


def _check_class(folder: Path, file: str, key: str, known: re.Pattern[str], description: str) -> None:
    """Checks the class that the configuration of a module names."""
    value = _read_object(folder / file).get(key)
    if value is not None and not (isinstance(value, str) and known.fullmatch(value)):
        raise InputError(
            f"expected {description}, found {value!r} in {str(folder / file)!r}; "
            "use another model: dallme runs no code of a model's folder"
        )


def _check_arguments(file: Path) -> None:
    """Checks the arguments that a Transformer module passes to the loaders of transformers."""
    for group, arguments in _read_object(file).items():
        if not group.endswith(("_args", "_kwargs")):
            continue
        for key, value in _pairs(arguments):
            names_place = isinstance(value, str) and ("/" in value or "\\" in value)
            wrong_attention = key.strip("_") == "attn_implementation" and not _is_known_attention(value)
            if key in _FORBIDDEN or names_place or wrong_attention:
                raise InputError(
                    f"expected arguments that lead to no other file or code, found {key!r} ({value!r}) in "
                    f"{str(file)!r}; remove it there or use another model"
                )


def _check_pickles(folder: Path, weights: str) -> None:
    """Checks that a folder with weights has them as safetensors."""
    pickles = sorted(file for file in folder.glob("*") if file.suffix in PICKLES)
    if pickles and not any(folder.glob(weights)):
        old, new = str(pickles[0]), str(folder / "model.safetensors")
        raise InputError(
            f"expected weights as .safetensors in {str(folder)!r}, found {pickles[0].name}, "
            'which is never unpickled; if you trust it, convert it with: python -c "import torch, '
            f"safetensors.torch as s; s.save_file(torch.load({old!r}, weights_only=True), "
            f"{new!r}, {{'format': 'pt'}})\""
        )


def _check_sizes(folder: Path) -> None:
    """Checks that the configuration describes no more than the weights can hold, before anything is built."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        return
    tensors, size = sum(map(_count_tensors, files)), sum(file.stat().st_size for file in files)
    for key, value in _pairs(_read_object(folder / "config.json")):
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            continue
        if _PARTS.search(key):
            largest = max(_FEW_PARTS, tensors)
        elif _SIZES.search(key):
            largest = max(_SMALL_SIZE, size)
        else:
            continue
        if not value <= largest:
            raise InputError(
                f"expected {key} of at most {largest:,} in {str(folder / 'config.json')!r}, as the weights "
                f"hold {tensors:,} tensors in {size:,} bytes, found {value!r:.40}; copy the model again"
            )


def _count_tensors(file: Path) -> int:
    """Counts the tensors that the header of a safetensors file names; 0 if it is damaged."""
    try:
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            return len(json.loads(stream.read(min(length, _LONGEST_HEADER))))
    except (OSError, ValueError, TypeError, RecursionError):
        return 0


def _check_name(name: Any, description: Path) -> None:
    """Checks that weights are a safetensors file in the folder of their description."""
    if (
        not isinstance(name, str)
        or not name.endswith((".safetensors", ".safetensors.index.json"))
        or re.search(r"[/\\]", name)
    ):
        raise InputError(
            f"expected weights as .safetensors beside {str(description)!r}, found the name {name!r} in it; "
            "copy the model again"
        )


def _is_inside(path: str) -> bool:
    """Returns whether a path stays within the folder that it starts from; links are not resolved."""
    parts = PurePosixPath(path).parts
    return not (path.startswith("/") or ".." in parts or "\\" in path or ":" in path)


def _is_known_attention(value: Any) -> bool:
    if isinstance(value, dict):
        return all(_is_known_attention(each) for each in value.values())
    return value is None or (isinstance(value, str) and value in _ATTENTION)


def _pairs(value: Any) -> Iterator[tuple[str, Any]]:
    """Yields the keys of JSON objects at any depth, each with its value."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key, inner
            yield from _pairs(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _pairs(inner)


def _read_object(path: Path) -> dict[str, Any]:
    """Reads a JSON object; returns an empty one if there is no file."""
    if not path.is_file():
        return {}
    content = _read_json(path)
    if not isinstance(content, dict):
        raise InputError(
            f"expected a JSON object in {str(path)!r}, found {type(content).__name__}; copy the model again"
        )
    return content


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            f"expected JSON in {str(path)!r}, cannot read it: {error}; copy the model again"
        ) from None
