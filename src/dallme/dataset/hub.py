"""Sharing a distilled dataset on the Hugging Face Hub."""

from __future__ import annotations

import contextlib
import os
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dallme.dataset import card
from dallme.dataset.card import TextSet, check_audit, make_terms, parse_audit
from dallme.errors import DallmeError, InputError
from dallme.personal import PersonalDataError, check_personal
from dallme.services.transport import AnswerError, call_within
from dallme.validation import check_hub_address

if TYPE_CHECKING:
    from huggingface_hub import HfApi

_AUDIT = "audit.json"
_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*", re.ASCII)

#: Most seconds of an upload; a set has a few megabytes.
UPLOAD_SECONDS = 600.0

#: Advice for each status of the Hub.
_ADVICE = {
    401: "the Hub does not know the token: log in with `hf auth login`, or set HF_TOKEN",
    403: "the token may not write there: take one with write permission for that user or organisation",
    404: "there is no such repository, user or branch, or the token may not see it: check the name",
    429: "too many requests: wait and try again",
}


#: Advice for texts with personal data that are to leave the machine.
SHARING = (
    "distil again with redact=True, edit the texts with dallme review, or allow_personal=True to share them "
    "as they are"
)


@dataclass(frozen=True)
class Upload:
    """Files of a dataset repository; an upload sends nothing else.

    Attributes:
        repo_id: ``user/name`` or ``organisation/name``.
        files: Name to content.
        notes: Notes for the user, such as a missing licence.
    """

    repo_id: str
    files: Mapping[str, bytes]
    notes: tuple[str, ...] = ()


def prepare(
    distilled: TextSet,
    repo_id: str,
    *,
    license: str | None = None,
    languages: Sequence[str] = (),
    audit: bytes | None = None,
    token: str | None = None,
    allow_personal: bool = False,
) -> Upload:
    """Makes the files of an upload and reads the card of the source if that is on the Hub; nothing is sent.

    Args:
        distilled: The set.
        repo_id: ``user/name`` or ``organisation/name``.
        license: Identifier of a licence; by default that of the source's card.
        languages: ISO 639 codes; by default those of the source's card.
        audit: Content of the set's audit.json.
        token: Access token; by default the Hub's own.
        allow_personal: Whether texts with personal data may be uploaded.

    Returns:
        The upload.

    Raises:
        InputError: If an argument is malformed, or the audit is of other texts.
        PersonalDataError: If the texts hold personal data, or the audit has found some.
    """
    _check_id(repo_id)
    if not allow_personal:
        check_personal(distilled.texts, 0, SHARING)
    terms, note = make_terms(distilled.manifest, _api(token), licence=license, languages=languages)
    document = None
    if audit is not None:
        document = parse_audit(audit)
        check_audit(document, distilled)
        found = sum(len(entry["personal"]) for entry in document["texts"])
        if found and not allow_personal:
            raise PersonalDataError(
                f"expected texts without personal data, found {found} places in the audit; {SHARING}"
            )
    files = distilled.files(card.render(distilled, audit=document, terms=terms, place=repo_id))
    return Upload(repo_id, files | ({} if audit is None else {_AUDIT: audit}), (note,) if note else ())


def send(
    upload: Upload,
    *,
    private: bool = True,
    token: str | None = None,
    message: str | None = None,
    revision: str | None = None,
) -> str:
    """Sends an upload as one commit, which the Hub applies whole or not at all.

    Args:
        upload: The files.
        private: Whether to create a private repository; an existing public one is refused.
        token: Access token; by default the Hub's own.
        message: Message of the commit.
        revision: Branch to write to, created if missing; by default the main one.

    Returns:
        The address of the dataset.

    Raises:
        InputError: If the repository is public and `private` is given.
        DallmeError: If the Hub refuses or cannot be reached.
    """
    api = _api(token)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # advice on the card
            text = message or "Add the distilled dataset"
            return call_within(
                UPLOAD_SECONDS,
                lambda: _commit(api, upload, private=private, message=text, revision=revision),
            )
    except DallmeError:
        raise
    except AnswerError:
        raise DallmeError(
            f"expected to upload to {upload.repo_id!r} on the Hub within {UPLOAD_SECONDS:g} seconds, found "
            "no end of its answers; check the network, and whether the commit was made after all"
        ) from None
    except Exception as error:  # the Hub client raises many kinds: offline, no token, refused, timed out
        raise DallmeError(_explain(error, upload.repo_id, token)) from None  # what it says may hold the token


def _commit(api: HfApi, upload: Upload, *, private: bool, message: str, revision: str | None) -> str:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    created = api.create_repo(upload.repo_id, repo_type="dataset", private=private, exist_ok=True)
    if private and not api.dataset_info(created.repo_id).private:
        raise InputError(
            f"expected a private repository, found that {upload.repo_id!r} is public already; "
            "say --public (private=False), or choose another name"
        )
    if revision is not None and not revision.startswith("refs/"):
        api.create_branch(created.repo_id, repo_type="dataset", branch=revision, exist_ok=True)
    present = {file.rfilename for file in api.dataset_info(created.repo_id, revision=revision).siblings or ()}
    operations: list[Any] = [CommitOperationAdd(name, content) for name, content in upload.files.items()]
    # An audit of an earlier set is one of other texts.
    operations += [CommitOperationDelete(_AUDIT)] if _AUDIT in present - set(upload.files) else []
    api.create_commit(
        created.repo_id, operations, commit_message=message, repo_type="dataset", revision=revision
    )
    return str(created)


def _api(token: str | None) -> HfApi:
    """Returns a client for the address in ``HF_ENDPOINT``, which the Hub's library reads only at import.

    Raises:
        InputError: If that address is not encrypted.
    """
    from huggingface_hub import HfApi

    check_hub_address()
    return HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None, token=token)


def _check_id(repo_id: str) -> None:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    if not _ID.fullmatch(repo_id):
        raise InputError(
            "expected the id of a dataset as user/name or organisation/name, of letters, digits, '-', '_' "
            f"and '.', found {repo_id!r}"
        )
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise InputError(f"expected an id that the Hub accepts, found {repo_id!r}: {reason}") from None


def _explain(error: BaseException, repo_id: str, token: str | None) -> str:
    """Explains a failed upload in one line without the token."""
    from huggingface_hub import get_token
    from huggingface_hub.errors import HfHubHTTPError

    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, HfHubHTTPError):
        cause = cause.__cause__
    if cause is None:
        status, reason = None, str(error).strip()
    else:
        status = cause.response.status_code
        reason = f"{status} {cause.server_message or cause.response.reason_phrase}"
    reason = next(iter(reason.splitlines()), type(error).__name__)
    with contextlib.suppress(Exception):  # looking for a token may take the network
        token = token or get_token()
    reason = reason.replace(token, "***") if token else reason
    advice = _ADVICE.get(status or 0, "check the name, the network and `hf auth login`")
    return (
        f"expected to upload to {repo_id!r} on the Hub, could not: {reason}; {advice}; "
        "a commit is made whole or not at all"
    )
