"""Plots over time: columns with an axis, a unit, the comparison as a line, and a link on each column."""

from __future__ import annotations

from collections.abc import Sequence
from math import floor, log10
from typing import Final, NamedTuple

from markupsafe import Markup

_LABELS: Final = 8  # below the columns, at most
_FALLBACK_TOP: Final = 4


class Mark(NamedTuple):
    """Something that happened at a moment: a thin upright line. `place`: columns from the left, with a fraction."""

    place: float
    text: str


class Step(NamedTuple):
    """One column: its name, its parts from below (the first is drawn darkest), the comparison, and where it leads."""

    label: str
    parts: tuple[float, ...]
    text: str
    past: float | None = None
    address: str = ""


def round_top(most: float) -> float:
    """The lowest of 1, 2, 4, 6, 8, 10 … that holds the largest column; its half is a round figure as well."""
    if most <= 0:
        return _FALLBACK_TOP
    size: float = 10.0 ** floor(log10(most))
    return max(next(size * step for step in (1, 2, 4, 6, 8, 10) if size * step >= most), 2)


def over_time(
    steps: Sequence[Step],
    summary: str,
    unit: str,
    classes: Sequence[str] = ("part", "whole"),
    goal: float | None = None,
    top: float = 0,
    marks: Sequence[Mark] = (),
) -> Markup:
    """The plot with its axes. `unit` stands over the y-axis, which ends at `top`, if given; `goal` is a line.

    Every point of a column is its link's, whatever line crosses it; a column says what is marked in it.
    """
    top = top or round_top(max([sum(s.parts) for s in steps] + [s.past or 0 for s in steps] + [0]))
    width = 100 / max(len(steps), 1)
    columns = Markup("").join(_column(_told(s, i, marks), i * width, width, top, classes) for i, s in enumerate(steps))
    lines = _line([s.past for s in steps], "past", width, top)
    lines += Markup("").join(
        Markup('<g class="mark"><title>{0}</title><line x1="{1}" x2="{1}" y1="0" y2="100"/></g>').format(
            mark.text, _n(mark.place * width)
        )
        for mark in marks
    )
    if goal is not None:
        lines += Markup('<line class="goal" x1="0" x2="100" y1="{0}" y2="{0}"/>').format(_n(100 - 100 * goal / top))
    drawn = columns + Markup('<g pointer-events="none">{}</g>').format(lines)
    return _framed(drawn, [s.label for s in steps], summary, unit, (_short(top), _short(top / 2), "0"))


def _told(step: Step, i: int, marks: Sequence[Mark]) -> Step:
    """A column with what is marked in it among its words."""
    return step._replace(text="; ".join([step.text, *(mark.text for mark in marks if int(mark.place) == i)]))


class Curve(NamedTuple):
    """A line over the steps of a plot; None where there is nothing to tell."""

    kind: str
    values: Sequence[float | None]


def curves(labels: Sequence[str], lines: Sequence[Curve], summary: str) -> Markup:
    """Durations (seconds) as lines. The axis is in the unit that reads best."""
    most = max((v for line in lines for v in line.values if v is not None), default=0)
    unit, size = next(((u, n) for u, n in _DURATIONS if most >= n), _DURATIONS[-1])
    top, width = round_top(most / size), 100 / max(len(labels), 1)
    drawn = Markup("").join(
        _line([None if v is None else v / size for v in line.values], line.kind, width, top) for line in lines
    )
    return _framed(drawn, labels, summary, unit, (_short(top), _short(top / 2), "0"))


_DURATIONS: Final = (("hours", 7200.0), ("minutes", 120.0), ("seconds", 1.0))


def _framed(inner: Markup, labels: Sequence[str], summary: str, unit: str, marks: tuple[str, str, str]) -> Markup:
    """A drawing with figures at its left and names below it."""
    every = -(-len(labels) // _LABELS) or 1
    below = Markup("").join(
        _below(label, min(every, len(labels) - i)) for i, label in enumerate(labels) if i % every == 0
    )
    return Markup(
        '<figure class="plot"><div class="unit">{}</div><div class="y" aria-hidden="true"><span>{}</span>'
        '<span>{}</span><span>{}</span></div><svg class="columns" viewBox="0 0 100 100" '
        'preserveAspectRatio="none" role="group" aria-label="{}">'
        '<line class="rule" x1="0" x2="100" y1="0" y2="0"/><line class="rule" x1="0" x2="100" y1="50" y2="50"/>'
        '<line class="rule" x1="0" x2="100" y1="100" y2="100"/>{}</svg><div class="x{}">{}</div></figure>'
    ).format(unit, *marks, summary, inner, "" if every > 1 else " each", below)


def _below(label: str, columns: int) -> Markup:
    """A name below so many columns, at the first of them; without the day's name where there is little room."""
    first, blank, rest = label.partition(" ")
    if not rest:
        return Markup('<span class="w{}">{}</span>').format(columns, first)
    return Markup('<span class="w{}"><span class="day">{}{}</span>{}</span>').format(columns, first, blank, rest)


def _column(step: Step, x: float, width: float, top: float, classes: Sequence[str]) -> Markup:
    gap, y, shapes = min(width * 0.2, 1.2), 100.0, Markup("")
    for part, kind in zip(step.parts, classes, strict=True):
        if not part:
            continue
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
    return Markup('<a href="{}">{}</a>').format(step.address, inner)


def _line(values: Sequence[float | None], kind: str, width: float, top: float) -> Markup:
    """A line from point to point, with a dot where one stands alone; over gaps there is none."""
    out, run = Markup(""), list[tuple[float, float]]()
    for i, value in enumerate([*values, None]):
        if value is not None:
            run.append((i * width + width / 2, 100 - 100 * value / top))
        elif run:
            points = run if len(run) > 1 else [(run[0][0] - width / 4, run[0][1]), (run[0][0] + width / 4, run[0][1])]
            drawn = " ".join(f"{_n(x)},{_n(y)}" for x, y in points)
            out += Markup('<polyline class="{}" points="{}"/>').format(kind, drawn)
            run = []
    return out


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
