"""Task prompts, put where each family of models was trained to see one."""

from __future__ import annotations

import pytest

from dallme.embedders.hashing import HashingEmbedder
from dallme.embedders.prompts import FAMILIES, TEMPLATES, family_of, prefix_for, task_prompt

SENTIMENT = TEMPLATES["sentiment"]


@pytest.mark.parametrize(
    ("model", "family", "without", "instructed"),
    [
        ("intfloat/e5-base-v2", "e5", "query: ", f"query: {SENTIMENT}: "),
        ("intfloat/multilingual-e5-large", "e5", "query: ", f"query: {SENTIMENT}: "),
        ("intfloat/multilingual-e5-large-instruct", "e5-instruct", "", f"Instruct: {SENTIMENT}\nQuery: "),
        ("Qwen/Qwen3-Embedding-0.6B", "qwen3-embedding", "", f"Instruct: {SENTIMENT}\nQuery:"),
        ("Alibaba-NLP/gte-Qwen2-1.5B-instruct", "gte-instruct", "", f"Instruct: {SENTIMENT}\nQuery: "),
        ("nomic-ai/nomic-embed-text-v1.5", "nomic", "classification: ", f"classification: {SENTIMENT}: "),
        (
            "hkunlp/instructor-large",
            "instructor",
            "Represent the text for classification: ",
            f"{SENTIMENT}: ",
        ),
        ("BAAI/bge-base-en-v1.5", "bge", "", f"{SENTIMENT}: "),
        ("mixedbread-ai/mxbai-embed-large-v1", "mxbai", "", f"{SENTIMENT}: "),
        ("thenlper/gte-base", "gte", "", f"{SENTIMENT}: "),
        ("sentence-transformers/all-MiniLM-L6-v2", "unknown", "", f"{SENTIMENT}: "),
    ],
)
def test_families(model: str, family: str, without: str, instructed: str) -> None:
    assert family_of(model).name == family
    assert prefix_for(model, None) == without
    assert prefix_for(model, "sentiment") == instructed


def test_a_model_without_instructions_sees_the_raw_prompt() -> None:
    assert prefix_for("all-MiniLM-L6-v2", "What is felt here? ") == "What is felt here? "
    assert prefix_for("Qwen/Qwen3-Embedding-8B", "Name the genre: ") == "Instruct: Name the genre\nQuery:"


def test_the_models_own_configuration_comes_first() -> None:
    own = {"query": "q: ", "Classification": "task: classification | query: "}
    assert prefix_for("some/model", None, own) == "task: classification | query: "
    assert prefix_for("some/model", None, {"query": "q: "}) == ""
    assert prefix_for("intfloat/e5-base-v2", None, {"query": "q: "}) == "query: "


def test_templates_are_part_of_the_fingerprint() -> None:
    embedder = HashingEmbedder()
    assert task_prompt("topic") == TEMPLATES["topic"]
    assert embedder.fingerprint("topic") != embedder.fingerprint("sentiment") != embedder.fingerprint()
    assert embedder.fingerprint("topic") == embedder.fingerprint(f"{TEMPLATES['topic']}: ")


def test_every_family_takes_a_task() -> None:
    assert all("{task}" in family.instructed for family in FAMILIES)
    assert len({family.name for family in FAMILIES}) == len(FAMILIES)
