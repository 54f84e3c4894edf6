"""Embeddings on disk: content-addressed, resumable, larger than memory."""
