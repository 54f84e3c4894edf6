"""Display of a set in a notebook and at a prompt."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from dallme.embedders.base import count_words
from dallme.personal import mask

#: Texts that a notebook shows, and characters of each.
SHOWN_TEXTS, SHOWN_CHARACTERS = 50, 300


def to_html(texts: Sequence[str], labels: Sequence[str], source: str | None) -> str:
    """Writes a table of labels, texts and words; names and texts are escaped, personal data is masked.

    Args:
        texts: m texts.
        labels: Class name of each.
        source: Name of the source.
    """
    rows = []
    counts = count_words(texts[:SHOWN_TEXTS]).tolist()
    for label, text, words in zip(labels, texts, counts, strict=False):
        masked = mask(text)
        if len(masked) > SHOWN_CHARACTERS:
            masked = masked[: SHOWN_CHARACTERS - 1].rstrip() + "…"
        style = ' style="text-align: left; white-space: pre-wrap"'
        rows.append(
            f'<tr><td{style}>{escape(label)}</td><td{style} dir="auto">{escape(masked)}</td>'
            f"<td>{words:,}</td></tr>"
        )
    more = f"<p>… and {len(texts) - len(rows):,} more</p>" if len(texts) > len(rows) else ""
    origin = f" distilled from {escape(source)}" if source else ""
    return (
        f"<div><p>{len(texts):,} texts{origin}</p>"
        f"<table><thead><tr><th>label</th><th>text</th><th>words and signs</th></tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table>{more}</div>"
    )
