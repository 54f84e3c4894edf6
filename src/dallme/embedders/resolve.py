"""From what a user writes or hands over to an embedder."""

from __future__ import annotations

from typing import Any

from dallme import registry
from dallme.embedders.base import Embedder, EncoderEmbedder
from dallme.errors import ModelNotFoundError


def resolve(embedder: Any, **options: Any) -> Embedder:
    """Turns a name or an object into an embedder.

    Args:
        embedder: A registry name (``hashing``), any other string (a sentence-transformers model: Hub id or folder), an
            :class:`~dallme.embedders.base.Embedder`, or any object with ``encode(list of strings)``.
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
    own = [part for part in registry.PARTS if part.role == "embedders" and embedder in (part.name, *part.aliases)]
    if own and own[0].name != "sentence-transformer":
        made: Embedder = own[0].load()(**options)
        return made
    from dallme.embedders.locate import locate
    from dallme.embedders.sentence_transformer import SentenceTransformerEmbedder

    resolved = SentenceTransformerEmbedder(**options) if own else SentenceTransformerEmbedder(embedder, **options)
    try:
        locate(resolved.model)
    except ModelNotFoundError as error:
        known = ", ".join(name for name in registry.names("embedders") if name != "sentence-transformer")
        raise ModelNotFoundError(f"{error} (known embedders: {known}, and any sentence-transformers model)") from error
    return resolved
