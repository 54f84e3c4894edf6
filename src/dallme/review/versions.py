"""The versions of a set that reviews made: a folder each, whole or absent, and never written again."""

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

from dallme.atomic import file_lock, sha256_of
from dallme.dataset import DistilledDataset, card, folder
from dallme.dataset.distilled import MANIFEST, TABLE
from dallme.errors import DallmeError, InputError, OutputError
from dallme.review import changes as history
from dallme.review import changes as reviewing
from dallme.review.changes import Change

#: Folder in that of the set that holds its versions.
PLACE = "versions"

#: File of a version that holds all that was changed, texts and all. It is not among the files that are pushed to a Hub: what
#: a reviewer took out must not be published as history.
CHANGES = "changes.json"

_NUMBER = re.compile(r"\d{4}|[1-9]\d{4,}")


class ConflictError(DallmeError):
    """What was to be saved was made from another version than the newest, or from other texts."""


@dataclass(frozen=True, eq=False)
class Version:
    """One version.

    Attributes:
        number: Its number; the set that the first review began with is version 1.
        folder: Where it lies.
        distilled: The set.
        digest: SHA-256 of its table, as hexadecimal.
    """

    number: int
    folder: Path
    distilled: DistilledDataset
    digest: str

    @property
    def history(self) -> list[dict[str, Any]]:
        """What each review changed, the oldest first; see :meth:`Versions.save`."""
        return list(self.distilled.manifest.get("history", []))


@dataclass(frozen=True, eq=False)
class Versions:
    """The versions of one set.

    Attributes:
        base: The folder that is reviewed.
        place: The folder that holds the versions that reviews made of it, named ``0002`` and so on.
    """

    base: Path
    place: Path
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def original(self) -> Version:
        """The set that is reviewed, without its versions.

        Raises:
            InputError: If it cannot be read.
        """
        version = _load(self.base, 1)
        return replace(version, number=version.history[-1]["version"]) if version.history else version

    def newest(self) -> Version:
        """The newest version: the set itself if no review was saved yet.

        Raises:
            InputError: If it cannot be read, or was made of another set.
        """
        first = self.original()
        numbers = self._numbers()
        if not numbers:
            return first
        version = _load(self.place / _name(numbers[-1]), numbers[-1])
        since = version.history[len(first.history) :]
        if not since or since[0].get("parent_sha256") != first.digest:
            raise InputError(
                f"expected versions of the set in {str(self.base)!r}, found {str(version.folder)!r}, which was made of another; "
                "move the versions away, or choose another --output"
            )
        return version

    def save(self, parent: int, digest: str, changes: Sequence[Change]) -> Version:
        """Writes a new version.

        The manifest gains an entry in ``history``: ``version``, ``parent``, ``parent_sha256`` (of the parent's table), ``when``
        (UTC), ``texts`` (how many), ``changes`` (without their words) and ``notes``. ``changes.json`` holds the same entry with
        all texts.

        Args:
            parent: Number of the version that the changes were made to.
            digest: Its digest.
            changes: What is decided.

        Returns:
            The new version.

        Raises:
            ConflictError: If another version is the newest by now, or a text is not what the reviewer saw.
            ChangeError: If a change cannot be made.
            OutputError: If the version cannot be written; nothing of it is left.
        """
        with self._alone():
            newest = self.newest()
            if (newest.number, newest.digest) != (parent, digest):
                raise ConflictError(
                    f"expected changes to version {newest.number}, which is the newest, found changes to version {parent}: "
                    "another tab or program has saved since; nothing was saved, and nothing that you typed is lost"
                )
            _check_seen(newest, changes)
            distilled, done = reviewing.apply(newest.distilled, changes)
            number = max([newest.number, *self._numbers()]) + 1
            entry = history.entry_of(
                number, newest.distilled, distilled, done, parent=newest.number, parent_sha256=newest.digest
            )
            short = entry | {"changes": [history.without_texts(step) for step in done]}
            distilled = replace(
                distilled, manifest=distilled.manifest | {"history": [*newest.history, short]}
            )
            files = distilled.files(f"{card.render(distilled)}\n{history.section(distilled)}")
            files[CHANGES] = (json.dumps(entry, indent=2, ensure_ascii=False) + "\n").encode()
            target = folder.write(self.place / _name(number), files, overwrite=False)
            return Version(number, target, distilled, sha256_of([files[TABLE]]))

    def _numbers(self) -> list[int]:
        """The numbers of the versions that are there, in their order."""
        if not self.place.is_dir():
            return []
        return sorted(
            int(entry.name)
            for entry in self.place.iterdir()
            if entry.is_dir() and _NUMBER.fullmatch(entry.name)
        )

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keeps other threads and programs from saving, and takes away what one that was killed has left."""
        with self._lock, ExitStack() as stack:
            try:
                self.place.mkdir(parents=True, exist_ok=True)
                stack.enter_context(file_lock(self.place / ".lock"))
            except OSError as error:
                raise OutputError(
                    f"expected a folder to write versions to, found {str(self.place)!r}: {error.strerror or error}; "
                    "nothing was saved"
                ) from error
            for left in self.place.glob(".*.partial"):
                shutil.rmtree(left, ignore_errors=True)
            yield


def open_versions(base: Path, output: Path | None = None) -> Versions:
    """The versions of a set, checked before a reviewer begins to type.

    Args:
        base: The folder of the set.
        output: The folder that holds its versions; by default :data:`PLACE` in `base`.

    Returns:
        The versions; nothing is written yet.

    Raises:
        InputError: If there is no set, or it is itself a version and no `output` is given.
        OutputError: If versions cannot be written there.
    """
    real = base.resolve()
    if output is None and real.parent.name == PLACE and (real.parent.parent / MANIFEST).is_file():
        raise InputError(
            f"expected the set itself, found {str(base)!r}, one of its versions; review {str(real.parent.parent)!r} to go on "
            "with the newest, or choose a place for versions of this one with --output"
        )
    versions = Versions(base, output or base / PLACE)
    versions.newest()
    folder.check(versions.place, overwrite=True)
    return versions


def _load(place: Path, number: int) -> Version:
    """Reads the version in a folder."""
    distilled, files = DistilledDataset.read(place)
    reviewing.check_review(distilled)
    told = distilled.manifest.get("history", [])
    if not isinstance(told, list) or not all(
        isinstance(entry, dict) and "version" in entry for entry in told
    ):
        raise InputError(
            f"expected a history as dallme review writes it in {str(place / MANIFEST)!r}, found another; take 'review' and "
            "'history' out of it to review the set anew"
        )
    return Version(number, place, distilled, sha256_of([files[TABLE]]))


def _check_seen(version: Version, changes: Sequence[Change]) -> None:
    """Checks that each change was made to the text that it will change."""
    distilled = version.distilled
    rows = zip(reviewing.text_ids(distilled), distilled.texts, distilled.labels.tolist(), strict=True)
    states = {text_id: reviewing.state(text, label) for text_id, text, label in rows}
    for change in changes:
        if states.get(change.id, change.seen) != change.seen:
            raise ConflictError(
                f"expected a change to text {change.id} as it stands in version {version.number}, found a change to what it "
                "was before; nothing was saved, and nothing that you typed is lost"
            )


def _name(number: int) -> str:
    return f"{number:04}"
