"""Easy data augmentation: each operation worked out by hand, and WordNet through nltk."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import nltk
import numpy as np
import pytest
from nltk.corpus.reader.wordnet import WordNetCorpusReader
from nltk.corpus.util import LazyCorpusLoader

from dallme import Distiller, registry
from dallme.baselines import eda
from dallme.baselines.eda import EDABaseline, WordNet
from dallme.baselines.reference import RandomBaseline
from dallme.data import LabelledTexts
from dallme.errors import DallmeError, InputError
from dallme.evaluation.compare import compare
from dallme.evaluation.evaluate import make_classifiers

SENTENCE = ["The", "film,", "was", "a", "(great)", "film"]


class Tiny:
    """Knows two words; a stop word as well, which is never to be asked for."""

    def synonyms(self, word: str) -> list[str]:
        return {"film": ["movie"], "great": ["grand"], "The": ["wrong"], "was": ["wrong"]}.get(word, [])


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def drawn_from() -> LabelledTexts:
    texts = [f"great film number {row} of one two three four five" for row in range(20)]
    return LabelledTexts(texts, np.array([0, 1] * 10), {0: "no", 1: "yes"}, np.arange(100, 120))


def test_synonyms_replace_words_and_leave_signs_and_stop_words() -> None:
    assert eda.replace_synonyms(SENTENCE, 9, Tiny(), rng()) == [
        "The",
        "movie,",
        "was",
        "a",
        "(grand)",
        "movie",
    ]
    one = {tuple(eda.replace_synonyms(SENTENCE, 1, Tiny(), rng(seed))) for seed in range(40)}
    assert one == {
        ("The", "movie,", "was", "a", "(great)", "film"),
        ("The", "film,", "was", "a", "(grand)", "film"),
        ("The", "film,", "was", "a", "(great)", "movie"),
    }
    assert eda.replace_synonyms(["--", "was", "unknown"], 2, Tiny(), rng()) == ["--", "was", "unknown"]


def test_synonyms_are_inserted_anywhere() -> None:
    seen = set()
    for seed in range(200):
        changed = eda.insert_synonyms(SENTENCE, 1, Tiny(), rng(seed))
        (place,) = [place for place in range(7) if changed[:place] + changed[place + 1 :] == SENTENCE]
        seen.add((place, changed[place]))
    assert seen == {(place, word) for place in range(7) for word in ("movie", "grand")}
    assert Counter(eda.insert_synonyms(["film"], 3, Tiny(), rng())) == {"film": 1, "movie": 3}
    assert eda.insert_synonyms(["was", "unknown"], 2, Tiny(), rng()) == ["was", "unknown"]


def test_swaps() -> None:
    assert eda.swap(["a", "b"], 1, rng()) == ["b", "a"]
    assert eda.swap(["a", "b"], 2, rng()) == ["a", "b"]
    assert {tuple(eda.swap("abc", 1, rng(seed))) for seed in range(40)} == {
        tuple("bac"),
        tuple("cba"),
        tuple("acb"),
    }
    assert eda.swap(["a"], 3, rng()) == ["a"]


def test_deletion_has_its_probability_and_never_leaves_nothing() -> None:
    assert eda.delete(SENTENCE, 0.0, rng()) == SENTENCE
    assert {tuple(eda.delete("abc", 1.0, rng(seed))) for seed in range(40)} == {("a",), ("b",), ("c",)}
    kept = len(eda.delete(["word"] * 10_000, 0.1, rng()))
    assert abs(kept - 9000) < 5 * np.sqrt(10_000 * 0.1 * 0.9)  # binomial, five deviations


def test_the_words_that_are_left_keep_their_order() -> None:
    assert eda.delete("abcdefghij", 0.5, rng()) == sorted(eda.delete("abcdefghij", 0.5, rng()))


@pytest.mark.parametrize(("length", "count"), [(1, 1), (9, 1), (19, 1), (20, 2), (35, 3)])
def test_the_number_of_changes_grows_with_the_text(
    length: int, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts: list[float] = []

    def record(words: list[str], changes: float, *others: object) -> list[str]:
        counts.append(changes)
        return words

    for operation in ("replace_synonyms", "insert_synonyms", "swap", "delete"):
        monkeypatch.setattr(eda, operation, record)
    source = LabelledTexts([" ".join(["word"] * length)], np.array([0]), {0: "a"}, np.array([0]))
    EDABaseline(thesaurus=Tiny(), texts_per_row=201).select(source, None, {0: 1}, seed=0)
    assert set(counts) == {count, 0.1}
    assert abs(counts.count(0.1) - 50) < 5 * np.sqrt(200 * 0.25 * 0.75)  # one operation in four is deletion


def test_each_row_becomes_ten_texts_of_its_class() -> None:
    source = drawn_from()
    made = EDABaseline(thesaurus=Tiny()).select(source, None, {0: 2, 1: 3}, seed=7)
    rows = RandomBaseline().select(source, None, {0: 2, 1: 3}, seed=7)
    assert made.class_counts == {0: 20, 1: 30}
    assert list(made.texts[::10]) == list(rows.texts)
    assert made.row_ids.tolist() == np.repeat(rows.row_ids, 10).tolist()
    assert made.labels.tolist() == np.repeat(rows.labels, 10).tolist()
    for text, row_id in zip(made.texts, made.row_ids.tolist(), strict=True):
        original = source.texts[row_id - 100].split()
        # Eleven words, so one change; deletion alone may leave out more.
        assert set(text.split()) <= {*original, "movie", "grand"}
        assert text.strip()
    assert len(set(made.texts)) > 25


def test_the_seed_decides_and_the_source_stays() -> None:
    source = drawn_from()
    before = list(source.texts)
    draws = [
        EDABaseline(thesaurus=Tiny()).select(source, None, {0: 2}, seed=seed).texts for seed in (0, 0, 1)
    ]
    assert draws[0] == draws[1] != draws[2]
    assert source.texts == before


def test_one_text_per_row_is_the_random_baseline() -> None:
    source = drawn_from()
    assert EDABaseline(thesaurus=Tiny(), texts_per_row=1).select(source, None, {1: 4}, seed=3).texts == (
        RandomBaseline().select(source, None, {1: 4}, seed=3).texts
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": 1.1}, r"expected alpha in \[0, 1\], found 1.1"),
        ({"alpha": True}, r"expected alpha in \[0, 1\], found True"),
        ({"texts_per_row": 0}, "expected texts_per_row to be a whole number of at least 1, found 0"),
    ],
)
def test_options_are_checked(options: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        EDABaseline(**options)


@pytest.fixture
def nltk_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder as the only one where nltk looks for its data."""
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path)])
    other_languages = LazyCorpusLoader("omw-1.4", WordNetCorpusReader, None)
    monkeypatch.setattr(
        nltk.corpus, "wordnet", LazyCorpusLoader("wordnet", WordNetCorpusReader, other_languages)
    )
    return tmp_path


@pytest.fixture
def small_wordnet(nltk_data: Path) -> None:
    """A database in WordNet's own format with two meanings of "film"."""
    folder = nltk_data / "corpora" / "wordnet"
    folder.mkdir(parents=True)
    for part in ("noun", "verb", "adj", "adv"):
        for name in (f"index.{part}", f"data.{part}", f"{part}.exc"):
            (folder / name).write_text("")
    for name in ("cntlist.rev", "index.sense"):
        (folder / name).write_text("")
    (folder / "lexnames").write_text("00\tnoun.all\t1\n")
    (folder / "data.adj").write_text("  1 WordNet 3.0 \n")
    first = "00000000 00 n 03 Film 0 movie 0 motion_picture 0 000 | a show  \n"
    second = f"{len(first):08} 00 n 02 film 0 coat 0 000 | a thin layer  \n"
    (folder / "data.noun").write_text(first + second)
    (folder / "index.noun").write_text(
        f"film n 2 0 2 0 00000000 {len(first):08}  \nmovie n 1 0 1 0 00000000  \n"
    )


@pytest.mark.usefixtures("small_wordnet")
def test_wordnet_gives_the_words_of_all_meanings() -> None:
    assert WordNet().synonyms("film") == ["coat", "motion picture", "movie"]
    assert WordNet().synonyms("Movie") == ["Film", "motion picture"]
    assert WordNet().synonyms("unheard") == []


@pytest.mark.usefixtures("nltk_data")
def test_missing_data_are_one_clear_line() -> None:
    baseline = registry.make("baselines", "eda")
    with pytest.raises(DallmeError) as caught:
        baseline.select(drawn_from(), None, {0: 2}, seed=0)
    assert str(caught.value) == (
        "baseline 'eda': expected the data of WordNet among nltk's, found none; run: python -m nltk.downloader wordnet"
    )


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("wordnet.zip", "File is not a zip file"),
        ("wordnet/index.noun", "No such file or directory: .*lexnames"),
    ],
)
def test_a_damaged_copy_says_how_to_mend_it(nltk_data: Path, place: str, reason: str) -> None:
    file = nltk_data / "corpora" / place
    file.parent.mkdir(parents=True)
    file.write_bytes(b"")
    told = rf"found them damaged \({reason}.*\); delete the copy that `dallme doctor` names and run: python -m nltk"
    with pytest.raises(DallmeError, match=told):
        WordNet().synonyms("film")


@pytest.mark.usefixtures("small_wordnet")
def test_the_table_shows_the_real_number_of_texts() -> None:
    source = drawn_from()
    distiller = Distiller(per_class=2, embedder="hashing")
    found = compare(distiller, distiller.run(source), source, ["random", "eda"], make_classifiers(["nb"]))
    assert [(row.method, row.texts, row.draws) for row in found.methods] == [
        ("random", 4, 10),
        ("eda", 40, 10),
    ]
