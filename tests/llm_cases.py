"""A client of a local chat server, and clusters of the rows of `decoder_cases.py`."""

from __future__ import annotations

from typing import Any

from chat_server import ChatServer
from dallme.decoders.llm import LLMDecoder

CLUSTERS = ([0, 1], [6, 7, 8], [2, 3], [9, 10])


def client(server: ChatServer, **options: Any) -> LLMDecoder:
    return LLMDecoder("small", base_url=server.url, first_pause=0.01, **options)
