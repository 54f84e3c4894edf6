"""Texts to vectors: one embedder a file, the contract in base.py."""
