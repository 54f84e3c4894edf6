"""Prices and budgets of a service."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dallme.distiller import Distiller
from dallme.embedders.cache import EmbeddingStore, embed_with_store
from dallme.embedders.openai import OpenAIEmbedder
from dallme.errors import BudgetError, InputError
from openai_cases import HASHING, TEXTS, client
from openai_server import OpenAIServer


def test_the_budget_stops_a_run_and_a_larger_one_continues(server: OpenAIServer, tmp_path: Path) -> None:
    store = EmbeddingStore(tmp_path)
    first = client(server, price=1000, max_usd=0.3)  # 20 texts have 140 tokens
    with pytest.raises(BudgetError) as caught:
        embed_with_store(first, TEXTS, store=store)
    assert str(caught.value) == (
        "expected to stay within the budget of $0.3, stopped before a request of about $0.1400: "
        "$0.2800 is spent; "
        "what is answered is kept where a store is used; raise --budget-usd (max_usd) and run the "
        "same again to continue"
    )
    assert first.spent_usd == pytest.approx(0.28)
    assert len(store.table(first.fingerprint())) == len(server.paid) == 40
    second = client(server, price=1000, max_usd=0.3)
    np.testing.assert_allclose(embed_with_store(second, TEXTS, store=store), HASHING.embed(TEXTS), atol=1e-6)
    assert set(server.paid.values()) == {1}
    assert second.spent_usd == pytest.approx(0.14)


def test_lost_answers_count_towards_the_budget(server: OpenAIServer) -> None:
    server.script.extend(["truncate"] * 5)
    with pytest.raises(
        BudgetError, match=r"\$0\.0000 is spent, \$0\.2800 perhaps for answers that were lost;"
    ):
        client(server, price=1000, max_usd=0.3).embed(TEXTS[:20])
    assert server.requests == 2


def test_a_budget_of_nothing_sends_nothing(server: OpenAIServer) -> None:
    with pytest.raises(BudgetError):
        client(server, max_usd=0).embed(TEXTS)
    assert server.requests == 0


def test_prices_come_from_option_user_file_or_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def price(model: str, **options: float) -> float | None:
        return OpenAIEmbedder(model, base_url="http://localhost/v1", **options).resolved_price.usd_per_million  # type: ignore[arg-type]

    assert [price(f"text-embedding-{name}") for name in ("3-large", "3-small", "ada-002")] == [
        0.13,
        0.02,
        0.10,
    ]
    assert price("m") is None
    own = tmp_path / "prices.toml"
    own.write_text(
        'date = 2027-01-01\nsource = "us"\n[usd_per_million_tokens]\nm = 5\ntext-embedding-3-large = 0.2\n'
    )
    monkeypatch.setenv("DALLME_PRICES", str(own))
    assert [price("m"), price("text-embedding-3-large"), price("text-embedding-3-small")] == [5, 0.2, 0.02]
    assert str(OpenAIEmbedder().resolved_price) == "$0.20 per million tokens, us, as of 2027-01-01"
    assert price("m", price=7) == 7


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "expected a file of prices in DALLME_PRICES, could not read"),
        ("a = ", "expected TOML in the file of prices"),
        ("[usd_per_million_tokens]\nm = 'dear'", "with a number of at least 0 a model"),
        ("a = 1", "with a number of at least 0 a model"),
    ],
)
def test_a_file_of_prices_that_cannot_be_used(
    content: str | None, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "prices.toml"
    if content is not None:
        own.write_text(content)
    monkeypatch.setenv("DALLME_PRICES", str(own))
    with pytest.raises(InputError, match=message):
        OpenAIEmbedder().resolved_price  # noqa: B018


def test_the_manifest_records_cost_and_a_rerun_is_free(server: OpenAIServer, tmp_path: Path) -> None:
    labels = ["a", "b"] * 30
    for spends in (True, False):
        embedder = client(server)
        manifest = Distiller(per_class=2, embedder=embedder, store=tmp_path).distill(TEXTS, labels).manifest
        assert manifest["cost_usd"] == round(embedder.spent_usd, 6)
        assert (manifest["cost_usd"] > 0) == spends
    assert manifest["configuration"]["embedder"] == "openai:m"
