"""The classifier that shows a language model the texts as examples."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from chat_server import ChatServer
from dallme import registry
from dallme.classifiers.prompt import PromptClassifier, prompt_of
from dallme.cli.main import _status
from dallme.data import LabelledTexts
from dallme.errors import BudgetError, InputError
from dallme.evaluation.results import train_and_test
from test_cli import BAD, GOOD, sentence, write_csv

TEXTS, LABELS, NAMES = ["a fine film", "a dull film"], np.array([4, 9]), {4: "Good", 9: "Bad"}


def _judge(prompt: str, most: int, temperature: float, seed: int) -> tuple[str, str]:
    """Answers by the words of the last text, in a spelling of its own; knows no answer to some."""
    text = prompt.rsplit("Text: ", 1)[1]
    assert temperature == 0
    if "odd" in text:
        return "It is hard to say.", "stop"
    return ("“GOOD”." if any(word in text for word in [*GOOD, "fine"]) else " bad\n"), "stop"


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with ChatServer(writer=_judge) as running:
        yield running


def _classifier(server: ChatServer, **options: object) -> PromptClassifier:
    made = registry.make("classifiers", "prompt:small", base_url=server.url, first_pause=0.01, **options)
    classifier: PromptClassifier = made.with_label_names(NAMES)
    return classifier


def test_the_prompt_names_the_classes_and_shows_each_example_with_its_class() -> None:
    assert prompt_of([("one", "Good"), ("two", "Bad")], ["Bad", "Good"]) == (
        "Classify a text. The classes are:\n- Bad\n- Good\n\n"
        "Examples:\n\nText: one\nClass: Good\n\nText: two\nClass: Bad\n\n"
    )


def test_answers_are_read_as_names_of_classes(server: ChatServer) -> None:
    fitted = _classifier(server).fit(TEXTS, LABELS, seed=0)
    assert fitted.predict(["a great play", "a grim play"]).tolist() == [4, 9]


def test_another_answer_counts_as_wrong_in_every_score(server: ChatServer) -> None:
    train = LabelledTexts(TEXTS, LABELS, NAMES, np.arange(2))
    test = LabelledTexts(["great", "grim", "odd", "odd"], np.array([4, 9, 4, 9]), NAMES, np.arange(4))
    result = train_and_test(_classifier(server), train, test, seed=0)
    assert result.accuracy == 0.5
    assert result.macro_f1 == pytest.approx(2 / 3)  # each class: precision 1, recall .5


def test_only_a_sample_of_the_test_rows_is_sent(server: ChatServer) -> None:
    train = LabelledTexts(TEXTS, LABELS, NAMES, np.arange(2))
    texts = [f"great {row}" for row in range(30)] + [f"grim {row}" for row in range(10)]
    test = LabelledTexts(texts, np.array([4] * 30 + [9] * 10), NAMES, np.arange(40))
    assert train_and_test(_classifier(server, sample=8), train, test, seed=0).accuracy == 1
    assert server.requests == 8
    asked = [body["messages"][0]["content"].rsplit("Text: ", 1)[1] for body in server.bodies]
    assert sum("great" in text for text in asked) == 6  # stratified


def test_examples_stand_in_an_order_that_the_seed_decides(server: ChatServer) -> None:
    classifier = _classifier(server)
    for seed in range(6):
        classifier.fit(TEXTS, LABELS, seed=seed).predict(["a great play"])
    prompts = {body["messages"][0]["content"] for body in server.bodies}
    assert len(prompts) == 2


def test_a_stored_answer_is_not_paid_again(server: ChatServer, tmp_path: Path) -> None:
    for _ in range(2):
        fitted = _classifier(server, answers=tmp_path).fit(TEXTS, LABELS, seed=0)
        assert fitted.predict(["a great play"]).tolist() == [4]
    assert server.requests == 1


def test_no_request_exceeds_the_budget(server: ChatServer) -> None:
    paying = _classifier(server, price=1000.0, output_price=1000.0, max_usd=1e-6)
    with pytest.raises(BudgetError):
        paying.fit(TEXTS, LABELS, seed=0).predict(["a great play"])
    assert server.requests == 0


def test_more_examples_than_a_prompt_may_have_are_an_error(server: ChatServer) -> None:
    with pytest.raises(InputError, match="at most 1 texts as examples in a prompt, found 2"):
        _classifier(server, most_texts=1).fit(TEXTS, LABELS, seed=0)


def test_the_table_of_a_set_for_prompts(
    server: ChatServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DALLME_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    rows = [
        (sentence(words, row), name) for name, words in (("good", GOOD), ("bad", BAD)) for row in range(30)
    ]
    source = write_csv(tmp_path / "rows.csv", rows[:24] + rows[30:54])
    test = write_csv(tmp_path / "test.csv", rows[24:30] + rows[54:])
    command = ["distill", source, "--per-class", 2, "--output", tmp_path / "set", "--embedder", "hashing"]
    command += [
        "--test",
        test,
        "--for",
        "prompt",
        "--classifiers",
        "prompt:small,lr",
        "--no-report",
        "--json",
    ]
    command += ["--set", "classifier.sample=6", "--set", "classifier.most_texts=10"]
    monkeypatch.setattr(sys, "argv", ["dallme", *map(str, command)])
    assert _status() == 0
    printed = json.loads(capsys.readouterr().out)
    methods = {method["method"]: method["results"] for method in printed["comparison"]["methods"]}
    assert methods["select"][0]["classifier"] == "prompt:small"
    assert methods["select"][0]["accuracy_mean"] == 1
    assert methods["full"][0]["accuracy_mean"] is None
    assert methods["full"][1]["accuracy_mean"] is not None
    assert any("full is left out" in note for note in printed["comparison"]["notes"])


def test_an_option_that_no_classifier_has_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DALLME_STORE", str(tmp_path / "store"))
    rows = write_csv(tmp_path / "rows.csv", [("a fine film", "good"), ("a dull film", "bad")])
    command = ["evaluate", rows, "--test", rows, "--set", "classifier.sample=6"]
    monkeypatch.setattr(sys, "argv", ["dallme", *map(str, command)])
    assert _status() == 2
    assert "has an option 'sample'. They have no options." in capsys.readouterr().err
