"""The embedder `openai`: vectors, tokens, fingerprint, options and the key."""

from __future__ import annotations

import logging
import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from dallme.distiller import Distiller
from dallme.embedders import resolve
from dallme.embedders.openai import MAX_TOKENS, OpenAIEmbedder, prepare
from dallme.embedders.sentence_transformer import SentenceTransformerEmbedder
from dallme.errors import InputError, ServiceError
from dallme.services.pricing import count_tokens, cut
from openai_cases import HASHING, KEY, TEXTS, client
from openai_server import OpenAIServer


def test_vectors_equal_those_of_the_model_in_order(server: OpenAIServer) -> None:
    embedder = client(server)
    np.testing.assert_allclose(embedder.embed(TEXTS), HASHING.embed(TEXTS), atol=1e-6)
    assert server.requests == 3
    assert server.bodies == [{"model": "m", "encoding_format": "float", "dimensions": 32, "texts": 20}] * 3
    assert embedder.spent_usd == pytest.approx(count_tokens(TEXTS).sum() / 1e6)


def test_vectors_of_minilm_come_through_unchanged(minilm: SentenceTransformerEmbedder) -> None:
    with OpenAIServer(minilm) as server:
        embedder = OpenAIEmbedder("all-MiniLM-L6-v2", base_url=server.url)
        np.testing.assert_allclose(embedder.embed(TEXTS[:8]), minilm.embed(TEXTS[:8]), atol=1e-6)
        assert embedder.fingerprint().dimension == 384


def test_dimensions_are_sent_only_if_given(server: OpenAIServer) -> None:
    client(server, dimensions=None).embed(TEXTS[:1])
    assert "dimensions" not in server.bodies[0]
    assert client(server, dimensions=8).embed(TEXTS[:1]).shape == (1, 8)
    with pytest.raises(
        ServiceError,
        match="expected vectors of 48 dimensions from openai:m, found 32; the server does not know",
    ):
        client(server, dimensions=48).embed(TEXTS[:1])


# --- tokens


def test_tokens_are_those_of_openai() -> None:
    # Known from OpenAI's own tokenizer, cl100k_base.
    assert count_tokens(
        ["hello world", "tiktoken is great!", "antidisestablishmentarianism", "お誕生日おめでとう"]
    ).tolist() == [
        2,
        6,
        6,
        9,
    ]


@pytest.mark.parametrize("text", ["word " * 50, "日本語🎉" * 30, " \n" * 200, "a" * 500])
@pytest.mark.parametrize("limit", [1, 7, 20])
def test_a_cut_text_is_a_start_that_fits(text: str, limit: int) -> None:
    start = cut(text, limit)
    assert text.startswith(start)
    assert count_tokens([start])[0] <= limit
    assert len(start) < len(text)


def test_texts_are_cut_at_the_limit_and_counted(server: OpenAIServer) -> None:
    embedder = client(server, max_tokens=4)
    vectors = embedder.embed(["one two three four five six", "one two", "one two three four"])
    np.testing.assert_allclose(vectors[0], vectors[2], atol=1e-6)
    assert embedder.notes == ("openai:m: 1 text is cut at 4 tokens",)
    assert set(server.paid) == {"one two three four", "one two"}


def test_the_limit_of_openais_models_holds_with_a_prompt() -> None:
    embedder = OpenAIEmbedder()
    assert embedder.token_limit == MAX_TOKENS
    assert OpenAIEmbedder(max_tokens=10**6).token_limit == MAX_TOKENS
    assert OpenAIEmbedder("m", base_url="http://localhost/v1").token_limit is None
    prepared = embedder.prepare(["word " * 9000, "word"], "topic")
    assert prepared.tokens.tolist() == [MAX_TOKENS, 10]
    assert prepared.cut == 1
    assert prepared.texts[1] == "Identify the topic of the given text: word"
    assert prepared.texts[0].startswith("Identify the topic of the given text: word word")


def test_a_prompt_must_leave_room() -> None:
    with pytest.raises(
        InputError, match="expected a prompt of fewer than 3 tokens, which leaves room for a text, found 4"
    ):
        prepare(["a"], "one two three four", 3)


# --- what it is


def test_the_name_leads_to_it(server: OpenAIServer) -> None:
    assert resolve("openai:m", base_url=server.url) == OpenAIEmbedder("m", base_url=server.url)
    assert resolve("openai") == OpenAIEmbedder("text-embedding-3-large")
    assert resolve("openai:m", base_url=server.url).name == "openai:m"


def test_the_fingerprint_says_what_changes_the_vectors() -> None:
    found = OpenAIEmbedder(dimensions=256).fingerprint("topic")
    assert found.model == "openai:text-embedding-3-large"
    assert found.weights == "api.openai.com/v1/text-embedding-3-large"
    assert (found.dimension, found.max_tokens) == (256, 8192)
    assert found.prompt == "Identify the topic of the given text: "
    here = OpenAIEmbedder(base_url="http://localhost:8080/v1/", dimensions=256).fingerprint("topic")
    assert here.weights == "localhost:8080/v1/text-embedding-3-large"


def test_a_dimension_that_nobody_told_is_asked_for_once(server: OpenAIServer) -> None:
    embedder = client(server, dimensions=None)
    assert embedder.fingerprint().dimension == embedder.fingerprint("topic").dimension == 32
    assert server.requests == 1
    assert embedder.spent_usd > 0


def test_models_of_known_families_see_their_prefix() -> None:
    embedder = OpenAIEmbedder("intfloat/e5-base-v2", base_url="http://localhost/v1")
    assert embedder.prefix() == "query: "
    assert embedder.prefix("topic") == "query: Identify the topic of the given text: "


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": " "}, "expected the name of a model, found a blank one"),
        ({"dimensions": 0}, "expected dimensions to be a whole number of at least 1, found 0"),
        ({"dimensions": 4000}, "expected dimensions of text-embedding-3-large from 1 to 3072, found 4000"),
        (
            {"model": "text-embedding-ada-002", "dimensions": 8},
            "expected dimensions of text-embedding-ada-002 of 1536 only",
        ),
        ({"max_usd": -1}, "expected max_usd to be a number of at least 0, found -1"),
        ({"price": float("nan")}, "expected price to be a number of at least 0, found nan"),
        (
            {"model": "m", "max_usd": 1},
            "expected the price of 'm' to keep to a budget, found none; give it with --price",
        ),
        ({"base_url": "localhost:8080"}, "expected base_url as http://HOST/PATH"),
        ({"base_url": "ftp://host"}, "expected base_url as http://HOST/PATH"),
        ({"base_url": "http://u:sk-secret@host/v1"}, "expected base_url without user, password and query"),
        ({"base_url": "http://host/v1?key=sk-secret"}, "expected base_url without user, password and query"),
        ({"concurrency": 0}, "expected concurrency to be a whole number of at least 1, found 0"),
        ({"max_retries": -1}, "expected max_retries to be a whole number of at least 0, found -1"),
        ({"max_inputs": 0}, "expected max_inputs to be a whole number of at least 1, found 0"),
        (
            {"requests_per_minute": 0},
            "expected requests_per_minute to be a whole number of at least 1, found 0",
        ),
    ],
)
def test_wrong_options_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError) as caught:
        OpenAIEmbedder(**options)  # type: ignore[arg-type]
    assert message in str(caught.value)
    assert "sk-secret" not in str(caught.value)


# --- the key


def test_openai_needs_a_key_and_others_do_not(server: OpenAIServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        InputError, match="expected a key in the environment variable OPENAI_API_KEY, found none"
    ):
        OpenAIEmbedder().embed(["a"])
    client(server).embed(TEXTS[:1])
    assert server.keys == {"Bearer none"}
    monkeypatch.setenv("OPENAI_API_KEY", f"{KEY}\n")
    client(server).embed(TEXTS[:1])
    assert server.keys == {"Bearer none", f"Bearer {KEY}"}


@pytest.mark.parametrize("key", ["sk-ä", "sk-a b", "sk-a\0b"])
def test_a_broken_key_is_not_shown(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", os.environ | {"OPENAI_API_KEY": key})
    with pytest.raises(InputError) as caught:
        OpenAIEmbedder().embed(["a"])
    assert (
        str(caught.value)
        == "expected a key of plain letters and signs in OPENAI_API_KEY, found others; was it copied whole?"
    )


def test_the_key_is_nowhere(
    server: OpenAIServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    caplog.set_level(logging.DEBUG)
    embedder, seen = client(server), []
    Distiller(per_class=2, embedder=embedder, store=tmp_path / "store").distill(TEXTS, ["a", "b"] * 30).save(
        tmp_path / "out"
    )
    for fault in ("400", "401", "403", "404", "429-insufficient_quota", "503", "drop", "half-json"):
        server.script.extend([fault] * 2)
        with pytest.raises(ServiceError) as caught:
            client(server, max_retries=1).embed(TEXTS[:1])
        seen += [
            str(caught.value),
            repr(caught.value),
            repr(caught.value.__cause__),
            repr(caught.value.__context__),
        ]
        server.script.clear()
    assert server.keys == {f"Bearer {KEY}"}
    assert any("[key]" in line for line in seen)  # the server put it into its message, and it was taken out
    seen += [
        repr(embedder),
        str(embedder.fingerprint()),
        repr(embedder.__getstate__()),
        repr(embedder.service),
        caplog.text,
    ]
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 3
    assert not any(KEY in text for text in seen)
    assert not any(KEY.encode() in path.read_bytes() for path in files)
    assert KEY.encode() not in pickle.dumps(embedder)


def test_a_copy_in_another_process_works(server: OpenAIServer) -> None:
    embedder = client(server)
    embedder.embed(TEXTS[:1])
    copy = pickle.loads(pickle.dumps(embedder))
    assert copy == embedder
    assert copy.spent_usd == 0
    np.testing.assert_allclose(copy.embed(TEXTS[:1]), HASHING.embed(TEXTS[:1]), atol=1e-6)
