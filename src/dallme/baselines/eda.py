"""Easy data augmentation: few real texts, and versions of them with words changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol
from zipfile import BadZipFile

import numpy as np
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

from dallme.baselines.random import RandomBaseline
from dallme.data import LabelledTexts, LabelledVectors
from dallme.errors import DallmeError, InputError, MissingDependencyError
from dallme.validation import check_positive


class Thesaurus(Protocol):
    """What knows the synonyms of a word."""

    def synonyms(self, word: str) -> Sequence[str]:
        """Other words for `word`, itself not among them, always in the same order; none if it knows none."""


@dataclass(frozen=True)
class WordNet:
    """Princeton WordNet (English), read by nltk; its data are a download of their own."""

    def synonyms(self, word: str) -> list[str]:
        """All words that share a meaning with `word`, sorted.

        Raises:
            MissingDependencyError: If nltk is not installed.
            DallmeError: If WordNet's data are not there, or damaged; nothing is downloaded.
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
                "baseline 'eda': expected the data of WordNet among nltk's, found none; run: python -m nltk.downloader wordnet"
            ) from None
        except (
            OSError,
            BadZipFile,
        ) as error:  # a download that was interrupted, or a folder with a part of the files
            raise DallmeError(
                f"baseline 'eda': expected the data of WordNet whole, found them damaged ({error}); delete the copy that "
                "`dallme doctor` names and run: python -m nltk.downloader wordnet"
            ) from None
        return sorted(name for name in names if name.lower() != word.lower())


@dataclass(frozen=True)
class EDABaseline(RandomBaseline):
    """Rows drawn as by ``random``, each followed by versions of itself with a few words changed.

    A version is made by one of four operations, chosen at random (section 2 of the reference); with the share
    `alpha` and a text of l words, n = max(1, floor(alpha * l)):

    - synonym replacement: n words that are no stop words become one of their synonyms each;
    - random insertion: n times, a synonym of a random word that is no stop word is put at a random place;
    - random swap: n times, two random words change places;
    - random deletion: each word is left out with probability `alpha`; one always stays.

    Words without synonyms are passed over, so that a version may equal its original. Words are parted by
    white space; signs around a word stay where they are when it is replaced. With the defaults, a row becomes
    ten texts: itself and nine versions. That is how we read "EDA uses 10 times the 0.1% size after
    augmentation" (the paper's Table 1); the reference advises 4 to 16 versions, the more the smaller the
    data.

    Reference: Wei and Zou, "EDA: Easy Data Augmentation Techniques for Boosting Performance on Text Classification Tasks",
    EMNLP 2019.

    Attributes:
        alpha: Share of the words that an operation changes, in [0, 1].
        texts_per_row: Texts that a row becomes, itself included.
        thesaurus: Where synonyms are from.
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
        """Looks a word up, so that a thesaurus without its data is noticed.

        Raises:
            DallmeError: If the data of WordNet are not there.
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
        made = [version for text in drawn.texts for version in (text, *self._versions(text, rng))]
        return replace(drawn.take(np.repeat(np.arange(len(drawn)), self.texts_per_row)), texts=made)

    def _versions(self, text: str, rng: np.random.Generator) -> list[str]:
        return [self._version(text.split(), rng) for _ in range(self.texts_per_row - 1)]

    def _version(self, words: list[str], rng: np.random.Generator) -> str:
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
    """Replaces `count` random words that are no stop words, or as many as have a synonym, by one of their synonyms each."""
    changed, left = list(words), count
    for place in rng.permutation(len(changed)).tolist():
        before, word, after = _parts(changed[place])
        if left and (known := _synonyms(word, thesaurus)):
            changed[place] = before + _any(known, rng) + after
            left -= 1
    return changed


def insert_synonyms(
    words: Sequence[str], count: int, thesaurus: Thesaurus, rng: np.random.Generator
) -> list[str]:
    """Puts a synonym of a random word that is no stop word at a random place, `count` times; none if no word has one."""
    changed = list(words)
    for _ in range(count):
        for place in rng.permutation(len(words)).tolist():
            if known := _synonyms(_parts(words[place])[1], thesaurus):
                changed.insert(int(rng.integers(len(changed) + 1)), _any(known, rng))
                break
    return changed


def swap(words: Sequence[str], count: int, rng: np.random.Generator) -> list[str]:
    """Lets two random words change places, `count` times; a single word stays."""
    changed = list(words)
    for _ in range(count if len(changed) > 1 else 0):
        first, second = rng.choice(len(changed), 2, replace=False)
        changed[first], changed[second] = changed[second], changed[first]
    return changed


def delete(words: Sequence[str], probability: float, rng: np.random.Generator) -> list[str]:
    """Leaves out each word with a probability; if none is left, one random word stays."""
    kept = [word for word, chance in zip(words, rng.random(len(words)), strict=True) if chance >= probability]
    return kept or [_any(words, rng)]


def _any(words: Sequence[str], rng: np.random.Generator) -> str:
    return words[int(rng.integers(len(words)))]


def _parts(word: str) -> tuple[str, str, str]:
    """The signs before a word, the word and the signs after it."""
    places = [place for place, sign in enumerate(word) if sign.isalnum()]
    start, end = (places[0], places[-1] + 1) if places else (0, 0)
    return word[:start], word[start:end], word[end:]


def _synonyms(word: str, thesaurus: Thesaurus) -> Sequence[str]:
    return () if not word or word.lower() in ENGLISH_STOP_WORDS else thesaurus.synonyms(word)
