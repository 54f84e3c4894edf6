"""Takes the figures of the results, which lie beside the documentation, into the site."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]


def on_files(files: Files, *, config: Any) -> Files:
    """Adds the figures under the same path as in the repository."""
    for figure in sorted((ROOT / "results").rglob("figure.svg")):
        files.append(File.generated(config, figure.relative_to(ROOT).as_posix(), abs_src_path=str(figure)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Points the results page at them."""
    return markdown.replace("](../results/", "](results/")
