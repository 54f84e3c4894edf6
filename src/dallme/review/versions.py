"""The versions that reviews make of a set: one folder each, written once."""

from __future__ import annotations

import json
import re
import shutil
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dallme.dataset import MANIFEST, TABLE, DistilledDataset, card
from dallme.errors import DallmeError, InputError, OutputError
from dallme.files import folders
from dallme.files.atomic import file_lock, sha256_of
from dallme.review import changes as reviewing
from dallme.review.changes import Change

#: Folder in that of the set that holds its versions.
PLACE = "versions"

#: File of a version with all changes and their texts. It is never pushed to a Hub, as it holds texts that
#: were dropped.
CHANGES = "changes.json"

_NUMBER = re.compile(r"\d{4}|[1-9]\d{4,}")


class ConflictError(DallmeError):
    """Changes to an outdated version or text."""


@dataclass(frozen=True, eq=False)
class Version:
    """One version.

    Attributes:
        number: Its number; the set before the first review is version 1.
        folder: Its folder.
        distilled: The set.
        digest: SHA-256 of its table, as hexadecimal.
    """

    number: int
    folder: Path
    distilled: DistilledDataset
    digest: str

    @property
    def history(self) -> list[dict[str, Any]]:
        """Changes of each review, the oldest first; see :meth:`Versions.save`."""
        return list(self.distilled.manifest.history or ())


@dataclass(frozen=True, eq=False)
class Versions:
    """The versions of one set.

    Attributes:
        base: Folder of the set.
        place: Folder of the versions, which are named ``0002`` and so on.
    """

    base: Path
    place: Path
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def original(self) -> Version:
        """Reads the set without its versions.

        Raises:
            InputError: If it cannot be read.
        """
        version = _load(self.base, 1)
        return replace(version, number=version.history[-1]["version"]) if version.history else version

    def newest(self) -> Version:
        """Reads the newest version; it is the set itself before the first review.

        Raises:
            InputError: If it cannot be read, or belongs to another set.
        """
        first = self.original()
        numbers = self._numbers()
        if not numbers:
            return first
        version = _load(self.place / _name(numbers[-1]), numbers[-1])
        since = version.history[len(first.history) :]
        if not since or since[0].get("parent_sha256") != first.digest:
            raise InputError(
                f"expected versions of the set in {str(self.base)!r}, found {str(version.folder)!r}, "
                "which was made of another; move the versions away, or choose another --output"
            )
        return version

    def save(self, parent: int, digest: str, changes: Sequence[Change]) -> Version:
        """Writes a new version.

        The manifest gains an entry in ``history``: ``version``, ``parent``, ``parent_sha256`` (of the
        parent's table), ``when`` (UTC), ``texts`` (their count), ``changes`` (without texts) and ``notes``.
        ``changes.json`` holds the same entry with texts.

        Args:
            parent: Number of the version that the changes were made to.
            digest: Its digest.
            changes: The changes.

        Returns:
            The new version.

        Raises:
            ConflictError: If there is a newer version, or a text is not the one that the reviewer saw.
            ChangeError: If a change cannot be made.
            OutputError: If the version cannot be written; nothing is left of it.
        """
        with self._locked():
            newest = self.newest()
            if (newest.number, newest.digest) != (parent, digest):
                raise ConflictError(
                    f"expected changes to version {newest.number}, which is the newest, found changes to "
                    f"version {parent}: another tab or program has saved since; nothing was saved, and your "
                    "changes are kept"
                )
            _check_seen(newest, changes)
            distilled, done = reviewing.apply(newest.distilled, changes)
            number = max([newest.number, *self._numbers()]) + 1
            entry = reviewing.entry_of(
                number, newest.distilled, distilled, done, parent=newest.number, parent_sha256=newest.digest
            )
            short = entry | {"changes": [reviewing.without_texts(step) for step in done]}
            manifest = distilled.manifest | {"history": [*newest.history, short]}
            distilled = replace(distilled, manifest=manifest)
            files = distilled.files(f"{card.render(distilled)}\n{reviewing.section(distilled)}")
            files[CHANGES] = (json.dumps(entry, indent=2, ensure_ascii=False) + "\n").encode()
            target = folders.write(self.place / _name(number), files, overwrite=False)
            return Version(number, target, distilled, sha256_of([files[TABLE]]))

    def _numbers(self) -> list[int]:
        """Returns the numbers of the existing versions, ascending."""
        if not self.place.is_dir():
            return []
        return sorted(
            int(entry.name)
            for entry in self.place.iterdir()
            if entry.is_dir() and _NUMBER.fullmatch(entry.name)
        )

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Locks the versions for this thread, and removes the remains of killed processes."""
        with self._lock, ExitStack() as stack:
            try:
                self.place.mkdir(parents=True, exist_ok=True)
                stack.enter_context(file_lock(self.place / ".lock"))
            except OSError as error:
                raise OutputError(
                    f"expected a folder to write versions to, found {str(self.place)!r}: "
                    f"{error.strerror or error}; nothing was saved"
                ) from error
            for left in self.place.glob(".*.partial"):
                shutil.rmtree(left, ignore_errors=True)
            yield


def open_versions(base: Path, output: Path | None = None, *, writable: bool = True) -> Versions:
    """Opens the versions of a set, and checks them before a reviewer begins.

    Args:
        base: Folder of the set.
        output: Folder of its versions; by default :data:`PLACE` in `base`.
        writable: Whether versions are to be saved; False checks nothing about writing.

    Raises:
        InputError: If there is no set, or it is itself a version and no `output` is given.
        OutputError: If versions cannot be written there.
    """
    real = base.resolve()
    if output is None and real.parent.name == PLACE and (real.parent.parent / MANIFEST).is_file():
        raise InputError(
            f"expected the set itself, found {str(base)!r}, one of its versions; review "
            f"{str(real.parent.parent)!r} "
            "to continue with the newest, or choose a folder for versions of this one with --output"
        )
    versions = Versions(base, output or base / PLACE)
    versions.newest()
    if writable:
        folders.check(versions.place, overwrite=True)
    return versions


def _load(place: Path, number: int) -> Version:
    """Reads the version in a folder."""
    distilled, files = DistilledDataset.read(place)
    reviewing.check_review(distilled)
    return Version(number, place, distilled, sha256_of([files[TABLE]]))


def _check_seen(version: Version, changes: Sequence[Change]) -> None:
    """Raises ConflictError if a change was made to another text than the one in the version."""
    distilled = version.distilled
    rows = zip(reviewing.text_ids(distilled), distilled.texts, distilled.labels.tolist(), strict=True)
    states = {text_id: reviewing.state(text, label) for text_id, text, label in rows}
    for change in changes:
        if states.get(change.id, change.seen) != change.seen:
            raise ConflictError(
                f"expected a change to text {change.id} as it is in version {version.number}, found a change "
                "to an earlier text; nothing was saved, and your changes are kept"
            )


def _name(number: int) -> str:
    return f"{number:04}"
