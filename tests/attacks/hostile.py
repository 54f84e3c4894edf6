"""Folders that try to run code, read pickles, open paths, fetch models or spend a key."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, StaticEmbedding
from tokenizers import Tokenizer, models, pre_tokenizers

#: Python code that leaves a file where it ran, and then looks like a module of sentence-transformers.
CODE = """
import pathlib
pathlib.Path({mark!r}).write_text("ran")
from sentence_transformers.models import Pooling
class Evil(Pooling):
    @classmethod
    def load(cls, *args, **kwargs):
        pathlib.Path({mark!r}).write_text("loaded")
        return cls(8)
"""


class Payload:
    """A pickle of this leaves a file where it is read by a reader that allows it."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.mark}",)


def make_static_model(folder: Path) -> Path:
    """A sentence-transformers model of two modules, StaticEmbedding and Dense, both with safetensors."""
    vocabulary = {word: row for row, word in enumerate(("[UNK]", "a", "fine", "dull", "film"))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        SentenceTransformer(
            modules=[StaticEmbedding(tokenizer, embedding_dim=8), Dense(8, 4)], device="cpu"
        ).save(str(folder))
    return folder


def edit(file: Path, **changes: Any) -> None:
    """Changes keys of a JSON object."""
    file.write_text(json.dumps((json.loads(file.read_text()) if file.exists() else {}) | changes))


def set_type(folder: Path, place: int, kind: Any, path: str | None = None) -> None:
    """Changes the type, or the path, of a module in ``modules.json``."""
    modules = json.loads((folder / "modules.json").read_text())
    modules[place]["type"] = kind
    if path is not None:
        modules[place]["path"] = path
    (folder / "modules.json").write_text(json.dumps(modules))


def module_folder(folder: Path, place: int) -> Path:
    """The folder of a module."""
    modules = json.loads((folder / "modules.json").read_text())
    return folder / modules[place]["path"]


def pickle_weights(folder: Path) -> Path:
    """Puts weights as a pickle in the place of those as safetensors."""
    from safetensors.torch import load_file

    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    return folder / "pytorch_model.bin"
