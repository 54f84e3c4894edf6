"""An inverter of somebody else, broken at random or built to exhaust memory, ends in one line."""

from __future__ import annotations

import json
import random
import resource
import shutil
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import T5Config, T5ForConditionalGeneration

from dallme.decoders.vec2text.backbones import Preset, make_base
from dallme.decoders.vec2text.checkpoint import load, save
from dallme.decoders.vec2text.inverter import SHIPPED, Inverter
from dallme.decoders.vec2text.model import InverterConfig, InverterModel
from dallme.embedders.hashing import HashingEmbedder
from dallme.errors import InputError

EMBEDDER = HashingEmbedder(8)
TEXTS = ["a warm film", "a dull play", "the plot and the cast"]

#: Values that stand where another one should.
STRANGE: tuple[Any, ...] = (
    None, True, -1, 0, 1.5, 10**8, 10**30, "", "x", "\ud800", [], {}, [[]], {"a": 1}, float("nan"),
    float("inf"), -(10**9),
)  # fmt: skip


def make_inverter(path: Path, kind: str = "causal") -> Path:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        preset = Preset(32, 1, 270, 8, 1, (1, 1), 2, "scratch")
        language_model, tokenizer, _ = make_base("scratch", TEXTS, EMBEDDER, preset=preset)
        if kind == "seq2seq":
            small = {"vocab_size": 270, "d_model": 32, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2}
            language_model = T5ForConditionalGeneration(
                T5Config(**small, decoder_start_token_id=0, eos_token_id=2)
            )
        config = InverterConfig("hashing", EMBEDDER.fingerprint(), "scratch", kind, 1, 8, corrects=True)
        save(path, InverterModel(language_model, kind, 8, 1), tokenizer, config)
    return path


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_inverter(tmp_path_factory.mktemp("plain") / "inverter")


def use(folder: Path) -> None:
    """Loads an inverter, writes and corrects."""
    inverter = Inverter.load(folder, "cpu", embedder=EMBEDDER)
    inverter.decode(EMBEDDER.embed(TEXTS), steps=1, beam=2)


def outcome(folder: Path) -> str:
    """The one line of the error; blank if the inverter works."""
    message = ""
    try:
        use(folder)
    except InputError as error:
        message = str(error)
    assert "\n" not in message
    return message


def places(document: Any) -> list[tuple[Any, Any]]:
    """All containers of a document, each with a key."""
    keys = (
        list(document)
        if isinstance(document, dict)
        else range(len(document))
        if isinstance(document, list)
        else ()
    )
    found = [(document, key) for key in keys]
    return found + [place for _, key in found for place in places(document[key])]


def break_json(content: bytes, rng: random.Random) -> bytes:
    """Changes a value, or removes or adds a key."""
    document = json.loads(content)
    container, key = rng.choice(places(document))
    if rng.random() < 0.2 and isinstance(container, dict):
        del container[key]
    elif rng.random() < 0.1 and isinstance(container, dict):
        container["extra"] = rng.choice(STRANGE)
    else:
        container[key] = rng.choice(STRANGE)
    return json.dumps(document).encode()


def break_bytes(content: bytes, rng: random.Random) -> bytes:
    """Flips bytes, cuts the end, or repeats a part."""
    broken, start = bytearray(content), rng.randrange(max(1, len(content)))
    if rng.random() < 0.4:
        return bytes(broken[:start])
    if rng.random() < 0.3:
        return bytes(broken[:start] + broken[start // 2 :])
    for _ in range(rng.randint(1, 8)):
        broken[rng.randrange(len(broken))] = rng.randrange(256)
    return bytes(broken)


def break_header(content: bytes, rng: random.Random) -> bytes:
    """Changes a value in the header of safetensors."""
    length = struct.unpack("<Q", content[:8])[0]
    header = break_json(content[8 : 8 + length], rng)
    return struct.pack("<Q", len(header)) + header + content[8 + length :]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("name", "breaks"),
    [
        ("inverter.json", break_json),
        ("inverter.json", break_bytes),
        ("config.json", break_json),
        ("config.json", break_bytes),
        ("special_tokens.json", break_json),
        ("tokenizer.json", break_json),
        ("tokenizer.json", break_bytes),
        ("model.safetensors", break_header),
        ("model.safetensors", break_bytes),
    ],
)
def test_a_broken_file_ends_in_one_line(
    plain: Path, tmp_path: Path, name: str, breaks: Callable[[bytes, random.Random], bytes], seed: int
) -> None:
    folder, rng = tmp_path / "inverter", random.Random(f"{name} {breaks.__name__} {seed}")
    shutil.copytree(plain, folder)
    content, refused = (plain / name).read_bytes(), 0
    for _ in range(12):
        broken = breaks(content, rng)
        (folder / name).write_bytes(broken)
        refused += bool(outcome(folder))
    if (name, breaks) != ("model.safetensors", break_bytes):  # a flipped weight is a weight
        assert refused or name in ("tokenizer.json", "config.json")


def test_a_whole_inverter_works(plain: Path) -> None:
    use(plain)


@pytest.mark.parametrize("kind", ["causal", "seq2seq"])
def test_each_kind_is_loaded_with_its_weights(tmp_path: Path, kind: str) -> None:
    use(make_inverter(tmp_path / "inverter", kind))


def edit(file: Path, **changes: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("config.json", {"num_hidden_layers": 10**8}, "expected num_hidden_layers of at most 10,000"),
        ("config.json", {"num_hidden_layers": 9_999}, "describes more layers than model.safetensors holds"),
        ("config.json", {"vocab_size": 10**7}, "of shape (10000000, 32)"),
        ("config.json", {"hidden_size": 2**24}, "expected "),
        ("config.json", {"intermediate_size": 2**24}, "of shape (32, 16777216)"),
        ("config.json", {"num_labels": 10**9}, "expected num_labels of at most 10,000"),
        ("config.json", {"max_position_embeddings": 10**12}, "expected max_position_embeddings of at most"),
        ("config.json", {"eos_token_id": 5_000}, "expected eos_token_id from 0 to 269, found"),
        ("config.json", {"bos_token_id": None}, "expected bos_token_id from 0 to 269, found None"),
        ("config.json", {"max_position_embeddings": 10}, "expected 20 positions or more"),
        (
            "inverter.json",
            {"pseudo_tokens": 10**9},
            "expected pseudo_tokens from 1 to 4,096, found 1000000000",
        ),
        ("inverter.json", {"pseudo_tokens": 4_096}, "expected weights "),
        ("inverter.json", {"max_tokens": 10**9}, "expected max_tokens from 1 to 65,536, found 1000000000"),
        ("inverter.json", {"max_tokens": "8"}, "expected max_tokens as int, found '8'"),
        ("inverter.json", {"corrects": 1}, "expected corrects as bool, found 1"),
        ("inverter.json", {"evil": 1}, "unknown fields ['evil']"),
        ("inverter.json", {"kind": "other"}, "expected kind as one of causal, seq2seq, found 'other'"),
        (
            "inverter.json",
            {"fingerprint": {"model": "m", "weights": "w"}},
            "'dimension' is missing in the fingerprint",
        ),
    ],
)
def test_sizes_are_checked_before_anything_is_reserved(
    plain: Path, tmp_path: Path, name: str, changes: dict[str, Any], message: str
) -> None:
    folder = tmp_path / "inverter"
    shutil.copytree(plain, folder)
    edit(folder / name, **changes)
    started, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = outcome(folder)
    assert message in found
    assert time.process_time() - started < 10
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KiB


@pytest.mark.parametrize("content", [b"[" * 200_000, b'{"a":' * 100_000, b"\xff\xfe", b"", b"null", b"[]"])
@pytest.mark.parametrize("name", ["inverter.json", "config.json", "special_tokens.json", "tokenizer.json"])
def test_deep_and_empty_documents_end_in_one_line(
    plain: Path, tmp_path: Path, name: str, content: bytes
) -> None:
    folder = tmp_path / "inverter"
    shutil.copytree(plain, folder)
    (folder / name).write_bytes(content)
    assert outcome(folder)


@pytest.mark.parametrize(
    "name", ["config.json", "model.safetensors", "special_tokens.json", "tokenizer.json"]
)
def test_a_missing_file_ends_in_one_line(plain: Path, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "inverter"
    shutil.copytree(plain, folder)
    (folder / name).unlink()
    assert outcome(folder)


def test_the_record_of_version_0_1_is_read() -> None:
    config = InverterConfig.read(SHIPPED)
    assert config.training["mix"] == 0.0  # an option that is no longer there
    assert load(SHIPPED, "cpu")[2] == config
