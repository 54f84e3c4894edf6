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
        classifiers: Classifiers of the comparison table where none are named. ``auto`` chooses with them.
    """

    name: str
    summary: str
    decoder: str
    classifiers: tuple[str, ...]

    def options_for(self, decoder: str) -> dict[str, str]:
        """Returns the options that a named decoder takes from the target."""
        if decoder.partition(":")[0] == "auto" and self.name != "any":
            return {"students": ",".join(self.classifiers)}
        return {}


_WORDS, _VECTORS = ("lr", "svm", "nb"), ("embedding-lr", "lr")

#: The targets; the first one is the default.
TARGETS = (
    Target("any", "one set for several kinds of model", "teaching", _WORDS),
    Target("words", "classifiers that count words", "teaching", _WORDS),
    Target("vectors", "a linear head on the embedder's vectors, as SetFit's", "select", _VECTORS),
    Target("encoder", "a fine-tuned encoder", "select", _VECTORS),
    Target("prompt", "examples in the prompt of a language model", "select", _VECTORS),
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
