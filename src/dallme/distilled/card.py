"""The dataset card: what the set is, what it is worth, and how it was made, with metadata that the Hub reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import yaml

from dallme.tables import comparison_table

if TYPE_CHECKING:
    from dallme.distilled.dataset import DistilledDataset

_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"))


def render(distilled: DistilledDataset) -> str:
    """Renders the card as Markdown with YAML metadata; the same dataset gives the same bytes."""
    metadata = yaml.safe_dump(_metadata(distilled), sort_keys=False, allow_unicode=True)
    sections = [_title(distilled), _how_to_use(), _worth(distilled.manifest), _texts(distilled), _making(distilled.manifest)]
    return f"---\n{metadata}---\n\n" + "\n".join(section for section in sections if section)


def _metadata(distilled: DistilledDataset) -> dict[str, Any]:
    size = next((name for limit, name in _SIZES if len(distilled) < limit), "100K<n<1M")
    return {
        "pretty_name": f"Distilled {_source(distilled.manifest)}",
        "task_categories": ["text-classification"],
        "size_categories": [size],
        "tags": ["dataset-distillation", "dallme"],
        # Without this, `load_dataset` would take manifest.json for data.
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": "train.parquet"}]}],
    }


def _source(manifest: Mapping[str, Any]) -> str:
    return str(manifest.get("data", {}).get("source", "dataset"))


def _title(distilled: DistilledDataset) -> str:
    rows = distilled.manifest.get("data", {}).get("rows")
    origin = f"{rows:,} rows" if rows else "a larger dataset"
    classes = _escape(", ".join(distilled.label_names.values()))
    return (
        f"# Distilled {_escape(_source(distilled.manifest))}\n\n"
        f"{origin} → **{len(distilled)} texts**, for training a text classifier with the classes {classes}. "
        "Made with dallme (text dataset distillation).\n"
    )


def _how_to_use() -> str:
    return (
        "## Use\n\n```python\nfrom datasets import load_dataset\n\n"
        'texts = load_dataset("path/or/id/of/this/folder", split="train")\n```\n\n'
        "`text` and `label` are all a classifier needs. `weight` counts the source rows behind a text; `sentence_rows`, "
        "`nearest_rows` and `member_rows` say which source rows it is from.\n"
    )


def _worth(manifest: Mapping[str, Any]) -> str:
    comparison = manifest.get("comparison")
    return f"## What it is worth\n\nAccuracy on held-out real texts.\n\n{comparison_table(comparison)}\n" if comparison else ""


def _texts(distilled: DistilledDataset) -> str:
    shown = [f"- **{_escape(distilled.label_names[label])}**: {_escape(text)}" for text, label in _first_of_each_class(distilled)]
    return "## The first text of each class\n\n" + "\n".join(shown) + "\n"


def _first_of_each_class(distilled: DistilledDataset) -> list[tuple[str, int]]:
    first: dict[int, str] = {}
    for text, label in zip(distilled.texts, distilled.labels.tolist(), strict=True):
        first.setdefault(label, text)
    return [(text, label) for label, text in first.items()]


def _escape(text: str) -> str:
    """Keeps what a text holds from being read as Markdown or HTML."""
    for sign in "\\`*_[]<>|#&~$":
        text = text.replace(sign, f"\\{sign}")
    return " ".join(text.split())


def _making(manifest: Mapping[str, Any]) -> str:
    configuration = manifest.get("configuration", {})
    if not configuration:
        return ""
    rows = [f"| {name} | {_escape(str(value))} |" for name, value in configuration.items() if value is not None]
    return "## How it was made\n\n| | |\n| --- | --- |\n" + "\n".join(rows) + "\n\nThe rest is in `manifest.json`.\n"
