"""What an inverter's language model is started from, and the presets that say how large and how long."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dallme.decoders.vec2text.model import FILE, train_tokenizer
from dallme.embedders.base import Embedder
from dallme.errors import DallmeError, InputError, UnknownNameError
from dallme.models.checking import check_transformer
from dallme.models.devices import quiet_loading
from dallme.models.language import Weights, find_model, load_causal, load_seq2seq
from dallme.models.locate import SENTENCE_TRANSFORMERS, locate

if TYPE_CHECKING:
    import numpy as np
#: Bases that are no model of their own: a small one that knows nothing, and the embedder's own transformer.
OWN_BASES = ("scratch", "embedder")

#: Ids of the special tokens of our own tokenizer.
PAD, BOS, EOS = range(3)

#: Token vectors of a new model are drawn with this standard deviation.
_INITIAL_STD = 0.02


@dataclass(frozen=True)
class Preset:
    """A size of inverter.

    Attributes:
        hidden: Width of a model from scratch.
        layers: Its depth.
        pieces: Most pieces of our own tokenizer.
        max_tokens: Tokens that are learnt of a text, its end included.
        pseudo_tokens: Vectors of the model's width that one embedding becomes.
        steps: Optimizer steps of the hypothesizer, then of the corrector.
        batch_size: Texts a step.
        base: What the language model is started from.
    """

    hidden: int
    layers: int
    pieces: int
    max_tokens: int
    pseudo_tokens: int
    steps: tuple[int, int]
    batch_size: int
    base: str


PRESETS = {
    "tiny": Preset(128, 2, 2_000, 64, 4, (600, 200), 32, "scratch"),
    "small": Preset(384, 6, 6_500, 64, 4, (20_000, 10_000), 32, "embedder"),
    "base": Preset(768, 12, 16_000, 128, 16, (100_000, 100_000), 128, "t5-base"),
}


def find_preset(name: str) -> Preset:
    """The preset of that name.

    Raises:
        UnknownNameError: If there is none.
    """
    if name not in PRESETS:
        raise UnknownNameError("preset", name, PRESETS)
    return PRESETS[name]


def make_base(base: str, texts: Sequence[str], embedder: Embedder, *, preset: Preset) -> tuple[Any, Any, str]:
    """A language model to start from.

    Args:
        base: ``scratch``: a small Llama with random weights; ``embedder``: the embedder's own transformer as a decoder, its
            weights and the mean of its token vectors as a start; ``vec2text`` or the folder of an inverter: the language model
            of the one that comes with the package, or of that one; else a Hub id, a folder or ``smollm2``. The first two get
            a tokenizer of their own, trained on the texts: cased, so that what the embedder does not see can be written.
        texts: What our own tokenizer is trained on.
        embedder: The embedder, for ``embedder``.
        preset: The size.

    Returns:
        The model in float32 on the CPU, its tokenizer, and its kind (:data:`~dallme.decoders.vec2text.model.KINDS`). Weights
        that are new are drawn from torch's generator.

    Raises:
        DallmeError: If there is no such model, or the embedder's is of a kind that cannot write.
    """
    if base == "scratch":
        tokenizer = train_tokenizer(texts, preset.pieces)
        return _from_scratch(tokenizer, preset), tokenizer, "causal"
    if base == "embedder":
        return *_from_embedder(texts, embedder, preset), "causal"
    if base == "vec2text" or (Path(base).expanduser() / FILE).is_file():
        return _from_inverter(base)
    place = find_model(base)
    if place.gguf is None and _is_encoder_decoder(place):
        return *load_seq2seq(base), "seq2seq"
    model, tokenizer = load_causal(base)
    for name in ("bos_token_id", "eos_token_id"):
        if getattr(model.config, name, None) is None:
            setattr(model.config, name, getattr(tokenizer, name) or tokenizer.eos_token_id)
    return model, tokenizer, "causal"


def _is_encoder_decoder(place: Weights) -> bool:
    """Whether a model turns one text into another, by its configuration."""
    from transformers import AutoConfig

    try:
        return bool(AutoConfig.from_pretrained(**place.arguments).is_encoder_decoder)
    except (
        Exception
    ) as error:  # transformers raises many kinds: no configuration, a model that is none of its own
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DallmeError(
            f"expected a model that writes in {str(place.folder)!r}, could not read its configuration: {reason}"
        ) from error


def _from_inverter(base: str) -> tuple[Any, Any, str]:
    """The language model of an inverter, which writes already; what its vectors were read with is left behind."""
    from dallme.decoders.vec2text.checkpoint import load
    from dallme.decoders.vec2text.inverter import find_inverter

    model, tokenizer, config = load(find_inverter("" if base == "vec2text" else base), "cpu")
    return model.language_model, tokenizer, config.kind


def _special_ids() -> dict[str, Any]:
    return {"pad_token_id": PAD, "bos_token_id": BOS, "eos_token_id": EOS}


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
        **_special_ids(),
    )
    return LlamaForCausalLM(config)


def _from_embedder(texts: Sequence[str], embedder: Embedder, preset: Preset) -> tuple[Any, Any]:
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    name = getattr(embedder, "model", None)
    if not isinstance(name, str):
        raise InputError(
            f"expected an embedder that is a transformer for the base 'embedder', found {embedder.name!r}; use scratch"
        )
    folder = locate(name, SENTENCE_TRANSFORMERS)
    check_transformer(folder)
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        config.is_decoder = True
        for dropout in (
            "hidden_dropout_prob",
            "attention_probs_dropout_prob",
        ):  # texts are seen a few times only
            setattr(config, dropout, 0.0)
        with _silent(), quiet_loading():
            model: Any = AutoModelForCausalLM.from_pretrained(
                folder,
                config=config,
                local_files_only=True,
                use_safetensors=True,
                trust_remote_code=False,
                dtype="float32",
            )
        theirs = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # transformers raises many kinds: no configuration, a model without a decoder
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DallmeError(
            f"expected an embedder like BERT for the base 'embedder', found {name!r}: {reason}; use scratch"
        ) from error
    tokenizer = train_tokenizer(texts, preset.pieces)
    start = _mean_vectors(tokenizer, theirs, model.get_input_embeddings().weight.detach().numpy())
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    _set_token_vectors(model, start)
    model.config.update(_special_ids())
    model.generation_config.update(**_special_ids())
    return model, tokenizer


@contextmanager
def _silent() -> Iterator[None]:
    """Keeps transformers from telling that the embedder has no head that writes: it gets one."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def _mean_vectors(ours: Any, theirs: Any, vectors: np.ndarray) -> np.ndarray:
    """For each of our pieces the mean of the vectors of the tokens that the other tokenizer makes of its string."""
    import numpy as np

    strings = [ours.decode([piece]) for piece in range(len(ours))]
    found = np.random.default_rng(0).normal(0, _INITIAL_STD, (len(ours), vectors.shape[1])).astype(np.float32)
    for piece, ids in enumerate(theirs(strings, add_special_tokens=False)["input_ids"]):
        known = [each for each in ids if each != theirs.unk_token_id]
        if piece > EOS and known:
            found[piece] = vectors[known].mean(axis=0)
    return found


def _set_token_vectors(model: Any, vectors: np.ndarray) -> None:
    import torch

    with torch.no_grad():
        model.get_input_embeddings().weight.copy_(torch.from_numpy(vectors))
    padding = model.get_input_embeddings().padding_idx
    if padding is not None:
        model.get_input_embeddings().padding_idx = PAD
    model.tie_weights()
