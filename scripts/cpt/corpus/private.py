"""Finds private data in texts, and masks it if asked: e-mail and IP addresses, phone numbers, keys.

E-mail and IP addresses and their replacements are those of FineWeb (Penedo et al. 2024; datatrove's
PIIFormatter). Every pattern is searched around a sign that it must contain, and has a bounded length, so
that the time is linear in any text.
"""

import ipaddress
import re
from collections.abc import Callable, Iterator, Mapping
from itertools import cycle

Span = tuple[int, int]

_LOCAL = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]"
_BEFORE = re.compile(rf"{_LOCAL}{{1,64}}(?:\.{_LOCAL}{{1,64}}){{0,8}}$")
_BYTE = r"(?:25[0-5]|2[0-4][0-9]|[01]?[0-9][0-9]?)"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_AFTER = re.compile(rf"(?:{_LABEL}\.){{1,8}}{_LABEL}|\[(?:{_BYTE}\.){{3}}{_BYTE}\]")
_LONGEST_LOCAL, _LONGEST_DOMAIN = 128, 255  # characters
_IPV4 = re.compile(rf"(?:{_BYTE}\.){{3}}{_BYTE}")
# Only the addresses assigned so far, 2000::/3: a::b is code.
_IPV6 = re.compile(r"(?<![\w:.])[23][0-9A-Fa-f]{3}:(?:[0-9A-Fa-f]{0,4}:){1,6}[0-9A-Fa-f]{0,4}(?![\w:])")
# International numbers, North American numbers, and numbers after a word such as `Tel:`.
_GAP = r"[ .\-\u00a0/]?"
_PHONES = re.compile(
    rf"(?<![\w+.])\+[1-9]\d{{0,2}}(?:{_GAP}\(\d{{1,4}}\))?(?:{_GAP}\d{{1,5}}){{2,6}}(?!\w)"
    r"|(?<![\w.+])(?:1[ .-])?(?:\([2-9]\d\d\) ?[2-9]\d\d[-. ]|[2-9]\d\d([-.])[2-9]\d\d\1)\d{4}(?![\w-])"
    rf"|(?<=[Tt]el: )\(?\d(?:{_GAP}[(]?\d[)]?){{6,14}}(?!\w)"
    rf"|(?<=[Tt]el\. )\(?\d(?:{_GAP}[(]?\d[)]?){{6,14}}(?!\w)"
    rf"|(?<=[Pp]hone: )\(?\d(?:{_GAP}[(]?\d[)]?){{6,14}}(?!\w)"
    rf"|(?<=[Ff]ax: )\(?\d(?:{_GAP}[(]?\d[)]?){{6,14}}(?!\w)"
)
_PRIVATE_KEY = re.compile(r"-----BEGIN (?:[A-Z0-9]{1,20} ){0,3}PRIVATE KEY(?: BLOCK)?-----")
_LONGEST_KEY = 20_000  # characters of a private key
# Tokens with the prefixes of known services.
_TOKENS = re.compile(
    r"\b(?:(?:AKIA|ASIA)[A-Z0-9]{16}\b|gh[opsur]_[A-Za-z0-9]{36,255}|github_pat_[A-Za-z0-9_]{22,255}"
    r"|glpat-[\w-]{20,64}|xox[abeoprs]-[A-Za-z0-9-]{10,255}|AIza[\w-]{35}|ya29\.[\w-]{20,512}"
    r"|sk-(?:[a-z]{2,10}-){0,3}[\w-]{20,255}|hf_[A-Za-z0-9]{30,64}|npm_[A-Za-z0-9]{36}|pypi-[\w-]{50,512}"
    r"|(?:sk|rk|pk)_(?:live|test)_[A-Za-z0-9]{16,128}|SG\.[\w-]{22}\.[\w-]{43}"
    r"|eyJ[\w-]{8,300}\.eyJ[\w-]{8,4000}\.[\w-]{8,1000})"
)
_SECRETS = re.compile(
    r"(?i:api[_-]?key|access[_-]?key|secret[_-]?key|client[_-]?secret|auth[_-]?token|access[_-]?token|password"
    r"|passwd)\\?[\"']?\s{0,4}[:=]\s{0,4}\\?[\"']([^\s\"'<>{}$\\]{8,200})\\?[\"']"
)
MASKS = {
    "emails": ("email@example.com", "firstname.lastname@example.org"),
    # FineWeb's: drawn at random; none of them answered at the time.
    "ips": (
        "22.214.171.124",
        "126.96.36.199",
        "188.8.131.52",
        "184.108.40.206",
        "220.127.116.11",
        "18.104.22.168",
    ),
    "phones": ("+1 202-555-0143", "+44 20 7946 0958"),  # reserved for fiction
    "keys": ("<KEY>",),
}


def emails_in(text: str) -> Iterator[Span]:
    """The spans of e-mail addresses."""
    place, end = text.find("@"), 0
    while place >= 0:
        begin = max(end, place - _LONGEST_LOCAL)
        before = _local_part(text, begin, place)
        after = _AFTER.match(text, place + 1, place + 1 + _LONGEST_DOMAIN)
        if before is not None and after:
            end = after.end()
            yield before, end
        place = text.find("@", max(place + 1, end))


def _local_part(text: str, begin: int, end: int) -> int | None:
    """Where the local part before an @ begins, at a word boundary; None if there is none."""
    first = end
    while first > begin and (text[first - 1] == "." or re.match(_LOCAL, text[first - 1])):
        first -= 1
    while first < end and (
        text[first] == "." or not _boundary(text, first) or not _BEFORE.match(text, first, end)
    ):
        first += 1
    return first if first < end else None


def _boundary(text: str, place: int) -> bool:
    """Whether there is a word boundary, `\\b`, before the character at `place`."""
    inside = place > 0 and (text[place - 1].isalnum() or text[place - 1] == "_")
    return inside != (text[place].isalnum() or text[place] == "_")


def ips_in(text: str) -> Iterator[Span]:
    """The spans of public IP addresses, of versions 4 and 6."""
    for pattern in (_IPV4, _IPV6):
        for match in pattern.finditer(text):
            try:
                public = ipaddress.ip_address(match[0]).is_global
            except ValueError:
                continue
            if public:
                yield match.span()


def phones_in(text: str) -> Iterator[Span]:
    """The spans of phone numbers, of at most 15 digits (E.164)."""
    for match in _PHONES.finditer(text):
        if 7 + match[0].startswith("+") <= sum(letter.isdigit() for letter in match[0]) <= 15:
            yield match.span()


def keys_in(text: str) -> Iterator[Span]:
    """The spans of private keys, of services' tokens, and of values assigned to names such as `api_key`."""
    for match in _PRIVATE_KEY.finditer(text):
        last = match[0].replace("BEGIN", "END", 1)
        end = text.find(last, match.end(), match.end() + _LONGEST_KEY)
        yield match.start(), end + len(last) if end >= 0 else match.end()
    for match in _TOKENS.finditer(text):
        yield match.span()
    for match in _SECRETS.finditer(text):
        yield match.span(1)


KINDS: dict[str, Callable[[str], Iterator[Span]]] = {
    "emails": emails_in,
    "phones": phones_in,
    "ips": ips_in,
    "keys": keys_in,
}


class PrivateData:
    """Finds the kinds of private data in `kinds`: {kind: mask or drop}."""

    def __init__(self, kinds: Mapping[str, str]):
        self.dropped = [kind for kind in KINDS if kinds.get(kind) == "drop"]
        self.masked = [kind for kind in KINDS if kinds.get(kind) == "mask"]

    def reason(self, text: str) -> tuple[str, int] | None:
        """The first kind for which the text must be dropped, and its number of matches; None: keep it."""
        for kind in self.dropped:
            if count := sum(1 for _ in KINDS[kind](text)):
                return kind, count
        return None

    def mask(self, text: str) -> tuple[str, dict[str, tuple[int, int]]]:
        """The text with its private data replaced; for each kind the number of replacements, and the bytes
        of UTF-8 that the text lost.

        The replacements of a kind take turns, starting with the first in each text, so that the result
        doesn't depend on earlier texts.
        """
        counts: dict[str, tuple[int, int]] = {}
        for kind in self.masked:
            spans = sorted(KINDS[kind](text))
            replacements, parts, end, removed = cycle(MASKS[kind]), [], 0, 0
            for first, last in spans:
                if first >= end and text[first:last] not in MASKS[kind]:
                    parts += (text[end:first], next(replacements))
                    end = last
                    removed += len(text[first:last].encode()) - len(parts[-1])
            if parts:
                text = "".join([*parts, text[end:]])
                counts[kind] = len(parts) // 2, removed
        return text, counts
