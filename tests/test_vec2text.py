"""The decoder `vec2text` and its commands, with inverters that write known words."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dallme import registry
from dallme.cli.main import _status
from dallme.cli.settings import typed_options
from dallme.data import DecodedText, Fingerprint, LabelledTexts, LabelledVectors, Prototypes
from dallme.dataset import DistilledDataset
from dallme.decoders.base import Context
from dallme.decoders.vec2text import Vec2TextDecoder
from dallme.decoders.vec2text.inverter import Inverter
from dallme.decoders.vec2text.model import InverterConfig
from dallme.decoders.vec2text.training import train_inverter
from dallme.distiller import Distiller
from dallme.embedders.base import count_words
from dallme.embedders.cache.export import read_vectors, write_vectors
from dallme.embedders.hashing import HashingEmbedder
from dallme.errors import InputError, OutputError
from dallme.progress import SilentProgress
from inverter_cases import CONFIG, HASHING, WORDS, WordInverter, word_inverter, write_config

GOOD = [
    "warm fun film",
    "great cast and music",
    "great story of friends",
    "warm friends and fun",
    "music of a great film",
]


BAD = ["dull sad play", "awful plot and jokes", "sad end of a dull story", "awful jokes", "a dull plot"]


class Notes(SilentProgress):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    @contextmanager
    def task(self, description: str, total: int) -> Iterator[Any]:
        with super().task(description, total) as task:
            yield task

    def note(self, message: str) -> None:
        self.said.append(message)


def film_context(embedder: HashingEmbedder = HASHING, max_tokens: int = 128, repeat: int = 1) -> Context:
    texts, labels = [*GOOD, *BAD] * repeat, np.array(([1] * len(GOOD) + [0] * len(BAD)) * repeat)
    source = LabelledTexts(texts, labels, {0: "bad", 1: "good"}, np.arange(len(texts)))
    vectors = LabelledVectors(embedder.embed(texts), labels, embedder.fingerprint())
    return Context(source, vectors, count_words, max_tokens, embedder, Notes())


def film_prototypes(context: Context, clusters: Sequence[Sequence[int]]) -> Prototypes:
    members = tuple(np.array(cluster) for cluster in clusters)
    return Prototypes(
        vectors=np.stack([context.vectors.vectors[rows].mean(axis=0) for rows in members]),
        labels=np.array([context.vectors.labels[rows[0]] for rows in members]),
        weights=np.array([float(len(rows)) for rows in members]),
        members=members,
        spread=np.zeros(len(members)),
    )


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """The folder of an inverter; in place of weights it has the fifteen words."""
    folder = write_config(tmp_path / "inverter", CONFIG)

    def load(folder: Path, **_: Any) -> WordInverter:
        return word_inverter(InverterConfig.read(folder))

    monkeypatch.setattr(Inverter, "load", load)
    return str(folder)


# The decoder


def test_the_contract_of_decoders(loaded: str) -> None:
    context = film_context(max_tokens=3)
    prototypes = film_prototypes(context, [[0, 3], [5, 7], [1, 4], [2], [6, 8], [9]])
    for start in ("nearest", "hypothesis"):
        decoder = Vec2TextDecoder(loaded, start=start)
        before = prototypes.vectors.copy()
        decoded = decoder.decode(prototypes, context, seed=3).texts
        texts = [text.text for text in decoded]
        assert len(texts) == 6
        assert all(text.strip() for text in texts)
        assert (count_words(texts) <= 3).all()
        assert len(set(zip(texts, prototypes.labels.tolist(), strict=True))) == 6
        assert all(" ".join(text.sentences) == text.text for text in decoded)
        assert decoded == decoder.decode(prototypes, context, seed=3).texts
        np.testing.assert_array_equal(before, prototypes.vectors)


def test_start_hypothesis_names_no_source_rows(loaded: str) -> None:
    context = film_context()
    prototypes = film_prototypes(context, [[0], [5]])
    decoded = Vec2TextDecoder(loaded, start="hypothesis").decode(prototypes, context, seed=0).texts
    assert [set(text.text.split()) for text in decoded] == [{"warm", "fun", "film"}, {"dull", "sad", "play"}]
    assert [text.rows for text in decoded] == [(), ()]
    assert [text.label_agrees for text in decoded] == [True, True]
    assert isinstance(context.progress, Notes)
    assert context.progress.said[1] == (
        "2 texts with a mean cosine of 1.000 to their prototypes; "
        "100% of them have the prototype's label by a linear probe of the full data; "
        "the longest run of words shared with one source row has 3 words"
    )
    assert re.fullmatch(
        r"10 source texts, decoded and embedded again, have a mean cosine of 0\.\d{3} to their vectors \(chance: .*\)",
        context.progress.said[0],
    )


def test_the_default_start_is_the_hypothesis(loaded: str) -> None:
    context = film_context()
    prototypes = film_prototypes(context, [[0], [5]])
    default = Vec2TextDecoder(loaded).decode(prototypes, context, seed=0)
    assert default == Vec2TextDecoder(loaded, start="hypothesis").decode(prototypes, context, seed=0)
    assert [text.rows for text in default.texts] == [(), ()]
    assert default.metadata["copied_share"] == 0
    assert Vec2TextDecoder(loaded, steps=0).start == "hypothesis"


def test_an_unbeaten_source_text_is_returned_with_its_row(loaded: str) -> None:
    context = film_context()
    prototypes = film_prototypes(context, [[0], [9], [5, 7]])
    result = Vec2TextDecoder(loaded, start="nearest").decode(prototypes, context, seed=0)
    decoded = result.texts
    spans = {"label_agrees": True, "copied_span": 3}
    assert decoded[0] == DecodedText(GOOD[0], (GOOD[0],), (0,), copied_row=0, **spans)
    assert decoded[1] == DecodedText(BAD[4], (BAD[4],), (9,), copied_row=9, **spans)
    assert decoded[2].rows == ()  # the mean of two texts is written better than either
    assert isinstance(context.progress, Notes)
    assert context.progress.said[-1].endswith(
        "; 2 of 3 (67%) are real texts, or joined from pieces of them; no written text was nearer; "
        "the longest run of words shared with one source row has 6 words"
    )
    assert result.metadata["copied_share"] == 2 / 3
    assert result.metadata["audit"]["real_texts"] == [0, 1]
    assert result.metadata["audit"]["longest_copied_span"] == 6
    cosines = HASHING.embed([decoded[2].text, BAD[0], BAD[2]]) @ prototypes.vectors[2]
    assert cosines[0] > cosines[1:].max()


def test_a_text_of_the_right_class_comes_before_a_nearer_one(loaded: str) -> None:
    context = film_context()
    prototypes = replace(
        film_prototypes(context, [[0], [5]]), labels=np.array([0, 1])
    )  # the classes are exchanged
    decoded = Vec2TextDecoder(loaded, start="nearest").decode(prototypes, context, seed=0).texts
    assert [text.label_agrees for text in decoded] == [True, True]
    assert decoded[0].rows[0] >= len(GOOD)


def test_no_text_comes_twice_in_a_class(loaded: str, monkeypatch: pytest.MonkeyPatch) -> None:
    context = film_context()
    prototypes = film_prototypes(context, [[0], [0], [0], [0]])
    decoder = Vec2TextDecoder(loaded, start="hypothesis", steps=0, beam=1)
    texts = [text.text for text in decoder.decode(prototypes, context, seed=0).texts]
    assert len(set(texts)) == 4  # the likeliest word for the first; the others are drawn
    assert set(texts) <= set(WORDS)
    monkeypatch.setattr("dallme.decoders.vec2text.MORE_SAMPLES", 1)
    decoded = decoder.decode(prototypes, context, seed=0).texts
    assert decoded[0].rows == ()
    assert [text.rows[0] for text in decoded[1:]] == [
        0,
        3,
        4,
    ]  # the nearest real texts, as nothing else was written


def test_one_class_has_no_probe(loaded: str) -> None:
    context = film_context()
    only = np.flatnonzero(context.vectors.labels == 1)
    source = context.source.take(only)
    context = replace(
        context,
        source=source,
        vectors=LabelledVectors(context.vectors.vectors[only], source.labels, CONFIG.fingerprint),
    )
    decoded = Vec2TextDecoder(loaded).decode(film_prototypes(context, [[0, 1]]), context, seed=0).texts
    assert decoded[0].label_agrees is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start": "random"}, "expected start as one of hypothesis, nearest, found 'random'"),
        ({"search": "greedy"}, "expected search as one of sample, beam, found 'greedy'"),
        ({"steps": -1}, "expected steps to be a whole number of at least 0, found -1"),
        ({"beam": 0}, "expected beam to be a whole number of at least 1, found 0"),
        (
            {"start": "nearest", "steps": 0},
            "expected at least 1 step to correct the nearest text, found 0; start from hypothesis, or use the decoder nearest",
        ),
    ],
)
def test_wrong_options_of_the_decoder_are_errors(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        Vec2TextDecoder("folder", **options)
    assert str(caught.value) == message


def test_the_folder_stands_in_the_name() -> None:
    assert registry.make("decoders", "vec2text:a/b:c", steps=2) == Vec2TextDecoder("a/b:c", steps=2)


def test_other_vectors_are_refused_and_can_be_aligned(loaded: str) -> None:
    context = film_context(HashingEmbedder(64), repeat=8)
    prototypes = film_prototypes(context, [[0], [5]])
    with pytest.raises(
        InputError, match="dimension 256 against 64; train one .* with --set decoder.align=true"
    ):
        Vec2TextDecoder(loaded).decode(prototypes, context, seed=0)
    decoder = Vec2TextDecoder(loaded, start="hypothesis", align=True)
    decoded = decoder.decode(prototypes, context, seed=0).texts
    assert [set(text.text.split()) for text in decoded] == [{"warm", "fun", "film"}, {"dull", "sad", "play"}]
    assert [text.label_agrees for text in decoded] == [True, True]
    assert isinstance(context.progress, Notes)
    assert re.match(
        r"vectors of hashing mapped into the space of hashing: held-out texts have a mean cosine of (1\.000|0\.99\d) to their "
        r"own vectors there \(chance: 0\.\d{3}\)",
        context.progress.said[-3],
    )
    near = Vec2TextDecoder(loaded, start="nearest", align=True).decode(prototypes, context, seed=0).texts
    assert near[0].rows == (0,)


def test_the_decoder_passes_its_search_on(loaded: str, monkeypatch: pytest.MonkeyPatch) -> None:
    context, searches = film_context(), []
    decode = WordInverter.decode
    monkeypatch.setattr(
        WordInverter, "decode", lambda self, *a, **o: searches.append(self.search) or decode(self, *a, **o)
    )
    for search in ("sample", "beam"):
        decoder = Vec2TextDecoder(loaded, search=search)
        decoder.decode(film_prototypes(context, [[0], [5]]), context, seed=0)
    assert searches == ["sample", "beam"]


def test_an_alignment_is_embedded_once_for_all_seeds(loaded: str, monkeypatch: pytest.MonkeyPatch) -> None:
    context = film_context(HashingEmbedder(64), repeat=8)
    embedded: list[int] = []
    embed = WordInverter.embed

    def count(self: WordInverter, texts: Sequence[str]) -> np.ndarray:
        embedded.append(len(texts))
        return embed(self, texts)

    monkeypatch.setattr(WordInverter, "embed", count)
    decoder = Vec2TextDecoder(loaded, align=True)
    for seed in (0, 1):
        decoder.decode(film_prototypes(context, [[0], [5]]), context, seed=seed)
    assert embedded.count(len(context.source)) == 1


def test_vectors_that_were_handed_over_are_refused(loaded: str) -> None:
    context = film_context()
    given = Fingerprint("given", "unknown", 256, normalized=False)
    context = replace(context, vectors=replace(context.vectors, fingerprint=given), embedder=None)
    with pytest.raises(InputError, match="model 'hashing' against 'given'; weights"):
        Vec2TextDecoder(loaded).decode(film_prototypes(context, [[0]]), context, seed=0)


def test_the_distilled_set_says_whether_the_labels_agree(loaded: str, tmp_path: Path) -> None:
    distiller = Distiller(
        per_class=2,
        embedder="hashing",
        decoder=f"vec2text:{loaded}",
        decoder_options={"steps": 7},
    )
    distilled = distiller.distill([*GOOD, *BAD], ["good"] * 5 + ["bad"] * 5)
    assert [row.label_agrees for row in distilled.lineage] == [True] * 4
    assert [row.sentence_rows for row in distilled.lineage] == [()] * 4
    options = distilled.manifest["configuration"]["decoder_options"]
    assert (options["steps"], options["start"], options["beam"]) == (7, "hypothesis", 4)
    assert distilled.manifest["decoding"]["copied_share"] == 0
    assert set(distilled.manifest["decoding"]["audit"]) >= {"longest_copied_span", "real_texts"}
    assert DistilledDataset.load(distilled.save(tmp_path / "set")).lineage[0].label_agrees is True


def test_options_need_a_decoder_by_name() -> None:
    with pytest.raises(
        InputError, match=r"expected options of a decoder with its name only, found {'steps': 2} with"
    ):
        Distiller(per_class=1, decoder=Vec2TextDecoder("x"), decoder_options={"steps": 2})


SENTENCES = [
    f"A {one} {two} with {end} music."
    for one in ("warm", "dull", "fine")
    for two in ("film", "play")
    for end in WORDS[3:9]
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "inverter"
    train_inverter(
        SENTENCES, HASHING, folder, preset="tiny", steps=60, max_tokens=16, learning_rate=3e-3, device="cpu"
    )
    return folder


def run_command(monkeypatch: pytest.MonkeyPatch, *arguments: Any) -> int:
    monkeypatch.setattr(sys, "argv", ["dallme", *map(str, arguments)])
    return _status()


# The command line, with a small inverter that was really trained


def test_a_trained_inverter_writes_the_texts_of_vectors(trained: Path) -> None:
    reader = Inverter.load(trained, "cpu", precision="float32")
    vectors = reader.embed(SENTENCES)
    states = reader.trajectory(vectors, steps=2, beam=2)
    before, after = ([row.cosine for row in states[step]] for step in (0, 2))
    assert np.mean(after) > np.mean(before) > 0.7
    assert states[2] == reader.decode(vectors, steps=2, beam=2)


def test_a_beam_search_over_tokens_depends_on_no_seed(trained: Path) -> None:
    sampling = Inverter.load(trained, "cpu", precision="float32")
    searching = replace(sampling, search="beam")
    vectors = searching.embed(SENTENCES[:4])
    written = searching.write(vectors, samples=3, seeds=[0] * 4)
    assert written == searching.write(vectors, samples=3, seeds=[1] * 4)
    assert written != sampling.write(vectors, samples=3, seeds=[0] * 4)
    assert [len(set(row)) for row in written] == [3] * 4
    # A text that was corrected before has no other corrections.
    current = [row[0] for row in written]
    corrections = searching.write(vectors, current=current, samples=3)
    again = searching.write(vectors, current=current, samples=3, again=[True, False, True, False])
    assert again == [[], corrections[1], [], corrections[3]]
    decoded = searching.decode(vectors, steps=3, beam=3, seed=0)
    assert decoded == searching.decode(vectors, steps=3, beam=3, seed=1)
    best = [row.cosine for row in searching.trajectory(vectors, steps=0, beam=3)[0]]
    assert all(after.cosine >= before for after, before in zip(decoded, best, strict=True))


def test_decode(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "vectors.npy", HASHING.embed(SENTENCES[:3]))
    command = ("decode", tmp_path / "vectors.npy", "--decoder", trained, "--steps", 1, "--beam", 2)
    assert run_command(monkeypatch, *command, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert [set(row) for row in document["texts"]] == [{"text", "cosine", "steps"}] * 3
    assert document["embedder"] == "hashing"
    assert run_command(monkeypatch, *command) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["cosine", "text"]
    assert [line.split("  ", 1)[1].strip() for line in lines[1:]] == [
        row["text"] for row in document["texts"]
    ]
    assert run_command(monkeypatch, *command, "--output", tmp_path / "texts.jsonl") == 0
    assert capsys.readouterr().out == f"3 texts in {tmp_path / 'texts.jsonl'}\n"
    assert [json.loads(line) for line in (tmp_path / "texts.jsonl").read_text().splitlines()] == document[
        "texts"
    ]
    assert run_command(monkeypatch, *command, "--output", tmp_path / "texts.jsonl") == 2
    assert "expected a new file, found" in capsys.readouterr().err


def test_invert_check(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "test.csv").write_text("\n".join(["text", *SENTENCES[:8]]) + "\n")
    (tmp_path / "known.csv").write_text("\n".join(["text", *SENTENCES[4:]]) + "\n")
    monkeypatch.setenv("DALLME_STORE", str(tmp_path / "store"))
    command = ("invert-check", trained, "--test", tmp_path / "test.csv", "--steps", "1,0", "--beams", "1,2")
    assert run_command(monkeypatch, *command, "--source", tmp_path / "known.csv", "--rows", 6, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    found = document["results"]
    assert [(row["method"], row["steps"], row["beam"]) for row in found] == [
        ("vec2text", 0, 1), ("vec2text", 1, 1), ("vec2text", 0, 2), ("vec2text", 1, 2), ("nearest", None, None)
    ]  # fmt: skip
    assert {row["texts"] for row in found} == {6} == {document["test_rows"]}
    assert found[0]["cosine"] <= found[1]["cosine"]
    assert found[4]["exact"] >= 2 / 6  # of eight test texts four are known
    assert run_command(monkeypatch, *command) == 0
    assert capsys.readouterr().out.splitlines()[1].split() == [
        "steps",
        "beam",
        "BLEU",
        "uncased",
        "token",
        "F1",
        "exact",
        "cosine",
    ]
    assert run_command(monkeypatch, *command[:4], "--steps", "a") == 2
    assert (
        "expected --steps as whole numbers of at least 0, separated by commas, found 'a'"
        in capsys.readouterr().err
    )
    assert run_command(monkeypatch, *command, "--max-tokens", 17) == 2
    assert "expected from 2 to 16 tokens, which the inverter writes, found 17" in capsys.readouterr().err


def test_distill_and_compare_take_the_decoder_with_its_options(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [f"{text},{'bad' if 'dull' in text else 'good'}" for text in SENTENCES]
    (tmp_path / "films.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    monkeypatch.setenv("DALLME_STORE", str(tmp_path / "store"))
    options = (
        "--per-class",
        2,
        "--embedder",
        "hashing",
        "--decoder",
        f"vec2text:{trained}",
        "--start",
        "hypothesis",
        "--json",
    )
    more = ("--decoder-steps", 1, "--beam", 2)
    assert (
        run_command(
            monkeypatch, "distill", tmp_path / "films.csv", "--output", tmp_path / "out", *options, *more
        )
        == 0
    )
    document = json.loads(capsys.readouterr().out)
    assert document["manifest"]["configuration"]["decoder_options"] == {
        "inverter": str(trained), "steps": 1, "beam": 2, "start": "hypothesis", "search": "sample", "align": False,
        "embedder": "", "self_test": True, "language": "en",
    }  # fmt: skip
    test = (
        "--test",
        tmp_path / "films.csv",
        "--classifiers",
        "lr",
        "--methods",
        f"random,vec2text:{trained}",
    )
    assert run_command(monkeypatch, "compare", tmp_path / "films.csv", *test, *options, *more) == 0
    methods = [row["method"] for row in json.loads(capsys.readouterr().out)["methods"]]
    assert methods == ["random", f"vec2text:{trained}"]


def test_options_of_another_decoder_are_errors() -> None:
    assert typed_options("decoder", "nearest", {}) == {}
    given = {"steps": "2", "align": "true"}
    assert typed_options("decoder", "vec2text:a", given) == {"steps": 2, "align": True}
    with pytest.raises(InputError) as caught:
        typed_options("decoder", "nearest", {"beam": "2"})
    assert str(caught.value) == "Decoder 'nearest' has no option 'beam'. Options: language."


def test_vectors_are_read_as_they_were_written(tmp_path: Path) -> None:
    vectors = HASHING.embed(GOOD)
    source = LabelledTexts(GOOD, np.zeros(5, dtype=np.int64), {0: "good"}, np.arange(5))
    for name in ("a.npy", "a.parquet"):
        write_vectors(tmp_path / name, vectors, source)
        np.testing.assert_array_equal(read_vectors(tmp_path / name), vectors)
    np.save(tmp_path / "flat.npy", vectors[0])
    with pytest.raises(InputError, match=r"of shape \(n, d\), found shape \(256,\)"):
        read_vectors(tmp_path / "flat.npy")
    np.save(tmp_path / "none.npy", vectors[:0])
    with pytest.raises(InputError, match="expected at least one vector, found none in"):
        read_vectors(tmp_path / "none.npy")
    np.save(tmp_path / "objects.npy", np.array([{}]), allow_pickle=True)
    (tmp_path / "b.parquet").write_bytes(b"PAR1")
    for name in ("objects.npy", "missing.npy", "b.parquet"):
        with pytest.raises(InputError, match="expected a file of vectors, could not read"):
            read_vectors(tmp_path / name)
    with pytest.raises(InputError, match=r"expected a file that ends in .parquet or .npy, found 'a.txt'"):
        read_vectors(tmp_path / "a.txt")


def test_texts_that_cannot_be_written_are_one_error(tmp_path: Path) -> None:
    from dallme.cli.paths import write_file

    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="expected to write .*, could not: .*; nothing was written"):
        write_file(tmp_path / "file" / "texts.jsonl", b"")
