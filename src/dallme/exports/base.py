"""What an export is, and what it is made of."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dallme.audit.evidence import Evidence
    from dallme.distilled import DistilledDataset


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
    evidence: Evidence | None = None

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
