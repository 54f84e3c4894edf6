"""Texts found for vectors without training: a language model proposes how to go on, the embedder says which way is nearer.

Reference: Zhang, Morris, Shmatikov, "Universal Zero-shot Embedding Inversion", 2025 (arXiv 2504.00147): this is its
first stage.
"""
