"""RFC 3339 in and out: callers' timestamps as milliseconds, and the one form in which we answer."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

DAY_MS: Final = 86_400_000
AHEAD_MS: Final = 10 * 60_000  # a caller's clock may be this far ahead
PAGE_PAST_MS: Final = 7 * DAY_MS

_RFC3339: Final = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:)(\d\d)(?:\.(\d{1,9}))?(?:([Zz])|([+-]\d\d:\d\d))", re.ASCII
)
_LONGEST: Final = 35  # with nine digits of a second and an offset
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)


def parse(text: str) -> int | None:
    """Milliseconds since 1970 of an RFC 3339 timestamp, None when `text` is none; a leap second is the one before.

    Nothing that we are told of happened before 1970: programs print such times for "none" (Go 0001, .NET 0001, 1900).
    """
    return _parse(text) if len(text) <= _LONGEST else None


@lru_cache(maxsize=1024)  # an order has each of its times twice, and is told several times
def _parse(text: str) -> int | None:
    match = _RFC3339.fullmatch(text)
    if match is None:
        return None
    day, minutes, seconds, fraction, zulu, offset = match.groups()
    second = "59" if seconds == "60" else seconds
    try:
        moment = datetime.fromisoformat(f"{day}T{minutes}{second}{'+00:00' if zulu else offset}")
        whole = (moment - _EPOCH) // _MILLISECOND
    except (ValueError, OverflowError):
        return None
    return whole + (int(fraction.ljust(3, "0")[:3]) if fraction else 0) if whole >= 0 else None


def text(millis: int) -> str:
    """`2026-01-31T06:00:00Z`: UTC, whole seconds, as the contract's examples have it."""
    return _text(millis // 1000)


def exact(millis: int) -> str:
    """`2026-01-31T06:00:00.123Z`: what parse reads back to the millisecond."""
    return f"{_text(millis // 1000)[:-1]}.{millis % 1000:03d}Z"


@lru_cache(maxsize=4096)
def _text(seconds: int) -> str:
    return (_EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def year(millis: int) -> int:
    """The year of a moment, UTC."""
    return (_EPOCH + timedelta(milliseconds=millis)).year


def settle(claimed: int | None, received: int, past_ms: int | None) -> tuple[int, bool]:
    """The event's time, and whether the caller's clock had to be corrected to the time of receipt.

    `past_ms`: how long ago the caller may say that it was; None: however long.
    """
    if claimed is None:
        return received, False
    if claimed <= received + AHEAD_MS and (past_ms is None or claimed >= received - past_ms):
        return claimed, False
    return received, True
