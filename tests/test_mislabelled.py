"""Rows that lie together and have a wrong label are found, and others are not."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from dallme.auditing import audit
from dallme.auditing.inputs import AuditInput
from dallme.auditing.mislabelled import _distinct, _Hit, mislabelled
from dallme.data import Fingerprint, LabelledTexts, LabelledVectors
from dallme.dataset import DistilledDataset, Lineage
from dallme.report.summary import audit_rows

#: Rows, dimensions, rows that are planted.
ROWS, WIDTH, PLANTED = 2000, 12, 20


def clouds(classes: int = 2, *, overlap: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Vectors of classes that lie apart in a dimension each, and alike in the others."""
    rng = np.random.default_rng(0)
    labels = np.arange(ROWS) % classes
    vectors = rng.normal(size=(ROWS, WIDTH)).astype(np.float32)
    vectors[np.arange(ROWS), labels] += 4 / overlap
    return vectors, labels


def plant(vectors: np.ndarray, labels: np.ndarray, given: int, label: int) -> np.ndarray:
    """Gives another label to a row of a class and to the rows of it that are nearest to that one."""
    rows = np.flatnonzero(labels == given)
    middle = vectors[rows].mean(axis=0) + 2 * np.eye(WIDTH, dtype=np.float32)[-1]
    planted = rows[np.argsort(((vectors[rows] - middle) ** 2).sum(axis=1))[:PLANTED]]
    labels[planted] = label
    return planted


def of(vectors: np.ndarray, labels: np.ndarray) -> LabelledVectors:
    return LabelledVectors(
        vectors, labels.astype(np.int64), Fingerprint("given", "unknown", vectors.shape[1])
    )


@pytest.mark.parametrize(("classes", "given", "label"), [(2, 0, 1), (2, 1, 0), (4, 3, 1)])
def test_a_cluster_with_another_label_is_found_with_its_rows(classes: int, given: int, label: int) -> None:
    vectors, labels = clouds(classes)
    planted = plant(vectors, labels, given, label)
    (found,) = mislabelled(of(vectors, 10 * labels))  # class ids are not positions
    assert (found.label, found.looks_like) == (10 * label, 10 * given)
    assert len(set(found.rows) & set(planted.tolist())) >= 0.9 * PLANTED
    assert len(found.rows) <= 1.2 * PLANTED
    assert found.disputed > 5 * found.expected


@pytest.mark.parametrize("overlap", [1.0, 2.0, 8.0])
def test_borders_between_classes_are_none(overlap: float) -> None:
    assert mislabelled(of(*clouds(overlap=overlap))) == []


def test_wrong_labels_all_over_are_no_cluster() -> None:
    vectors, labels = clouds()
    labels[np.random.default_rng(1).permutation(ROWS)[: ROWS // 10]] ^= 1
    assert mislabelled(of(vectors, labels)) == []


def test_two_clusters_are_two_findings() -> None:
    vectors, labels = clouds(3)
    first, second = plant(vectors, labels, 0, 1), plant(vectors, labels, 2, 0)
    found = {(one.label, one.looks_like): set(one.rows) for one in mislabelled(of(vectors, labels))}
    assert set(found) == {(1, 0), (0, 2)}
    assert len(found[1, 0] & set(first.tolist())) > PLANTED / 2
    assert len(found[0, 2] & set(second.tolist())) > PLANTED / 2


@pytest.mark.parametrize(("share", "findings"), [(0.01, 2), (0.2, 1)])
def test_rim_rows_of_a_cluster_are_tested_individually(share: float, findings: int) -> None:
    """Rows 0 to 19 are a cluster; of the next 20, 10 look like the other class."""

    def hit(region: range, disputed: range, chance: float) -> _Hit:
        return _Hit(0, 1, np.zeros(2), 1.0, np.array(region), np.array(disputed), share, chance, -99.0)

    assert (
        len(_distinct([hit(range(10, 40), range(10, 30), -40.0), hit(range(20), range(20), -90.0)]))
        == findings
    )


def test_rows_that_were_not_looked_at_are_reported_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dallme.auditing.mislabelled.SAMPLE", 1500)
    vectors, labels = clouds()
    planted = plant(vectors, labels, 0, 1)
    (found,) = mislabelled(of(vectors, labels))
    assert len(set(found.rows) & set(planted.tolist())) >= 0.7 * PLANTED
    assert found.size == 15


def test_too_few_rows_or_classes_tell_nothing() -> None:
    vectors, labels = clouds()
    assert mislabelled(of(vectors[:700], labels[:700])) == []
    assert mislabelled(of(vectors, np.zeros(ROWS))) == []
    assert mislabelled(of(vectors, np.arange(ROWS))) == []
    assert mislabelled(of(np.ones((ROWS, WIDTH), dtype=np.float32), labels)) == []


def test_the_audit_reports_row_ids_and_no_texts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "presidio_analyzer", None)  # which takes long to load
    vectors, labels = clouds()
    plant(vectors, labels, 0, 1)
    texts = [f"secret words of row {row}" for row in range(ROWS)]
    source = LabelledTexts(
        texts, labels, {0: "bad", 1: "good"}, np.array([f"id{row}" for row in range(ROWS)])
    )
    lineage = tuple(Lineage("nearest", (f"id{row}",)) for row in (0, 1))
    distilled = DistilledDataset(("a", "b"), labels[:2], source.label_names, np.ones(2), lineage)
    found = audit(AuditInput(distilled, source, of(vectors, labels), vectors[:2]))
    (cluster,) = found.mislabelled
    (warning,) = found.warnings
    row = cluster.rows[0]
    assert warning == (
        f"{len(cluster.rows)} similar rows are labelled 'good' and look like 'bad', such as row id{row} "
        f"('secret words of row {row}'): {cluster.disputed} of 20 more so than half of its own rows "
        f"({cluster.expected:.0f} would be usual); check their label: audit.json lists them"
    )
    document = found.as_dict()
    (entry,) = document["summary"]["mislabelled_clusters"]
    assert entry == {
        "label": 1,
        "looks_like": 0,
        "size": 20,
        "disputed": cluster.disputed,
        "expected": cluster.expected,
        "rows": [f"id{row}" for row in cluster.rows],
    }
    assert "secret" not in str(document)
    told = dict(audit_rows(document))
    assert told["Clusters of the source that may be mislabelled"] == f"1: {len(cluster.rows)} rows"
    without = audit(AuditInput(distilled, source)).as_dict()
    assert without["summary"]["mislabelled_clusters"] == []
    assert "Clusters of the source that may be mislabelled" not in dict(audit_rows(without))
