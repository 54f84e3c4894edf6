"""The search decoder: the model that goes on from what it has read, the beam, and texts that copy nothing."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from dallme.data import Prototypes
from dallme.decoders import selection
from dallme.decoders.base import Context
from dallme.decoders.postprocess import without_half_sentence
from dallme.decoders.search import BeamSearch, Continuing, SearchDecoder, Width, _prompt
from dallme.decoders.selection import ClusterSummary
from dallme.embedders.hashing import HashingEmbedder
from dallme.errors import InputError
from dallme.models.language import load_causal
from dallme.progress import SilentProgress
from decoder_cases import check_contract, make_context, make_prototypes
from tiny_models import LABELS, TEXTS, save_tiny_model

PROMPTS = ["the film", "a warm and funny story of the cast", "dull"]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_tiny_model("causal", tmp_path_factory.mktemp("causal"))


@pytest.fixture
def toy() -> Context:
    return make_context(TEXTS, LABELS.tolist(), max_tokens=12)


@pytest.fixture
def prototypes(toy: Context) -> Prototypes:
    rows = [np.flatnonzero(toy.vectors.labels == label) for label in (4, 9)]
    return make_prototypes(toy, [half for own in rows for half in np.array_split(own, 2)])


def _greedy(model: Any, tokenizer: Any, prompt: str, tokens: int) -> list[int]:
    """The likeliest tokens without a cache, none of which makes five tokens come twice."""
    ids = tokenizer(prompt, add_special_tokens=False).input_ids
    written: list[int] = []
    for _ in range(tokens):
        scores = model(input_ids=torch.tensor([[*ids, *written]])).logits[0, -1]
        grams = {tuple(written[at : at + 5]) for at in range(len(written) - 4)}
        for word in range(len(scores)):
            if (*written[-4:], word) in grams:
                scores[word] = -torch.inf
        written.append(int(scores.argmax()))
    return written


def test_what_was_read_is_kept_and_follows_its_row(tiny: str) -> None:
    model, tokenizer = load_causal(tiny)
    with torch.inference_mode():
        expected = {prompt: _greedy(model, tokenizer, prompt, 9) for prompt in PROMPTS}
        writing = Continuing(model, tokenizer, PROMPTS)
        writing.write(3, [None] * 3, 1.0)
        writing.take([2, 0, 0, 1])  # rows change places, one stands twice, and all go on from what they had
        writing.write(2, [None] * 4, 1.0)
        writing.take([3, 1, 0])
        writing.write(4, [None] * 3, 1.0)
        assert writing.written.tolist() == [expected[PROMPTS[row]] for row in (1, 0, 2)]


def test_draws_depend_on_their_own_seed_alone(tiny: str) -> None:
    model, tokenizer = load_causal(tiny)
    with torch.inference_mode():
        both = Continuing(model, tokenizer, PROMPTS[:2])
        both.write(5, [(1, 2), (3, 4)], 0.9)
        alone = Continuing(model, tokenizer, PROMPTS[:1])
        alone.write(5, [(1, 2)], 0.9)
        assert both.written[0].tolist() == alone.written[0].tolist()


def _find(tiny: str, targets: np.ndarray, **options: Any) -> list[list[str]]:
    width = Width(**{"beam": 4, "branch": 4, "stride": 2, "tokens": 12, "temperature": 1.0} | options)
    search = BeamSearch(*load_causal(tiny), HashingEmbedder().embed, width, SilentProgress())
    return search.find(["the film"] * len(targets), targets, [(0, place) for place in range(len(targets))])


def _cosine(found: Sequence[Sequence[str]], targets: np.ndarray) -> float:
    embedder = HashingEmbedder()
    own = [max(embedder.embed(texts) @ target) for texts, target in zip(found, targets, strict=True)]
    return float(np.mean(own))


def test_a_wider_search_comes_nearer(tiny: str) -> None:
    targets = HashingEmbedder().embed(["great warm lovely film", "awful dull boring story", "a funny cast"])
    narrow = _find(tiny, targets, beam=1, branch=2)
    wide = _find(tiny, targets, beam=6, branch=6)
    assert _cosine(wide, targets) > _cosine(narrow, targets) + 0.1
    assert _cosine(wide, targets) > 0.6


def test_targets_do_not_depend_on_each_other(tiny: str) -> None:
    targets = HashingEmbedder().embed(
        [f"{word} film" for word in ("great", "warm", "dull", "bad", "sad", "fine")]
    )
    together = _find(tiny, targets)  # more than one group
    assert _find(tiny, targets[:1]) == together[:1]


def test_texts_are_new_short_and_traced(tiny: str, toy: Context, prototypes: Prototypes) -> None:
    decoder = SearchDecoder(tiny)
    result = decoder.decode(prototypes, toy, seed=0)
    decoded, audit = result.texts, result.metadata["audit"]
    check_contract(decoded, prototypes, toy, written=True)
    assert all(not text.rows and text.copied_span is not None and text.copied_span <= 7 for text in decoded)
    assert audit["real_texts"] == []
    assert audit["longest_copied_span"] == max(text.copied_span or 0 for text in decoded)
    assert decoder.decode(prototypes, toy, seed=0) == result
    assert decoder.decode(prototypes, toy, seed=1).texts != decoded


def test_a_text_that_copies_is_refused(tiny: str, toy: Context, prototypes: Prototypes) -> None:
    result = SearchDecoder(tiny, max_copied_span=2).decode(prototypes, toy, seed=0)
    assert max(text.copied_span or 0 for text in result.texts) <= 2
    assert result.metadata["drafts"]["copied"] > 0


def test_nothing_stands_in_for_texts_that_are_all_refused(
    tiny: str, toy: Context, prototypes: Prototypes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        selection, "copied_spans", lambda texts, context: [replace(text, copied_span=8) for text in texts]
    )
    with pytest.raises(InputError) as caught:
        SearchDecoder(tiny).decode(prototypes, toy, seed=0)
    assert re.fullmatch(
        r"expected a text of its own for each of 4 prototypes, found 0 in 3 turns "
        r"\(\d+ texts shared more than 7 words in a row "
        "with a source row\\); raise max_copied_span or the temperature, or ask for fewer texts",
        str(caught.value),
    )


def test_the_model_is_told_key_words_and_no_row(tiny: str) -> None:
    _, tokenizer = load_causal(tiny)
    assert (
        _prompt(tokenizer, ClusterSummary("good", ("warm", "fine")), 12)
        == "A text about good (warm, fine):\n"
    )
    assert _prompt(tokenizer, ClusterSummary("good"), 12) == "A text about good:\n"


def test_half_sentences_are_left_out() -> None:
    assert without_half_sentence("A fine film. It was", "en") == "A fine film."
    assert without_half_sentence("A fine film, it was", "en") == "A fine film, it was"
    assert without_half_sentence('He said: "Fine." So it was.', "en") == 'He said: "Fine." So it was.'


def test_it_needs_an_embedder(tiny: str, toy: Context, prototypes: Prototypes) -> None:
    with pytest.raises(InputError, match="expected an embedder that ranks written texts, found none"):
        SearchDecoder(tiny).decode(prototypes, replace(toy, embedder=None), seed=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beam": 0}, "expected beam to be a whole number of at least 1"),
        ({"max_copied_span": 0}, "expected max_copied_span to be a whole number of at least 1"),
        ({"keywords": -1}, "expected keywords to be a whole number of at least 0"),
        ({"temperature": 0}, "expected temperature to be a number above 0"),
        ({"device": "abacus"}, "unknown device 'abacus'"),
    ],
)
def test_options_are_checked(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        SearchDecoder(**options)


def test_one_class_needs_no_probe(tiny: str) -> None:
    context = make_context(TEXTS, [4] * len(TEXTS), max_tokens=8)
    prototypes = make_prototypes(context, [range(10), range(10, 20)])
    check_contract(
        SearchDecoder(tiny).decode(prototypes, context, seed=0).texts, prototypes, context, written=True
    )
