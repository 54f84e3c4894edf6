"""TextCNN and TextRNN: the networks of the paper's listings, over words that are looked up once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence
from transformers import get_linear_schedule_with_warmup

from dallme import registry
from dallme.classifiers import words as neural_words
from dallme.classifiers.text_cnn import TextCNN, TextCNNClassifier
from dallme.classifiers.text_rnn import TextRNN, TextRNNClassifier
from dallme.classifiers.training import _share_of_peak
from dallme.classifiers.words import UNKNOWN, WordClassifier, encode, split_words
from dallme.errors import InputError
from dallme.models import word_vectors as word_vector_cache
from dallme.models.word_vectors import load_source

#: Each class has words in a direction of its own; the others are short.
CLASSES = {
    7: ["good", "great", "fine", "lovely"],
    -3: ["bad", "awful", "dull", "boring"],
    40: ["team", "cup", "goal", "coach"],
}
OTHERS = ["the", "film", ".", "do", "n't", "'s", "Paris", "paris"]


def _write_vectors(path: Path, seed: int = 0) -> str:
    rng = np.random.default_rng(seed)
    rows = [(word, 3 * np.eye(6)[place]) for place, some in enumerate(CLASSES.values()) for word in some]
    rows += [(word, np.zeros(6)) for word in OTHERS]
    noisy = [(word, (vector + rng.normal(scale=0.3, size=6)).round(4)) for word, vector in rows]
    path.write_text("".join(f"{word} {' '.join(map(str, vector))}\n" for word, vector in noisy))
    return str(path)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    return _write_vectors(tmp_path_factory.mktemp("vectors") / "tiny.txt")


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A cache folder of the test's own."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setattr(word_vector_cache, "cache_folder", lambda: folder)
        yield folder


@pytest.fixture(params=["text-cnn", "text-rnn"])
def classifier(request: pytest.FixtureRequest, source: str) -> WordClassifier:
    made: WordClassifier = registry.make(
        "classifiers", f"{request.param}:{source}", device="cpu", precision="float32"
    )
    return made


#: Texts of the first two words of each class; the others are left for the test.
TEXTS = [f"The {one} film." for some in CLASSES.values() for one in some[:2]] + [
    f"{some[0]} the {some[1]}, {some[1]}!" for some in CLASSES.values()
]
LABELS = np.array([label for label in CLASSES for _ in range(2)] + list(CLASSES))
TEST = [f"The film do {word} the film" for some in CLASSES.values() for word in some[2:]]
EXPECTED = [label for label in CLASSES for _ in range(2)]
STRANGE = ["xyzzy", "good", "<br />", "很好看", "xyzzy " * 200 + "good", "film " * 130, "a\u0300 😀"]


# Words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A fine film, isn't it?", ["A", "fine", "film", ",", "is", "n't", "it", "?"]),
        ("Don't! WON'T!", ["Do", "n't", "!", "WO", "N'T", "!"]),
        ("film's they're I'd 'quoted'", ["film", "'s", "they", "'re", "I", "'d", "'", "quoted", "'"]),
        ("good<br /><br />bad &amp; dull", ["good", "bad", "&", "dull"]),
        ("well-made 3.5", ["well", "-", "made", "3", ".", "5"]),
        ("n't", ["n't"]),
        ("很好 café", ["很好", "café"]),
    ],
)
def test_a_text_is_cut_as_glove_was(text: str, expected: list[str]) -> None:
    assert list(split_words(text, 128)) == expected
    assert list(split_words(text, 2)) == expected[:2]


def test_words_become_rows_of_their_vectors(source: str) -> None:
    words = load_source(source)
    encoded = encode(["Good film xyzzy", "PARIS Paris good", "<br />"], words, limit=3)
    rows = sorted(words.rows[word] for word in ("good", "film", "Paris", "paris"))
    at = {word: rows.index(words.rows[word]) + 2 for word in ("good", "film", "Paris", "paris")}
    assert [ids.tolist() for ids in encoded.ids] == [
        [at["good"], at["film"], UNKNOWN],
        [at["paris"], at["Paris"], at["good"]],  # as it is written, then in lower case
        [UNKNOWN],
    ]
    assert encoded.lengths.tolist() == [3, 3, 1]
    assert encoded.vectors.dtype == np.float32
    np.testing.assert_array_equal(
        encoded.vectors, np.vstack([np.zeros((2, 6)), words.vectors[rows]]).astype(np.float32)
    )


def test_the_last_two_sets_of_texts_are_cut_once(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cut: list[str] = []
    monkeypatch.setattr(neural_words, "split_words", lambda text, limit: [cut.append(text)] and text.split())
    words = load_source(source)
    train, test = ["one set", "of texts"], ["a test set"]
    for _ in range(3):
        encode(list(train), words, 128)
        encode(list(test), words, 128)
    assert cut == train + test
    encode(train, words, 64)
    assert cut == train + test + train
    encode(test, load_source(source), 128)
    assert cut == train + test + train + test


# The networks of the listings

VECTORS = np.random.default_rng(1).normal(size=(9, 5)).astype(np.float32)
VECTORS[:2] = 0
IDS = torch.tensor([[2, 3, 4, 1, 6, 7, 8], [5, 0, 0, 0, 0, 0, 0], [8, 2, 1, 3, 0, 0, 0]])


def _cnn(**options: Any) -> TextCNN:
    torch.manual_seed(0)
    return TextCNN(
        VECTORS, **{"num_filters": 4, "filter_sizes": (2, 3), "output_dim": 3, "dropout": 0.5} | options
    ).eval()


def _rnn(**options: Any) -> TextRNN:
    torch.manual_seed(0)
    defaults = {"hidden_dim": 6, "output_dim": 3, "n_layers": 2, "bidirectional": True, "dropout": 0.5}
    return TextRNN(VECTORS, **defaults | options).eval()


def _shapes(network: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in network.state_dict().items()}


def test_text_cnn_has_the_parameters_of_the_listing() -> None:
    network = _cnn()
    assert _shapes(network) == {
        "embedding.weight": (9, 5),
        "convs.0.weight": (4, 1, 2, 5),
        "convs.0.bias": (4,),
        "convs.1.weight": (4, 1, 3, 5),
        "convs.1.bias": (4,),
        "fc.weight": (3, 8),
        "fc.bias": (3,),
    }
    trained = sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
    assert trained == (4 * 2 * 5 + 4) + (4 * 3 * 5 + 4) + (3 * 8 + 3)


def test_text_rnn_has_the_parameters_of_the_listing() -> None:
    network = _rnn()
    expected: dict[str, tuple[int, ...]] = {"embedding.weight": (9, 5)}
    for layer, width in ((0, 5), (1, 12)):
        for suffix in ("", "_reverse"):
            expected |= {
                f"rnn.weight_ih_l{layer}{suffix}": (24, width),
                f"rnn.weight_hh_l{layer}{suffix}": (24, 6),
                f"rnn.bias_ih_l{layer}{suffix}": (24,),
                f"rnn.bias_hh_l{layer}{suffix}": (24,),
            }
    assert _shapes(network) == expected | {"fc.weight": (3, 12), "fc.bias": (3,)}
    trained = sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
    assert trained == 2 * 4 * 6 * (5 + 6 + 2) + 2 * 4 * 6 * (12 + 6 + 2) + (3 * 12 + 3)
    assert _shapes(_rnn(n_layers=1, bidirectional=False))["fc.weight"] == (3, 6)


def test_text_cnn_computes_what_the_listing_does() -> None:
    network = _cnn()
    embedded = network.embedding(functional.pad(IDS, (0, 3))).unsqueeze(1)
    convolved = [functional.relu(conv(embedded)).squeeze(3) for conv in network.convs]
    pooled = [functional.max_pool1d(values, values.shape[2]).squeeze(2) for values in convolved]
    torch.testing.assert_close(network(IDS), network.fc(torch.cat(pooled, dim=1)))


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("layers", [1, 2, 3])
def test_text_rnn_computes_what_packed_sequences_do(layers: int, bidirectional: bool) -> None:
    network = _rnn(n_layers=layers, bidirectional=bidirectional)
    packed = pack_padded_sequence(
        network.embedding(IDS), torch.tensor([7, 1, 4]), batch_first=True, enforce_sorted=False
    )
    hidden = network.rnn(packed)[1][0]
    expected = network.fc(torch.cat([hidden[-2], hidden[-1]], dim=1) if bidirectional else hidden[-1])
    torch.testing.assert_close(network(IDS), expected)
    parameters = list(network.rnn.parameters())
    for ours, theirs in zip(
        torch.autograd.grad(network(IDS).square().sum(), parameters),
        torch.autograd.grad(expected.square().sum(), parameters),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("network", [_cnn(num_filters=64), _rnn()], ids=["cnn", "rnn"])
def test_more_padding_changes_nothing(network: torch.nn.Module) -> None:
    expected = network(IDS)
    torch.testing.assert_close(network(functional.pad(IDS, (0, 40))), expected)
    torch.testing.assert_close(network(IDS[1:2, :1]), expected[1:2])
    torch.testing.assert_close(network(IDS[2:, :4]), expected[2:])
    assert not torch.allclose(network(IDS[2:, :3]), expected[2:])  # a word less does


@pytest.mark.parametrize("network", [_cnn(), _rnn()], ids=["cnn", "rnn"])
def test_dropout_is_for_training_only(network: torch.nn.Module) -> None:
    torch.testing.assert_close(network(IDS), network(IDS), rtol=0, atol=0)
    assert not torch.allclose(network.train()(IDS), network(IDS))
    network.eval()


# The classifiers


def test_what_a_class_is_called_is_learned_from_words_like_it(classifier: WordClassifier) -> None:
    fitted = classifier.fit(TEXTS, LABELS, seed=0)
    assert fitted.predict(TEXTS).tolist() == LABELS.tolist()
    predicted = fitted.predict(TEST)  # none of these words of a class is in the training texts
    assert predicted.tolist() == EXPECTED
    assert predicted.dtype == np.int64


def test_the_defaults_learn_this_too(source: str) -> None:
    for kind in (TextCNNClassifier, TextRNNClassifier):
        assert kind(vectors=source).fit(TEXTS, LABELS, seed=0).predict(TEST).tolist() == EXPECTED


def test_the_word_vectors_are_not_trained(classifier: WordClassifier) -> None:
    encoded = encode(TEXTS, classifier._words, 128)
    before = encoded.vectors.copy()
    network = classifier.fit(TEXTS, LABELS, seed=0).network
    np.testing.assert_array_equal(network.embedding.weight.numpy(), before)
    assert not network.embedding.weight.requires_grad


def test_the_same_seed_gives_the_same_bytes(classifier: WordClassifier) -> None:
    first, second, other = (classifier.fit(TEXTS, LABELS, seed=seed) for seed in (3, 3, 4))
    assert first.predict(STRANGE).tobytes() == second.predict(STRANGE).tobytes()
    states = [fitted.network.state_dict() for fitted in (first, second, other)]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not torch.equal(states[0]["fc.weight"], states[2]["fc.weight"])


def test_the_random_numbers_of_the_user_stay_as_they_are(classifier: WordClassifier) -> None:
    torch.manual_seed(11)
    np.random.seed(11)  # noqa: NPY002 - the global state is what is looked at
    before = torch.random.get_rng_state().clone(), np.random.get_state()[1].tolist()  # noqa: NPY002
    classifier.fit(TEXTS, LABELS, seed=0).predict(TEST)
    assert torch.equal(torch.random.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]  # noqa: NPY002


def test_texts_of_unknown_words_are_trained_on_and_predicted(classifier: WordClassifier) -> None:
    fitted = classifier.fit([*TEXTS, *STRANGE], np.append(LABELS, [7] * len(STRANGE)), seed=0)
    assert fitted.predict(["xyzzy", "qwertz", "<p></p>"]).tolist() == [7, 7, 7]
    assert set(classifier.fit(["xyzzy", "<br />"], np.array([1, 2]), seed=0).predict(STRANGE).tolist()) <= {
        1,
        2,
    }


def test_only_the_first_words_are_read(classifier: WordClassifier) -> None:
    fitted = classifier.fit(TEXTS, LABELS, seed=0)
    start = "good " * 128
    assert fitted.predict([start, start + "team cup goal " * 90]).tolist() == [7, 7]
    assert encode([start + "team"], classifier._words, classifier.max_tokens).lengths.tolist() == [128]


def test_a_text_is_predicted_the_same_in_any_batch(
    classifier: WordClassifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted = classifier.fit(TEXTS, LABELS, seed=0)
    rng = np.random.default_rng(0)
    known = [word for some in CLASSES.values() for word in some] + OTHERS
    texts = STRANGE + [" ".join(rng.choice(known, size=size)) for size in rng.integers(1, 60, size=60)]
    together = fitted.predict(texts).tolist()
    assert set(together) == set(CLASSES)
    assert [fitted.predict([text])[0] for text in texts] == together
    monkeypatch.setattr(neural_words, "_PREDICT_TOKENS", 100)
    assert fitted.predict(texts[::-1]).tolist() == together[::-1]


@pytest.mark.parametrize(("warmup", "total"), [(0, 1), (0, 80), (8, 80), (1, 2)])
def test_the_schedule_is_the_linear_one_of_transformers(warmup: int, total: int) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    shares = get_linear_schedule_with_warmup(optimizer, warmup, total).lr_lambdas[0]
    assert [_share_of_peak(step, warmup, total) for step in range(total + 1)] == [
        shares(step) for step in range(total + 1)
    ]


# Options and word vectors


def test_the_name_takes_the_word_vectors(source: str) -> None:
    assert registry.make("classifiers", f"text-rnn:{source}", layers=2) == TextRNNClassifier(
        vectors=source, layers=2
    )
    assert registry.make("classifiers", "text-cnn").vectors == "6B.50d"


def test_missing_word_vectors_are_noticed_before_training(classifier: WordClassifier) -> None:
    classifier.find()
    with pytest.raises(
        InputError, match="^expected word vectors as 6B.50d, .*, found 'no-such.txt', which is none of these"
    ):
        type(classifier)(vectors="no-such.txt").find()


def test_the_description_holds_the_content_of_the_word_vectors(
    classifier: WordClassifier, tmp_path: Path
) -> None:
    copy = type(classifier)(**{**vars(classifier), "vectors": _write_vectors(tmp_path / "copy.txt")})
    other = type(classifier)(
        **{**vars(classifier), "vectors": _write_vectors(tmp_path / "other.txt", seed=1)}
    )
    described = classifier.describe()
    assert described["class"] == type(classifier).__name__
    assert described["vectors"] == classifier._words.content
    assert copy.describe() == described
    assert other.describe() != described


def test_a_file_that_changed_is_read_again(classifier: WordClassifier, tmp_path: Path) -> None:
    changing = type(classifier)(vectors=_write_vectors(tmp_path / "changing.txt"))
    first = changing._words
    assert changing._words is first
    _write_vectors(tmp_path / "changing.txt", seed=1)
    assert changing._words.content != first.content


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (
            TextCNNClassifier,
            {"num_filters": 0},
            "expected num_filters to be a whole number of at least 1, found 0",
        ),
        (
            TextCNNClassifier,
            {"filter_sizes": (3, 0)},
            "expected filter_sizes to be a whole number of at least 1, found 0",
        ),
        (TextCNNClassifier, {"filter_sizes": ()}, "expected at least one width in filter_sizes, found none"),
        (TextCNNClassifier, {"dropout": 1.0}, "expected dropout as a share in [0, 1), found 1.0"),
        (
            TextRNNClassifier,
            {"hidden_dim": -1},
            "expected hidden_dim to be a whole number of at least 1, found -1",
        ),
        (TextRNNClassifier, {"layers": 0}, "expected layers to be a whole number of at least 1, found 0"),
        (TextRNNClassifier, {"dropout": -0.1}, "expected dropout as a share in [0, 1), found -0.1"),
        (TextRNNClassifier, {"steps": 0}, "expected steps to be a whole number of at least 1, found 0"),
    ],
)
def test_options_that_make_no_sense_are_errors(kind: type, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        kind(**options)
    assert str(caught.value) == message
