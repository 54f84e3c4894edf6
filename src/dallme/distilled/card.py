"""The dataset card: what the set is, what it is worth, and how it was made, with metadata that the Hub reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import yaml

from dallme.distilled.card_audit import audit_section
from dallme.distilled.markdown import escape
from dallme.distilled.terms import Terms, hub_id
from dallme.tables import comparison_table

if TYPE_CHECKING:
    from dallme.distilled.dataset import DistilledDataset

_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"))

_USE = """## Use

```python
from datasets import load_dataset

texts = load_dataset("{place}", split="train")
```

To train a classifier:

```python
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

model = make_pipeline(TfidfVectorizer(), LogisticRegression(max_iter=1000))
model.fit(list(texts["text"]), list(texts["label_text"]))
print(model.predict(["A text of your own."])[0])
```

As examples for a language model:

```python
shots = "\\n\\n".join(f"Text: {{row['text']}}\\nClass: {{row['label_text']}}" for row in texts)
print(f"{{shots}}\\n\\nText: A text of your own.\\nClass:")
```

`text` and `label` are all a classifier needs. `weight` counts the source rows behind a text; `sentence_rows`, `nearest_rows` and
`member_rows` say which source rows it is from.
"""


def render(
    distilled: DistilledDataset,
    *,
    audit: Mapping[str, Any] | None = None,
    terms: Terms | None = None,
    place: str = "path/or/id/of/this/folder",
) -> str:
    """Renders the card as Markdown with YAML metadata; the same arguments give the same bytes.

    Args:
        distilled: The set.
        audit: The document of its audit, if there is one.
        terms: Licence and languages; without any the card warns that they are not known.
        place: Where the set will lie: its id on the Hub.

    Returns:
        The card.
    """
    terms = terms or Terms()
    metadata = yaml.safe_dump(_metadata(distilled, terms), sort_keys=False, allow_unicode=True)
    sections = [
        _title(distilled),
        _USE.format(place=place),
        _worth(distilled.manifest),
        audit_section(audit) if audit else "",
        _texts(distilled),
        _making(distilled.manifest),
        terms.section(_source(distilled.manifest)),
    ]
    return f"---\n{metadata}---\n\n" + "\n".join(section for section in sections if section)


def _metadata(distilled: DistilledDataset, terms: Terms) -> dict[str, Any]:
    size = next((name for limit, name in _SIZES if len(distilled) < limit), "100K<n<1M")
    source = hub_id(distilled.manifest)
    return {
        "pretty_name": f"Distilled {_source(distilled.manifest)}",
        **terms.metadata(),
        "task_categories": ["text-classification"],
        "size_categories": [size],
        **({"source_datasets": [source]} if source else {}),
        "tags": ["dataset-distillation", "dallme"],
        # Without this, `load_dataset` would take manifest.json for data.
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": "train.parquet"}]}],
    }


def _source(manifest: Mapping[str, Any]) -> str:
    return str(manifest.get("data", {}).get("source", "dataset"))


def _title(distilled: DistilledDataset) -> str:
    rows = distilled.manifest.get("data", {}).get("rows")
    origin = f"{rows:,} rows" if rows else "a larger dataset"
    classes = escape(", ".join(distilled.label_names.values()))
    return (
        f"# Distilled {escape(_source(distilled.manifest))}\n\n"
        f"{origin} → **{len(distilled)} texts**, for training a text classifier with the classes {classes}. "
        "Made with dallme (text dataset distillation).\n"
    )


def _worth(manifest: Mapping[str, Any]) -> str:
    comparison = manifest.get("comparison")
    if not comparison:
        return ""
    return f"## What it is worth\n\nAccuracy on held-out real texts.\n\n{comparison_table(_with_escaped_names(comparison))}\n"


def _with_escaped_names(comparison: Mapping[str, Any]) -> dict[str, Any]:
    """A method may be a path of the user's."""

    def escaped(row: Mapping[str, Any], key: str) -> dict[str, Any]:
        return dict(row) | {key: escape(row[key])}

    methods = [
        escaped(method, "method") | {"results": [escaped(result, "classifier") for result in method["results"]]}
        for method in comparison["methods"]
    ]
    return dict(comparison) | {"methods": methods}


def _texts(distilled: DistilledDataset) -> str:
    shown = [f"- **{escape(distilled.label_names[label])}**: {escape(text)}" for text, label in _first_of_each_class(distilled)]
    return "## The first text of each class\n\n" + "\n".join(shown) + "\n"


def _first_of_each_class(distilled: DistilledDataset) -> list[tuple[str, int]]:
    first: dict[int, str] = {}
    for text, label in zip(distilled.texts, distilled.labels.tolist(), strict=True):
        first.setdefault(label, text)
    return [(text, label) for label, text in first.items()]


def _making(manifest: Mapping[str, Any]) -> str:
    """The manifest in short."""
    configuration = manifest.get("configuration", {})
    if not configuration:
        return ""
    facts = dict(configuration)
    if "dallme" in manifest:
        facts["dallme"] = manifest["dallme"]
    if digest := manifest.get("data", {}).get("sha256"):
        facts["SHA-256 of the source"] = digest
    rows = [f"| {escape(name)} | {escape(str(value))} |" for name, value in facts.items() if value is not None]
    return "## How it was made\n\n| | |\n| --- | --- |\n" + "\n".join(rows) + "\n\nThe rest is in `manifest.json`.\n"
