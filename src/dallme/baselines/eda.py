"""Easy data augmentation: random rows and variants of them with changed words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol
from zipfile import BadZipFile

import numpy as np
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

from dallme.baselines.reference import RandomBaseline
from dallme.data import LabelledTexts, LabelledVectors
from dallme.errors import DallmeError, InputError, MissingDependencyError
from dallme.validation import check_positive


class Thesaurus(Protocol):
    """Source of synonyms."""

    def synonyms(self, word: str) -> Sequence[str]:
        """Returns the synonyms of a word without the word itself, in a fixed order."""


@dataclass(frozen=True)
class WordNet:
    """Princeton WordNet (English), read by nltk; its data are downloaded separately."""

    def synonyms(self, word: str) -> list[str]:
        """Returns all words that share a meaning with `word`, sorted.

        Raises:
            MissingDependencyError: If nltk is not installed.
            DallmeError: If the data of WordNet are missing or damaged; nothing is downloaded.
        """
        try:
            from nltk.corpus import wordnet
        except ImportError:
            raise MissingDependencyError("baseline 'eda'", "nltk", "eda") from None
        try:
            names = {
                name.replace("_", " ") for synset in wordnet.synsets(word) for name in synset.lemma_names()
            }
        except LookupError:
            raise DallmeError(
                "baseline 'eda': expected the data of WordNet among nltk's, found none; "
                "run: python -m nltk.downloader wordnet"
            ) from None
        except (OSError, BadZipFile) as error:  # an interrupted download, or an incomplete folder
            raise DallmeError(
                f"baseline 'eda': expected the data of WordNet whole, found them damaged ({error}); "
                "delete the copy that `dallme doctor` names and run: python -m nltk.downloader wordnet"
            ) from None
        return sorted(name for name in names if name.lower() != word.lower())


@dataclass(frozen=True)
class EDABaseline(RandomBaseline):
    """Rows drawn as by ``random``, each with augmented variants of itself.

    A variant is made by one of four random operations. With the share `alpha` and a text of l words, each
    changes n = max(1, floor(alpha * l)) words:

    - synonym replacement: n words that are not stop words are replaced by a synonym;
    - random insertion: n times, a synonym of a random word that is not a stop word is inserted at a random
    position;
    - random swap: n times, two random words are swapped;
    - random deletion: each word is deleted with probability `alpha`; one always remains.

    Words without synonyms are skipped, so a variant may equal its original. Words are split at white space,
    and punctuation around a replaced word is kept. By default a row becomes ten texts, itself and nine
    variants: our reading of "EDA uses 10 times the 0.1% size after augmentation" (the paper's Table 1).

    Reference: Wei and Zou, "EDA: Easy Data Augmentation Techniques for Boosting Performance on Text
    Classification Tasks", EMNLP 2019.

    Attributes:
        alpha: Share of the words that an operation changes, in [0, 1].
        texts_per_row: Texts per row, the original included.
        thesaurus: Source of synonyms.
    """

    alpha: float = 0.1
    texts_per_row: int = 10
    thesaurus: Thesaurus = field(default_factory=WordNet)

    def __post_init__(self) -> None:
        """Checks the options; nothing is loaded."""
        check_positive(self.texts_per_row, "texts_per_row")
        if isinstance(self.alpha, bool) or not 0 <= self.alpha <= 1:
            raise InputError(f"expected alpha in [0, 1], found {self.alpha!r}")

    def find(self) -> None:
        """Looks a word up to check that the thesaurus has its data.

        Raises:
            DallmeError: If the data of WordNet are missing.
        """
        self.thesaurus.synonyms("word")

    def _select(
        self,
        texts: LabelledTexts,
        vectors: LabelledVectors | None,
        budget: Mapping[int, int],
        rng: np.random.Generator,
    ) -> LabelledTexts:
        drawn = super()._select(texts, vectors, budget, rng)
        augmented = []
        for text in drawn.texts:
            variants = [self._variant(text.split(), rng) for _ in range(self.texts_per_row - 1)]
            augmented += [text, *variants]
        return replace(drawn.take(np.repeat(np.arange(len(drawn)), self.texts_per_row)), texts=augmented)

    def _variant(self, words: list[str], rng: np.random.Generator) -> str:
        count = max(1, int(self.alpha * len(words)))
        operation = rng.integers(4)
        if operation == 0:
            changed = replace_synonyms(words, count, self.thesaurus, rng)
        elif operation == 1:
            changed = insert_synonyms(words, count, self.thesaurus, rng)
        elif operation == 2:
            changed = swap(words, count, rng)
        else:
            changed = delete(words, self.alpha, rng)
        return " ".join(changed)


def replace_synonyms(
    words: Sequence[str], count: int, thesaurus: Thesaurus, rng: np.random.Generator
) -> list[str]:
    """Replaces up to `count` random words that are not stop words and have a synonym by one."""
    changed, left = list(words), count
    for index in rng.permutation(len(changed)).tolist():
        before, word, after = _parts(changed[index])
        if left and (synonyms := _synonyms(word, thesaurus)):
            changed[index] = before + _pick(synonyms, rng) + after
            left -= 1
    return changed


def insert_synonyms(
    words: Sequence[str], count: int, thesaurus: Thesaurus, rng: np.random.Generator
) -> list[str]:
    """Inserts, `count` times, a synonym of a random word that is not a stop word at a random position."""
    changed = list(words)
    for _ in range(count):
        for index in rng.permutation(len(words)).tolist():
            if synonyms := _synonyms(_parts(words[index])[1], thesaurus):
                changed.insert(int(rng.integers(len(changed) + 1)), _pick(synonyms, rng))
                break
    return changed


def swap(words: Sequence[str], count: int, rng: np.random.Generator) -> list[str]:
    """Swaps two random words, `count` times; a single word stays."""
    changed = list(words)
    for _ in range(count if len(changed) > 1 else 0):
        first, second = rng.choice(len(changed), 2, replace=False)
        changed[first], changed[second] = changed[second], changed[first]
    return changed


def delete(words: Sequence[str], probability: float, rng: np.random.Generator) -> list[str]:
    """Deletes each word with a probability; if none remains, keeps one random word."""
    draws = zip(words, rng.random(len(words)), strict=True)
    return [word for word, draw in draws if draw >= probability] or [_pick(words, rng)]


def _pick(words: Sequence[str], rng: np.random.Generator) -> str:
    return words[int(rng.integers(len(words)))]


def _parts(word: str) -> tuple[str, str, str]:
    """Splits a token into leading punctuation, word and trailing punctuation."""
    letters = [index for index, character in enumerate(word) if character.isalnum()]
    start, end = (letters[0], letters[-1] + 1) if letters else (0, 0)
    return word[:start], word[start:end], word[end:]


def _synonyms(word: str, thesaurus: Thesaurus) -> Sequence[str]:
    return () if not word or word.lower() in ENGLISH_STOP_WORDS else thesaurus.synonyms(word)
