"""Attacks on model folders, inverters, clients of services, and running processes; each takes a seed."""

from __future__ import annotations

import random
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from _common import HERE
from _kills import Moment, Zygote
from _victims import interrupt, victims
from dallme.decoders.llm import ChatClient, ChatRequest, CompletionStore, LLMDecoder
from dallme.embedders import resolve
from dallme.embedders.openai import OpenAIEmbedder
from dallme.progress import SilentProgress

sys.path += [str(HERE.parent / "tests"), str(HERE.parent / "tests" / "attacks")]

import torch

from answers import HostileServer
from hostile import CODE, Payload, edit, make_static_model, set_type
from test_inverters import break_bytes, break_header, break_json, make_inverter, use
from test_model_folders import KINDS, TRICKS, map_to_code
from tiny_models import save_tiny_model

Attack = Callable[[int], None]

#: Keys of configurations that state how large a model is.
SIZES = (
    "num_hidden_layers", "num_layers", "num_decoder_layers", "hidden_size", "intermediate_size", "vocab_size",
    "max_position_embeddings", "num_attention_heads", "d_model", "in_features", "out_features",
)  # fmt: skip

#: Seconds that a service may be silent, in these attacks.
TIMEOUT = 1.0


def break_file(folder: Path, rng: random.Random) -> None:
    """Breaks a file of a model's folder: its bytes, its JSON, or the header of its weights."""
    files = sorted(path for path in folder.rglob("*") if path.suffix in (".json", ".safetensors"))
    path = rng.choice([path for path in files if path.stat().st_size])
    broken = break_bytes
    if rng.random() < 0.7:
        broken = break_json if path.suffix == ".json" else break_header
    path.write_bytes(broken(path.read_bytes(), rng))


def use_model(kind: str, folder: Path) -> None:
    """Embeds with a folder, or trains a classifier of its kind for one step."""
    if kind == "static":
        resolve(str(folder)).embed(["a fine film"])
    else:
        classifier = KINDS[kind](model=str(folder), epochs=1, steps=1)
        classifier.fit(["a fine film", "dull"], np.array([0, 1]), seed=0)


@contextmanager
def model_attacks(root: Path) -> Iterator[Attack]:
    """Yields an attack by a model's folder: code, pickles, other places, broken files."""
    folders = {kind: Path(save_tiny_model(kind, root / kind)) for kind in KINDS}
    folders["static"] = make_static_model(root / "static")

    def attack(seed: int) -> None:
        rng = random.Random(seed)
        kind = rng.choice(list(folders))
        folder, mark = root / f"model-{seed}", root / f"ran-{seed}"
        shutil.copytree(folders[kind], folder)
        (folder / "modeling_evil.py").write_text(CODE.format(mark=str(mark)))
        torch.save(Payload(mark), folder / rng.choice(["pytorch_model.bin", "weights.pkl", "model.pt"]))
        choice = rng.random()
        if choice < 0.2 and kind != "static":
            TRICKS[rng.choice(list(TRICKS))][0](folder)
        elif choice < 0.2:
            set_type(folder, rng.randrange(2), rng.choice(["modeling_evil.Evil", "os.system", None]))
        elif choice < 0.4:
            map_to_code(folder, mark, rng.choice(["evil", "bert", "llama", "t5"]))
        elif choice < 0.6:
            for file in folder.rglob("config.json"):
                edit(file, **{rng.choice(SIZES): rng.choice([-1, 10**4, 10**8, 10**30, 1e308, "9"])})
        elif choice < 0.7:
            for weights in folder.rglob("*.safetensors"):
                weights.unlink()
        else:
            break_file(folder, rng)
        try:
            use_model(kind, folder)
        finally:
            shutil.rmtree(folder)
            if mark.exists():
                raise AssertionError("code of the folder ran")

    yield attack


@contextmanager
def inverter_attacks(root: Path) -> Iterator[Attack]:
    """Yields an attack by an inverter's folder that is broken at random."""
    plain = make_inverter(root / "inverter")

    def attack(seed: int) -> None:
        rng, folder, mark = random.Random(seed), root / f"inverter-{seed}", root / f"ran-{seed}"
        shutil.copytree(plain, folder)
        if rng.random() < 0.1:
            map_to_code(folder, mark, rng.choice(["evil", "llama"]))
        else:
            break_file(folder, rng)
        try:
            use(folder)
        finally:
            shutil.rmtree(folder)
            if mark.exists():
                raise AssertionError("code of the folder ran")

    yield attack


@contextmanager
def answer_attacks() -> Iterator[Attack]:
    """Yields an attack by the answers of an embeddings or chat service."""
    options: dict[str, Any] = {"max_retries": 1, "first_pause": 0.01, "timeout": TIMEOUT}

    with HostileServer() as server:

        def attack(seed: int) -> None:
            server.seed = seed
            if seed % 2:
                OpenAIEmbedder("m", base_url=server.url, **options).embed(["a fine film", "a dull one"])
                return
            decoder = LLMDecoder("m", base_url=server.url, **options)
            client = ChatClient(decoder.service, server.url, CompletionStore(None), 1, SilentProgress())
            client.complete([ChatRequest(({"role": "user", "content": "Write."},), 8, 0.5, 0)])

        yield attack


@contextmanager
def signal_attacks(root: Path) -> Iterator[Attack]:
    """Yields an attack by a signal to a running ``dallme distill``, followed by a read and a resume."""
    with closing(Zygote()) as zygote:
        victim = next(victim for victim in victims() if victim.name == "distill")
        victim.learn(zygote, root / "learn")

        def attack(seed: int) -> None:
            moment = Moment.draw(random.Random(seed), victim.seconds, victim.changes)
            trial = interrupt(victim, zygote, root / f"signal-{seed}", [moment])
            shutil.rmtree(root / f"signal-{seed}")
            if trial.losses:
                raise AssertionError("; ".join(trial.losses))

        yield attack
