"""The dataset card: a summary of a set in Markdown, with metadata for the Hub."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import yaml

from dallme.dataset.comparison import comparison_cells as comparison_cells
from dallme.dataset.comparison import comparison_table
from dallme.dataset.comparison import star_note as star_note
from dallme.dataset.schema import ROW_ID, parse_json
from dallme.errors import InputError
from dallme.personal import mask
from dallme.services.transport import AnswerError, call_within

if TYPE_CHECKING:
    from huggingface_hub import HfApi

    from dallme.dataset.manifest import Manifest


class TextSet(Protocol):
    """The part of :class:`~dallme.dataset.DistilledDataset` that its card shows."""

    @property
    def texts(self) -> tuple[str, ...]:
        """Texts."""

    @property
    def labels(self) -> np.ndarray:
        """Class ids."""

    @property
    def label_names(self) -> dict[int, str]:
        """Class id to name."""

    @property
    def manifest(self) -> Manifest:
        """Record of the run."""

    def __len__(self) -> int:
        """Number of texts."""

    def files(self, readme: str) -> dict[str, bytes]:
        """Files of the folder by name, with the card `readme`."""


#: Most seconds that the card of a source may take.
CARD_SECONDS = 60.0

_MARKUP = str.maketrans({sign: f"\\{sign}" for sign in "\\`*_[]<>|#&~$"})


def escape(value: object) -> str:
    """Escapes Markdown and HTML in a text of a set, its manifest or its audit."""
    return " ".join(str(value).translate(_MARKUP).split())


#: Name of a source from the Hub: ``id[:configuration]@split``.
_HUB_SOURCE = re.compile(r"(?P<id>\w[\w.-]*(/[\w.-]+)?)(:[^@]+)?@[\w%:+\[\]-]+", re.ASCII)
_MASKED = re.compile(r"\w?\*{3}")
_LICENCE = re.compile(r"[a-z0-9][a-z0-9.+-]*")
_LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{1,8})*|code|multilingual")


@dataclass(frozen=True)
class Terms:
    """Licence and languages, as the Hub names them.

    Attributes:
        licences: Identifiers of licences, such as ``cc-by-4.0``; empty if none is known.
        licence_name: Name of a licence of the identifier ``other``.
        licence_link: Address of its text.
        languages: ISO 639 codes; empty if none is known.
        from_source: Whether the licence is that of the source's own card.
    """

    licences: tuple[str, ...] = ()
    licence_name: str | None = None
    licence_link: str | None = None
    languages: tuple[str, ...] = ()
    from_source: bool = False

    def __post_init__(self) -> None:
        """Checks the form of licences and languages."""
        for licence in self.licences:
            if not _LICENCE.fullmatch(licence):
                raise InputError(
                    "expected a licence as the Hub names it, such as cc-by-4.0, apache-2.0 or other, "
                    f"found {licence!r}; see https://huggingface.co/docs/hub/repositories-licenses"
                )
        for language in self.languages:
            if not _LANGUAGE.fullmatch(language):
                raise InputError(
                    f"expected a language as an ISO 639 code, such as en or deu, found {language!r}"
                )

    def metadata(self) -> dict[str, Any]:
        """Returns the terms that are known, as the metadata of a card."""
        known = {
            "language": list(self.languages),
            "license": self.licences[0] if len(self.licences) == 1 else list(self.licences),
            "license_name": self.licence_name,
            "license_link": self.licence_link,
        }
        return {name: value for name, value in known.items() if value}

    def section(self, source: str) -> str:
        """Writes the card's section on the licence, with a warning if none is known."""
        if not self.licences:
            return (
                "## Licence\n\n> **Warning.** The licence of the source was not found. These texts are made "
                f"of texts of {escape(source)}, and its terms apply to them: find them out before you use or "
                "share this set.\n"
            )
        names = escape(", ".join(self.licences) + (f" ({self.licence_name})" if self.licence_name else ""))
        origin = "the card of the source says so" if self.from_source else "as stated by the uploader"
        return f"## Licence\n\n**{names}** ({origin}). These texts are made of texts of {escape(source)}.\n"


def hub_id(manifest: Mapping[str, Any]) -> str | None:
    """Returns the id of the Hub dataset that a set was made from; None for another source."""
    match = _HUB_SOURCE.fullmatch(str(manifest.get("data", {}).get("source", "")))
    return match["id"] if match else None


def make_terms(
    manifest: Mapping[str, Any], api: HfApi, *, licence: str | None = None, languages: Sequence[str] = ()
) -> tuple[Terms, str | None]:
    """Completes the given terms with those of the source's own card, if that is on the Hub and readable.

    Args:
        manifest: The manifest of the set.
        api: Client of the Hub.
        licence: Identifier of a licence.
        languages: ISO 639 codes.

    Returns:
        The terms, and a note for the user if no licence is known.

    Raises:
        InputError: If the licence or a language is malformed.
    """
    given = Terms((licence.lower(),) if licence else (), languages=tuple(languages))
    source = hub_id(manifest)
    if source is None:
        reason = "the source is no dataset of the Hub"
        source_terms = Terms()
    elif given.licences and given.languages:
        return given, None
    else:
        source_terms, reason = _read_card(source, api)
    terms = replace(
        given if given.licences else source_terms, languages=given.languages or source_terms.languages
    )
    if terms.licences:
        return terms, None
    note = f"no licence was found ({reason}); that of the source applies to the texts: name it with --license"
    return terms, note


def _read_card(source: str, api: HfApi) -> tuple[Terms, str]:
    """Reads the terms in the card of a dataset on the Hub, and why they lack a licence."""
    from huggingface_hub import DatasetCard

    try:
        path = call_within(
            CARD_SECONDS, lambda: api.hf_hub_download(source, "README.md", repo_type="dataset")
        )
        data = DatasetCard.load(path, ignore_metadata_errors=True).data.to_dict()
        licences = tuple(each.lower() for each in _strings(data.get("license")) if each.lower() != "unknown")
        languages = tuple(each for each in _strings(data.get("language")) if _LANGUAGE.fullmatch(each))
        name, link = (next(iter(_strings(data.get(key))), None) for key in ("license_name", "license_link"))
        terms = Terms(licences, name, link, languages, from_source=bool(licences))
    except Exception as error:  # the Hub client raises many kinds, and a card may hold anything
        slow = isinstance(error, AnswerError)
        reason = f"no answer within {CARD_SECONDS:g} seconds" if slow else type(error).__name__
        return Terms(), f"the card of {source!r} could not be read: {reason}"
    return terms, f"the card of {source!r} names none"


def _strings(value: Any) -> list[str]:
    """Returns the non-empty strings of a value, which is a string or a list."""
    values = value if isinstance(value, list) else [value]
    return [each for each in values if isinstance(each, str) and each]


#: Shape of an audit's document; see :func:`~dallme.dataset.schema.check_shape`.
_AUDIT_SHAPE = {
    "texts": [
        {
            "copied_span": {"words": int, "row": (None, *ROW_ID), "text": str},
            "copied_5grams": float,
            "members": int,
            "label_confidence": (None, float),
            "label_agrees": (None, bool),
            "predicted": (None, str),
            "personal": [{"kind": str, "text?": str, "masked?": str}],
        }
    ],
    "summary": {
        "longest_copied_span": int,
        "copied_5grams": float,
        "min_cluster": int,
        "small_clusters": [int],
        "tight_clusters?": [int],
        "planted_words?": [{}],
        "mislabelled_clusters?": [{"rows": [ROW_ID]}],
        "contamination": (None, {"rows": int, "exact": [int], "shared_13grams": [int], "longest_span": int}),
        "near_duplicates": [{"first": int, "second": int, "cosine": float}],
        "label_disagreements": [int],
        "agreement": (None, float),
        "personal": {"scanner": (None, str), "found": int},
        "readability": {
            "type_token_ratio": float,
            "distinct_1": float,
            "distinct_2": float,
            "complete_sentences": float,
            "perplexity": (None, float),
        },
    },
    "thresholds": {"max_copied_span": (None, int), "min_cluster": (None, int), "max_personal?": (None, int)},
    "failures": [str],
    "notes": [str],
}


def parse_audit(content: bytes) -> dict[str, Any]:
    """Parses ``audit.json``.

    Raises:
        InputError: If it is no document of an audit.
    """
    try:
        return parse_json(content, "audit.json", _AUDIT_SHAPE)
    except ValueError as error:
        raise InputError(
            f"expected the document of an audit in audit.json, found that {error}; "
            "run dallme audit again, or remove the file"
        ) from None


def check_audit(audit: Mapping[str, Any], distilled: TextSet) -> None:
    """Checks that an audit is of the texts of a set and quotes nothing else, as it may be shared.

    Raises:
        InputError: If it is of other texts.
    """
    texts = audit["texts"]
    if len(texts) != len(distilled):
        raise InputError(
            f"expected an audit of these {len(distilled)} texts, found one of {len(texts)} texts; run "
            "dallme audit again"
        )
    for row, (entry, text) in enumerate(zip(texts, distilled.texts, strict=True)):
        words, masked = _words(text), mask(text)
        quotes = [quote for quote in _quotes(entry) if quote not in text and quote not in masked]
        if any(_words(quote) not in words for quote in quotes) or not all(
            _MASKED.fullmatch(match.get("masked", "***")) for match in entry.get("personal", ())
        ):
            raise InputError(
                f"expected audit.json to quote nothing but the distilled texts, found words in text {row} "
                "that it does not hold; run dallme audit again"
            )


def _quotes(entry: Any) -> Iterator[str]:
    """Yields the strings under the key ``text`` at any depth."""
    if isinstance(entry, Mapping):
        for key, value in entry.items():
            if key == "text" and isinstance(value, str):
                yield value
            else:
                yield from _quotes(value)
    elif isinstance(entry, list):
        for value in entry:
            yield from _quotes(value)


def _words(text: str) -> str:
    """Joins the case-folded words of a text, with a space on either side."""
    return " ".join(["", *re.findall(r"\w+", text.casefold()), ""])


def audit_section(audit: Mapping[str, Any]) -> str:
    """Writes the card's section on the audit."""
    summary = audit["summary"]
    readability, disputed = summary["readability"], "not checked"
    if summary["agreement"] is not None:
        disputed = f"{len(summary['label_disagreements'])} of {len(audit['texts'])}"
    rows = [
        ("longest run of words copied from one source row", f"{summary['longest_copied_span']:,}"),
        ("runs of five words that occur in the source", f"{summary['copied_5grams']:.0%}"),
        ("source rows behind the text with the fewest", f"{summary['min_cluster']:,}"),
        ("texts that occur in the test set", _contamination(summary["contamination"])),
        ("pairs of near duplicates", f"{len(summary['near_duplicates'])}"),
        ("labels that a classifier of the full data disputes", disputed),
        ("personal data", _personal(summary["personal"])),
        ("different words among all words", f"{readability['type_token_ratio']:.0%}"),
        ("complete sentences", f"{readability['complete_sentences']:.0%}"),
    ]
    if readability["perplexity"] is not None:
        rows.append(("perplexity", f"{readability['perplexity']:.1f}"))
    table = "\n".join(f"| {name} | {value} |" for name, value in rows)
    failures = "".join(f"- **Failed**: {escape(failure)}\n" for failure in audit["failures"])
    return f"## Audit\n\n| | |\n| --- | --- |\n{table}\n" + (f"\n{failures}" if failures else "")


def _contamination(overlap: Mapping[str, Any] | None) -> str:
    if overlap is None:
        return "not checked"
    exact, shared = len(overlap["exact"]), len(overlap["shared_13grams"])
    return f"{exact}; {shared} share 13 words with one (of {overlap['rows']:,} test rows)"


def _personal(scan: Mapping[str, Any]) -> str:
    return (
        "not scanned" if scan["scanner"] is None else f"{scan['found']:,} places ({escape(scan['scanner'])})"
    )


_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"))

_USE = """## Use

```python
from datasets import load_dataset

texts = load_dataset("{place}", split="train")
```

To train a classifier:

```python
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

model = make_pipeline(TfidfVectorizer(), LogisticRegression(max_iter=1000))
model.fit(list(texts["text"]), list(texts["label_text"]))
print(model.predict(["A text of your own."])[0])
```

As examples for a language model:

```python
shots = "\\n\\n".join(f"Text: {{row['text']}}\\nClass: {{row['label_text']}}" for row in texts)
print(f"{{shots}}\\n\\nText: A text of your own.\\nClass:")
```

`text` and `label` are all a classifier needs. `weight` counts the source rows behind a text; `sentence_rows`,
`nearest_rows` and `member_rows` say which source rows it is from.
"""


def render(
    distilled: TextSet,
    *,
    audit: Mapping[str, Any] | None = None,
    terms: Terms | None = None,
    place: str = "path/or/id/of/this/folder",
) -> str:
    """Renders the card as Markdown with YAML metadata; the same arguments give the same bytes.

    Args:
        distilled: The set.
        audit: The document of its audit.
        terms: Licence and languages; without them the card warns that they are not known.
        place: Path or Hub id of the set, for the examples.
    """
    terms = terms or Terms()
    metadata = yaml.safe_dump(_metadata(distilled, terms), sort_keys=False, allow_unicode=True)
    sections = [
        _title(distilled),
        _USE.format(place=place),
        _worth(distilled.manifest),
        audit_section(audit) if audit else "",
        _texts(distilled),
        _making(distilled.manifest),
        terms.section(_source(distilled.manifest)),
    ]
    return f"---\n{metadata}---\n\n" + "\n".join(section for section in sections if section)


def _metadata(distilled: TextSet, terms: Terms) -> dict[str, Any]:
    size = next((name for limit, name in _SIZES if len(distilled) < limit), "100K<n<1M")
    source = hub_id(distilled.manifest)
    return {
        "pretty_name": f"Distilled {_source(distilled.manifest)}",
        **terms.metadata(),
        "task_categories": ["text-classification"],
        "size_categories": [size],
        **({"source_datasets": [source]} if source else {}),
        "tags": ["dataset-distillation", "dallme"],
        # Otherwise `load_dataset` takes manifest.json for data.
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": "train.parquet"}]}],
    }


def _source(manifest: Mapping[str, Any]) -> str:
    return str(manifest.get("data", {}).get("source", "dataset"))


def _title(distilled: TextSet) -> str:
    rows = distilled.manifest.get("data", {}).get("rows")
    origin = f"{rows:,} rows" if rows else "a larger dataset"
    classes = escape(", ".join(distilled.label_names.values()))
    return (
        f"# Distilled {escape(_source(distilled.manifest))}\n\n"
        f"{origin} → **{len(distilled)} texts**, for training a text classifier with the classes {classes}. "
        "Made with dallme (text dataset distillation).\n"
    )


def _worth(manifest: Mapping[str, Any]) -> str:
    comparison = manifest.get("comparison")
    if not comparison:
        return ""
    table = comparison_table(comparison, escape=escape)
    return f"## Accuracy\n\nAccuracy on held-out real texts.\n\n{table}\n"


def _texts(distilled: TextSet) -> str:
    first: dict[int, str] = {}
    for text, label in zip(distilled.texts, distilled.labels.tolist(), strict=True):
        first.setdefault(label, text)
    names = distilled.label_names
    lines = [f"- **{escape(names[label])}**: {escape(mask(text))}\n" for label, text in first.items()]
    return "## The first text of each class\n\n" + "".join(lines)


def _making(manifest: Mapping[str, Any]) -> str:
    """Writes the configuration of the run as a table."""
    if not manifest.get("configuration"):
        return ""
    facts = dict(manifest["configuration"])
    if "dallme" in manifest:
        facts["dallme"] = manifest["dallme"]
    if digest := manifest.get("data", {}).get("sha256"):
        facts["SHA-256 of the source"] = digest
    rows = "".join(
        f"| {escape(name)} | {escape(value)} |\n" for name, value in facts.items() if value is not None
    )
    return f"## How it was made\n\n| | |\n| --- | --- |\n{rows}\nThe rest is in `manifest.json`.\n"
