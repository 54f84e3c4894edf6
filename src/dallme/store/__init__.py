"""Embeddings on disk: content-addressed, resumable, larger than memory."""

from dallme.store.embedding import embed_with_store
from dallme.store.keys import text_keys
from dallme.store.table import EmbeddingStore, VectorTable

__all__ = ["EmbeddingStore", "VectorTable", "embed_with_store", "text_keys"]
