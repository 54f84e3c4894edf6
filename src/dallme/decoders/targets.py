"""Targets: the kinds of model that a set will train, each with the settings that suit it."""

from __future__ import annotations

from dataclasses import dataclass

from dallme.errors import UnknownNameError


@dataclass(frozen=True)
class Target:
    """A kind of model, and how a set for it is made and compared.

    Attributes:
        name: The word that users write, as in ``--for NAME``.
        summary: One line for the documentation.
        decoder: Decoder that is used where none is named.
        classifiers: Classifiers of the comparison table where none are named.
        candidates: Decoders that ``auto`` chooses among, and the classifiers that it chooses with.
    """

    name: str
    summary: str
    decoder: str
    classifiers: tuple[str, ...]
    candidates: tuple[str, str]

    def options_for(self, decoder: str) -> dict[str, str]:
        """Returns the options that a named decoder takes from the target."""
        name, _, named = decoder.partition(":")
        if name != "auto" or self.name == "any":
            return {}
        decoders, classifiers = self.candidates
        return {"classifiers": classifiers} | ({} if named else {"candidates": decoders})


_WORDS, _VECTORS = ("lr", "svm", "nb"), ("embedding-lr", "lr")

#: The targets; the first one is the default.
TARGETS = (
    Target(
        "any",
        "one set for several kinds of model",
        "teaching",
        _WORDS,
        ("teaching,extractive,nearest,vec2text", "logistic-regression,naive-bayes,embedding-lr"),
    ),
    Target(
        "words",
        "classifiers that count words",
        "teaching",
        _WORDS,
        ("teaching,extractive", "logistic-regression,linear-svm,naive-bayes"),
    ),
    Target(
        "vectors",
        "a linear head on the embedder's vectors, as SetFit's",
        "select",
        _VECTORS,
        ("select,teaching,nearest", "embedding-lr"),
    ),
    Target(
        "encoder", "a fine-tuned encoder", "select", _VECTORS, ("select,teaching,nearest", "embedding-lr")
    ),
    Target(
        "prompt",
        "examples in the prompt of a language model",
        "select",
        _VECTORS,
        ("select,nearest", "embedding-lr"),
    ),
)


def find_target(name: str) -> Target:
    """Looks a target up.

    Raises:
        UnknownNameError: If there is none of that name; the message lists the known ones.
    """
    for target in TARGETS:
        if target.name == name:
            return target
    raise UnknownNameError("target", name, [target.name for target in TARGETS])
