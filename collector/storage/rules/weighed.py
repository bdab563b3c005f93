"""What pages said of an order beside what its server or shop tells: which is its own browser, what does that add?"""

from __future__ import annotations

from typing import Final

from msgspec import Struct, structs

from collector.core import amounts, canonical, clickid, orders
from collector.core.events import StoredEvent
from collector.core.keyed import KeyedHash
from collector.core.matching import Query
from collector.core.orders import Browser
from collector.exchange.naming import NewEvent, Told
from collector.exchange.rows import ConversionRow

MOST_LOOKED_AT: Final = 32  # of a kind of witness; one buyer reloads a page a few times


class PageTelling(Struct, frozen=True):
    """A page's telling of an order, as its row has it."""

    row: ConversionRow
    event: StoredEvent
    browser: Browser


def browser_of(row: ConversionRow, event: StoredEvent, names: set[int], told: Told) -> Browser:
    """Where a page's telling came from; `names`: those under which it told."""
    return Browser(
        received=event.received,
        visitor=told.visitor if told.visitor in names else None,
        address=told.address if told.address in names else row.ip_k,
        people=frozenset(names.intersection(told.emails)),
        keys=(event.visitor_id, event.fbp, event.fbc),
        refused=event.marketing == "denied",
        sale=orders.sale_of(event),
    )


def _order_browser(event: StoredEvent, told: Told) -> Browser:
    """Where the order's own telling came from."""
    return Browser(
        received=event.received,
        visitor=told.visitor,
        address=told.address,
        people=frozenset(told.emails),
        keys=tuple(key for key in (event.visitor_id, event.fbp, event.fbc, event.fbclid, event.click) if key),
        sale=orders.sale_of(event),
    )


def own_of(new: NewEvent, pages: list[PageTelling]) -> list[PageTelling]:
    """Those that are of the order's own browser."""
    assert new.told is not None
    order = _order_browser(new.event, new.told)
    return [pages[n] for n in orders.own_browsers(order, [page.browser for page in pages])]


def completed(names: KeyedHash, new: NewEvent, own: list[PageTelling]) -> NewEvent:
    """The order with its own browser's keys; without that visitor's device, where he refused there (T5)."""
    if any(page.browser.refused for page in own):
        return structs.replace(new, event=orders.without_device(new.event), query=without_device(new.query))
    event = new.event
    for page in own:
        event = orders.filled(event, page.event)
    if own and new.is_derived:
        event = structs.replace(event, event_id=own[0].event.event_id)
    query = _with_browser(names, new.store.number, new.query, event)
    return structs.replace(new, event=event, query=query, filled=query.visitor_k != new.query.visitor_k)


def _with_browser(names: KeyedHash, store: int, query: Query, event: StoredEvent) -> Query:
    """The question with the names of the browser's keys that the event has by now."""
    fbc = clickid.parse_fbc(event.fbc) if event.fbc else None
    visitor = event.visitor_id if event.visitor_id and canonical.visitor_id(event.visitor_id) else None
    return structs.replace(
        query,
        visitor_k=names.optional(store, "visitor", visitor),
        fbp_k=names.optional(store, "fbp", event.fbp),
        fbc_k=names.optional(store, "fbclid", fbc and fbc.fbclid),
        fbc_created=fbc.created if fbc else None,
        jar_since=clickid.fbp_created(event.fbp) if event.fbp else None,
    )


def is_same_sale(page: StoredEvent, order: StoredEvent) -> bool:
    """Whether a page said of the order what its server says."""
    if page.value is None or order.value is None or page.currency != order.currency:
        return page.value is order.value
    return amounts.same(page.value, order.value, order.currency)


def without_device(query: Query) -> Query:
    """The question of nobody's browser and network."""
    return Query(ts=query.ts, flags=query.flags, rank=query.rank, consent=query.consent)
