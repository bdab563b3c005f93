"""The bar on top of the pages: which shop, days, comparison and event. Its state is the address, and nothing else."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any, Final, NamedTuple
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from collector.console.shell import EVENTS, Desk
from collector.core import days
from collector.core.days import COMPARISONS, RANGES, Days
from collector.storage.reports.kept import Span

_UTC: Final = ZoneInfo("UTC")


class Unknown(Exception):
    """The address names something that there is not: said in a sentence, for nobody wants another shop's figures."""


class Asked(NamedTuple):
    """What the address says; empty where it says nothing."""

    shop: str = ""
    range: str = ""
    compare: str = ""
    event: str = ""
    first: str = ""
    last: str = ""


class Bar(NamedTuple):
    """What is looked at. `shops`: id -> name for people; `stores`: the row numbers of the chosen ones.

    `pixels`: whose each pixel is.
    """

    shops: dict[str, str]
    shop: str
    stores: tuple[int, ...]
    range: str
    compare: str
    event: str
    zone: ZoneInfo
    today: date
    days: Days
    past: Days | None
    pixels: dict[str, str]

    @property
    def span(self) -> Span:
        return Span(self.stores, *self.days.span(self.zone))

    @property
    def past_span(self) -> Span | None:
        return Span(self.stores, *self.past.span(self.zone)) if self.past else None

    def address(self, place: str, **more: Any) -> str:
        """A place with this bar's state, and what else is wanted of it."""
        own = {"shop": self.shop, "range": self.range, "compare": self.compare, "event": self.event, **more}
        usual = {"shop": "", "range": "7", "compare": "previous", "event": "Purchase"}
        said = {name: value for name, value in own.items() if str(value) not in (usual.get(name, ""), "")}
        return place + ("?" + urlencode(said) if said else "")

    def moment(self, ms: int) -> str:
        """`Thu 3 Dec 14:10`; of another year than today's, `Wed 3 Dec 2025 14:10`."""
        at = datetime.fromtimestamp(ms / 1000, self.zone)
        return f"{day_text(at, self.today)} {at:%H:%M}"

    def whose(self, pixel: str) -> str:
        """A pixel by its shop's name; by itself where no shop has it."""
        shop = self.pixels.get(pixel, "")
        return self.shops.get(shop, shop) or pixel

    def whose_shop(self, shop: str) -> str:
        """A shop by its name for people."""
        return self.shops.get(shop, shop)

    @property
    def chosen_pixels(self) -> set[str]:
        """Those of the chosen shops."""
        return {pixel for pixel, shop in self.pixels.items() if self.shop in ("", shop)}

    @property
    def said(self) -> str:
        """The days in words."""
        first, last = self.days
        ends = [day_text(day, self.today) for day in ((first,) if first == last else (first, last))]
        text = " – ".join(ends)
        return f"{text} · {self.zone.key}"


def day_text(day: date, today: date | None = None) -> str:
    """`Tue 3 Nov`; of another year than today's, `Mon 3 Nov 2025`. `today`: None where the year stands beside it."""
    return f"{day:%a} {day.day} {day:%b}" + (f" {day.year}" if today and day.year != today.year else "")


async def read(desk: Desk, asked: Asked) -> Bar:
    """The bar of an address; Unknown says which part of it names nothing."""
    numbers = {name: number for number, name in (await desk.stores()).items()}
    shops = {name: named(desk, name) for name in [*numbers, *(s.id for s in desk.config.store if s.id not in numbers)]}
    if asked.shop and asked.shop not in shops:
        raise Unknown(f"There is no shop {asked.shop[:60]!r}. Known are: {', '.join(shops) or 'none yet'}.")
    chosen = [asked.shop] if asked.shop else list(shops)
    zone = _zone(desk, chosen)
    today = days.day_of(desk.clock(), zone)
    wanted = f"{asked.first}..{asked.last}" if asked.first and asked.last else asked.range or "7"
    found = days.days_of(wanted, today)
    if found is None:
        raise Unknown(f"There are no days {wanted[:60]!r}. Say {', '.join(RANGES)} or 2026-11-01..2026-11-15.")
    return Bar(
        shops=shops,
        shop=asked.shop,
        stores=tuple(numbers[name] for name in chosen if name in numbers),
        range=wanted,
        compare=_one_of(asked.compare or "previous", tuple(COMPARISONS), "comparison"),
        event=_one_of(asked.event or "Purchase", EVENTS, "event"),
        zone=zone,
        today=today,
        days=found,
        past=days.before(found, asked.compare or "previous"),
        pixels={pixel.id: store.id for store in desk.config.store for pixel in store.pixel},
    )


def named(desk: Desk, shop: str) -> str:
    """A shop's name for people."""
    store = desk.config.store_by_id(shop)
    return (store.name if store else "") or shop


def _zone(desk: Desk, shops: list[str]) -> ZoneInfo:
    """A shop's own zone; that of [console] where several are looked at together."""
    store = desk.config.store_by_id(shops[0]) if len(shops) == 1 else None
    return days.zone_of(store.timezone if store else desk.config.console.timezone) or _UTC


def _one_of(word: str, known: tuple[str, ...], what: str) -> str:
    if word not in known:
        raise Unknown(f"There is no {what} {word[:60]!r}. Known are: {', '.join(known)}.")
    return word
