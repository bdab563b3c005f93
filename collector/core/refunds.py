"""What of an order's refunds is Meta told, and as which event (O5)?

Nothing takes a Purchase back at Meta. A store with `refund_event` has each refund of an order that Meta has sent as an
event of that name, so that there the Purchase less its refunds is what the shop keeps: what was given back before the
Purchase went out is in its value already, and is never told.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Final

from msgspec import structs

from collector.core import amounts, clickid, statuses
from collector.core.capi.event_id import derive
from collector.core.events import GivenBack, StoredEvent
from collector.core.statuses import Status

MOST: Final = 100  # of one order
_NAMELESS: Final = "="  # and what was given back in all by then: of a teller who names no refund
_REFUNDED: Final = frozenset({Status.REFUNDED, Status.PARTIALLY_REFUNDED})


def united(kept: Sequence[GivenBack], told: Iterable[GivenBack]) -> list[GivenBack]:
    """Each once, by its id: as it was told first."""
    known = {one.id: one for one in told} | {one.id: one for one in kept}
    return sorted(known.values(), key=_place)[:MOST]


def _place(one: GivenBack) -> tuple[int, str]:
    return one.at, one.id


def is_told(order: StoredEvent, name: str) -> bool:
    """Whether Meta is told that the order was given back, if it has it; `name`: the store's `refund_event`."""
    is_refunded = any(one.told is None for one in order.refunds) or statuses.read(order.order_status) in _REFUNDED
    return bool(name) and is_refunded and order.marketing != "denied"


def told(order: StoredEvent, at_meta: Decimal | None, now: int) -> tuple[list[GivenBack], list[GivenBack]]:
    """The order's refunds once Meta is told of them, and those of them that it is to be told of now.

    `at_meta`: the value that it has; None where it has none, so that what was given back by now will be in that.
    """
    left = _left(order, at_meta)
    due: list[GivenBack] = []
    for one in sorted((r for r in order.refunds if r.told is None), key=_place, reverse=True):
        part = max(left if one.amount is None else min(amounts.rounded(one.amount, order.currency), left), Decimal(0))
        left -= part
        due.append(structs.replace(one, told=part))
    status = statuses.read(order.order_status)
    if left > 0 and status in _REFUNDED and all(r.id.startswith(_NAMELESS) for r in order.refunds):
        due.append(GivenBack(f"{_NAMELESS}{_given_back(order, at_meta)}", now, told=left))
    elif left > 0 and status is Status.REFUNDED and due:  # the newest has the rest, in whatever currency it was told
        due[0] = structs.replace(due[0], told=(due[0].told or Decimal(0)) + left)
    known = {one.id: one for one in order.refunds} | {one.id: one for one in due}
    return sorted(known.values(), key=_place), [one for one in reversed(due) if one.told]


def _left(order: StoredEvent, at_meta: Decimal | None) -> Decimal:
    """How much less the shop keeps than Meta counts."""
    if at_meta is None:
        return Decimal(0)
    return _given_back(order, at_meta) - sum((r.told for r in order.refunds if r.told), Decimal(0))


def _given_back(order: StoredEvent, at_meta: Decimal | None) -> Decimal:
    net = order.value if order.value is not None and not statuses.has_ended(order.order_status) else Decimal(0)
    return amounts.rounded(at_meta or Decimal(0), order.currency) - amounts.rounded(net, order.currency)


def event_of(order: StoredEvent, row: int, one: GivenBack, name: str, store: str, now: int) -> StoredEvent:
    """The event that tells of a refund: the order's person and number, the amount given back, no cart."""
    at = min(max(one.at, order.ts), now)
    return StoredEvent(
        event_type=name,
        event_id=derive(store, name, f"{order.order_id}|{one.id}"),
        ts=at,
        received=now,
        order_id=order.order_id,
        value=one.told,
        currency=order.currency,
        user_data=order.user_data,
        fbc=order.fbc
        or (clickid.build_fbc(order.fbclid, order.ts) if order.fbclid else None),  # as the Purchase had it
        fbp=order.fbp,
        visitor_id=order.visitor_id,
        ip=order.ip,
        user_agent=order.user_agent,
        action_source="physical_store" if order.action_source == "physical_store" else "system_generated",
        marketing=order.marketing,
        ldu=order.ldu,
        test_event_code=order.test_event_code,
        test=order.test,
        rank=order.rank,
        consented=order.consented,
        bot=order.bot,
        unsent=order.unsent,
        refund_of=row,
    )
