"""The parts that a set was made with, from its manifest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from dallme import registry
from dallme.auditing.inputs import restore_embedder
from dallme.condensers.base import Condenser
from dallme.dataset import DistilledDataset
from dallme.distiller import Distiller
from dallme.errors import InputError

#: Decoders that neither open a model nor call a service, so that a manifest may name them.
LOCAL = ("teaching", "extractive", "nearest", "select")


@dataclass(frozen=True)
class Parts:
    """Parts of an update that are no rows.

    Attributes:
        embedder: An embedder in place of the manifest's; it must make the same vectors.
        decoder: A decoder in place of the manifest's.
        decoder_options: Options of that decoder.
        store: Folder that keeps vectors.
        progress: Receiver of progress and notes.
    """

    embedder: Any = None
    decoder: str | None = None
    decoder_options: Mapping[str, Any] | None = None
    store: str | Path | None = None
    progress: Any = None

    def distiller(self, distilled: DistilledDataset) -> Distiller:
        """Makes the distiller of a set again, from its manifest.

        Raises:
            InputError: If the set was made of ready vectors or by no distiller, or a part must be named.
        """
        manifest = distilled.manifest
        configuration = dict(manifest.configuration or {})
        given = configuration.get("budget")
        if not isinstance(given, Mapping) or not configuration.get("condenser"):
            raise InputError(
                "expected a set that dallme distilled, found a manifest without budget and condenser; "
                "distil the set again"
            )
        embedder = restore_embedder(manifest, self.embedder, self.store, same=True)
        if embedder is None or configuration.get("embedder") is None:
            raise InputError(
                "expected a set that an embedder made, found one of ready vectors, which new rows lack; "
                "distil all rows again with their vectors"
            )
        decoding = manifest.decoding or {}
        decoder, options = self._decoder(configuration, decoding)
        max_tokens, length = configuration.get("max_tokens") or 128, decoding.get("length")
        if "length" in options and self.decoder is None:  # new texts get the length of the others
            options["length"] = "longest"
            tokens = length.get("tokens") if isinstance(length, Mapping) else None
            max_tokens = min(max_tokens, tokens) if isinstance(tokens, int) else max_tokens
        budget = {name: given[name] for name in ("per_class", "total", "allocation") if name in given}
        if given.get("ratio") is not None:
            budget["total"] = len(distilled)
        try:
            return Distiller(
                **budget,
                embedder=embedder,
                condenser=_make_condenser(configuration),
                target=configuration.get("target") or "any",
                decoder=decoder,
                decoder_options=options,
                prompt=configuration.get("prompt"),
                soft_labels=bool(configuration.get("soft_labels")),
                max_tokens=max_tokens,
                total_tokens=configuration.get("total_tokens"),
                seed=configuration.get("seed") or 0,
                store=self.store,
                redact=bool(configuration.get("redact")),
                progress=self.progress,
            )
        except TypeError as error:
            raise InputError(
                f"expected the options of a run in the manifest: {error}; distil again"
            ) from None

    def _decoder(
        self, configuration: dict[str, Any], decoding: Mapping[str, Any]
    ) -> tuple[str, dict[str, Any]]:
        """Returns the name and the options of the decoder."""
        if self.decoder is not None:
            return self.decoder, dict(self.decoder_options or {})
        name: Any = _registered("decoders", configuration.get("decoder"))
        options = configuration.get("decoder_options")
        if name == "auto":
            choice = decoding.get("auto")
            chosen: Any = choice.get("chosen") if isinstance(choice, Mapping) else None
            name, options = chosen, {}
        if name not in LOCAL:
            raise InputError(
                f"expected a decoder that opens no model ({', '.join(LOCAL)}), found {name!r} in the "
                "manifest; name it, with its options, with --decoder"
            )
        return name, _known_options("decoders", name, options)


def _registered(role: str, name: Any) -> str:
    """Returns the registry name of a part, which a manifest may name with an argument, or by its class."""
    if not isinstance(name, str):
        raise InputError(f"expected the name of a {role[:-1]} in the manifest, found {name!r}; distil again")
    for part in registry.PARTS:
        if part.role == role and part.attribute == name:
            return part.name
    return registry.split(role, name)[0].name


def _known_options(role: str, name: str, options: Any) -> dict[str, Any]:
    """Returns the options of a manifest that a part of this version has.

    Raises:
        InputError: If one has another type than its default.
    """
    part: Any = registry.find(role, name).load()
    given = options if isinstance(options, Mapping) else {}
    known = {field.name: given[field.name] for field in fields(part) if field.name in given}
    for field in fields(part):
        if field.name in known and type(known[field.name]) is not type(field.default):
            raise InputError(
                f"expected {field.name} of {name} as {field.default!r} in the manifest, found "
                f"{known[field.name]!r}; distil the set again"
            )
    return known


def _make_condenser(configuration: Mapping[str, Any]) -> Condenser:
    name = _registered("condensers", configuration["condenser"])
    options = _known_options("condensers", name, configuration.get("condenser_options"))
    condenser: Condenser = registry.make("condensers", name, **options)
    return condenser
