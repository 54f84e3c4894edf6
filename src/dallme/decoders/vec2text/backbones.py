"""Options and presets of a training, and the language models that it starts from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dallme.decoders.vec2text.model import FILE, train_tokenizer
from dallme.embedders.base import Embedder
from dallme.errors import DallmeError, InputError, UnknownNameError, first_line
from dallme.models.checking import check_transformer
from dallme.models.devices import check_device, quiet_loading
from dallme.models.language import Weights, find_model, load_causal, load_seq2seq
from dallme.models.locate import SENTENCE_TRANSFORMERS, locate
from dallme.validation import check_positive, check_seed

if TYPE_CHECKING:
    import numpy as np

#: Ids of the special tokens of our own tokenizer.
PAD, BOS, EOS = range(3)
_SPECIAL_IDS: dict[str, Any] = {"pad_token_id": PAD, "bos_token_id": BOS, "eos_token_id": EOS}

#: Standard deviation of the token vectors of a new model.
_INITIAL_STD = 0.02


@dataclass(frozen=True)
class Preset:
    """Size and length of a training.

    Attributes:
        hidden: Width of a model from scratch.
        layers: Depth of a model from scratch.
        pieces: Size of the vocabulary of our own tokenizer.
        max_tokens: Tokens of a training text, its end included.
        pseudo_tokens: Vectors of the model's width that one embedding becomes.
        steps: Optimizer steps of the hypothesizer and of the corrector.
        batch_size: Texts per step.
        base: Default base.
        drafts: Maximum number of training texts whose own hypotheses the corrector learns to correct.
    """

    hidden: int
    layers: int
    pieces: int
    max_tokens: int
    pseudo_tokens: int
    steps: tuple[int, int]
    batch_size: int
    base: str
    drafts: int = 4_000


PRESETS = {
    "tiny": Preset(128, 2, 2_000, 64, 4, (600, 200), 32, "scratch"),
    "small": Preset(384, 6, 6_500, 64, 4, (20_000, 10_000), 32, "embedder"),
    "base": Preset(768, 12, 16_000, 128, 16, (100_000, 100_000), 128, "t5-base", 1_000_000),
}


def find_preset(name: str) -> Preset:
    """Returns the preset of that name.

    Raises:
        UnknownNameError: If there is none.
    """
    if name not in PRESETS:
        raise UnknownNameError("preset", name, PRESETS)
    return PRESETS[name]


#: Share of the time for the hypothesizer if a corrector is trained as well.
_FIRST_SHARE = 0.6

#: Peak learning rates: of a new model, of a model that was no decoder before, and of a trained language
#: model.
_LEARNING_RATES = {"scratch": 1e-3, "embedder": 5e-4}
_LEARNING_RATE = 2e-4

#: Options that are whole numbers of at least 1.
_POSITIVE = (
    "steps", "epochs", "batch_size", "max_tokens", "lora_rank", "drafts", "patience", "save_every",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """Options of a training; None stands for the default of the preset or the base.

    Attributes:
        preset: One of :data:`PRESETS`.
        base: Model that the language model starts from, see :func:`make_base`.
        correct: Whether a corrector is trained after the hypothesizer.
        steps: Optimizer steps of each stage.
        epochs: Passes over the texts in each stage, in place of `steps`.
        minutes: Time of both stages together, in place of `steps`; such a training is not reproducible byte
            by byte.
        batch_size: Texts per step.
        learning_rate: Peak of the linear schedule.
        max_tokens: Tokens of a training text, its end included.
        noise: Length of the Gaussian noise added to the target vectors.
        dropout: Dropout rate, in [0, 1), where the base has such layers.
        prompt: Task prompt that the texts are embedded with: a template's name or a text.
        passages: Passages of each text that are trained on as well: whole sentences from a random one on.
        lora_rank: Rank of LoRA adapters, in place of training all weights.
        drafts: Maximum number of training texts whose own hypotheses the corrector learns to correct; by
            default 4,000, and practically all with the preset ``base``.
        patience: Measurements (ten per stage) without a better BLEU or a lower loss after which a stage ends.
        save_every: Steps between checkpoints.
        seed: Seed of all random choices.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        precision: ``auto``, ``bfloat16`` or ``float32``.
    """

    preset: str = "small"
    base: str | None = None
    correct: bool = True
    steps: int | None = None
    epochs: int | None = None
    minutes: float | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    max_tokens: int | None = None
    noise: float = 0.0
    dropout: float = 0.1
    prompt: str | None = None
    passages: int = 0
    lora_rank: int | None = None
    drafts: int | None = None
    patience: int = 4
    save_every: int = 200
    seed: int = 0
    device: str = "auto"
    precision: str = "auto"

    def __post_init__(self) -> None:
        """Checks the options; nothing is loaded."""
        find_preset(self.preset)
        check_seed(self.seed)
        check_device(self.device, self.precision)
        for name in _POSITIVE:
            if getattr(self, name) is not None:
                check_positive(getattr(self, name), name)
        lengths = [name for name in ("steps", "epochs", "minutes") if getattr(self, name) is not None]
        if len(lengths) > 1:
            raise InputError(f"expected one of steps, epochs and minutes, found {' and '.join(lengths)}")
        for name in ("minutes", "learning_rate"):
            if (value := getattr(self, name)) is not None and not value > 0:
                raise InputError(f"expected {name} above 0, found {value!r}")
        if not 0 <= self.dropout < 1:
            raise InputError(f"expected dropout in [0, 1), found {self.dropout!r}")
        if self.passages:
            check_positive(self.passages, "passages")
        if not 0 <= self.noise < float("inf"):
            raise InputError(f"expected noise of at least 0, found {self.noise!r}")

    def resolved(self) -> TrainingOptions:
        """Returns the options with the defaults of preset and base, except the length of the training."""
        preset = find_preset(self.preset)
        base = self.base or preset.base
        return replace(
            self,
            base=base,
            batch_size=self.batch_size or preset.batch_size,
            max_tokens=self.max_tokens or preset.max_tokens,
            drafts=self.drafts or preset.drafts,
            learning_rate=self.learning_rate or _LEARNING_RATES.get(base, _LEARNING_RATE),
        )

    def stage_steps(self, stage: int, rows: int) -> int | None:
        """Returns the optimizer steps of stage 1 or 2 on that many texts; None if the time is given."""
        if self.minutes is not None:
            return None
        if self.epochs is not None:
            assert self.batch_size is not None
            return self.epochs * -(-rows // self.batch_size)
        return self.steps or find_preset(self.preset).steps[stage - 1]

    def stage_seconds(self, stage: int) -> float | None:
        """Returns the seconds of stage 1 or 2; None if the steps are given."""
        if self.minutes is None:
            return None
        share = 1.0 if not self.correct else _FIRST_SHARE if stage == 1 else 1 - _FIRST_SHARE
        return self.minutes * 60 * share


def make_base(base: str, texts: Sequence[str], embedder: Embedder, *, preset: Preset) -> tuple[Any, Any, str]:
    """Makes a language model to start from.

    Args:
        base: One of these. ``scratch``: a small Llama with random weights. ``embedder``: the embedder's own
            transformer as a decoder. ``vec2text`` or the folder of an inverter: its language model. Otherwise
            a Hub id, a folder or ``smollm2``. The first two get a cased tokenizer of their own, trained on
            the texts.
        texts: Training texts of our own tokenizer.
        embedder: The embedder, for the base ``embedder``.
        preset: The size.

    Returns:
        The model in float32 on the CPU, its tokenizer, and its kind
        (:data:`~dallme.decoders.vec2text.model.KINDS`). New weights are drawn from torch's generator.

    Raises:
        DallmeError: If there is no such model, or the embedder's cannot be a decoder.
    """
    if base == "scratch":
        tokenizer = train_tokenizer(texts, preset.pieces)
        return _from_scratch(tokenizer, preset), tokenizer, "causal"
    if base == "embedder":
        return *_from_embedder(texts, embedder, preset), "causal"
    if base == "vec2text" or (Path(base).expanduser() / FILE).is_file():
        from dallme.decoders.vec2text.checkpoint import load
        from dallme.decoders.vec2text.inverter import find_inverter

        model, tokenizer, config = load(find_inverter("" if base == "vec2text" else base), "cpu")
        return model.language_model, tokenizer, config.kind
    weights = find_model(base)
    if weights.gguf is None and _is_encoder_decoder(weights):
        return *load_seq2seq(base), "seq2seq"
    language_model, tokenizer = load_causal(base)
    for name in ("bos_token_id", "eos_token_id"):
        if getattr(language_model.config, name, None) is None:
            setattr(language_model.config, name, getattr(tokenizer, name) or tokenizer.eos_token_id)
    return language_model, tokenizer, "causal"


def _is_encoder_decoder(weights: Weights) -> bool:
    from transformers import AutoConfig

    try:
        return bool(AutoConfig.from_pretrained(**weights.arguments).is_encoder_decoder)
    except Exception as error:  # transformers raises many kinds
        raise DallmeError(
            f"expected a model that writes in {str(weights.folder)!r}, "
            f"could not read its configuration: {first_line(error)}"
        ) from error


def _from_scratch(tokenizer: Any, preset: Preset) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=preset.hidden,
        intermediate_size=preset.hidden * 8 // 3 // 64 * 64,
        num_hidden_layers=preset.layers,
        num_attention_heads=max(2, preset.hidden // 64),
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        **_SPECIAL_IDS,
    )
    return LlamaForCausalLM(config)


def _from_embedder(texts: Sequence[str], embedder: Embedder, preset: Preset) -> tuple[Any, Any]:
    """Makes a decoder of the embedder's transformer; new token vectors are means of its own."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    name = getattr(embedder, "model", None)
    if not isinstance(name, str):
        raise InputError(
            "expected an embedder that is a transformer for the base 'embedder', "
            f"found {embedder.name!r}; use scratch"
        )
    folder = locate(name, SENTENCE_TRANSFORMERS)
    check_transformer(folder)
    local: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    try:
        config = AutoConfig.from_pretrained(folder, **local)
        config.is_decoder = True
        # Texts are seen only a few times.
        for dropout in ("hidden_dropout_prob", "attention_probs_dropout_prob"):
            setattr(config, dropout, 0.0)
        with _silent(), quiet_loading():
            model: Any = AutoModelForCausalLM.from_pretrained(
                folder, config=config, use_safetensors=True, dtype="float32", **local
            )
        embedder_tokenizer = AutoTokenizer.from_pretrained(folder, **local)
    except Exception as error:  # transformers raises many kinds
        raise DallmeError(
            f"expected an embedder like BERT for the base 'embedder', found {name!r}: "
            f"{first_line(error)}; use scratch"
        ) from error
    tokenizer = train_tokenizer(texts, preset.pieces)
    vectors = model.get_input_embeddings().weight.detach().numpy()
    initial = _mean_vectors(tokenizer, embedder_tokenizer, vectors)
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    _set_token_vectors(model, initial)
    model.config.update(_SPECIAL_IDS)
    model.generation_config.update(**_SPECIAL_IDS)
    return model, tokenizer


@contextmanager
def _silent() -> Iterator[None]:
    """Silences the warning of transformers that the embedder has no language-model head: it gets one."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def _mean_vectors(tokenizer: Any, embedder_tokenizer: Any, vectors: np.ndarray) -> np.ndarray:
    """For each piece of our tokenizer, the mean vector of the embedder's tokens of its string."""
    import numpy as np

    strings = [tokenizer.decode([piece]) for piece in range(len(tokenizer))]
    rng = np.random.default_rng(0)
    initial = rng.normal(0, _INITIAL_STD, (len(tokenizer), vectors.shape[1])).astype(np.float32)
    encoded = embedder_tokenizer(strings, add_special_tokens=False)["input_ids"]
    for piece, ids in enumerate(encoded):
        known = [each for each in ids if each != embedder_tokenizer.unk_token_id]
        if piece > EOS and known:
            initial[piece] = vectors[known].mean(axis=0)
    return initial


def _set_token_vectors(model: Any, vectors: np.ndarray) -> None:
    import torch

    embeddings = model.get_input_embeddings()
    with torch.no_grad():
        embeddings.weight.copy_(torch.from_numpy(vectors))
    if embeddings.padding_idx is not None:
        embeddings.padding_idx = PAD
    model.tie_weights()
