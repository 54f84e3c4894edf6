"""Devices and precisions of models."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from dallme.errors import UnknownNameError

if TYPE_CHECKING:
    import torch

#: Precisions of the computation; ``auto`` is bfloat16 where the device multiplies it in hardware.
PRECISIONS = ("auto", "bfloat16", "float32")
#: Devices by torch's names; ``auto`` takes cuda, else mps, else cpu.
DEVICES = ("auto", "cpu", "cuda", "mps")


def check_device(device: str, precision: str) -> None:
    """Checks both names; nothing is loaded.

    Raises:
        UnknownNameError: If one is not known.
    """
    if precision not in PRECISIONS:
        raise UnknownNameError("precision", precision, PRECISIONS)
    if device.split(":")[0] not in DEVICES:
        raise UnknownNameError("device", device, DEVICES)


def find_device(device: str) -> torch.device:
    """Returns the device of that name; ``auto`` is the fastest one."""
    import torch

    if device != "auto":
        return torch.device(device)
    return torch.device(
        "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    )


def find_precision(precision: str, device: torch.device) -> str:
    """Returns ``bfloat16`` or ``float32``."""
    if precision != "auto":
        return precision
    return "bfloat16" if computes_bfloat16(device.type) else "float32"


def computes_bfloat16(device: str) -> bool:
    """Returns whether the device multiplies bfloat16 in hardware; emulation would be slower than float32."""
    import torch

    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device == "cpu":
        names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        return any(getattr(torch.cpu, name, bool)() for name in names)
    return False


@contextmanager
def quiet_loading() -> Iterator[None]:
    """Hides the progress bar of transformers while a model loads."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
