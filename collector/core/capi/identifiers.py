"""Which browser identifiers does Meta take: fbc, fbp, address, URL; and which of them must be left out?

Each function gives the value to send, or None with the reason through `Drop`.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from collector.core import addresses, clickid, urls

MAX_FBC_AGE_MS: Final = 90 * 86_400_000  # the cookie's life, and what Meta's diagnostics accept
CLOCK_SLACK_MS: Final = 600_000  # how far a page's clock may be ahead of ours

# The common case of each in one match; what it does not take is looked at in parts.
_PLAIN_FBC: Final = re.compile(r"fb\.[0-2]\.(\d{13})\.[A-Za-z0-9_-]{17,500}", re.ASCII)  # longer than any placeholder
# The names of the matches that payload.py asks itself: a call costs as much again.
# Of blocks in which every address is a visitor's; of the others addresses.is_public says which.
is_plain_address: Final = re.compile(
    r"(?!(?:0|10|100|127|169|172|192|198|203|22[4-9]|2[345]\d)\.)"
    r"(?:(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)\.){3}(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)",
    re.ASCII,
).fullmatch
is_plain_fbp: Final = re.compile(r"fb\.[0-2]\.\d{13}\.\d{1,20}", re.ASCII).fullmatch
# ASCII; no "/?#@" in the host, which has a name of the internet.
_is_plain_url: Final = re.compile(
    r"https://(?:[A-Za-z0-9-]+\.)+(?!(?:local(?:host)?|internal|intranet|lan|home|test|invalid)/)[A-Za-z]{2,}/[!-~]*"
).fullmatch
# First bytes of addresses that are all visitors'.
_PUBLIC_STARTS: Final = frozenset(map(str, range(1, 224))) - {"10", "100", "127", "169", "172", "192", "198", "203"}
_APPENDIX: Final = re.compile(r"\.(?:AQ|Ag|Aw|BA|BQ|Bg|[A-Za-z0-9_-]{8})$", re.ASCII)
_HOST: Final = re.compile(r"https?://(\[[0-9a-fA-F:.]+\]|[^\s/?#@:\[\]]+)(?::\d+)?(?=[/?#]|\Z)", re.IGNORECASE)
_CACHED_LENGTH: Final = 512  # with 1,024 entries: 1 MB at most
_NO_TOP_LEVEL: Final = frozenset({"localhost", "local", "internal", "intranet", "lan", "home", "test", "invalid"})


def usable_fbc(fbc: str, event_ms: int) -> str | None:
    """The fbc to send with an event at `event_ms`, byte for byte, or None: malformed, over 90 days old, later than it.

    A creation time that is up to ten minutes later than the event is a page's clock running ahead; the click was seen
    at the event at the latest, so that time is stated instead.
    """
    if (plain := _PLAIN_FBC.fullmatch(fbc)) is not None and 0 <= event_ms - int(plain[1]) <= MAX_FBC_AGE_MS:
        return fbc
    if not clickid.is_fbc(fbc) or (parts := clickid.parse_fbc(fbc)) is None:
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


def fbclid_of(fbc: str) -> str | None:
    """The click id inside an fbc; None for a malformed one."""
    return parts.fbclid if (parts := clickid.parse_fbc(fbc)) else None


def public_address(text: str) -> str | None:
    """The address alone: no port, no brackets, no appendix, IPv4 where it is mapped; None where it is no visitor's."""
    return text if is_plain_address(text) is not None else _odd_address(text)


def public_normalised(text: str) -> str | None:
    """As `public_address`, of a text that `addresses.normalise` gave; nearly always in a third of the time."""
    return text if text[: text.find(".")] in _PUBLIC_STARTS or addresses.is_public(text) else None


@lru_cache(maxsize=4096)
def _odd_address(text: str) -> str | None:
    address = addresses.normalise(text) or addresses.normalise(_APPENDIX.sub("", text.strip()))
    return address if address is not None and addresses.is_public(address) else None


def public_page(text: str) -> str | None:
    """The address of a page as it is sent: absolute, on the internet, without personal data; None where it is not.

    A developer's machine and a host inside somebody's network tell Meta nothing: it compares verified domains.
    """
    return _short_page(text) if len(text) <= _CACHED_LENGTH else _page(text)


def _page(text: str) -> str | None:
    return urls.read(text) if _is_plain_url(text) is not None or _is_on_the_internet(text) else None


_short_page: Final = lru_cache(maxsize=1024)(_page)


def _is_on_the_internet(url: str) -> bool:
    found = _HOST.match(url)
    if found is None:
        return False
    if (address := addresses.normalise(found[1].strip("[]"))) is not None:
        return addresses.is_public(address)
    name = found[1].lower().rstrip(".")
    return "." in name and name.rpartition(".")[2] not in _NO_TOP_LEVEL
