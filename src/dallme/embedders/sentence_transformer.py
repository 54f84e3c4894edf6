"""Any sentence-transformers model, with batches and a number format that suit the processor."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from dallme.data import Fingerprint
from dallme.embedders.base import Embedder, release_of
from dallme.embedders.prompts import prefix_for
from dallme.files.atomic import sha256_of
from dallme.models.devices import check_device, find_device, find_precision
from dallme.models.language import load_sentence_transformer
from dallme.models.locate import SENTENCE_TRANSFORMERS, as_folder, canonical_name, locate
from dallme.validation import check_positive

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer

#: Lengths are padded to a multiple of this, so that few shapes occur and each is compiled once.
PAD_MULTIPLE = 8

#: Tokens per batch, padding included: as many as fit a processor's caches, or fill a GPU
#: (benchmarks/embedding_speed.json).
BATCH_TOKENS = {"cpu": 4096}
BATCH_TOKENS_ELSEWHERE = 65_536


#: Files, besides the weights, that can change a vector: module settings, tokenizers and vocabularies.
_SETTINGS = (".json", ".txt", ".model", ".tiktoken", ".jinja")
#: Names of files and folders that no vector depends on.
_IGNORED = {"data_config.json", "requirements.txt", "onnx", "openvino"}
#: Hash of weights to that of their published settings; the weights alone identify these models.
_PUBLISHED_SETTINGS = {
    "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db": (
        "43519147602be223cf100b33e1cf275a2c44209fb0a356d6c31bc7b5bc8e941a"
    )
}


def _settings_hash(folder: Path) -> str:
    """SHA-256 of names, sizes and contents of the files in :data:`_SETTINGS`."""
    files = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.suffix in _SETTINGS)
    parts: list[str | Path] = []
    for file in files:
        if not _IGNORED.intersection(file.parts) and not any(part.startswith(".") for part in file.parts):
            path = folder / file
            parts += [f"{file.as_posix()}\0{path.stat().st_size}\0", path]
    return sha256_of(parts)


@dataclass(frozen=True)
class SentenceTransformerEmbedder(Embedder):
    """Runs a sentence-transformers model with its own tokenizer, pooling and normalisation.

    The transformer runs in bfloat16 where the processor computes it in hardware. Pooling, projection and
    normalisation run in float32. The vectors stay within cosine 0.999 of those in float32.

    Attributes:
        model: Folder or Hub id.
        max_tokens: Tokens read per text, special tokens included; 128 is the paper's limit (Appendix B.1).
            A model with a lower limit reads fewer.
        batch_tokens: Tokens per batch, padding included; the default depends on the device.
        precision: ``auto``, ``bfloat16`` or ``float32``.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
    """

    argument: ClassVar[str] = "model"

    model: str = "all-MiniLM-L6-v2"
    max_tokens: int = 128
    batch_tokens: int | None = None
    precision: str = "auto"
    device: str = "auto"

    def __post_init__(self) -> None:
        """Checks the options; nothing is loaded."""
        check_positive(self.max_tokens, "max_tokens")
        if self.batch_tokens is not None:
            check_positive(self.batch_tokens, "batch_tokens")
        check_device(self.device, self.precision)

    @property
    def name(self) -> str:
        """The Hub id, or the name of the folder."""
        folder = as_folder(self.model)
        return folder.resolve().name if folder else canonical_name(self.model)

    def find(self) -> None:
        """Locates the model's folder; fetches it from the Hub if this machine has none."""
        _ = self._folder

    def fingerprint(self, prompt: str | None = None) -> Fingerprint:
        """Returns model, hash of its files, pooling, limit, number format and prompt.

        Versions of libraries are not part of it, or each release would embed every text again. They are
        stored beside the vectors and compared by :mod:`dallme.embedders.cache.probe`.
        """
        return Fingerprint(
            model=self.name,
            weights=self._weights_hash,
            dimension=int(self._loaded.get_embedding_dimension() or 0),
            prompt=self.prefix(prompt) or None,
            pooling=self._pooling,
            max_tokens=self.token_limit,
            precision=self._resolved_precision,
        )

    @property
    def libraries(self) -> Mapping[str, str]:
        """Releases of the packages that tokenise and run the model."""
        return release_of("sentence-transformers", "transformers", "tokenizers")

    def prefix(self, prompt: str | None = None) -> str:
        """Returns the prefix of the model's own configuration, or else of its family."""
        return prefix_for(self.name, prompt, self._loaded.prompts)

    def count_tokens(self, texts: Sequence[str]) -> np.ndarray:
        """Counts the tokens of each text, special tokens included; int64 of shape (n,)."""
        tokenizer = self._tokenizer
        if tokenizer is None:
            return super().count_tokens(texts)
        token_ids = tokenizer(list(texts), truncation=False, verbose=False)["input_ids"]
        return np.array([len(ids) for ids in token_ids], dtype=np.int64)

    def _embed(self, texts: list[str], prompt: str | None) -> np.ndarray:
        import torch

        vectors: np.ndarray | None = None
        with torch.inference_mode():
            for rows in self._batches(texts):
                batch = self._embed_batch([texts[row] for row in rows], prompt)
                if vectors is None:
                    vectors = np.empty((len(texts), batch.shape[1]), dtype=np.float32)
                vectors[rows] = batch
        assert vectors is not None
        return vectors

    def _batches(self, texts: list[str]) -> Iterator[list[int]]:
        """Yields the positions of texts of similar length, as many as fit the tokens of a batch."""
        budget = self.batch_tokens or BATCH_TOKENS.get(self._torch_device.type, BATCH_TOKENS_ELSEWHERE)
        lengths = np.minimum(self.count_tokens(texts), self.token_limit)
        batch: list[int] = []
        for row in np.argsort(lengths, kind="stable").tolist():
            padded = -(-int(lengths[row]) // PAD_MULTIPLE) * PAD_MULTIPLE
            if batch and (len(batch) + 1) * padded > budget:
                yield batch
                batch = []
            batch.append(row)
        yield batch

    def _embed_batch(self, texts: list[str], prompt: str | None) -> np.ndarray:
        """Runs one batch through the modules: the first in the fast number format, the others in float32."""
        import torch

        limit = self.token_limit
        # The tokenizer pads to a multiple only where it cuts at one.
        multiple = None if limit % PAD_MULTIPLE else PAD_MULTIPLE
        limits = {"truncation": True, "max_length": limit, "pad_to_multiple_of": multiple}
        features = self._loaded.preprocess(
            texts,
            prompt=self.prefix(prompt) or None,
            processing_kwargs={"text": limits} if self._tokenizer else None,
        )
        features = {
            key: value.to(self._torch_device) if isinstance(value, torch.Tensor) else value
            for key, value in features.items()
        }
        for module in self._loaded:
            features = module(features)
            features |= {
                key: features[key].float()
                for key in ("token_embeddings", "sentence_embedding")
                if key in features
            }
        return np.asarray(features["sentence_embedding"].float().cpu().numpy())

    @cached_property
    def _folder(self) -> Path:
        return locate(self.model, SENTENCE_TRANSFORMERS)

    @cached_property
    def _loaded(self) -> SentenceTransformer:
        import torch

        model = load_sentence_transformer(self._folder, self.model, str(self._torch_device))
        model.eval()
        if self._resolved_precision == "bfloat16":
            model[0].to(torch.bfloat16)
        return model

    @property
    def _tokenizer(self) -> Any:
        """The tokenizer of a transformer; None for models of other kinds."""
        tokenizer = getattr(self._loaded, "tokenizer", None)
        return tokenizer if callable(tokenizer) else None

    @property
    def token_limit(self) -> int:
        """Tokens read per text: `max_tokens`, or the model's own limit if that is lower."""
        limit = self._loaded.max_seq_length
        return min(self.max_tokens, limit) if limit else self.max_tokens

    @property
    def _pooling(self) -> str:
        modes = [str(getattr(module, "pooling_mode", "")) for module in self._loaded]
        return next((mode for mode in modes if mode), "none")

    @cached_property
    def earlier_weights(self) -> str:
        """SHA-256 of the weights alone, which stood in the fingerprints of version 0.1.

        Manifests with it are read. Stored vectors are not: another tokenizer may have made them.
        """
        return sha256_of(sorted(self._folder.rglob("*.safetensors")))

    @cached_property
    def _weights_hash(self) -> str:
        """SHA-256 of the weights, and of tokenizer and module settings unless they are the published ones."""
        weights, settings = self.earlier_weights, _settings_hash(self._folder)
        return weights if _PUBLISHED_SETTINGS.get(weights) == settings else sha256_of([weights, settings])

    @cached_property
    def _torch_device(self) -> torch.device:
        return find_device(self.device)

    @cached_property
    def _resolved_precision(self) -> str:
        return find_precision(self.precision, self._torch_device)
