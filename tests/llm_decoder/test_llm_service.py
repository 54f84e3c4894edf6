"""Requests of the decoder `llm`: errors, budget and stored answers."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections import deque
from dataclasses import replace
from pathlib import Path

import pytest

from chat_server import ChatServer, kept_answers
from dallme.data import Prototypes
from dallme.decoders.base import Context
from dallme.decoders.postprocess import tidy
from dallme.errors import BudgetError, InputError, ServiceError
from dallme.services.chat import ChatRequest, Completion, CompletionStore, key_of, parse
from dallme.services.pricing import CostTracker, Price, Usage, writing_price_of
from decoder_cases import check_contract
from llm_cases import client

# What goes wrong


@pytest.mark.parametrize(
    "fault",
    ["429", "429-after", "500", "503", "drop", "truncate", "half-json", "no-choices", "nonsense", "number"],
)
def test_what_fails_in_passing_is_asked_again(
    fault: str, server: ChatServer, films: Context, prototypes: Prototypes
) -> None:
    direct = client(server, drafts=1).decode(prototypes, replace(films, answers=None), seed=0).texts
    server.script = deque([fault] * 3)
    assert client(server, drafts=1).decode(prototypes, films, seed=0).texts == direct
    assert server.requests == 4 + 4 + 3
    assert len(kept_answers(films.answers)) == 4


def test_a_service_that_keeps_failing_is_an_error(
    server: ChatServer, films: Context, prototypes: Prototypes
) -> None:
    server.script = deque(["ok"] * 5 + ["500"] * 100)
    with pytest.raises(ServiceError, match="found 3 failures in a row, the last: status 500"):
        client(server, max_retries=2, concurrency=1).decode(prototypes, films, seed=0)
    assert len(kept_answers(films.answers)) == 5
    server.script.clear()
    client(server).decode(prototypes, films, seed=0)
    assert max(server.paid.values()) == 1
    assert sum(server.paid.values()) == 16


@pytest.mark.parametrize("fault", ["blank", "null"])
def test_blank_answers_are_neither_used_nor_kept(
    fault: str, server: ChatServer, films: Context, prototypes: Prototypes
) -> None:
    server.script = deque([fault] * 8 + ["ok"] * 100)
    result = client(server, drafts=2).decode(prototypes, films, seed=0)
    check_contract(result.texts, prototypes, films, written=True)
    assert result.metadata["drafts"]["blank"] == 8
    assert result.metadata["audit"]["real_texts"] == []
    assert server.requests == 16  # a second turn for each prototype
    assert len(kept_answers(films.answers)) == 8


def test_real_texts_stand_in_where_nothing_is_written(
    server: ChatServer, films: Context, prototypes: Prototypes
) -> None:
    server.script = deque(["blank"] * 100)
    result = client(server, drafts=1).decode(prototypes, films, seed=0)
    check_contract(result.texts, prototypes, films, written=True)
    assert all(text.rows for text in result.texts)
    assert result.metadata["audit"]["real_texts"] == [0, 1, 2, 3]
    assert kept_answers(films.answers) == []


def test_long_answers_are_cut_and_a_class_has_no_text_twice(
    server: ChatServer, films: Context, prototypes: Prototypes
) -> None:
    server.script = deque(["long"] * 4)
    result = client(server, drafts=1).decode(prototypes, films, seed=0)
    assert result.texts[0].text == " ".join(["A sentence of six words here."] * 3)
    assert result.metadata["drafts"]["cut"] == 4
    # One text a class is the long one; a second turn gave the others.
    check_contract(result.texts, prototypes, films, written=True)
    server.script = deque(["repeat"] * 100)
    decoded = client(server, drafts=2).decode(prototypes, replace(films, answers=None), seed=0).texts
    assert [text.text == "The same text again." for text in decoded] == [True, True, False, False]


def test_what_models_put_around_a_text_is_taken_off(
    server: ChatServer, films: Context, prototypes: Prototypes
) -> None:
    plain = client(server).decode(prototypes, replace(films, answers=None), seed=0).texts
    server.script = deque(["wrapped"] * 16)
    assert client(server).decode(prototypes, films, seed=0).texts == plain


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ("```text\nA fine film.\n```", "A fine film."),
        ("Sure! Here is one:\nA fine film.", "A fine film."),
        ("Text: A <b>fine</b> film.", "A fine film."),
        ("“A fine film.”", "A fine film."),
        ('"Fine," she said, "very fine."', '"Fine," she said, "very fine."'),
        ("Here we go again, a fine film.", "Here we go again, a fine film."),
        ("", ""),
    ],
)
def test_tidy(answer: str, text: str) -> None:
    assert tidy(answer) == text


def test_half_an_answer_is_no_answer() -> None:
    body = {
        "choices": [{"message": {"content": "A fine"}, "finish_reason": "length"}],
        "usage": {"prompt_tokens": 3},
    }
    assert parse(json.dumps(body).encode()) == (Completion("A fine", "length"), None)
    body["usage"]["completion_tokens"] = 2
    assert parse(json.dumps(body).encode())[1] == Usage(3, 2)


# Budget


def test_the_budget_is_kept_and_nothing_paid_twice(
    server: ChatServer, films: Context, prototypes: Prototypes
) -> None:
    with pytest.raises(
        BudgetError, match=r"expected to stay within the budget of \$0.002, stopped before a request"
    ):
        client(server, price=1.0, output_price=10.0, max_usd=0.002, concurrency=1).decode(
            prototypes, films, seed=0
        )
    paid = server.requests
    assert 0 < paid < 16
    assert len(kept_answers(films.answers)) == paid
    client(server, price=1.0, output_price=10.0, max_usd=1).decode(prototypes, films, seed=0)
    assert server.requests == 16


def test_a_budget_of_nothing_sends_nothing(
    server: ChatServer, films: Context, prototypes: Prototypes
) -> None:
    with pytest.raises(BudgetError):
        client(server, price=1.0, output_price=1.0, max_usd=0).decode(prototypes, films, seed=0)
    assert server.requests == 0


def test_both_prices_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert str(writing_price_of("gpt-4.1-mini")) == (
        "$0.40 per million tokens read, $1.60 written, copies of OpenAI's model pages, as of 2026-04-02"
    )
    assert writing_price_of("m") == Price(None, "nowhere")
    assert writing_price_of("m", 1.0, 2.0).usd(Usage(1_000_000, 500_000)) == 2.0
    with pytest.raises(InputError, match="expected both prices, of tokens read and written, or neither"):
        writing_price_of("m", 1.0)
    own = tmp_path / "prices.toml"
    own.write_text("[usd_per_million_tokens]\nm = 5\n[usd_per_million_tokens_written]\nm = 6\n")
    monkeypatch.setenv("DALLME_PRICES", str(own))
    assert writing_price_of("m") == Price(5, str(own), 6)
    own.write_text("[usd_per_million_tokens]\nm = 5\n[usd_per_million_tokens_written]\nm = 'dear'\n")
    with pytest.raises(InputError, match="with a number of at least 0 a model"):
        writing_price_of("m")


def test_the_account_counts_what_is_read_and_written() -> None:
    costs = CostTracker(Price(1.0, "", 10.0), max_usd=1e-3)
    costs.begin(Usage(100, 50))
    costs.settle(Usage(100, 50), Usage(90, 20))
    costs.begin(Usage(100, 50))
    costs.lose(Usage(100, 50))
    assert (costs.used, costs.lost) == (Usage(90, 20), Usage(100, 50))
    assert costs.spent_usd == pytest.approx(290e-6)
    with pytest.raises(BudgetError):
        costs.begin(Usage(11, 10))
    costs.begin(Usage(10, 10))


# Kept answers


def test_answers_are_kept_whole_or_not_at_all(tmp_path: Path) -> None:
    store, key = CompletionStore(tmp_path / "a"), key_of("localhost/v1", {"model": "m"})
    assert store.get(key) is None
    store.put(key, Completion("  ", "stop"))
    assert store.get(key) is None
    store.put(key, Completion("A fine film – naïve \ud800.", "stop"))
    assert store.get(key) == Completion("A fine film – naïve \ud800.", "stop")
    (path,) = (tmp_path / "a").glob("*/*")
    assert path.name == f"{key}.json"
    for damage in (b"", b"{", b"[]", b'{"text": 5, "finish": null}', b'{"text": " ", "finish": null}'):
        path.write_bytes(damage)
        assert store.get(key) is None
    assert CompletionStore(None).get(key) is None


def test_a_request_is_known_by_all_of_it() -> None:
    request = ChatRequest(({"role": "user", "content": "Write."},), 24, 0.5, 7)
    keys = {
        key_of("a", request.body("m", "http://a")),
        key_of("b", request.body("m", "http://a")),
        key_of("a", request.body("n", "http://a")),
        key_of("a", replace(request, seed=8).body("m", "http://a")),
        key_of("a", replace(request, temperature=0.6).body("m", "http://a")),
        key_of("a", replace(request, max_tokens=25).body("m", "http://a")),
    }
    assert len(keys) == 6


def test_no_key_is_written(
    server: ChatServer, films: Context, prototypes: Prototypes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    metadata = client(server).decode(prototypes, films, seed=0).metadata
    assert server.keys == {"Bearer sk-very-secret"}
    assert films.answers
    assert not any("secret" in path.read_text() for path in films.answers.rglob("*.json"))
    assert "secret" not in json.dumps(metadata)
    server.script = deque(["400"])
    with pytest.raises(ServiceError) as caught:
        client(server).decode(prototypes, replace(films, answers=None), seed=0)
    assert "secret" not in str(caught.value)
    assert "[key]" in str(caught.value)


_KILLED = """
import sys
from dallme.distiller import Distiller
texts = [f"{word} film number {row}, {word} indeed and {word} again"
         for word in ("great", "awful") for row in range(8)]
Distiller(per_class=3, embedder="hashing", decoder="llm:small", store=sys.argv[2], max_tokens=24,
          decoder_options={"base_url": sys.argv[1], "concurrency": 2}
          ).distill(texts, ["good"] * 8 + ["bad"] * 8)
"""


def test_after_a_kill_nothing_is_paid_for_twice(
    server: ChatServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.pause = 0.05
    command = [sys.executable, "-c", _KILLED, server.url, str(tmp_path)]
    running = subprocess.Popen(command)
    while sum(server.paid.values()) < 8:
        assert running.poll() is None
        time.sleep(0.005)
    running.send_signal(signal.SIGKILL)
    running.wait()
    time.sleep(0.2)  # what is under way at the server ends
    assert len(kept_answers(tmp_path / "answers")) >= sum(server.paid.values()) - 2
    server.pause = 0
    monkeypatch.setattr(sys, "argv", command[2:])
    exec(_KILLED, {})
    assert (
        sum(count - 1 for count in server.paid.values()) <= 2
    )  # at most what was under way is paid for again
    assert len(kept_answers(tmp_path / "answers")) == len(server.paid)
