"""Who is believed about an order, and in which state it is: one place, for every door.

A telling is an event with a rank: a page's word is anybody's, a server's comes with the secret key, a shop's is signed.

    T1  what a lower rank said never stands against a higher one; it stays as a note
    T2  a page changes nothing of an order that a server or shop told; it fills the browser's keys where it is that
        order's own browser
    T5  a page's refusal takes its visitor's device out of such an order, and stops nothing else of it
    O1  the time of a status decides, not its arrival; of two at one moment the later in Status
    O2  a status without a time counts as of its receipt, but a `pending` without one replaces no other
    O3  an end is not final: what the tellings say together decides, whatever came in between
    O4  the moment of payment is known apart from the order's own
    O5  an order is worth what its newest telling says stays of it, less the refunds that were told one by one; an end
        leaves the value as it was

So the state is a function of the set of tellings (`standing`), and neither the order of arrival nor repeats matter.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from enum import IntEnum
from typing import Any, Final

from msgspec import Struct, structs

from collector.core import amounts, consent, refunds, statuses
from collector.core.events import Fact, StoredEvent
from collector.core.statuses import Status
from collector.errors import ApiError

OWN_BROWSER_MS: Final = 86_400_000  # a page's telling so long before the server's may be of the order's own browser
MOST_NOTES: Final = 8  # of pages; more say nothing new
MOST_FACTS: Final = 24  # and refunds that were told alone
_PENDING: Final = Status.PENDING.word
_GIVEN_BACK: Final = statuses.ENDS | {Status.PARTIALLY_REFUNDED}
# What only a visitor's own device can have told.
DEVICE: Final = ("visitor_id", "fbp", "fbc", "fbclid", "click", "ip", "user_agent")
BROWSER: Final = ("visitor_id", "fbp", "fbc")  # what a page may fill
_FILLED: Final = (
    *(
        "value",
        "currency",
        "products",
        "custom_data",
        "fbclid",
        "fbc",
        "fbp",
        "visitor_id",
        "click",
        "ip",
        "user_agent",
    ),
    *("event_source_url", "referrer", "test_event_code", "renewal_of", "first_touch", "last_touch"),
)


class Rank(IntEnum):
    """Who tells."""

    PAGE = 0
    SERVER = 1
    SHOP = 2


class Standing(Struct, frozen=True):
    """The state of an order by all that was told of it."""

    status: str | None
    value: Decimal | None
    currency: str | None
    paid_at: int | None


def rank_of(event: StoredEvent) -> int:
    """Who told the event; the highest of those who did."""
    return Rank.PAGE if event.unconfirmed else event.rank


def facts_of(event: StoredEvent) -> list[Fact]:
    """What was told of an order's state: as kept, or what its one telling says."""
    return event.told or [_plain(event)]


def _plain(event: StoredEvent) -> Fact:
    return Fact(
        rank_of(event),
        event.received,
        status=event.order_status,
        value=event.value,
        currency=event.currency,
        moment=event.ts,
    )


def fact(event: StoredEvent, status_at: int | None, *, edited: bool) -> Fact:
    """What a new telling says; `status_at` in ms, where it is stated."""
    plain = _plain(event)
    if status_at is None:
        return structs.replace(plain, edited=edited)
    return structs.replace(plain, at=status_at, stated=True, edited=edited, moment=status_at)


def standing(facts: Iterable[Fact]) -> Standing:
    """The state that these tellings give, in whatever order and however often they came."""
    known = sorted(facts, key=_place)
    states = _firm(_highest(f for f in known if f.status is not None))
    valued = max(_highest(f for f in known if f.value is not None), key=_worth, default=None)
    status, value = _less_refunds(states[-1].status if states else None, valued, known)
    return Standing(
        status=status,
        value=value,
        currency=valued.currency if valued else None,
        paid_at=_paid_at(states, _firm(_highest(f for f in known if f.status is not None and not f.refund))),
    )


def _less_refunds(status: str | None, valued: Fact | None, known: Iterable[Fact]) -> tuple[str | None, Decimal | None]:
    """Status and value once each refund that was told alone is taken away, the newest word of each.

    A value that was told as what is left of a refunded order has them in it already.
    """
    value = valued.value if valued is not None else None
    if valued is None or value is None or statuses.read(valued.status) in _GIVEN_BACK:
        return status, value
    alone = {f.refund: f.less or Decimal(0) for f in known if f.refund and f.currency in (None, valued.currency)}
    given_back = sum(alone.values(), Decimal(0))
    if not given_back or not statuses.is_paid(status):
        return status, value
    if given_back >= value:
        return Status.REFUNDED.word, value
    return Status.PARTIALLY_REFUNDED.word, value - given_back


def _highest(facts: Iterable[Fact]) -> list[Fact]:
    """Those of the highest rank among them (T1)."""
    found = list(facts)
    top = max((f.rank for f in found), default=Rank.PAGE)
    return [f for f in found if f.rank == top]


def _firm(states: list[Fact]) -> list[Fact]:
    """Without each `pending` of no stated time, where anything else was told (O2)."""
    return [f for f in states if not _is_vague(f)] or states


def _is_vague(fact: Fact) -> bool:
    return fact.status == _PENDING and not fact.stated


def _order(fact: Fact) -> int:
    status = statuses.read(fact.status)
    return -1 if status is None else status


def _place(fact: Fact) -> tuple[Any, ...]:
    """By time, then by status (O1); the rest only so that the order is always the same one."""
    told_alone = (fact.refund, fact.less or 0)
    return (fact.at, _order(fact), fact.stated, fact.moment, -(fact.value or 0), fact.currency or "", *told_alone)


def _worth(fact: Fact) -> tuple[Any, ...]:
    """Whose value counts: no end's, where anything else told one; one that says why; the newest (O5)."""
    told_why = fact.stated or fact.edited or not (fact.status is None or _is_vague(fact))
    return (not statuses.has_ended(fact.status), told_why, *_place(fact))


def _paid_at(states: Sequence[Fact], of_order: Sequence[Fact]) -> int | None:
    """Since when it has been paid without an end in between (O4); None when it is not paid.

    A refund that was told alone does not say since when: it counts where nobody else (`of_order`) has said "paid".
    """
    if not states or not statuses.is_paid(states[-1].status):
        return None
    since = _since(of_order)
    return _since(states) if since is None else since


def _since(states: Sequence[Fact]) -> int | None:
    """Since when these say that it has been paid."""
    since: int | None = None
    for one in states:
        if statuses.is_paid(one.status):
            since = one.moment if since is None else since
        elif statuses.has_ended(one.status):
            since = None
    return since


def settled(event: StoredEvent) -> StoredEvent:
    """The event in the state that all its tellings give."""
    now = standing(facts_of(event))
    found = (now.status, now.value, now.currency, now.paid_at)
    if found == (event.order_status, event.value, event.currency, event.paid_at):
        return event
    return structs.replace(event, order_status=now.status, value=now.value, currency=now.currency, paid_at=now.paid_at)


def is_of_order(told: StoredEvent) -> bool:
    """Whether it tells of an order itself: an end or a refund that is told alone has no value, and dates nothing."""
    return told.value is not None or told.event_type != "Purchase"


def is_of_refund(told: StoredEvent) -> bool:
    """Whether it tells of one refund, and of nothing else."""
    return any(one.refund for one in told.told)


def tell(kept: StoredEvent, told: StoredEvent) -> StoredEvent:
    """The event as it stands once it is told again; ApiError where two servers contradict each other.

    Equal to `kept` where nothing is new. Who ranks lower only fills gaps, a page not even those.
    """
    old, new = rank_of(kept), rank_of(told)
    if new == Rank.PAGE < old:
        return kept
    if new == old == Rank.SERVER:
        _refuse_contradiction(kept, told)
    merged = _instead(kept, told) if old == Rank.PAGE < new else _together(kept, told, higher=new > old)
    if told.refunds:
        merged = structs.replace(merged, refunds=refunds.united(kept.refunds, told.refunds))
    if _tells_of_state(kept, told):
        first, *more = facts_of(told)
        if not first.stated and told.ts <= kept.ts:  # a second telling that does not date itself: paid by now
            first = structs.replace(first, moment=told.received)
        merged = settled(structs.replace(merged, told=_kept([*facts_of(kept), first, *more])))
    return without_person(merged) if merged.marketing == "denied" else merged


def _refuse_contradiction(kept: StoredEvent, told: StoredEvent) -> None:
    """The same order with another amount is a mistake somewhere, unless a status or a time explains it."""
    if told.order_status is not None or any(f.stated or f.edited for f in told.told):
        return
    explain = "say why in orderStatus, or since when in statusAt"
    if told.currency is not None and kept.currency is not None and told.currency != kept.currency:
        raise ApiError("order_conflict", f"this order is known with another currency; {explain}", "currency")
    one, other = kept.value, told.value
    if one is not None and other is not None and not amounts.same(one, other, kept.currency):
        raise ApiError("order_conflict", f"this order is known with another eventValue; {explain}", "eventValue")


def _tells_of_state(kept: StoredEvent, told: StoredEvent) -> bool:
    """Whether a telling says more of the order's state than that it is as it was."""
    one = facts_of(told)[0]
    if one.rank == Rank.PAGE:  # it may correct itself, and is only noted
        return (one.value, one.currency) != (kept.value, kept.currency) and one.value is not None
    if one.rank == rank_of(kept) and one.status is None and not (one.stated or one.edited):
        return kept.value is None and one.value is not None
    return True


def _said(one: Fact) -> tuple[Any, ...]:
    """What it says: without a stated time the same whenever it is said."""
    at = one.at if one.stated else None
    return (one.rank, one.stated, one.status, one.value, one.currency, one.edited, at)


def _kept(facts: Iterable[Fact]) -> list[Fact]:
    """Each once, in order: what was said again without a time, as of its first and of its last receipt.

    Of each refund that was told alone the newest word, however many others there are: they add up.
    """
    known = sorted(facts, key=_place)
    groups: dict[tuple[Any, ...], list[Fact]] = {}
    for one in known:
        if not one.refund:
            groups.setdefault(_said(one), []).append(one)
    firm = [one for said in groups.values() for one in {said[0], said[-1]} if one.rank > Rank.PAGE]
    pages = [said[0] for said in groups.values() if said[0].rank == Rank.PAGE][:MOST_NOTES]
    alone = sorted({one.refund: one for one in known if one.refund}.values(), key=_place)[: refunds.MOST]
    while len(firm) > MOST_FACTS:
        firm.remove(_spare(firm, alone))
    return sorted([*firm, *alone, *pages], key=_place)


def _spare(firm: Sequence[Fact], alone: Sequence[Fact]) -> Fact:
    """The first without which the order stands as it does; never the last that has a value."""
    now = standing([*firm, *alone])
    none_needs_it = (f for f in firm if standing(x for x in (*firm, *alone) if x is not f) == now)
    return next(none_needs_it, None) or next((f for f in firm if f.value is None), firm[0])


def _together(kept: StoredEvent, told: StoredEvent, *, higher: bool) -> StoredEvent:
    """Two tellings of one rank, or of a server and its shop: people are united, gaps filled (O7).

    Of what both tell, the first stands, or the higher: its time as well.
    """
    changes: dict[str, Any] = {"user_data": _united(told, kept) if higher else _united(kept, told)}
    for name in _FILLED:
        if getattr(told, name) and (higher or not getattr(kept, name) or name in kept.filled):
            changes[name] = getattr(told, name)
    if kept.filled:
        if "visitor_id" in kept.filled and told.visitor_id not in (None, kept.visitor_id):
            changes = {**dict.fromkeys(kept.filled), **changes}  # that was another browser's page: nothing of it stays
        changes["filled"] = [name for name in kept.filled if name not in changes]
    if higher and is_of_order(told):
        changes |= {"ts": told.ts, "rank": told.rank, "bot": told.bot}
    if not is_of_refund(told):  # which says nothing of consent
        changes |= consent.of_both(kept, told)
    return structs.replace(kept, **changes)


def _united(first: StoredEvent, second: StoredEvent) -> dict[str, list[str]]:
    """Everybody that either names, the first's in front."""
    more = {k: list(dict.fromkeys([*first.user_data.get(k, ()), *v])) for k, v in second.user_data.items()}
    return {**first.user_data, **more}


def _instead(kept: StoredEvent, told: StoredEvent) -> StoredEvent:
    """The telling in the place of a page's: of that only the name under which it may be at Meta already stays."""
    return structs.replace(told, event_id=kept.event_id, received=kept.received)


def outlives(event: StoredEvent) -> bool:
    """Whether it stays where its visitor withdraws: its teller said "granted", or never told of that visitor (T5)."""
    own = rank_of(event) > Rank.PAGE and event.marketing == "granted"
    return own and (event.consented or "visitor_id" in event.filled)


def without_person(event: StoredEvent) -> StoredEvent:
    """What is kept of an event whose visitor refused: the order, not the person."""
    return structs.replace(without_device(event), user_data={})


def without_device(event: StoredEvent) -> StoredEvent:
    """The order without its visitor's browser and network (T5)."""
    return structs.replace(event, filled=[], **dict.fromkeys(DEVICE))


class Worth(Struct, frozen=True):
    """Of an order: what it was worth before anything was given back, and what stays of it."""

    gross: Decimal
    net: Decimal


def worth_of(event: StoredEvent) -> Worth | None:
    """By the highest tellers' word (O5); None where nobody told a value."""
    if event.value is None:
        return None
    whole = [f for f in facts_of(event) if statuses.read(f.status) not in _GIVEN_BACK and f.value is not None]
    before = max(_highest(whole), key=_worth, default=None)
    gross = before.value if before is not None and before.value is not None else event.value
    net = Decimal(0) if statuses.has_ended(event.order_status) else event.value
    return Worth(max(gross, net), net)


# -- the order's own browser


class Browser(Struct, frozen=True):
    """Where a telling came from; names are keyed, of one store."""

    received: int
    visitor: int | None = None
    address: int | None = None
    people: frozenset[int] = frozenset()  # e-mails
    keys: tuple[Any, ...] = ()  # visitor, fbp, fbc … as told; of an order: empty where it has none
    refused: bool = False
    sale: tuple[Any, ...] = ()  # what was told to be paid


def sale_of(event: StoredEvent) -> tuple[Any, ...]:
    """What an event says was paid, to be compared."""
    return (event.currency, None if event.value is None else amounts.rounded(event.value, event.currency))


def own_browsers(order: Browser, pages: Sequence[Browser]) -> list[int]:
    """Which of the pages' tellings are of the order's own browser (T2): their places.

    The server gave the same visitor; or no browser at all, and the page told within a day before from an address that
    the server tells, else with an e-mail that it tells, the same amount, and from no other known address: the e-mail of
    a customer and the number of his next order are easily guessed. Where such tellings disagree about the browser, none
    is believed.
    """
    same = [n for n, page in enumerate(pages) if page.visitor is not None and page.visitor == order.visitor]
    if same or order.keys:
        return same
    near = [(n, p) for n, p in enumerate(pages) if 0 <= order.received - p.received <= OWN_BROWSER_MS]
    near = [(n, p) for n, p in near if not p.refused]
    found = [(n, p) for n, p in near if p.address is not None and p.address == order.address]
    if not found:
        found = [(n, p) for n, p in near if p.people & order.people and p.sale == order.sale]
        found = [(n, p) for n, p in found if None in (p.address, order.address)]
    return [n for n, _ in found] if len({p.keys for _, p in found}) == 1 else []


def filled(order: StoredEvent, page: StoredEvent) -> StoredEvent:
    """The order with what its own browser's page adds where it has nothing: visitor and Meta's cookies (T2)."""
    gaps = {name: told for name in BROWSER if not getattr(order, name) and (told := getattr(page, name))}
    return structs.replace(order, **gaps, filled=[*order.filled, *gaps]) if gaps else order


def replaced(kept: StoredEvent, merged: StoredEvent) -> list[str]:
    """Of the keys that a page had filled those that a server has told by now (T1)."""
    return [name for name in kept.filled if name not in merged.filled]


def noted(order: StoredEvent, pages: Iterable[StoredEvent]) -> StoredEvent:
    """The order with what pages said of it as notes, which change nothing of it (T1)."""
    said = [structs.replace(fact, rank=int(Rank.PAGE)) for page in pages for fact in facts_of(page)]
    facts = _kept([*facts_of(order), *said]) if said else order.told
    return order if facts == facts_of(order) else structs.replace(order, told=facts)


def is_only_noted(before: StoredEvent, after: StoredEvent) -> bool:
    """Whether they differ in what was told alone, and in nothing that follows from it."""
    return before == structs.replace(after, told=before.told)
