"""Loading of sentence-transformers models from checked folders."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dallme.errors import DallmeError
from dallme.models.checking import check_sentence_transformer
from dallme.models.devices import quiet_loading

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


def load_sentence_transformer(folder: Path, name: str, device: str) -> SentenceTransformer:
    """Loads a model without running code of its folder.

    Args:
        folder: Folder of the model.
        name: Name of the model in errors.
        device: Device as torch names it.

    Raises:
        DallmeError: If the folder is unsafe, has no weights as ``.safetensors``, or cannot be loaded.
    """
    from sentence_transformers import SentenceTransformer

    check_sentence_transformer(folder)
    if not any(folder.rglob("*.safetensors")):
        raise DallmeError(
            f"expected weights as .safetensors in the model {name!r}, found none; choose a revision "
            "that has them, or convert the model: other formats can run code when they are read"
        )
    try:
        with quiet_loading():
            return SentenceTransformer(
                str(folder),
                device=device,
                model_kwargs={"use_safetensors": True},
                local_files_only=True,
                trust_remote_code=False,
            )
    except Exception as error:  # the libraries raise many kinds: a missing file, damaged weights, no device
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DallmeError(
            f"expected a sentence-transformers model in {name!r}, could not load it: {reason}"
        ) from error
