"""A shared link: some days' sums of one shop, for whoever has it. No log-in, no order, no setting."""

from __future__ import annotations

from typing import Any, Final
from zoneinfo import ZoneInfo

from litestar import Response

from collector.console import plots, words
from collector.console.bar import day_text
from collector.console.shell import Desk, page
from collector.core.capi.parts import PARTS
from collector.core.days import Days, zone_of
from collector.core.digest import Digest, Line, Money, added, whole
from collector.core.shares import LONGEST, PURPOSE, Share, opened
from collector.storage.reports.digest import digest
from collector.storage.reports.kept import Span
from collector.storage.reports.names import keyed_hash
from collector.storage.reports.questions import STORE, named

PREFIX: Final = "/share/"
_SHOWN: Final = 100
_DAYS_BY_DAY: Final = 92
_STATE: Final = named(
    "shared link",
    "SELECT revoked, expires FROM share WHERE id = ? AND store = ? AND first = ? AND last = ? AND event = ?",
)


async def shared(desk: Desk, token: str) -> Response[bytes]:
    """The page of a link that counts; else one sentence."""
    share = await _opened(desk, token)
    if share is None:
        return _refused("There is no such link.", 404)
    own = (share.id, share.store, str(share.first), str(share.last), share.event)
    row = await desk.reader.one(_STATE, *own)
    if row is None:
        return _refused("There is no such link.", 404)
    if row[0] is not None:
        return _refused("This link was revoked by who made it.", 410)
    if min(row[1], share.expires) <= desk.clock():
        return _refused(f"This link ended on {words.iso(share.expires)[:10]}; ask who sent it for a new one.", 410)
    return await _page(desk, share)


async def _opened(desk: Desk, token: str) -> Share | None:
    if len(token) > LONGEST:
        return None
    return opened(token, (await keyed_hash(desk.reader, desk.config)).subkey(PURPOSE))


def _refused(sentence: str, status: int) -> Response[bytes]:
    return page("shared.html", title="Shared figures", sentence=sentence, status=status)


async def _page(desk: Desk, share: Share) -> Response[bytes]:
    store = desk.config.store_by_id(share.store)
    zone = zone_of(store.timezone if store else "UTC") or ZoneInfo("UTC")
    days = Days(share.first, share.last)
    numbers = await desk.reader.rows(STORE, share.store)
    span = Span(tuple(number for (number,) in numbers), *days.span(zone))
    found = await digest(desk.reader, span, days, zone, share.event)
    shop = (store and store.name) or share.store
    return page(
        "shared.html",
        title=shop,
        sentence="",
        said=f"{day_text(days.first, days.last)} – {day_text(days.last)} {days.last.year} · {zone.key}",
        event="Orders" if share.event == "Purchase" else share.event,
        until=words.iso(share.expires)[:10],
        tiles=_tiles(found),
        parts=[(name, words.number(found.parts[key])) for key, name, _ in PARTS if found.parts.get(key)],
        delivered=words.percent(*found.delivered),
        days=_days(found),
        length=days.length,
        campaigns=_campaigns(found),
        more=max(0, len(found.campaigns) - _SHOWN),
        all=_line("All", whole(found.campaigns.values()), 0),
        without=words.number(found.orders - sum(line.orders for line in found.campaigns.values())),
    )


def _tiles(found: Digest) -> list[tuple[str, list[str]]]:
    rate = f"{100 * found.orders / found.clicks:.1f}" if found.clicks else "–"
    return [
        ("Orders", [words.number(found.orders)]),
        ("Value", _money(found.value)),
        ("Attributed", [words.percent(found.attributed, found.orders)]),
        ("Clicks", [words.number(found.clicks)]),
        ("Per 100 clicks", [rate]),
    ]


def _days(found: Digest) -> list[dict[str, Any]]:
    """A line for each day; of more than a season for each seven days, by the first."""
    width = 1 if len(found.days) <= _DAYS_BY_DAY else 7
    every = list(found.days.items())
    steps = [(every[at][0], added(own for _, own in every[at : at + width])) for at in range(0, len(every), width)]
    most = max((own.orders for _, own in steps), default=0)
    return [
        {
            "name": day_text(first),
            "bar": plots.share(own.orders, most, f"{day_text(first)}: {own.orders:,}") if most else "",
            "cells": [words.number(own.orders), words.number(own.attributed), words.number(own.clicks)],
            "value": _money(own.value),
        }
        for first, own in steps
    ]


def _campaigns(found: Digest) -> list[dict[str, Any]]:
    named = sorted(found.campaigns.items(), key=lambda one: (-one[1].orders, -one[1].clicks, one[0]))
    most = max((line.clicks for line in found.campaigns.values()), default=0)
    return [_line(name, line, most) for name, line in named[:_SHOWN]]


def _line(name: str, line: Line, most: int) -> dict[str, Any]:
    return {
        "name": name,
        "bar": plots.share(line.clicks, most, f"{name}: {line.clicks:,} clicks") if most else "",
        "cells": [
            words.number(line.clicks),
            words.number(line.orders),
            words.percent(line.orders, line.clicks),
            words.percent(line.proven, line.orders),
        ],
        "value": _money(line.value),
    }


def _money(value: Money) -> list[str]:
    return [words.money(amount, code) for code, amount in sorted(value.items()) if code] or ["–"]
