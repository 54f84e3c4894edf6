"""Fixtures of the embedder `openai`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from openai_cases import HASHING
from openai_server import OpenAIServer


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "DALLME_PRICES"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    with OpenAIServer(HASHING) as running:
        yield running
