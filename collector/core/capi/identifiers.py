"""Which browser identifiers does Meta take: fbc, fbp, address, URL; and which of them must be left out?

Each function gives the value to send, or None with the reason through `Drop`. Sources: meta-capi 2b, 4a, 4b, 4d.
"""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from typing import Final

from collector.core import addresses, clickid

MAX_FBC_AGE_MS: Final = 90 * 86_400_000  # the cookie's life, and what Meta's diagnostics accept
CLOCK_SLACK_MS: Final = 600_000  # how far a page's clock may be ahead of ours (rulings 1)

_LEGACY_APPENDIX: Final = frozenset({"AQ", "Ag", "Aw", "BA", "BQ", "Bg"})  # the param builder's languages
# The common case of each in one match; what it does not take is looked at in parts.
_PLAIN_FBC: Final = re.compile(r"fb\.[0-2]\.(\d{13})\.[A-Za-z0-9_-]{1,500}", re.ASCII)
# The names of the matches that payload.py asks itself: a call costs as much again.
# Without what is no visitor's (addresses.is_public says which): a first look, and the whole answer nearly always.
is_plain_address: Final = re.compile(
    r"(?!(?:0|10|127|22[4-9]|2[345]\d)\.|169\.254\.|172\.(?:1[6-9]|2\d|3[01])\.|100\.(?:6[4-9]|[7-9]\d|1[01]\d|12[0-7])\."
    r"|192\.(?:168|0\.[02]|88\.99)\.|198\.(?:1[89]|51\.100)\.|203\.0\.113\.)"
    r"(?:(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)\.){3}(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)",
    re.ASCII,
).fullmatch
is_plain_fbp: Final = re.compile(r"fb\.[0-2]\.\d{13}\.\d{1,20}", re.ASCII).fullmatch
is_plain_url: Final = re.compile(r"https://[!\"$-.0->A-~]+/[!-~]*").fullmatch  # ASCII; no "/?#@" in the host
# First bytes of addresses that are all visitors'.
_PUBLIC_STARTS: Final = frozenset(map(str, range(1, 224))) - {"10", "100", "127", "169", "172", "192", "198", "203"}
_V4: Final = re.compile(r"\d{1,3}(?:\.\d{1,3}){3}", re.ASCII)
_V4_PORT: Final = re.compile(r"(\d{1,3}(?:\.\d{1,3}){3}):\d{1,5}", re.ASCII)
_V6_PORT: Final = re.compile(r"\[([0-9a-fA-F:.]+)\](?::\d{1,5})?", re.ASCII)
_APPENDIX: Final = re.compile(r"\.(?:AQ|Ag|Aw|BA|BQ|Bg|[A-Za-z0-9_-]{8})$", re.ASCII)
_URL: Final = re.compile(r"https?://[^\s/?#@]+(?:[/?#]\S*)?", re.IGNORECASE)


def usable_fbc(fbc: str, event_ms: int) -> str | None:
    """The fbc to send with an event at `event_ms`, byte for byte, or None: malformed, over 90 days old, later than it.

    A creation time that is up to ten minutes later than the event is a page's clock running ahead; the click was seen
    at the event at the latest, so that time is stated instead.
    """
    if (plain := _PLAIN_FBC.fullmatch(fbc)) is not None and 0 <= event_ms - int(plain[1]) <= MAX_FBC_AGE_MS:
        return fbc
    parts = clickid.parse_fbc(fbc)
    if parts is None or not _well_formed(fbc, parts):
        return None
    created = parts.created
    if event_ms - created > MAX_FBC_AGE_MS:
        return None
    if created // 1000 <= event_ms // 1000:
        return fbc
    if created - event_ms > CLOCK_SLACK_MS:
        return None
    tail = f".{parts.appendix}" if parts.appendix else ""
    return f"fb.{parts.subdomain_index}.{event_ms}.{parts.fbclid}{tail}"


def _well_formed(fbc: str, parts: clickid.Fbc) -> bool:
    """Stricter than reading a cookie: Meta counts milliseconds and refuses the batch for a bad suffix (2804001)."""
    if fbc[5:18] != str(parts.created):
        return False
    return parts.appendix is None or len(parts.appendix) == 8 or parts.appendix in _LEGACY_APPENDIX


def fbclid_of(fbc: str) -> str | None:
    """The click id inside an fbc; None for a malformed one."""
    return parts.fbclid if (parts := clickid.parse_fbc(fbc)) else None


def public_address(text: str) -> str | None:
    """The address alone: no port, no brackets, no appendix, IPv4 where it is mapped; None where it is no visitor's."""
    if is_plain_address(text) is not None:
        return text
    return None if _V4.fullmatch(text) is not None else _odd_address(text)


def public_normalised(text: str) -> str | None:
    """As `public_address`, of a text that `addresses.normalise` gave; nearly always in a third of the time."""
    return text if text[: text.find(".")] in _PUBLIC_STARTS else public_address(text)


@lru_cache(maxsize=4096)
def _odd_address(text: str) -> str | None:
    text = text.strip()
    for wrapped in (_V4_PORT, _V6_PORT):
        if (found := wrapped.fullmatch(text)) is not None:
            text = found[1]
    try:
        address = ipaddress.ip_address(text.split("%", 1)[0])
    except ValueError:
        bare = _APPENDIX.sub("", text)
        return public_address(bare) if bare != text else None
    if isinstance(address, ipaddress.IPv4Address):
        return public_address(str(address))
    if address.ipv4_mapped is not None:
        return public_address(str(address.ipv4_mapped))
    return str(address) if addresses.is_public(str(address)) else None


def is_url(text: str) -> bool:
    """An absolute http(s) URL with a host and without user and password."""
    return _URL.fullmatch(text) is not None
