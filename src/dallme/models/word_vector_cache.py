"""A file of word vectors, converted once to what can be mapped into memory."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Iterable
from pathlib import Path
from uuid import uuid4

import numpy as np

from dallme.durable import TEMPORARY, replace_file
from dallme.errors import InputError
from dallme.models.locate import sha256_of
from dallme.models.word_vector_formats import Block, read_blocks

#: Part of the name of a converted file; another number makes all be converted anew.
_VERSION = 1
#: Seconds after which a temporary file is taken for the remains of a killed process.
_STALE_SECONDS = 3600


def cache_folder() -> Path:
    """Where converted files are kept, ``<key>.json`` (words) and ``<key>.f32`` (vectors, four bytes a number)."""
    from platformdirs import user_cache_path

    return user_cache_path("dallme") / "word-vectors"


def read_file(path: Path, member: str | None = None) -> tuple[list[str], np.ndarray, str]:
    """Reads a file of word vectors, from the cache if it was read before, whatever its name was then.

    Args:
        path: The file.
        member: The file in it, if it is an archive of several.

    Returns:
        The v words; their vectors, float32 of shape (v, d), mapped from the cache where that can be written; and a hash of
        the content.

    Raises:
        InputError: If it cannot be read, or is damaged.
    """
    try:
        content = sha256_of([path])
    except OSError as error:
        raise InputError(f"expected word vectors in {str(path)!r}, cannot read it: {error.strerror}") from None
    # What the bytes mean depends on the ending of the name as well.
    endings = [ending for ending in path.suffixes if ending in (".bin", ".gz", ".zip")]
    key = hashlib.sha256(json.dumps([_VERSION, content, endings, member]).encode()).hexdigest()
    kept = cache_folder() / key
    with contextlib.suppress(OSError, ValueError, KeyError):  # not there yet, or damaged
        return *_load(kept), key
    with contextlib.suppress(OSError):  # a full disk, a read-only home: it is read into memory
        _convert(read_blocks(path, member), kept)
        return *_load(kept), key
    words, vectors = zip(*read_blocks(path, member), strict=True)
    return [word for block in words for word in block], np.concatenate(vectors), key


def _load(kept: Path) -> tuple[list[str], np.ndarray]:
    described = json.loads(kept.with_suffix(".json").read_text(encoding="utf-8"))
    words, dimension = described["words"], described["dimension"]
    vectors = np.memmap(kept.with_suffix(".f32"), dtype="<f4", mode="r")
    return words, vectors.reshape(len(words), dimension)


def _convert(blocks: Iterable[Block], kept: Path) -> None:
    """Writes the two files, the vectors last and each whole or not at all."""
    kept.parent.mkdir(parents=True, exist_ok=True)
    for path in kept.parent.glob(f"*{TEMPORARY}"):
        with contextlib.suppress(OSError):  # another process was faster
            if time.time() - path.stat().st_mtime > _STALE_SECONDS:
                path.unlink()
    temporary = kept.with_suffix(f".{uuid4().hex[:8]}{TEMPORARY}")
    words: list[str] = []
    dimension = 0
    try:
        with temporary.open("xb") as file:
            for some, vectors in blocks:
                words += some
                dimension = vectors.shape[1]
                file.write(np.ascontiguousarray(vectors, dtype="<f4").data)
            file.flush()
            os.fsync(file.fileno())
        replace_file(kept.with_suffix(".json"), json.dumps({"dimension": dimension, "words": words}).encode())
        os.replace(temporary, kept.with_suffix(".f32"))
    finally:
        with contextlib.suppress(OSError):  # it is there only if something went wrong
            temporary.unlink()
