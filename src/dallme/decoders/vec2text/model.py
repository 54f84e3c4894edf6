"""The model: a vector becomes pseudo-tokens, and a language model that reads them writes a text.

One language model has both jobs of Morris et al. (2023): the hypothesizer (section 3) reads the target vector alone, the
corrector (section 4) reads the current text, the target, the current text's vector and their difference.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from dallme.data import Fingerprint
from dallme.decoders.vec2text.generation import NO_REPEAT, Draw, write_tokens
from dallme.errors import InputError

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


def wrap_tokenizer(
    tokenizer: Any, pad: str = "<pad>", bos: str = "<bos>", eos: str = "<eos>"
) -> PreTrainedTokenizerFast:
    """A tokenizer of ``tokenizers`` as transformers' own."""
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=pad,
        bos_token=bos,
        eos_token=eos,
        clean_up_tokenization_spaces=False,
    )


#: The record's file in an inverter's folder.
FILE = "inverter.json"

#: Kinds of language models: a decoder-only one, or an encoder with a decoder.
KINDS = ("causal", "seq2seq")


@dataclass(frozen=True)
class InverterConfig:
    """What the weights of an inverter mean.

    Attributes:
        embedder: What ``--embedder`` was when it was trained: the embedder that texts are embedded again with.
        fingerprint: What made the vectors that it was trained on.
        base: What the language model was started from.
        kind: One of :data:`KINDS`.
        pseudo_tokens: Vectors of the language model's width that one embedding becomes (Morris et al., section 4).
        max_tokens: Most tokens that it writes, of its own tokenizer.
        corrects: Whether it was trained to correct texts; if not, only ``steps=0`` works.
        training: What it was trained on and how: for the card, not for the code.
        scores: What it reached on held-out texts.
        prompt: Task-specific prompt that its texts were embedded with, and are embedded again with; a template's name or a text.
    """

    embedder: str
    fingerprint: Fingerprint
    base: str
    kind: str
    pseudo_tokens: int = 8
    max_tokens: int = 128
    corrects: bool = False
    training: dict[str, Any] = field(default_factory=dict)
    scores: dict[str, Any] = field(default_factory=dict)
    prompt: str | None = None

    def incompatibilities(self, fingerprint: Fingerprint) -> list[str]:
        """Why vectors of another embedder cannot be decoded; empty if they can.

        The number format is no reason: bfloat16 and float32 vectors of one model are a hair apart.
        """
        compared = ("dimension", "model", "weights", "pooling", "normalized", "prompt")
        return [
            f"{name} {getattr(self.fingerprint, name)!r} against {getattr(fingerprint, name)!r}"
            for name in compared
            if getattr(self.fingerprint, name) != getattr(fingerprint, name)
        ]

    def to_json(self) -> str:
        """The record as it is written."""
        return json.dumps(asdict(self), indent=2, sort_keys=True) + "\n"

    @classmethod
    def read(cls, folder: Path) -> InverterConfig:
        """Reads the record of a folder.

        Raises:
            InputError: If there is none, or it is not one of ours.
        """
        try:
            content = json.loads((folder / FILE).read_text(encoding="utf-8"))
            known = {each.name for each in fields(cls)}
            if set(content) - known:
                raise ValueError(f"unknown fields {sorted(set(content) - known)}")
            config = cls(**content | {"fingerprint": Fingerprint(**content["fingerprint"])})
            if config.kind not in KINDS:
                raise ValueError(f"kind {config.kind!r}")
        except FileNotFoundError:
            raise InputError(
                f"expected an inverter's folder with {FILE}, found none in {str(folder)!r}; train one with: dallme train-inverter"
            ) from None
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise InputError(
                f"expected an inverter's record in {str(folder / FILE)!r}, could not read it: {error}"
            ) from None
        return config


#: The vectors that a prefix may hold, in their order.
_PARTS = ("target", "current", "difference")


class InverterModel(nn.Module):
    """A language model that reads vectors.

    A causal model reads ``[current text] [pseudo-tokens] [begin]`` and then the text; an encoder-decoder reads the same prefix,
    without the begin, in its encoder.
    """

    def __init__(self, language_model: Any, kind: str, dimension: int, pseudo_tokens: int) -> None:
        """Puts the projections before a language model.

        Args:
            language_model: A causal or an encoder-decoder model of transformers.
            kind: One of :data:`~dallme.decoders.vec2text.model.KINDS`.
            dimension: Length of an embedding.
            pseudo_tokens: Vectors of the model's width that one embedding becomes.
        """
        super().__init__()
        self.language_model = language_model
        self.kind = kind
        self.dimension = dimension
        self.pseudo_tokens = pseudo_tokens
        tokens = language_model.get_input_embeddings().weight
        width, inner = tokens.shape[1], max(dimension, tokens.shape[1])
        # One map for each vector; they share the last layer, which is the largest.
        self.project = nn.ModuleDict({name: nn.Linear(dimension, inner) for name in _PARTS})
        self.spread = nn.Linear(inner, width * pseudo_tokens)
        self.norm = nn.LayerNorm(width)
        nn.init.constant_(self.norm.weight, float(tokens.detach().std()))  # as long as the vectors of tokens

    @property
    def config(self) -> Any:
        """The configuration of the language model."""
        return self.language_model.config

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.spread.weight.device

    @property
    def bytes_a_token(self) -> int:
        """Bytes of the keys and values of one token, at most: models that share heads need fewer."""
        attentions = (
            2 if self.kind == "seq2seq" else 1
        )  # of an encoder-decoder, its own tokens' and the prefix's
        weight = self.spread.weight
        return int(
            2 * attentions * self.config.num_hidden_layers * self.config.hidden_size * weight.element_size()
        )

    @property
    def pad_id(self) -> int:
        """The id that fills rows up: that of padding, or of the end for models without padding."""
        pad = self.config.pad_token_id
        return self.eos_id if pad is None else int(pad)

    @property
    def eos_id(self) -> int:
        """The id that ends a text."""
        return self.end_ids[0]

    @property
    def end_ids(self) -> list[int]:
        """The ids that end a text; the first is the one that texts are trained with."""
        eos = self.config.eos_token_id
        return [int(each) for each in eos] if isinstance(eos, list) else [int(eos)]

    def loss(
        self,
        target: Tensor,
        text_ids: Tensor,
        text_mask: Tensor,
        current: Tensor | None = None,
        current_ids: Tensor | None = None,
        current_mask: Tensor | None = None,
    ) -> Tensor:
        """Mean cross-entropy of the tokens of the texts.

        Args:
            target: Vectors of the texts, float32 of shape (n, d).
            text_ids: Their tokens, with the end token, int64 of shape (n, t).
            text_mask: Which of them are no padding, of shape (n, t); padding stands at the end.
            current: Vectors of the current texts, of shape (n, d); without them the model is the hypothesizer.
            current_ids: Tokens of the current texts, int64 of shape (n, c).
            current_mask: Which of them are no padding, of shape (n, c).

        Returns:
            A scalar, in nats.
        """
        prefix, mask = self._prefix(target, current, current_ids, current_mask)
        wanted = text_ids.masked_fill(text_mask == 0, -100)
        if self.kind == "seq2seq":
            logits = self.language_model(inputs_embeds=prefix, attention_mask=mask, labels=wanted).logits
        else:
            # After the begin stands each token but the last: the logits are those of the text and nothing else.
            read = self._embed(text_ids[:, :-1])
            mask = torch.cat([mask, text_mask[:, :-1].to(mask.dtype)], dim=1)
            logits = self.language_model(
                inputs_embeds=torch.cat([prefix, read], dim=1),
                attention_mask=mask,
                position_ids=(mask.cumsum(dim=1) - 1).clamp(min=0),
                use_cache=False,
                logits_to_keep=text_ids.shape[1],
            ).logits[:, -text_ids.shape[1] :]
        return functional.cross_entropy(logits.flatten(0, 1).float(), wanted.flatten(), ignore_index=-100)

    #: Several devices call the model itself.
    forward = loss

    @torch.no_grad()
    def generate(
        self,
        target: Tensor,
        *,
        current: Tensor | None = None,
        current_ids: Tensor | None = None,
        current_mask: Tensor | None = None,
        max_new_tokens: int,
        samples: int = 1,
        temperature: float = 1.0,
        seeds: Sequence[int] | None = None,
        again: Sequence[bool] | None = None,
        beams: int = 1,
    ) -> Tensor:
        """Writes texts.

        Args:
            target: float32 of shape (n, d).
            current: Vectors of texts to correct, of shape (n, d); without them texts are written from the targets alone.
            current_ids: Tokens of those texts, int64 of shape (n, c).
            current_mask: Which of them are no padding, of shape (n, c).
            max_new_tokens: Most tokens of a text, its end included.
            samples: Texts for each target: the first takes the likeliest token each time, the others draw tokens.
            temperature: How freely they draw, above 0; 1 is the model's own distribution.
            seeds: n seeds of the draws; by default from torch's generator.
            again: For which of the n the first text is known, and only the others are written.
            beams: Beams of a search over tokens, for one text for each target.

        Returns:
            Tokens, int64 of shape (m, at most max_new_tokens), those of one target together, filled up with padding; m is
            n * samples without `again`, which takes one away from each that it holds for.
        """
        prefix, mask = self._prefix(target, current, current_ids, current_mask)
        if beams > 1:
            return self._search(prefix, mask, max_new_tokens, beams)
        chosen = (
            torch.randint(2**62, (len(target),)).tolist()
            if seeds is None and samples > 1
            else seeds or [0] * len(target)
        )
        wanted = [
            (n, k)
            for n in range(len(chosen))
            for k in range(1 if again is not None and again[n] else 0, samples)
        ]
        draw = Draw.of(
            [(chosen[n], k) if k else None for n, k in wanted], max_new_tokens, temperature, self.device
        )
        after = torch.tensor([n for n, _ in wanted], device=self.device)
        return write_tokens(
            self.language_model, self.kind, prefix, mask, after, draw, self.end_ids, self.pad_id
        )

    def _search(self, prefix: Tensor, mask: Tensor, max_new_tokens: int, beams: int) -> Tensor:
        """The text that a search over tokens finds for each prefix."""
        from transformers import GenerationConfig

        settings = GenerationConfig(
            max_new_tokens=max_new_tokens,
            num_beams=beams,
            no_repeat_ngram_size=NO_REPEAT,
            pad_token_id=self.pad_id,
            bos_token_id=getattr(self.config, "bos_token_id", None),
            eos_token_id=self.config.eos_token_id,
            decoder_start_token_id=getattr(self.config, "decoder_start_token_id", None),
        )
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", message="Passing `no_repeat_ngram_size`"
            )  # what it warns of is what is wanted
            written: Tensor = self.language_model.generate(
                inputs_embeds=prefix, attention_mask=mask, generation_config=settings
            )
        return (
            written[:, 1:] if self.kind == "seq2seq" else written
        )  # an encoder-decoder repeats what it started from

    def _prefix(
        self, target: Tensor, current: Tensor | None, current_ids: Tensor | None, current_mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """What stands before a text, of shape (n, p, width), and which of it is no padding, of shape (n, p)."""
        vectors = {"target": target}
        if current is not None:
            vectors |= {"current": current, "difference": target - current}
        parts = [self._pseudo(name, vector) for name, vector in vectors.items()]
        if self.kind == "causal":
            begin = torch.full((len(target), 1), self.config.bos_token_id, device=target.device)
            parts.append(self._embed(begin))
        mask = torch.ones(
            len(target), sum(part.shape[1] for part in parts), dtype=torch.long, device=target.device
        )
        if current_ids is not None and current_mask is not None:
            # Padding goes to the left, where generation wants it.
            order = current_mask.long().argsort(dim=1, stable=True)
            parts.insert(0, self._embed(current_ids.gather(1, order)))
            mask = torch.cat([current_mask.long().gather(1, order), mask], dim=1)
        return torch.cat(parts, dim=1), mask

    def _embed(self, ids: Tensor) -> Tensor:
        embedded: Tensor = self.language_model.get_input_embeddings()(ids)
        return embedded

    def _pseudo(self, name: str, vectors: Tensor) -> Tensor:
        """The pseudo-tokens of vectors of shape (n, d): of shape (n, k, width), in the format of the token vectors."""
        scaled = (vectors * self.dimension**0.5).to(
            self.spread.weight.dtype
        )  # numbers of about 1, as layers want them
        spread = self.spread(functional.gelu(self.project[name](scaled)))
        kind = self.language_model.get_input_embeddings().weight.dtype
        normed: Tensor = self.norm(spread.unflatten(1, (self.pseudo_tokens, -1)))
        return normed.to(kind)
