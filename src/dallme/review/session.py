"""What the review page shows and saves, without the network."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dallme.distilled import DistilledDataset, folder
from dallme.distilled.card_audit import check_audit, parse_audit
from dallme.distilled.dataset import AUDIT
from dallme.report.escaping import to_json
from dallme.report.page import render
from dallme.review import changes as reviewing
from dallme.review.changes import ChangeError
from dallme.review.versions import Version, Versions

if TYPE_CHECKING:
    from dallme.audit.evidence import Evidence
    from dallme.progress import Progress


@dataclass(eq=False)
class Session:
    """A review of one set.

    Attributes:
        versions: Where versions are read from and saved to.
        look: Sets a version beside its source; None where the source is not at hand.
        points: Source rows that the map shows at most.
        progress: Where to show progress.
    """

    versions: Versions
    look: Callable[[DistilledDataset], Evidence] | None = None
    points: int = 25_000
    progress: Progress | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _page: tuple[tuple[Path, str], str] | None = None

    def page(self, secret: str) -> str:
        """The page of the newest version, with what the review script reads; made anew only if the version is another.

        Args:
            secret: What the script sends with every change.

        Raises:
            InputError: If the version cannot be read, or the source or the audit is not its own.
        """
        with self._lock:
            version = self.versions.newest()
            key = (version.folder, version.digest)
            if self._page is None or self._page[0] != key:
                self._page = (key, self._render(version))
            html = self._page[1]
        data = to_json(self._state(version) | {"secret": secret})
        # All texts are escaped, so that the last of these tags is the page's own.
        before, tag, after = html.rpartition("</body>")
        added = (
            f'<script type="application/json" id="data-review">{data}</script>\n'
            '<link rel="stylesheet" href="/review.css">\n<script src="/review.js"></script>\n'
        )
        return f"{before}{added}{tag}{after}"

    def newest(self) -> dict[str, Any]:
        """Number and digest of the newest version, by which a tab notices that there is another."""
        version = self.versions.newest()
        return {"version": version.number, "digest": version.digest}

    def save(self, document: Any) -> dict[str, Any]:
        """Saves what a page sends: ``version`` and ``digest`` of the version that it shows, and ``changes``.

        Returns:
            ``version``, ``digest``, ``folder`` and ``texts`` of the new version, and ``notes``.

        Raises:
            ChangeError: If it is no such document, or a change cannot be made.
            ConflictError: If there is a newer version by now.
            OutputError: If the version cannot be written.
        """
        if not isinstance(document, dict) or set(document) != {"version", "digest", "changes"}:
            raise ChangeError("expected an object with version, digest and changes, found another document; nothing was saved")
        number, digest = document["version"], document["digest"]
        if type(number) is not int or type(digest) is not str:
            raise ChangeError("expected version as a number and digest as a string, found others; nothing was saved")
        version = self.versions.save(number, digest, reviewing.parse(document["changes"]))
        return {
            "version": version.number,
            "digest": version.digest,
            "folder": str(version.folder),
            "texts": len(version.distilled),
            "notes": version.history[-1]["notes"],
        }

    def _render(self, version: Version) -> str:
        content = folder.read_files(version.folder, (AUDIT,)).get(AUDIT)
        audit = None if content is None else parse_audit(content)
        if audit is not None:
            check_audit(audit, version.distilled)
        evidence = self.look(version.distilled) if self.look else None
        return render(
            version.distilled, evidence=evidence, audit=audit, points=self.points, editable=True, progress=self.progress
        )

    def _state(self, version: Version) -> dict[str, Any]:
        """What the script knows of the version, beside what the page shows; the texts are in the order of the cards."""
        distilled, accepted = version.distilled, reviewing.accepted_ids(version.distilled)
        rows = zip(reviewing.text_ids(distilled), distilled.texts, distilled.labels.tolist(), distilled.lineage, strict=True)
        return {
            "version": version.number,
            "digest": version.digest,
            "set": self.versions.original().digest,
            "limit": reviewing.MAX_CHARACTERS,
            "classes": [{"id": label, "name": name} for label, name in distilled.label_names.items()],
            "texts": [
                {
                    "id": text_id,
                    "label": label,
                    "seen": reviewing.state(text, label),
                    "accepted": text_id in accepted,
                    "edited": lineage.decoder == reviewing.EDITED,
                }
                for text_id, text, label, lineage in rows
            ],
        }
