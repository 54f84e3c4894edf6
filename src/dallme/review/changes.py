"""Changes of a reviewer to single texts, and the set and the history that result."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np

from dallme.dataset import DistilledDataset, Lineage
from dallme.dataset.card import escape
from dallme.errors import InputError
from dallme.files.atomic import sha256_of
from dallme.validation import text_problem

#: Maximum number of characters of an edited text.
MAX_CHARACTERS = 100_000

#: Decoder in the lineage of a text that was edited by hand.
EDITED = "edited"

#: The kinds of a change, in the order of the columns of a history.
ACTIONS = ("edit", "relabel", "drop", "accept", "unaccept")


class ChangeError(InputError):
    """A change that cannot be made.

    Attributes:
        text: Id of its text, or None.
    """

    def __init__(self, message: str, text: int | None = None) -> None:
        """Stores the message and the id of the text."""
        super().__init__(message)
        self.text = text


@dataclass(frozen=True)
class Change:
    """Changes of one text; None leaves a field as it is.

    Attributes:
        id: Id of the text, as :func:`text_ids` gives it.
        seen: The :func:`state` of the text that the reviewer saw.
        text: New text.
        label: New class id.
        drop: Whether to drop the text.
        accept: Whether the text is accepted.
    """

    id: int
    seen: str
    text: str | None = None
    label: int | None = None
    drop: bool = False
    accept: bool | None = None


def state(text: str, label: int) -> str:
    """Hashes a text with its class, to detect a change by another tab."""
    return sha256_of([json.dumps([text, label])])[:16]


def text_ids(distilled: DistilledDataset) -> list[int]:
    """Returns the ids of the texts: their positions in the set before the first review."""
    return _numbers(distilled, "ids", list(range(len(distilled))))


def accepted_ids(distilled: DistilledDataset) -> set[int]:
    """Returns the ids of the accepted texts."""
    return set(_numbers(distilled, "accepted", []))


def check_review(distilled: DistilledDataset) -> None:
    """Checks the review in the manifest against the texts.

    Raises:
        InputError: If an id is missing or repeated.
    """
    ids = text_ids(distilled)
    if len(set(ids)) != len(distilled) or not accepted_ids(distilled) <= set(ids):
        raise InputError(
            f"expected a manifest whose review has an id for each of the {len(distilled)} texts, found "
            f"{len(set(ids))} ids; take 'review' and 'history' out of manifest.json to review the set again"
        )


def _numbers(distilled: DistilledDataset, name: str, default: list[int]) -> list[int]:
    numbers: list[int] = (distilled.manifest.review or {}).get(name, default)
    return numbers


def parse(document: Any) -> list[Change]:
    """Parses changes: a list of objects with the fields of :class:`Change`.

    Raises:
        ChangeError: If the list is malformed, or two changes are for one text.
    """
    if not isinstance(document, list):
        raise ChangeError(f"expected a list of changes, found {type(document).__name__}")
    changes = [_parse_one(entry) for entry in document]
    for text, count in Counter(change.id for change in changes).items():
        if count > 1:
            raise ChangeError(
                f"expected one change per text, found {count} for text {text}; nothing was saved", text
            )
    return changes


def _parse_one(entry: Any) -> Change:
    kinds = {"id": int, "seen": str, "text": str, "label": int, "drop": bool, "accept": bool}
    if not isinstance(entry, dict) or not {"id", "seen"} <= set(entry) <= set(kinds):
        raise ChangeError(
            f"expected changes with id, seen and any of {', '.join(list(kinds)[2:])}, found another object"
        )
    for name, value in entry.items():
        if type(value) is not kinds[name]:  # bool is an int
            raise ChangeError(f"expected {name} as {kinds[name].__name__}, found {type(value).__name__}")
    return Change(**entry)


def apply(
    distilled: DistilledDataset, changes: Sequence[Change]
) -> tuple[DistilledDataset, list[dict[str, Any]]]:
    """Applies changes to a set; a change without effect is skipped.

    Args:
        distilled: The set; it is not modified.
        changes: At most one per text.

    Returns:
        The new set and the changes made: ``index`` of the text in `distilled`, its ``id``, ``action`` (one of
        :data:`ACTIONS`), ``before`` and ``after``. ``review`` in the manifest lists the remaining and the
        accepted texts. The comparison table is removed if texts or classes changed.

    Raises:
        ChangeError: If a text or class is unknown or unusable, nothing changes, or no text would be left.
    """
    ids, accepted = text_ids(distilled), accepted_ids(distilled)
    positions = {text: index for index, text in enumerate(ids)}
    texts, labels, lineage = list(distilled.texts), distilled.labels.copy(), list(distilled.lineage)
    dropped: set[int] = set()
    done: list[dict[str, Any]] = []
    for change in sorted(changes, key=lambda change: change.id):
        _check(change, positions, distilled.label_names)
        index = positions[change.id]
        steps = _steps(
            change, texts[index], int(labels[index]), distilled.label_names, accepted=change.id in accepted
        )
        done += [{"index": index, "id": change.id} | step for step in steps]
        actions = {step["action"] for step in steps}
        if "drop" in actions:
            dropped.add(index)
        if "edit" in actions:
            assert change.text is not None
            texts[index], lineage[index] = change.text, edited(lineage[index])
        if "relabel" in actions:
            labels[index], lineage[index] = change.label, replace(lineage[index], label_agrees=None)
        if actions - {"accept"}:
            accepted.discard(change.id)
        if change.accept and change.id not in accepted and "drop" not in actions:
            accepted.add(change.id)
    if not done:
        raise ChangeError("expected at least one change, found none; nothing was saved")
    actions_done, soft = {step["action"] for step in done}, distilled.label_probabilities
    remaining = [index for index in range(len(texts)) if index not in dropped]
    if not remaining:
        raise ChangeError("expected at least one text to stay, found all of them dropped; nothing was saved")
    remaining_ids = [ids[index] for index in remaining]
    changed: dict[str, Any] = {
        "review": {"ids": remaining_ids, "accepted": [text for text in remaining_ids if text in accepted]}
    }
    if actions_done & {"edit", "relabel", "drop"}:
        changed["comparison"] = None  # it was measured on other texts
    return (
        DistilledDataset(
            tuple(texts[index] for index in remaining),
            np.asarray(labels[remaining]),
            distilled.label_names,
            distilled.weights[remaining],
            tuple(lineage[index] for index in remaining),
            distilled.manifest | changed,
            distilled.own_ids,
            # Soft labels belong to a text and its label.
            None if "edit" in actions_done or "relabel" in actions_done or soft is None else soft[remaining],
        ),
        done,
    )


def edited(lineage: Lineage) -> Lineage:
    """Returns the lineage of an edited text, which keeps its rows, but neither sentences nor measurements."""
    return Lineage(EDITED, lineage.member_rows, lineage.nearest_rows)


def _check(change: Change, positions: Mapping[int, int], names: Mapping[int, str]) -> None:
    """Raises ChangeError if a change cannot be made."""
    if change.id not in positions:
        raise ChangeError(f"expected the id of a text of this version, found {change.id}; nothing was saved")
    if change.drop and (change.text is not None or change.label is not None or change.accept is not None):
        raise ChangeError(
            f"text {change.id}: expected nothing else of a text that is dropped, found more", change.id
        )
    if change.text is not None:
        problem = text_problem(change.text)
        if problem is None and len(change.text) > MAX_CHARACTERS:
            problem = f"has {len(change.text):,} characters, the limit is {MAX_CHARACTERS:,}"
        if problem:
            raise ChangeError(f"text {change.id} {problem}; nothing was saved", change.id)
    if change.label is not None and change.label not in names:
        known = ", ".join(f"{label} ({name})" for label, name in names.items())
        raise ChangeError(
            f"text {change.id}: unknown class {change.label}; known: {known}; nothing was saved", change.id
        )


def _steps(
    change: Change, text: str, label: int, names: Mapping[int, str], *, accepted: bool
) -> list[dict[str, Any]]:
    """Lists the actions that a change takes on a text."""
    if change.drop:
        return [{"action": "drop", "before": {"text": text, "label": names[label]}, "after": None}]
    steps: list[dict[str, Any]] = []
    if change.text is not None and change.text != text:
        steps.append({"action": "edit", "before": text, "after": change.text})
    if change.label is not None and change.label != label:
        steps.append({"action": "relabel", "before": names[label], "after": names[change.label]})
    if change.accept is not None and (change.accept != accepted or (change.accept and steps)):
        steps.append(
            {"action": "accept" if change.accept else "unaccept", "before": accepted, "after": change.accept}
        )
    return steps


def entry_of(
    number: int,
    before: DistilledDataset,
    after: DistilledDataset,
    done: Sequence[Mapping[str, Any]],
    *,
    parent: int,
    parent_sha256: str,
) -> dict[str, Any]:
    """Makes the entry of a new version in the history.

    Args:
        number: Number of the version.
        before: The set before the review.
        after: The set after it.
        done: The changes, as :func:`apply` returns them.
        parent: Number of the version that was reviewed.
        parent_sha256: Hash of its table.

    Returns:
        The entry, with the changed texts.
    """
    notes = []
    if "comparison" in before.manifest and "comparison" not in after.manifest:
        notes.append(
            "the table that compares the texts with other methods was left out: it was measured on version "
            f"{parent}; run dallme evaluate or compare for the new texts"
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
    """Reduces a change for the manifest, which must not hold texts that were dropped or replaced."""
    return {
        name: value
        for name, value in step.items()
        if step["action"] not in ("edit", "drop") or name in ("index", "id", "action")
    }


def count_actions(entry: Mapping[str, Any]) -> dict[str, int]:
    """Counts the changes of an entry by action; keys as in :data:`ACTIONS`."""
    return {action: sum(step["action"] == action for step in entry["changes"]) for action in ACTIONS}


def section(distilled: DistilledDataset) -> str:
    """Writes the card's section on the reviews."""
    accepted = len(accepted_ids(distilled))
    rows = [
        "| " + " | ".join(escape(cell) for cell in (entry["version"], entry["when"], *counts)) + " |"
        for entry in distilled.manifest.history or ()
        for counts in [count_actions(entry).values()]
    ]
    return (
        f"## Reviewed by hand\n\nA person accepted {accepted} of these {len(distilled)} texts. Changes by "
        "version:\n\n| version | when | edited | relabelled | dropped | accepted | no longer accepted |\n| "
        "--- | --- | --- | --- | --- | --- | --- |\n" + "\n".join(rows) + "\n"
    )
