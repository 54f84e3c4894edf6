"""Foreign text in Markdown."""

from __future__ import annotations


def escape(text: str) -> str:
    """Keeps what a text holds from being read as Markdown or HTML."""
    for sign in "\\`*_[]<>|#&~$":
        text = text.replace(sign, f"\\{sign}")
    return " ".join(text.split())
