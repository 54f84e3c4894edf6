"""Table 2 of the paper with the embedders at hand: a linear classifier on the vectors of the full data (section 5.3).

Run: python benchmarks/table2.py
"""

from __future__ import annotations

import tempfile
from functools import partial

from _common import data_folder, write
from dallme.embedders.resolve import resolve
from dallme.evaluation.probe import probe
from dallme.readers import read
from dallme.store import EmbeddingStore, embed_with_store

EMBEDDERS = ("hashing", "glove:6B.50d", "all-MiniLM-L6-v2")

#: What the paper reports; AG-News there is the whole training split of 120,000 rows.
PAPER = {
    "GloVe.6B.300d": {"dimension": 300, "imdb": 0.824, "ag_news": 0.897},
    "e5-base-v2": {"dimension": 768, "imdb": 0.924, "ag_news": 0.916},
    "text-embedding-ada-002": {"dimension": 1536, "imdb": 0.936, "ag_news": 0.924},
    "text-embedding-3-large": {"dimension": 3072, "imdb": 0.964, "ag_news": 0.934},
}


def main() -> None:
    """Probes each embedder on each data set."""
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        store = EmbeddingStore(folder)
        for name in ("imdb", "ag_news"):
            source = read(data_folder() / name / "train.parquet")
            test = read(data_folder() / name / "test.parquet", like=source)
            found = []
            for embedder in EMBEDDERS:
                model = resolve(embedder)
                result = probe(embedder, partial(embed_with_store, model, store=store), source, test).as_dict()
                result["max_tokens"] = model.token_limit
                print(name, result, flush=True)
                found.append(result)
            results[name] = {"train_rows": len(source), "test_rows": len(test), "embedders": found}
    write("table2", {"data": results, "paper": PAPER})


if __name__ == "__main__":
    main()
