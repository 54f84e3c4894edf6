"""The embedder that a set was made with, found again by what the manifest tells of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from dallme.data import Fingerprint
from dallme.embedders.base import Embedder
from dallme.embedders.openai import OpenAIEmbedder
from dallme.embedders.resolve import resolve, resolve_named
from dallme.errors import InputError
from dallme.store import EmbeddingStore

#: Number formats that a machine may have stored the vectors of one model in.
_PRECISIONS = ("float32", "bfloat16")


def reopen(manifest: Mapping[str, Any], embedder: Any = None, store: str | Path | None = None) -> Embedder | None:
    """Finds the embedder that a set was made with, with the options that its fingerprint tells of.

    Args:
        manifest: The set's.
        embedder: One to use in its place: a name, a folder, or an embedder. It may make other vectors, as one that costs
            nothing does for a set that was made with a service. The manifest's own service, repeated, must make the same.
        store: Folder with the user's vectors: what the manifest names is opened only if it made some of them, or comes with
            dallme.

    Returns:
        The embedder; None if the set was made of ready vectors and none is given.

    Raises:
        InputError: If the one of the manifest's name makes other vectors today, or is used only if the user names it: a service,
            a path, or a model that the user has no vectors of.
        ModelNotFoundError: If the user's name leads to none.
    """
    configuration = manifest.get("configuration", {})
    named, made_with = configuration.get("embedder"), _read_fingerprint(manifest)
    prompt = configuration.get("prompt")
    if embedder is not None:
        found = resolve(embedder)
        if made_with and embedder == named and found.paid:  # the texts go to the server that the set was made with, or to none
            found = _with_options(found, made_with)
            check_same(made_with, _fingerprint(found, prompt, made_with["dimension"]))
            return found
        if isinstance(embedder, str) and made_with and _fingerprint(found, prompt, 1).weights == made_with["weights"]:
            return _with_options(found, made_with)  # the same model, found elsewhere
        return found
    if named is None:
        return None
    found = resolve_named(named, "the manifest of the set", lambda candidate: _has_vectors(store, candidate, made_with))
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


def _read_fingerprint(manifest: Mapping[str, Any]) -> dict[str, Any] | None:
    """The fingerprint in a manifest, with all its fields; None if there is none."""
    found = manifest.get("embedder")
    if found is None:
        return None
    try:
        return asdict(Fingerprint(**found))
    except TypeError as error:
        raise InputError(f"expected the fingerprint of an embedder in the manifest, found {_short(found)}: {error}") from None


def _has_vectors(store: str | Path | None, candidate: Embedder, made_with: Mapping[str, Any] | None) -> bool:
    """Whether the store has vectors of the fingerprint in a manifest, and that is one of the embedder that the manifest names."""
    if store is None or made_with is None or made_with["model"] != candidate.name:
        return False
    tables = EmbeddingStore(store)
    return any(tables.has(Fingerprint(**{**made_with, "precision": precision})) for precision in _PRECISIONS)


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
