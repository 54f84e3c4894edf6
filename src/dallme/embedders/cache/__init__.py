"""Embeddings on disk: content-addressed, resumable, larger than memory."""

from dallme.embedders.cache.store import CachedEmbedder, EmbeddingStore, embed_with_store
from dallme.embedders.cache.table import VectorTable
from dallme.text import text_keys

__all__ = ["CachedEmbedder", "EmbeddingStore", "VectorTable", "embed_with_store", "text_keys"]
