"""The distilled dataset: texts with labels, weights, lineage and the manifest of their run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dallme.data import LabelledTexts, check_soft_labels
from dallme.dataset import card
from dallme.dataset.lineage import Lineage as Lineage
from dallme.dataset.lineage import RowId as RowId
from dallme.dataset.lineage import trace as trace
from dallme.dataset.manifest import Manifest
from dallme.dataset.schema import ROW_ID, check_shape, parse_json
from dallme.errors import InputError
from dallme.files import folders
from dallme.readers.formats import Allowance, DataFile, default_limit
from dallme.readers.parquet import read_table
from dallme.validation import check_positive

if TYPE_CHECKING:
    import datasets
    import pandas

TABLE, MANIFEST, CARD = "train.parquet", "manifest.json", "README.md"

#: Optional files in the folder: the document of the audit, and the report.
AUDIT, REPORT = "audit.json", "report.html"


@dataclass(frozen=True)
class DistilledText:
    """One text of a set.

    Attributes:
        text: The text.
        label: Class id.
        label_text: Class name.
        weight: Source rows behind it.
        lineage: Its origin.
    """

    text: str
    label: int
    label_text: str
    weight: float
    lineage: Lineage


@dataclass(frozen=True, eq=False, repr=False)
class DistilledDataset:
    """A few labelled texts that represent a large dataset.

    It has a length, an index and an iterator over its :class:`DistilledText`.

    Attributes:
        texts: m texts.
        labels: Class ids, int64 of shape (m,).
        label_names: Class id to name.
        weights: Source rows behind each text, float64 of shape (m,).
        lineage: Origin of each text.
        manifest: Record of the run; a dict is checked and converted.
        own_ids: Whether the class ids come from the source; else dallme numbered its sorted class names. It
            is stored beside the class names in ``train.parquet``. Older sets do not say it and count as true.
        label_probabilities: Soft labels, float64 of shape (m, c) with the classes of `label_names` in
            ascending order of their ids; None without.
    """

    texts: tuple[str, ...]
    labels: np.ndarray
    label_names: dict[int, str]
    weights: np.ndarray
    lineage: tuple[Lineage, ...]
    manifest: Manifest = field(default_factory=Manifest)
    own_ids: bool = True
    label_probabilities: np.ndarray | None = None

    def __post_init__(self) -> None:
        """Checks that all columns have the same length, and the manifest."""
        document: Any = self.manifest
        if not isinstance(document, Manifest):
            object.__setattr__(self, "manifest", Manifest.from_dict(document))
        sizes = {len(self.texts), len(self.labels), len(self.weights), len(self.lineage)}
        if len(sizes) != 1:
            raise InputError(f"expected columns of one length, found lengths {sorted(sizes)}")
        if self.label_probabilities is not None:
            check_probabilities(self.label_probabilities, (len(self.texts), len(self.label_names)))

    def __len__(self) -> int:
        """Number of texts."""
        return len(self.texts)

    def __getitem__(self, index: int) -> DistilledText:
        """Returns one text; a negative index counts from the end."""
        label, weight = int(self.labels[index]), float(self.weights[index])
        name = self.label_names[label]
        return DistilledText(self.texts[index], label, name, weight, self.lineage[index])

    def __iter__(self) -> Iterator[DistilledText]:
        """Yields the texts."""
        return (self[index] for index in range(len(self)))

    def __repr__(self) -> str:
        """One line: number of texts, classes and source."""
        classes = ", ".join(list(self.label_names.values())[:5]) + (
            ", …" if len(self.label_names) > 5 else ""
        )
        rows = "" if self.manifest.rows is None else f" of {self.manifest.rows:,} rows"
        return f"<DistilledDataset: {len(self):,} texts{rows}, classes {classes}>"

    def _repr_html_(self) -> str:
        """Table for notebooks."""
        from dallme.dataset.display import to_html

        names = [self.label_names[label] for label in self.labels.tolist()]
        return to_html(self.texts, names, self.manifest.source)

    def with_comparison(self, comparison: dict[str, Any]) -> DistilledDataset:
        """Returns the set with a comparison table in its manifest, and so on its card."""
        return replace(self, manifest=self.manifest | {"comparison": comparison})

    def to_labelled_texts(self, *, soft_labels: bool = False) -> LabelledTexts:
        """Returns the texts and labels as classifiers take them.

        Args:
            soft_labels: Whether classifiers that can use soft labels learn from them.

        Raises:
            InputError: If `soft_labels` is true and the set has none.
        """
        texts = LabelledTexts(
            list(self.texts),
            self.labels,
            self.label_names,
            np.arange(len(self)),
            "distilled texts",
            own_ids=self.own_ids,
            probabilities=self.label_probabilities if soft_labels else None,
        )
        return check_soft_labels(texts) if soft_labels else texts

    def to_arrow(self) -> pa.Table:
        """Returns an Arrow table of texts, labels, weights and lineage; `datasets` reads its class names."""
        columns: dict[str, Any] = {
            "text": list(self.texts),
            "label": pa.array(self.labels, pa.int64()),
            "label_text": [self.label_names[label] for label in self.labels.tolist()],
            "weight": pa.array(self.weights, pa.float64()),
            "cosine": pa.array([row.cosine for row in self.lineage], pa.float32()),
            "label_agrees": pa.array([row.label_agrees for row in self.lineage], pa.bool_()),
            "copied_span": pa.array([row.copied_span for row in self.lineage], pa.int64()),
            "copied_rows": _id_lists([row.copied_rows for row in self.lineage]),
            "decoder": [row.decoder for row in self.lineage],
            "sentences": pa.array([row.sentences for row in self.lineage], pa.list_(pa.string())),
            "sentence_rows": _id_lists([row.sentence_rows for row in self.lineage]),
            "nearest_rows": _id_lists([row.nearest_rows for row in self.lineage]),
            "member_rows": _id_lists([row.member_rows for row in self.lineage]),
        }
        if self.label_probabilities is not None:
            columns["label_probabilities"] = pa.array(
                self.label_probabilities.tolist(), pa.list_(pa.float64())
            )
        table = pa.table(columns)
        notes = {
            "huggingface": {"info": {"features": self._features(table.schema)}},
            "label_names": self.label_names,
        } | ({} if self.own_ids else {_OWN_IDS: False})
        return table.replace_schema_metadata({name: json.dumps(note) for name, note in notes.items()})

    def to_dataset(self) -> datasets.Dataset:
        """Returns the texts as a `datasets.Dataset`."""
        import datasets

        return datasets.Dataset(self.to_arrow())

    def to_pandas(self) -> pandas.DataFrame:
        """Returns the texts as a pandas frame, one row a text."""
        frame: pandas.DataFrame = self.to_arrow().to_pandas()
        return frame

    def save(
        self,
        path: str | Path,
        *,
        overwrite: bool = False,
        beside: Mapping[str, bytes] | None = None,
        audit: Mapping[str, Any] | None = None,
    ) -> Path:
        """Writes ``train.parquet``, ``README.md`` and ``manifest.json`` into a folder, all or nothing.

        Args:
            path: The folder; it may be missing or empty.
            overwrite: Whether to replace an earlier set there and to remove its report and audit. A file that
                dallme did not write, or that was changed since, is an error.
            beside: Name to content of files to write with them, such as the report.
            audit: The document of an audit of these texts, shown on the card and written as ``audit.json``.

        Returns:
            The folder.

        Raises:
            OutputError: If the folder is not empty and `overwrite` is False, or it cannot be written.
        """
        files = self.files(card.render(self, audit=audit)) | dict(beside or {})
        if audit is not None:
            files[AUDIT] = _json(audit)
        return folders.write(Path(path), files, overwrite=overwrite, outdated=(AUDIT, REPORT))

    def files(self, readme: str) -> dict[str, bytes]:
        """The three files of a folder, by name; the same set gives the same bytes.

        Args:
            readme: The dataset card.
        """
        table = pa.BufferOutputStream()
        pq.write_table(self.to_arrow(), table, compression="zstd", write_page_checksum=True)
        return {
            TABLE: table.getvalue().to_pybytes(),
            # The name of the source may be no valid Unicode.
            CARD: readme.encode(errors="backslashreplace"),
            MANIFEST: _json(self.manifest.as_dict()),
        }

    @classmethod
    def load(cls, path: str | Path, *, max_bytes: int | None = None) -> DistilledDataset:
        """Reads a folder that :meth:`save` wrote.

        Args:
            path: The folder.
            max_bytes: Bytes that the texts and their lineage may take in memory; by default 1 GiB, or 100
                times the size of ``train.parquet`` if that is more.

        Raises:
            InputError: If it is no such folder.
        """
        return cls.read(path, max_bytes=max_bytes)[0]

    @classmethod
    def read(
        cls, path: str | Path, *, max_bytes: int | None = None
    ) -> tuple[DistilledDataset, dict[str, bytes]]:
        """Reads a folder that :meth:`save` wrote, and the bytes of its files in one consistent state.

        Nothing in the folder is changed, and nothing in it is executed.

        Args:
            path: The folder.
            max_bytes: As for :meth:`load`.

        Returns:
            The set, and the content of ``train.parquet``, ``manifest.json`` and ``audit.json`` by name, if
            present.

        Raises:
            InputError: If it is no such folder, or a file in it does not have the format of dallme.
        """
        try:
            files = folders.read_files(Path(path), (TABLE, MANIFEST, AUDIT))
        except (OSError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise _unreadable(path, error) from None
        if TABLE not in files or MANIFEST not in files:
            raise InputError(
                f"expected a folder with {TABLE} and {MANIFEST}, as dallme writes them, found none at "
                f"{str(path)!r}"
            )
        try:
            manifest = Manifest.from_dict(parse_json(files[MANIFEST], MANIFEST, {}))
            return _parse_table(files[TABLE], manifest, max_bytes), files
        except (
            ValueError,
            OSError,
            KeyError,
            TypeError,
            OverflowError,
            MemoryError,
            pa.ArrowException,
        ) as error:
            raise _unreadable(path, error) from None

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool = True,
        token: str | None = None,
        license: str | None = None,
        language: Sequence[str] = (),
        audit: Mapping[str, Any] | None = None,
        commit_message: str | None = None,
        revision: str | None = None,
        allow_personal: bool = False,
    ) -> str:
        """Uploads the files of :meth:`save`, and nothing else, as one commit to a dataset repository.

        Args:
            repo_id: ``user/name`` or ``organisation/name``.
            private: Whether a new repository is private; an existing public one is then refused.
            token: Access token; by default the one that `hf auth login` or the environment gives.
            license: Identifier of a licence, such as ``cc-by-4.0``; by default that of the source's card on
                the Hub.
            language: ISO 639 codes; by default those of the source's card on the Hub.
            audit: The document of an audit of these texts, uploaded as ``audit.json``.
            commit_message: Message of the commit.
            revision: Branch to write to, created if missing; by default the main one.
            allow_personal: Whether texts with personal data may be uploaded.

        Returns:
            The address of the dataset.

        Raises:
            InputError: If an argument is invalid.
            PersonalDataError: If the texts hold personal data.
            DallmeError: If the Hub refuses or cannot be reached; then nothing is changed.
        """
        from dallme.dataset.hub import prepare, send

        content = None if audit is None else _json(audit)
        upload = prepare(
            self,
            repo_id,
            license=license,
            languages=language,
            audit=content,
            token=token,
            allow_personal=allow_personal,
        )
        return send(upload, private=private, token=token, message=commit_message, revision=revision)

    def _features(self, schema: pa.Schema) -> dict[str, Any]:
        """Describes the columns as `datasets` does, with class names where the ids count from 0."""

        def feature(kind: pa.DataType) -> dict[str, Any]:
            if pa.types.is_list(kind):
                return {"feature": feature(kind.value_type), "_type": "List"}
            names = {pa.float64(): "float64", pa.float32(): "float32"}
            return {"dtype": names.get(kind, str(kind)), "_type": "Value"}

        features = {column.name: feature(column.type) for column in schema}
        if list(self.label_names) == list(range(len(self.label_names))):
            features["label"] = {"names": list(self.label_names.values()), "_type": "ClassLabel"}
        return features


def _json(document: Mapping[str, Any]) -> bytes:
    """Encodes a JSON document, indented; a lone surrogate, as in a file name, becomes an escape."""
    text = json.dumps(document, indent=2, ensure_ascii=False, default=str)
    return f"{text}\n".encode(errors="backslashreplace")


def _id_lists(rows: Sequence[Sequence[RowId]]) -> pa.Array:
    """Row ids as lists of int64, or of strings where the source has an id column."""
    strings = any(isinstance(entry, str) for row in rows for entry in row[:1])
    return pa.array(rows, pa.list_(pa.string() if strings else pa.int64()))


def _unreadable(path: str | Path, error: Exception) -> InputError:
    reason = " ".join(str(error).split())
    return InputError(
        f"expected a distilled dataset in {str(path)!r}, found files that cannot be read: "
        f"{reason or type(error).__name__}"
    )


def check_probabilities(probabilities: np.ndarray, shape: tuple[int, int]) -> None:
    """Checks soft labels.

    Raises:
        InputError: If they have another shape, or a row is no distribution.
    """
    if probabilities.shape != shape:
        raise InputError(f"expected soft labels of shape {shape}, found {probabilities.shape}")
    wrong = (probabilities < 0).any(axis=1) | (np.abs(probabilities.sum(axis=1) - 1) > _ROUNDING)
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise InputError(
            f"expected soft labels that add up to 1 in each row, found {probabilities[row].tolist()} "
            f"in row {row}"
        )


#: Largest deviation of a sum of probabilities from 1.
_ROUNDING = 1e-6

#: Key in the metadata of the table: whether the class ids are those of the source.
_OWN_IDS = "own_ids"

#: Columns of the table: name to whether an old set may lack it, and to the check of its values.
_COLUMNS: dict[str, tuple[bool, Any]] = {
    "text": (False, str),
    "label": (False, int),
    "label_text": (False, str),
    "weight": (False, float),
    "cosine": (False, (None, float)),
    "label_agrees": (True, (None, bool)),
    "copied_span": (True, (None, int)),
    "copied_rows": (True, [ROW_ID]),
    "decoder": (False, str),
    "sentences": (False, [str]),
    "sentence_rows": (False, [ROW_ID]),
    "nearest_rows": (False, [ROW_ID]),
    "member_rows": (False, [ROW_ID]),
    "label_probabilities": (True, (None, [float])),
}


def _parse_table(content: bytes, manifest: Manifest, max_bytes: int | None) -> DistilledDataset:
    """Parses ``train.parquet``.

    Raises:
        ValueError: If it takes too much memory, or a column or value is not what
            :meth:`DistilledDataset.save` writes.
    """
    limit = default_limit(len(content)) if max_bytes is None else check_positive(max_bytes, "max_bytes")
    allowance = Allowance(limit, "if you trust the set, give DistilledDataset.load a larger max_bytes")
    table = read_table(content, DataFile(Path(TABLE), TABLE, None, allowance), _COLUMNS)
    if not table.num_rows:
        raise ValueError(f"{TABLE} has no texts")
    columns: dict[str, list[Any]] = {}
    for name, (optional, shape) in _COLUMNS.items():
        if name in table.column_names:
            columns[name] = table.column(name).to_pylist()
            check_shape(columns[name], [shape], f"{TABLE}: {name}")
        elif optional:
            columns[name] = [() if isinstance(shape, list) else None] * table.num_rows
        else:
            raise ValueError(f"{TABLE} has no column {name!r}")
    # Classes without a text are known from the schema alone.
    notes = (table.schema.metadata or {}).get(b"label_names")
    known = parse_json(notes, f"label_names of {TABLE}", {}) if notes else {}
    check_shape(list(known.values()), [str], f"label_names of {TABLE}")
    names = {int(label): name for label, name in known.items()} or dict(
        sorted(zip(columns["label"], columns["label_text"], strict=True))
    )
    if unknown := set(columns["label"]) - set(names):
        raise ValueError(f"{TABLE} has the label {min(unknown)}, which is no class of it")
    if min(columns["weight"]) < 0:
        raise ValueError(f"{TABLE} has the weight {min(columns['weight'])}, which is below 0")
    lineage = zip(
        columns["decoder"],
        *(
            map(tuple, columns[name])
            for name in ("member_rows", "nearest_rows", "sentences", "sentence_rows")
        ),
        *(columns[name] for name in ("cosine", "label_agrees", "copied_span")),
        map(tuple, columns["copied_rows"]),
        strict=True,
    )
    soft = columns["label_probabilities"]
    if (
        any(row is not None and len(row) != len(names) for row in soft)
        or len({row is None for row in soft}) > 1
    ):
        raise ValueError(
            f"{TABLE} has label_probabilities without one number for each of {len(names)} classes"
        )
    return DistilledDataset(
        tuple(columns["text"]),
        np.array(columns["label"], dtype=np.int64),
        names,
        np.array(columns["weight"], dtype=np.float64),
        tuple(Lineage(*row) for row in lineage),
        manifest,
        own_ids=(table.schema.metadata or {}).get(_OWN_IDS.encode()) != b"false",
        label_probabilities=None if soft[0] is None else np.array(soft, dtype=np.float64),
    )
