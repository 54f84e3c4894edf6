"""What an inverter is: the record that lies beside its weights, and whether it fits an embedder."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from dallme.data import Fingerprint
from dallme.errors import InputError

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

    def misfits(self, fingerprint: Fingerprint) -> list[str]:
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
            raise InputError(f"expected an inverter's record in {str(folder / FILE)!r}, could not read it: {error}") from None
        return config
