"""How figures, shares and money are said to people."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

from collector.core.amounts import decimals_of


def number(n: float) -> str:
    """1234567 -> 1,234,567."""
    return f"{n:,}" if isinstance(n, int) else f"{n:,.1f}"


def age(ms: int) -> str:
    """A span in its largest unit: `45 s`, `12 min`, `3 h`, `2 days`."""
    for size, unit in ((172_800_000, "days"), (7_200_000, "h"), (120_000, "min")):
        if ms >= size:
            return f"{ms // (size // 2)} {unit}"
    return f"{ms // 1000} s"


def percent(part: float, whole: float) -> str:
    """A share in whole percents where they tell enough, a dash where there is nothing to share."""
    if not whole:
        return "–"
    share = 100 * part / whole
    return f"{share:.1f} %" if 0 < share < 10 or 99 < share < 100 else f"{share:.0f} %"


def change(now: float, before: float) -> str:
    """`+12 %`; a factor where a percentage says little; words where there was nothing."""
    if not before:
        return "none before" if now else ""
    share = 100 * (now - before) / before
    return f"{share:+.0f} %" if share < 1000 else f"× {now / before:,.0f}"


def money(value: Decimal, code: str) -> str:
    """`EUR 1,234.50`: the code and not a sign, since a page may hold several currencies."""
    try:
        return f"{code} {value.quantize(Decimal(1).scaleb(-decimals_of(code))):,}".strip()
    except InvalidOperation:
        return f"{code} {value:,}".strip()


def roas(ranges: list[tuple[Decimal, Decimal]]) -> list[str]:
    """Each range as `1.20 – 1.80`, or one figure where both ends are alike."""
    said = [(f"{least:.2f}", f"{most:.2f}") for least, most in ranges]
    return [least if least == most else f"{least} – {most}" for least, most in said] or ["–"]
