"""The one table of formats. Importing it loads no library."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from dallme.errors import UnknownNameError

if TYPE_CHECKING:
    import numpy as np

    from dallme.auditing.inputs import AuditInput
    from dallme.dataset import DistilledDataset


@dataclass(frozen=True, eq=False)
class Material:
    """What an export is made of.

    Attributes:
        distilled: The set.
        folder: Where it lies, as the user wrote it; programs read it from there.
        evidence: The set beside its source, with vectors; None if the source was not named.
    """

    distilled: DistilledDataset
    folder: str
    evidence: AuditInput | None = None

    @property
    def classes(self) -> list[str]:
        """The names of all classes, in the order of their ids."""
        return list(self.distilled.label_names.values())

    def rows(self) -> Iterator[tuple[str, str]]:
        """Each text with the name of its class, in the order of the set."""
        for text, label in zip(self.distilled.texts, self.distilled.labels.tolist(), strict=True):
            yield text, self.distilled.label_names[label]


@dataclass(frozen=True)
class Export:
    """One format.

    Attributes:
        name: What the user calls it.
        summary: One line for ``--help``.
        suffix: How the name of its file ends.
        write: Makes the content of the file.
    """

    name: str
    summary: str
    suffix: str
    write: Callable[[Material], bytes]


def encode(text: str) -> bytes:
    """Text as UTF-8; what is no valid Unicode, as a file name may be, is written as an escape."""
    return text.encode(errors="backslashreplace")


def encode_json(document: Any) -> bytes:
    """A JSON document, indented for people."""
    return encode(json.dumps(document, indent=2, ensure_ascii=False) + "\n")


def encode_lines(documents: list[dict[str, Any]]) -> bytes:
    """JSON documents, one a line."""
    return encode("".join(json.dumps(document, ensure_ascii=False) + "\n" for document in documents))


def argilla(material: Material) -> bytes:
    """A list of records as ``rg.Dataset.records.log`` of Argilla 2 takes them.

    The dataset's settings need a text field ``text`` and a label question ``label``; the label becomes its suggestion. A
    float metadata property ``weight``, if there is one, gets the weight.
    """
    weights = material.distilled.weights.tolist()
    return encode_json(
        [
            {"id": str(row), "text": text, "label": name, "weight": weight}
            for row, ((text, name), weight) in enumerate(zip(material.rows(), weights, strict=True))
        ]
    )


def label_studio(material: Material) -> bytes:
    """A list of tasks in Label Studio's JSON format, each with the label as its prediction.

    The labelling configuration needs ``<Text name="text" value="$text"/>`` and ``<Choices name="label" toName="text">``.
    """
    weights = material.distilled.weights.tolist()
    return encode_json(
        [
            {"data": {"text": text, "weight": weight}, "predictions": [_prediction(name)]}
            for (text, name), weight in zip(material.rows(), weights, strict=True)
        ]
    )


def _prediction(name: str) -> dict[str, object]:
    choice = {"from_name": "label", "to_name": "text", "type": "choices", "value": {"choices": [name]}}
    return {"model_version": "dallme", "result": [choice]}


def write(material: Material) -> bytes:
    """Parquet with the columns ``text``, ``label`` and ``weight``.

    With vectors there are ``kind`` (distilled or source), ``projection_x`` and ``projection_y`` (the first two principal
    components) and ``vector``, and a row for each source text, whose weight is none.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: dict[str, Any] = {
        "text": [text for text, _ in material.rows()],
        "label": [name for _, name in material.rows()],
        "weight": material.distilled.weights.tolist(),
    }
    if material.evidence is not None and material.evidence.vectors is not None:
        columns = _with_source(columns, material.evidence)
    buffer = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), buffer, compression="zstd")
    content: bytes = buffer.getvalue().to_pybytes()
    return content


def _with_source(columns: dict[str, Any], evidence: AuditInput) -> dict[str, Any]:
    """The columns, with the source's texts below the distilled ones, and where they lie."""
    import numpy as np
    import pyarrow as pa

    source, few = evidence.source, len(columns["text"])
    assert evidence.vectors is not None
    assert evidence.own is not None
    vectors = np.concatenate([evidence.own, evidence.vectors.vectors])
    places = project(vectors)
    flat = pa.array(vectors.ravel(), pa.float32())
    return {
        "text": columns["text"] + list(source.texts),
        "label": columns["label"] + [source.label_names[label] for label in source.labels.tolist()],
        "weight": pa.array(columns["weight"] + [None] * len(source), pa.float64()),
        "kind": ["distilled"] * few + ["source"] * len(source),
        "projection_x": pa.array(places[:, 0], pa.float32()),
        "projection_y": pa.array(places[:, 1], pa.float32()),
        "vector": pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1]),
    }


def project(vectors: np.ndarray) -> np.ndarray:
    """The first two principal components.

    Args:
        vectors: Of shape (n, d).

    Returns:
        Float64 of shape (n, 2), the second column of zeros if d is 1. The largest entry of each axis is positive, so that the
        same vectors never give a map and its mirror image.
    """
    import numpy as np

    mean = vectors.mean(axis=0, dtype=np.float64)
    # Without a centred copy of all vectors: the covariance is that of the products less that of the mean.
    covariance = (vectors.T @ vectors).astype(np.float64) / len(vectors) - np.outer(mean, mean)
    axes = np.linalg.eigh(covariance)[1][:, ::-1][:, :2]
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])
    places = vectors @ axes - mean @ axes
    found: np.ndarray = np.pad(places, ((0, 0), (0, 2 - axes.shape[1])))
    return found


Message = dict[str, str]


def few_shot(material: Material) -> bytes:
    """A prompt that ends where the text to classify is to be appended, followed by a new line and ``Class:``.

    White space within a text is folded, so that each text stays on its line.
    """
    shots = [
        f"Text: {' '.join(text.split())}\nClass: {' '.join(name.split())}\n"
        for text, name in _in_turn(material)
    ]
    return encode("\n".join([_task(material) + "\n", *shots, "Text: "]))


def chat(material: Material) -> bytes:
    """One line with the whole prompt: the task as the system's message, then each text as a question with its answer.

    The text to classify is appended as the last message, of the role ``user``.
    """
    turns = [message for text, name in _in_turn(material) for message in _turn(text, name)]
    return encode_lines([{"messages": [_system(material), *turns]}])


def tuning(material: Material) -> bytes:
    """One line a text: the task, the text, its class."""
    return encode_lines(
        [{"messages": [_system(material), *_turn(text, name)]} for text, name in _in_turn(material)]
    )


def _in_turn(material: Material) -> list[tuple[str, str]]:
    """The classes in turn, the first text of each, then the second: models lean towards the classes they saw last."""
    by_class: dict[str, list[tuple[str, str]]] = {}
    for text, name in material.rows():
        by_class.setdefault(name, []).append((text, name))
    return [row for rows in zip_longest(*by_class.values()) for row in rows if row is not None]


def _task(material: Material) -> str:
    names = ", ".join(" ".join(name.split()) for name in material.classes)
    return f"Classify the text. Answer with the name of one of these classes and nothing else: {names}."


def _system(material: Material) -> Message:
    return {"role": "system", "content": _task(material)}


def _turn(text: str, name: str) -> list[Message]:
    return [{"role": "user", "content": text}, {"role": "assistant", "content": name}]


#: What a cell starts with that a spreadsheet would run as a formula, or that looks like one with its apostrophe already: so that
#: taking one apostrophe away from each such cell gives back what it was. The wide signs are those of East Asian keyboards.
_GUARDED = re.compile(r"'*[=+\-@\t\r\n＝＋－＠]")


def json_lines(material: Material) -> bytes:
    """A line a text, with all columns of ``train.parquet`` but the ids of the rows of its cluster, which may be thousands."""
    return encode_lines(material.distilled.to_arrow().drop_columns(["member_rows"]).to_pylist())


def spreadsheet(material: Material) -> bytes:
    """A table with a head.

    A text or class name that a spreadsheet would run as a formula gets an apostrophe in front, which spreadsheets take for
    "this is text" (OWASP, "CSV Injection"). Nothing is lost: :func:`unguard` takes it away.
    """
    table = io.StringIO(newline="")
    writer = csv.writer(table)
    writer.writerow(["text", "label", "label_text", "weight"])
    distilled = material.distilled
    for (text, name), label, weight in zip(
        material.rows(), distilled.labels.tolist(), distilled.weights.tolist(), strict=True
    ):
        writer.writerow([_guard(text), label, _guard(name), weight])
    return encode(table.getvalue())


def _guard(cell: str) -> str:
    return f"'{cell}" if _GUARDED.match(cell) else cell


def unguard(cell: str) -> str:
    """What a cell of the table was before it got an apostrophe."""
    return cell[1:] if cell.startswith("'") and _GUARDED.match(cell) else cell


_SKLEARN = '''"""Trains TF-IDF and logistic regression on the texts that dallme distilled.

Needs pandas, pyarrow and scikit-learn. Run: python FILE [FOLDER]
"""

import sys

import pandas
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

folder = sys.argv[1] if len(sys.argv) > 1 else {folder}
texts = pandas.read_parquet(f"{{folder}}/train.parquet", columns=["text", "label_text"])

model = make_pipeline(TfidfVectorizer(), LogisticRegression(max_iter=1000))
model.fit(texts["text"], texts["label_text"])

print(f"trained on {{len(texts)}} texts of the classes: {{', '.join(model.classes_)}}")
for text in ["Put your own texts here.", texts["text"][0]]:
    print(f"{{model.predict([text])[0]}}: {{text[:80]}}")
'''

_SETFIT = '''"""Fine-tunes a sentence encoder on the texts that dallme distilled, with SetFit.

Needs pandas, pyarrow and setfit. Run: python FILE [FOLDER]
"""

import sys

import pandas
from datasets import Dataset
from setfit import SetFitModel, Trainer, TrainingArguments

folder = sys.argv[1] if len(sys.argv) > 1 else {folder}
texts = pandas.read_parquet(f"{{folder}}/train.parquet", columns=["text", "label_text"])
classes = {classes}
rows = {{"text": list(texts["text"]), "label": [classes.index(name) for name in texts["label_text"]]}}

model = SetFitModel.from_pretrained("sentence-transformers/all-MiniLM-L6-v2", labels=classes)
arguments = TrainingArguments(batch_size=16, num_epochs=1, report_to="none", seed=0)
trainer = Trainer(model=model, args=arguments, train_dataset=Dataset.from_dict(rows))
trainer.train()

model.save_pretrained("setfit-model")
print(model.predict(["Put your own texts here."])[0])
'''


def sklearn(material: Material) -> bytes:
    """A program that trains what the honest table calls logistic regression."""
    return encode(_SKLEARN.format(folder=ascii(material.folder)))


def setfit(material: Material) -> bytes:
    """A program that fine-tunes a sentence encoder by contrast, with the package `setfit`, and keeps it in a folder."""
    present = {name for _, name in material.rows()}
    classes = list(dict.fromkeys(name for name in material.classes if name in present))
    return encode(_SETFIT.format(folder=ascii(material.folder), classes=ascii(classes)))


EXPORTS = (
    Export("few-shot", "a prompt as plain text, to which a text is appended", ".txt", few_shot),
    Export("chat", "the same prompt as the messages of one chat, one line of JSON", ".jsonl", chat),
    Export(
        "fine-tuning",
        "a chat a text, one a line, as services that fine-tune chat models take them",
        ".jsonl",
        tuning,
    ),
    Export("jsonl", "a text a line, with label, weight and lineage", ".jsonl", json_lines),
    Export("csv", "text, label and weight, safe to open in a spreadsheet", ".csv", spreadsheet),
    Export("sklearn", "a program that trains TF-IDF and logistic regression on the folder", ".py", sklearn),
    Export("setfit", "a program that fine-tunes a sentence encoder on the folder with SetFit", ".py", setfit),
    Export(
        "atlas",
        "Parquet for Embedding Atlas; with --source the source's texts and a map as well",
        ".parquet",
        write,
    ),
    Export("argilla", "records for Argilla 2's records.log, labels as suggestions", ".json", argilla),
    Export("label-studio", "tasks for Label Studio, labels as predictions", ".json", label_studio),
)


def find(name: str) -> Export:
    """The format of a name.

    Raises:
        UnknownNameError: If there is none.
    """
    for export in EXPORTS:
        if export.name == name:
            return export
    raise UnknownNameError("format", name, [export.name for export in EXPORTS])
