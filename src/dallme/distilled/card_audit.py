"""What the card tells of an audit, and the check that an audit tells nothing that the texts do not."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dallme.distilled.markdown import escape
from dallme.errors import InputError

if TYPE_CHECKING:
    from dallme.distilled.dataset import DistilledDataset


#: What the card and the page look up in an audit, beside what the card's own section needs.
_OF_A_TEXT = ("copied_span", "copied_5grams", "members", "label_confidence", "label_agrees", "predicted", "personal")
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
        raise InputError(f"expected an audit of these {len(distilled)} texts, found one of {found} texts; run dallme audit again")
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
    return "not checked" if summary["agreement"] is None else f"{len(summary['label_disagreements'])} of {count}"


def _personal(found: Mapping[str, Any]) -> str:
    scanner = found["scanner"]
    return "not scanned" if scanner is None else f"{found['found']:,} places ({escape(str(scanner))})"
