"""The model: a vector becomes pseudo-tokens, and a language model that reads them writes a text.

One language model does both jobs of Morris et al. (2023). The hypothesizer (section 3) reads the target
vector alone. The corrector (section 4) reads the current text, the target, the current text's vector and
their difference.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from dallme.data import Fingerprint
from dallme.decoders.vec2text.generation import NO_REPEAT, TokenSampler, write_tokens
from dallme.errors import InputError
from dallme.files.folders import locate_files

#: File of the record in an inverter's folder.
FILE = "inverter.json"

#: Kinds of language models: decoder-only, or encoder-decoder.
KINDS = ("causal", "seq2seq")

#: Vectors that a prefix may hold, in their order.
_PARTS = ("target", "current", "difference")


@dataclass(frozen=True)
class InverterConfig:
    """Record of an inverter: the embedder that it decodes, and how it was trained.

    Attributes:
        embedder: The ``--embedder`` of its training, which embeds written texts again.
        fingerprint: Fingerprint of the vectors that it was trained on.
        base: Model that the language model was started from.
        kind: One of :data:`KINDS`.
        pseudo_tokens: Vectors of the language model's width that one embedding becomes (Morris et al.,
            section 4).
        max_tokens: Maximum number of tokens that it writes, of its own tokenizer.
        corrects: Whether it was trained to correct texts; if not, only ``steps=0`` works.
        training: Data and options of its training, for the card.
        scores: Scores on held-out texts.
        prompt: Task prompt of the embedded texts: a template's name or a text.
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

    def incompatibilities(self, fingerprint: Fingerprint, earlier_weights: str | None = None) -> list[str]:
        """Names the reasons why vectors of another embedder cannot be decoded; empty if they can.

        The precision is no reason: bfloat16 and float32 vectors of one model are nearly equal.

        Args:
            fingerprint: The embedder of the vectors.
            earlier_weights: The weights in its fingerprints of version 0.1; they count as the same.
        """
        own = self.fingerprint
        if own.weights == earlier_weights:
            own = replace(own, weights=fingerprint.weights)
        return [
            f"{name} {getattr(own, name)!r} against {getattr(fingerprint, name)!r}"
            for name in ("dimension", "model", "weights", "pooling", "normalized", "prompt")
            if getattr(own, name) != getattr(fingerprint, name)
        ]

    def to_json(self) -> str:
        """Returns the content of :data:`FILE`."""
        return json.dumps(asdict(self), indent=2, sort_keys=True) + "\n"

    @classmethod
    def read(cls, folder: Path) -> InverterConfig:
        """Reads the record of a folder, which may be untrusted.

        Raises:
            InputError: If there is none, or it is damaged.
        """
        path = locate_files(folder, [FILE])[FILE]
        try:
            return cls.parse(read_json(path))
        except FileNotFoundError:
            raise InputError(
                f"expected an inverter's folder with {FILE}, found none in {str(folder)!r}; "
                "train one with: dallme train-inverter"
            ) from None
        except (ValueError, OSError) as error:
            raise InputError(
                f"expected an inverter's record in {str(path)!r}, could not read it: {error}; "
                "train or copy the inverter again"
            ) from None

    @classmethod
    def parse(cls, content: Any) -> InverterConfig:
        """Makes a record of a JSON document; keys that may be missing have defaults.

        Raises:
            ValueError: If a key is unknown, missing, or has a value of another type or out of range.
        """
        known = _check_keys(content, _RECORD, cls, "the record")
        fingerprint = _check_keys(known["fingerprint"], _FINGERPRINT, Fingerprint, "the fingerprint")
        if known["kind"] not in KINDS:
            raise ValueError(f"expected kind as one of {', '.join(KINDS)}, found {known['kind']!r}")
        return cls(**known | {"fingerprint": Fingerprint(**fingerprint)})


#: Largest JSON file of an inverter in bytes; a tokenizer of 250,000 pieces has about 20 million.
_MAX_JSON = 64 * 2**20

#: Maximum number of characters of a name in a record; a prompt may be longer.
_MAX_NAME, _MAX_PROMPT = 4_096, 100_000

_Rule: TypeAlias = tuple[type, int, int]

#: Rules of the keys in a record: the type, and the least and largest value or length. None is allowed
#: where it is the default.
_RECORD: dict[str, _Rule] = {
    "embedder": (str, 1, _MAX_NAME),
    "fingerprint": (dict, 0, 100),
    "base": (str, 0, _MAX_NAME),
    "kind": (str, 1, 100),
    "pseudo_tokens": (int, 1, 4_096),
    "max_tokens": (int, 1, 65_536),
    "corrects": (bool, 0, 1),
    "training": (dict, 0, 1_000),
    "scores": (dict, 0, 1_000),
    "prompt": (str, 0, _MAX_PROMPT),
}
_FINGERPRINT: dict[str, _Rule] = {
    "model": (str, 0, _MAX_NAME),
    "weights": (str, 0, _MAX_NAME),
    "dimension": (int, 1, 1_000_000),
    "prompt": (str, 0, _MAX_PROMPT),
    "pooling": (str, 0, _MAX_NAME),
    "max_tokens": (int, 0, 2**62),
    "precision": (str, 0, _MAX_NAME),
    "normalized": (bool, 0, 1),
}


def read_json(path: Path) -> Any:
    """Reads a JSON file of an inverter.

    Raises:
        ValueError: If it is too large, no regular file, or not JSON.
        OSError: If it cannot be read.
    """
    if path.exists() and not path.is_file():
        raise ValueError(f"{path.name} is no regular file")
    with path.open("rb") as file:
        content = file.read(_MAX_JSON + 1)
    if len(content) > _MAX_JSON:
        raise ValueError(f"{path.name} has more than {_MAX_JSON:,} bytes")
    try:
        return json.loads(content.decode("utf-8"))
    except RecursionError:
        raise ValueError(f"{path.name} is nested too deeply") from None


def _check_keys(content: Any, rules: dict[str, _Rule], kind: Any, name: str) -> dict[str, Any]:
    """Checks the keys of a JSON object and the types and ranges of their values.

    Raises:
        ValueError: If one violates the rules or the fields of the dataclass `kind`.
    """
    if not isinstance(content, dict):
        raise ValueError(f"expected {name} as an object, found {type(content).__name__}")
    if unknown := sorted(set(content) - set(rules)):
        raise ValueError(f"unknown fields {unknown[:3]!r:.200}")
    for each in fields(kind):
        if each.name not in content:
            if each.default is MISSING and each.default_factory is MISSING:
                raise ValueError(f"{each.name!r} is missing in {name}")
            continue
        value, (expected, least, largest) = content[each.name], rules[each.name]
        if value is None and each.default is None:
            continue
        if type(value) is not expected:
            raise ValueError(f"expected {each.name} as {expected.__name__}, found {value!r:.80}")
        size: Any = len(value) if isinstance(value, (str, dict)) else value
        if not least <= size <= largest:
            raise ValueError(f"expected {each.name} from {least} to {largest:,}, found {size!r:.80}")
    return dict(content)


class InverterModel(nn.Module):
    """A language model that reads vectors.

    A causal model reads ``[current text] [pseudo-tokens] [begin]`` and then the text. An encoder-decoder
    reads the same prefix, without the begin, in its encoder.
    """

    def __init__(self, language_model: Any, kind: str, dimension: int, pseudo_tokens: int) -> None:
        """Adds projections of vectors in front of a language model.

        Args:
            language_model: Causal or encoder-decoder model of transformers.
            kind: One of :data:`KINDS`.
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
        # One projection for each vector; they share the last layer, which is the largest.
        self.project = nn.ModuleDict({name: nn.Linear(dimension, inner) for name in _PARTS})
        self.spread = nn.Linear(inner, width * pseudo_tokens)
        self.norm = nn.LayerNorm(width)
        if tokens.device.type != "meta":  # as long as token vectors
            nn.init.constant_(self.norm.weight, float(tokens.detach().std()))

    @property
    def config(self) -> Any:
        """Configuration of the language model."""
        return self.language_model.config

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.spread.weight.device

    @property
    def bytes_per_token(self) -> int:
        """Maximum number of bytes of the keys and values of one token; models that share heads need fewer."""
        attentions = 2 if self.kind == "seq2seq" else 1  # self-attention, and cross-attention to the prefix
        width = self.config.num_hidden_layers * self.config.hidden_size
        return int(2 * attentions * width * self.spread.weight.element_size())

    @property
    def pad_id(self) -> int:
        """Id of padding, or of the end for models without padding."""
        pad = self.config.pad_token_id
        return self.eos_id if pad is None else int(pad)

    @property
    def eos_id(self) -> int:
        """Id of the end that texts are trained with."""
        return self.end_ids[0]

    @property
    def end_ids(self) -> list[int]:
        """All ids that end a text."""
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
        """Computes the mean cross-entropy of the tokens of texts, a scalar in nats.

        Args:
            target: Vectors of the texts, float32 of shape (n, d).
            text_ids: Their tokens, with the end token, int64 of shape (n, t).
            text_mask: 1 where they are not padding, of shape (n, t); padding is at the end.
            current: Vectors of the current texts, of shape (n, d); None for the hypothesizer.
            current_ids: Tokens of the current texts, int64 of shape (n, c).
            current_mask: 1 where they are not padding, of shape (n, c).
        """
        prefix, mask = self._prefix(target, current, current_ids, current_mask)
        labels = text_ids.masked_fill(text_mask == 0, -100)
        if self.kind == "seq2seq":
            logits = self.language_model(inputs_embeds=prefix, attention_mask=mask, labels=labels).logits
        else:
            # The begin is followed by all tokens but the last, so the logits are those of the text alone.
            mask = torch.cat([mask, text_mask[:, :-1].to(mask.dtype)], dim=1)
            logits = self.language_model(
                inputs_embeds=torch.cat([prefix, self._embed(text_ids[:, :-1])], dim=1),
                attention_mask=mask,
                position_ids=(mask.cumsum(dim=1) - 1).clamp(min=0),
                use_cache=False,
                logits_to_keep=text_ids.shape[1],
            ).logits[:, -text_ids.shape[1] :]
        return functional.cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), ignore_index=-100)

    #: Wrappers for several devices call the model itself.
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
            current: Vectors of texts to correct, of shape (n, d); without them texts are written from the
                targets alone.
            current_ids: Tokens of those texts, int64 of shape (n, c).
            current_mask: 1 where they are not padding, of shape (n, c).
            max_new_tokens: Maximum number of tokens per text, its end included.
            samples: Texts for each target: the first takes the most likely token each time, the others are
                sampled.
            temperature: Sampling temperature, above 0; 1 is the model's own distribution.
            seeds: n seeds of the sampling; by default from torch's generator.
            again: For which of the n the first text is known and only the others are written.
            beams: Width of transformers' beam search, which returns the best `samples` texts for each target.

        Returns:
            Token ids padded at the end, int64 of shape (m, at most max_new_tokens), grouped by target. m is n
            * samples, minus one for each target with `again`.
        """
        prefix, mask = self._prefix(target, current, current_ids, current_mask)
        if beams > 1:
            return self.beam_search(prefix, mask, max_new_tokens, beams, samples)
        if seeds is None and samples > 1:
            seeds = torch.randint(2**62, (len(target),)).tolist()
        seeds = seeds or [0] * len(target)
        skipped = again or [False] * len(target)
        texts = [(row, sample) for row in range(len(target)) for sample in range(int(skipped[row]), samples)]
        keys = [(seeds[row], sample) if sample else None for row, sample in texts]
        sampler = TokenSampler.from_seeds(keys, max_new_tokens, temperature, self.device)
        after = torch.tensor([row for row, _ in texts], device=self.device)
        model, kind = self.language_model, self.kind
        return write_tokens(model, kind, prefix, mask, after, sampler, self.end_ids, self.pad_id)

    def beam_search(
        self, prefix: Tensor, mask: Tensor, max_new_tokens: int, beams: int, texts: int = 1
    ) -> Tensor:
        """Runs transformers' own search after each prefix; with one beam it takes the most likely tokens."""
        from transformers import GenerationConfig

        settings = GenerationConfig(
            max_new_tokens=max_new_tokens,
            num_beams=beams,
            num_return_sequences=texts,
            no_repeat_ngram_size=NO_REPEAT,
            pad_token_id=self.pad_id,
            bos_token_id=getattr(self.config, "bos_token_id", None),
            eos_token_id=self.config.eos_token_id,
            decoder_start_token_id=getattr(self.config, "decoder_start_token_id", None),
        )
        with warnings.catch_warnings():  # the warning describes the intended behaviour
            warnings.filterwarnings("ignore", message="Passing `no_repeat_ngram_size`")
            written: Tensor = self.language_model.generate(
                inputs_embeds=prefix, attention_mask=mask, generation_config=settings
            )
        return written[:, 1:] if self.kind == "seq2seq" else written  # without the start token

    def _prefix(
        self, target: Tensor, current: Tensor | None, current_ids: Tensor | None, current_mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Embeds the prefix of a text, of shape (n, p, width), with its mask of shape (n, p)."""
        vectors = {"target": target}
        if current is not None:
            vectors |= {"current": current, "difference": target - current}
        parts = [self._pseudo(name, vector) for name, vector in vectors.items()]
        if self.kind == "causal":
            begin = torch.full((len(target), 1), self.config.bos_token_id, device=target.device)
            parts.append(self._embed(begin))
        length = sum(part.shape[1] for part in parts)
        mask = torch.ones(len(target), length, dtype=torch.long, device=target.device)
        if current_ids is not None and current_mask is not None:
            # Generation wants padding on the left.
            order = current_mask.long().argsort(dim=1, stable=True)
            parts.insert(0, self._embed(current_ids.gather(1, order)))
            mask = torch.cat([current_mask.long().gather(1, order), mask], dim=1)
        return torch.cat(parts, dim=1), mask

    def _embed(self, ids: Tensor) -> Tensor:
        embedded: Tensor = self.language_model.get_input_embeddings()(ids)
        return embedded

    def _pseudo(self, name: str, vectors: Tensor) -> Tensor:
        """Projects vectors of shape (n, d) to pseudo-tokens of shape (n, k, width)."""
        scaled = vectors * self.dimension**0.5  # entries of about 1, as layers expect them
        hidden = functional.gelu(self.project[name](scaled.to(self.spread.weight.dtype)))
        normed: Tensor = self.norm(self.spread(hidden).unflatten(1, (self.pseudo_tokens, -1)))
        return normed.to(self.language_model.get_input_embeddings().weight.dtype)


def train_tokenizer(texts: Sequence[str], pieces: int) -> Any:
    """Trains a cased byte-level BPE, which can write every text and adds no special tokens.

    Args:
        texts: Training texts.
        pieces: Size of the vocabulary, with the special tokens (padding, begin, end) and the 256 bytes.
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


def wrap_tokenizer(tokenizer: Any, pad: str = "<pad>", bos: str = "<bos>", eos: str = "<eos>") -> Any:
    """Wraps a tokenizer of ``tokenizers`` as a ``PreTrainedTokenizerFast`` of transformers."""
    from transformers import PreTrainedTokenizerFast

    special = {"pad_token": pad, "bos_token": bos, "eos_token": eos}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, **special)
