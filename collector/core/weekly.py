"""The week's report: how it reads as a plain text and as a letter.

Names of shops and campaigns are hostile input. In both forms they cannot mention anybody in a chat, begin markup or
become a link; the letter holds no script and nothing that is fetched.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from decimal import Decimal
from html import escape
from typing import Final, NamedTuple

from collector.core.capi.parts import GOOD, PARTS
from collector.core.days import Days
from collector.core.digest import Digest, Line, Money, whole
from collector.core.insights import NOT_JOINED
from collector.core.saying import change, money, number, percent, roas

_SHOWN: Final = 10  # campaigns of a shop
_NAME_MAX: Final = 48
# What chats and mail programs read as a mention, markup or the beginning of a link, and what stands there instead.
_TAMED: Final = str.maketrans({"<": "‹", ">": "›", "@": "＠", "[": "(", "]": ")", "`": "'"})


class Shop(NamedTuple):
    """A shop's week, and the one before."""

    name: str
    zone: str
    own: Digest
    before: Digest


class Week(NamedTuple):
    """What is reported. `spent`: what the ad account says of these days, None without one; `link`: the console.

    `doubt`: what that spend lacks, in a sentence.
    """

    days: Days
    shops: Sequence[Shop]
    spent: Money | None
    link: str
    doubt: str = ""


def subject(week: Week) -> str:
    """The letter's subject; orders only, and no name of anybody's making but one shop's."""
    orders = sum(shop.own.orders for shop in week.shops)
    whose = f"{_tame(week.shops[0].name)}: " if len(week.shops) == 1 else ""
    return f"{whose}{number(orders)} orders, {_days(week.days)}"


def text(week: Week) -> str:
    """The report in plain text, for a chat, a terminal and the letter's first part."""
    lines = [f"Week of {_days(week.days)}", ""]
    for shop in week.shops:
        lines += [f"{_tame(shop.name)} ({shop.zone})", *_columns(_figures(shop))]
        if table := _campaigns(shop, spent=week.spent is not None):
            lines += ["", *_columns(table)]
        lines.append("")
    lines += [f"{line}" for line in _last(week)]
    return "\n".join(lines).rstrip() + "\n"


def html(week: Week) -> str:
    """The report as one page of HTML: styles in place, no script, nothing that is fetched."""
    body = "".join(_shop_html(shop, spent=week.spent is not None) for shop in week.shops)
    last = "".join(f"<p style='color:#555'>{escape(line)}</p>" for line in _last(week))
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        f"<title>{escape(subject(week))}</title></head>"
        "<body style='font:15px/1.45 sans-serif;color:#1c1e21;max-width:44em;margin:1.5em auto;padding:0 1em'>"
        f"<h1 style='font-size:1.3em'>Week of {escape(_days(week.days))}</h1>{body}{last}</body></html>\n"
    )


def _shop_html(shop: Shop, *, spent: bool) -> str:
    head = f"<h2 style='font-size:1.1em'>{escape(_tame(shop.name))} <small>({escape(shop.zone)})</small></h2>"
    return head + _table(_figures(shop), headed=False) + _table(_campaigns(shop, spent=spent), headed=True)


def _table(rows: list[list[str]], *, headed: bool) -> str:
    if not rows:
        return ""
    cells = [_row(row, "th" if headed and at == 0 else "td") for at, row in enumerate(rows)]
    return f"<table style='border-collapse:collapse;margin:0 0 1em'>{''.join(cells)}</table>"


def _row(row: list[str], kind: str) -> str:
    style = "padding:.25em .9em .25em 0;border-bottom:1px solid #ddd;text-align:{}"
    cells = [
        f"<{kind} style='{style.format('right' if at else 'left')}'>{escape(cell)}</{kind}>"
        for at, cell in enumerate(row)
    ]
    return f"<tr>{''.join(cells)}</tr>"


def _figures(shop: Shop) -> list[list[str]]:
    """Name, this week, the change, and the week before."""
    own, before = shop.own, shop.before
    rows = [_compared("Orders", own.orders, before.orders, number)]
    rows += [_money_row(code, own.value, before.value) for code in sorted({**own.value, **before.value})]
    rows.append(["Attributed", percent(own.attributed, own.orders), "", percent(before.attributed, before.orders)])
    rows.append(_compared("Clicks", own.clicks, before.clicks, number))
    rows.append(["Per 100 clicks", _rate(own), "", _rate(before)])
    rows.append(["At Meta", percent(*own.delivered), "", percent(*before.delivered)])
    bad = [(name, own.parts[key]) for key, name, _ in PARTS if key not in GOOD and own.parts.get(key)]
    return rows + [[f"  {name}", number(n), "", ""] for name, n in bad]


def _compared(name: str, now: int, before: int, say: Callable[[int], str]) -> list[str]:
    return [name, say(now), change(now, before), f"{say(before)} before"]


def _money_row(code: str, own: Money, before: Money) -> list[str]:
    now, then = own.get(code, Decimal(0)), before.get(code, Decimal(0))
    return ["Revenue", money(now, code), change(float(now), float(then)), f"{money(then, code)} before"]


def _rate(digest: Digest) -> str:
    return f"{100 * digest.orders / digest.clicks:.1f}" if digest.clicks else "–"


def _campaigns(shop: Shop, *, spent: bool) -> list[list[str]]:
    """The first campaigns with a head, and what the others come to; nothing where there is none."""
    named = {name: line for name, line in shop.own.campaigns.items() if name != NOT_JOINED}
    order = sorted(named, key=lambda name: (-named[name].orders, -named[name].clicks, name))
    if not order:
        return []
    head = ["Campaign", "Clicks", "Orders", "Change", "Value", *(["Spend", "Cost each", "ROAS"] if spent else [])]
    old = shop.before.campaigns
    rows = [_campaign(_tame(name), named[name], old.get(name, Line()), spent=spent) for name in order[:_SHOWN]]
    if rest := order[_SHOWN:]:
        earlier = whole(line for name, line in old.items() if name not in order[:_SHOWN] and name != NOT_JOINED)
        others = whole(named[name] for name in rest)
        rows.append(_campaign(f"{number(len(rest))} more", others, earlier, spent=spent))
    return [head, *rows]


def _campaign(name: str, line: Line, before: Line, *, spent: bool) -> list[str]:
    row = [name, number(line.clicks), number(line.orders), f"{line.orders - before.orders:+,}", _sums(line.value)]
    if not spent:
        return row
    each = line.cost_each
    return [*row, _sums(line.spend), money(each[1], each[0]) if each else "–", ", ".join(roas(line.roas))]


def _sums(value: Money) -> str:
    return ", ".join(money(amount, code) for code, amount in sorted(value.items()) if code) or "–"


def _last(week: Week) -> Iterator[str]:
    if week.spent:
        yield f"The ad account's spend on these days of its own: {_sums(week.spent)}."
    if week.doubt:
        yield week.doubt
    if week.link:
        yield f"Console: {week.link}"


def _days(days: Days) -> str:
    return f"{_day(days.first)} – {_day(days.last)} {days.last.year}"


def _day(day: date) -> str:
    return f"{day:%a} {day.day} {day:%b}"


def _columns(rows: list[list[str]]) -> Iterator[str]:
    """Lines with columns as wide as their widest cell: names to the left, figures to the right."""
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    for row in rows:
        cells = [row[0].ljust(widths[0])] + [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        yield ("  " + "  ".join(cells)).rstrip()


_LINKED: Final = re.compile(r"(?i)://|\bwww\.|(?<=\w)\.(?=[^\W\d])")  # of what chats and mail programs make a link


def _tame(name: str) -> str:
    """A name that is only a name, wherever it is read."""
    plain = "".join(char for char in name if char.isprintable()).translate(_TAMED)
    plain = _LINKED.sub(lambda found: found[0].replace("/", "⁄").replace(".", "․"), plain)
    return plain[: _NAME_MAX - 1] + "…" if len(plain) > _NAME_MAX else plain or "(none)"
