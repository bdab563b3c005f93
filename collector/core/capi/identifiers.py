"""Which browser identifiers does Meta take: fbc, fbp, address, URL; and which of them must be left out?

Each function gives the value to send, or None with the reason through `Drop`. Sources: meta-capi 2b, 4a, 4b, 4d.
"""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from typing import Final

MAX_FBC_AGE_MS: Final = 90 * 86_400_000  # the cookie's life, and what Meta's diagnostics accept
CLOCK_SLACK_MS: Final = 600_000  # how far a page's clock may be ahead of ours (rulings 1)

# fb.<subdomain index>.<creation ms>.<fbclid>[.<appendix>]; the appendix is a legacy token or 8 base64url characters.
_FBC: Final = re.compile(
    r"fb\.(\d{1,2})\.(\d{13})\.([A-Za-z0-9_-]{1,500})(\.(?:AQ|Ag|Aw|BA|BQ|Bg|[A-Za-z0-9_-]{8}))?", re.ASCII
)
# The random part has 1 to 18 digits: the server builder draws below 2^31, the page's joins two numbers of nine digits.
_FBP: Final = re.compile(r"fb\.\d{1,2}\.\d{10,13}\.\d{1,20}(?:\.(?:AQ|Ag|Aw|BA|BQ|Bg|[A-Za-z0-9_-]{8}))?", re.ASCII)
_FBCLID: Final = re.compile(r"[A-Za-z0-9_-]{1,500}", re.ASCII)
_PLACEHOLDERS: Final = frozenset(
    {"fbclid", "null", "undefined", "none", "nan", "true", "false", "test_fbclid_placeholder"}
)
_V4: Final = re.compile(r"(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})", re.ASCII)
_V4_PORT: Final = re.compile(r"(\d{1,3}(?:\.\d{1,3}){3}):\d{1,5}", re.ASCII)
_V6_PORT: Final = re.compile(r"\[([0-9a-fA-F:.]+)\](?::\d{1,5})?", re.ASCII)
_APPENDIX: Final = re.compile(r"\.(?:AQ|Ag|Aw|BA|BQ|Bg|[A-Za-z0-9_-]{8})$", re.ASCII)
_URL: Final = re.compile(r"https?://[^\s/?#@]+(?:[/?#]\S*)?", re.IGNORECASE)
_PRIVATE: Final = tuple(
    ipaddress.ip_network(net)
    for net in ("::/128", "::1/128", "fe80::/10", "fc00::/7")
)  # fmt: skip


def is_fbclid(text: str) -> bool:
    """Whether Meta's own cookie parser would read `text` back whole. Case is kept, nothing is decoded."""
    return _FBCLID.fullmatch(text) is not None and text.lower() not in _PLACEHOLDERS and not text.startswith("__")


def build_fbc(fbclid: str, first_seen: int) -> str:
    """An fbc for an fbclid that a server saw: index 1, as Meta says for a server without a cookie."""
    return f"fb.1.{first_seen}.{fbclid}"


def usable_fbc(fbc: str, event_ms: int) -> str | None:
    """The fbc to send with an event at `event_ms`, byte for byte, or None: malformed, over 90 days old, later than it.

    A creation time that is up to ten minutes later than the event is a page's clock running ahead; the click was seen
    at the event at the latest, so that time is stated instead.
    """
    if (found := _FBC.fullmatch(fbc)) is None:
        return None
    created = int(found[2])
    if event_ms - created > MAX_FBC_AGE_MS or found[3].lower() in _PLACEHOLDERS:
        return None
    if created // 1000 <= event_ms // 1000:
        return fbc
    if created - event_ms > CLOCK_SLACK_MS:
        return None
    return f"fb.{found[1]}.{event_ms}.{found[3]}{found[4] or ''}"


def fbclid_of(fbc: str) -> str | None:
    """The click id inside an fbc; None for a malformed one."""
    return found[3] if (found := _FBC.fullmatch(fbc)) else None


def is_fbp(text: str) -> bool:
    """Whether `text` is a browser id in Meta's form, with or without the param builder's appendix."""
    return _FBP.fullmatch(text) is not None


def public_address(text: str) -> str | None:
    """The address alone: no port, no brackets, no appendix, IPv4 where it is mapped; None where it is not public.

    Only what Meta's own builder calls private is left out; documentation and carrier ranges are sent.
    """
    if (found := _V4.fullmatch(text)) is not None:
        return text if _public_v4(int(found[1]), int(found[2]), int(found[3]), int(found[4])) else None
    return _odd_address(text)


def _public_v4(a: int, b: int, c: int, d: int) -> bool:
    if a > 255 or b > 255 or c > 255 or d > 255:
        return False
    if a in (0, 10, 127):
        return False
    return not ((a == 172 and 16 <= b <= 31) or (a == 192 and b == 168) or (a == 169 and b == 254))


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
    return None if any(address in net for net in _PRIVATE) else str(address)


def is_url(text: str) -> bool:
    """An absolute http(s) URL with a host and without user and password."""
    return _URL.fullmatch(text) is not None
