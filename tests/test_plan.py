"""Cost of embedding, before it is done; and the options of services on the command line."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from dallme.cli.main import _status
from dallme.cli.options import configure_embedder
from dallme.embedders.base import EncoderEmbedder
from dallme.embedders.cache import EmbeddingStore, embed_with_store
from dallme.embedders.cost import make_plan
from dallme.embedders.hashing import HashingEmbedder
from dallme.embedders.openai import OpenAIEmbedder
from dallme.embedders.sentence_transformer import SentenceTransformerEmbedder
from dallme.errors import InputError
from dallme.readers import read
from dallme.services.pricing import count_tokens
from openai_server import OpenAIServer

TEXTS = [f"text number {row} of some words" for row in range(60)]
HASHING = HashingEmbedder(32)

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def own_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "DALLME_PRICES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DALLME_STORE", str(tmp_path / "store"))


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    with OpenAIServer(HASHING) as running:
        yield running


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "rows.csv"
    path.write_text("text,label\n" + "".join(f"{text},{row % 2}\n" for row, text in enumerate(TEXTS)))
    return path


@pytest.fixture
def dallme(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs the command in this process; gives its exit status, standard output and standard error."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["dallme", *map(str, arguments)])
        status = _status()
        shown = capsys.readouterr()
        return status, shown.out, shown.err

    return run


def test_a_plan_for_openai_counts_everything_and_needs_no_key() -> None:
    plan = make_plan(OpenAIEmbedder(max_inputs=25, tokens_per_minute=210), [*TEXTS, *TEXTS[:10]])
    tokens = int(count_tokens(TEXTS).sum())
    assert tokens == 420
    assert (plan.rows, plan.distinct, plan.stored, plan.to_embed) == (70, 60, 0, 60)
    assert (plan.tokens, plan.tokens_are, plan.cut, plan.token_limit, plan.requests) == (
        420,
        "exact",
        0,
        8192,
        3,
    )
    assert plan.price_usd == pytest.approx(420 * 0.13 / 1e6)
    assert plan.price_is == "$0.13 per million tokens, copies of OpenAI's model pages, as of 2026-11-23"
    assert (plan.seconds, plan.seconds_are) == (120.0, "at 3,000 requests and 210 tokens a minute")
    assert plan.disk_bytes == 60 * (16 + 4 * 3072)
    assert plan.notes == ()


def test_a_prompt_counts_and_long_texts_are_cut() -> None:
    plan = make_plan(OpenAIEmbedder(), ["word " * 9000, "word"], prompt="topic")
    assert (plan.tokens, plan.cut) == (8192 + 10, 1)


def test_what_the_store_holds_is_not_planned(server: OpenAIServer, tmp_path: Path) -> None:
    store = EmbeddingStore(tmp_path / "store")
    embedder = OpenAIEmbedder("m", base_url=server.url, price=2.0)  # the server alone knows the dimension
    before = make_plan(embedder, TEXTS, store=store)
    assert (before.stored, before.disk_bytes, before.price_usd) == (0, None, pytest.approx(840 / 1e6))
    assert before.notes == (
        "the length of the vectors is known after the first request; set it now with --set embedder.dimensions=N",
    )
    assert server.requests == 0
    embed_with_store(embedder, TEXTS[:45], store=store)
    asked = server.requests
    after = make_plan(OpenAIEmbedder("m", base_url=server.url), TEXTS, store=store)
    assert (after.stored, after.to_embed, after.tokens) == (45, 15, int(count_tokens(TEXTS[45:]).sum()))
    assert after.disk_bytes == 15 * (16 + 4 * 32)
    assert after.price_usd is None
    assert after.seconds is None
    assert after.notes == ()
    assert make_plan(OpenAIEmbedder("m", base_url=server.url), TEXTS, store=store, prompt="topic").stored == 0
    assert server.requests == asked


def test_what_was_planned_is_what_is_sent_and_paid(server: OpenAIServer) -> None:
    embedder = OpenAIEmbedder("m", base_url=server.url, dimensions=32, max_inputs=7, price=3.0, max_tokens=5)
    plan = make_plan(embedder, TEXTS, prompt="note: ")
    embedder.embed(TEXTS, prompt="note: ")
    assert server.requests == plan.requests == 9
    assert embedder.spent_usd == pytest.approx(plan.price_usd)
    assert embedder.notes == (f"openai:m: {plan.cut} texts are cut at 5 tokens",)


def test_a_model_on_this_machine_is_timed_on_a_sample(minilm: SentenceTransformerEmbedder) -> None:
    plan = make_plan(minilm, [*TEXTS[:10], "word " * 200])
    assert (plan.requests, plan.price_usd, plan.price_is) == (None, 0.0, "on this machine")
    assert (plan.tokens_are, plan.cut, plan.token_limit) == ("exact", 1, 128)
    assert plan.tokens == minilm.count_tokens(TEXTS[:10]).sum() + 128
    assert plan.seconds is not None
    assert plan.seconds > 0
    assert plan.seconds_are == "measured on 11 of the texts"
    assert plan.disk_bytes == 11 * (16 + 4 * 384)


def test_no_more_than_the_sample_is_embedded() -> None:
    seen: list[str] = []

    class Encoder:
        def encode(self, texts: list[str]) -> np.ndarray:
            seen.extend(texts)
            return np.ones((len(texts), 2))

    plan = make_plan(EncoderEmbedder(Encoder()), [f"{text} {row}" for row in range(5) for text in TEXTS])
    assert plan.seconds_are == "measured on 64 of the texts"
    assert len(set(seen) - {"dimension"}) == 64
    assert plan.tokens_are == "words and punctuation marks"


def test_a_full_store_leaves_nothing_to_do(tmp_path: Path) -> None:
    store = EmbeddingStore(tmp_path)
    embed_with_store(HASHING, TEXTS, store=store)
    plan = make_plan(HASHING, TEXTS, store=store)
    assert (plan.stored, plan.to_embed, plan.tokens, plan.seconds, plan.disk_bytes) == (60, 0, 0, 0.0, 0)
    assert plan.seconds_are == "nothing is left to do"
    full = OpenAIEmbedder("m", base_url="http://localhost/v1", dimensions=32)
    store.table(full.fingerprint()).append(*_rows(TEXTS))
    assert make_plan(full, TEXTS, store=store).requests == 0


def _rows(texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    from dallme.embedders.cache import text_keys

    return text_keys(texts), HASHING.embed(texts)


def test_a_plan_grows_with_the_rows() -> None:
    plan = make_plan(OpenAIEmbedder(), TEXTS)
    larger = plan.for_rows(6000)
    assert (larger.rows, larger.to_embed, larger.tokens, larger.requests) == (6000, 6000, 42_000, 100)
    assert larger.price_usd == pytest.approx(42_000 * 0.13 / 1e6)
    assert larger.notes == ("scaled from 60 rows to 6,000",)
    with pytest.raises(InputError, match="expected rows to be a whole number of at least 1, found 0"):
        plan.for_rows(0)


def test_the_papers_example(shared_data: Path) -> None:
    """Section 5.8: embedding the 120,000 texts of AG-News costs about $1.7.

    No single pass gives that at the prices of the table: text-embedding-3-large costs $0.78, both models
    once $1.38. Two passes of text-embedding-3-large, without and with a prompt (the pair of the paper's
    Table 3), cost $1.70; that the authors added these up is our reading.
    """
    texts = read(shared_data / "ag_news" / "train.parquet").texts

    def usd(model: str, prompt: str | None = None) -> float:
        return (
            make_plan(OpenAIEmbedder(f"text-embedding-{model}"), texts, prompt=prompt)
            .for_rows(120_000)
            .price_usd
            or 0
        )

    assert usd("3-large") == pytest.approx(0.78, abs=0.005)
    assert usd("ada-002") == pytest.approx(0.60, abs=0.005)
    assert usd("3-large") + usd("ada-002") == pytest.approx(1.38, abs=0.005)
    assert usd("3-large") + usd("3-large", "topic") == pytest.approx(1.70, abs=0.005)
    assert usd("3-large", "topic") + usd("ada-002", "topic") == pytest.approx(1.62, abs=0.005)


# --- the command line


def test_plan_prints_what_it_found(dallme: Command, source: Path) -> None:
    status, out, err = dallme(
        "plan", source, "--embedder", "openai:text-embedding-ada-002", "--rows", 600_000
    )
    assert status == 0
    assert out.splitlines() == [
        "embedder        openai:text-embedding-ada-002",
        "rows            600,000",
        "distinct texts  600,000",
        "in the store    0",
        "to embed        600,000",
        "tokens          4,200,000 (exact)",
        "texts cut       0 (longer than 8,192 tokens)",
        "requests        10,000",
        "price           $0.42 ($0.10 per million tokens, copies of OpenAI's model pages, as of 2026-11-23)",
        "time            about 4 min (at 3,000 requests and 1,000,000 tokens a minute)",
        "disk            3,696.0 MB",
    ]
    assert "note: scaled from 60 rows to 600,000" in err


def test_plan_says_what_it_does_not_know(dallme: Command, source: Path) -> None:
    status, out, err = dallme("plan", source, "--embedder", "openai:m", "--base-url", "http://127.0.0.1:9/v1")
    assert status == 0
    assert "price           not known (set it with --price)\n" in out
    assert "time            not known (the speed of the service is not known)\n" in out
    assert "disk            not known\n" in out
    assert "estimated with the tokenizer of OpenAI's models" in out
    assert "note: the length of the vectors is known after the first request" in err


def test_plan_gives_json(dallme: Command, source: Path) -> None:
    status, out, _ = dallme(
        "plan", source, "--embedder", "openai", "--dimensions", 256, "--price", 5, "--json"
    )
    found = json.loads(out)
    assert status == 0
    assert (found["tokens"], found["requests"], found["disk_bytes"]) == (420, 1, 60 * (16 + 1024))
    assert found["price_usd"] == pytest.approx(420 * 5 / 1e6)
    assert found["price_is"] == "$5.00 per million tokens, as given"


def test_distill_takes_the_options_of_a_service(
    dallme: Command, source: Path, server: OpenAIServer, tmp_path: Path
) -> None:
    arguments = [
        "distill",
        source,
        "--per-class",
        2,
        "--embedder",
        "openai:m",
        "--base-url",
        server.url,
        "--set",
        "embedder.dimensions=32",
    ]
    status, _, err = dallme(*arguments, "--price", 100, "--budget-usd", 0.0001, "--output", tmp_path / "none")
    assert status == 2
    said = [line for line in err.splitlines() if not line.startswith("note: ")]
    assert len(said) == 1
    assert said[0].startswith(
        "error: expected to stay within the budget of $0.0001, stopped before a request of about $0.0420"
    )
    assert server.requests == 0
    status, out, _ = dallme(
        *arguments, "--price", 100, "--budget-usd", 1, "--output", tmp_path / "out", "--json"
    )
    assert status == 0
    manifest = json.loads(out)["manifest"]
    assert manifest["embedder"]["dimension"] == 32
    # The rows of the source, and those distilled texts that are no rows of it.
    assert 0.042 <= manifest["cost_usd"] < 0.084
    assert set(server.paid.values()) == {1}


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "hashing",
            {"base_url": "http://localhost/v1"},
            "expected no --base-url with the embedder 'hashing', which calls no service",
        ),
        (
            "all-MiniLM-L6-v2",
            {"max_usd": 1.0},
            "expected no --budget-usd with the embedder 'all-MiniLM-L6-v2'",
        ),
        ("st", {"price": 1.0}, "expected no --price with the embedder 'st'"),
    ],
)
def test_options_go_only_to_embedders_that_have_them(
    name: str, options: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError) as caught:
        configure_embedder(name, {}, options)
    assert message in str(caught.value)


def test_options_become_those_of_the_embedder() -> None:
    assert configure_embedder("no/such-model", {}, {}) == "no/such-model"
    service = {"base_url": "https://h/v1", "max_usd": 2.0, "price": 1.0}
    assert configure_embedder("openai:m", {"dimensions": "3"}, service) == OpenAIEmbedder(
        "m", base_url="https://h/v1", dimensions=3, max_usd=2.0, price=1.0
    )
