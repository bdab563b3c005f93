"""How figures, ages, money and states are said to people."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation

from markupsafe import Markup

from collector.core.amounts import decimals_of

_UNITS = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def number(n: float) -> str:
    """1234567 -> 1,234,567."""
    return f"{n:,}" if isinstance(n, int) else f"{n:,.1f}"


def percent(part: float, whole: float) -> str:
    """A share in whole percents where they tell enough, a dash where there is nothing to share."""
    if not whole:
        return "–"
    share = 100 * part / whole
    return f"{share:.1f} %" if 0 < share < 10 or 99 < share < 100 else f"{share:.0f} %"


def seconds(span: float) -> str:
    """A span in its largest unit: 45 s, 12 min, 3 h, 2 d."""
    for size, unit in _UNITS:
        if span >= size:
            return f"{span / size:.0f} {unit}"
    return "0 s"


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


def money(value: Decimal, code: str) -> str:
    """`EUR 1,234.50`: the code and not a sign, since a page may hold several currencies."""
    try:
        return f"{code} {value.quantize(Decimal(1).scaleb(-decimals_of(code))):,}".strip()
    except InvalidOperation:
        return f"{code} {value:,}".strip()
