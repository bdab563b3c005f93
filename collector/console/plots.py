"""Charts as inline SVG made on the server: no script, no style attribute, and a text for who cannot see them.

A stretched SVG would squash letters, so drawings hold shapes only; labels are HTML beside them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup


def share(part: float, whole: float, summary: str) -> Markup:
    """A level bar: how much of the whole."""
    filled = 100 * part / whole if whole else 0
    return Markup(
        '<svg class="share" viewBox="0 0 100 6" preserveAspectRatio="none" role="img" aria-label="{}">'
        '<rect class="whole" width="100" height="6"/><rect class="part" width="{}" height="6"/></svg>'
    ).format(summary, *_numbers(min(filled, 100)))


def fall(begin: float, n: float, whole: float, kind: str, summary: str) -> Markup:
    """One step of a waterfall: from where it begins, as long as what it adds or takes away."""
    scale = 100 / whole if whole else 0
    return Markup(
        '<svg class="share" viewBox="0 0 100 6" preserveAspectRatio="none" role="img" aria-label="{}">'
        '<rect class="{}" x="{}" width="{}" height="6"/></svg>'
    ).format(summary, kind, *_numbers(begin * scale, n * scale))


def weight(bits: float, largest: float, summary: str) -> Markup:
    """Evidence as a bar from the middle: to the right for, to the left against."""
    length = 50 * abs(bits) / largest if largest else 0
    x = 50 if bits >= 0 else 50 - length
    return Markup(
        '<svg class="weight" viewBox="0 0 100 6" preserveAspectRatio="none" role="img" aria-label="{}">'
        '<rect class="{}" x="{}" width="{}" height="6"/><line class="rule" x1="50" x2="50" y1="0" y2="6"/></svg>'
    ).format(summary, "for" if bits >= 0 else "against", *_numbers(x, length))


class Bin(NamedTuple):
    """One bin of a reliability diagram: what was stated, what came true (both 0..1), of how many, and its interval."""

    stated: float
    true: float
    n: int
    low: float
    high: float


def reliability(bins: Sequence[Bin], summary: str) -> Markup:
    """Stated against true, with intervals: dots on the diagonal are honest, below it boastful."""
    most = max([b.n for b in bins] + [1])
    dots = Markup("").join(
        Markup(
            '<g><title>{5}</title><line class="between" x1="{0}" x2="{0}" y1="{3}" y2="{4}"/>'
            '<circle class="dot" cx="{0}" cy="{1}" r="{2}"/></g>'
        ).format(
            *_numbers(100 * b.stated, 100 - 100 * b.true, 1.2 + 2.6 * (b.n / most) ** 0.5),
            *_numbers(100 - 100 * b.high, 100 - 100 * b.low),
            f"said {100 * b.stated:.0f} %, came true {100 * b.true:.0f} % "
            f"({100 * b.low:.0f} to {100 * b.high:.0f}), of {b.n:,} orders",
        )
        for b in bins
    )
    grid = Markup("").join(
        Markup(
            '<line class="rule" x1="{0}" x2="{0}" y1="0" y2="100"/>'
            '<line class="rule" x1="0" x2="100" y1="{0}" y2="{0}"/>'
        ).format(at)
        for at in (0, 25, 50, 75, 100)
    )
    return Markup(
        '<svg class="reliability" viewBox="-4 -4 108 108" role="img" aria-label="{}">{}'
        '<line class="diagonal" x1="0" y1="100" x2="100" y2="0"/>{}</svg>'
    ).format(summary, grid, dots)


def _numbers(*values: float) -> list[str]:
    return [f"{value:.2f}".rstrip("0").rstrip(".") for value in values]
