"""The distilled dataset and what it can be turned into."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dallme.data import DecodedText, LabelledTexts, Prototypes
from dallme.dataset import card, folder
from dallme.errors import InputError

if TYPE_CHECKING:
    import datasets
    import pandas

RowId = int | str


@dataclass(frozen=True)
class Lineage:
    """Where one distilled text is from.

    Attributes:
        decoder: Name of the decoder that wrote it.
        member_rows: Ids of the source rows of its cluster, nearest to the prototype first.
        nearest_rows: Ids of the source rows of its class nearest to the prototype.
        sentences: The sentences of the text.
        sentence_rows: For each sentence the id of the source row it was taken from; empty if none was copied.
        cosine: Cosine of the text's own vector to the prototype, or None if there was no embedder to ask.
        label_agrees: Whether a linear probe of the full data gives the text its label, or None if the decoder asked none.
        copied_span: Words of the longest run that the text shares with any one source row, or None if the decoder did not look.
        copied_rows: Id of a row that holds that run; empty if the decoder did not look, or no word is shared.
    """

    decoder: str
    member_rows: tuple[RowId, ...] = ()
    nearest_rows: tuple[RowId, ...] = ()
    sentences: tuple[str, ...] = ()
    sentence_rows: tuple[RowId, ...] = ()
    cosine: float | None = None
    label_agrees: bool | None = None
    copied_span: int | None = None
    copied_rows: tuple[RowId, ...] = ()


def trace(
    prototypes: Prototypes,
    decoded: Sequence[DecodedText],
    row_ids: np.ndarray,
    vectors: np.ndarray | None,
    decoder: str,
) -> tuple[Lineage, ...]:
    """Traces decoded texts back to their source.

    Args:
        prototypes: m prototypes.
        decoded: The text of each.
        row_ids: Ids of the source rows, by position.
        vectors: The texts' own vectors, of length 1, of shape (m, d); None if they are not known.
        decoder: Name of the decoder.

    Returns:
        The lineage of each text.
    """
    ids = row_ids.tolist()
    cosines: list[float | None] = [None] * len(decoded)
    if vectors is not None:
        lengths = np.linalg.norm(prototypes.vectors, axis=1)
        cosines = ((vectors * prototypes.vectors).sum(axis=1) / np.where(lengths == 0, 1, lengths)).tolist()
    return tuple(
        Lineage(
            decoder=decoder,
            member_rows=tuple(ids[row] for row in members.tolist()),
            nearest_rows=tuple(ids[row] for row in members[:3].tolist()),
            sentences=text.sentences,
            sentence_rows=tuple(ids[row] for row in text.rows),
            cosine=cosine,
            label_agrees=text.label_agrees,
            copied_span=text.copied_span,
            copied_rows=() if text.copied_row is None else (ids[text.copied_row],),
        )
        for members, text, cosine in zip(prototypes.members, decoded, cosines, strict=True)
    )


TABLE, MANIFEST, CARD = "train.parquet", "manifest.json", "README.md"

#: What may stand beside them: the audit's document and the page.
AUDIT, REPORT = "audit.json", "report.html"


@dataclass(frozen=True, eq=False)
class DistilledDataset:
    """A few texts that stand for many.

    Attributes:
        texts: m texts.
        labels: Class ids, int64 of shape (m,).
        label_names: Class id to name.
        weights: Source rows behind each text, float64 of shape (m,).
        lineage: Where each text is from.
        manifest: How the set was made: configuration, versions, seed, data, embedder, timings, cost.
    """

    texts: tuple[str, ...]
    labels: np.ndarray
    label_names: dict[int, str]
    weights: np.ndarray
    lineage: tuple[Lineage, ...]
    manifest: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Checks that all columns have the same length."""
        sizes = {len(self.texts), len(self.labels), len(self.weights), len(self.lineage)}
        if len(sizes) != 1:
            raise InputError(f"expected columns of one length, found lengths {sorted(sizes)}")

    def __len__(self) -> int:
        """Number of texts."""
        return len(self.texts)

    def with_comparison(self, comparison: dict[str, Any]) -> DistilledDataset:
        """The same texts, with an honest table in the manifest and so on the card."""
        return replace(self, manifest=self.manifest | {"comparison": comparison})

    def to_labelled_texts(self) -> LabelledTexts:
        """The texts and labels alone, as classifiers take them."""
        return LabelledTexts(
            list(self.texts), self.labels, self.label_names, np.arange(len(self)), "distilled texts"
        )

    def to_arrow(self) -> pa.Table:
        """The texts with labels, weights and lineage as an Arrow table that `datasets` reads with its class names."""
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
        table = pa.table(columns)
        notes = {
            "huggingface": {"info": {"features": self._features(table.schema)}},
            "label_names": self.label_names,
        }
        return table.replace_schema_metadata({name: json.dumps(note) for name, note in notes.items()})

    def to_dataset(self) -> datasets.Dataset:
        """The texts as a `datasets.Dataset`."""
        import datasets

        return datasets.Dataset(self.to_arrow())

    def to_pandas(self) -> pandas.DataFrame:
        """The texts as a pandas frame, one row a text."""
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
        """Writes ``train.parquet``, ``README.md`` (the dataset card) and ``manifest.json`` into a folder, all or nothing.

        Args:
            path: The folder; it may be missing or empty.
            overwrite: Whether files of these names that stand there are replaced, and a report and an audit of what stood
                there removed; other files are left alone.
            beside: Name to content of files to write with them, such as the report.
            audit: The document of an audit of these texts, shown on the card and written as ``audit.json``.

        Returns:
            The folder.

        Raises:
            OutputError: If the folder holds something and `overwrite` is not given, or cannot be written.
        """
        files = self.files(card.render(self, audit=audit)) | dict(beside or {})
        if audit is not None:
            files[AUDIT] = _json(audit)
        return folder.write(Path(path), files, overwrite=overwrite, outdated=(AUDIT, REPORT))

    def files(self, readme: str) -> dict[str, bytes]:
        """The three files of a folder, by name; the same set gives the same bytes.

        Args:
            readme: The dataset card.
        """
        table = pa.BufferOutputStream()
        pq.write_table(self.to_arrow(), table, compression="zstd", write_page_checksum=True)
        return {
            TABLE: table.getvalue().to_pybytes(),
            # A file name that is no valid Unicode may stand in it.
            CARD: readme.encode(errors="backslashreplace"),
            MANIFEST: _json(self.manifest),
        }

    @classmethod
    def load(cls, path: str | Path) -> DistilledDataset:
        """Reads a folder that :meth:`save` wrote.

        Raises:
            InputError: If it is no such folder.
        """
        return cls.read(path)[0]

    @classmethod
    def read(cls, path: str | Path) -> tuple[DistilledDataset, dict[str, bytes]]:
        """Reads a folder that :meth:`save` wrote, and the bytes of its files as they stood together.

        Nothing in the folder is changed, and nothing in it is executed.

        Returns:
            The set, and the content of ``train.parquet``, ``manifest.json`` and ``audit.json`` by name, as far as present.

        Raises:
            InputError: If it is no such folder.
        """
        try:
            files = folder.read_files(Path(path), (TABLE, MANIFEST, AUDIT))
        except OSError as error:
            raise InputError(
                f"expected a distilled dataset in {str(path)!r}, found files that cannot be read: {error}"
            ) from error
        if TABLE not in files or MANIFEST not in files:
            raise InputError(
                f"expected a folder with {TABLE} and {MANIFEST}, as dallme writes them, found none at {str(path)!r}"
            )
        try:
            table = pq.read_table(pa.BufferReader(files[TABLE]), page_checksum_verification=True)
            manifest = json.loads(files[MANIFEST].decode("utf-8"))
            columns = table.to_pydict()
            texts, labels = tuple(columns["text"]), np.array(columns["label"], dtype=np.int64)
            weights = np.array(columns["weight"], dtype=np.float64)
            lineage = tuple(
                Lineage(
                    decoder=columns["decoder"][row],
                    member_rows=tuple(columns["member_rows"][row]),
                    nearest_rows=tuple(columns["nearest_rows"][row]),
                    sentences=tuple(columns["sentences"][row]),
                    sentence_rows=tuple(columns["sentence_rows"][row]),
                    cosine=columns["cosine"][row],
                    label_agrees=columns["label_agrees"][row] if "label_agrees" in columns else None,
                    copied_span=columns["copied_span"][row] if "copied_span" in columns else None,
                    copied_rows=tuple(columns["copied_rows"][row]) if "copied_rows" in columns else (),
                )
                for row in range(table.num_rows)
            )
            # Classes without a text are known from the schema alone.
            known = json.loads((table.schema.metadata or {}).get(b"label_names", b"{}"))
            names = {int(label): name for label, name in known.items()} or dict(
                sorted(zip(columns["label"], columns["label_text"], strict=True))
            )
        except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
            raise InputError(
                f"expected a distilled dataset in {str(path)!r}, found files that cannot be read: {error}"
            ) from error
        return cls(texts, labels, names, weights, lineage, manifest), files

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
    ) -> str:
        """Uploads the files of :meth:`save`, in one commit, as a dataset repository; nothing else leaves this machine.

        Args:
            repo_id: ``user/name`` or ``organisation/name``.
            private: Whether the repository is private, if it is made now; a public one is refused then.
            token: Access token; by default the one that `hf auth login` or the environment gives.
            license: Identifier of a licence, such as ``cc-by-4.0``; by default that of the source's card on the Hub.
            language: ISO 639 codes; by default those of the source's card on the Hub.
            audit: The document of an audit of these texts, uploaded as ``audit.json``.
            commit_message: What the commit says.
            revision: Branch to write to, made if need be; by default the main one.

        Returns:
            The address of the dataset.

        Raises:
            InputError: If an argument makes no sense.
            DallmeError: If the Hub refuses or cannot be reached; nothing was changed then.
        """
        from dallme.dataset.hub import prepare, send

        content = None if audit is None else _json(audit)
        upload = prepare(self, repo_id, license=license, languages=language, audit=content, token=token)
        return send(upload, private=private, token=token, message=commit_message, revision=revision)

    def _features(self, schema: pa.Schema) -> dict[str, Any]:
        """The columns as `datasets` describes them, with class names where the ids count from 0."""

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
    """A JSON document for people; what is no valid Unicode, as a file name may be, is written as an escape."""
    return (json.dumps(document, indent=2, ensure_ascii=False, default=str) + "\n").encode(
        errors="backslashreplace"
    )


def _id_lists(rows: Sequence[Sequence[RowId]]) -> pa.Array:
    """Row ids as lists of int64, or of strings where the source has an id column."""
    strings = any(isinstance(entry, str) for row in rows for entry in row[:1])
    return pa.array(rows, pa.list_(pa.string() if strings else pa.int64()))
