"""The decoder `llm`: prompts, choice, copies and the command line."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chat_server import ChatServer, kept_answers
from dallme.cli.main import _status
from dallme.data import LabelledTexts, Prototypes
from dallme.decoders.base import Context
from dallme.decoders.extractive import weights as weights_module
from dallme.decoders.extractive.weights import WordWeights
from dallme.decoders.llm import LLMDecoder
from dallme.decoders.selection import ClusterSummary, best_words, messages
from dallme.distiller import Distiller
from dallme.errors import InputError
from dallme.services.chat import ChatRequest, usage_of
from dallme.services.pricing import Usage, count_tokens
from decoder_cases import FILMS, FLOPS, check_contract, make_context, make_prototypes
from llm_cases import client

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


# The command line


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
