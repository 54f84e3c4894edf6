"""The audit: what is copied, what is personal, what the labels are worth, how it reads, and the command."""

from __future__ import annotations

import json
import random
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from dallme.auditing import Thresholds, audit
from dallme.auditing.inputs import AuditInput, check_same, gather
from dallme.auditing.personal import Scanner
from dallme.auditing.readability import measure, perplexity_of
from dallme.data import Fingerprint, LabelledTexts, LabelledVectors
from dallme.dataset import DistilledDataset, Lineage
from dallme.dataset.card import check_audit, parse_audit
from dallme.distiller import Distiller
from dallme.embedders.hashing import HashingEmbedder
from dallme.embedders.openai import OpenAIEmbedder
from dallme.embedders.static import StaticEmbedder
from dallme.errors import InputError
from dallme.overlap import SuffixAutomaton, words_of
from dallme.readers import read
from openai_server import OpenAIServer
from report_sets import small_set

# Copied runs


def _longest(text: list[str], row: list[str]) -> list[int]:
    """Computes by brute force the longest run of the row that ends at each word of the text."""
    inside = {tuple(row[i:j]) for i in range(len(row)) for j in range(i + 1, len(row) + 1)}
    return [
        max((length for length in range(1, end + 1) if tuple(text[end - length : end]) in inside), default=0)
        for end in range(1, len(text) + 1)
    ]


def test_runs_are_those_of_a_search_everywhere() -> None:
    dice = random.Random(0)
    for _ in range(60):
        letters = "ab" if dice.random() < 0.5 else "abcd"
        texts = [[dice.choice(letters) for _ in range(dice.randrange(12))] for _ in range(4)]
        rows = [[dice.choice(letters + "x") for _ in range(dice.randrange(15))] for _ in range(5)]
        found = SuffixAutomaton([" ".join(text) for text in texts]).read(" ".join(row) for row in rows)
        for text, copied in zip(texts, found, strict=True):
            by_row = np.array([_longest(text, row) for row in rows]).reshape(5, len(text))
            assert copied.runs.tolist() == by_row.max(axis=0, initial=0).tolist()
            if copied.row is None:
                assert copied.longest == 0
            else:
                span = " ".join(text)[copied.start : copied.end].split()
                assert len(span) == copied.longest == by_row[copied.row].max()
                assert " ".join(span) in " ".join(rows[copied.row])


def test_copied_spans_are_quoted_and_ngrams_counted() -> None:
    rows = ["nothing here", "They said: THE cast, is great and warm!", "and warm days"]
    (copied,) = SuffixAutomaton(["A film? The cast is great, and warm days follow."]).read(rows)
    assert (copied.longest, copied.row) == (6, 1)
    assert (
        "A film? The cast is great, and warm days follow."[copied.start : copied.end]
        == "The cast is great, and warm"
    )
    # Ten words have six runs of five words, two of which stand in row 1.
    assert copied.share_of_grams(5) == pytest.approx(2 / 6)
    assert copied.share_of_grams(20) == 0
    assert SuffixAutomaton([""]).read(rows)[0].longest == 0
    assert words_of("电影 GOOD film") == ["电", "影", "good", "film"]


def test_letters_that_grow_when_folded() -> None:
    (copied,) = SuffixAutomaton(["İyi bir film"]).read(["iyi bir film"])
    assert copied.longest >= 2
    assert "İyi bir film"[copied.start : copied.end]


# Personal data


@pytest.fixture(scope="module")
def scanner() -> Scanner:
    pytest.importorskip("presidio_analyzer", reason="the scan for personal data needs presidio-analyzer")
    return Scanner()


@pytest.mark.parametrize(
    ("text", "kind", "found"),
    [
        ("Write to jane.doe@example.org today.", "EMAIL_ADDRESS", "jane.doe@example.org"),
        ("Call (212) 555-0187 now.", "PHONE_NUMBER", "(212) 555-0187"),
        ("Card 4111 1111 1111 1111 was used.", "CREDIT_CARD", "4111 1111 1111 1111"),
        ("Pay to GB82WEST12345698765432.", "IBAN_CODE", "GB82WEST12345698765432"),
        ("My number is 536-90-4399.", "US_SSN", "536-90-4399"),
        ("At 00:1B:44:11:3A:B7 now.", "MAC_ADDRESS", "00:1B:44:11:3A:B7"),
        ("From 192.168.13.7 again.", "IP_ADDRESS", "192.168.13.7"),
        (
            "See https://jane:secret@example.org/x now.",
            "URL_WITH_PASSWORD",
            "https://jane:secret@example.org",
        ),
    ],
)
def test_personal_data_is_found(scanner: Scanner, text: str, kind: str, found: str) -> None:
    assert [(place.kind, place.text) for place in scanner.scan(text)] == [(kind, found)]


def test_what_is_not_personal_is_left_alone(scanner: Scanner) -> None:
    assert scanner.scan("In 1999, 25,000 people saw all 2 hours and 15 minutes at $12.50 each; 10/10!") == []
    assert scanner.scan("Card 4111 1111 1111 1112 is none.") == []
    assert scanner.scan("order 536904399 came") == []  # nine digits may be anything
    assert scanner.scan("reach me at nobody@nowhere.invalidtld") == []
    assert scanner.name.startswith("presidio-analyzer ")


# Readability


def test_readability() -> None:
    found = measure(
        ["A film is a film.", "so dull"],
        ["A film is a film.", "so dull", "“Go!”", "and then.", "No end", "电影很好。", "10 of 10."],
    )
    assert found.type_token_ratio == pytest.approx((3 / 5 + 1) / 2)
    assert found.distinct_1 == pytest.approx(5 / 7)
    assert found.distinct_2 == pytest.approx(4 / 5)  # "a film" stands twice
    assert found.complete_sentences == pytest.approx(4 / 7)
    assert found.perplexity is None
    assert measure([], []).distinct_1 == 0


@pytest.mark.slow
def test_perplexity_tells_language_from_noise(smollm2: str) -> None:
    plain = perplexity_of(["The film was good and the actors were great."], smollm2)
    noise = perplexity_of(["film The and great good were was actors the."], smollm2)
    assert plain is not None
    assert noise is not None
    assert 1 < plain < 200 < noise
    assert perplexity_of([], smollm2) is None


# The whole


def test_what_the_audit_says_of_a_small_set() -> None:
    distilled, evidence = small_set()
    test = LabelledTexts(["<b>bad</b> BAD", "nothing"], np.array([5, 9]), {5: "bad", 9: "good"}, np.arange(2))
    found = audit(evidence, test=test, thresholds=Thresholds(max_copied_span=1, min_cluster=2)).as_dict()
    check_audit(found, distilled)
    assert parse_audit(json.dumps(found).encode()) == found
    assert [entry["copied_span"]["words"] for entry in found["texts"]] == [2, 0, 1]
    assert found["texts"][0]["copied_span"] == {"words": 2, "row": 0, "text": "dull film"}
    assert found["texts"][1]["copied_span"] == {"words": 0, "row": None, "text": ""}
    assert [entry["members"] for entry in found["texts"]] == [2, 1, 4]
    assert found["summary"]["min_cluster"] == 1
    assert found["summary"]["small_clusters"] == [1]
    assert found["summary"]["contamination"] == {
        "rows": 2,
        "exact": [1],
        "longest_span": 2,
        "shared_13grams": [],
    }
    assert found["failures"] == [
        "expected at most 1 words in a row from one source row, found 2 in text 0",
        "expected at least 2 source rows behind a text, found 1 behind text 1",
    ]
    assert found["summary"]["agreement"] == 1
    assert [entry["predicted"] for entry in found["texts"]] == ["bad", "bad", "good"]


def test_thirteen_words_are_contamination_and_twelve_are_not() -> None:
    row = "one two three four five six seven eight nine ten eleven twelve thirteen"
    _, evidence = small_set()
    texts = (f"Well, {row}, they said.", " ".join(row.split()[:12]), "Fine and warm.")
    distilled = DistilledDataset(
        texts,
        evidence.distilled.labels,
        evidence.distilled.label_names,
        evidence.distilled.weights,
        evidence.distilled.lineage,
    )
    changed = type(evidence)(distilled, evidence.source)
    test = LabelledTexts([f"x {row} y"], np.array([5]), {5: "bad"}, np.arange(1))
    summary = audit(changed, test=test).as_dict()["summary"]
    assert summary["contamination"] == {"rows": 1, "exact": [], "longest_span": 13, "shared_13grams": [0]}
    assert summary["agreement"] is None


def test_near_duplicates_by_words_where_there_are_no_vectors() -> None:
    _, evidence = small_set()
    texts = ("A fine, warm film.", "Warm film, a FINE!", "Something else.")
    distilled = DistilledDataset(
        texts,
        evidence.distilled.labels,
        evidence.distilled.label_names,
        evidence.distilled.weights,
        evidence.distilled.lineage,
    )
    found = audit(type(evidence)(distilled, evidence.source)).as_dict()
    assert found["summary"]["near_duplicates"] == [{"first": 0, "second": 1, "cosine": pytest.approx(1)}]
    assert (
        found["notes"][0]
        == "labels were not checked, as there are no vectors; name an embedder with --embedder"
    )


def test_a_wrong_label_is_seen(tmp_path: Path) -> None:
    texts = [f"a {word} film number {row}" for word in ("dull", "fine") for row in range(40)]
    source = LabelledTexts(texts, np.repeat([0, 1], 40), {0: "bad", 1: "good"}, np.arange(80))
    made = Distiller(per_class=2, embedder="hashing").run(source).distilled
    poisoned = DistilledDataset(
        made.texts, np.array([0, 1, 1, 1]), made.label_names, made.weights, made.lineage, made.manifest
    )
    found = audit(gather(poisoned, source)).as_dict()
    assert found["summary"]["label_disagreements"] == [1]
    assert found["texts"][1]["predicted"] == "bad"
    assert found["texts"][1]["label_confidence"] < 0.5


def test_planted_rows_are_seen_by_their_tight_cluster() -> None:
    # Four clusters of twenty rows and one of three; the rows of the third and the last are nearly alike.
    sizes, noise = (20, 20, 20, 20, 3), (1.0, 0.8, 0.1, 1.2, 0.0)
    cluster = np.repeat(np.arange(5), sizes)
    vectors = (
        np.random.default_rng(0).normal(size=(83, 4)).astype(np.float32)
        * np.array(noise, dtype=np.float32)[cluster, None]
    )
    labels, names = np.zeros(83, dtype=np.int64), {0: "good"}
    source = LabelledTexts([f"row {row}" for row in range(83)], labels, names, np.arange(83))
    lineage = tuple(Lineage("nearest", tuple(np.flatnonzero(cluster == text).tolist())) for text in range(5))
    distilled = DistilledDataset(tuple("abcde"), labels[:5], names, np.array(sizes, dtype=float), lineage)
    embedded = LabelledVectors(vectors, labels, Fingerprint("given", "unknown", 4))
    found = audit(AuditInput(distilled, source, embedded, vectors[:5])).as_dict()
    assert found["summary"]["tight_clusters"] == [2]
    assert found["notes"][-1] == (
        "the 20 source rows behind text 2 are nearly alike, as planted or copied rows are; "
        "look at them before you trust its label"
    )
    rows = vectors[cluster == 1].astype(np.float64)
    spread = np.sqrt(((rows - rows.mean(axis=0)) ** 2).sum(axis=1)).mean()
    assert found["texts"][1]["spread"] == pytest.approx(spread)
    assert found["texts"][4]["spread"] == 0
    without = audit(AuditInput(distilled, source)).as_dict()
    assert without["summary"]["tight_clusters"] == []
    assert without["texts"][1]["spread"] is None


@pytest.mark.parametrize("thresholds", [{"max_copied_span": 0}, {"min_cluster": -1}, {"min_cluster": 1.5}])
def test_thresholds_are_checked(thresholds: dict[str, int]) -> None:
    with pytest.raises(
        InputError, match=r"expected (max_copied_span|min_cluster) to be a whole number of at least 1, found"
    ):
        Thresholds(**thresholds)


# The embedder that made the set


def _made_with(embedder: object) -> tuple[DistilledDataset, LabelledTexts]:
    texts = ["a fine film", "a fine story", "dull film , dull", "a dull story"]
    source = LabelledTexts(texts, np.array([0, 0, 1, 1]), {0: "good", 1: "bad"}, np.arange(4))
    return Distiller(per_class=1, embedder=embedder, decoder="nearest").run(source).distilled, source


def test_a_name_that_leads_to_other_vectors_today_is_refused() -> None:
    distilled, source = _made_with("hashing")
    older = distilled.manifest["embedder"] | {"weights": "blake2b-signs-0"}
    with pytest.raises(InputError) as caught:
        gather(replace(distilled, manifest=distilled.manifest | {"embedder": older}), source)
    assert str(caught.value) == (
        "expected the vectors of 'hashing', with which the texts were made (weights 'blake2b-signs-0', "
        "not 'blake2b-signs-1'), "
        "found those of 'hashing'; name the same embedder, with the same options, with --embedder"
    )


def test_an_embedder_that_is_given_may_make_other_vectors() -> None:
    distilled, source = _made_with("hashing")
    own = gather(distilled, source, embedder=HashingEmbedder(dimension=64)).own
    assert own is not None
    assert own.shape == (2, 64)
    distilled, source = _made_with(HashingEmbedder(dimension=64))
    other = distilled.manifest["embedder"] | {"weights": "of another model"}
    own = gather(
        replace(distilled, manifest=distilled.manifest | {"embedder": other}), source, embedder="hashing"
    ).own
    assert own is not None
    assert own.shape == (2, 256)  # as it is: the options are those of another model


def test_precision_and_location_keep_the_embedding_space() -> None:
    made = Fingerprint("org/model", "ab" * 32, 3, precision="bfloat16")
    check_same(asdict(made), replace(made, model="folder", precision="float32"))
    with pytest.raises(
        InputError, match=r"\(weights abababababab…, not cdcdcdcdcdcd…\), found those of 'org/model'"
    ):
        check_same(asdict(made), replace(made, weights="cd" * 32))
    users = Fingerprint("mine.Encoder", "unknown", 3)
    with pytest.raises(InputError, match="model 'mine.Encoder', not 'other.Encoder'"):
        check_same(asdict(users), replace(users, model="other.Encoder"))


def test_options_are_taken_from_the_manifest(static_folder: Path) -> None:
    distilled, source = _made_with(HashingEmbedder(dimension=64))
    vectors = gather(distilled, source).vectors
    assert vectors is not None
    assert vectors.fingerprint == HashingEmbedder(dimension=64).fingerprint()
    made = StaticEmbedder(str(static_folder), max_tokens=5, unknown="zero")
    distilled, source = _made_with(made)
    vectors = gather(distilled, source, embedder=f"model2vec:{static_folder}").vectors
    assert vectors is not None
    assert vectors.fingerprint == made.fingerprint()


def test_a_folders_name_does_not_lead_there(static_folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "deep" / "words.txt"
    file.parent.mkdir()
    file.write_text("a 1 0\nfine 0 1\nfilm 1 1\nstory 2 1\ndull 1 -1\n")
    distilled, source = _made_with(f"glove:{file}")
    with pytest.raises(
        InputError,
        match=r"found 'glove:words\.txt' in the manifest .* --embedder glove:words\.txt .* its folder there$",
    ):
        gather(distilled, source)
    assert gather(distilled, source, embedder=f"glove:{file}").own is not None


def test_no_other_service_is_asked_than_the_sets_own(
    served_hashing: OpenAIEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "key")
    distilled, source = _made_with(served_hashing)
    with OpenAIServer(HashingEmbedder()) as other:
        monkeypatch.setenv("OPENAI_BASE_URL", other.url)
        with pytest.raises(
            InputError, match="name the same embedder, .*, and its server in OPENAI_BASE_URL$"
        ):
            gather(distilled, source, embedder="openai:hashing")
        assert other.requests == 0
    monkeypatch.setenv("OPENAI_BASE_URL", str(served_hashing.base_url))
    assert gather(distilled, source, embedder="openai:hashing").own is not None


def test_a_set_of_ready_vectors_may_be_judged_by_any_embedder() -> None:
    _, source = _made_with("hashing")
    distilled = (
        Distiller(per_class=1, decoder="nearest").run(source, vectors=np.eye(4, dtype=np.float32)).distilled
    )
    assert gather(distilled, source).vectors is None
    assert gather(distilled, source, embedder="hashing").own is not None


# The command


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    rows = [
        f"A {word} film from start to end number {row}.,{label}"
        for row in range(20)
        for word, label in (("fine", "g"), ("dull", "b"))
    ]
    (tmp_path / "rows.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    monkeypatch.setenv("DALLME_STORE", str(tmp_path / "store"))
    Distiller(per_class=2, embedder="hashing").run(read(tmp_path / "rows.csv")).distilled.save(
        tmp_path / "out"
    )
    return tmp_path


def _run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    from dallme.cli.main import _status

    monkeypatch.setattr("sys.argv", ["dallme", "audit", *map(str, arguments)])
    return _status()


def test_the_command_writes_the_document_and_prints_a_table(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        _run(monkeypatch, folder / "out", "--source", folder / "rows.csv", "--test", folder / "rows.csv") == 0
    )
    out = capsys.readouterr().out
    assert "Longest span copied from a source row" in out
    document = parse_audit((folder / "out" / "audit.json").read_bytes())
    check_audit(document, DistilledDataset.load(folder / "out"))
    assert document["summary"]["longest_copied_span"] == 9
    assert document["summary"]["contamination"]["rows"] == 40


def test_a_broken_threshold_stops_a_pipeline(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = (folder / "out", "--source", folder / "rows.csv", "--max-copied-span", 8)
    assert _run(monkeypatch, *given) == 1
    assert (
        "failed: expected at most 8 words in a row from one source row, found 9 in text 0"
        in capsys.readouterr().out
    )
    assert _run(monkeypatch, *given, "--json") == 1
    document = json.loads(capsys.readouterr().out)
    assert document["thresholds"] == {"max_copied_span": 8, "min_cluster": None}
    assert len(document["failures"]) == 4
    assert _run(monkeypatch, *given[:3], "--min-cluster", 0) == 2
    assert "expected min_cluster to be a whole number of at least 1, found 0" in capsys.readouterr().err


def test_another_source_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "other.csv").write_text("text,label\nA fine film.,g\nA dull film.,b\n")
    assert _run(monkeypatch, folder / "out", "--source", folder / "other.csv") == 2
    assert "expected the source that the texts were distilled from" in capsys.readouterr().err
    assert not (folder / "out" / "audit.json").exists()
