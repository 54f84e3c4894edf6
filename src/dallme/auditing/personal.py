"""Personal data in texts, found by Presidio's patterns alone: nothing is downloaded, and nothing leaves the machine."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from dallme.errors import MissingDependencyError

#: Presidio's recognizers that need no language model. Names of people and places are not among what they find.
_RECOGNIZERS = ("Email", "Phone", "CreditCard", "Iban", "Ip", "Crypto", "MacAddress", "UsSsn", "UkNino")

#: Least confidence, as Presidio gives it, of what is reported: its weak patterns match any number of nine digits.
_LEAST_SCORE = 0.4

#: Addresses of pages that hold a user's name and password.
_CREDENTIALS = re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s/:@]+:[^\s/@]+@[^\s/]+", re.IGNORECASE)


@dataclass(frozen=True)
class Personal:
    """A place that may hold personal data.

    Attributes:
        kind: Its kind, as Presidio names it: ``EMAIL_ADDRESS``, ``PHONE_NUMBER`` …
        text: The characters themselves.
    """

    kind: str
    text: str


class Scanner:
    """Looks for e-mail addresses, telephone, card, account and social security numbers, network addresses and passwords in links.

    Attributes:
        name: Presidio's package and version.
    """

    def __init__(self) -> None:
        """Loads Presidio.

        Raises:
            MissingDependencyError: If it is not installed.
        """
        try:
            from presidio_analyzer import predefined_recognizers
            from tldextract import TLDExtract
        except ImportError:
            raise MissingDependencyError("the scan for personal data", "presidio-analyzer", "audit") from None
        self.name = f"presidio-analyzer {version('presidio-analyzer')}"
        self._recognizers: list[Any] = []
        # The list of domains that comes with the package, in place of one from the network.
        domains = TLDExtract(suffix_list_urls=(), cache_dir=None)
        for kind in _RECOGNIZERS:
            recognizer = getattr(predefined_recognizers, f"{kind}Recognizer")()
            if kind == "Email":
                recognizer.validate_result = lambda found: domains(found).fqdn != ""
            self._recognizers.append(recognizer)

    def scan(self, text: str) -> list[Personal]:
        """Finds what may be personal data in a text, in its order, the longest where several overlap."""
        found = [(match.start(), match.end(), "URL_WITH_PASSWORD") for match in _CREDENTIALS.finditer(text)]
        for recognizer in self._recognizers:
            results = recognizer.analyze(text, recognizer.supported_entities, None)
            found += [
                (result.start, result.end, result.entity_type)
                for result in results
                if result.score >= _LEAST_SCORE
            ]
        return [Personal(kind, text[start:end]) for start, end, kind in _without_overlaps(found)]


def _without_overlaps(found: Sequence[tuple[int, int, str]]) -> list[tuple[int, int, str]]:
    kept: list[tuple[int, int, str]] = []
    for start, end, kind in sorted(found, key=lambda place: (place[0] - place[1], place)):
        if all(end <= other or start >= until for other, until, _ in kept):
            kept.append((start, end, kind))
    return sorted(kept)
