"""Goldens: texts, files and documents of version 0.1, which a refactor must neither change nor misread."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from dallme import Distiller
from dallme.cli.main import app
from dallme.dataset import DistilledDataset
from dallme.embedders.cache import EmbeddingStore, embed_with_store, text_keys
from dallme.embedders.hashing import HashingEmbedder
from dallme.embedders.sentence_transformer import SentenceTransformerEmbedder
from dallme.experiments.rows import Row, RowFile
from dallme.progress import SilentProgress

DATA = Path(__file__).parent / "data"
FOLDER, SOURCE, TEST = (
    DATA / "distilled-0.1",
    DATA / "distilled-0.1-source.csv",
    DATA / "distilled-0.1-test.csv",
)
RESULTS = Path(__file__).parents[1] / "results" / "offline"

#: Ten words that every class uses, and ten of each class.
COMMON = ["the", "a", "of", "it", "was", "and", "in", "on", "with", "from"]
WORDS = {
    "sea": ["wave", "harbour", "sail", "anchor", "tide", "gull", "reef", "boat", "shore", "salt"],
    "field": ["barley", "plough", "hedge", "clover", "sheep", "barn", "meadow", "furrow", "oats", "lark"],
    "town": ["tram", "market", "bell", "bakery", "square", "lamp", "bridge", "clock", "street", "cafe"],
}

#: Columns under a checksum. Weights, and the rest of the lineage, only where no network computed the vectors.
PORTABLE = ("text", "label", "label_text", "sentence_rows", "nearest_rows", "member_rows")
EXACT = (*PORTABLE, "weight", "decoder", "sentences")

#: The same with one thread and with two.
HASHING = {
    ("nearest", 0): "605d9d43473a04330ee0338e6bd4e0591c7fd810a0195ab2378c8904a78e1cbd",
    ("nearest", 1): "19a9574a23939db2aa339b4e6f4073a84957494d38155ee5f388c299c974c818",
    ("extractive", 0): "a377258d37457c6f35d2bfc808f3098d577917011f9b1410d5df83aa863e3cc8",
    ("extractive", 1): "3f5ac7f03a72a9a6cd7ad8694bb737cca75d5a348d753b5a0ca9628def04f654",
    ("teaching", 0): "de2de0c282d6cc2c66fc8f9ed4002dc6a41fc2df6e0e0e391d3732e592402c2f",
    ("teaching", 1): "c48fbfd77832acdc3084cb658dc8e464d01ce6b89ab4713306aa4dbf84ad772d",
}

#: The same with one thread and with two.
MINILM = {
    ("nearest", 0): "037bcb3db79a7c34e8dcd63ff92c13faef5a0efb28aa8ef94889c4c85f959643",
    ("nearest", 1): "d46f25b32d92bf1c13d59c166d533a92916afcc54f66609062e14c46b9683729",
    ("extractive", 0): "44364fb63eaef9fc3f24c6b0ebfe34c3b4829bae3dfc5e562172f06dd20a0990",
    ("extractive", 1): "cafde66f11ec95e272313e08bc2c327600323ed696b09061ca2814e64a30e473",
    ("teaching", 0): "a929e08c84b5313226863bdac9197e4dd47cbad1ab2e70eb56e90506f233893e",
    ("teaching", 1): "8810e7ac18302d7647b257433a4d35e300df719c38997a1160552dc81522c947",
}
SST2_ROWS = 1500

#: The same with one thread and with two.
INVERTER = "f3572e5926a4f455c6bcfcd3461671f0d3c315582a71a9729e7a077471d12f49"
NEWS = [
    "Oil prices rose on Monday after a storm closed wells in the Gulf of Mexico.",
    "The striker scored twice as the home team won the cup final in extra time.",
    "A new version of the operating system fixes a security hole in the browser.",
    "Troops entered the city after days of fighting with insurgents, officials said.",
]


def invented_rows() -> tuple[list[str], list[str]]:
    """Texts of two to four sentences and their classes, 600 rows in three classes."""
    rng = np.random.default_rng(2024)
    texts, labels = [], []
    for row in range(600):
        name = list(WORDS)[row % len(WORDS)]
        sentences = []
        for _ in range(int(rng.integers(2, 5))):
            length = int(rng.integers(5, 10))
            words = [
                (WORDS[name] if rng.random() < 0.5 else COMMON)[int(rng.integers(10))] for _ in range(length)
            ]
            sentences.append(" ".join(words).capitalize() + ".")
        texts.append(" ".join(sentences))
        labels.append(name)
    return texts, labels


def digest(distilled: DistilledDataset, columns: Sequence[str]) -> str:
    """SHA-256 of the canonical JSON of some columns and the label names."""
    table = distilled.to_arrow().to_pydict()
    document: dict[str, Any] = {
        name: [repr(value) if isinstance(value, float) else value for value in table[name]]
        for name in columns
    }
    document["label_names"] = {str(label): name for label, name in distilled.label_names.items()}
    return hashlib.sha256(json.dumps(document, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


@pytest.mark.parametrize(("decoder", "seed"), HASHING)
def test_hashing_writes_the_texts_of_0_1(decoder: str, seed: int) -> None:
    texts, labels = invented_rows()
    distilled = Distiller(per_class=5, embedder="hashing", decoder=decoder, seed=seed).distill(texts, labels)
    assert len(distilled) == 15
    assert digest(distilled, EXACT) == HASHING[decoder, seed]


def test_minilm_writes_the_texts_of_0_1(
    minilm: SentenceTransformerEmbedder, shared_data: Path, tmp_path: Path
) -> None:
    rows = pq.read_table(shared_data / "sst2" / "train.parquet").slice(0, SST2_ROWS).to_pydict()
    found = {}
    for decoder, seed in MINILM:
        distiller = Distiller(per_class=5, embedder=minilm, decoder=decoder, seed=seed, store=tmp_path)
        found[decoder, seed] = digest(distiller.distill(rows["text"], rows["label"]), PORTABLE)
    assert found == MINILM


@pytest.mark.slow
def test_the_shipped_inverter_writes_the_texts_of_0_1(minilm: SentenceTransformerEmbedder) -> None:
    texts = [f"{text} {number}" for number in range(5) for text in NEWS]
    options = {"steps": 2, "start": "hypothesis"}
    distiller = Distiller(per_class=1, embedder=minilm, decoder="vec2text", decoder_options=options)
    distilled = distiller.distill(texts, [0, 1, 2, 3] * 5)
    assert digest(distilled, PORTABLE) == INVERTER, distilled.texts


#: SHA-256 of the columns of the committed folder, computed by version 0.1.
FOLDER_DIGEST = "e38128499d7a6004daf469d7fb7a59a591c1647131e1b2fabafaa1b760161844"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the committed folder, with an embedding store of its own."""
    monkeypatch.setenv("DALLME_STORE", str(tmp_path / "store"))
    return Path(shutil.copytree(FOLDER, tmp_path / "distilled"))


def run(*arguments: object) -> str:
    """Runs a command that must succeed; gives its standard output."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_folder_of_0_1_is_read() -> None:
    distilled = DistilledDataset.load(FOLDER)
    assert digest(distilled, EXACT) == FOLDER_DIGEST
    assert distilled.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert distilled.label_names == {0: "garden", 1: "railway"}
    assert distilled.weights.tolist() == [9, 6, 5, 9, 6, 5]
    assert distilled.texts[1].startswith(
        "Morning frost did them no harm. Two days of rain made it green again."
    )
    lineage = distilled.lineage[1]
    assert (lineage.decoder, lineage.label_agrees, lineage.copied_span) == ("teaching", None, None)
    assert lineage.member_rows == (30, 0, 6, 34, 26, 22)
    assert lineage.nearest_rows == (30, 0, 6)
    assert lineage.sentence_rows == (0, 26, 34, 22, 22, 6, 0, 6)
    assert lineage.copied_rows == ()
    assert len(lineage.sentences) == 8
    assert lineage.cosine == pytest.approx(0.8335, abs=1e-4)


def test_resaving_a_folder_of_0_1_keeps_manifest_and_columns(tmp_path: Path) -> None:
    DistilledDataset.load(FOLDER).save(tmp_path / "again")
    assert (tmp_path / "again" / "manifest.json").read_bytes() == (FOLDER / "manifest.json").read_bytes()
    old, new = (pq.read_table(path / "train.parquet") for path in (FOLDER, tmp_path / "again"))
    assert new.equals(old)
    assert new.schema.equals(old.schema, check_metadata=True)


def test_a_new_run_writes_the_manifest_keys_and_texts_of_0_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DALLME_STORE", str(tmp_path / "store"))
    output = tmp_path / "new"
    budget = ("--per-class", 3, "--embedder", "hashing", "--no-report")
    run("distill", SOURCE, "--test", TEST, "--output", output, *budget)
    assert digest(DistilledDataset.load(output), EXACT) == FOLDER_DIGEST
    old, new = (json.loads((path / "manifest.json").read_text(encoding="utf-8")) for path in (FOLDER, output))
    assert old["configuration"]["decoder_options"].pop("rounds") == 0  # an option that is no more
    keys = dict(key_sets(old))
    keys["comparison"] = " ".join(sorted(["match", *keys["comparison"].split()]))
    keys["comparison.methods[]"] += " tokens"
    assert dict(key_sets(new)) == keys
    assert new["configuration"] == old["configuration"]
    assert new["embedder"] == old["embedder"]
    assert new["data"] | {"source": None} == old["data"] | {"source": None}


def test_the_verbs_take_a_folder_of_0_1(folder: Path, tmp_path: Path) -> None:
    assert json.loads(run("report", folder, "--source", SOURCE, "--json"))["texts"] == 6
    assert "Morning frost did them no harm." in (folder / "report.html").read_text(encoding="utf-8")
    run("export", folder, "--format", "few-shot", "--output", tmp_path / "prompt.txt")
    assert (tmp_path / "prompt.txt").read_text(encoding="utf-8").count("railway") >= 3
    document = json.loads(run("evaluate", folder, "--test", TEST, "--full", SOURCE, "--json"))
    manifest = json.loads((FOLDER / "manifest.json").read_text(encoding="utf-8"))
    methods = {method["method"]: method["results"] for method in manifest["comparison"]["methods"]}
    for found, known in zip(document["results"], methods["teaching"], strict=True):
        assert found["classifier"] == known["classifier"]
        assert found["accuracy_mean"] == pytest.approx(known["accuracy_mean"])
    audit = json.loads((FOLDER / "audit.json").read_text(encoding="utf-8"))
    found = json.loads(run("audit", folder, "--source", SOURCE, "--test", TEST, "--json"))
    assert [text["copied_span"] for text in found["texts"]] == [
        text["copied_span"] for text in audit["texts"]
    ]
    assert [text["members"] for text in found["texts"]] == [text["members"] for text in audit["texts"]]
    assert found["summary"]["contamination"] == audit["summary"]["contamination"]


STORED = [
    "The ferry leaves at seven.",
    "The ferry leaves at eight.",
    "A gull stole the sandwich.",
    "Fog hid the far bank.",
    "The captain rang a bell.",
    "Children fed bread to the ducks.",
    "The rope was wet and heavy.",
    "Nobody saw the lighthouse.",
]


def test_a_store_of_0_1_is_read_and_nothing_is_embedded_again(tmp_path: Path) -> None:
    copy = Path(shutil.copytree(DATA / "store-0.1", tmp_path / "store"))
    before = {path.relative_to(copy): path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    embedder = HashingEmbedder()
    fresh = embedder.embed(STORED)
    table = EmbeddingStore(copy).table(embedder.fingerprint())
    assert len(table) == len(STORED)
    assert table.lookup(text_keys(STORED)).all()
    assert np.array_equal(table.read(text_keys(STORED)), fresh)
    assert np.array_equal(embed_with_store(embedder, STORED, store=EmbeddingStore(copy)), fresh)
    # A text that is embedded is appended as a new shard.
    assert {path.relative_to(copy): path.read_bytes() for path in copy.rglob("*") if path.is_file()} == before


#: Objects whose keys are names from the data or the environment, or that stand in the document twice.
OPEN = {"manifest.data.classes", "manifest.versions", "manifest.comparison", "data.classes", "versions"}

#: Verb to the objects in its `--json`, each with its keys.
KEYS = {
    "distill": {
        "": "comparison manifest output texts",
        "texts[]": "cosine label label_text text weight",
        "manifest": "comparison configuration cost_usd dallme data embedder seconds versions",
        "manifest.configuration": (
            "budget condenser condenser_options decoder decoder_options embedder max_tokens prompt seed"
        ),
        "manifest.configuration.budget": "allocation per_class",
        "manifest.configuration.condenser_options": "backend",
        "manifest.configuration.decoder_options": "candidates language length max_words min_words",
        "manifest.data": "classes notes rows sha256 source",
        "manifest.embedder": "dimension max_tokens model normalized pooling precision prompt weights",
        "manifest.seconds": "condense decode embed",
        "comparison": "match methods notes protocol test_rows",
        "comparison.methods[]": "draws method results texts tokens",
        "comparison.methods[].results[]": (
            "accuracy_mean accuracy_std better_than_random classifier full_accuracy gain_over_random "
            "learning_rate macro_f1_mean p_better_than_nearest p_better_than_random recovered runs "
            "seconds steps tuned"
        ),
        "comparison.protocol": "draws full_runs full_steps models name sets training tune",
        "comparison.protocol.training": "",
    },
    "compare": {
        "": "match methods notes protocol test_rows",
        "methods[]": "draws method results texts tokens",
        "methods[].results[]": (
            "accuracy_mean accuracy_std better_than_random classifier full_accuracy gain_over_random "
            "learning_rate macro_f1_mean p_better_than_nearest p_better_than_random recovered runs "
            "seconds steps tuned"
        ),
        "protocol": "draws full_runs full_steps models name sets training tune",
        "protocol.training": "",
    },
    "evaluate": {
        "": "notes protocol results test_rows train_rows",
        "results[]": (
            "accuracy_mean accuracy_std classifier full_accuracy learning_rate macro_f1_mean "
            "recovered runs seconds steps tuned"
        ),
        "protocol": "draws full_runs full_steps models name sets training tune",
        "protocol.training": "",
    },
    "curve": {
        "": "full knees notes points target_recovered targets test_rows train_rows",
        "points[]": (
            "accuracy_mean accuracy_std classifier full_accuracy learning_rate macro_f1_mean method "
            "per_class ratio recovered runs steps texts tuned"
        ),
        "full[]": (
            "accuracy_mean accuracy_std classifier full_accuracy learning_rate macro_f1_mean "
            "recovered runs steps tuned"
        ),
        "knees[]": "accuracy interpolated_texts method per_class ratio recovered texts words",
    },
    "plan": {
        "": (
            "cut disk_bytes distinct embedder notes price_is price_usd requests rows seconds "
            "seconds_are stored to_embed token_limit tokens tokens_are"
        ),
    },
    "audit": {
        "": "failures notes summary texts thresholds",
        "texts[]": (
            "copied_5grams copied_span label_agrees label_confidence members personal predicted spread"
        ),
        "texts[].copied_span": "row text words",
        "summary": (
            "agreement contamination copied_5grams label_disagreements longest_copied_span "
            "min_cluster mislabelled_clusters near_duplicates personal planted_words readability "
            "small_clusters tight_clusters"
        ),
        "summary.contamination": "exact longest_span rows shared_13grams",
        "summary.personal": "found scanner",
        "summary.readability": "complete_sentences distinct_1 distinct_2 perplexity type_token_ratio",
        "thresholds": "max_copied_span min_cluster",
    },
    "list": {
        "": "parts",
        "parts[]": "aliases installed name needs role summary",
    },
    "probe": {
        "": "results test_rows train_rows",
        "results[]": "accuracy dimension embed_seconds embedder macro_f1 train_seconds",
    },
    "embed": {
        "": "cost_usd dimension embedder output prefix rows store",
    },
}


def key_sets(document: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Lists the path of each object in a document with its sorted keys; `[]` stands for all of a list."""
    if isinstance(document, dict) and path not in OPEN:
        yield path, " ".join(sorted(document))
        for name, value in document.items():
            yield from key_sets(value, f"{path}.{name}".lstrip("."))
    elif isinstance(document, list):
        for value in document:
            yield from key_sets(value, f"{path}[]")


@pytest.mark.parametrize("verb", KEYS)
def test_json_has_the_keys_of_0_1(verb: str, folder: Path, tmp_path: Path) -> None:
    hashing, test = ("--embedder", "hashing"), ("--test", TEST)
    arguments = {
        "distill": (SOURCE, *test, "--per-class", 2, "--output", tmp_path / "new", "--no-report", *hashing),
        "compare": (
            SOURCE,
            *test,
            "--per-class",
            2,
            "--methods",
            "random,nearest",
            "--classifiers",
            "nb",
            *hashing,
        ),
        "evaluate": (folder, *test, "--full", SOURCE, "--classifiers", "nb"),
        "curve": (SOURCE, *test, "--budgets", "1,2", "--methods", "nearest", "--classifiers", "nb", *hashing),
        "plan": (SOURCE, *hashing),
        "audit": (folder, "--source", SOURCE, *test),
        "list": ("decoders",),
        "probe": (SOURCE, *test, *hashing),
        "embed": (SOURCE, *hashing),
    }
    document = json.loads(run(verb, *arguments[verb], "--json"))
    sets = set(key_sets(document))
    assert len(dict(sets)) == len(sets), "objects of one list differ in their keys"
    assert dict(sets) == KEYS[verb]


def test_no_committed_file_names_a_folder_of_a_machine() -> None:
    files = [path for path in DATA.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 60_000
    for path in files:
        content = path.read_bytes()
        assert not [
            root for root in (b"/home/", b"/work/", b"/tmp/", b"/root/", b"/Users/") if root in content
        ], path


class Notes(SilentProgress):
    """A progress that keeps the notes."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


ROW_KEYS = ["key", "config", "result", "seconds", "seed", "versions", "when", "crc32"]


@pytest.mark.parametrize("experiment", sorted(path.parent.name for path in RESULTS.glob("*/rows.jsonl")))
def test_rows_of_0_1_are_read_and_written_back(experiment: str) -> None:
    path, progress = RESULTS / experiment / "rows.jsonl", Notes()
    lines = path.read_bytes().splitlines(keepends=True)
    assert list(json.loads(lines[0])) == ROW_KEYS
    rows = RowFile(path, progress).load()
    assert rows
    assert progress.notes == []
    assert [Row.parse(line).line() for line in lines] == lines
    assert {row.key for row in rows} == {json.loads(line)["key"] for line in lines}


def test_rows_of_table_4_are_those_of_0_1() -> None:
    rows = RowFile(RESULTS / "table4" / "rows.jsonl").load()
    assert len(rows) == 12
    assert list(rows[0].result) == [
        "accuracy",
        "seconds",
        "texts",
        "steps",
        "learning_rate",
        "trained_share",
        "lora_rank",
        "runs",
    ]
