"""Datasets of the Hugging Face Hub, loaded with the library `datasets`."""

from __future__ import annotations

import re

from dallme.errors import InputError, redact
from dallme.readers.memory import from_dataset
from dallme.readers.rows import Rows
from dallme.validation import check_hub_address

#: Names that `load_dataset` takes for file formats: it would read files of the working directory.
_FORMATS = (
    "arrow", "audiofolder", "csv", "generator", "hdf5", "imagefolder", "json", "pandas", "parquet", "text",
    "webdataset", "xml",
)  # fmt: skip

_NAME = re.compile(r"(?P<id>\w[\w.-]*(/[\w.-]+)?)(:(?P<config>[^@]+))?(@(?P<split>.+))?", re.ASCII)


def read_hub(name: str) -> Rows:
    """Loads a dataset by its id, with an optional configuration and split: ``id:config@split``.

    Args:
        name: Such as ``fancyzhx/ag_news`` or ``glue:sst2@validation``; the default split is ``train``.

    Raises:
        InputError: If the name is malformed, or the dataset cannot be loaded over an encrypted connection.
    """
    parts = _NAME.fullmatch(name)
    if parts is None or parts["id"] in _FORMATS:
        raise InputError(
            f"{name!r}: expected a file, a folder or the id of a Hugging Face dataset (owner/name), "
            "found none of them"
        )
    dataset, config, split = parts["id"], parts["config"], parts["split"] or "train"
    check_hub_address()
    from datasets import load_dataset  # slow to import

    try:
        loaded = load_dataset(dataset, config, split=split)
    except Exception as error:  # dozens of kinds: of the network, the Hub, the files, the builder
        request = f"dataset {dataset!r}, {f'configuration {config!r}, ' if config else ''}split {split!r}"
        reason = redact(" ".join(str(error).split()))
        raise InputError(
            f"{name}: no file or folder of that name, and the Hugging Face Hub did not give {request}: "
            f"{type(error).__name__}: {reason[:300]}; check the name and the network, or hand over a file"
        ) from None  # the cause could hold a secret
    return from_dataset(loaded, f"{dataset}{f':{config}' if config else ''}@{split}")
