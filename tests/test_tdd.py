"""The baselines that hand over a trained model: tdd and lora."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertForMaskedLM, PreTrainedTokenizerFast
from transformers.utils.logging import disable_progress_bar, enable_progress_bar

from dallme import registry
from dallme.baselines.lora import LoRABaseline, find_rank
from dallme.baselines.tdd import Learned, SyntheticTensor, TDDBaseline, distance, train_on, trained_parameters
from dallme.classifiers.text_cnn import TextCNN
from dallme.classifiers.training import pad
from dallme.classifiers.transformer import FittedPretrained
from dallme.classifiers.words import encode
from dallme.cli.main import _status
from dallme.data import LabelledTexts
from dallme.dataset.card import comparison_cells
from dallme.distiller import Distiller
from dallme.embedders.hashing import HashingEmbedder
from dallme.errors import InputError, MissingDependencyError
from dallme.evaluation.compare import Comparison, check_methods, compare
from dallme.evaluation.evaluate import make_classifiers
from dallme.evaluation.results import ResultStore
from dallme.models import word_vectors as word_vector_cache
from dallme.models.word_vectors import load_source

CLASSES = {7: ["good", "great", "fine", "lovely"], -3: ["bad", "awful", "dull", "boring"]}
OTHERS = ["the", "a", "film", "story", "and", "was"]
NAMES = {7: "good", -3: "bad"}
BUDGET = {-3: 2, 7: 1}


def _texts(rows: int, seed: int) -> LabelledTexts:
    """Texts of 4 to 9 words, one or two of which only one class has."""
    rng = np.random.default_rng(seed)
    labels = np.array([(7, -3)[row % 2] for row in range(rows)])
    texts = []
    for label in labels.tolist():
        words = [*rng.choice(OTHERS, rng.integers(3, 8)), *rng.choice(CLASSES[label], rng.integers(1, 3))]
        texts.append(" ".join(rng.permutation(words)))
    return LabelledTexts(texts, labels, NAMES, np.arange(rows))


SOURCE, TEST = _texts(120, 0), _texts(80, 1)


@pytest.fixture(autouse=True, scope="module")
def _quiet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One thread, no bars, and a cache folder of the tests' own."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    disable_progress_bar()
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setattr(word_vector_cache, "cache_folder", lambda: folder)
        yield
    enable_progress_bar()
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def vectors(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A file of word vectors: each class in a direction of its own, other words near zero."""
    rng = np.random.default_rng(0)
    rows = [(word, 2 * np.eye(4)[place]) for place, some in enumerate(CLASSES.values()) for word in some]
    rows += [(word, np.zeros(4)) for word in OTHERS]
    path = tmp_path_factory.mktemp("vectors") / "tiny.txt"
    lines = (
        f"{word} {' '.join(map(str, (vector + rng.normal(scale=0.2, size=4)).round(4)))}\n"
        for word, vector in rows
    )
    path.write_text("".join(lines))
    return str(path)


@pytest.fixture
def cnn(vectors: str) -> Any:
    options = {"num_filters": 16, "filter_sizes": (1, 2), "max_tokens": 10, "device": "cpu", "dropout": 0.0}
    return registry.make("classifiers", f"text-cnn:{vectors}", **options)


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a tiny untrained encoder."""
    words = ["[PAD]", "[UNK]", *OTHERS, *(word for some in CLASSES.values() for word in some)]
    tokenizer = Tokenizer(
        models.WordLevel({word: place for place, word in enumerate(words)}, unk_token="[UNK]")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    folder = str(tmp_path_factory.mktemp("models") / "bert")
    size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        BertForMaskedLM(
            BertConfig(vocab_size=len(words), max_position_embeddings=20, **size)
        ).save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(
        folder
    )
    return folder


@pytest.fixture
def transformer(bert: str) -> Any:
    return registry.make(
        "classifiers", f"transformer:{bert}", device="cpu", precision="float32", steps=2, batch_size=8
    )


#: Steps of a training on matrices.
STEPS = 40
QUICK = TDDBaseline(iterations=20, batch_size=32, rate=0.05, steps=STEPS)


# Matrices


def test_matrices_teach_the_network_what_the_texts_say(cnn: Any) -> None:
    tensor = QUICK.distil(SOURCE, BUDGET, cnn, seed=0)
    assert (tensor.vectors.shape, tensor.vectors.dtype) == ((3, 10, 4), np.float32)
    assert tensor.soft_labels.shape == (3, 2)
    np.testing.assert_allclose(tensor.soft_labels.sum(axis=1), 1, rtol=1e-5)
    assert tensor.classes.tolist() == [-3, 7]
    for seed in (5, 6):  # networks that it was not learned through
        predicted = train_on(tensor, replace(cnn, steps=STEPS), seed=seed).predict(TEST.texts)
        assert np.mean(predicted == TEST.labels) > 0.9


def test_learning_reduces_the_gradient_distance(cnn: Any) -> None:
    start = replace(QUICK, iterations=1, rate=1e-9).distil(SOURCE, BUDGET, cnn, seed=0)
    learned = QUICK.distil(SOURCE, BUDGET, cnn, seed=0)
    good = [text for text, label in zip(TEST.texts, TEST.labels.tolist(), strict=True) if label == 7]
    encoded = encode(good, load_source(cnn.vectors), 10)
    torch.manual_seed(7)
    network = cnn._network(encoded.vectors, 2).eval()
    real = torch.from_numpy(pad(encoded.ids, 10)), torch.ones(len(good), dtype=torch.int64)
    of_class = torch.tensor([2])  # the one of class 7
    apart = [
        distance(
            network,
            Learned(*(torch.from_numpy(array) for array in (one.vectors, np.log(one.soft_labels)))),
            of_class,
            real,
        )
        for one in (start, learned)
    ]
    assert apart[1] < 0.7 * apart[0]


def test_tdd_is_deterministic_and_keeps_the_global_generator(cnn: Any) -> None:
    few, state = replace(QUICK, iterations=3), torch.get_rng_state()
    first, again, other = (few.distil(SOURCE, BUDGET, cnn, seed=seed) for seed in (0, 0, 1))
    for name, values in vars(first).items():
        assert values.tobytes() == getattr(again, name).tobytes()
    assert first.vectors.tobytes() != other.vectors.tobytes()
    found = [few.fit(SOURCE, BUDGET, cnn, seed=0), train_on(first, replace(cnn, steps=STEPS), seed=0)]
    assert found[0].predict(TEST.texts).tolist() == found[1].predict(TEST.texts).tolist()
    assert torch.equal(torch.get_rng_state(), state)


def test_matrices_are_read_as_the_words_they_replace() -> None:
    torch.manual_seed(0)
    vectors = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    vectors[0] = 0  # padding
    network = TextCNN(vectors, num_filters=2, filter_sizes=(1, 2), output_dim=2, dropout=0.5).eval()
    ids, logits = torch.tensor([[1, 2, 3], [4, 5, 1]]), torch.tensor([[0.0, 1.0], [2.0, 0.0]])
    learned = Learned(torch.from_numpy(vectors)[ids], logits)
    expected = -(logits.softmax(1) * network(ids).log_softmax(1)).sum(1)
    torch.testing.assert_close(learned.loss(network, torch.tensor([0, 1])), expected.mean())
    torch.testing.assert_close(learned.loss(network, torch.tensor([1])), expected[1])


def test_gradient_distance_of_equal_and_opposite_gradients() -> None:
    torch.manual_seed(0)
    vectors = np.vstack([np.zeros((1, 3)), np.random.default_rng(0).normal(size=(3, 3))]).astype(np.float32)
    network = TextCNN(vectors, num_filters=2, filter_sizes=(1,), output_dim=2, dropout=0.5).eval()
    ids, classes, rows = torch.tensor([[1, 2, 3]]), torch.tensor([0]), torch.tensor([0])
    words = torch.from_numpy(vectors)[ids]
    sure = torch.tensor([[30.0, -30.0]])
    assert distance(network, Learned(words, sure), rows, (ids, classes)).item() == pytest.approx(0, abs=1e-5)
    assert len(trained_parameters(network)) == 4
    assert distance(network, Learned(words, -sure), rows, (ids, classes)).item() == pytest.approx(8, abs=1e-5)


def test_a_file_says_that_it_cannot_be_read(cnn: Any, tmp_path: Path) -> None:
    tensor = replace(QUICK, iterations=1).distil(SOURCE, BUDGET, cnn, seed=0)
    path = tmp_path / "tensor.safetensors"
    tensor.save(path)
    with safe_open(path, framework="numpy") as file:
        assert '"note": "not readable: scored only by its own model"' in file.metadata()["dallme"]
    loaded = SyntheticTensor.load(path)
    for name, values in vars(tensor).items():
        assert values.tobytes() == getattr(loaded, name).tobytes()
        assert values.dtype == getattr(loaded, name).dtype


def test_another_file_is_an_error(bert: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"found another; write it with SyntheticTensor\.save"):
        SyntheticTensor.load(Path(bert) / "model.safetensors")
    (tmp_path / "x").write_text("no")
    for name in ("x", "none"):
        with pytest.raises(
            InputError, match=f"expected a file of synthetic tensors at .*{name}, found none that can be read"
        ):
            SyntheticTensor.load(tmp_path / name)


def test_other_word_vectors_are_an_error(cnn: Any) -> None:
    tensor = SyntheticTensor(np.zeros((2, 5, 3), np.float32), np.eye(2, dtype=np.float32), np.arange(2))
    with pytest.raises(
        InputError, match="expected word vectors of 3 dimensions, as the tensors were made with, found 4"
    ):
        train_on(tensor, cnn, seed=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"iterations": 0}, "expected iterations to be a whole number of at least 1, found 0"),
        ({"steps": 0}, "expected steps to be a whole number of at least 1, found 0"),
        ({"rate": 0.0}, "expected rate above 0, found 0.0"),
        ({"rate": float("nan")}, "expected rate above 0, found nan"),
    ],
)
def test_options_are_checked(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        TDDBaseline(**options)


def test_more_than_a_class_holds_is_an_error(cnn: Any) -> None:
    with pytest.raises(
        InputError, match=r"expected at least 61 texts in class 7 besides those held out, found"
    ):
        QUICK.fit(SOURCE, {-3: 1, 7: 61}, cnn, seed=0)


# Adapters


def test_a_rank_or_a_share_can_be_given() -> None:
    assert LoRABaseline().share == 0.008
    assert registry.make("baselines", "lora:0.4%").share == 0.004
    assert registry.make("baselines", "lora:8").share is None


@pytest.mark.parametrize("argument", ["0", "-1", "1.5", "x", "0%", "100%", "nan%", "%"])
def test_anything_else_is_an_error(argument: str) -> None:
    with pytest.raises(
        InputError, match=f"expected lora:RANK .* or a share .* such as lora:0.4%, found '{argument}'"
    ):
        registry.make("baselines", f"lora:{argument}")


def test_the_share_of_trained_parameters_is_the_one_asked_for(transformer: Any) -> None:
    pytest.importorskip("peft")
    found = {}
    for share in (0.05, 0.1, 0.2):
        made: Any = LoRABaseline(f"{100 * share:g}%").trainer(transformer, SOURCE, {})
        fitted = made.fit(SOURCE.texts, SOURCE.labels, seed=0)
        assert isinstance(fitted, FittedPretrained)
        assert fitted.trained_share == pytest.approx(share, abs=0.02)  # a rank is a whole number
        found[share] = made.lora_rank
    assert found[0.05] < found[0.1] < found[0.2]
    assert find_rank(transformer, SOURCE, 1e-6) == 1


def test_the_head_counts_as_trained(transformer: Any) -> None:
    pytest.importorskip("peft")
    texts = [f"text number {row}" for row in range(90)]
    source = LabelledTexts(texts, np.arange(90), {row: str(row) for row in range(90)}, np.arange(90))
    share = 0.3

    def distance(rank: int) -> float:
        fitted: Any = replace(transformer, lora_rank=rank).fit(texts, source.labels, seed=0)
        return abs(float(fitted.trained_share) - share)

    rank = find_rank(transformer, source, share)
    assert rank > 1
    assert distance(rank) < min(distance(rank - 1), distance(rank + 1))


def test_a_given_rank_is_taken_as_it_is(transformer: Any) -> None:
    made = LoRABaseline("3").trainer(transformer, SOURCE, {})
    assert made == replace(transformer, lora_rank=3)
    assert LoRABaseline("3").size(SOURCE, BUDGET) == 120


def test_a_missing_package_is_said_before_the_embedding(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(registry, "find_spec", lambda name: None if name == "peft" else find(name))
    with pytest.raises(MissingDependencyError) as caught:
        check_methods(["random", "lora:4"], ["transformer"])
    assert str(caught.value) == (
        "baseline 'lora' needs the package 'peft', which is not installed; run: pip install 'dallme[lora]'"
    )


# The table


def _compare(methods: list[str], judges: dict[str, Any], results: ResultStore | None = None) -> Comparison:
    distiller = Distiller(total=4, embedder=HashingEmbedder())
    return compare(distiller, distiller.run(SOURCE), TEST, methods, judges, results=results)


def test_a_model_fills_its_own_column(
    monkeypatch: pytest.MonkeyPatch, cnn: Any, transformer: Any, vectors: str
) -> None:
    pytest.importorskip("peft")
    monkeypatch.setattr(TDDBaseline.__init__, "__defaults__", (2, 16, 0.02, 10))
    name = f"text-cnn:{vectors}"
    judges = make_classifiers(["nb"]) | {name: replace(cnn, epochs=1), "transformer": transformer}
    table = _compare(["tdd", "random", "lora:2", "full"], judges)
    rows = {row.method: row for row in table.methods}
    assert [(row.method, row.texts, len(row.scores)) for row in table.methods] == [
        ("tdd", 4, 1), ("random", 4, 3), ("lora:2", 120, 1), ("full", 120, 3),
    ]  # fmt: skip
    assert [score.classifier for score in (*rows["tdd"].scores, *rows["lora:2"].scores)] == [
        name,
        "transformer",
    ]
    assert rows["tdd"].scores[0].full_accuracy == rows["full"].scores[1].accuracy
    expected = TDDBaseline().fit(SOURCE, {-3: 2, 7: 2}, judges[name], seed=0).predict(TEST.texts)
    assert rows["tdd"].scores[0].accuracies == (np.mean(expected == TEST.labels),)
    document = table.as_dict()
    empty = dict(document["methods"][0]["results"][0])
    assert empty.pop("classifier") == "naive-bayes"
    assert set(empty) == set(document["methods"][1]["results"][0]) - {"classifier"}
    assert set(empty.values()) == {None}
    head, body = comparison_cells(document)
    assert head == ["method", "texts", "tokens", "naive-bayes", name, "transformer"]
    filled = [[bool(cell) for cell in cells[3:]] for cells in body]
    assert filled == [[False, True, False], [True] * 3, [False, False, True], [True] * 3]


def test_results_are_kept(monkeypatch: pytest.MonkeyPatch, cnn: Any, tmp_path: Path) -> None:
    monkeypatch.setattr(TDDBaseline.__init__, "__defaults__", (2, 16, 0.02, 10))
    results = ResultStore(tmp_path)
    first = _compare(["tdd"], {"text-cnn": cnn}, results)
    monkeypatch.setattr("dallme.baselines.tdd.learn", None)
    assert _compare(["tdd"], {"text-cnn": cnn}, results) == first
    with pytest.raises(TypeError, match="not callable"):
        _compare(["tdd"], {"text-cnn": replace(cnn, num_filters=9)}, results)


def test_a_method_for_none_of_the_classifiers_is_an_error() -> None:
    with pytest.raises(InputError) as caught:
        _compare(["random", "tdd"], dict(make_classifiers(["nb", "svm"])))
    assert str(caught.value) == (
        "expected a classifier that the method 'tdd' can be compared on (text-cnn), found only naive-bayes, linear-svm; "
        "name one, or leave the method out"
    )


def test_the_command_line_says_so_before_it_reads(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [
        "no.csv",
        "--test",
        "no.csv",
        "--total",
        "4",
        "--embedder",
        "hashing",
        "--methods",
        "random,tdd",
    ]
    monkeypatch.setattr("sys.argv", ["dallme", "compare", *options, "--classifiers", "nb"])
    assert _status() == 2
    assert (
        "that the method 'tdd' can be compared on (text-cnn), found only naive-bayes"
        in capsys.readouterr().err
    )


def test_a_model_is_no_method_that_makes_texts() -> None:
    with pytest.raises(
        InputError, match="expected methods that return texts, found 'tdd', which returns a model"
    ):
        check_methods(["random", "tdd"])
    with pytest.raises(InputError, match="expected a baseline that selects texts, found TDDBaseline"):
        TDDBaseline().select(SOURCE, None, BUDGET, seed=0)
