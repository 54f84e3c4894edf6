"""From what a user writes or hands over to an embedder."""

from __future__ import annotations

from typing import Any

from dallme import registry
from dallme.embedders.base import Embedder, EncoderEmbedder
from dallme.errors import InputError, ModelNotFoundError

#: What a string that names no part is a model of.
_ANY_MODEL = "sentence-transformer"


def resolve(embedder: Any, **options: Any) -> Embedder:
    """Turns a name or an object into an embedder.

    Args:
        embedder: A registry name, with or without an argument (``hashing``, ``glove:6B.50d``), any other string (a
            sentence-transformers model: Hub id or folder), an :class:`~dallme.embedders.base.Embedder`, or any object with
            ``encode(list of strings)``.
        options: Options of the embedder that the name stands for.

    Returns:
        The embedder. Weights are not loaded, but a model that is nowhere is noticed.

    Raises:
        InputError: If it is none of these.
        ModelNotFoundError: If no model of that name is found; the message lists the known names.
    """
    if isinstance(embedder, Embedder):
        return embedder
    if not isinstance(embedder, str):
        return EncoderEmbedder(embedder)
    part, argument = _parse(embedder)
    kind: type[Embedder] = part.load()
    if argument is not None and kind.argument is None:
        raise InputError(f"expected the embedder {part.name!r} without an argument, found {embedder!r}")
    given = {} if argument is None else {str(kind.argument): argument}
    made = kind(**given, **options)
    try:
        made.find()
    except ModelNotFoundError as error:
        known = ", ".join(name for name in registry.names("embedders") if name != _ANY_MODEL)
        raise ModelNotFoundError(
            f"{error} (known embedders: {known}, and any sentence-transformers model; hashing needs no model)"
        ) from error
    return made


def _parse(name: str) -> tuple[registry.Part, str | None]:
    """The part and the argument of ``NAME`` or ``NAME:ARGUMENT``; what is neither names a sentence-transformers model."""
    before, colon, after = name.partition(":")
    for part in registry.PARTS:
        if part.role == "embedders" and before in (part.name, *part.aliases):
            return part, after if colon else None
    return registry.find("embedders", _ANY_MODEL), name
