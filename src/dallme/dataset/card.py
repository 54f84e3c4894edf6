"""The dataset card: what the set is, what it is worth, and how it was made, with metadata that the Hub reads."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from dallme.dataset.tables import comparison_table
from dallme.errors import InputError

if TYPE_CHECKING:
    from huggingface_hub import HfApi

    from dallme.dataset.distilled import DistilledDataset


def escape(text: str) -> str:
    """Keeps what a text holds from being read as Markdown or HTML."""
    for sign in "\\`*_[]<>|#&~$":
        text = text.replace(sign, f"\\{sign}")
    return " ".join(text.split())


#: How the reader of Hub datasets calls a source: ``id[:configuration]@split``.
_HUB_SOURCE = re.compile(r"(?P<id>\w[\w.-]*(/[\w.-]+)?)(:[^@]+)?@[\w%:+\[\]-]+", re.ASCII)
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
        carried: Whether the licence is that of the source's own card.
    """

    licences: tuple[str, ...] = ()
    licence_name: str | None = None
    licence_link: str | None = None
    languages: tuple[str, ...] = ()
    carried: bool = False

    def __post_init__(self) -> None:
        """Checks that licences and languages look as the Hub writes them."""
        for licence in self.licences:
            if not _LICENCE.fullmatch(licence):
                raise InputError(
                    f"expected a licence as the Hub names it, such as cc-by-4.0, apache-2.0 or other, found {licence!r}; "
                    "see https://huggingface.co/docs/hub/repositories-licenses"
                )
        for language in self.languages:
            if not _LANGUAGE.fullmatch(language):
                raise InputError(
                    f"expected a language as an ISO 639 code, such as en or deu, found {language!r}"
                )

    def metadata(self) -> dict[str, Any]:
        """What of it is known, as the metadata of a card."""
        known = {
            "language": list(self.languages),
            "license": self.licences[0] if len(self.licences) == 1 else list(self.licences),
            "license_name": self.licence_name,
            "license_link": self.licence_link,
        }
        return {name: value for name, value in known.items() if value}

    def section(self, source: str) -> str:
        """What the card says about the licence; a warning if none is known.

        Args:
            source: Name of the source.
        """
        if not self.licences:
            return (
                "## Licence\n\n> **Warning.** The licence of the source was not found. These texts are made of texts of "
                f"{escape(source)}, and its terms apply to them: find them out before you use or share this set.\n"
            )
        names = escape(", ".join(self.licences) + (f" ({self.licence_name})" if self.licence_name else ""))
        whose = "the card of the source says so" if self.carried else "who shares this set says so"
        return f"## Licence\n\n**{names}** ({whose}). These texts are made of texts of {escape(source)}.\n"


def hub_id(manifest: Mapping[str, Any]) -> str | None:
    """The id of the Hub dataset that a set was made from; None if it was made from something else."""
    found = _HUB_SOURCE.fullmatch(str(manifest.get("data", {}).get("source", "")))
    return found["id"] if found else None


def make_terms(
    manifest: Mapping[str, Any], api: HfApi, *, licence: str | None = None, languages: Sequence[str] = ()
) -> tuple[Terms, str | None]:
    """The terms that were given, and for the rest those of the source's own card, if it is on the Hub and can be read.

    Args:
        manifest: The set's.
        api: Whom to ask for the card; it may also lie in the Hub's cache.
        licence: Identifier of a licence.
        languages: ISO 639 codes.

    Returns:
        The terms, and a note for the user if no licence is known.

    Raises:
        InputError: If what was given makes no sense.
    """
    given = Terms((licence.lower(),) if licence else (), languages=tuple(languages))
    source = hub_id(manifest)
    if source is None:
        reason = "the source is no dataset of the Hub"
        found = Terms()
    elif given.licences and given.languages:
        return given, None
    else:
        found, reason = _read_card(source, api)
    licence_terms = given if given.licences else found
    terms = Terms(
        licence_terms.licences,
        licence_terms.licence_name,
        licence_terms.licence_link,
        given.languages or found.languages,
        licence_terms.carried,
    )
    if terms.licences:
        return terms, None
    return (
        terms,
        f"no licence was found ({reason}); that of the source applies to the texts: name it with --license",
    )


def _read_card(source: str, api: HfApi) -> tuple[Terms, str]:
    """The terms in the card of a dataset on the Hub, and why there is no licence among them."""
    from huggingface_hub import DatasetCard

    try:
        path = api.hf_hub_download(source, "README.md", repo_type="dataset")
        data = DatasetCard.load(path, ignore_metadata_errors=True).data.to_dict()
        licences = tuple(each.lower() for each in _strings(data.get("license")) if each.lower() != "unknown")
        languages = tuple(each for each in _strings(data.get("language")) if _LANGUAGE.fullmatch(each))
        name, link = (next(iter(_strings(data.get(key))), None) for key in ("license_name", "license_link"))
        terms = Terms(licences, name, link, languages, carried=bool(licences))
    except (
        Exception
    ) as error:  # the Hub client raises many kinds, and a card may hold anything: without it none is known
        return Terms(), f"the card of {source!r} could not be read: {type(error).__name__}"
    return terms, f"the card of {source!r} names none"


def _strings(value: Any) -> list[str]:
    """A string, or the strings of a list; what is neither is left out."""
    return [
        each for each in (value if isinstance(value, list) else [value]) if isinstance(each, str) and each
    ]


#: What the card and the page look up in an audit, beside what the card's own section needs.
_OF_A_TEXT = (
    "copied_span",
    "copied_5grams",
    "members",
    "label_confidence",
    "label_agrees",
    "predicted",
    "personal",
)
_OF_A_SUMMARY = ("small_clusters", "label_disagreements")
_OF_AN_AUDIT = ("thresholds", "notes")


def parse_audit(content: bytes) -> dict[str, Any]:
    """Reads the document of an audit.

    Raises:
        InputError: If it is none.
    """
    try:
        document = json.loads(content)
        audit_section(document)  # what is shown has to be there
        _require(_OF_A_TEXT, *document["texts"])
        _require(_OF_A_SUMMARY, document["summary"])
        _require(_OF_AN_AUDIT, document)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise InputError(
            f"expected the document of an audit in audit.json, found what cannot be read: {type(error).__name__}: {error}; "
            "run dallme audit again, or remove the file"
        ) from None
    found: dict[str, Any] = document
    return found


def _require(keys: Sequence[str], *documents: Mapping[str, Any]) -> None:
    """Raises KeyError for a key that a document lacks."""
    for document in documents:
        for key in keys:
            if key not in document:
                raise KeyError(key)


def check_audit(audit: Mapping[str, Any], distilled: DistilledDataset) -> None:
    """Checks that an audit is of these texts, and that whatever it quotes stands in them: it may be shared with them.

    Raises:
        InputError: If not.
    """
    texts = audit.get("texts")
    if not isinstance(texts, list) or len(texts) != len(distilled):
        found = len(texts) if isinstance(texts, list) else "no"
        raise InputError(
            f"expected an audit of these {len(distilled)} texts, found one of {found} texts; run dallme audit again"
        )
    for row, (entry, text) in enumerate(zip(texts, distilled.texts, strict=True)):
        words = _words(text)
        if any(quote not in text and _words(quote) not in words for quote in _quotes(entry)):
            raise InputError(
                f"expected audit.json to quote nothing but the distilled texts, found words in text {row} that it does not "
                "hold; run dallme audit again"
            )


def _quotes(entry: Any) -> Iterator[str]:
    """All strings under the key ``text``, however deep."""
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
    """The words of a text, case-folded, with a space on either side."""
    return " ".join(["", *re.findall(r"\w+", text.casefold()), ""])


def audit_section(audit: Mapping[str, Any]) -> str:
    """The summary of an audit as a section of the card."""
    summary, count = audit["summary"], len(audit["texts"])
    readability = summary["readability"]
    rows = [
        ("longest run of words copied from one source row", f"{summary['longest_copied_span']:,}"),
        ("runs of five words that stand in the source", f"{summary['copied_5grams']:.0%}"),
        ("source rows behind the text with the fewest", f"{summary['min_cluster']:,}"),
        ("texts that stand in the test set", _contamination(summary["contamination"])),
        ("pairs of near duplicates", f"{len(summary['near_duplicates'])}"),
        ("labels that a classifier of the full data disputes", _disputed(summary, count)),
        ("personal data", _personal(summary["personal"])),
        ("different words among all words", f"{readability['type_token_ratio']:.0%}"),
        ("complete sentences", f"{readability['complete_sentences']:.0%}"),
    ]
    if readability["perplexity"] is not None:
        rows.append(("perplexity", f"{readability['perplexity']:.1f}"))
    table = "\n".join(f"| {name} | {found} |" for name, found in rows)
    failures = "".join(f"- **Failed**: {escape(str(failure))}\n" for failure in audit["failures"])
    return f"## Audit\n\n| | |\n| --- | --- |\n{table}\n" + (f"\n{failures}" if failures else "")


def _contamination(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return "not checked"
    return f"{len(found['exact'])}; {len(found['shared_13grams'])} share 13 words with one (of {found['rows']:,} test rows)"


def _disputed(summary: Mapping[str, Any], count: int) -> str:
    return (
        "not checked" if summary["agreement"] is None else f"{len(summary['label_disagreements'])} of {count}"
    )


def _personal(found: Mapping[str, Any]) -> str:
    scanner = found["scanner"]
    return "not scanned" if scanner is None else f"{found['found']:,} places ({escape(str(scanner))})"


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

`text` and `label` are all a classifier needs. `weight` counts the source rows behind a text; `sentence_rows`, `nearest_rows` and
`member_rows` say which source rows it is from.
"""


def render(
    distilled: DistilledDataset,
    *,
    audit: Mapping[str, Any] | None = None,
    terms: Terms | None = None,
    place: str = "path/or/id/of/this/folder",
) -> str:
    """Renders the card as Markdown with YAML metadata; the same arguments give the same bytes.

    Args:
        distilled: The set.
        audit: The document of its audit, if there is one.
        terms: Licence and languages; without any the card warns that they are not known.
        place: Where the set will lie: its id on the Hub.

    Returns:
        The card.
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


def _metadata(distilled: DistilledDataset, terms: Terms) -> dict[str, Any]:
    size = next((name for limit, name in _SIZES if len(distilled) < limit), "100K<n<1M")
    source = hub_id(distilled.manifest)
    return {
        "pretty_name": f"Distilled {_source(distilled.manifest)}",
        **terms.metadata(),
        "task_categories": ["text-classification"],
        "size_categories": [size],
        **({"source_datasets": [source]} if source else {}),
        "tags": ["dataset-distillation", "dallme"],
        # Without this, `load_dataset` would take manifest.json for data.
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": "train.parquet"}]}],
    }


def _source(manifest: Mapping[str, Any]) -> str:
    return str(manifest.get("data", {}).get("source", "dataset"))


def _title(distilled: DistilledDataset) -> str:
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
    return f"## What it is worth\n\nAccuracy on held-out real texts.\n\n{comparison_table(_with_escaped_names(comparison))}\n"


def _with_escaped_names(comparison: Mapping[str, Any]) -> dict[str, Any]:
    """A method may be a path of the user's."""

    def escaped(row: Mapping[str, Any], key: str) -> dict[str, Any]:
        return dict(row) | {key: escape(row[key])}

    methods = [
        escaped(method, "method")
        | {"results": [escaped(result, "classifier") for result in method["results"]]}
        for method in comparison["methods"]
    ]
    return dict(comparison) | {"methods": methods}


def _texts(distilled: DistilledDataset) -> str:
    shown = [
        f"- **{escape(distilled.label_names[label])}**: {escape(text)}"
        for text, label in _first_of_each_class(distilled)
    ]
    return "## The first text of each class\n\n" + "\n".join(shown) + "\n"


def _first_of_each_class(distilled: DistilledDataset) -> list[tuple[str, int]]:
    first: dict[int, str] = {}
    for text, label in zip(distilled.texts, distilled.labels.tolist(), strict=True):
        first.setdefault(label, text)
    return [(text, label) for label, text in first.items()]


def _making(manifest: Mapping[str, Any]) -> str:
    """The manifest in short."""
    configuration = manifest.get("configuration", {})
    if not configuration:
        return ""
    facts = dict(configuration)
    if "dallme" in manifest:
        facts["dallme"] = manifest["dallme"]
    if digest := manifest.get("data", {}).get("sha256"):
        facts["SHA-256 of the source"] = digest
    rows = [
        f"| {escape(name)} | {escape(str(value))} |" for name, value in facts.items() if value is not None
    ]
    return (
        "## How it was made\n\n| | |\n| --- | --- |\n"
        + "\n".join(rows)
        + "\n\nThe rest is in `manifest.json`.\n"
    )
