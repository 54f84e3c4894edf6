"""The same seed gives the same bytes, whatever the row order, the process and the number of threads."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_limits
from typer.testing import CliRunner

from dallme import DistilledDataset, Distiller, registry
from dallme.auditing.inputs import AuditInput
from dallme.cli.main import app
from dallme.data import LabelledTexts, LabelledVectors, canonical_order
from dallme.dataset import TABLE
from dallme.embedders.hashing import HashingEmbedder

WORDS = {
    "animals": "dog cat horse sheep barks runs jumps sleeps",
    "money": "bank rate bond share rises falls pays owes",
}


def _source(rows: int = 60) -> tuple[list[str], list[str]]:
    """Texts of a few sentences in two classes; a tenth of them come twice, once in the other class."""
    rng, texts, labels = np.random.default_rng(0), [], []
    for row in range(rows):
        label = list(WORDS)[row % 2]
        found = [*WORDS[label].split(), "the", "a", "day", "home"]
        texts.append(" ".join(" ".join(rng.choice(found, 6)).capitalize() + "." for _ in range(2)))
        labels.append(label)
    repeated = rng.choice(rows, rows // 10, replace=False).tolist()
    texts += [texts[row] for row in repeated]
    labels += [labels[row] for row in repeated[1:]] + [
        "animals" if labels[repeated[0]] == "money" else "money"
    ]
    return texts, labels


TEXTS, LABELS = _source()


def _shuffled(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).permutation(len(TEXTS))


def _at(order: np.ndarray) -> tuple[list[str], list[str]]:
    return [TEXTS[row] for row in order], [LABELS[row] for row in order]


def _told(distilled: DistilledDataset, order: np.ndarray | None = None) -> list[object]:
    """A set without its manifest; equal rows of its lineage are the same."""
    order = np.arange(len(TEXTS)) if order is None else order
    held = [(TEXTS[row], LABELS[row]) for row in order]
    rows = [
        [[held[row] for row in ids] for ids in (each.member_rows, each.nearest_rows, each.sentence_rows)]
        for each in distilled.lineage
    ]
    others = [(each.sentences, each.cosine, each.label_agrees) for each in distilled.lineage]
    return [distilled.texts, distilled.labels.tolist(), distilled.weights.tolist(), rows, others]


@pytest.mark.parametrize("decoder", ["teaching", "extractive", "nearest"])
@pytest.mark.parametrize("condenser", registry.names("condensers"))
def test_shuffled_rows_make_the_same_set(condenser: str, decoder: str) -> None:
    distiller = Distiller(
        per_class=3, embedder="hashing", condenser=condenser, decoder=decoder, max_tokens=24
    )
    expected = _told(distiller.distill(TEXTS, LABELS))
    order = _shuffled(1)
    assert _told(distiller.distill(*_at(order)), order) == expected


def test_row_ids_go_with_their_rows(tmp_path: Path) -> None:
    import pandas as pd

    frame = pd.DataFrame({"id": [f"r{row:02}" for row in range(len(TEXTS))], "text": TEXTS, "label": LABELS})
    made = []
    for name, rows in (
        ("given", frame),
        ("shuffled", frame.sample(frac=1, random_state=3)),
        ("reversed", frame[::-1]),
    ):
        rows.to_csv(tmp_path / f"{name}.csv", index=False)
        from dallme.readers import read

        distilled = (
            Distiller(per_class=3, embedder="hashing")
            .run(read(tmp_path / f"{name}.csv", id_column="id"))
            .distilled
        )
        made.append(distilled.files("")[TABLE])
    assert made[0] == made[1] == made[2]


def test_ready_vectors_go_with_their_rows() -> None:
    """Also where two rows of one text have different vectors."""
    vectors = HashingEmbedder().embed(TEXTS)
    vectors[60:] += np.linspace(0.1, 0.2, len(vectors) - 60, dtype=np.float32)[:, None]
    distiller = Distiller(per_class=4, embedder="no/such-model")
    expected = _told(distiller.distill(TEXTS, LABELS, vectors=vectors))
    for seed in range(3):
        order = _shuffled(seed)
        assert _told(distiller.distill(*_at(order), vectors=vectors[order]), order) == expected


def test_equal_rows_are_ordered_by_vector_and_then_by_id() -> None:
    texts = LabelledTexts(
        ["b", "a", "b", "b"], np.array([0, 0, 0, 0]), {0: "x"}, np.array(["r3", "r9", "r2", "r1"])
    )
    vectors = np.array([[1, 0], [0, 1], [1, 0], [0, 1]], dtype=np.float32)
    plain = texts.row_ids[canonical_order(texts)].tolist()
    assert [row for row in plain if row != "r9"] == ["r1", "r2", "r3"]
    by_vector = [row for row in texts.row_ids[canonical_order(texts, vectors)].tolist() if row != "r9"]
    assert by_vector in (["r2", "r3", "r1"], ["r1", "r2", "r3"])  # r2 and r3 are equal
    swapped = texts.take([3, 2, 1, 0])
    assert (
        swapped.row_ids[canonical_order(swapped, vectors[::-1])].tolist()
        == texts.row_ids[canonical_order(texts, vectors)].tolist()
    )


def test_a_set_is_matched_with_its_source_in_any_order() -> None:
    """Rows are computed in the canonical order; the manifest and the row ids have the user's order."""
    source = LabelledTexts(
        TEXTS,
        np.array([label == "money" for label in LABELS], np.int64),
        {0: "a", 1: "m"},
        np.arange(len(TEXTS)),
    )
    distillation = Distiller(per_class=2, embedder="hashing").run(source)
    distilled, context = distillation.distilled, distillation.context
    assert (
        distilled.manifest["data"]["sha256"]
        == source.digest
        == context.source.source_digest
        != context.source.digest
    )
    for evidence in (AuditInput(distilled, source), AuditInput(distilled, context.source)):
        for text, rows in zip(distilled.lineage, evidence.members, strict=True):
            assert evidence.source.row_ids[rows].tolist() == list(text.member_rows)
    for row_id, text in zip(context.source.row_ids.tolist(), context.source.texts, strict=True):
        assert source.texts[row_id] == text
    assert isinstance(context.vectors, LabelledVectors)
    assert (context.vectors.vectors == HashingEmbedder().embed(context.source.texts)).all()


def test_threads_processes_and_hash_seeds_change_no_byte(tmp_path: Path) -> None:
    import pandas as pd

    pd.DataFrame({"text": TEXTS, "label": LABELS}).to_csv(tmp_path / "source.csv", index=False)

    def command(name: str) -> list[str]:
        folders = ["--output", str(tmp_path / name), "--store", str(tmp_path / f"store-{name}")]
        source = str(tmp_path / "source.csv")
        return ["distill", source, *folders, "--per-class", "4", "--embedder", "hashing", "--no-report"]

    with threadpool_limits(limits=1):
        result = CliRunner().invoke(app, command("here"))
    assert result.exit_code == 0, result.output
    two = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "2")
    program = [sys.executable, "-c", "from dallme.cli.main import run; run()", *command("elsewhere")]
    subprocess.run(program, check=True, env=os.environ | two | {"PYTHONHASHSEED": "2"}, capture_output=True)
    assert (tmp_path / "here" / TABLE).read_bytes() == (tmp_path / "elsewhere" / TABLE).read_bytes()
