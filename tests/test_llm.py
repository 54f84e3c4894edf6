"""The llm decoder against a real server on this machine: requests, cost, storage, selection, failures."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chat_server import ChatServer, kept_answers, words_of_the_prompt
from dallme.cli.main import _status
from dallme.data import LabelledTexts, Prototypes
from dallme.decoders.base import Context
from dallme.decoders.extractive import weights as weights_module
from dallme.decoders.extractive.weights import WordWeights
from dallme.decoders.llm import LLMDecoder
from dallme.decoders.postprocess import tidy
from dallme.decoders.selection import ClusterSummary, best_words, messages
from dallme.distiller import Distiller
from dallme.errors import BudgetError, InputError, ServiceError
from dallme.services.chat import ChatRequest, Completion, CompletionStore, key_of, parse, usage_of
from dallme.services.pricing import CostTracker, Price, Usage, count_tokens, writing_price_of
from decoder_cases import FILMS, FLOPS, check_contract, make_context, make_prototypes

CLUSTERS = ([0, 1], [6, 7, 8], [2, 3], [9, 10])


@pytest.fixture(autouse=True)
def no_surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "DALLME_PRICES"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with ChatServer(writer=words_of_the_prompt) as running:
        yield running


@pytest.fixture
def films(tmp_path: Path) -> Context:
    context = make_context([*FILMS, *FLOPS], [5] * 6 + [2] * 6)
    return replace(context, max_tokens=24, answers=tmp_path / "answers")


@pytest.fixture
def prototypes(films: Context) -> Prototypes:
    return make_prototypes(films, CLUSTERS)


def client(server: ChatServer, **options: Any) -> LLMDecoder:
    return LLMDecoder("small", base_url=server.url, first_pause=0.01, **options)


# What is asked


def test_a_request_names_the_class_its_words_and_its_rows() -> None:
    brief = ClusterSummary("very good", ("great", "lovely"), ("A fine film indeed, with friends.", "Short."))
    assert messages(brief, 8) == [
        {
            "role": "user",
            "content": 'Write one new text of the kind "very good", of at most 6 words.\n'
            "Use some of these words: great, lovely.\n"
            "Real texts of this kind, not to be copied:\n- A fine film indeed, with friends.\n- Short.\n"
            "Answer with the new text alone.",
        }
    ]
    assert "these words" not in messages(ClusterSummary("x"), 8)[0]["content"]
    assert "Real texts" not in messages(ClusterSummary("x"), 8)[0]["content"]
    assert (
        "- A fine film\n" in messages(ClusterSummary("x", (), ("A fine film indeed", "b")), 4)[0]["content"]
    )  # shown as long as wanted


def test_key_words_speak_for_the_class_and_stand_in_the_cluster() -> None:
    texts = [
        "great film",
        "great fun",
        "lovely music",
        "lovely plot",
        "awful film",
        "awful fun",
        "awful music",
        "awful plot",
    ]
    words = WordWeights.learn(texts, np.array([1] * 4 + [0] * 4), np.random.default_rng(0))
    assert best_words(words, np.array([0, 1]), 1, 5)[0] == "great"
    assert best_words(words, np.array([2, 3]), 1, 5)[0] == "lovely"
    assert "lovely" not in best_words(words, np.array([0, 1]), 1, 5)
    assert best_words(words, np.array([4, 5]), 0, 1) == ("awful",)


def test_keywords_come_from_the_sampled_rows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(weights_module, "MACHINE_ROWS", 1)  # weights are sparse
    texts, labels = ["great film", "great fun", "awful film", "awful fun"], np.array([1, 1, 0, 0])
    words = WordWeights.learn(texts, labels, np.random.default_rng(0))
    assert best_words(words, np.array([0, 1]), 1, 1) == ("great",)
    some = replace(words, rows=np.array([10, 20, 30, 40]))  # the rows of a larger source
    assert best_words(some, np.array([15, 20, 50]), 1, 1) == ("great",)
    assert best_words(some, np.array([15, 50]), 1, 1) == ()


def test_a_brief_shows_each_row_once_without_markup() -> None:
    source = LabelledTexts(["a<br />b", "a b", "c", "<br />"], np.array([0] * 4), {0: "x"}, np.arange(4))
    assert ClusterSummary.of(
        np.array([3, 0, 1, 2]), 0, None, source, examples=3, keywords=3
    ) == ClusterSummary("x", (), ("a b", "c"))
    assert ClusterSummary.of(np.array([0]), 0, None, source, examples=0, keywords=3).examples == ()


def test_what_is_sent_is_what_was_announced(
    server: ChatServer, films: Context, prototypes: Prototypes
) -> None:
    result = client(server, drafts=3).decode(prototypes, films, seed=0)
    check_contract(result.texts, prototypes, films, written=True)
    assert server.requests == 12
    assert result.metadata["requests"] == {"sent": 12, "kept": 0}
    body = next(body for body in server.bodies if "class 5" in body["messages"][0]["content"])
    assert (body["model"], body["max_tokens"], body["temperature"]) == ("small", 24, 0.9)
    assert 'the kind "class 5"' in body["messages"][0]["content"]
    assert len({body["seed"] for body in server.bodies}) == 12
    assert server.keys == {"Bearer none"}


def test_tokens_and_dollars_are_those_the_service_charges(
    server: ChatServer, films: Context, prototypes: Prototypes
) -> None:
    paying = client(server, drafts=2, price=1.0, output_price=10.0)
    metadata = paying.decode(prototypes, films, seed=0).metadata
    asked = [body["messages"][0]["content"] for body in server.bodies]
    read = int(count_tokens(asked).sum())
    written = int(count_tokens(kept_answers(films.answers)).sum())
    assert metadata["tokens"] == {"read": read, "written": written}
    assert metadata["cost_usd"] == pytest.approx((read + 10 * written) / 1e6)


def test_another_name_for_the_limit_at_openai() -> None:
    request = ChatRequest(({"role": "user", "content": "Write."},), 24, 0.5, 7)
    assert request.body("m", "https://api.openai.com/v1") == {
        "model": "m", "messages": [{"role": "user", "content": "Write."}],
        "max_completion_tokens": 24, "temperature": 0.5, "seed": 7,
    }  # fmt: skip
    assert "max_tokens" in request.body("m", "http://localhost/v1")
    assert usage_of([request]) == [Usage(2 + 16, 24)]
    assert usage_of([]) == []


# What is chosen


def test_the_draft_nearest_in_class_and_meaning_is_kept(films: Context) -> None:
    good, bad = (
        "A warm and funny film. The cast is great, and so is the music.",
        "A dull and boring film. The cast is awful.",
    )

    def writer(prompt: str, most: int, temperature: float, seed: int) -> tuple[str, str]:
        return (good if seed % 2 else bad), "stop"

    with ChatServer(writer=writer) as server:
        prototypes = make_prototypes(films, ([0, 1], [6, 7]))
        result = client(server, drafts=16, max_copied_span=None).decode(prototypes, films, seed=0)
    assert [text.text for text in result.texts] == [good, bad]
    assert result.metadata["drafts"]["repeated"] == 28  # two of each prototype's sixteen differ


def test_the_seed_decides_the_texts(server: ChatServer, films: Context, prototypes: Prototypes) -> None:
    first = client(server).decode(prototypes, films, seed=1).texts
    asked = server.requests
    assert client(server).decode(prototypes, films, seed=1).texts == first
    assert server.requests == asked  # all answers are kept
    assert client(server).decode(prototypes, replace(films, answers=None), seed=1).texts == first
    assert client(server).decode(prototypes, films, seed=2).texts != first


def test_ready_vectors_and_one_class_need_no_probe(
    server: ChatServer, films: Context, prototypes: Prototypes
) -> None:
    without = replace(films, embedder=None)
    check_contract(
        client(server).decode(prototypes, without, seed=0).texts, prototypes, without, written=True
    )
    alone = make_context(FILMS, [0] * 6, max_tokens=24)
    own = make_prototypes(alone, [[0, 1], [2, 3]])
    check_contract(client(server, keywords=0).decode(own, alone, seed=0).texts, own, alone, written=True)


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


def test_after_a_kill_nothing_is_paid_for_twice(server: ChatServer, tmp_path: Path) -> None:
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
    subprocess.run(command, check=True)
    assert (
        sum(count - 1 for count in server.paid.values()) <= 2
    )  # at most what was under way is paid for again
    assert len(kept_answers(tmp_path / "answers")) == len(server.paid)


# Copies


def test_copies_of_source_and_test_rows_are_told(films: Context) -> None:
    copied = "I loved every minute of it. Great fun & a great story."

    def writer(prompt: str, most: int, temperature: float, seed: int) -> tuple[str, str]:
        return (copied if "class 5" in prompt else f"Nothing here was seen before, number {seed}."), "stop"

    test = LabelledTexts(["Nothing here.", copied], np.array([2, 5]), films.source.label_names, np.arange(2))
    prototypes = make_prototypes(films, ([0, 1], [6, 7]))
    with ChatServer(writer=writer) as server:
        free = client(server, max_copied_span=None)
        result = free.decode(prototypes, replace(films, test=test), seed=0)
        decoded, audit = result.texts, result.metadata["audit"]
        assert (decoded[0].copied_span, decoded[0].copied_row) == (11, 1)
        assert decoded[1].copied_span is not None
        assert decoded[1].copied_span <= 1
        assert audit["longest_copied_span"] == 11
        assert audit["contamination"] == {"rows": 2, "exact": [0], "longest_span": 11, "shared_13grams": []}
        strict = client(server, max_copied_span=10).decode(prototypes, films, seed=0).texts
        assert strict[0].rows  # nothing written may be used: the nearest real text stands in, and says so
        assert client(server, max_copied_span=11).decode(prototypes, films, seed=0).texts[0].text == copied


def test_the_manifest_and_lineage_report_copies_and_cost(server: ChatServer, tmp_path: Path) -> None:
    options = {"base_url": server.url, "price": 1.0, "output_price": 2.0, "drafts": 2}
    distiller = Distiller(
        per_class=2,
        embedder="hashing",
        decoder="llm:small",
        decoder_options=options,
        max_tokens=24,
        store=tmp_path,
    )
    texts = LabelledTexts(
        [*FILMS, *FLOPS], np.array([1] * 6 + [0] * 6), {0: "bad", 1: "good"}, np.arange(100, 112)
    )
    distilled = distiller.run(texts, test=texts).distilled
    found = distilled.manifest["decoding"]
    assert found["requests"] == {"sent": 8, "kept": 0}
    assert distilled.manifest["cost_usd"] == pytest.approx(found["cost_usd"], abs=1e-6)
    assert found["audit"]["contamination"]["rows"] == 12
    assert distilled.manifest["configuration"]["decoder_options"]["model"] == "small"
    for lineage in distilled.lineage:
        assert lineage.copied_span is not None
        assert all(100 <= row < 112 for row in lineage.copied_rows)
    saved = distilled.save(tmp_path / "out")
    assert [row.copied_span for row in type(distilled).load(saved).lineage] == [
        row.copied_span for row in distilled.lineage
    ]
    assert distiller.run(texts).distilled.manifest["decoding"]["requests"] == {"sent": 0, "kept": 8}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": " "}, "expected the name of a model, found a blank one"),
        ({"base_url": "localhost:8080"}, "expected base_url as http://HOST/PATH"),
        ({"drafts": 0}, "expected drafts to be a whole number of at least 1, found 0"),
        ({"examples": -1}, "expected examples to be a whole number of at least 0"),
        ({"temperature": 3}, "expected temperature to be a number from 0 to 2, found 3"),
        ({"max_copied_span": 0}, "expected max_copied_span to be a whole number of at least 1"),
        ({"max_usd": -1}, "expected max_usd to be a number of at least 0"),
        ({"model": "m", "max_usd": 1}, "expected the price of 'm' to keep to a budget, found none"),
        ({"price": 1.0}, "expected both prices"),
        (
            {"price": 1.0, "output_price": -1.0},
            "expected output_price to be a number of at least 0, found -1.0",
        ),
    ],
)
def test_options_are_checked(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        LLMDecoder(**options)


def test_a_missing_key_is_told_before_anything_is_sent(films: Context, prototypes: Prototypes) -> None:
    with pytest.raises(InputError, match="expected a key in the environment variable OPENAI_API_KEY"):
        LLMDecoder().decode(prototypes, films, seed=0)


# The command line


@pytest.fixture
def films_csv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DALLME_STORE", str(tmp_path / "store"))
    path = tmp_path / "films.csv"
    rows = [(text, "good") for text in FILMS] + [(text, "bad") for text in FLOPS]
    path.write_text("text,label\n" + "".join(f'"{text}",{label}\n' for text, label in rows))
    return path


def _run(*arguments: object) -> int:
    sys.argv = ["dallme", *map(str, arguments)]
    return _status()


def test_the_command_line_plans_and_distils(
    server: ChatServer,
    films_csv: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "argv", [])
    common = [
        films_csv,
        "--embedder",
        "hashing",
        "--decoder",
        "llm:small",
        "--base-url",
        server.url,
        "--drafts",
        2,
    ]
    prices = ["--price", 1, "--output-price", 2]
    assert _run("plan", *common, *prices, "--per-class", 2, "--max-tokens", 24, "--json") == 0
    plan = json.loads(capsys.readouterr().out)["writing"]
    assert (plan["texts"], plan["requests"], plan["written"]) == (4, 8, 192)
    assert plan["price_usd"] == pytest.approx((plan["read"] + 2 * 192) / 1e6)
    assert server.requests == 0
    assert _run("plan", *common, "--per-class", 2) == 0
    assert "price           not known (set it with --price and --output-price)" in capsys.readouterr().out
    output = ["--per-class", 2, "--max-tokens", 24, "--output", tmp_path / "out", "--no-report"]
    assert _run("distill", *common, *prices, *output, "--budget-usd", 0.000001) == 2
    assert "expected to stay within the budget" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert _run("distill", *common, *prices, *output, "--budget-usd", 1) == 0
    assert server.requests == 8
    found = json.loads((tmp_path / "out" / "manifest.json").read_text())["decoding"]
    read, written = found["tokens"]["read"], found["tokens"]["written"]
    assert (
        0.7 * read < plan["read"] < 1.6 * read
    )  # estimated: fewer words may speak for a class than are asked for
    assert written <= 192
    assert "longest run of words" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--decoder", "llm:m", "--embedder", "openai:m", "--budget-usd", "1"],
            "--budget-usd and --price for one service",
        ),
        (
            ["--decoder", "nearest", "--base-url", "http://localhost/v1"],
            "expected no --base-url with the embedder",
        ),
        (["--decoder", "nearest", "--drafts", "2"], "Decoder 'nearest' has no option 'drafts'."),
        (["--decoder", "llm:m", "--price", "1"], "expected both prices"),
    ],
)
def test_options_of_services_on_the_command_line(
    arguments: list[str], message: str, films_csv: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(sys, "argv", [])
    assert _run("distill", films_csv, "--per-class", 1, "--output", tmp_path / "out", *arguments) == 2
    assert message in capsys.readouterr().err


def test_only_decoders_that_call_a_service_are_planned(
    films_csv: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [])
    assert _run("plan", films_csv, "--embedder", "hashing", "--decoder", "teaching", "--per-class", 1) == 2
    assert (
        "expected a decoder that calls a service, such as llm:MODEL, found 'teaching'"
        in capsys.readouterr().err
    )
