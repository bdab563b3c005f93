"""Which orders, where do they stand, and why? A list with filters, and the same as CSV."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from decimal import Decimal
from operator import itemgetter
from typing import Any, Final, NamedTuple, get_args

from litestar import Response

from collector.console import meta_codes, words
from collector.console.bar import Asked, Bar, Unknown, read
from collector.console.left_out import REFUSED
from collector.console.shell import Desk, Word, delivery_word, page
from collector.core.capi.parts import PARTS, part_of
from collector.core.insights import NONE
from collector.core.matching.shapes import Method
from collector.storage.reports import kept, purchases
from collector.storage.reports.cells import record
from collector.storage.reports.purchases import Order
from collector.storage.reports.questions import ABOVE_ALL

_SHOWN: Final = 50
_REFUSED_SHOWN: Final = 20
_MARKUP_BYTES: Final = 330  # of a line
_ROOM_BYTES: Final = 38_000  # of a page's 60 KB; refusals stand there as well
_LOOKED_THROUGH: Final = 5_000  # orders that one page reads for its filters; then it offers to look further
SORTS: Final = ("time", "value", "confidence", "state")
TIERS: Final = ("none", "likely", "proven")
_TONES: Final = ("", "warn", "good")


class Sort(NamedTuple):
    """How the list is sorted. `up`: the least, or the oldest, first."""

    by: str = "time"
    up: bool = False

    @classmethod
    def read(cls, said: str) -> Sort:
        """As the address says it: `value`, `value-up`; nothing: the newest first."""
        by = said.removesuffix("-up") if said else "time"
        if by not in SORTS:
            raise Unknown(f"There is no sort by {said[:60]!r}. Known are: {', '.join(SORTS)}, each with -up behind it.")
        return cls(by, said.endswith("-up"))

    @property
    def said(self) -> str:
        return "" if self == Sort() else self.by + "-up" * self.up

    def place(self, order: Order) -> str:
        """What stands in the address of the page after this order."""
        return f"{order.ts}-{order.id}" if self.by == "time" else str(self.key(order))

    def key(self, order: Order) -> Key:
        """Where an order stands: what has no value last; amounts by currency, for those cannot be compared."""
        number = {
            "value": order.value or Decimal(0),
            "confidence": Decimal(1000 * order.tier + (order.confidence or 0)),
            "state": Decimal([key for key, _, _ in PARTS].index(part_of(order.state, order.doubt))),
        }[self.by]
        is_money = self.by == "value"
        least = number if self.up else number.copy_negate()
        return Key(is_money and order.value is None, order.currency if is_money else "", least, -order.ts, -order.id)


class Key(NamedTuple):
    """An order's place in a sorted list; as text it stands in the address of the page after it."""

    is_last: bool
    currency: str
    number: Decimal
    at: int
    id: int

    def __str__(self) -> str:
        return f"{self.is_last:d}_{self.currency}_{self.number:f}_{self.at}_{self.id}"

    @classmethod
    def read(cls, text: str) -> Key:
        if (found := _KEY.fullmatch(text)) is None:
            raise Unknown(_UNREADABLE)
        last, currency, number, at, number_of = found.groups()
        return cls(last == "1", currency, Decimal(number), int(at), int(number_of))


_KEY: Final = re.compile(r"([01])_([A-Z]{0,3})_(-?\d{1,40}(?:\.\d{1,20})?)_(-?\d{1,19})_(-?\d{1,19})", re.ASCII)
_UNREADABLE: Final = "The page after that order cannot be read from the address."


class Filters(NamedTuple):
    """What the address narrows the list to; empty: everything."""

    state: str = ""
    sure: str = ""
    campaign: str = ""
    teller: str = ""
    consent: str = ""
    hour: str = ""
    method: str = ""
    reason: str = ""

    def admit(self, order: Order, bar: Bar) -> bool:
        return (
            self.state in ("", part_of(order.state, order.doubt).replace(" ", "_"))
            and self.sure in ("", TIERS[order.tier])
            and self.campaign in ("", _campaign(order))
            and self.teller in ("", order.teller)
            and self.consent in ("", order.consent)
            and self.method in ("", order.method)
            and self.reason in ("", order.why)
            and (not self.hour or self.hour == f"{datetime.fromtimestamp(order.ts / 1000, bar.zone):%H}")
        )

    def checked(self) -> Filters:
        """Itself; Unknown for a word that filters nothing."""
        known = {
            "state": [key.replace(" ", "_") for key, _, _ in PARTS],
            "sure": list(TIERS),
            "teller": ["page", "server", "shop"],
            "consent": ["granted", "denied", "pending"],
            "hour": [f"{hour:02}" for hour in range(24)],
            "method": list(get_args(Method)),
        }
        for name, words_ in known.items():
            word = getattr(self, name)
            if word and word not in words_:
                raise Unknown(f"There is no {name} {word[:60]!r}. Known are: {', '.join(words_)}.")
        return self


async def orders(desk: Desk, asked: Asked, filters: Filters, after: str, sorted_by: str = "") -> Response[bytes]:
    """One page of the list."""
    bar, ids = await read(desk, asked), await desk.ids()
    filters.checked()
    sort = Sort.read(sorted_by)
    found, further, whole = await _page(desk, bar, filters, sort, after)
    lines = [_line(order, ids.public("conv", order.id), bar) for order in found]
    if (room := words.fitting(lines, _MARKUP_BYTES, _ROOM_BYTES)) < len(lines):
        lines, further = lines[:room], sort.place(found[room - 1])
    refused = await kept.refusals_one_by_one(desk.reader, bar.span, _REFUSED_SHOWN)
    more = {name: word for name, word in filters._asdict().items() if word}
    kept_on = more | ({"sort": sort.said} if sort.said else {})
    return page(
        "orders.html",
        title="Orders",
        here="/orders",
        bar=bar,
        more=kept_on,
        filtered=bool(more),
        heads={by: _head(bar, more, sort, by) for by in SORTS},
        lines=lines,
        chips=_chips(bar, kept_on),
        older=bar.address("/orders", **kept_on, after=further) if further else "",
        next_page="Older" if sort == Sort() else "Next",
        first=bar.address("/orders", **kept_on) if after else "",
        first_page="Newest" if sort == Sort() else "First",
        looked=words.number(_LOOKED_THROUGH) if not whole else "",
        csv=bar.address("/orders.csv", **more),
        refused=[(bar.moment(one.at), one.order, one.field, one.code) for one in refused],
        meanings=REFUSED,
        refusals=words.number(sum((await kept.refusals(desk.reader, bar.span)).values())),
    )


def _head(bar: Bar, more: dict[str, str], sort: Sort, by: str) -> dict[str, str]:
    """Where a column's head leads: its own sort, or, where the list is sorted so already, the other way round."""
    on = by == sort.by
    other = Sort(by, on and not sort.up)
    return {
        "address": bar.address("/orders", **more, sort=other.said),
        "aria": ("ascending" if sort.up else "descending") if on else "none",
        "arrow": (" ↑" if sort.up else " ↓") if on else "",
    }


def _moment(after: str) -> tuple[int, int] | None:
    if not after:
        return None
    at, _, number = after.partition("-")
    if not (at.isascii() and at.isdigit() and number.isascii() and number.isdigit() and len(after) < 40):
        raise Unknown(_UNREADABLE)
    return min(int(at), 1 << 62), min(int(number), ABOVE_ALL)


async def _page(desk: Desk, bar: Bar, filters: Filters, sort: Sort, after: str) -> tuple[list[Order], str, bool]:
    """The orders, what the next page comes after, and whether all that there are were sorted."""
    if sort.by != "time":
        return await _sorted(desk, bar, filters, sort, after)
    found: list[Order] = []
    looked = 0
    async for order in purchases.orders(desk.reader, bar.span, _moment(after), up=sort.up):
        looked += 1
        if filters.admit(order, bar):
            found.append(order)
        if len(found) == _SHOWN or looked == _LOOKED_THROUGH:
            return found, sort.place(order), True
    return found, "", True


async def _sorted(desk: Desk, bar: Bar, filters: Filters, sort: Sort, after: str) -> tuple[list[Order], str, bool]:
    """No index is by these: the newest orders are read and sorted, as many as a page may read."""
    begin, looked, whole = Key.read(after) if after else None, 0, True
    every: list[tuple[Key, Order]] = []
    async for order in purchases.orders(desk.reader, bar.span):
        looked += 1
        if looked > _LOOKED_THROUGH:
            whole = False
            break
        if filters.admit(order, bar) and (begin is None or sort.key(order) > begin):
            every.append((sort.key(order), order))
    every.sort(key=itemgetter(0))
    shown = [order for _, order in every[:_SHOWN]]
    return shown, sort.place(shown[-1]) if len(every) > _SHOWN else "", whole


def _line(order: Order, public: str, bar: Bar) -> dict[str, Any]:
    return {
        "id": public,
        "when": bar.moment(order.ts),
        "number": order.number or "–",
        "value": words.money(order.value, order.currency) if order.value is not None else "–",
        "status": order.status.replace("_", " "),
        "shop": bar.shops.get(order.store, order.store),
        "state": delivery_word(order.state),
        "why": _why(order.why),
        "campaign": _campaign(order),
        "sure": Word(TIERS[order.tier], _TONES[order.tier]),
        "teller": order.teller,
    }


def _campaign(order: Order) -> str:
    """As Campaigns counts it: an order that no click is credited with is of none, not of "(none)"."""
    return (order.campaign.campaign or NONE) if order.tier else ""


def _why(reason: str) -> str:
    """Ours first; Meta's words behind it, where there are any."""
    ours = meta_codes.sentence(None, None, reason)
    return f"{ours} {reason}" if ours and meta_codes.code_of(reason) else ours or reason


# Filters that have a chip only while they are on: where each leads from says what it is.
_CHOSEN: Final[dict[str, Callable[[str], str]]] = {
    "method": lambda word: f"by {words.method(word)}",
    "reason": lambda word: f"because: {word}",
}


def _chips(bar: Bar, more: dict[str, str]) -> list[dict[str, Any]]:
    """One link a filter: on where it is in the address, and then its link takes it out."""
    offered = [("state", key.replace(" ", "_"), name) for key, name, _ in PARTS]
    offered += [("sure", tier, tier) for tier in reversed(TIERS)]
    offered += [("teller", teller, f"by {teller}") for teller in ("server", "shop")]
    offered += [("consent", word, f"consent {word}") for word in ("denied", "pending")]
    offered += [(kind, more[kind], said(more[kind])) for kind, said in _CHOSEN.items() if kind in more]
    if "hour" in more:
        offered.append(("hour", more["hour"], f"{more['hour']}:00 – {more['hour']}:59"))
    if "campaign" in more:
        offered.append(("campaign", more["campaign"], f"campaign {more['campaign']}"))
    out = []
    for kind, word, name in offered:
        on = more.get(kind) == word
        rest = {k: v for k, v in more.items() if k != kind}
        out.append({"name": name, "on": on, "address": bar.address("/orders", **(rest if on else rest | {kind: word}))})
    return out


_COLUMNS: Final = (
    *("time", "zone", "order", "value", "currency", "order_status", "shop", "state", "reason"),
    *("campaign", "confidence", "sure", "method", "consent", "told_by", "conversion_id"),
)


async def orders_csv(desk: Desk, asked: Asked, filters: Filters) -> AsyncIterator[bytes]:
    """The whole range with its filters; what a spreadsheet would run begins with an apostrophe."""
    bar, ids = await read(desk, asked), await desk.ids()
    filters.checked()

    async def lines() -> AsyncIterator[bytes]:
        yield record(_COLUMNS).encode()
        async for order in purchases.orders(desk.reader, bar.span):
            if filters.admit(order, bar):
                yield _csv_line(order, ids.public("conv", order.id), bar)

    return lines()


def _csv_line(order: Order, public: str, bar: Bar) -> bytes:
    moment = datetime.fromtimestamp(order.ts / 1000, bar.zone).isoformat(timespec="seconds")
    values = (
        *(moment, bar.zone.key, order.number, order.value, order.currency, order.status, order.store),
        *(part_of(order.state, order.doubt), order.why, order.campaign.campaign, order.confidence),
        *(TIERS[order.tier], order.method, order.consent, order.teller, public),
    )
    return record(values).encode()
