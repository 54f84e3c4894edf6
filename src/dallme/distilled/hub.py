"""Sharing a distilled dataset on the Hugging Face Hub."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from dallme.errors import DallmeError

if TYPE_CHECKING:
    from dallme.distilled.dataset import DistilledDataset


def push(distilled: DistilledDataset, repo_id: str, *, private: bool, token: str | None) -> str:
    """Uploads the files of a distilled dataset as one commit.

    Returns:
        The address of the dataset.

    Raises:
        DallmeError: If the Hub refuses or cannot be reached.
    """
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    with tempfile.TemporaryDirectory() as place:
        folder = distilled.save(Path(place) / "dataset")
        try:
            created = api.create_repo(repo_id, repo_type="dataset", private=private, exist_ok=True)
            api.upload_folder(
                repo_id=created.repo_id, repo_type="dataset", folder_path=folder, commit_message="Add the distilled dataset"
            )
        except Exception as error:  # the Hub client raises many kinds: offline, no token, refused, timed out
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise DallmeError(
                f"expected to upload to {repo_id!r} on the Hub, could not: {reason}; "
                "check the name, the network and `hf auth login`"
            ) from error
    return str(created)
