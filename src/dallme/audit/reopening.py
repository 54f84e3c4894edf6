"""The embedder that a set was made with, found again by what the manifest tells of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from typing import Any

from dallme.data import Fingerprint
from dallme.embedders.base import Embedder
from dallme.embedders.openai import OpenAIEmbedder
from dallme.embedders.resolve import resolve
from dallme.errors import InputError, ModelNotFoundError


def reopen(manifest: Mapping[str, Any], embedder: Any = None) -> Embedder | None:
    """Finds the embedder that a set was made with, with the options that its fingerprint tells of.

    Args:
        manifest: The set's.
        embedder: One to use in its place: a name, a folder, or an embedder. It may make other vectors, as one that costs
            nothing does for a set that was made with a service.

    Returns:
        The embedder; None if the set was made of ready vectors and none is given.

    Raises:
        InputError: If the one of the manifest's name makes other vectors today.
        ModelNotFoundError: If the name in the manifest leads to none, as that of a local folder does.
    """
    configuration = manifest.get("configuration", {})
    named, made_with = configuration.get("embedder"), manifest.get("embedder")
    prompt = configuration.get("prompt")
    if embedder is not None:
        found = resolve(embedder)
        if isinstance(embedder, str) and made_with and _fingerprint(found, prompt, 1).weights == made_with["weights"]:
            return _with_options(found, made_with)  # the same model, found elsewhere
        return found
    if named is None:
        return None
    found = _find(named)
    if made_with is None:  # nothing says which vectors they were
        return found
    found = _with_options(found, made_with)
    check_same(made_with, _fingerprint(found, prompt, made_with["dimension"]))
    return found


def check_same(made_with: Mapping[str, Any], found: Fingerprint) -> None:
    """Checks that an embedder makes the vectors that a set was made with.

    The number format follows the machine and moves a vector by next to nothing. A model may be called by its folder here and
    by its Hub id there, as long as its weights are known.

    Args:
        made_with: The fingerprint in the set's manifest.
        found: The fingerprint of the embedder.

    Raises:
        InputError: If it does not.
    """
    passed_over = {"precision"} if found.weights == "unknown" else {"precision", "model"}
    differing = [
        f"{field} {_short(made_with[field])}, not {_short(value)}"
        for field, value in asdict(found).items()
        if field not in passed_over and made_with[field] != value
    ]
    if differing:
        address = ", and its server in OPENAI_BASE_URL" if found.model.startswith("openai:") else ""
        raise InputError(
            f"expected the vectors of {made_with['model']!r}, with which the texts were made ({'; '.join(differing)}), "
            f"found those of {found.model!r}; name the same embedder, with the same options, with --embedder{address}"
        )


def _find(name: str) -> Embedder:
    """The embedder that the manifest names."""
    try:
        return resolve(name)
    except (InputError, ModelNotFoundError) as error:
        raise ModelNotFoundError(
            f"expected the embedder {name!r}, with which the texts were made, could not find it: {error}; "
            "name it, or its folder, with --embedder"
        ) from error


def _with_options(found: Embedder, made_with: Mapping[str, Any]) -> Embedder:
    """The same embedder with those of its options that a fingerprint tells."""
    told = {
        "max_tokens": made_with["max_tokens"],
        "dimension": made_with["dimension"],
        "unknown": "zero" if made_with["pooling"] == "mean, or zero" else "error",
    }
    if isinstance(found, OpenAIEmbedder) and found.known_dimension not in (None, made_with["dimension"]):
        told["dimensions"] = made_with["dimension"]
    part: Any = found
    known = {field.name for field in fields(part)}
    try:
        changed: Embedder = replace(part, **{name: value for name, value in told.items() if name in known})
    except InputError:  # options that this embedder cannot have: it is another one, as the fingerprints will tell
        return found
    return changed


def _fingerprint(embedder: Embedder, prompt: str | None, dimension: int) -> Fingerprint:
    """What the vectors will be. No service is asked for their dimension: it may be another one than the set's."""
    if isinstance(embedder, OpenAIEmbedder):
        return embedder.fingerprint_of(embedder.known_dimension or dimension, prompt)
    return embedder.fingerprint(prompt)


def _short(value: Any) -> str:
    """A value for a message; of a hash the beginning."""
    return f"{value[:12]}…" if isinstance(value, str) and len(value) == 64 else repr(value)
