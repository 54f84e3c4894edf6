"""Texts that every embedder embeds, and the name of the real model."""

from __future__ import annotations

MINILM = "sentence-transformers/all-MiniLM-L6-v2"


TEXTS = [
    "a fine film",
    "A fine film!",
    "dull, dull, dull",
    "<b>très</b> bien &amp; 很好 😀",
    "x",
    "a longer sentence about nothing in particular " * 3,
    "the story of a cook who learns to paint",
]


LONG = "a very long sentence about nothing in particular " * 40
