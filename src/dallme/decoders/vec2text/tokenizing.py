"""Tokenizers of our own: trained on the texts, and read again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


def train_tokenizer(texts: Sequence[str], pieces: int) -> PreTrainedTokenizerFast:
    """Trains a cased byte-level BPE, which can write every text.

    Args:
        texts: What it is trained on.
        pieces: Most pieces, the special ones (padding, begin, end) and the 256 bytes included.

    Returns:
        The tokenizer; it adds no special tokens by itself.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=pieces,
        special_tokens=["<pad>", "<bos>", "<eos>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return wrap_tokenizer(tokenizer)


def wrap_tokenizer(tokenizer: Any, pad: str = "<pad>", bos: str = "<bos>", eos: str = "<eos>") -> PreTrainedTokenizerFast:
    """A tokenizer of ``tokenizers`` as transformers' own."""
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=pad, bos_token=bos, eos_token=eos, clean_up_tokenization_spaces=False
    )
