"""Inverters and interrupted trainings on disk."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dallme.atomic import atomic_write, checksum, folder_lock, remove_stale
from dallme.dataset.folder import COMMITTED, INVERTER_FILES, PARTIAL, check, check_own, locate_files, write
from dallme.decoders.vec2text.corpus import Drafts
from dallme.decoders.vec2text.model import FILE, InverterConfig, wrap_tokenizer
from dallme.errors import InputError, OutputError
from dallme.models.checking import check_transformer
from dallme.models.devices import find_device

if TYPE_CHECKING:
    import torch

    from dallme.decoders.vec2text.model import InverterModel

WEIGHTS = "model.safetensors"

_MODEL, _TOKENIZER, _SPECIAL, _CARD = "config.json", "tokenizer.json", "special_tokens.json", "README.md"
_OPTIONS, _STATE, _DRAFTS = "options.json", "state.safetensors", "drafts.safetensors"


def save(
    folder: Path, model: InverterModel, tokenizer: Any, config: InverterConfig, *, overwrite: bool = False
) -> None:
    """Writes an inverter, with weights as float16 to halve the file.

    Args:
        folder: The folder; the new files appear all or none, and other files stay.
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
    from safetensors.torch import load_file
    from tokenizers import Tokenizer

    folder = Path(folder)
    config = InverterConfig.read(folder)
    files = locate_files(folder, INVERTER_FILES)
    try:
        model = _new_model(files[_MODEL].parent, config)
        stored = load_file(files[WEIGHTS])
        weights = {
            name: value.float() if value.is_floating_point() else value for name, value in stored.items()
        }
        missing, unexpected = model.load_state_dict(weights, strict=False)
        lacking = sorted(set(missing) & set(_own_tensors(model)))
        if lacking or unexpected:
            problem = "missing" if lacking else "of no use"
            raise ValueError(f"weights {(lacking or unexpected)[0]!r} are {problem}")
        special = json.loads(files[_SPECIAL].read_text(encoding="utf-8"))
        tokenizer = wrap_tokenizer(Tokenizer.from_file(str(files[_TOKENIZER])), **special)
    except Exception as error:  # transformers, tokenizers and safetensors raise many kinds
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(
            f"expected an inverter in {str(folder)!r}, could not read it: {reason}; train or copy it again"
        ) from error
    model.language_model.tie_weights()
    return model.to(find_device(device)).eval(), tokenizer, config


def _new_model(folder: Path, config: InverterConfig) -> InverterModel:
    """Builds the model with random weights; torch's generator is not changed."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

    from dallme.decoders.vec2text.model import InverterModel

    check_transformer(folder, weights=False)
    settings = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    kind: Any = AutoModelForCausalLM if config.kind == "causal" else AutoModelForSeq2SeqLM
    with torch.random.fork_rng(devices=[]):
        language_model = kind.from_config(settings, dtype=torch.float32, trust_remote_code=False)
        return InverterModel(language_model, config.kind, config.fingerprint.dimension, config.pseudo_tokens)


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
        OutputError: If something is there that may not be replaced. With `overwrite` only files of an inverter
            may that dallme wrote; other files stay.
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
        f"# Inverter for {config.embedder}\n\n"
        f"Writes a text whose vector is near a given one. Started from `{config.base}` ({config.kind}).\n\n"
        f"## Data and training\n\n{_lines(training)}\n"
        f"On the way, on 100 held-out texts, by stage (1 the hypothesizer, 2 the corrector):\n\n"
        f"{_table(config.training.get('history', []))}\n"
        f"## Scores\n\n{_table(scores)}\n"
        f"## Limits\n\n"
        f"- It decodes vectors of this embedder only ({config.fingerprint.dimension} dimensions).\n"
        f"- It writes at most {config.max_tokens} of its own tokens, "
        "in the language and manner of the texts above.\n"
        "- A text that it writes may state what no source says: names and numbers are guesses.\n"
        "- An embedding tells much about its text: treat vectors of private texts as you treat the texts.\n"
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


@dataclass
class TrainingState:
    """Position in a training.

    Attributes:
        stage: 1 for the hypothesizer, 2 for the corrector.
        step: Steps of the stage that are done.
        seconds: Time that the stage has taken.
        loss: Sum of the losses since the last measurement.
        history: Measurements on held-out texts so far.
    """

    stage: int = 1
    step: int = 0
    seconds: float = 0.0
    loss: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Checkpoints:
    """The folder of an unfinished training: ``OUTPUT.partial``.

    Attributes:
        folder: The folder.
    """

    folder: Path

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Makes the folder, and keeps other processes from training there while the block runs.

        Raises:
            OutputError: If another process trains there, or the folder cannot be made.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"expected to write checkpoints to {str(self.folder)!r}, could not: {error.strerror}; "
                "make room or choose another folder"
            ) from error
        with ExitStack() as stack:
            try:
                stack.enter_context(folder_lock(self.folder, wait=False))
            except BlockingIOError:
                raise OutputError(
                    f"expected {str(self.folder)!r} for this training alone, found another that writes "
                    "there; wait for it to end or choose another folder"
                ) from None
            yield

    def open(self, options: Mapping[str, Any], *, resume: bool, overwrite: bool) -> list[str]:
        """Starts a training, or checks that the checkpoints are of the same one.

        Damaged checkpoints are removed and trained again.

        Returns:
            Notes for the user.

        Raises:
            InputError: If they were made with other options.
            OutputError: If there are any and `resume` is not given, or the folder cannot be written.
        """
        remove_stale(self.folder)
        path, notes = self.folder / _OPTIONS, []
        if overwrite and not resume:
            self._clear()
        if path.exists() and not resume:
            raise OutputError(
                f"expected no training under way, found {str(self.folder)!r}; "
                "go on with --resume, or --overwrite"
            )
        if path.exists() and (damage := self._damage()):
            self._clear()
            notes = [f"the checkpoint in {self.folder} is damaged ({damage}); the training begins anew"]
        if path.exists():
            before = self._options()
            changed = [
                f"{name} {before.get(name)!r} against {options.get(name)!r}"
                for name in sorted({*before, *options})
                if before.get(name) != options.get(name)
            ]
            if changed:
                raise InputError(
                    f"expected the options of the interrupted training in {str(self.folder)!r}, "
                    f"found others: {', '.join(changed)}; give the same, or --overwrite without --resume"
                )
            return notes
        content = {"options": dict(options), "crc32": _options_checksum(options)}
        self._write(_OPTIONS, json.dumps(content, indent=2, sort_keys=True).encode())
        return notes

    def save(self, state: TrainingState, model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Saves weights, optimizer and state in one file, atomically.

        Raises:
            OutputError: If it cannot be written; the last checkpoint stays.
        """
        from safetensors.torch import save

        tensors = {}
        for name, parameter in _trained(model).items():
            tensors[f"weight/{name}"] = parameter.detach().cpu()
            for kind, value in optimizer.state.get(parameter, {}).items():
                tensors[f"{kind}/{name}"] = value.cpu()
        encoded = json.dumps(vars(state))
        arrays = {name: _bytes(tensor) for name, tensor in tensors.items()}
        metadata = {"state": encoded, "crc32": _checksum(arrays, encoded)}
        self._write(_STATE, save(tensors, metadata=metadata))

    def restore(
        self, model: torch.nn.Module, optimizer: torch.optim.Optimizer | None = None
    ) -> TrainingState | None:
        """Restores the weights and the optimizer of the last checkpoint; returns None if there is none."""
        import torch
        from safetensors import safe_open

        path = self.folder / _STATE
        if not path.exists():
            return None
        with safe_open(path, framework="pt") as file, torch.no_grad():
            state = TrainingState(**json.loads(file.metadata()["state"]))
            for key in file.keys():  # noqa: SIM118
                kind, _, name = key.partition("/")
                parameter, value = _trained(model)[name], file.get_tensor(key)
                if kind == "weight":
                    parameter.copy_(value)
                elif optimizer is not None:
                    optimizer.state[parameter][kind] = value.to(parameter.device)
        return state

    def save_drafts(self, drafts: Drafts) -> None:
        """Saves the texts that the corrector learns from."""
        from safetensors.numpy import save

        arrays = {
            "rows": drafts.rows,
            "vectors": drafts.vectors,
            "lengths": np.array([len(row) for row in drafts.ids], dtype=np.int64),
            "ids": np.concatenate(drafts.ids),
        }
        arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        self._write(_DRAFTS, save(arrays, metadata={"crc32": _checksum(arrays)}))

    def drafts(self) -> Drafts | None:
        """Returns the texts that the corrector learns from, or None if they are not written yet."""
        from safetensors.numpy import load

        path = self.folder / _DRAFTS
        if not path.exists():
            return None
        arrays = load(path.read_bytes())
        ids = np.split(arrays["ids"], np.cumsum(arrays["lengths"])[:-1])
        return Drafts(arrays["rows"], ids, arrays["vectors"])

    def close(self) -> None:
        """Removes the folder, after the inverter was written."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _clear(self) -> None:
        """Removes the checkpoints, the options first: without them there is no training to continue."""
        for name in (_OPTIONS, _STATE, _DRAFTS):
            (self.folder / name).unlink(missing_ok=True)

    def _options(self) -> dict[str, Any]:
        """Returns the options that the training was started with.

        Raises:
            ValueError: If the file is damaged.
        """
        content = json.loads((self.folder / _OPTIONS).read_text(encoding="utf-8"))
        if content["crc32"] != _options_checksum(content["options"]):
            raise ValueError(f"{_OPTIONS} has a wrong checksum")
        return dict(content["options"])

    def _damage(self) -> str:
        """Returns what is wrong with the files; blank if they are whole."""
        from safetensors import SafetensorError

        try:
            self._options()
            stage = 1
            if (self.folder / _STATE).exists():
                stage = TrainingState(**json.loads(_verify(self.folder / _STATE))).stage
            if (self.folder / _DRAFTS).exists():
                _verify(self.folder / _DRAFTS)
            elif stage == 2:
                return f"{_DRAFTS} is missing"
        except (OSError, ValueError, TypeError, KeyError, SafetensorError) as error:
            return (str(error) or type(error).__name__).splitlines()[0]
        return ""

    def _write(self, name: str, content: bytes) -> None:
        try:
            atomic_write(self.folder / name, content)
        except OSError as error:
            raise OutputError(
                f"expected to write a checkpoint to {str(self.folder)!r}, could not: "
                f"{error.strerror or error}; make room, then --resume"
            ) from error


def _options_checksum(options: Mapping[str, Any]) -> str:
    return checksum(json.dumps(options, sort_keys=True).encode())


def _verify(path: Path) -> str:
    """Compares a file with its checksum; returns the state in it.

    Raises:
        ValueError: If they differ.
    """
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
        arrays = {name: _bytes(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118
    if metadata.get("crc32") != _checksum(arrays, metadata.get("state", "")):
        raise ValueError(f"{path.name} has a wrong checksum")
    return str(metadata.get("state", ""))


def _checksum(arrays: Mapping[str, np.ndarray], state: str = "") -> str:
    parts = [part for name in sorted(arrays) for part in (name.encode(), arrays[name].data)]
    return checksum(state.encode(), *parts)


def _bytes(tensor: torch.Tensor) -> np.ndarray:
    """The bytes of a tensor, uint8."""
    import torch

    array: np.ndarray = tensor.contiguous().reshape(-1).view(torch.uint8).numpy()
    return array


def _trained(model: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
