"""Under which terms a distilled set may be shared: the licence and the languages of its source."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dallme.distilled.markdown import escape
from dallme.errors import InputError

if TYPE_CHECKING:
    from huggingface_hub import HfApi

#: How the reader of Hub datasets calls a source: ``id[:configuration]@split``.
_HUB_SOURCE = re.compile(r"(?P<id>\w[\w.-]*(/[\w.-]+)?)(:[^@]+)?@[\w%:+\[\]-]+", re.ASCII)
_LICENCE = re.compile(r"[a-z0-9][a-z0-9.+-]*")
_LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{1,8})*|code|multilingual")


@dataclass(frozen=True)
class Terms:
    """Licence and languages, as the Hub names them.

    Attributes:
        licences: Identifiers of licences, such as ``cc-by-4.0``; empty if none is known.
        licence_name: Name of a licence of the identifier ``other``.
        licence_link: Address of its text.
        languages: ISO 639 codes; empty if none is known.
        carried: Whether the licence is that of the source's own card.
    """

    licences: tuple[str, ...] = ()
    licence_name: str | None = None
    licence_link: str | None = None
    languages: tuple[str, ...] = ()
    carried: bool = False

    def __post_init__(self) -> None:
        """Checks that licences and languages look as the Hub writes them."""
        for licence in self.licences:
            if not _LICENCE.fullmatch(licence):
                raise InputError(
                    f"expected a licence as the Hub names it, such as cc-by-4.0, apache-2.0 or other, found {licence!r}; "
                    "see https://huggingface.co/docs/hub/repositories-licenses"
                )
        for language in self.languages:
            if not _LANGUAGE.fullmatch(language):
                raise InputError(f"expected a language as an ISO 639 code, such as en or deu, found {language!r}")

    def metadata(self) -> dict[str, Any]:
        """What of it is known, as the metadata of a card."""
        known = {
            "language": list(self.languages),
            "license": self.licences[0] if len(self.licences) == 1 else list(self.licences),
            "license_name": self.licence_name,
            "license_link": self.licence_link,
        }
        return {name: value for name, value in known.items() if value}

    def section(self, source: str) -> str:
        """What the card says about the licence; a warning if none is known.

        Args:
            source: Name of the source.
        """
        if not self.licences:
            return (
                "## Licence\n\n> **Warning.** The licence of the source was not found. These texts are made of texts of "
                f"{escape(source)}, and its terms apply to them: find them out before you use or share this set.\n"
            )
        names = escape(", ".join(self.licences) + (f" ({self.licence_name})" if self.licence_name else ""))
        whose = "the card of the source says so" if self.carried else "who shares this set says so"
        return f"## Licence\n\n**{names}** ({whose}). These texts are made of texts of {escape(source)}.\n"


def hub_id(manifest: Mapping[str, Any]) -> str | None:
    """The id of the Hub dataset that a set was made from; None if it was made from something else."""
    found = _HUB_SOURCE.fullmatch(str(manifest.get("data", {}).get("source", "")))
    return found["id"] if found else None


def make_terms(
    manifest: Mapping[str, Any], api: HfApi, *, licence: str | None = None, languages: Sequence[str] = ()
) -> tuple[Terms, str | None]:
    """The terms that were given, and for the rest those of the source's own card, if it is on the Hub and can be read.

    Args:
        manifest: The set's.
        api: Whom to ask for the card; it may also lie in the Hub's cache.
        licence: Identifier of a licence.
        languages: ISO 639 codes.

    Returns:
        The terms, and a note for the user if no licence is known.

    Raises:
        InputError: If what was given makes no sense.
    """
    given = Terms((licence.lower(),) if licence else (), languages=tuple(languages))
    source = hub_id(manifest)
    if source is None:
        reason = "the source is no dataset of the Hub"
        found = Terms()
    elif given.licences and given.languages:
        return given, None
    else:
        found, reason = _read_card(source, api)
    licence_terms = given if given.licences else found
    terms = Terms(
        licence_terms.licences,
        licence_terms.licence_name,
        licence_terms.licence_link,
        given.languages or found.languages,
        licence_terms.carried,
    )
    if terms.licences:
        return terms, None
    return terms, f"no licence was found ({reason}); that of the source applies to the texts: name it with --license"


def _read_card(source: str, api: HfApi) -> tuple[Terms, str]:
    """The terms in the card of a dataset on the Hub, and why there is no licence among them."""
    from huggingface_hub import DatasetCard

    try:
        path = api.hf_hub_download(source, "README.md", repo_type="dataset")
        data = DatasetCard.load(path, ignore_metadata_errors=True).data.to_dict()
        licences = tuple(each.lower() for each in _strings(data.get("license")) if each.lower() != "unknown")
        languages = tuple(each for each in _strings(data.get("language")) if _LANGUAGE.fullmatch(each))
        name, link = (next(iter(_strings(data.get(key))), None) for key in ("license_name", "license_link"))
        terms = Terms(licences, name, link, languages, carried=bool(licences))
    except Exception as error:  # the Hub client raises many kinds, and a card may hold anything: without it none is known
        return Terms(), f"the card of {source!r} could not be read: {type(error).__name__}"
    return terms, f"the card of {source!r} names none"


def _strings(value: Any) -> list[str]:
    """A string, or the strings of a list; what is neither is left out."""
    return [each for each in (value if isinstance(value, list) else [value]) if isinstance(each, str) and each]
