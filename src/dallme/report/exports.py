"""Exports of a set to the formats of other tools.

The formats in the order of :data:`EXPORTS`, the table at the end. Importing this module loads no library.
"""

from __future__ import annotations

import ast
import csv
import io
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.resources import files
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from dallme.errors import UnknownNameError

if TYPE_CHECKING:
    import numpy as np

    from dallme.auditing.inputs import AuditInput
    from dallme.dataset import DistilledDataset


@dataclass(frozen=True, eq=False)
class Material:
    """Input of an export.

    Attributes:
        distilled: The set.
        folder: Path of the set as the user wrote it, for programs that read it.
        evidence: The set with its source and vectors; None without a source.
    """

    distilled: DistilledDataset
    folder: str
    evidence: AuditInput | None = None

    @property
    def classes(self) -> list[str]:
        """Names of all classes, in the order of their ids."""
        return list(self.distilled.label_names.values())

    def rows(self) -> Iterator[tuple[str, str]]:
        """Yields each text with the name of its class."""
        for text, label in zip(self.distilled.texts, self.distilled.labels.tolist(), strict=True):
            yield text, self.distilled.label_names[label]


@dataclass(frozen=True)
class Export:
    """One format.

    Attributes:
        name: Name on the command line.
        summary: One line for ``--help``.
        suffix: Extension of its file.
        write: Function that makes the content of the file.
    """

    name: str
    summary: str
    suffix: str
    write: Callable[[Material], bytes]


def count_collages(distilled: DistilledDataset) -> int:
    """Counts the texts that join sentences of more than one source row."""
    return sum(len(set(lineage.sentence_rows)) > 1 for lineage in distilled.lineage)


def encode(text: str) -> bytes:
    """Encodes a text as UTF-8; a lone surrogate becomes an escape."""
    return text.encode(errors="backslashreplace")


def encode_json(document: Any) -> bytes:
    """Encodes a JSON document, indented."""
    return encode(json.dumps(document, indent=2, ensure_ascii=False) + "\n")


def encode_lines(documents: list[dict[str, Any]]) -> bytes:
    """Encodes JSON documents, one on each line."""
    return encode("".join(json.dumps(document, ensure_ascii=False) + "\n" for document in documents))


Message = dict[str, str]


def few_shot(material: Material) -> bytes:
    """Writes a prompt; the text to classify is appended, followed by a new line and ``Class:``.

    White space within a text is folded to keep each text on its line.
    """
    shots = [
        f"Text: {' '.join(text.split())}\nClass: {' '.join(name.split())}\n"
        for text, name in _in_turn(material)
    ]
    return encode("\n".join([_task(material) + "\n", *shots, "Text: "]))


def chat(material: Material) -> bytes:
    """Writes one chat on one line: the task as the system message, then each text with its class.

    The text to classify is appended as the last message, of the role ``user``.
    """
    turns = [message for text, name in _in_turn(material) for message in _turn(text, name)]
    return encode_lines([{"messages": [_system(material), *turns]}])


def tuning(material: Material) -> bytes:
    """Writes one chat per text: the task, the text, its class."""
    return encode_lines(
        [{"messages": [_system(material), *_turn(text, name)]} for text, name in _in_turn(material)]
    )


def _in_turn(material: Material) -> list[tuple[str, str]]:
    """Interleaves the classes, since language models favour the classes that they saw last."""
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


#: Start of a cell that a spreadsheet would run as a formula, even after apostrophes, so that :func:`unguard`
#: is exact. The wide signs are those of East Asian keyboards.
_GUARDED = re.compile(r"'*[=+\-@\t\r\n＝＋－＠]")


def json_lines(material: Material) -> bytes:
    """Writes the columns of ``train.parquet`` except ``member_rows``, one text per line."""
    return encode_lines(material.distilled.to_arrow().drop_columns(["member_rows"]).to_pylist())


def spreadsheet(material: Material) -> bytes:
    """Writes a CSV table.

    A text or class name that a spreadsheet would run as a formula gets an apostrophe in front, which marks
    text (OWASP, "CSV Injection"). :func:`unguard` removes it.
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
    """Removes the apostrophe that :func:`spreadsheet` put in front of a cell."""
    return cell[1:] if cell.startswith("'") and _GUARDED.match(cell) else cell


_SKLEARN = '''"""Trains TF-IDF and logistic regression on the texts that dallme distilled.

Needs pandas, pyarrow and scikit-learn. Run: python FILE [FOLDER]
"""

{imports}

import pandas
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

{tokenizer}


folder = sys.argv[1] if len(sys.argv) > 1 else {folder}
texts = pandas.read_parquet(f"{{folder}}/train.parquet", columns=["text", "label_text"])

vectorizer = TfidfVectorizer(tokenizer=words, token_pattern=None)
model = make_pipeline(vectorizer, LogisticRegression(max_iter=1000, random_state=0))
model.fit(texts["text"], texts["label_text"])

print(f"trained on {{len(texts)}} texts of the classes: {{', '.join(model.classes_)}}")
for text in ["Put your own texts here.", texts["text"][0]]:
    print(f"{{model.predict([text])[0]}}: {{text[:80]}}")
'''

_SETFIT = '''"""Fine-tunes a sentence encoder on the texts that dallme distilled, with SetFit.

Needs pandas, pyarrow and setfit. Run: python FILE [FOLDER [MODEL]]
The default model reads English; name a multilingual one for texts in other languages.
"""

import sys

import pandas
from datasets import Dataset
from setfit import SetFitModel, Trainer, TrainingArguments

folder = sys.argv[1] if len(sys.argv) > 1 else {folder}
texts = pandas.read_parquet(f"{{folder}}/train.parquet", columns=["text", "label_text"])
classes = {classes}
rows = {{"text": list(texts["text"]), "label": [classes.index(name) for name in texts["label_text"]]}}

name = sys.argv[2] if len(sys.argv) > 2 else "sentence-transformers/all-MiniLM-L6-v2"
model = SetFitModel.from_pretrained(name, labels=classes)
arguments = TrainingArguments(batch_size=16, num_epochs=1, report_to="none", seed=0)
trainer = Trainer(model=model, args=arguments, train_dataset=Dataset.from_dict(rows))
trainer.train()

model.save_pretrained("setfit-model")
print(model.predict(["Put your own texts here."])[0])
'''


def sklearn(material: Material) -> bytes:
    """Writes a program that trains TF-IDF and logistic regression, ``lr`` of the comparison table."""
    imports, tokenizer = _source_of("words", {"sys"})
    return encode(_SKLEARN.format(folder=ascii(material.folder), imports=imports, tokenizer=tokenizer))


def _source_of(function: str, modules: set[str]) -> tuple[str, str]:
    """Copies a function of `dallme.text` with everything it uses, so that a program needs no dallme.

    Args:
        function: Name of the function.
        modules: Modules that the program imports besides.

    Returns:
        The import statements, and the definitions in the order of the module.
    """
    source = files("dallme").joinpath("text.py").read_text(encoding="utf-8")
    definitions: dict[str, ast.stmt] = {}
    imports: dict[str, str] = {name: f"import {name}" for name in modules}
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef):
            definitions[node.name] = node
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            definitions[node.targets[0].id] = node
        elif isinstance(node, ast.Import | ast.ImportFrom):
            start = "" if isinstance(node, ast.Import) else f"from {node.module} "
            imports |= {name.asname or name.name: f"{start}import {name.name}" for name in node.names}
    used, queue = set(modules), [function]
    while queue:
        name = queue.pop()
        if name not in used and name in imports.keys() | definitions.keys():
            used.add(name)
            nodes = ast.walk(definitions[name]) if name in definitions else ()
            queue += [node.id for node in nodes if isinstance(node, ast.Name)]
    lines, blocks = source.splitlines(), []
    for name, node in definitions.items():
        if name in used:
            decorators = node.decorator_list if isinstance(node, ast.FunctionDef) else []
            first = min([node.lineno, *(decorator.lineno for decorator in decorators)])
            blocks.append("\n".join(lines[first - 1 : node.end_lineno]))
    return "\n".join(sorted(imports[name] for name in used & imports.keys())), "\n\n\n".join(blocks)


def setfit(material: Material) -> bytes:
    """Writes a program that fine-tunes a sentence encoder with the package `setfit`."""
    present = {name for _, name in material.rows()}
    classes = list(dict.fromkeys(name for name in material.classes if name in present))
    return encode(_SETFIT.format(folder=ascii(material.folder), classes=ascii(classes)))


def atlas(material: Material) -> bytes:
    """Writes Parquet with the columns ``text``, ``label`` and ``weight``.

    With vectors it adds a row without weight for each source text, and more columns: ``kind`` (distilled or
    source), ``projection_x`` and ``projection_y`` (the first two principal components), and ``vector``.
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
    """Adds the source's texts below the distilled ones, and the projection of all."""
    import numpy as np
    import pyarrow as pa

    source, texts = evidence.source, len(columns["text"])
    assert evidence.vectors is not None
    assert evidence.own is not None
    vectors = np.concatenate([evidence.own, evidence.vectors.vectors])
    projection = project(vectors)
    flat = pa.array(vectors.ravel(), pa.float32())
    return {
        "text": columns["text"] + list(source.texts),
        "label": columns["label"] + [source.label_names[label] for label in source.labels.tolist()],
        "weight": pa.array(columns["weight"] + [None] * len(source), pa.float64()),
        "kind": ["distilled"] * texts + ["source"] * len(source),
        "projection_x": pa.array(projection[:, 0], pa.float32()),
        "projection_y": pa.array(projection[:, 1], pa.float32()),
        "vector": pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1]),
    }


def project(vectors: np.ndarray) -> np.ndarray:
    """Projects onto the first two principal components.

    Args:
        vectors: Of shape (n, d).

    Returns:
        Float64 of shape (n, 2), the second column of zeros if d is 1. The largest entry of each axis is
        positive, which fixes the sign of the components.
    """
    import numpy as np

    mean = vectors.mean(axis=0, dtype=np.float64)
    # Centring a covariance instead of the vectors needs no copy of them.
    covariance = (vectors.T @ vectors).astype(np.float64) / len(vectors) - np.outer(mean, mean)
    axes = np.linalg.eigh(covariance)[1][:, ::-1][:, :2]
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])
    components = vectors @ axes - mean @ axes
    padded: np.ndarray = np.pad(components, ((0, 0), (0, 2 - axes.shape[1])))
    return padded


def argilla(material: Material) -> bytes:
    """Writes records for ``rg.Dataset.records.log`` of Argilla 2.

    The dataset's settings need a text field ``text`` and a label question ``label``, whose suggestion is the
    label. An optional float metadata property ``weight`` takes the weight.
    """
    weights = material.distilled.weights.tolist()
    return encode_json(
        [
            {"id": str(row), "text": text, "label": name, "weight": weight}
            for row, ((text, name), weight) in enumerate(zip(material.rows(), weights, strict=True))
        ]
    )


def label_studio(material: Material) -> bytes:
    """Writes tasks in Label Studio's JSON format, with labels as predictions.

    The labelling configuration needs ``<Text name="text" value="$text"/>`` and ``<Choices name="label"
    toName="text">``.
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


EXPORTS = (
    Export("few-shot", "a prompt as plain text, to which a text is appended", ".txt", few_shot),
    Export("chat", "the same prompt as the messages of one chat, one line of JSON", ".jsonl", chat),
    Export(
        "fine-tuning", "one chat per text and line, for services that fine-tune chat models", ".jsonl", tuning
    ),
    Export("jsonl", "one text per line, with label, weight and lineage", ".jsonl", json_lines),
    Export("csv", "text, label and weight, safe to open in a spreadsheet", ".csv", spreadsheet),
    Export("sklearn", "a program that trains TF-IDF and logistic regression on the folder", ".py", sklearn),
    Export("setfit", "a program that fine-tunes a sentence encoder on the folder with SetFit", ".py", setfit),
    Export(
        "atlas", "Parquet for Embedding Atlas; --source adds the source's texts and a map", ".parquet", atlas
    ),
    Export("argilla", "records for Argilla 2's records.log, labels as suggestions", ".json", argilla),
    Export("label-studio", "tasks for Label Studio, labels as predictions", ".json", label_studio),
)


def find(name: str) -> Export:
    """Finds a format by name.

    Raises:
        UnknownNameError: If there is no such format.
    """
    for export in EXPORTS:
        if export.name == name:
            return export
    raise UnknownNameError("format", name, [export.name for export in EXPORTS])
