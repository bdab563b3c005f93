"""Which orders, where do they stand, and why? A list with filters, and the same as CSV."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any, Final, NamedTuple

from litestar import Response

from collector.console import words
from collector.console.bar import Asked, Bar, Unknown, read
from collector.console.shell import Desk, Word, delivery_word, page
from collector.console.today import PARTS, part_of
from collector.storage.reports import kept, purchases
from collector.storage.reports.cells import record
from collector.storage.reports.purchases import Order

_SHOWN: Final = 50
_LOOKED_THROUGH: Final = 5_000  # orders that one page reads for its filters; then it offers to look further
TIERS: Final = ("none", "likely", "proven")
_TONES: Final = ("", "warn", "good")


class Filters(NamedTuple):
    """What the address narrows the list to; empty: everything."""

    state: str = ""
    sure: str = ""
    campaign: str = ""
    teller: str = ""
    consent: str = ""

    def admit(self, order: Order) -> bool:
        return (
            self.state in ("", part_of(order.state, order.doubt).replace(" ", "_"))
            and self.sure in ("", TIERS[order.tier])
            and self.campaign in ("", order.campaign.campaign or "(none)")
            and self.teller in ("", order.teller)
            and self.consent in ("", order.consent)
        )

    def checked(self) -> Filters:
        """Itself; Unknown for a word that filters nothing."""
        known = {
            "state": [key.replace(" ", "_") for key, _, _ in PARTS],
            "sure": list(TIERS),
            "teller": ["page", "server", "shop"],
            "consent": ["granted", "denied", "pending"],
        }
        for name, words_ in known.items():
            word = getattr(self, name)
            if word and word not in words_:
                raise Unknown(f"There is no {name} {word[:60]!r}. Known are: {', '.join(words_)}.")
        return self


async def orders(desk: Desk, asked: Asked, filters: Filters, after: str) -> Response[bytes]:
    """One page of the list."""
    bar, ids = await read(desk, asked), await desk.ids()
    filters.checked()
    found, further = await _page(desk, bar, filters, _key(after))
    refused = await kept.refusals(desk.reader, bar.span)
    more = {name: word for name, word in filters._asdict().items() if word}
    return page(
        "orders.html",
        title="Orders",
        here="/orders",
        bar=bar,
        more=more,
        lines=[_line(order, ids.public("conv", order.id), bar) for order in found],
        chips=_chips(bar, more),
        older=bar.address("/orders", **more, after=further) if further else "",
        first=bar.address("/orders", **more) if after else "",
        csv=bar.address("/orders.csv", **more),
        refused=[(code, words.number(n)) for code, n in refused.items()],
    )


def _key(after: str) -> tuple[int, int] | None:
    if not after:
        return None
    at, _, number = after.partition("-")
    if not (at.isascii() and at.isdigit() and number.isascii() and number.isdigit() and len(after) < 40):
        raise Unknown("The page after that order cannot be read from the address.")
    return min(int(at), 1 << 62), min(int(number), 1 << 62)


async def _page(desk: Desk, bar: Bar, filters: Filters, after: tuple[int, int] | None) -> tuple[list[Order], str]:
    found: list[Order] = []
    looked = 0
    async for order in purchases.orders(desk.reader, bar.span, after):
        looked += 1
        if filters.admit(order):
            found.append(order)
        if len(found) == _SHOWN or looked == _LOOKED_THROUGH:
            return found, f"{order.ts}-{order.id}"
    return found, ""


def _line(order: Order, public: str, bar: Bar) -> dict[str, Any]:
    return {
        "id": public,
        "when": _moment(order.ts, bar),
        "number": order.number or "–",
        "value": words.money(order.value, order.currency) if order.value is not None else "–",
        "status": order.status.replace("_", " "),
        "shop": bar.shops.get(order.store, order.store),
        "state": delivery_word(order.state),
        "why": order.why,
        "campaign": order.campaign.campaign or ("(none)" if order.tier else ""),
        "sure": Word(TIERS[order.tier], _TONES[order.tier]),
        "teller": order.teller,
    }


def _moment(ms: int, bar: Bar) -> str:
    moment = datetime.fromtimestamp(ms / 1000, bar.zone)
    return f"{moment:%a} {moment.day} {moment:%b %H:%M}"


def _chips(bar: Bar, more: dict[str, str]) -> list[dict[str, Any]]:
    """One link a filter: on where it is in the address, and then its link takes it out."""
    offered = [("state", key.replace(" ", "_"), name) for key, name, _ in PARTS]
    offered += [("sure", tier, tier) for tier in reversed(TIERS)]
    offered += [("teller", teller, f"by {teller}") for teller in ("server", "shop")]
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
            if filters.admit(order):
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
