"""Personal data in texts: the patterns of :mod:`dallme.personal`, and Presidio's where it is installed."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from dallme.personal import PersonalMatch, find_personal, without_overlaps

#: Presidio's recognizers that need no language model. They find no names of people and places.
_RECOGNIZERS = ("Email", "Phone", "CreditCard", "Iban", "Ip", "Crypto", "MacAddress", "UsSsn", "UkNino")

#: Minimum confidence of Presidio; its weak patterns match any number of nine digits.
_LEAST_SCORE = 0.4

#: Name of the scan without Presidio.
PATTERNS = "dallme's patterns"


class Scanner:
    """Finds e-mail and network addresses, secrets, and numbers of phones, cards and accounts.

    Attributes:
        name: Presidio's package and version, or :data:`PATTERNS` if it is not installed.
        is_deep: Whether Presidio is installed.
    """

    def __init__(self) -> None:
        """Loads Presidio, if it is installed."""
        self.name, self.is_deep = PATTERNS, False
        self._recognizers: list[Any] = []
        try:
            from presidio_analyzer import predefined_recognizers
            from tldextract import TLDExtract
        except ImportError:
            return
        self.name, self.is_deep = f"presidio-analyzer {version('presidio-analyzer')}", True
        # The package's own list of domains, not one from the network.
        domains = TLDExtract(suffix_list_urls=(), cache_dir=None)
        for kind in _RECOGNIZERS:
            recognizer = getattr(predefined_recognizers, f"{kind}Recognizer")()
            if kind == "Email":
                recognizer.validate_result = lambda found: domains(found).fqdn != ""
            self._recognizers.append(recognizer)

    def scan(self, text: str) -> list[PersonalMatch]:
        """Finds possible personal data in the order of the text; of overlapping matches the longest."""
        matches = find_personal(text)
        for recognizer in self._recognizers:
            matches += [
                PersonalMatch(result.start, result.end, result.entity_type, text[result.start : result.end])
                for result in recognizer.analyze(text, recognizer.supported_entities, None)
                if result.score >= _LEAST_SCORE
            ]
        return without_overlaps(matches)
