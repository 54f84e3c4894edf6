"""Personal data and secrets in texts, found by patterns and checksums: no model, no network.

:func:`find_personal` finds them, :func:`mask` hides them in a quotation, and :class:`Redactor` replaces them
by placeholders. Names of people and places are not searched.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from dallme.errors import InputError
from dallme.personal.patterns import SEARCHES
from dallme.text import clean


@dataclass(frozen=True)
class Kind:
    """A kind of personal data.

    Attributes:
        name: Its name in documents; where Presidio knows the kind, Presidio's name.
        placeholder: Word of its placeholders: ``EMAIL`` gives ``<EMAIL_1>``.
        singular: Its name in a sentence.
        plural: Its name in a sentence about several.
    """

    name: str
    placeholder: str
    singular: str
    plural: str


KINDS = {
    kind.name: kind
    for kind in (
        Kind("EMAIL_ADDRESS", "EMAIL", "e-mail address", "e-mail addresses"),
        Kind("PHONE_NUMBER", "PHONE", "telephone number", "telephone numbers"),
        Kind("US_SSN", "SSN", "social security number", "social security numbers"),
        Kind("IBAN_CODE", "IBAN", "IBAN", "IBANs"),
        Kind("CREDIT_CARD", "CARD", "card number", "card numbers"),
        Kind("IP_ADDRESS", "IP", "IP address", "IP addresses"),
        Kind("URL_WITH_PASSWORD", "URL", "link with a password", "links with a password"),
        Kind("URL_WITH_TOKEN", "URL", "link with a token", "links with a token"),
        Kind("SECRET_KEY", "SECRET", "secret key", "secret keys"),
        Kind("PRIVATE_KEY", "SECRET", "private key", "private keys"),
    )
}


@dataclass(frozen=True, order=True)
class PersonalMatch:
    """Possible personal data in a text.

    Attributes:
        start: Position of its first character.
        end: Position after its last character.
        kind: Name of its kind, a key of :data:`KINDS`.
        text: The matched characters.
    """

    start: int
    end: int
    kind: str
    text: str

    @property
    def masked(self) -> str:
        """The masked value; see :func:`mask_value`."""
        return mask_value(self.text)


def mask_value(value: str) -> str:
    """Returns the first character and three asterisks; only the asterisks if it is a sign or a bracket."""
    return f"{value[0]}***" if value[:1].isalnum() else "***"


def find_personal(text: str) -> list[PersonalMatch]:
    """Finds possible personal data in the order of the text; of overlapping matches the longest.

    Numbers count only if their form or checksum leaves little doubt: IBANs (mod 97), cards (Luhn), telephone
    numbers with a country code, in a national notation or after a word such as "phone". Dates, scores, prices
    and years do not.

    Example:
        >>> [match.kind for match in find_personal("Write to jane@example.org, not on 2004-05-06.")]
        ['EMAIL_ADDRESS']
    """
    matches = [
        PersonalMatch(start, end, kind, text[start:end])
        for search, kind in SEARCHES
        for start, end in search(text)
    ]
    return without_overlaps(matches)


def without_overlaps(matches: Iterable[PersonalMatch]) -> list[PersonalMatch]:
    """Keeps the longest of overlapping matches, in the order of the text."""
    longest: list[PersonalMatch] = []
    for match in sorted(matches, key=lambda match: (match.start - match.end, match)):
        if all(match.end <= other.start or match.start >= other.end for other in longest):
            longest.append(match)
    return sorted(longest)


def mask(text: str) -> str:
    """Replaces personal data in a quotation by its first character and asterisks.

    Example:
        >>> mask("Write to jane@example.org.")
        'Write to j***.'
    """
    return _replace(text, lambda match: match.masked)


def mask_span(text: str, start: int, end: int) -> str:
    """Quotes the characters from `start` to `end`, with all personal data that they touch masked."""
    parts, position = [], start
    for match in find_personal(text):
        if match.start < end and match.end > start:
            parts += [text[position : match.start], match.masked]
            position = match.end
    return "".join([*parts, text[position:end]])


def count_kinds(matches: Iterable[PersonalMatch]) -> dict[str, int]:
    """Counts matches by the name of their kind, in the order of :data:`KINDS`; other kinds come last."""
    counts = Counter(match.kind for match in matches)
    return {name: counts[name] for name in (*KINDS, *sorted(counts.keys() - KINDS)) if counts[name]}


def describe_kinds(counts: Mapping[str, int]) -> str:
    """Writes counts by kind in words: ``2 e-mail addresses, 1 IBAN``."""
    named = []
    for name, count in counts.items():
        kind = KINDS.get(name) or Kind(name, name, name, name)
        named.append(f"{count:,} {kind.singular if count == 1 else kind.plural}")
    return ", ".join(named)


def describe_texts(texts: Sequence[str]) -> tuple[dict[str, int], str]:
    """Counts the personal data in texts, and says in words how many in which texts; no value is quoted.

    Returns:
        The counts by kind, and a phrase such as ``2 e-mail addresses (texts 0 and 3)``; blank if there are
        none.
    """
    found = {index: matches for index, text in enumerate(texts) if (matches := find_personal(text))}
    counts = count_kinds(match for matches in found.values() for match in matches)
    if not counts:
        return {}, ""
    shown = ", ".join(map(str, list(found)[:10])) + (", …" if len(found) > 10 else "")
    return counts, f"{describe_kinds(counts)} ({'text' if len(found) == 1 else 'texts'} {shown})"


class PersonalDataError(InputError):
    """Texts hold more personal data than is allowed."""


def check_personal(texts: Sequence[str], most: int, remedy: str) -> None:
    """Checks the number of places with personal data in texts.

    Args:
        texts: The texts.
        most: Maximum number of places.
        remedy: Advice at the end of the error.

    Raises:
        PersonalDataError: If there are more; the message names the texts and kinds, and no value.
    """
    counts, found = describe_texts(texts)
    if sum(counts.values()) > most:
        limit = f"at most {most:,} places with" if most else "texts without"
        raise PersonalDataError(f"expected {limit} personal data, found {found}; {remedy}")


class Redactor:
    """Replaces personal data by placeholders, the same value by the same placeholder.

    Values that differ in case or separators alone are the same. The numbers of the placeholders do not depend
    on the order of the texts.

    Example:
        >>> redactor = Redactor(["Ask jane@example.org.", "JANE@example.org knows."])
        >>> [redactor.redact(text) for text in redactor.texts]
        ['Ask <EMAIL_1>.', '<EMAIL_1> knows.']
    """

    def __init__(self, texts: Iterable[str]) -> None:
        """Finds the values.

        Args:
            texts: All texts that :meth:`redact` will be called with. Personal data that only shows once
                markup is removed and entities are decoded is found as well.
        """
        self.texts = list(texts)
        #: The texts with personal data, each with the form in which it shows.
        self._exposed = {text: exposed for text in self.texts if (exposed := _expose(text)) is not None}
        matches = [match for exposed in self._exposed.values() for match in _find_repeatedly(exposed)]
        #: Number of places in different texts, by the name of their kind.
        self.counts = count_kinds(matches)
        self._values = {(KINDS[match.kind].placeholder, _normalized(match)) for match in matches}

    @cached_property
    def _placeholders(self) -> dict[tuple[str, str], str]:
        """Placeholder of each kind and value, numbered in the order of the values' hashes."""
        taken = {name for text in self.texts for name in _PLACEHOLDER.findall(text)}
        numbers: Counter[str] = Counter()
        placeholders = {}
        for kind, value in sorted(self._values, key=lambda pair: hashlib.sha256(pair[1].encode()).digest()):
            numbers[kind] += 1
            while f"<{kind}_{numbers[kind]}>" in taken:
                numbers[kind] += 1
            placeholders[kind, value] = f"<{kind}_{numbers[kind]}>"
        return placeholders

    def redact(self, text: str) -> str:
        """Replaces the personal data of one of the texts; a text without any is returned unchanged."""
        return _replace(self._exposed[text], self._placeholder) if text in self._exposed else text

    def _placeholder(self, match: PersonalMatch) -> str:
        kind = KINDS[match.kind].placeholder
        return self._placeholders.get((kind, _normalized(match)), f"<{kind}_0>")


def _expose(text: str) -> str | None:
    """Returns the text, or its clean form where markup hides personal data in it; None without any."""
    cleaned = clean(text)
    found = find_personal(cleaned)
    raw = find_personal(text) if cleaned != text and ("<" in text or "&" in text) else found
    if not (found or raw):
        return None
    return cleaned if len(found) > len(raw) or raw is found else text


def _replace(text: str, replacement: Callable[[PersonalMatch], str]) -> str:
    """Replaces all matches, and those that only show once their neighbours are replaced."""
    while matches := find_personal(text):
        parts, position = [], 0
        for match in matches:
            parts += [text[position : match.start], replacement(match)]
            position = match.end
        text = "".join([*parts, text[position:]])
    return text


def _find_repeatedly(text: str) -> list[PersonalMatch]:
    """Finds the matches that :func:`_replace` replaces."""
    matches: list[PersonalMatch] = []

    def collect(match: PersonalMatch) -> str:
        matches.append(match)
        return f"<{KINDS[match.kind].placeholder}_0>"

    _replace(text, collect)
    return matches


def _normalized(match: PersonalMatch) -> str:
    """Returns the value without differences of case and separators."""
    if match.kind in ("PHONE_NUMBER", "IBAN_CODE", "CREDIT_CARD"):
        return re.sub(r"[^0-9a-z+]", "", match.text.casefold())
    return match.text.casefold() if match.kind in ("EMAIL_ADDRESS", "IP_ADDRESS") else match.text


_PLACEHOLDER = re.compile(r"<[A-Z]+_[0-9]+>")
