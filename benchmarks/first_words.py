"""Measures the accuracy that 128 words of an IMDB review allow, a ceiling for classifiers that read no more.

Logistic regression over TF-IDF reads the first 128 words of each review, the last, 64 of both ends, or all.
Networks over fixed vectors of 50 dimensions read the same words and can hardly do better.

Run: python benchmarks/first_words.py
"""

from __future__ import annotations

import sys
from itertools import chain

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from _common import data_folder, make_parser, write
from dallme.classifiers.words import split_words
from dallme.readers import read

WORDS = 128


def part(text: str, name: str) -> str:
    """Returns the words of a part of a text."""
    words = list(split_words(text, sys.maxsize))
    half = WORDS // 2
    parts = {
        "first": words[:WORDS],
        "last": words[-WORDS:],
        "both ends": words if len(words) <= WORDS else list(chain(words[:half], words[-half:])),
        "all": words,
    }
    return " ".join(parts[name])


def main() -> None:
    """Trains on each part and writes the accuracies."""
    make_parser(__doc__).parse_args()
    source = read(data_folder() / "imdb" / "train.parquet")
    test = read(data_folder() / "imdb" / "test.parquet", like=source)
    accuracy = {}
    for name in ("first", "last", "both ends", "all"):
        model = make_pipeline(
            TfidfVectorizer(token_pattern=r"\S+", min_df=2), LogisticRegression(C=2, max_iter=500)
        )
        model.fit([part(text, name) for text in source.texts], source.labels)
        accuracy[name] = round(float(model.score([part(text, name) for text in test.texts], test.labels)), 4)
        print(name, accuracy[name], flush=True)
    write("first_words", {"words": WORDS, "rows": len(source), "test_rows": len(test), "accuracy": accuracy})


if __name__ == "__main__":
    main()
