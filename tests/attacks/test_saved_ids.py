"""Class ids that dallme numbered itself never match the numbers of other data, also after saving."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from dallme.data import LabelledTexts
from dallme.dataset import DistilledDataset
from dallme.distiller import Distiller
from dallme.errors import InputError
from dallme.readers import read
from dallme.review.changes import Change, apply, state, text_ids

TEXTS = [f"{word} text number {row}." for row in range(8) for word in ("A fine", "A dull")]


def source(labels: list[object]) -> LabelledTexts:
    return read(TEXTS, labels)


def saved(folder: Path, labels: list[object]) -> Path:
    distiller = Distiller(per_class=1, embedder="hashing", decoder="nearest")
    return distiller.run(source(labels)).distilled.save(folder / "set")


def test_invented_ids_are_remembered(tmp_path: Path) -> None:
    folder = saved(tmp_path, ["positive", "negative"] * 8)
    like = DistilledDataset.load(folder).to_labelled_texts()
    assert not like.own_ids
    with pytest.raises(InputError, match="has no class ids that they could refer to"):
        read(["a", "b"], [0, 1], like=like)
    assert read(["a", "b"], ["positive", "negative"], like=like).labels.tolist() == [1, 0]


def test_ids_of_the_source_are_remembered(tmp_path: Path) -> None:
    folder = saved(tmp_path, [0, 1] * 8)
    like = DistilledDataset.load(folder).to_labelled_texts()
    assert like.own_ids
    assert read(["a", "b"], [0, 1], like=like).labels.tolist() == [0, 1]
    assert b"own_ids" not in pq.read_schema(folder / "train.parquet").metadata  # as in version 0.1


def test_a_set_read_as_a_source_has_invented_ids(tmp_path: Path) -> None:
    folder = saved(tmp_path, ["positive", "negative"] * 8)
    assert not read(folder / "train.parquet").own_ids
    assert not read(folder).own_ids


def test_a_set_that_does_not_say_is_read_as_before(tmp_path: Path) -> None:
    folder = saved(tmp_path, ["positive", "negative"] * 8)
    table = pq.read_table(folder / "train.parquet")
    notes = {key: value for key, value in table.schema.metadata.items() if key != b"own_ids"}
    pq.write_table(table.replace_schema_metadata(notes), folder / "train.parquet")
    assert DistilledDataset.load(folder).own_ids


def test_data_aligned_with_invented_ids_have_invented_ids() -> None:
    like = source(["positive", "negative"] * 8)
    aligned = read(["a", "b"], ["positive", "negative"], like=like)
    assert not aligned.own_ids
    with pytest.raises(InputError, match="has no class ids that they could refer to"):
        read(["a", "b"], [0, 1], like=aligned)


def test_the_flag_survives_a_review_and_a_second_save(tmp_path: Path) -> None:
    distilled = DistilledDataset.load(saved(tmp_path, ["positive", "negative"] * 8))
    seen = state(distilled.texts[0], int(distilled.labels[0]))
    reviewed, _ = apply(distilled, [Change(text_ids(distilled)[0], seen, accept=True)])
    again = DistilledDataset.load(reviewed.save(tmp_path / "again"))
    assert not again.own_ids
    assert np.array_equal(again.labels, distilled.labels)
