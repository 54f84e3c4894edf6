"""Personal data in texts, found by Presidio's patterns only: nothing is downloaded or sent."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from dallme.errors import MissingDependencyError

#: Presidio's recognizers that need no language model. They find no names of people and places.
_RECOGNIZERS = ("Email", "Phone", "CreditCard", "Iban", "Ip", "Crypto", "MacAddress", "UsSsn", "UkNino")

#: Minimum confidence of Presidio; its weak patterns match any number of nine digits.
_LEAST_SCORE = 0.4

#: URLs with a user name and password.
_CREDENTIALS = re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s/:@]+:[^\s/@]+@[^\s/]+", re.IGNORECASE)


@dataclass(frozen=True)
class Personal:
    """Possible personal data.

    Attributes:
        kind: Its kind, as Presidio names it: ``EMAIL_ADDRESS``, ``PHONE_NUMBER`` …
        text: The matched characters.
    """

    kind: str
    text: str


class Scanner:
    """Finds e-mail and network addresses, passwords in links, and numbers of phones, cards and accounts.

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
        # The package's own list of domains, not one from the network.
        domains = TLDExtract(suffix_list_urls=(), cache_dir=None)
        for kind in _RECOGNIZERS:
            recognizer = getattr(predefined_recognizers, f"{kind}Recognizer")()
            if kind == "Email":
                recognizer.validate_result = lambda found: domains(found).fqdn != ""
            self._recognizers.append(recognizer)

    def scan(self, text: str) -> list[Personal]:
        """Finds possible personal data in the order of the text; of overlapping matches the longest."""
        matches = [(match.start(), match.end(), "URL_WITH_PASSWORD") for match in _CREDENTIALS.finditer(text)]
        for recognizer in self._recognizers:
            results = recognizer.analyze(text, recognizer.supported_entities, None)
            matches += [
                (result.start, result.end, result.entity_type)
                for result in results
                if result.score >= _LEAST_SCORE
            ]
        return [Personal(kind, text[start:end]) for start, end, kind in _without_overlaps(matches)]


def _without_overlaps(matches: Sequence[tuple[int, int, str]]) -> list[tuple[int, int, str]]:
    longest: list[tuple[int, int, str]] = []
    for start, end, kind in sorted(matches, key=lambda match: (match[0] - match[1], match)):
        if all(end <= other or start >= until for other, until, _ in longest):
            longest.append((start, end, kind))
    return sorted(longest)
