"""By which names does a body tell whose event it is: visitor, event, click, Meta's cookies, an address?

Each is read or, with its name in `ignored`, left out; none refuses an order.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from typing import Final

from collector.core import addresses, clickid, personal
from collector.errors import ApiError

_UNKNOWN_ADDRESSES: Final = frozenset({"", "unknown", "null", "undefined", "-"})
_BLANKS_AND_QUOTES: Final = " \t\r\n\"'"


def event_id(text: str | None, ignored: list[str]) -> str | None:
    """The caller's own; one that holds an e-mail address or a phone goes by its hash."""
    if not text or not personal.is_in(text):
        return text
    ignored.append("eventId")
    return sha256(text.encode()).hexdigest()[:32]


def visitor_id(text: str | None, ignored: list[str]) -> str | None:
    """A random name of a browser; a person's own is none."""
    if text and personal.is_in(text):
        ignored.append("visitorId")
        return None
    return text or None


def fbclid(value: str | None, now: int, ignored: list[str]) -> str | None:
    fbclid = value.strip() if value else ""
    if fbclid and clickid.fault(fbclid, now) is not None:
        ignored.append("fbclid")
        return None
    return fbclid or None


def fbc(value: str | None, ignored: list[str]) -> str | None:
    return _of_form(value, clickid.is_fbc, "fbc", ignored)


def check_fbc_age(value: str, now: int) -> None:
    fbc = clickid.parse_fbc(value)
    if fbc is not None and now - fbc.created > clickid.MAX_AGE_DAYS * clickid.DAY_MS:
        raise ApiError("invalid_fbclid", "the click is over 90 days old, by the creation time of its fbc", "fbc")


def fbp(value: str | None, ignored: list[str]) -> str | None:
    return _of_form(value, clickid.is_fbp, "fbp", ignored)


def _of_form(value: str | None, fits: Callable[[str], bool], field: str, ignored: list[str]) -> str | None:
    """One of Meta's cookies as it came, without blanks and quotes around it; another form is left out."""
    if not value or fits(value):
        return value or None
    bare = value.strip(_BLANKS_AND_QUOTES)
    if fits(bare):
        return bare
    if bare:
        ignored.append(field)
    return None


def odd_address(text: str, ignored: list[str]) -> str | None:
    """The first public one of a list, or the one before the suffix of Meta's builder; else named."""
    found = addresses.first_public(text)
    if (found is None or addresses.is_list(text)) and text.strip().lower() not in _UNKNOWN_ADDRESSES:
        ignored.append("ipAddress")
    return found
