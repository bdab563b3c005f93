"""Plots over time: columns with an axis, a unit, the comparison as a line, and a link on each column."""

from __future__ import annotations

from collections.abc import Sequence
from math import floor, log10
from typing import Final, NamedTuple

from markupsafe import Markup

_LABELS: Final = 8  # below the columns, at most
_FALLBACK_TOP: Final = 4


class Step(NamedTuple):
    """One column: its name, its parts from below (the first is drawn darkest), the comparison, and where it leads."""

    label: str
    parts: tuple[float, ...]
    text: str
    past: float | None = None
    address: str = ""


def round_top(most: float) -> float:
    """The lowest of 1, 2, 4, 5, 10 … that holds the largest column; its half is a round figure as well."""
    if most <= 0:
        return _FALLBACK_TOP
    size: float = 10.0 ** floor(log10(most))
    return max(next(size * step for step in (1, 2, 4, 5, 10) if size * step >= most), 2)


def over_time(steps: Sequence[Step], summary: str, unit: str, classes: Sequence[str] = ("part", "whole")) -> Markup:
    """The plot with its axes. `unit` stands over the y-axis."""
    top = round_top(max([sum(s.parts) for s in steps] + [s.past or 0 for s in steps] + [0]))
    width = 100 / max(len(steps), 1)
    columns = Markup("").join(_column(s, i * width, width, top, classes) for i, s in enumerate(steps))
    every = -(-len(steps) // _LABELS) or 1
    below = Markup("").join(_below(step.label) for step in steps[::every])
    line = _line(steps, width, top)
    return Markup(
        '<figure class="plot"><div class="unit">{}</div><div class="y" aria-hidden="true"><span>{}</span>'
        '<span>{}</span><span>0</span></div><svg class="columns" viewBox="0 0 100 100" '
        'preserveAspectRatio="none" role="group" aria-label="{}">'
        '<line class="rule" x1="0" x2="100" y1="0" y2="0"/><line class="rule" x1="0" x2="100" y1="50" y2="50"/>'
        '<line class="rule" x1="0" x2="100" y1="100" y2="100"/>{}{}</svg><div class="x{}">{}</div></figure>'
    ).format(
        unit,
        _short(top),
        _short(top / 2),
        summary,
        columns,
        line,
        "" if every > 1 else " each",
        below,
    )


def _below(label: str) -> Markup:
    """A label below the columns; on a narrow screen its first word must do."""
    first, blank, rest = label.partition(" ")
    return Markup('<span>{}<span class="long">{}{}</span></span>').format(first, blank, rest)


def _column(step: Step, x: float, width: float, top: float, classes: Sequence[str]) -> Markup:
    gap, y, shapes = min(width * 0.2, 1.2), 100.0, Markup("")
    for part, kind in zip(step.parts, classes, strict=False):
        height = 100 * part / top
        y -= height
        shapes += Markup('<rect class="{}" x="{}" y="{}" width="{}" height="{}"/>').format(
            kind, _n(x + gap / 2), _n(y), _n(width - gap), _n(height)
        )
    inner = Markup('<title>{}</title><rect class="hit" x="{}" y="0" width="{}" height="100"/>{}').format(
        step.text, _n(x), _n(width), shapes
    )
    if not step.address:
        return Markup("<g>{}</g>").format(inner)
    return Markup('<a href="{}" aria-label="{}">{}</a>').format(step.address, step.text, inner)


def _line(steps: Sequence[Step], width: float, top: float) -> Markup:
    points = [(i * width + width / 2, 100 - 100 * s.past / top) for i, s in enumerate(steps) if s.past is not None]
    if len(points) < 2:
        return Markup("")
    return Markup('<polyline class="past" points="{}"/>').format(" ".join(f"{_n(x)},{_n(y)}" for x, y in points))


def spark(values: Sequence[float]) -> Markup:
    """A line without axes, beside a figure that says the same in words."""
    top, last = max([*values, 1]), max(len(values) - 1, 1)
    points = " ".join(f"{_n(100 * i / last)},{_n(19 - 18 * value / top)}" for i, value in enumerate(values))
    return Markup(
        '<svg class="spark" viewBox="0 0 100 20" preserveAspectRatio="none" aria-hidden="true">'
        '<polyline points="{}"/></svg>'
    ).format(points)


def _short(n: float) -> str:
    for size, letter in ((1_000_000, "M"), (1000, "k")):
        if n >= size:
            return f"{n / size:g}{letter}"
    return f"{n:g}"


def _n(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
