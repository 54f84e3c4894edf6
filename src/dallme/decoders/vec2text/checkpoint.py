"""Inverters on disk: a folder of weights, tokenizer, record and card."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dallme.decoders.vec2text.model import FILE, InverterConfig, read_json, wrap_tokenizer
from dallme.errors import InputError, OutputError, first_line
from dallme.files.folders import COMMITTED, INVERTER_FILES, PARTIAL, check, check_own, locate_files, write
from dallme.models.checking import check_transformer
from dallme.models.devices import find_device

if TYPE_CHECKING:
    import torch

    from dallme.decoders.vec2text.model import InverterModel

WEIGHTS = "model.safetensors"

_MODEL, _TOKENIZER, _SPECIAL, _CARD = "config.json", "tokenizer.json", "special_tokens.json", "README.md"

#: Names that a tensor may have in a model: an encoder-decoder has four for its token vectors.
_COPIES = 4

#: Limits of a language model's configuration: counts of parts, other sizes, entries of buffers.
_MAX_COUNT, _MAX_SIZE, _MAX_BUFFERS = 10_000, 2**24, 2**25
_COUNTS = re.compile(r"layer|label|block|expert|head|depth|num_")


def save(
    folder: Path, model: InverterModel, tokenizer: Any, config: InverterConfig, *, overwrite: bool = False
) -> None:
    """Writes an inverter, with weights as float16 to halve the file.

    Args:
        folder: The folder; all new files appear together or none does, and other files stay.
        model: The model.
        tokenizer: Its tokenizer.
        config: Its record.
        overwrite: Whether an inverter in the folder is replaced.

    Raises:
        OutputError: As :func:`check_new`, or if the folder cannot be written.
    """
    from safetensors.torch import save as to_bytes

    settings = json.loads(model.config.to_json_string(use_diff=False))
    settings.pop("_name_or_path", None)  # a path on this machine
    special = {name: getattr(tokenizer, f"{name}_token") for name in ("pad", "bos", "eos")}
    files = {
        WEIGHTS: to_bytes({name: _half(value) for name, value in _own_tensors(model).items()}),
        _MODEL: (json.dumps(settings, indent=2, sort_keys=True) + "\n").encode(),
        _TOKENIZER: tokenizer.backend_tokenizer.to_str().encode(),
        _SPECIAL: json.dumps(special).encode(),
        FILE: config.to_json().encode(),
        _CARD: card(config).encode(),
    }
    try:
        write(folder, files, overwrite=overwrite)
    except OutputError as error:
        raise OutputError(f"{error}; the checkpoints stay: continue with --resume") from error


def load(folder: Path | str, device: str = "auto") -> tuple[InverterModel, Any, InverterConfig]:
    """Loads an inverter.

    Args:
        folder: A folder that :func:`save` wrote.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.

    Returns:
        The model in float32 and in evaluation mode, its tokenizer, and its record.

    Raises:
        InputError: If it is no inverter, or a file of it is damaged.
    """
    import torch
    from safetensors.torch import load_file

    folder = Path(folder)
    config = InverterConfig.read(folder)
    files = locate_files(folder, INVERTER_FILES)
    try:
        model = _new_model(files[_MODEL], files[WEIGHTS], config)
        weights = {
            name: value.float() if value.is_floating_point() else value
            for name, value in load_file(files[WEIGHTS]).items()
        }
        missing, unexpected = model.load_state_dict(weights, strict=False)
        lacking = sorted(set(missing) & set(_own_tensors(model)))
        if lacking or unexpected:
            problem = "missing" if lacking else "of no use"
            raise ValueError(f"weights {(lacking or unexpected)[0]!r} are {problem}")
        model.language_model.tie_weights()
        tokenizer = _read_tokenizer(files[_TOKENIZER], files[_SPECIAL])
        _check_ids(model, tokenizer, config)
        model.eval().generate(torch.zeros(1, config.fingerprint.dimension), max_new_tokens=2)
    except BaseException as error:  # transformers, tokenizers and safetensors raise many kinds
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":  # one of Rust
            raise
        raise InputError(
            f"expected an inverter in {str(folder)!r}, could not read it: {first_line(error)[:500]}; "
            "train or copy it again"
        ) from error
    return model.to(find_device(device)).eval(), tokenizer, config


def _new_model(settings_file: Path, weights_file: Path, config: InverterConfig) -> InverterModel:
    """Builds the model with random weights; torch's generator is not changed.

    The sizes may be untrusted. So the model is first built without memory and compared with the header of the
    weights.

    Raises:
        ValueError: If it is larger than its weights.
    """
    import torch
    from safetensors import safe_open
    from torch.nn.modules.module import register_module_parameter_registration_hook
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

    from dallme.decoders.vec2text.model import InverterModel

    check_transformer(settings_file.parent, weights=False)
    _check_sizes(read_json(settings_file))
    settings = AutoConfig.from_pretrained(
        settings_file.parent, local_files_only=True, trust_remote_code=False
    )
    settings.return_dict = True
    kind: Any = AutoModelForCausalLM if config.kind == "causal" else AutoModelForSeq2SeqLM

    def build() -> InverterModel:
        language_model = kind.from_config(settings, dtype=torch.float32, trust_remote_code=False)
        return InverterModel(language_model, config.kind, config.fingerprint.dimension, config.pseudo_tokens)

    with safe_open(weights_file, framework="pt") as file:
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    left = _COPIES * len(shapes)

    def count(*_: Any) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise ValueError(f"{_MODEL} describes more layers than {WEIGHTS} holds")

    with torch.random.fork_rng(devices=[]):
        hook = register_module_parameter_registration_hook(count)
        try:
            with torch.device("meta"):
                skeleton = build()
        finally:
            hook.remove()
        described = {name: tuple(value.shape) for name, value in skeleton.state_dict().items()}
        for name, shape in shapes.items():
            if described.get(name, shape) != shape:
                raise ValueError(f"expected weights {name!r} of shape {described[name]}, found {shape}")
        if sum(map(prod, described.values())) > _COPIES * sum(map(prod, shapes.values())):
            raise ValueError(f"{_MODEL} describes a larger model than {WEIGHTS} holds")
        if sum(buffer.numel() for buffer in skeleton.buffers()) > _MAX_BUFFERS:
            raise ValueError(f"{_MODEL} describes too many positions")
        return build()


def _check_sizes(settings: Any, key: str = "") -> None:
    """Checks the whole numbers in the configuration of a language model, at any depth.

    Raises:
        ValueError: If one is negative where it counts parts, or larger than any model has it.
    """
    if isinstance(settings, dict):
        for name, value in settings.items():
            _check_sizes(value, name)
    elif isinstance(settings, list):
        for value in settings:
            _check_sizes(value, key)
    elif isinstance(settings, (int, float)) and not isinstance(settings, bool):
        largest = _MAX_COUNT if _COUNTS.search(key) else _MAX_SIZE
        if not abs(settings) <= largest:
            raise ValueError(f"expected {key} of at most {largest:,} in {_MODEL}, found {settings!r:.40}")


def _read_tokenizer(tokenizer_file: Path, special_file: Path) -> Any:
    """Reads a tokenizer and its special tokens.

    Raises:
        ValueError: If a file is damaged.
    """
    from tokenizers import Tokenizer

    special = read_json(special_file)
    if not isinstance(special, dict) or set(special) != {"pad", "bos", "eos"}:
        raise ValueError(f"expected the tokens pad, bos and eos in {_SPECIAL}")
    if not all(value is None or isinstance(value, str) for value in special.values()):
        raise ValueError(f"expected the tokens in {_SPECIAL} as strings")
    document = read_json(tokenizer_file)
    model = document.get("model") if isinstance(document, dict) else None
    if not isinstance(model, dict):
        raise ValueError(f"expected a tokenizer in {_TOKENIZER}")
    prefix = model.get("continuing_subword_prefix") or ""
    for pair in model.get("merges") or ():  # without its prefix a merge ends in a panic of the library
        second = pair.partition(" ")[2] if isinstance(pair, str) else pair[1]
        if not second.startswith(prefix):
            raise ValueError(f"expected merges of pieces with the prefix {prefix!r:.40} in {_TOKENIZER}")
    return wrap_tokenizer(Tokenizer.from_str(json.dumps(document)), **special)


def _check_ids(model: InverterModel, tokenizer: Any, config: InverterConfig) -> None:
    """Checks that all ids have token vectors, and that texts fit the positions.

    Raises:
        ValueError: If not.
    """
    settings = model.config
    rows = model.language_model.get_input_embeddings().weight.shape[0]
    ids = {"pad_token_id": model.pad_id, "eos_token_id": model.end_ids}
    name = "bos_token_id" if config.kind == "causal" else "decoder_start_token_id"
    ids[name] = getattr(settings, name, None)
    for name, value in ids.items():
        for each in value if isinstance(value, list) else [value]:
            if type(each) is not int or not 0 <= each < rows:
                raise ValueError(f"expected {name} from 0 to {rows - 1:,}, found {value!r:.40}")
    largest = max(tokenizer.get_vocab().values(), default=-1)
    if not 0 <= largest < rows:
        raise ValueError(f"expected a tokenizer of at most {rows:,} tokens, found {largest + 1:,}")
    needed = 3 * config.pseudo_tokens + 1 + (2 if config.corrects else 1) * config.max_tokens
    positions = getattr(settings, "max_position_embeddings", None)
    if positions is not None and positions < needed:
        raise ValueError(f"expected {needed:,} positions or more in {_MODEL}, found {positions:,}")


def _own_tensors(model: InverterModel) -> dict[str, torch.Tensor]:
    """The tensors of a model; shared ones under their first name only."""
    tensors: dict[str, torch.Tensor] = {}
    seen: set[int] = set()
    for name, value in model.state_dict().items():
        if value.data_ptr() not in seen:
            seen.add(value.data_ptr())
            tensors[name] = value
    return tensors


def _half(value: torch.Tensor) -> torch.Tensor:
    """A tensor on the CPU as float16, or as float32 where float16 overflows; integers stay."""
    value = value.detach().cpu()
    if not value.is_floating_point():
        return value.contiguous()
    half = value.half()
    return (half if half.isfinite().all() else value.float()).contiguous()


def check_new(path: Path, *, overwrite: bool) -> None:
    """Checks, before any work is done, that an inverter can be written to a folder.

    Raises:
        OutputError: If something is there that may not be replaced. With `overwrite` only files of an
            inverter may that dallme wrote; other files stay.
    """
    check(path, overwrite=overwrite)
    names = {entry.name for entry in path.iterdir()} if path.is_dir() else set()
    if names and not names & {FILE, COMMITTED}:
        raise OutputError(
            f"expected an inverter to replace, found something else at {str(path)!r}; choose another folder"
        )
    check_own(path, sorted(INVERTER_FILES))


def try_writing(path: Path) -> None:
    """Makes and removes a folder where :func:`save` will make one.

    Raises:
        OutputError: If that fails, for example because the name is too long.
    """
    target = path.resolve()
    try:
        place = target if target.is_dir() else target.parent
        os.rmdir(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=PARTIAL, dir=place))
    except OSError as error:
        raise OutputError(
            f"expected to write an inverter to {str(path)!r}, could not: {error.strerror or error}; "
            "nothing was trained; choose another folder"
        ) from error


def card(config: InverterConfig) -> str:
    """Renders the model card: purpose, data and training, scores and limits."""
    training = {name: value for name, value in config.training.items() if name != "history"}
    scores = [{"of": name, **measures} for name, measures in config.scores.items()]
    return (
        f"# Inverter for {config.embedder}\n\nWrites a text whose vector is near a given one. Started from "
        f"`{config.base}` ({config.kind}).\n\n## Data and training\n\n{_lines(training)}\nOn the way, on 100 "
        "held-out texts, by stage (1 the hypothesizer, 2 the "
        f"corrector):\n\n{_table(config.training.get('history', []))}\n## Scores\n\n{_table(scores)}\n## "
        f"Limits\n\n- It decodes vectors of this embedder only ({config.fingerprint.dimension} "
        f"dimensions).\n- It writes at most {config.max_tokens} of its own tokens, in the language and "
        "manner of the texts above.\n- A text that it writes may state what no source says: names and "
        "numbers are guesses.\n- An embedding tells much about its text: treat vectors of private texts as "
        "you treat the texts.\n"
    )


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Renders rows as a Markdown table; missing values are blank."""
    if not rows:
        return "nothing was measured\n"
    head = list(dict.fromkeys(name for row in rows for name in row))
    values = [[row.get(name, "") for name in head] for row in rows]
    body = [[f"{value:.3f}" if isinstance(value, float) else str(value) for value in row] for row in values]
    lines = ([name.replace("_", " ") for name in head], ["---"] * len(head), *body)
    return "".join("| " + " | ".join(cells) + " |\n" for cells in lines)


def _lines(values: Mapping[str, Any]) -> str:
    return "".join(f"- {name.replace('_', ' ')}: {value}\n" for name, value in values.items())
