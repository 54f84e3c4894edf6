"""Patterns and checksums of personal data and secrets; each search yields positions in a text."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator

Span = tuple[int, int]

# E-mail addresses. Letters of Latin, Greek and Cyrillic; a repetition is bounded, so that time is linear.
_LETTER = "A-Za-z0-9\u00c0-\u024f\u0370-\u03ff\u0400-\u04ff"
_EMAIL = re.compile(
    rf"(?<![{_LETTER}])[{_LETTER}][{_LETTER}._%+'\-]{{0,63}}@"
    rf"(?:[{_LETTER}](?:[{_LETTER}\-]{{0,61}}[{_LETTER}])?\.){{1,8}}(?P<domain>[{_LETTER}\-]{{2,24}})"
    rf"(?![{_LETTER}])"
)

#: Endings of domains with more than nine letters; shorter ones all count.
_LONG_DOMAIN = re.compile(
    "accountants?|apartments|associates|basketball|construction|consulting|contractors|creditcard"
    "|creditunion|engineering|enterprises|eurovision|foundation|healthcare|immobilien|industries"
    "|international|investments|localdomain|management|motorcycles|newsletter|photography|productions"
    "|properties|protection|recruitment|restaurant|republican|technology|university|versicherung"
    "|vlaanderen|xn--[a-z0-9-]+"
)

#: Endings of files, as in ``icon@2x.png``.
_FILE = re.compile("png|jpe?g|gif|svg|webp|css|js")


def _emails(text: str) -> Iterator[Span]:
    if "@" not in text:
        return
    for match in _EMAIL.finditer(text):
        domain = match["domain"].casefold()
        known = domain.isalpha() and len(domain) <= 9 and not _FILE.fullmatch(domain)
        if known or _LONG_DOMAIN.fullmatch(domain):
            yield match.span()


# Telephone numbers. Groups of digits with a single separator, or brackets around one group.
_DIGITS = re.compile(r"\d(?:[ ().\-/\u00a0\u2011]{0,3}\d){6}")
_SEPARATOR = r"(?:[ \u00a0]?[.\-/\u2011\u2013][ \u00a0]?|[ \u00a0]|\)[ \u00a0]?|[ \u00a0]?\()"
_START = r"(?<![\w.,:/$€£#+\-])"
_END = r"(?![\w]|[.,:/\-]\d|[ \u00a0]?%)"
#: Country codes of the International Telecommunication Union by their first digits.
_COUNTRY = (
    r"(?:1|7|2[07]|2[1-689]\d|3[0-469]|3[578]\d|4[013-9]|42\d|5[1-8]|5[09]\d|6[0-6]|6[789]\d|8[1246]|8[05]\d"
    r"|88\d|9[0-58]|9[679]\d)"
)
_INTERNATIONAL = re.compile(
    rf"(?<![\w+])(?:\+[ \u00a0]?|(?<!\d{{4}}[ \-])00(?=[1-9]\d?\d?[ \u00a0\-/(]))(?P<rest>{_COUNTRY}"
    rf"(?:{_SEPARATOR}?\d){{6,13}}){_END}"
)
_NORTH_AMERICAN = re.compile(
    rf"{_START}(?:1[ .\-])?(?:\([2-9]\d\d\) ?[2-9]\d\d[ .\-]\d{{4}}"
    rf"|[2-9]\d\d(?P<sign>[ .\-\u2011])[2-9]\d\d(?P=sign)\d{{4}}|[2-9]\d\d/[2-9]\d\d-\d{{4}}){_END}"
)
_PAIRS = re.compile(rf"{_START}(?<!\d[ .\-])0[1-9](?:[ .\-]\d\d){{4}}(?![ .\-]?\d){_END}")
_NATIONAL = re.compile(
    rf"{_START}(?<!\d{{4}}[ \-])(?:\(0[1-9]\d{{1,4}}\)|0[1-9]\d{{1,4}})(?:{_SEPARATOR}\d{{1,9}}){{1,4}}{_END}"
)
_AFTER_CUE = re.compile(
    r"(?i:\b(?:tele?phone|phone|tel|telefon|teléfono|téléphone|tél|fon|mobile|mobil|handy|cell|cellphone|fax"
    r"|whatsapp|call (?:me|us|him|her|them)|ring (?:me|us)|text (?:me|us)|reach (?:me|us)|hotline"
    r"|contact number|my number)\b(?:[ .:#]{1,3}(?:number|no|nr|at|on|is|under|unter|line|free)\b){0,3}"
    r"[ .:#\u00a0]{0,3}\(?)"
    rf"(?P<number>(?<![\d.,$€£-])\d(?:{_SEPARATOR}?\d){{6,14}}){_END}"
)
_THOUSANDS = re.compile(r"[ \u00a0]000[ \u00a0]000$")
_YEARS = re.compile(r"(?:19|20)\d\d\D+(?:19|20)?\d\d(?:\D|$)")
_DATE = re.compile(r"\d{1,2}[./\-](?:0?[1-9]|1[0-2])[./\-](?:19|20)?\d\d(?!\d)|\d{4}-\d\d-\d\d(?!\d)")


def _phones(text: str) -> Iterator[Span]:
    if not _DIGITS.search(text):
        return
    for match in _INTERNATIONAL.finditer(text):
        if 8 <= _count_digits(match["rest"]) <= 15 and not _THOUSANDS.search(match["rest"]):
            yield match.span()
    for pattern in (_NORTH_AMERICAN, _PAIRS):
        yield from (match.span() for match in pattern.finditer(text) if not _DATE.match(match[0]))
    for match in _NATIONAL.finditer(text):
        groups = list(re.finditer(r"\d+", match[0]))
        while len(groups) > 2 and sum(len(group[0]) for group in groups) > 12:
            groups.pop()  # the next number follows
        digits = sum(len(group[0]) for group in groups)
        fits = 9 <= digits <= 12 and max(len(group[0]) for group in groups[1:]) >= 3
        if fits and not _DATE.match(match[0]):
            yield match.start(), match.start() + groups[-1].end()
    for match in _AFTER_CUE.finditer(text):
        number = match["number"]
        if not (_DATE.match(number) or _YEARS.match(number) or _SOCIAL_SECURITY.match(number)):
            yield match.span("number")


def _count_digits(text: str) -> int:
    return sum(character.isdigit() for character in text)


# Social security numbers of the United States with their hyphens.
_SOCIAL_SECURITY = re.compile(r"(?<![\w\-])(?!000|666|9\d\d)\d{3}-(?!00)\d\d-(?!0000)\d{4}(?![\w\-])")


def _social_security_numbers(text: str) -> Iterator[Span]:
    if text.count("-") >= 2:
        yield from (match.span() for match in _SOCIAL_SECURITY.finditer(text))


# IBANs, with the length of each country.
_IBAN = re.compile(r"(?<![^\W_])[A-Z]{2}\d{2}(?:[ \-]?[A-Z0-9]){11,30}", re.IGNORECASE)
_IBAN_LENGTHS = {
    countries[start : start + 2]: length
    for length, countries in {
        15: "NO",
        16: "BE",
        18: "DKFIFOGLNLSD",
        19: "MKSI",
        20: "ATBAEEKZLTLUXK",
        21: "CHHRLILV",
        22: "BGBHCRDEGBGEIEMERSVA",
        23: "AEGIILIQOMSOTL",
        24: "ADCZESMDPKROSASESKTNVG",
        25: "LYPTST",
        26: "ISTR",
        27: "BIDJFRGRITMCMRSM",
        28: "ALAZBYCYDOGTHULBNIPLSV",
        29: "BREGPSQAUA",
        30: "JOKWMUYE",
        31: "MTSC",
        32: "LC",
        33: "RU",
    }.items()
    for start in range(0, len(countries), 2)
}


def _ibans(text: str) -> Iterator[Span]:
    for match in _IBAN.finditer(text):
        length, characters = _IBAN_LENGTHS.get(match[0][:2].upper(), 0), 0
        for offset, character in enumerate(match[0]):
            characters += character.isalnum()
            if characters == length:
                end = match.start() + offset + 1
                code = re.sub(r"[ \-]", "", text[match.start() : end]).upper()
                whole = not text[end : end + 1].isalnum()
                if whole and int("".join(str(int(sign, 36)) for sign in code[4:] + code[:4])) % 97 == 1:
                    yield match.start(), end
                break


# Card numbers: the first digits and lengths of the large issuers.
_CARD = re.compile(
    r"(?<![\w.,\-+])(?:\d{13,19}|\d{4}([ \-])\d{4}\1\d{4}\1\d{4}(?:\1\d{1,3})?|\d{4}([ \-])\d{6}\2\d{4,5})"
    r"(?![\w]|[.,\-]\d)"
)
_ISSUER = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})|5[1-5]\d{14}|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}|3[47]\d{13}"
    r"|6(?:011|4[4-9]\d|5\d\d)\d{12,15}|35\d{14}|3(?:0[0-5]|[689]\d)\d{11}|62\d{14,17}|(?:50|5[6-9]|6\d)\d{10,17}"
)


def _cards(text: str) -> Iterator[Span]:
    for match in _CARD.finditer(text):
        digits = re.sub(r"\D", "", match[0])
        if _ISSUER.fullmatch(digits) and len(set(digits)) > 1 and _has_luhn_checksum(digits):
            yield match.span()


def _has_luhn_checksum(digits: str) -> bool:
    doubled = (sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2])
    return (sum(map(int, digits[-1::-2])) + sum(doubled)) % 10 == 0


# IP addresses; four numbers after "version" are none, nor are four single digits.
_IPV4 = re.compile(r"(?<![\w.,\-/])(?:\d{1,3}\.){3}\d{1,3}(?![\w]|\.\d|-\d)")
_VERSION = re.compile(
    r"(?:version|ver|v|release|build|firmware|update|section|chapter)[ .:]*$", re.IGNORECASE
)
_IPV6 = re.compile(r"(?<![\w:.])[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7}(?![\w:])")


def _addresses(text: str) -> Iterator[Span]:
    if text.count(".") >= 3:
        for match in _IPV4.finditer(text):
            parts = match[0].split(".")
            valid = all(part == str(int(part)) and int(part) < 256 for part in parts) and parts[0] != "127"
            is_version = _VERSION.search(text, max(0, match.start() - 12), match.start())
            if valid and max(map(len, parts)) > 1 and not is_version:
                yield match.span()
    if text.count(":") >= 2:
        for match in _IPV6.finditer(text):
            groups = [group for group in match[0].split(":") if group]
            if len(groups) >= 3 and any(map(str.isdigit, match[0])) and _is_ipv6(match[0]):
                yield match.span()


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


# Links with a password, and with a parameter that authorises their holder.
_PASSWORD = re.compile(r"\b[a-z][a-z0-9+.\-]{0,20}://[^\s/:@]{1,200}:[^\s/@]{1,200}@[^\s/]+", re.IGNORECASE)
_TOKEN = re.compile(
    r"\bhttps?://[^\s<>\"']{1,500}?[?&#;](?:[\w\-]{0,20}token|api_?key|key|sig|signature|x-amz-signature"
    r"|x-amz-credential|auth|password|passwd|pwd|secret|client_secret|session_?id|sid|jwt)="
    r"[^\s&<>\"']{8,}[^\s<>\"']*",
    re.IGNORECASE,
)
_WEBHOOK = re.compile(r"\bhttps://hooks\.slack\.com/services/[\w/]{20,}")


def _passwords(text: str) -> Iterator[Span]:
    if "://" in text:
        yield from (match.span() for match in _PASSWORD.finditer(text))


def _tokens(text: str) -> Iterator[Span]:
    if "://" in text:
        for pattern in (_TOKEN, _WEBHOOK):
            yield from (match.span() for match in pattern.finditer(text))


# Keys of services by their published forms, and values behind words such as "password:".
_MARKS = (
    *("AKIA", "ASIA", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-", "sk-", "xox", "AIza"),
    *("sk_", "rk_", "hf_", "npm_", "pypi-", "eyJ", "SG.", "dop_v1_"),
)
_SECRET = re.compile(
    r"(?<![A-Za-z0-9])(?:(?:AKIA|ASIA)[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{36,}|github_pat_\w{40,}"
    r"|glpat-[\w\-]{20,}|sk-(?=[\w\-]{0,200}\d)[\w\-]{20,}|xox[abposr]-[A-Za-z0-9\-]{10,}|AIza[\w\-]{35}"
    r"|[sr]k_(?:live|test)_[A-Za-z0-9]{16,}|hf_[A-Za-z0-9]{30,}|npm_[A-Za-z0-9]{36}|pypi-[\w\-]{50,}"
    r"|eyJ[\w\-]{10,}\.eyJ[\w\-]{10,}\.[\w\-]{10,}|SG\.[\w\-]{16,}\.[\w\-]{16,}|dop_v1_[0-9a-f]{64})",
    re.ASCII,
)
_ASSIGNED = re.compile(
    r"(?i:(?<![a-z])(?:password|passwort|passwd|pwd|api[_ \-]?key|secret|access[_ \-]?token))"
    r" ?(?:is )?[:=] ?[\"']?"
    r"(?P<value>(?=[^\s\"']{0,60}\d)(?=[^\s\"']{0,60}[A-Za-z])[^\s\"'<>]{8,})"
)
_PRIVATE = re.compile(
    r"-----BEGIN (?:[A-Z0-9]{1,20} ){0,3}PRIVATE KEY(?: BLOCK)?-----(?:(?!-----BEGIN).)*?"
    r"(?:-----END [A-Z0-9 ]{1,60}-----|\Z)",
    re.DOTALL,
)


def _secrets(text: str) -> Iterator[Span]:
    if any(mark in text for mark in _MARKS):
        yield from (match.span() for match in _SECRET.finditer(text))
    if ":" in text or "=" in text:
        yield from (match.span("value") for match in _ASSIGNED.finditer(text))


def _private_keys(text: str) -> Iterator[Span]:
    if "-----BEGIN" in text:
        yield from (match.span() for match in _PRIVATE.finditer(text))


#: The searches, each with the name of its kind.
SEARCHES: tuple[tuple[Callable[[str], Iterator[Span]], str], ...] = (
    (_emails, "EMAIL_ADDRESS"),
    (_phones, "PHONE_NUMBER"),
    (_social_security_numbers, "US_SSN"),
    (_ibans, "IBAN_CODE"),
    (_cards, "CREDIT_CARD"),
    (_addresses, "IP_ADDRESS"),
    (_passwords, "URL_WITH_PASSWORD"),
    (_tokens, "URL_WITH_TOKEN"),
    (_secrets, "SECRET_KEY"),
    (_private_keys, "PRIVATE_KEY"),
)
