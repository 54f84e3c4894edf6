"""Distilled sets, audits and comparisons that the report's tests show."""

from __future__ import annotations

from typing import Any

import numpy as np

from dallme.auditing.inputs import AuditInput
from dallme.data import Fingerprint, LabelledTexts, LabelledVectors
from dallme.dataset import DistilledDataset, Lineage

#: Texts that try to be more than text; each that runs as a script sets `window.hacked`.
HOSTILE = [
    "<script>window.hacked = 1</script>",
    "</script><script>window.hacked = 1</script>",
    "<img src=x onerror='window.hacked = 1'><b>bold</b>",
    '"\' onmouseover="window.hacked = 1" x=\'',
    "{{ 7 * 7 }} {% raw %} {# #} ${window.hacked = 1} `",
    "datum.text | signal('picked') + [\"x\"] \\u003cb\\u003e",
    "<!-- --><![CDATA[ ]]>&lt;b&gt; &amp; &#60;",
    "javascript:window.hacked = 1",
    '=HYPERLINK("http://example.com")',
    "first line\r\nsecond\rthird\tend \u2028 \u2029 \u202e",
    "</p></article></main><style>body { display: none }</style>",
    "half of a pair: \ud83d and \udc00",
    "\n@SUM(A1:A9)",
    "wide" * 200,
]


def comparison(name: str = "random", classifiers: tuple[str, str] = ("lr", "nb")) -> dict[str, Any]:
    """A table of three methods and two classifiers, in which `full` is not for the second."""

    def result(classifier: str, mean: float | None, recovered: float | None, runs: int = 1) -> dict[str, Any]:
        deviation = None if mean is None else 0.05 if runs > 1 else 0.0
        return {
            "classifier": classifier,
            "accuracy_mean": mean,
            "accuracy_std": deviation,
            "runs": runs,
            "recovered": recovered,
        }

    first, second = classifiers
    return {
        "methods": [
            {
                "method": name,
                "texts": 3,
                "results": [result(first, 0.6, 0.7, 5), result(second, 0.5, 0.6, 5)],
            },
            {
                "method": "extractive",
                "texts": 3,
                "results": [result(first, 0.75, 0.88), result(second, 0.8, 0.94)],
            },
            {
                "method": "full",
                "texts": 8,
                "results": [result(first, 0.85, None), result(second, None, None)],
            },
        ],
        "test_rows": 1_000,
        "notes": ["a note on the test rows"],
    }


def small_set(*, with_comparison: bool = False) -> tuple[DistilledDataset, AuditInput]:
    """Three texts for eight rows of two classes; row 3 has no text, the second is of a soft cluster."""
    lineage = (
        Lineage("extractive", (0, 1), (0, 1), ("A dull film.", "It was slow."), (0, 1), 0.9876),
        Lineage("extractive", (2,), (2,), ("Bad, bad.",), (), None, label_agrees=False),
        Lineage("extractive", (4, 5, 6, 7), (4, 5), ("Fine and warm.",), (4,), 0.9),
    )
    manifest: dict[str, Any] = {
        "configuration": {
            "embedder": "hashing", "condenser": "k-centroid", "decoder": "extractive", "max_tokens": 64,
            "seed": 7,
        },
        "data": {"source": "reviews.csv", "rows": 25_000},
    }  # fmt: skip
    if with_comparison:
        manifest["comparison"] = comparison()
    texts = ("A dull film. It was slow.", "Bad, bad.", "Fine and warm.")
    distilled = DistilledDataset(
        texts, np.array([5, 5, 9]), {5: "bad", 9: "good"}, np.array([2.0, 1.5, 4.5]), lineage, manifest
    )
    labels = np.array([5] * 4 + [9] * 4)
    words = [f"dull film {row}" for row in range(4)] + [f"fine film {row}" for row in range(4, 8)]
    source = LabelledTexts(words, labels, {5: "bad", 9: "good"}, np.arange(8))
    return distilled, _evidence(distilled, source)


def hostile_set() -> tuple[DistilledDataset, AuditInput]:
    """Texts, class names, row ids, the source and the manifest: all are hostile."""
    count = len(HOSTILE)
    labels = np.array([0] + [1] * (count - 1))
    lineage = tuple(Lineage(text, (text,), (text,), (text,), (text,), 0.5) for text in HOSTILE)
    table = comparison(HOSTILE[1], (HOSTILE[0], HOSTILE[4])) | {"notes": HOSTILE}
    manifest = {
        "configuration": {"embedder": "hashing", "condenser": HOSTILE[0], "decoder": HOSTILE[1]},
        "data": {"source": HOSTILE[1], "rows": count},
        "comparison": table,
        "more": HOSTILE,
    }
    names = {0: HOSTILE[0], 1: HOSTILE[1]}
    distilled = DistilledDataset(tuple(HOSTILE), labels, names, np.ones(count), lineage, manifest)
    return distilled, _evidence(distilled, LabelledTexts(HOSTILE, labels, names, np.array(HOSTILE)))


def _evidence(distilled: DistilledDataset, source: LabelledTexts) -> AuditInput:
    """Vectors of four dimensions: the class along the first, noise along the others."""
    fingerprint = Fingerprint("given", "unknown", 4, normalized=False)

    def vectors(labels: np.ndarray, seed: int) -> np.ndarray:
        made = np.random.default_rng(seed).normal(scale=0.2, size=(len(labels), 4)).astype(np.float32)
        made[:, 0] += 5 * (labels == labels.max())
        return made

    embedded = LabelledVectors(vectors(source.labels, 0), source.labels, fingerprint)
    return AuditInput(distilled, source, embedded, vectors(distilled.labels, 1))


def audit_of(distilled: DistilledDataset, words: list[str] | None = None) -> dict[str, Any]:
    """An audit that finds something of each kind; `words` stand where it quotes."""
    quote = words or ["dull"] * len(distilled)
    names = [distilled.label_names[label] for label in distilled.labels.tolist()]

    def entry(index: int, span: int, members: int, agrees: bool, personal: bool) -> dict[str, Any]:
        copied = {
            "words": span,
            "row": 7 if span else None,
            "text": " ".join(distilled.texts[index].split()[:span]).rstrip("."),
        }
        found = [{"kind": "PERSON", "text": quote[index]}] if personal else []
        return {
            "copied_span": copied, "copied_5grams": 0.5, "members": members,
            "label_confidence": 0.9 if agrees else 0.2,
            "label_agrees": agrees, "predicted": names[index], "personal": found,
        }  # fmt: skip

    kinds = [(3, 40, True, True), (30, 2, False, False)] + [(0, 40, True, bool(words))] * (len(distilled) - 2)
    return {
        "texts": [entry(index, *kind) for index, kind in enumerate(kinds)],
        "summary": {
            "longest_copied_span": 30,
            "copied_5grams": 0.5,
            "min_cluster": 2,
            "small_clusters": [1],
            "contamination": {"rows": 1_000, "exact": [0], "longest_span": 15, "shared_13grams": [0, 2]},
            "near_duplicates": [{"first": 1, "second": 2, "cosine": 0.97}],
            "label_disagreements": [1],
            "agreement": 2 / 3,
            "personal": {"scanner": "presidio-analyzer 2.2.366", "found": 1},
            "readability": {
                "type_token_ratio": 0.6, "distinct_1": 0.6, "distinct_2": 0.95, "complete_sentences": 1.0,
                "perplexity": 88.2,
            },
        },
        "thresholds": {"max_copied_span": 20, "min_cluster": None},
        "failures": [f"text 1: a span of 30 words is copied {quote[0]}"],
        "notes": [f"nothing else was looked for {quote[1]}"],
    }  # fmt: skip
