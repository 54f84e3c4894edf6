"""Fixtures of the decoder `llm`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from chat_server import ChatServer, words_of_the_prompt
from dallme.data import Prototypes
from dallme.decoders.base import Context
from decoder_cases import make_prototypes
from llm_cases import CLUSTERS


@pytest.fixture(autouse=True)
def no_surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "DALLME_PRICES"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with ChatServer(writer=words_of_the_prompt) as running:
        yield running


@pytest.fixture
def films(films: Context, tmp_path: Path) -> Context:
    """Two classes of films, with a folder for answers."""
    return replace(films, max_tokens=24, answers=tmp_path / "answers")


@pytest.fixture
def prototypes(films: Context) -> Prototypes:
    return make_prototypes(films, CLUSTERS)
