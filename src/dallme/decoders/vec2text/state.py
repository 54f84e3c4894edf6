"""Checkpoints: the files from which an interrupted training continues with the same result."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dallme.decoders.vec2text.corpus import Drafts
from dallme.errors import InputError, OutputError, first_line
from dallme.files.atomic import atomic_write, checksum, folder_lock, remove_stale

if TYPE_CHECKING:
    import torch

_OPTIONS, _STATE, _DRAFTS = "options.json", "state.safetensors", "drafts.safetensors"


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
        """Creates the folder and locks it for this process while the block runs.

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
        """Starts a training, or checks that the checkpoints belong to the same training.

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
                "continue with --resume, or --overwrite"
            )
        if path.exists() and (damage := self._damage()):
            self._clear()
            notes = [f"the checkpoint in {self.folder} is damaged ({damage}); the training starts again"]
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
            return first_line(error)
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
