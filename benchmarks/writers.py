"""Compares decoders that write with decoders that choose: accuracy, cosine, and copied words.

The model of `llm` and `search` is SmolLM2-135M, for `llm` behind the server of the tests. It is small, and
its numbers say little about large models.
Run: python benchmarks/writers.py [--store FOLDER]
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from _common import HERE, data_folder, load, make_parser, pick, write

sys.path.insert(0, str(HERE.parent / "tests"))

#: Texts per class, and tokens of each at most.
PER_CLASS, MAX_TOKENS = pick({"ag_news": 3, "sst2": 4}, {"sst2": 2}), 64
#: Upper bound on the copied span of a set whose first texts are shown.
SHOWN = 12
CLASSIFIERS = ("logistic-regression", "linear-svm", "naive-bayes", "embedding-lr")
ALL_METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "nearest": ("nearest", {}),
    "extractive": ("extractive", {}),
    "teaching": ("teaching", {}),
    "vec2text, from the nearest text": ("vec2text", {"start": "nearest"}),
    "vec2text, from a hypothesis": ("vec2text", {"start": "hypothesis"}),
    "auto": ("auto", {}),
    "llm, no rows shown": ("llm:smollm2", {"examples": 0, "drafts": 2, "concurrency": 1, "timeout": 600.0}),
    "llm, two rows shown": ("llm:smollm2", {"examples": 2, "drafts": 2, "concurrency": 1, "timeout": 600.0}),
    "search": ("search", {}),
}
METHODS = {name: ALL_METHODS[name] for name in pick([*ALL_METHODS], ["nearest", "extractive"])}


def measure(name: str, store: str, known: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Measures every method on one data set, with one seed; yields the results so far after each method."""
    from chat_server import ChatServer, SmolLM2
    from dallme.distiller import Distiller
    from dallme.readers import read

    source = read(data_folder() / name / "train.parquet")
    test = read(data_folder() / name / "test.parquet", like=source)
    distiller = Distiller(PER_CLASS[name], max_tokens=MAX_TOKENS, store=store)
    vectors = distiller.embed(source)
    prototypes = distiller.condense(distiller.context(source, vectors))
    sizes = {
        "rows": len(source),
        "test_rows": len(test),
        "texts": len(prototypes),
        "classifiers": list(CLASSIFIERS),
    }
    table = {row["method"]: row for row in known.get("table", [])}
    for method, (decoder, options) in METHODS.items():
        if method in table:
            continue
        with ChatServer(writer=SmolLM2()) if decoder.startswith("llm") else nullcontext() as server:
            own = options | ({"base_url": server.url} if server else {})
            decoding = replace(distiller, decoder=decoder, decoder_options=own, store=None)
            context = replace(distiller.context(source, vectors, test=test), answers=None)
            started = time.perf_counter()
            result = decoding.resolved_decoder.decode(prototypes, context, seed=0)
            seconds = time.perf_counter() - started
        table[method] = {"method": method, "seconds": round(seconds, 1)} | measure_texts(
            result, prototypes, context, test, distiller
        )
        print(name, table[method], flush=True)
        yield sizes | {"table": [table[each] for each in METHODS if each in table]}


def measure_texts(result: Any, prototypes: Any, context: Any, test: Any, distiller: Any) -> dict[str, Any]:
    """Measures the accuracy of a set of texts, its cosine to the prototypes, and what it copies."""
    from dallme.data import LabelledTexts
    from dallme.decoders.postprocess import copied_spans
    from dallme.embedders.base import normalize
    from dallme.evaluation.evaluate import evaluate, make_classifiers

    decoded = result.texts
    texts = [text.text for text in decoded]
    written = LabelledTexts(texts, prototypes.labels, context.source.label_names, np.arange(len(texts)))
    scores = evaluate(written, test, make_classifiers(CLASSIFIERS, distiller.cached_embedder), seed=0)
    cosines = np.einsum("ij,ij->i", context.embed(texts), normalize(prototypes.vectors))
    spans = [text.copied_span or 0 for text in copied_spans(decoded, context)]
    tokens = context.count_tokens(texts)
    return {
        "accuracy": [round(score.as_dict()["accuracy_mean"], 4) for score in scores],
        "cosine": round(float(cosines.mean()), 3),
        "longest_copied_span": max(spans),
        "mean_copied_span": round(float(np.mean(spans)), 1),
        "real_texts": sum(bool(text.rows) for text in decoded),
        "tokens_a_text": round(float(tokens.mean()), 1),
        "findings": {key: result.metadata[key] for key in ("auto", "drafts") if key in result.metadata},
        # Copies of the data sets' texts are not shown.
        "first_texts": {}
        if max(spans) > SHOWN
        else {
            context.source.label_names[label]: texts[int(np.flatnonzero(prototypes.labels == label)[0])]
            for label in np.unique(prototypes.labels).tolist()
        },
    }


def main() -> None:
    """Measures the data sets and writes after each method; an interrupted run can be continued."""
    parser = make_parser(__doc__)
    parser.add_argument("--store", type=Path, help="folder of embeddings; by default a new one")
    parser.add_argument("--again", action="store_true", help="measure all methods again")
    options = parser.parse_args()
    known = {} if options.again else load("writers").get("data", {})
    with tempfile.TemporaryDirectory() as folder:
        for name in PER_CLASS:
            for results in measure(name, str(options.store or folder), known.get(name, {})):
                known[name] = results
                write("writers", {"max_tokens": MAX_TOKENS, "data": known})


if __name__ == "__main__":
    main()
