"""The journal of a staged write, and the names of the files that dallme writes into a folder."""

from __future__ import annotations

import json
from dataclasses import dataclass

from dallme.files.atomic import sha256_of

#: The only files that a write may add to an existing folder, or remove from it.
SET_FILES = frozenset(
    {"README.md", "audit.json", "changes.json", "manifest.json", "report.html", "train.parquet"}
)

#: The same for the folder of an inverter.
INVERTER_FILES = frozenset(
    {
        "README.md",
        "config.json",
        "inverter.json",
        "model.safetensors",
        "special_tokens.json",
        "tokenizer.json",
    }
)

#: Names of all files that dallme writes into a folder.
KNOWN_FILES = SET_FILES | INVERTER_FILES

#: Record of the files that dallme wrote into a folder: name to SHA-256 of the content.
RECORD = ".dallme-files.json"


class JournalError(ValueError):
    """A staged write that cannot be trusted."""


@dataclass(frozen=True)
class Journal:
    """The staged files of a write and the files that it removes.

    Attributes:
        files: Name to SHA-256 of the content.
        outdated: Names of files to remove.
    """

    files: dict[str, str]
    outdated: tuple[str, ...]

    def encode(self) -> bytes:
        """Encodes the journal with a checksum over its content."""
        body = {"files": dict(sorted(self.files.items())), "outdated": sorted(self.outdated), "version": 1}
        return json.dumps(body | {"sha256": sha256_of([json.dumps(body)])}).encode()

    @classmethod
    def decode(cls, content: bytes) -> Journal:
        """Parses and checks a journal.

        Raises:
            JournalError: If it is damaged, or names files that do not belong to a distilled set.
        """
        try:
            document = json.loads(content)
            journal = cls(dict(document["files"]), tuple(document["outdated"]))
            intact = journal.encode() == content
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise JournalError(f"its journal is damaged ({type(error).__name__})") from None
        if not intact:
            raise JournalError("its journal is damaged (checksum)")
        foreign = sorted({*journal.files, *journal.outdated} - KNOWN_FILES - {RECORD})
        if foreign:
            raise JournalError(f"its journal names {foreign[0]!r}, which is no file of a distilled set")
        return journal
