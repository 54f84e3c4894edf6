"""What a set's manifest and card tell of its reviews."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from dallme.distilled import DistilledDataset
from dallme.review.changes import ACTIONS, accepted_ids


def entry_of(
    number: int,
    before: DistilledDataset,
    after: DistilledDataset,
    done: Sequence[Mapping[str, Any]],
    *,
    parent: int,
    parent_sha256: str,
) -> dict[str, Any]:
    """What the history says of a new version.

    Args:
        number: Its number.
        before: The set that was reviewed.
        after: The set that came of it.
        done: What was changed, as :func:`~dallme.review.changes.apply` tells it.
        parent: Number of the version that was reviewed.
        parent_sha256: Hash of its table.

    Returns:
        The entry, with all texts that were changed.
    """
    notes = []
    if "comparison" in before.manifest and "comparison" not in after.manifest:
        notes.append(
            f"the table that compares the texts with other methods was left out: it was measured on version {parent}; "
            "run dallme evaluate or compare for the new texts"
        )
    gone = set(before.labels.tolist()) - set(after.labels.tolist())
    notes += [f"no text is left of the class {after.label_names[label]!r}" for label in sorted(gone)]
    return {
        "version": number,
        "parent": parent,
        "parent_sha256": parent_sha256,
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "texts": len(after),
        "changes": list(done),
        "notes": notes,
    }


def without_texts(step: Mapping[str, Any]) -> dict[str, Any]:
    """A change as the manifest tells of it: texts that were taken out or replaced are not in it."""
    return {
        name: value for name, value in step.items() if step["action"] not in ("edit", "drop") or name in ("index", "id", "action")
    }


def count_actions(entry: Mapping[str, Any]) -> dict[str, int]:
    """How many changes of each kind an entry of a history holds, by the names in :data:`ACTIONS`."""
    return {action: sum(step["action"] == action for step in entry["changes"]) for action in ACTIONS}


def section(distilled: DistilledDataset) -> str:
    """What the card says of the reviews."""
    history, accepted = distilled.manifest["history"], len(accepted_ids(distilled))
    rows = [
        f"| {entry['version']} | {entry['when']} | {' | '.join(str(count) for count in count_actions(entry).values())} |"
        for entry in history
    ]
    return (
        f"## Reviewed by hand\n\nA person accepted {accepted} of these {len(distilled)} texts. Changes by version:\n\n"
        "| version | when | edited | relabelled | dropped | accepted | no longer accepted |\n"
        "| --- | --- | --- | --- | --- | --- | --- |\n" + "\n".join(rows) + "\n"
    )
