"""Personal data: patterns and checksums, masking, and placeholders that are the same for the same value."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dallme import Distiller
from dallme.auditing.inputs import gather
from dallme.data import LabelledTexts
from dallme.errors import InputError
from dallme.personal import (
    PersonalDataError,
    Redactor,
    check_personal,
    describe_texts,
    find_personal,
    mask,
    mask_span,
)
from dallme.text import clean

FOUND = [
    ("Write to jane.doe@example.org today.", "EMAIL_ADDRESS", "jane.doe@example.org"),
    ("müller@firma-süd.de", "EMAIL_ADDRESS", "müller@firma-süd.de"),
    ("'o'brien+x@mail.co.uk'", "EMAIL_ADDRESS", "o'brien+x@mail.co.uk"),
    ("メールはtaro@example.jpです", "EMAIL_ADDRESS", "taro@example.jp"),
    ("j.smith@firm.example", "EMAIL_ADDRESS", "j.smith@firm.example"),
    ("mailto:a@b.technology.", "EMAIL_ADDRESS", "a@b.technology"),
    ("Call (212) 555-0187 now.", "PHONE_NUMBER", "(212) 555-0187"),
    ("1-800-555-0187!", "PHONE_NUMBER", "1-800-555-0187"),
    ("+49 (0)30 9018-200", "PHONE_NUMBER", "+49 (0)30 9018-200"),
    ("+49301234567.", "PHONE_NUMBER", "+49301234567"),
    ("0049 30 1234567", "PHONE_NUMBER", "0049 30 1234567"),
    ("(030) 901820-0", "PHONE_NUMBER", "(030) 901820-0"),
    ("020 7946 0958", "PHONE_NUMBER", "020 7946 0958"),
    ("0171/1234567", "PHONE_NUMBER", "0171/1234567"),
    ("01 23 45 67 89", "PHONE_NUMBER", "01 23 45 67 89"),
    ("phone: 555-0187", "PHONE_NUMBER", "555-0187"),
    ("call me on 07700900123", "PHONE_NUMBER", "07700900123"),
    ("My number is 536-90-4399.", "US_SSN", "536-90-4399"),
    ("Card 4111 1111 1111 1111 was used.", "CREDIT_CARD", "4111 1111 1111 1111"),
    ("3782 822463 10005", "CREDIT_CARD", "3782 822463 10005"),
    ("DE89 3704 0044 0532 0130 00 bitte", "IBAN_CODE", "DE89 3704 0044 0532 0130 00"),
    ("to GB82WEST12345698765432.", "IBAN_CODE", "GB82WEST12345698765432"),
    ("From 192.168.13.7 again.", "IP_ADDRESS", "192.168.13.7"),
    ("at 2001:db8:85a3::8a2e:370:7334", "IP_ADDRESS", "2001:db8:85a3::8a2e:370:7334"),
    ("https://jane:secret@example.org/x", "URL_WITH_PASSWORD", "https://jane:secret@example.org"),
    (
        "https://x.org/?access_token=abcdef123456",
        "URL_WITH_TOKEN",
        "https://x.org/?access_token=abcdef123456",
    ),
    ("key AKIAIOSFODNN7EXAMPLE", "SECRET_KEY", "AKIAIOSFODNN7EXAMPLE"),
    ("ghp_" + "a1B2" * 9, "SECRET_KEY", "ghp_" + "a1B2" * 9),
    ("sk-proj-abcDEF0123456789abcdef", "SECRET_KEY", "sk-proj-abcDEF0123456789abcdef"),
    ("password: hunter2hunter2", "SECRET_KEY", "hunter2hunter2"),
    (
        "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----",
        "PRIVATE_KEY",
        "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----",
    ),
]

NOT_FOUND = [
    "In 1999, 25,000 people saw all 2 hours and 15 minutes at $12.50 each; 10/10!",
    "Card 4111 1111 1111 1112 is none; DE89 3704 0044 0532 0130 01 is none.",
    "order 536904399 came",
    "2004-05-06 12:30:45, 01.02.2003 12:30, 12/31/2004, 2004/2005",
    "won 6-4 6-3 7-6 and 21-15 21-18",
    "$1 234 567 890 and 1.234.567.890 and 1,234,567,890 and 12 500 000",
    "ISBN 0-306-40615-2 and 978-3-16-148410-0",
    "version 10.2.8.1 and 1.2.3.4 and 127.0.0.1",
    "a conference call 2004-2005, call 2004 2005 2006, phone sales 12 500 000",
    "std::vector<int> a::b Face::add",
    "lottery: 01 02 03 04 05 06",
    "icon@2x.png",
    "sk-learn-contrib-imbalanced-learning, Password: unbelievable",
    "up +10 000 000 and +250 000 000 people",
    "https://example.org/a?page=12345678&lang=en",
]


@pytest.mark.parametrize(("text", "kind", "value"), FOUND, ids=[row[2][:20] for row in FOUND])
def test_each_kind_is_found(text: str, kind: str, value: str) -> None:
    assert [(match.kind, match.text) for match in find_personal(text)] == [(kind, value)]
    assert value not in mask(text)
    assert find_personal(mask(text)) == []


@pytest.mark.parametrize("text", NOT_FOUND)
def test_numbers_and_names_of_other_things_are_not(text: str) -> None:
    assert find_personal(text) == []
    assert mask(text) == text


@pytest.mark.parametrize(("name", "most"), [("ag_news", 2), ("sst2", 0)])
def test_news_and_reviews_have_hardly_any(shared_data: Path, name: str, most: int) -> None:
    texts = pq.read_table(shared_data / name / "train.parquet").column("text").to_pylist()[:20_000]
    found = [match.text for text in texts for match in find_personal(text)]
    assert len(found) <= most, found


@pytest.mark.parametrize(
    "text",
    [
        "a" * 100_000,
        "a@" * 50_000,
        "1 " * 50_000,
        "+1-" * 30_000,
        "https://" + "a:" * 50_000,
        "https://x?" * 5_000,
        "-----BEGIN PRIVATE KEY-----" * 2_000,
        "ab12" * 25_000,
        "(01)" * 25_000,
        "::1" * 30_000,
        "phone 1" * 15_000,
        "sk-" * 30_000,
        "eyJ" + "a" * 100_000,
    ],
    ids=lambda text: text[:12],
)
def test_time_is_linear_in_the_length(text: str) -> None:
    started = time.perf_counter()
    find_personal(text)
    assert time.perf_counter() - started < 5


def test_equal_values_have_equal_placeholders_in_any_order() -> None:
    texts = [
        "Ask jane@example.org.",
        "JANE@example.org knows, or joe@x.de",
        "+49 30 1234567",
        "+49-30-1234567",
    ]
    first, second = Redactor(texts), Redactor(texts[::-1])
    redacted = [first.redact(text) for text in texts]
    assert redacted == [second.redact(text) for text in texts]
    name = redacted[0].removeprefix("Ask ").removesuffix(".")
    assert name in ("<EMAIL_1>", "<EMAIL_2>")
    assert redacted[1].startswith(f"{name} knows, or <EMAIL_")
    assert redacted[2] == redacted[3] == "<PHONE_1>"
    assert first.counts == {"EMAIL_ADDRESS": 3, "PHONE_NUMBER": 2}


def test_markup_hides_nothing() -> None:
    texts = ["write jane&#64;<b>example</b>.org", "plain &amp; simple", "call +49\n30\n1234567"]
    redactor = Redactor(texts)
    redacted = [redactor.redact(text) for text in texts]
    assert redacted == ["write <EMAIL_1>", "plain &amp; simple", "call <PHONE_1>"]


def test_placeholders_of_the_source_are_not_taken_again() -> None:
    texts = ["<EMAIL_1> wrote to jane@example.org"]
    assert Redactor(texts).redact(texts[0]) == "<EMAIL_1> wrote to <EMAIL_2>"


def test_cleaning_keeps_placeholders() -> None:
    assert clean("<p>to <EMAIL_1> &amp; <SECRET_12></p>") == "to <EMAIL_1> & <SECRET_12>"
    assert clean("<EMAIL>a</EMAIL>") == "a"


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from([*(text for text, _, _ in FOUND), "and", "<b>", "&amp;", "\n", "12", "@"])))
def test_nothing_is_found_after_redaction(parts: list[str]) -> None:
    text = " ".join(parts)
    redactor = Redactor([text])
    redacted = redactor.redact(text)
    assert find_personal(redacted) == []
    assert find_personal(clean(redacted)) == []


def test_spans_are_masked_with_what_they_touch() -> None:
    text = "Ask jane@example.org about it."
    assert mask_span(text, 0, 8) == "Ask j***"
    assert mask_span(text, 9, 26) == "j*** about"
    assert mask_span(text, 21, 26) == "about"


def test_texts_are_described_without_a_value() -> None:
    counts, words = describe_texts(["a@b.de and c@d.de", "none", "DE89370400440532013000"])
    assert counts == {"EMAIL_ADDRESS": 2, "IBAN_CODE": 1}
    assert words == "2 e-mail addresses, 1 IBAN (texts 0 and 2)".replace(" and ", ", ")
    assert describe_texts(["none"]) == ({}, "")
    check_personal(["a@b.de"], 1, "")
    with pytest.raises(
        PersonalDataError, match=r"^expected texts without personal data, found 1 e-mail address "
    ):
        check_personal(["a@b.de"], 0, "edit it")


# Distilling

TEXTS = [
    "The lamp broke after a week. Write to jane.doe@example.org please.",
    "The lamp never worked. My number is 555-0187, phone 555-0187.",
    "The lamp is fine. Thanks from jane.doe@example.org to all of you.",
    "The chair came late. It was in a large box, from +49 30 1234567.",
    "The chair is soft. I sit on it all day long and like it.",
    "The chair wobbles. Call (212) 555-0187 for a new leg of it.",
]
LABELS = ["lamp", "lamp", "lamp", "chair", "chair", "chair"]
PRIVATE = ("jane.doe", "555-0187", "1234567")


def _distiller(**options: object) -> Distiller:
    return Distiller(per_class=1, embedder="hashing", progress=False, **options)  # type: ignore[arg-type]


def test_redacted_texts_hold_placeholders_only() -> None:
    distilled = _distiller(redact=True).distill(TEXTS, LABELS)
    joined = " ".join(distilled.texts)
    assert not [value for value in PRIVATE if value in joined]
    assert "<EMAIL_1>" in joined
    assert distilled.manifest["configuration"]["redact"] is True
    assert distilled.manifest.personal == {"found": {}, "redacted": {"EMAIL_ADDRESS": 2, "PHONE_NUMBER": 4}}


def test_what_is_found_is_recorded_and_limited() -> None:
    distilled = _distiller().distill(TEXTS, LABELS)
    assert distilled.manifest.personal is not None
    assert sum(distilled.manifest.personal["found"].values()) > 0
    with pytest.raises(
        PersonalDataError, match="redact the source with redact=True, or set a higher max_personal"
    ):
        _distiller(max_personal=0).distill(TEXTS, LABELS)
    with pytest.raises(
        InputError, match="expected max_personal to be a whole number of at least 0, found -1"
    ):
        _distiller(max_personal=-1)
    clean_texts = _distiller(max_personal=0).distill(["a fine film", "a dull film"], [1, 0])
    assert clean_texts.manifest.personal is None


def test_a_redacted_set_is_audited_with_its_source() -> None:
    source = LabelledTexts(TEXTS, np.array([0, 0, 0, 1, 1, 1]), {0: "lamp", 1: "chair"}, np.arange(6))
    distilled = _distiller(redact=True).run(source).distilled
    evidence = gather(distilled, source)
    assert not [text for text in evidence.source.texts if find_personal(text)]
    assert evidence.source.source_digest == source.source_digest


def test_row_ids_and_class_names_are_looked_at() -> None:
    ids = np.array(["a@b.de", "c@d.de"], dtype=object)
    source = LabelledTexts(["x", "y"], np.array([0, 1]), {0: "p", 1: "q"}, ids)
    redacted = source.redacted()
    assert sorted(redacted.row_ids.tolist()) == ["<EMAIL_1>", "<EMAIL_2>"]
    assert redacted.redactions == {"EMAIL_ADDRESS": 2}
    assert redacted.redacted() is redacted
    named = LabelledTexts(["x", "y"], np.array([0, 1]), {0: "p", 1: "jane@b.de"}, np.arange(2))
    with pytest.raises(InputError, match=r"class names without personal data, found 'j\*\*\*'"):
        named.redacted()
    with pytest.raises(InputError, match="no ready vectors with redact"):
        _distiller(redact=True).distill(["x", "y"], [0, 1], vectors=np.eye(2))
