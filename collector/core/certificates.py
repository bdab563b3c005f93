"""Until when is a certificate good? Its validity out of DER (RFC 5280 4.1): Python's ssl tells it of a peer's only."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final, NamedTuple

_SEQUENCE, _VERSION, _UTC_TIME = 0x30, 0xA0, 0x17
_DAY_MS: Final = 86_400_000
SOON_DAYS: Final = 14  # of 90, as most are given; who renews at 30 has had two weeks


class Validity(NamedTuple):
    """Milliseconds of the epoch."""

    begins: int
    ends: int


def validity(der: bytes) -> Validity:
    """The certificate's validity; ValueError where it is no certificate."""
    try:
        whole = _content(der, 0)[1]
        signed = _content(whole, 0)[1]
        at = 0
        if signed[0] == _VERSION:
            at = _content(signed, at)[2]
        for _ in range(3):  # serial number, algorithm, issuer
            at = _content(signed, at)[2]
        times = _content(signed, at)[1]
        begins = _content(times, 0)
        ends = _content(times, begins[2])
        return Validity(_instant(begins[0], begins[1]), _instant(ends[0], ends[1]))
    except IndexError:
        raise ValueError("no certificate") from None


def _content(der: bytes, at: int) -> tuple[int, bytes, int]:
    """Tag and content of the element at `at`, and where the next one begins."""
    tag, length, start = der[at], der[at + 1], at + 2
    if length > 127:
        count = length & 127
        length, start = int.from_bytes(der[start : start + count]), start + count
    if start + length > len(der):
        raise IndexError
    return tag, der[start : start + length], start + length


def _instant(tag: int, text: bytes) -> int:
    """UTCTime has two digits of the year, of 1950 to 2049; GeneralizedTime has four."""
    written = text.decode("ascii")
    if tag == _UTC_TIME:
        written = ("19" if written[:2] >= "50" else "20") + written
    return int(datetime.strptime(written, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp() * 1000)


def doubt(valid: Validity, now: int) -> str | None:
    """What is wrong with a certificate of this validity, or will be soon; None where nothing is."""
    if valid.ends <= now:
        return f"it ended on {_date(valid.ends)}: browsers and shops refuse it; renew it"
    if valid.begins > now:
        return f"it begins on {_date(valid.begins)}: until then browsers and shops refuse it; is the clock right?"
    if valid.ends - now < SOON_DAYS * _DAY_MS:
        return f"it ends on {_date(valid.ends)}; renew it"
    return None


def _date(ms: int) -> str:
    return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d %H:%M} UTC"
