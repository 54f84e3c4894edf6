"""What a reviewer decides on single texts, and the set that comes of it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np

from dallme.atomic import sha256_of
from dallme.dataset import DistilledDataset, Lineage
from dallme.errors import InputError
from dallme.validation import text_problem


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
        name: value
        for name, value in step.items()
        if step["action"] not in ("edit", "drop") or name in ("index", "id", "action")
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


#: Characters of an edited text at most.
MAX_CHARACTERS = 100_000

#: What the lineage calls the writer of a text that was edited by hand.
EDITED = "edited"

#: The kinds of a change, in the order of the columns of a history.
ACTIONS = ("edit", "relabel", "drop", "accept", "unaccept")


class ChangeError(InputError):
    """A change cannot be made.

    Attributes:
        text: Id of the text that it is for, or None if it is for none.
    """

    def __init__(self, message: str, text: int | None = None) -> None:
        """Keeps the id of the text beside the message."""
        super().__init__(message)
        self.text = text


@dataclass(frozen=True)
class Change:
    """What is decided on one text; None where nothing is.

    Attributes:
        id: Id of the text, as :func:`text_ids` gives it.
        seen: The :func:`state` of the text that the decision was made on.
        text: What it shall say.
        label: Id of the class that it shall have.
        drop: Whether it shall go.
        accept: Whether it counts as accepted.
    """

    id: int
    seen: str
    text: str | None = None
    label: int | None = None
    drop: bool = False
    accept: bool | None = None


def state(text: str, label: int) -> str:
    """A short hash of a text with its class, by which two tabs notice that they speak of the same."""
    return sha256_of([json.dumps([text, label])])[:16]


def text_ids(distilled: DistilledDataset) -> list[int]:
    """What the texts are called from version to version: their places in the set that the first review began with."""
    return _numbers(distilled, "ids", list(range(len(distilled))))


def accepted_ids(distilled: DistilledDataset) -> set[int]:
    """The ids of the texts that were accepted as they stand."""
    return set(_numbers(distilled, "accepted", []))


def check_review(distilled: DistilledDataset) -> None:
    """Checks what the manifest says of an earlier review.

    Raises:
        InputError: If it does not fit the texts.
    """
    ids = text_ids(distilled)
    if len(set(ids)) != len(distilled) or not accepted_ids(distilled) <= set(ids):
        raise InputError(
            f"expected a manifest whose review has an id for each of the {len(distilled)} texts, found {len(set(ids))} ids; "
            "take 'review' and 'history' out of manifest.json to review the set anew"
        )


def _numbers(distilled: DistilledDataset, name: str, default: list[int]) -> list[int]:
    review = distilled.manifest.get("review")
    found = review.get(name) if isinstance(review, dict) else None
    return [number for number in found if isinstance(number, int)] if isinstance(found, list) else default


def parse(document: Any) -> list[Change]:
    """Reads changes as the page sends them: a list of objects with the fields of :class:`Change`.

    Raises:
        ChangeError: If they are no such list, or two are for one text.
    """
    if not isinstance(document, list):
        raise ChangeError(f"expected a list of changes, found {type(document).__name__}")
    changes = [_parse_one(entry) for entry in document]
    for text, count in Counter(change.id for change in changes).items():
        if count > 1:
            raise ChangeError(
                f"expected one change a text, found {count} for text {text}; nothing was saved", text
            )
    return changes


def _parse_one(entry: Any) -> Change:
    kinds = {"id": int, "seen": str, "text": str, "label": int, "drop": bool, "accept": bool}
    if not isinstance(entry, dict) or not {"id", "seen"} <= set(entry) <= set(kinds):
        raise ChangeError(
            f"expected changes with id and seen, and of {', '.join(list(kinds)[2:])} what changes; found another"
        )
    for name, value in entry.items():
        if type(value) is not kinds[name]:  # True is no number here
            raise ChangeError(f"expected {name} as {kinds[name].__name__}, found {type(value).__name__}")
    return Change(**entry)


def apply(
    distilled: DistilledDataset, changes: Sequence[Change]
) -> tuple[DistilledDataset, list[dict[str, Any]]]:
    """Makes changes to a set; what is asked for and is so already is passed over.

    Args:
        distilled: The set; it stays as it is.
        changes: At most one a text.

    Returns:
        The set that comes of it, and what was done: ``index`` of the text in `distilled`, its ``id``, ``action`` (one of
        :data:`ACTIONS`), ``before`` and ``after``. The manifest says in ``review`` which texts are left and accepted; if texts
        or classes changed, the honest table is no longer in it, as it was measured on other texts.

    Raises:
        ChangeError: If a text or a class is not known or not usable, nothing changes, or no text would be left.
    """
    ids, accepted = text_ids(distilled), accepted_ids(distilled)
    places = {text: place for place, text in enumerate(ids)}
    texts, labels, lineage = list(distilled.texts), distilled.labels.copy(), list(distilled.lineage)
    dropped: set[int] = set()
    done: list[dict[str, Any]] = []
    for change in sorted(changes, key=lambda change: change.id):
        _check(change, places, distilled.label_names)
        place = places[change.id]
        steps = _steps(
            change, texts[place], int(labels[place]), distilled.label_names, accepted=change.id in accepted
        )
        done += [{"index": place, "id": change.id} | step for step in steps]
        actions = {step["action"] for step in steps}
        if "drop" in actions:
            dropped.add(place)
        if "edit" in actions:
            assert change.text is not None
            texts[place], lineage[place] = change.text, edited(lineage[place])
        if "relabel" in actions:
            labels[place], lineage[place] = change.label, replace(lineage[place], label_agrees=None)
        if actions - {"accept"}:
            accepted.discard(change.id)
        if change.accept and change.id not in accepted and "drop" not in actions:
            accepted.add(change.id)
    if not done:
        raise ChangeError("expected at least one change, found none; nothing was saved")
    kept = [place for place in range(len(texts)) if place not in dropped]
    if not kept:
        raise ChangeError("expected at least one text to stay, found all of them dropped; nothing was saved")
    manifest = _manifest(distilled.manifest, done, [ids[place] for place in kept], accepted)
    return (
        DistilledDataset(
            tuple(texts[place] for place in kept),
            np.asarray(labels[kept]),
            distilled.label_names,
            distilled.weights[kept],
            tuple(lineage[place] for place in kept),
            manifest,
        ),
        done,
    )


def edited(lineage: Lineage) -> Lineage:
    """The lineage of a text after it was edited by hand: of its rows, not of its sentences, and without what was measured."""
    return Lineage(EDITED, lineage.member_rows, lineage.nearest_rows)


def _check(change: Change, places: Mapping[int, int], names: Mapping[int, str]) -> None:
    """Finds what is wrong with a change, whatever it is made to."""
    if change.id not in places:
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
    """What a change does to a text that is as given."""
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


def _manifest(
    before: Mapping[str, Any], done: Sequence[Mapping[str, Any]], ids: Sequence[int], accepted: set[int]
) -> dict[str, Any]:
    manifest = dict(before) | {
        "review": {"ids": list(ids), "accepted": [text for text in ids if text in accepted]}
    }
    if changes_texts(done):
        manifest.pop("comparison", None)
    return manifest


def changes_texts(done: Sequence[Mapping[str, Any]]) -> bool:
    """Whether texts or classes are other than before, so that what was measured on them no longer holds."""
    return any(step["action"] in ("edit", "relabel", "drop") for step in done)
