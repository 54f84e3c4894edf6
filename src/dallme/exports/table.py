"""The one table of formats. Importing it loads no library."""

from __future__ import annotations

from dallme.errors import UnknownNameError
from dallme.exports import annotation, atlas, prompts, rows, snippets
from dallme.exports.base import Export

EXPORTS = (
    Export("few-shot", "a prompt as plain text, to which a text is appended", ".txt", prompts.few_shot),
    Export("chat", "the same prompt as the messages of one chat, one line of JSON", ".jsonl", prompts.chat),
    Export(
        "fine-tuning", "a chat a text, one a line, as services that fine-tune chat models take them", ".jsonl", prompts.tuning
    ),
    Export("jsonl", "a text a line, with label, weight and lineage", ".jsonl", rows.json_lines),
    Export("csv", "text, label and weight, safe to open in a spreadsheet", ".csv", rows.spreadsheet),
    Export("sklearn", "a program that trains TF-IDF and logistic regression on the folder", ".py", snippets.sklearn),
    Export("setfit", "a program that fine-tunes a sentence encoder on the folder with SetFit", ".py", snippets.setfit),
    Export("atlas", "Parquet for Embedding Atlas; with --source the source's texts and a map as well", ".parquet", atlas.write),
    Export("argilla", "records for Argilla 2's records.log, labels as suggestions", ".json", annotation.argilla),
    Export("label-studio", "tasks for Label Studio, labels as predictions", ".json", annotation.label_studio),
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
