"""Errors: secrets in messages, and pickling."""

from __future__ import annotations

import pickle

import pytest

from dallme.errors import DallmeError, MissingDependencyError, UnknownNameError, redact


@pytest.mark.parametrize(
    "name",
    [
        "HF_TOKEN",
        "HUGGING_FACE_HUB_TOKEN",
        "OPENAI_API_KEY",
        "MY_APIKEY",
        "AWS_SECRET_ACCESS_KEY",
        "DB_PASSWORD",
    ],
)
def test_secrets_of_the_environment_are_hidden(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "s3cret+value/=")
    assert redact("a s3cret+value/= b s3cret%2Bvalue%2F%3D") == "a *** b ***"


def test_values_that_hold_each_other_are_hidden_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_TOKEN", "abcdef")
    monkeypatch.setenv("B_TOKEN", "abcdef-and-more")
    assert redact("abcdef-and-more abcdef") == "*** ***"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://me:secret@host:80/x", "http://***@host:80/x"),
        ("'https://to:p@ss@host'", "'https://***@host'"),
        ("postgres+ssl://u:p@h", "postgres+ssl://***@h"),
        ("Authorization: Bearer abc.def", "Authorization: Bearer ***"),
        ("token hf_AbCdEfGhIj and sk-proj-0123456789abcdef", "token *** and ***"),
        ("mail me@example.org, https://host/a@b", "mail me@example.org, https://host/a@b"),
        ("read hf_home, ask sk-learn", "read hf_home, ask sk-learn"),
    ],
)
def test_secrets_are_known_by_their_form(text: str, expected: str) -> None:
    assert redact(text) == expected


def test_short_and_other_values_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("X_TOKEN", "on")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "parallel")
    assert redact("on parallel") == "on parallel"


@pytest.mark.parametrize(
    "error",
    [UnknownNameError("part", "x", ["a", "b"]), MissingDependencyError("plots", "matplotlib", "plot")],
)
def test_errors_can_be_pickled(error: DallmeError) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy)) == (type(error), str(error))
