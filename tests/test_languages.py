"""Languages beyond English: words, sentences and limits in scripts with and without spaces."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer
from typer.testing import CliRunner

from dallme import Distiller
from dallme.classifiers.linear import LinearSVMClassifier, LogisticRegressionClassifier, NaiveBayesClassifier
from dallme.cli.main import app
from dallme.dataset import DistilledDataset
from dallme.embedders.hashing import HashingEmbedder
from dallme.readers import read
from dallme.text import sentences, words

#: Language to neutral, positive and negative phrases, and the end of a sentence.
PHRASES = {
    "zh": (
        ["我昨天晚上看了这部电影", "导演在国内很有名"],
        ["演员的表演非常精彩", "故事让人十分感动"],
        ["剧情实在太无聊了", "节奏慢得让人想睡"],
        "。",
    ),
    "ja": (
        ["昨日友達とこの映画を見ました", "監督は有名な人です"],
        ["俳優の演技が素晴らしい", "最後はとても感動した"],
        ["話がひどく退屈だった", "時間の無駄だと思う"],
        "。",
    ),
    "th": (["เมื่อวานฉันดูหนังเรื่องนี้"], ["นักแสดงเล่นดีมาก", "เรื่องน่าประทับใจ"], ["เรื่องน่าเบื่อ", "เสียเวลาเปล่า"], " "),
    "ar": (
        ["شاهدت هذا الفيلم أمس مع صديقي", "المخرج مشهور في بلدنا منذ سنوات"],
        ["التمثيل كان رائعا من أول مشهد", "القصة مؤثرة وجميلة حتى النهاية"],
        ["الحوار كان مملا وبلا أي معنى", "أضعت وقتي ومالي على هذا العمل"],
        ". ",
    ),
    "hi": (
        ["मैंने कल शाम यह फिल्म देखी", "इसके निर्देशक बहुत प्रसिद्ध हैं"],
        ["कलाकारों का अभिनय सचमुच शानदार है", "अंत तक कहानी दिल छू लेती है"],
        ["पटकथा उबाऊ और बेहद धीमी है", "मेरा समय और पैसा बर्बाद हुआ"],
        "। ",
    ),
    "de": (
        ["Ich habe den Film gestern Abend gesehen", "Dr. Müller führt hier wieder einmal Regie"],
        ["Großartig gespielt und wunderbar fotografiert", "Am Ende waren alle zutiefst berührt"],
        ["Schrecklich öde und viel zu lang", "Schade um die Zeit und das Geld"],
        ". ",
    ),
    "emoji": (["🎬🍿", "🎥"], ["😍👍🏽", "🥰🎉"], ["😴👎🏽", "🤮💤"], " "),
}  # fmt: skip


def corpus(language: str, rows: int = 60) -> tuple[list[str], list[int]]:
    """Film reviews in a language: neutral phrases with positive or negative ones, and their labels."""
    both, good, bad, end = PHRASES[language]
    rng, texts = np.random.default_rng(0), []
    for row in range(rows):
        said = [
            *rng.permutation(both)[: rng.integers(1, len(both) + 1)],
            *rng.permutation(good if row % 2 else bad),
        ]
        texts.append(end.join(rng.permutation(said)) + end)
    return [text.strip() for text in texts], [row % 2 for row in range(rows)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("An old, fine film of 1999 I saw", ["An", "old", "fine", "film", "of", "1999", "saw"]),
        ("Großartig! Ein Café", ["Großartig", "Ein", "Café"]),
        ("这部电影很好。我用iPhone看", ["这部", "部电", "电影", "影很", "很好", "我用", "iPhone", "看"]),
        ("とても面白い", ["とて", "ても", "も面", "面白", "白い"]),
        ("ดีมาก", ["ดี", "ีม", "มา", "าก"]),
        ("यह फिल्म अच्छी है।", ["यह", "फिल्म", "अच्छी", "है"]),
        ("هذا الفيلم رائع.", ["هذا", "الفيلم", "رائع"]),
        ("👍🏽❤️ 👩\u200d👧🇩🇪!", ["👍🏽", "❤️", "👩\u200d👧", "🇩🇪"]),
        ("An English text with 很好 in it", ["An", "English", "text", "with", "很好", "in", "it"]),
        ("هَذَا فِيلْمٌ جَمِيلٌ", ["هَذَا", "فِيلْمٌ", "جَمِيلٌ"]),
        ("סֶרֶט טוֹב", ["סֶרֶט", "טוֹב"]),
        ("m\u0331ore x\u0301", ["m\u0331ore"]),
        ("很好的电影 m\u0331ore", ["很好", "好的", "的电", "电影", "m\u0331ore"]),
        ("!? ... -", []),
        ("I a", []),
    ],
)
def test_words(text: str, expected: list[str]) -> None:
    assert words(text) == expected


@pytest.mark.parametrize("text", ["enchanté, sévère", "rất hay và cảm động", "한국 영화", "パーティー"])
def test_decomposed_text_has_the_same_words(text: str) -> None:
    decomposed = unicodedata.normalize("NFD", text)
    assert decomposed != text
    assert words(decomposed) == words(text)


def test_decomposed_tests_give_the_same_accuracy() -> None:
    texts, labels = corpus("de")
    train = read(texts, labels)
    test = read([unicodedata.normalize("NFD", text) for text in texts], labels, like=train)
    assert list(test.texts) == texts
    fitted = LogisticRegressionClassifier().fit(texts, train.labels, seed=0)
    assert (fitted.predict(list(test.texts)) == fitted.predict(texts)).all()


def test_words_of_spaced_languages_are_those_of_scikit_learn(shared_data: object) -> None:
    texts = list(read(f"{shared_data}/ag_news").texts[:4000]) + corpus("de")[0] + corpus("ar")[0]
    theirs, ours = CountVectorizer(), CountVectorizer(tokenizer=words, token_pattern=None)
    assert (theirs.fit_transform(texts) != ours.fit_transform(texts)).nnz == 0
    assert theirs.vocabulary_ == ours.vocabulary_


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("zh", "这部电影很好看。我非常喜欢！你呢？", ["这部电影很好看。", "我非常喜欢！", "你呢？"]),
        ("ar", "هذا الفيلم رائع جدا. هل شاهدته؟ نعم!", ["هذا الفيلم رائع جدا.", "هل شاهدته؟", "نعم!"]),
        ("hi", "यह फिल्म अच्छी है। मुझे पसंद आई!", ["यह फिल्म अच्छी है।", "मुझे पसंद आई!"]),
        (
            "de",
            "Am 3. Oktober spielt z. B. Dr. Müller. Gut!",
            ["Am 3. Oktober spielt z. B. Dr. Müller.", "Gut!"],
        ),
        ("en", "😀😂 👍🏽", ["😀😂 👍🏽"]),
    ],
)
def test_sentences(language: str, text: str, expected: list[str]) -> None:
    assert sentences(text, language) == expected


@pytest.mark.parametrize("decoder", ["nearest", "extractive", "teaching"])
@pytest.mark.parametrize("language", PHRASES)
def test_every_language_is_distilled_and_learned_from(language: str, decoder: str) -> None:
    texts, labels = corpus(language)
    made = Distiller(per_class=2, max_tokens=32, embedder=HashingEmbedder(), decoder=decoder).distill(
        texts, labels
    )
    assert isinstance(made, DistilledDataset)
    assert len(made) == 4
    assert all(HashingEmbedder().count_tokens([text])[0] <= 32 for text in made.texts)
    if decoder != "nearest":
        whole = {piece for text in texts for piece in sentences(text)}
        assert all(sentence in whole for lineage in made.lineage for sentence in lineage.sentences)
    for classifier in (LogisticRegressionClassifier(), LinearSVMClassifier(), NaiveBayesClassifier()):
        fitted = classifier.fit(list(made.texts), made.labels, seed=0)
        assert np.mean(fitted.predict(texts) == np.array(labels)) >= 0.9


def test_the_command_line_knows_the_language(tmp_path: Path) -> None:
    """German weekdays are abbreviated with a full stop, which ends no sentence."""
    rows = [
        (f"Der Film lief Mo. und Di. im Kino {name}.", label)
        for label in ("gut", "schlecht")
        for name in ("Arri", "Babel", "Cinema")
    ]
    path = tmp_path / "filme.csv"
    path.write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in rows), encoding="utf-8")
    found = {}
    for language in ("de", "en"):
        command = ["distill", str(path), "--per-class", "1", "--embedder", "hashing", "--max-tokens", "14"]
        command += ["--decoder", "extractive", "--language", language]
        folder = ["--output", str(tmp_path / language), "--store", str(tmp_path / "store"), "--no-report"]
        done = CliRunner().invoke(app, [*command, *folder])
        assert done.exit_code == 0, done.output
        found[language] = [
            lineage.sentences for lineage in DistilledDataset.load(tmp_path / language).lineage
        ]
    assert all(sentence.startswith("Der Film lief Mo. und Di. im Kino") for (sentence,) in found["de"])
    assert not any("Di. im Kino" in sentence for sentences_of in found["en"] for sentence in sentences_of)
