"""A client of the local server of OpenAI's protocol, and texts for it."""

from __future__ import annotations

from dallme.embedders.hashing import HashingEmbedder
from dallme.embedders.openai import OpenAIEmbedder
from openai_server import OpenAIServer

HASHING = HashingEmbedder(32)


TEXTS = [f"text number {row} of some words" for row in range(60)]


KEY = "sk-planted-8d1c5a7e3f"


def client(server: OpenAIServer, **options: object) -> OpenAIEmbedder:
    """An embedder that asks the server for 20 texts at a time, and does not wait long."""
    given = {
        "base_url": server.url,
        "dimensions": 32,
        "max_inputs": 20,
        "first_pause": 0.01,
        "price": 1.0,
    } | options
    return OpenAIEmbedder("m", **given)  # type: ignore[arg-type]
