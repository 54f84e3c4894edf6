"""Fixtures of the tests of word vectors."""

from __future__ import annotations

from pathlib import Path

import pytest

from dallme.embedders.glove import GloVeEmbedder
from dallme.models import word_vectors as word_vector_cache
from word_vector_cases import TEXT, write_file


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A cache folder of the test's own."""
    monkeypatch.setattr(word_vector_cache, "cache_folder", lambda: tmp_path / "cache")
    return tmp_path / "cache"


@pytest.fixture
def source(tmp_path: Path) -> str:
    return write_file(tmp_path / "glove.tiny.3d.txt", TEXT)


@pytest.fixture(scope="module")
def wheel() -> GloVeEmbedder:
    return GloVeEmbedder()
