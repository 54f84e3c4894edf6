"""Tiny untrained transformers of each kind, and a toy set of two classes in their words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    BertConfig,
    BertForMaskedLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

GOOD = ["warm", "funny", "lovely", "great", "fine"]
BAD = ["dull", "boring", "awful", "bad", "sad"]
SHARED = ["a", "the", "film", "story", "cast", "plot"]
NAMES = {4: "Very Positive", 9: "very negative"}
KINDS = ("transformer", "text-to-text", "causal")


def make_toy(rows: int, seed: int) -> tuple[list[str], np.ndarray]:
    """Texts of two classes, of 3 to 12 words, some of which only one class has."""
    rng = np.random.default_rng(seed)
    labels = rng.choice([4, 9], size=rows)
    texts = []
    for label in labels:
        words = [
            *rng.choice(SHARED, rng.integers(2, 10)),
            *rng.choice(GOOD if label == 4 else BAD, rng.integers(1, 3)),
        ]
        texts.append(" ".join(rng.permutation(words)))
    return texts, labels


TEXTS, LABELS = make_toy(64, seed=0)
TEST, TEST_LABELS = make_toy(60, seed=1)


def make_tokenizer(kind: str) -> PreTrainedTokenizerFast:
    special = {
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "eos_token": "[EOS]",
    }
    tokenizer = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    corpus = [*TEXTS, *TEST, *NAMES.values(), "label : 4 9"]
    tokenizer.train_from_iterator(
        corpus, trainers.WordLevelTrainer(special_tokens=list(special.values()), show_progress=False)
    )
    template = {"transformer": "[CLS] $A [SEP]", "text-to-text": "$A [EOS]"}.get(kind)
    if template:
        signs = [(sign, tokenizer.token_to_id(sign)) for sign in special.values()]
        tokenizer.post_processor = processors.TemplateProcessing(single=template, special_tokens=signs)
    if kind == "causal":
        del special["pad_token"]  # as most causal models
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)


def make_model(kind: str, words: int) -> Any:
    size = {
        "vocab_size": words,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
    }
    if kind == "transformer":
        return BertForMaskedLM(BertConfig(**size, max_position_embeddings=40))
    if kind == "causal":
        return LlamaForCausalLM(LlamaConfig(**size, initializer_range=0.2, tie_word_embeddings=True))
    small = {"vocab_size": words, "d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_heads": 2}
    return T5ForConditionalGeneration(T5Config(**small, decoder_start_token_id=0, eos_token_id=4))


def save_tiny_model(kind: str, folder: Path) -> str:
    """Saves a model of a kind and its tokenizer; the folder's name."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        tokenizer = make_tokenizer(kind)
        make_model(kind, len(tokenizer)).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return str(folder)
