"""How figures, ages, money and states are said to people."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

from markupsafe import Markup, escape

from collector.core.saying import money as money
from collector.core.saying import number as number
from collector.core.saying import percent as percent

# By what an order's click is known.
METHODS: Final = {
    "click_id": "Click id named by the caller",
    "fbclid": "Meta click id",
    "visitor_id": "Visitor cookie",
    "fbp": "Meta browser id",
    "fbc_unseen": "Meta click id, click not stored",
    "external_id": "Customer id",
    "email": "E-mail",
    "phone": "Phone",
    "email_weak": "E-mail without its +tag",
    "probabilistic": "Inferred",
}
_UNITS = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def method(name: str | None) -> str:
    """By what a click is known, in the middle of a sentence: `visitor cookie`."""
    said = METHODS.get(name or "", (name or "").replace("_", " "))
    return said[:1].lower() + said[1:]


def seconds(span: float) -> str:
    """A span in its largest unit: 45 s, 12 min, 3 h, 2 d."""
    for size, unit in _UNITS:
        if span >= size:
            return f"{span / size:.0f} {unit}"
    return "0 s"


def span(seconds_: float) -> str:
    """A duration with two figures that tell: 0.9 s, 42 s, 2.5 min, 71 h, 6 d."""
    for size, unit in ((86_400 * 4, "d"), (3600 * 2, "h"), (120, "min")):
        if seconds_ >= size:
            n = seconds_ / {"d": 86_400, "h": 3600, "min": 60}[unit]
            return f"{n:.0f} {unit}" if n >= 10 else f"{n:.1f} {unit}"
    return f"{seconds_:.0f} s" if seconds_ >= 10 else f"{seconds_:.1f} s"


def iso(ms: int) -> str:
    """Milliseconds since 1970 as the contract writes times: RFC 3339 in UTC."""
    moment = datetime.fromtimestamp(ms / 1000, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S") + (f".{ms % 1000:03d}Z" if ms % 1000 else "Z")


def ago(ms: int | None, now: int) -> Markup:
    """`<time>` with an age for people and the moment for machines; the page's script keeps it fresh."""
    if ms is None:
        return Markup('<span class="muted">never</span>')
    span = (now - ms) / 1000
    text = f"{seconds(span)} ago" if span >= 1 else ("just now" if span > -60 else f"in {seconds(-span)}")
    return Markup('<time datetime="{}" title="{}">{}</time>').format(iso(ms), iso(ms).replace("T", " "), text)


def day(number_of_days: int) -> str:
    """Days since 1970 -> `Tue 3 Nov`."""
    moment = datetime.fromtimestamp(number_of_days * 86_400, UTC)
    return f"{moment:%a} {moment.day} {moment:%b}"


def bytes_(n: int) -> str:
    """1234567 -> 1.2 MB."""
    for size, unit in ((1_000_000_000, "GB"), (1_000_000, "MB"), (1000, "kB")):
        if n >= size:
            return f"{n / size:.1f} {unit}" if n < 100 * size else f"{n / size:,.0f} {unit}"
    return f"{n} B"


def some(names: Sequence[str], most: int) -> str:
    """The first of some names, and how many others there are."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


_ROOM_BYTES: Final = 46_000  # for the rows of a page: it has 60 KB


def fitting(rows: Sequence[dict[str, Any]], markup_bytes: int, room: int = 0) -> int:
    """How many of the rows a page has room for, with so much markup around each; one at least. `room`: bytes for them.

    Names are callers' own: 120 letters of a script of theirs are a kilobyte in a link.
    """
    room = room or _ROOM_BYTES
    for n, row in enumerate(rows):
        room -= markup_bytes + sum(len(str(escape(value)).encode()) for value in row.values())
        if room < 0:
            return max(n, 1)
    return len(rows)
