"""Charts as inline SVG made on the server: no script, no style attribute, and a text for who cannot see them.

A stretched SVG would squash letters, so drawings hold shapes only; labels are HTML beside them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup


class Column(NamedTuple):
    """One step of time: its name, the whole, and the part of it that is drawn darker."""

    label: str
    whole: float
    part: float = 0


def columns(steps: Sequence[Column], summary: str) -> Markup:
    """Upright bars over time, the part drawn inside the whole."""
    top = max([step.whole for step in steps] + [1])
    width = 100 / max(len(steps), 1)
    bars = Markup("").join(_column(step, i * width, width, top) for i, step in enumerate(steps))
    return Markup(
        '<svg class="columns" viewBox="0 0 100 100" preserveAspectRatio="none" role="img" aria-label="{}">'
        '<line class="rule" x1="0" x2="100" y1="50" y2="50"/>{}</svg>'
    ).format(summary, bars)


def _column(step: Column, x: float, width: float, top: float) -> Markup:
    whole, part = 96 * step.whole / top, 96 * step.part / top
    gap = min(width * 0.18, 1)
    text = f"{step.label}: {step.whole:,.0f}" + (f", {step.part:,.0f} of them attributed" if step.part else "")
    return Markup(
        '<g><title>{}</title><rect class="hit" x="{}" y="0" width="{}" height="100"/>'
        '<rect class="whole" x="{}" y="{}" width="{}" height="{}"/>'
        '<rect class="part" x="{}" y="{}" width="{}" height="{}"/></g>'
    ).format(
        text,
        *_numbers(x, width),
        *_numbers(x + gap / 2, 100 - whole, width - gap, whole),
        *_numbers(x + gap / 2, 100 - part, width - gap, part),
    )


def share(part: float, whole: float, summary: str) -> Markup:
    """A level bar: how much of the whole."""
    filled = 100 * part / whole if whole else 0
    return Markup(
        '<svg class="share" viewBox="0 0 100 6" preserveAspectRatio="none" role="img" aria-label="{}">'
        '<rect class="whole" width="100" height="6"/><rect class="part" width="{}" height="6"/></svg>'
    ).format(summary, *_numbers(min(filled, 100)))


def weight(bits: float, largest: float, summary: str) -> Markup:
    """Evidence as a bar from the middle: to the right for, to the left against."""
    length = 50 * abs(bits) / largest if largest else 0
    x = 50 if bits >= 0 else 50 - length
    return Markup(
        '<svg class="weight" viewBox="0 0 100 6" preserveAspectRatio="none" role="img" aria-label="{}">'
        '<rect class="{}" x="{}" width="{}" height="6"/><line class="rule" x1="50" x2="50" y1="0" y2="6"/></svg>'
    ).format(summary, "for" if bits >= 0 else "against", *_numbers(x, length))


class Bin(NamedTuple):
    """One bin of a reliability diagram: what was stated, what came true (both 0..1), of how many."""

    stated: float
    true: float
    n: int


def reliability(bins: Sequence[Bin], summary: str) -> Markup:
    """Stated against true: dots on the diagonal are honest, below it boastful."""
    most = max([b.n for b in bins] + [1])
    dots = Markup("").join(
        Markup('<circle class="dot" cx="{}" cy="{}" r="{}"><title>{}</title></circle>').format(
            *_numbers(100 * b.stated, 100 - 100 * b.true, 1.2 + 2.6 * (b.n / most) ** 0.5),
            f"stated {100 * b.stated:.0f} %, true {100 * b.true:.0f} %, of {b.n:,}",
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
