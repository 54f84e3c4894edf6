"""Updates of a set: new rows, dropped rows, drift, and the texts that stay."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import dallme
from dallme.cli.main import app
from dallme.data import Fingerprint, LabelledTexts, LabelledVectors
from dallme.dataset import TABLE, DistilledDataset
from dallme.distiller import Distiller
from dallme.embedders.hashing import HashingEmbedder
from dallme.errors import InputError, OutputError
from dallme.files import folders
from dallme.readers.splits import split
from dallme.updating.clusters import LEVEL, regroup

#: Topics of a class; a topic's rows share most words, so that each is a cluster.
TOPICS = {
    "good": ("a fine warm film about ships", "the best of songs and dances"),
    "bad": ("a dull cold play about trains", "worst of meals in any town"),
    "odd": ("some strange box without a lid", "green hats on seven heads"),
}


def rows(start: int, end: int, *classes: str) -> list[tuple[str, str]]:
    """Rows of two topics of each class, numbered from start to end."""
    return [
        (f"{topic}, number {number} of many.", name)
        for number in range(start, end)
        for name in classes or ("good", "bad")
        for topic in TOPICS[name]
    ]


def write(path: Path, *parts: list[tuple[str, str]], ids: bool = False) -> Path:
    """Writes rows as a CSV file, with a column of ids on request."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label", *(["key"] if ids else [])])
        for text, label in (row for part in parts for row in part):
            writer.writerow([text, label, *([f"{label}: {text[:12]}{text[-12:]}"] if ids else [])])
    return path


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with a source of 80 rows and 40 new ones."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "old.csv", rows(0, 20))
    write(tmp_path / "new.csv", rows(20, 30))
    return tmp_path


def distill(source: Any = "old.csv", **options: Any) -> DistilledDataset:
    """Distils two texts of each class with the lightest parts."""
    given = {"per_class": 2, "embedder": "hashing", "decoder": "nearest", "store": "store", "progress": False}
    return Distiller(**given | options).distill(source)


def update(distilled: DistilledDataset | str | Path, source: Any = None, **options: Any) -> DistilledDataset:
    return dallme.update(distilled, source, **{"store": "store", "progress": False} | options)


def table_of(distilled: DistilledDataset) -> bytes:
    return distilled.files("")[TABLE]


def members(distilled: DistilledDataset) -> set[Any]:
    return {row for lineage in distilled.lineage for row in lineage.member_rows}


def text_with(distilled: DistilledDataset, words: str) -> int:
    """Position of the only text that holds some words."""
    (found,) = [place for place, text in enumerate(distilled.texts) if words in text]
    return found


class LetterCounts:
    def encode(self, texts: list[str]) -> np.ndarray:
        return np.array([[text.count(letter) + 0.1 for letter in "aeiou"] for text in texts])


# New rows


def test_new_rows_join_the_clusters_and_get_ids_that_follow(place: Path) -> None:
    made = update(distill(), "new.csv")
    assert len(made) == 4
    assert members(made) == set(range(120))
    ships = made.lineage[text_with(made, "ships")]
    assert {row for row in ships.member_rows if row >= 80} == set(range(80, 120, 4))
    assert made.weights.tolist() == [30.0] * 4
    report = made.manifest["update"]
    assert report["rows"] == {
        "before": 80, "new": 40, "known": 0, "dropped": 0, "after": 120, "embedded": 40,
    }  # fmt: skip
    assert report["version"] == 2
    assert [source["source"] for source in report["sources"]] == ["old.csv", "new.csv"]
    assert made.manifest["data"]["rows"] == 120
    assert made.manifest["configuration"]["budget"] == {"per_class": 2, "allocation": "equal"}


def test_an_audit_takes_the_old_and_new_rows_together(place: Path) -> None:
    made = update(distill(), "new.csv")
    write(place / "all.csv", rows(0, 20), rows(20, 30))
    assert len(dallme.audit(made, "all.csv", store="store").as_dict()["texts"]) == 4
    with pytest.raises(InputError, match="expected the source that the texts were distilled from"):
        dallme.audit(made, "old.csv", store="store")


def test_only_new_texts_are_embedded(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, embedded = distill(), []
    embed = HashingEmbedder._embed

    def count(self: HashingEmbedder, texts: list[str], prompt: str | None) -> Any:
        embedded.extend(texts)
        return embed(self, texts, prompt)

    monkeypatch.setattr(HashingEmbedder, "_embed", count)
    update(before, "new.csv")
    assert sorted(embedded) == sorted(text for text, _ in rows(20, 30))


@pytest.mark.parametrize("name", ["whole.csv", "old.csv"])
def test_known_rows_count_once_also_in_a_source_that_has_grown(place: Path, name: str) -> None:
    before, alone = distill(), update(distill(), "new.csv")
    write(place / name, rows(0, 20), rows(20, 30))
    made = update(before, name)
    assert (made.texts, made.lineage) == (alone.texts, alone.lineage)
    assert made.manifest["update"]["rows"]["known"] == 80


def test_texts_of_clusters_that_hardly_changed_stay_until_changes_add_up(place: Path) -> None:
    version, first = distill(), distill()
    write(place / "one.csv", rows(20, 21))  # one row for each cluster of 20
    write(place / "two.csv", rows(21, 22))
    version = update(version, "one.csv")
    assert version.texts == first.texts
    assert version.manifest["update"]["pending"] == [1] * 4
    assert all(len(lineage.member_rows) == 21 for lineage in version.lineage)
    version = update(version, "two.csv")  # 2 of 22 rows are more than a twentieth
    assert version.manifest["update"]["pending"] == [0] * 4
    reasons = {text["reason"] for text in version.manifest["update"]["gone"]}
    assert reasons <= {"members changed"}


def test_the_same_sequence_gives_the_same_bytes(place: Path) -> None:
    write(place / "more.csv", rows(30, 36, "good", "bad", "odd"))

    def run(store: str) -> list[bytes]:
        first = distill(store=store)
        second = update(first, "new.csv", store=store, drop=[3, 8])
        third = update(second, "more.csv", store=store)
        manifests = [{**each.manifest.as_dict(), "seconds": None} for each in (second, third)]
        for manifest in manifests:  # the store of the second run is full
            manifest["update"]["rows"]["embedded"] = None
        return [table_of(second), table_of(third), json.dumps(manifests).encode()]

    assert run("store") == run("store")
    assert run("other") == run("store")


# Dropped rows


def test_dropped_rows_leave_the_set_for_good(place: Path) -> None:
    before = distill()
    quoted = before.lineage[0].sentence_rows[0]
    made = update(before, drop=[quoted])
    assert quoted not in members(made)
    assert before.texts[0] not in made.texts
    report = made.manifest["update"]
    assert report["gone"] == [
        {"before": 0, "class": made.label_names[int(before.labels[0])], "reason": "source row dropped"}
    ]
    assert before.texts[0] not in json.dumps(report)
    assert set(before.texts[1:]) < set(made.texts)
    write(place / "whole.csv", rows(0, 20), rows(20, 30))
    again = update(made, "whole.csv", old=["old.csv"])
    assert quoted not in members(again)
    assert len(members(again)) == 119
    assert before.texts[0] not in again.texts
    assert again.manifest["update"]["dropped"] == [quoted]


def test_a_class_without_rows_loses_its_texts(place: Path) -> None:
    before = distill()
    bad = [row for row, (_, label) in enumerate(rows(0, 20)) if label == "bad"]
    write(place / "third.csv", rows(0, 12, "odd"))
    made = update(before, "third.csv", drop=bad)
    assert set(made.label_names.values()) == {"good", "odd"}
    assert sorted(made.label_names[label] for label in made.labels.tolist()) == ["good", "good", "odd", "odd"]
    gone = made.manifest["update"]["gone"]
    assert {(text["class"], text["reason"]) for text in gone} == {("bad", "class without rows")}
    new = [text for text in made.manifest["update"]["texts"] if text["before"] is None]
    assert {(text["class"], text["reason"]) for text in new} == {("odd", "new class")}
    kept = {label: name for label, name in before.label_names.items() if name == "good"}
    assert kept.items() <= made.label_names.items()


def test_a_cluster_that_lost_all_rows_is_replaced(place: Path) -> None:
    ships = [row for row, (text, _) in enumerate(rows(0, 20)) if "ships" in text]
    made = update(distill(), drop=ships)
    assert len(made) == 4
    classes = made.manifest["update"]["classes"]
    assert [classes[name]["reason"] for name in ("good", "bad")] == ["a cluster lost all rows", None]
    assert not any("ships" in text for text in made.texts)


def test_ids_of_a_column_name_the_rows(place: Path) -> None:
    write(place / "old.csv", rows(0, 20), ids=True)
    write(place / "new.csv", rows(20, 30), ids=True)
    source = dallme.read("old.csv", id_column="key")
    before = distill(source)
    gone = source.row_ids[5]
    made = update(before, "new.csv", old="old.csv", drop=[gone], id_column="key")
    assert gone not in members(made)
    assert len(members(made)) == 119
    clash = write(
        place / "clash.csv", [(f"{text} Again{text[-12:]}", label) for text, label in rows(0, 1)], ids=True
    )
    with pytest.raises(
        InputError, match="expected ids that the old rows do not have, found 'bad: a dull cold "
    ):
        update(made, clash, id_column="key")
    numbered = dallme.read("new.csv")
    with pytest.raises(InputError, match="expected ids of a column, as in old.csv, found numbered rows"):
        update(before, numbered, old=source)


def test_the_id_of_a_dropped_row_can_be_given_again(place: Path) -> None:
    source = dallme.read("old.csv")
    source = replace(source, row_ids=np.array([f"row {row}" for row in range(80)], dtype=object))
    before = distill(source)
    again = replace(
        dallme.read("new.csv").take([0]), texts=["a fine warm film that is new."], row_ids=np.array(["row 0"])
    )
    made = update(before, again, old=source, drop=["row 0"])
    assert len(members(made)) == 80
    assert made.weights.sum() == 80
    assert sum("row 0" in lineage.member_rows for lineage in made.lineage) == 1
    last = update(made, drop=["row 1"], old=[source, again])
    assert len(members(last)) == 79


def test_a_text_whose_row_a_review_dropped_is_written_anew(place: Path) -> None:
    before = distill()
    ships, songs = text_with(before, "ships"), text_with(before, "songs")
    lineage = list(before.lineage)
    lineage[songs] = replace(lineage[songs], sentence_rows=lineage[ships].sentence_rows)
    kept = [text for text in range(4) if text != ships]
    reviewed = replace(
        before,
        texts=tuple(before.texts[text] for text in kept),
        labels=before.labels[kept],
        weights=before.weights[kept],
        lineage=tuple(lineage[text] for text in kept),
    )
    made = update(reviewed, "new.csv")
    assert len(made) == 4
    assert made.manifest["update"]["classes"]["good"]["reason"] == "2 texts, before 1"


# Drift


def _blobs(shift: float, count: int, seed: int) -> np.ndarray:
    """Vectors of two classes with two clusters each; those of class 1 are shifted."""
    rng = np.random.default_rng(seed)
    centers = np.zeros((4, 8))
    centers[[0, 1, 2, 3], [0, 1, 2, 3]] = 10
    vectors = np.concatenate([center + rng.normal(size=(count, 8)) for center in centers])
    vectors[2 * count :, 7] += shift
    return vectors.astype(np.float32)


def _regroup(shift: float, seed: int, old_rows: int = 100, new: int = 100) -> Any:
    """Clusters old rows, then puts new ones in; both are numbers of rows a cluster."""
    labels = np.repeat([0, 1], 2 * old_rows)
    old = LabelledVectors(_blobs(0, old_rows, seed), labels, Fingerprint("given", "1", 8))
    distiller = Distiller(per_class=2, embedder="hashing", progress=False)
    first = distiller.resolved_condenser.condense(old, {0: 2, 1: 2}, seed=0)
    added = _blobs(shift, new, seed + 1000)
    both = LabelledVectors(
        np.concatenate([old.vectors, added]),
        np.concatenate([old.labels, np.repeat([0, 1], 2 * new)]),
        old.fingerprint,
    )
    groups: dict[int, list[tuple[int, np.ndarray]]] = {0: [], 1: []}
    for text, (label, rows) in enumerate(zip(first.labels.tolist(), first.members, strict=True)):
        groups[label].append((text, rows))
    is_new = np.arange(len(both)) >= len(old)
    nothing = np.zeros(4, dtype=np.int64)
    return regroup(distiller, both, is_new, {0: 2, 1: 2}, groups, nothing, nothing)


def test_only_a_class_that_has_drifted_is_clustered_anew() -> None:
    made = _regroup(shift=3, seed=0)
    assert made.drift[0].reason is None
    assert made.drift[1].reason == "drift"
    assert made.drift[1].p_value < LEVEL
    assert made.origins.tolist() == [0, 1, -1, -1]
    assert made.prototypes.weights.sum() == 800
    # Worked out on paper: a shift of 3 adds 9 to the squared distance of 8 dimensions.
    assert made.drift[1].new_distance - made.drift[1].old_distance == pytest.approx(9, abs=1)


def test_rows_of_the_same_kind_seldom_look_drifted() -> None:
    p_values = [
        drift.p_value for seed in range(20) for drift in _regroup(0, seed, old_rows=20).drift.values()
    ]
    assert sum(value < 0.1 for value in p_values) <= 10  # 4 expected of 40
    assert sum(value < LEVEL for value in p_values) <= 3
    assert 0.35 < np.mean(p_values) < 0.65  # old rows have no advantage over new ones


def test_few_new_rows_are_never_drift() -> None:
    made = _regroup(shift=3, seed=0, new=10)  # 20 a class
    assert made.drift[1].p_value is None
    assert made.drift[1].reason is None


@pytest.mark.parametrize("condenser", ["k-centroid", "medoid", "random", "gaussian-mixture"])
def test_every_condenser_can_be_updated(place: Path, condenser: str) -> None:
    before = distill(condenser=condenser)
    made = update(before, "new.csv", drop=[before.lineage[0].member_rows[0]])
    assert len(made) == 4
    assert len(members(made)) == 119


# Texts


def test_a_text_that_equals_a_new_one_is_written_anew(place: Path) -> None:
    before = distill()
    other = text_with(before, "songs")
    members_of_ships = before.lineage[text_with(before, "ships")].member_rows
    gone, row = members_of_ships[:19], members_of_ships[19]  # the text of the only row that is left
    texts = list(before.texts)
    texts[other] = rows(0, 20)[row][0]
    made = update(replace(before, texts=tuple(texts)), drop=gone)
    assert len(set(made.texts)) == 4
    reasons = {text["reason"] for text in made.manifest["update"]["gone"]}
    assert "equal to a new text" in reasons


def test_placeholders_of_old_rows_stay(place: Path) -> None:
    named = [
        (f"{text} Ask jane{number}@example.org.", label) for number, (text, label) in enumerate(rows(0, 20))
    ]
    write(place / "old.csv", named)
    write(place / "new.csv", [(f"{text} Ask joe{number}@example.org.", label)
                              for number, (text, label) in enumerate(rows(20, 30))])  # fmt: skip
    made = update(distill(redact=True), "new.csv", drop=[0])
    assert made.manifest["update"]["rows"]["embedded"] == 40
    assert not any("@" in text for text in made.texts)
    assert made.manifest["personal"]["redacted"] == {"EMAIL_ADDRESS": 120}
    assert update(made, drop=[1]).manifest["update"]["rows"]["embedded"] == 0


def test_new_texts_get_the_length_of_the_others(place: Path) -> None:
    before = distill(decoder="teaching")
    short = before.manifest | {"decoding": {"length": {"tokens": 12}}}
    made = update(replace(before, manifest=short), "new.csv", drop=[0])
    assert max(len(text.split()) for text in made.texts) <= 12
    assert made.manifest["configuration"] == before.manifest["configuration"]
    assert made.manifest["decoding"]["length"] == {"tokens": 12}


def test_soft_labels_are_computed_anew(place: Path) -> None:
    made = update(distill(soft_labels=True), "new.csv")
    assert made.label_probabilities is not None
    assert made.label_probabilities.shape == (4, 2)


def test_a_ratio_becomes_a_number_of_texts(place: Path) -> None:
    made = update(distill(per_class=None, ratio=0.05), "new.csv")
    assert len(made) == 4
    assert made.manifest["configuration"]["budget"] == {"total": 4, "allocation": "equal"}


def test_rows_that_were_held_out_stay_out(place: Path) -> None:
    rest, held_out = split(dallme.read("old.csv"), 0.2)
    before = Distiller(per_class=2, embedder="hashing", decoder="nearest", progress=False).run(rest).distilled
    write(place / "whole.csv", rows(0, 20), rows(20, 30))
    made = update(before, "whole.csv", old="old.csv")
    assert not members(made) & set(held_out.row_ids.tolist())
    assert len(members(made)) == len(rest) + 40


# Errors


def test_errors_are_one_line(place: Path) -> None:
    before = distill()
    wrong: list[tuple[str, Callable[[], Any]]] = [
        ("expected new rows, found none: all 80 rows of 'old.csv' are known", lambda: update(before, "old.csv")),
        ("expected ids of rows behind the set to drop, found 80", lambda: update(before, drop=[80])),
        ("expected the source 'old.csv' of the set", lambda: update(before, "new.csv", old="new.csv")),
        ("expected an --old for each of the 1 sources", lambda: update(before, "new.csv", old=["a", "b"])),
        ("expected the vectors of 'hashing'",
         lambda: update(before, "new.csv", embedder=LetterCounts())),
    ]  # fmt: skip
    for message, run in wrong:
        with pytest.raises(InputError) as raised:
            run()
        assert message in str(raised.value)
        assert "\n" not in str(raised.value)
    (place / "old.csv").rename(place / "moved.csv")
    with pytest.raises(
        InputError, match="expected the source 'old.csv' of the manifest .* name it with --old"
    ):
        update(before, "new.csv")
    assert len(update(before, "new.csv", old="moved.csv")) == 4


def test_a_set_of_ready_vectors_cannot_be_updated(place: Path) -> None:
    texts = dallme.read("old.csv")
    vectors = HashingEmbedder().embed(texts.texts)
    before = Distiller(per_class=2, decoder="nearest", progress=False).run(texts, vectors=vectors).distilled
    with pytest.raises(InputError, match="found one of ready vectors"):
        update(before, "new.csv")


def test_a_manifest_opens_no_model(place: Path) -> None:
    before = distill()
    configuration = {**before.manifest["configuration"], "decoder": "llm:any"}
    before = replace(before, manifest=before.manifest | {"configuration": configuration})
    with pytest.raises(
        InputError, match="found 'llm' in the manifest; name it, with its options, with --decoder"
    ):
        update(before, "new.csv")
    made = update(before, "new.csv", decoder="nearest")
    assert made.manifest["configuration"]["decoder"] == "nearest"


def test_a_text_that_a_review_relabelled_is_refused(place: Path) -> None:
    before = distill()
    with pytest.raises(InputError, match="a review gave it another label"):
        update(replace(before, labels=before.labels[::-1].copy()), "new.csv")


# The command


def run(*arguments: Any) -> tuple[int, str]:
    done = CliRunner().invoke(app, [str(each) for each in arguments])
    return done.exit_code, done.output + str(done.exception or "")


def test_the_command_writes_beside_the_set_and_reports(place: Path) -> None:
    distill().save("first")
    before = {path: path.read_bytes() for path in (place / "first").iterdir()}
    write(place / "test.csv", rows(40, 50, "good", "bad"))
    write(place / "gone.txt", [])
    (place / "gone.txt").write_text("0\n4\n")
    command = ["update", "first", "--source", "new.csv", "--drop", "gone.txt", "--store", "store"]
    status, output = run(*command, "--test", "test.csv", "--output", "second")
    assert status == 0, output
    assert "80 rows + 40 new - 2 dropped → 4 texts in second" in output
    assert "accuracy on 40 test rows" in output
    made = dallme.load("second")
    assert set(made.manifest["update"]["accuracy"]["after"].values()) == {1.0}
    assert {path: path.read_bytes() for path in (place / "first").iterdir()} == before
    status, output = run(*command, "--output", "second")
    assert "expected an empty or missing folder" in output
    status, output = run(*command, "--output", "first", "--overwrite")
    assert "expected an --output apart from what is read" in output
    status, output = run(*command, "--output", "third", "--json")
    document = json.loads(output[output.index("{") :])
    assert document["update"]["rows"]["after"] == 118
    assert run("update", "first", "--output", "fourth")[1].count("found neither") == 1


def test_an_interrupted_write_leaves_the_old_version_whole(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    distill().save("first")
    before = {path: path.read_bytes() for path in (place / "first").iterdir()}

    def fail(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(folders, "write_new", fail)
    made = update("first", "new.csv")
    with pytest.raises(OutputError):
        made.save("second")
    assert not (place / "second").exists()
    assert {path: path.read_bytes() for path in (place / "first").iterdir()} == before


@pytest.mark.slow
def test_a_set_updated_in_slices_is_about_as_good_as_one_of_all_rows(
    shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    texts = dallme.read(shared_data / "ag_news" / "train.parquet")
    test = dallme.read(shared_data / "ag_news" / "test.parquet", like=texts)
    order = np.random.default_rng(0).permutation(len(texts))[:4000]
    slices = [texts.take(part) for part in np.array_split(order, 4)]
    options = {"per_class": 10, "embedder": "hashing", "decoder": "teaching"}
    all_rows = distill(texts.take(order), **options)
    version, seen = distill(slices[0], **options), slices[:1]
    for part in slices[1:]:
        version = update(version, part, old=list(seen))
        seen.append(part)
    accuracies = [
        np.mean([score.accuracy for score in dallme.evaluate(each, test)]) for each in (version, all_rows)
    ]
    assert accuracies[0] > accuracies[1] - 0.03


def test_in_memory_rows_need_the_old_source(place: Path) -> None:
    source = dallme.read([text for text, _ in rows(0, 20)], [label for _, label in rows(0, 20)])
    new = dallme.read([text for text, _ in rows(20, 30)], [label for _, label in rows(20, 30)])
    before = distill(source)
    with pytest.raises(InputError, match="expected the source 'memory' of the manifest"):
        update(before, new)
    assert isinstance(new, LabelledTexts)
    assert len(members(update(before, new, old=source))) == 120
