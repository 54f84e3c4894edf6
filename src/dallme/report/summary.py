"""The summary sentences of the report and its table of the audit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dallme.dataset import DistilledDataset
    from dallme.dataset.manifest import Manifest


def headline(distilled: DistilledDataset) -> dict[str, str]:
    """Summarises the run: ``from`` and ``to`` as counts, ``line`` in words, and ``source``."""
    manifest = distilled.manifest
    classes = len(distilled.label_names)
    parts = [f"{classes} classes" if classes != 1 else "1 class"]
    stages = [manifest.option(stage) for stage in ("embedder", "condenser", "decoder")]
    if any(stages):
        parts.append(" → ".join(str(stage) for stage in stages if stage))
    if limit := manifest.option("max_tokens"):
        parts.append(f"at most {limit} tokens each")
    if (seed := manifest.option("seed")) is not None:
        parts.append(f"seed {seed}")
    rows, texts = manifest.rows, len(distilled)
    return {
        "from": f"{rows:,} rows" if rows is not None else "a larger dataset",
        "to": f"{texts:,} texts" if texts != 1 else "1 text",
        "source": manifest.source or "a dataset",
        "line": " · ".join(parts),
    }


def recovered_share(manifest: Manifest) -> str | None:
    """Writes the share of the full data's accuracy that the set recovers; None without a comparison table."""
    methods = manifest.comparison["methods"] if manifest.comparison else []
    shares = [
        result["recovered"]
        for method in methods
        if method["method"] == manifest.option("decoder")
        for result in method["results"]
        if result["recovered"] is not None
    ]
    if not shares:
        return None
    least, most = f"{min(shares):.0%}", f"{max(shares):.0%}"
    share = least if least == most else f"{least} to {most}"
    return f"Classifiers trained on them reach {share} of the accuracy that the full data give."


def audit_rows(audit: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Formats the summary of an audit: one row of name and value for each finding."""
    summary, thresholds = audit["summary"], audit["thresholds"]
    span, clusters = thresholds["max_copied_span"], thresholds["min_cluster"]
    personal, readability = summary["personal"], summary["readability"]
    rows = [
        (
            "Longest span copied from a source row",
            _with_limit(f"{summary['longest_copied_span']} words", "at most", span),
        ),
        ("Runs of five words that occur in the source", f"{summary['copied_5grams']:.0%}"),
        (
            "Smallest cluster behind a text",
            _with_limit(f"{summary['min_cluster']:,} rows", "at least", clusters),
        ),
        ("Texts with a small cluster", _texts(summary["small_clusters"])),
        ("Texts whose source rows are nearly alike", _texts(summary.get("tight_clusters", ()))),
        *_contamination(summary["contamination"]),
        ("Near duplicates within the set", _pairs(summary["near_duplicates"])),
        ("Labels that a probe of the full data doubts", _texts(summary["label_disagreements"])),
        *_planted(summary),
        ("Personal data, perhaps", f"{personal['found']} found" if personal["scanner"] else "not looked for"),
        ("Different words among all words", f"{readability['type_token_ratio']:.0%}"),
        (
            "Distinct words, pairs of words",
            f"{readability['distinct_1']:.2f}, {readability['distinct_2']:.2f}",
        ),
        ("Complete sentences", f"{readability['complete_sentences']:.0%}"),
    ]
    if summary["agreement"] is not None:
        rows.insert(8, ("Texts whose label the probe gives", f"{summary['agreement']:.0%}"))
    if readability["perplexity"] is not None:
        rows.append(("Perplexity under a small language model", f"{readability['perplexity']:.0f}"))
    return rows


def _contamination(overlap: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    if overlap is None:
        return [("Overlap with the test set", "not looked for")]
    return [
        (f"Texts that occur in the test set ({overlap['rows']:,} rows)", _texts(overlap["exact"])),
        (
            "Texts that share 13 words with it",
            f"{_texts(overlap['shared_13grams'])}; longest span {overlap['longest_span']} words",
        ),
    ]


def _planted(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Formats suspected planted rows; an audit of an earlier version has no such finding."""
    rows = []
    if "planted_words" in summary:
        rows.append(("Words of the source that may be planted", str(len(summary["planted_words"]) or "none")))
    if "mislabelled_clusters" in summary and summary["agreement"] is not None:
        clusters = summary["mislabelled_clusters"]
        count = sum(len(cluster["rows"]) for cluster in clusters)
        value = f"{len(clusters)}: {count:,} rows" if clusters else "none"
        rows.append(("Clusters of the source that may be mislabelled", value))
    return rows


def _with_limit(value: str, relation: str, limit: int | None) -> str:
    return value if limit is None else f"{value} (limit: {relation} {limit})"


def _texts(indices: Sequence[int]) -> str:
    """Names the first texts of a list."""
    return "none" if not indices else f"{len(indices)}: {_few([f'text {index}' for index in indices])}"


def _pairs(pairs: Sequence[Mapping[str, Any]]) -> str:
    shown = [f"texts {pair['first']} and {pair['second']} ({pair['cosine']:.3f})" for pair in pairs]
    return "none" if not pairs else f"{len(pairs)}: {_few(shown)}"


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:6]) + (", …" if len(names) > 6 else "")
