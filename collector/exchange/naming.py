"""A checked event as the writer takes it: every value that identifies somebody has a keyed name."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

from msgspec import Struct, structs

from collector.core import addresses, canonical, clickid, flags, times
from collector.core.capi.event_id import derive
from collector.core.capi.identifiers import public_address
from collector.core.capi.normalise import home_of
from collector.core.events import CustomerData, StoredEvent
from collector.core.ids import PublicIds
from collector.core.intake import CheckedEvent
from collector.core.keyed import KeyedHash
from collector.core.learning import FUNNEL
from collector.core.matching import Query
from collector.core.matching.shapes import Identity
from collector.core.orders import Rank, without_person
from collector.core.remembered import remembered
from collector.core.useragents import classify
from collector.exchange import clicks
from collector.exchange.rows import ConversionRow
from collector.exchange.stores import Store

KINDS: Final[dict[Identity, int]] = {"external_id": 1, "email": 2, "phone": 3, "email_weak": 4}


Keys = list[tuple[Identity, int]]


class Named(Struct, frozen=True, gc=False):
    """What a customer's values are called; `former`: what release 0.2 called them, by the names now."""

    keys: Keys = []
    former: dict[int, int] = {}


def keys_of(names: KeyedHash, store: int, customer: CustomerData | None, country: str) -> Named:
    """Keyed names of what a customer's data says, the strongest kind first; placeholders are left out.

    Names are made of Meta's SHA-256, which may come in the value's place; for a mailbox at Google also of its form
    without dots and tag. Until 0.2 they were made of the plain values.
    """
    if customer is None:
        return Named()
    values = (customer.external_id, customer.email, customer.phone)
    if any(type(value) is list for value in values):
        return _named(names, store, values, customer.country, country)
    known = _remembered(names, store, values, customer.country, country)
    return Named([*known.keys], {**known.former})


Values = tuple[str | int | list[str] | None, ...]  # external ids, e-mails, phones


@remembered(512)  # customers: an order is told several times within seconds
def _remembered(names: KeyedHash, store: int, values: Values, own: str | None, country: str) -> Named:
    return _named(names, store, values, own, country)


def _named(names: KeyedHash, store: int, values: Values, own: str | None, country: str) -> Named:
    external_ids, emails, phones = values
    region, _ = home_of(own, country)
    forms: list[tuple[Identity, str, str | None]] = []  # kind, form now, form formerly
    for given in _many(external_ids):
        if known := canonical.external_id(given):
            forms.append(("external_id", known, known))
    for given in _many(emails):
        if strict := canonical.email(str(given)):
            forms.append(("email", strict, strict))
            if (meta := canonical.email_as_given(str(given), strict)) != strict:
                forms.append(("email", meta, None))
            forms.append(("email_weak", base := canonical.base_of(strict), base))
    for given in _many(phones):
        if number := canonical.phone(str(given), region):
            forms.append(("phone", number, number))
    forms.sort(key=lambda one: KINDS[one[0]])
    named = [(kind, names.name(store, kind, canonical.digest(form)), form, before) for kind, form, before in forms]
    former = {
        key: names.name(store, kind, before)
        for kind, key, form, before in named
        if before is not None and not form.startswith("sha256:")
    }
    return Named(list(dict.fromkeys((kind, key) for kind, key, *_ in named)), former)


def _many(value: str | int | list[str] | None) -> list[str | int]:
    if value is None:
        return []
    return list(value) if isinstance(value, list) else [value]


class Witness(Struct, frozen=True, gc=False):
    """Who tells of a visitor and of values: `keys`, those that a server tells of with the visitor; else a page does.

    `source` names the page's address prefix and the day.
    """

    source: int = 0
    keys: frozenset[tuple[Identity, int]] = frozenset()


class Told(Struct, frozen=True, gc=False):
    """Under which names an order was told: by itself, by its visitor, its address, its e-mails. Keyed, of one store."""

    order: int
    visitor: int | None = None
    address: int | None = None
    emails: tuple[int, ...] = ()

    @property
    def witnesses(self) -> list[int]:
        """Names by which a page's telling of the order's own browser is found."""
        return [name for name in (self.visitor, self.address, *self.emails) if name is not None]

    @property
    def names(self) -> list[int]:
        """All of them."""
        return [self.order, *self.witnesses]


def told_names(
    names: KeyedHash, store: int, order: str, visitor: str | None, address: int | None, emails: Collection[int]
) -> Told:
    """`order`: event type and order id; `address` and `emails` as they are named already."""
    name = names.namer(store, "told")
    return Told(
        name(f"{order}\0"),
        name(f"{order}\0v{visitor}") if visitor else None,
        name(f"{order}\0a{address}") if address is not None else None,
        tuple([name(f"{order}\0e{email}") for email in emails]),
    )


def kind_of(event_type: str) -> int:
    """1 for a Lead and its kin, whose origins differ from purchases'; steps of the funnel go with these."""
    return int(event_type != "Purchase" and event_type not in FUNNEL)


class NewEvent(Struct, gc=False):
    """A conversion or funnel event on its way to the writer."""

    store: Store
    event: StoredEvent
    query: Query
    dedup_k: int | None
    identities: Keys
    public: PublicIds | None = None  # None: it has an event id
    former: dict[int, int] = {}  # what the release before called some of the identities
    source: int = 0  # of a page's claim: the name of its address prefix and the day
    filled: bool = False  # its visitor is a page's word, which the order's own browser gave
    told: Told | None = None  # of an order
    order_k: int | None = None  # the order's own name, which a page's telling of it never has

    @property
    def own_event_id(self) -> str | None:
        """The event id that the teller of an order chose for it."""
        return self.event.event_id if self.order_k is not None and not self.by_page and not self.is_derived else None

    @property
    def by_page(self) -> bool:
        """Whether anybody may have said so."""
        return self.event.rank == Rank.PAGE

    def witness(self, visitor: int | None) -> Witness:
        """Who vouches that the event's values are `visitor`'s: a server, where this telling of its has both."""
        both = not self.by_page and not self.filled and visitor is not None and visitor == self.query.visitor_k
        return Witness(self.source, frozenset(self.identities if both else ()))

    @property
    def is_derived(self) -> bool:
        """Whether the order's event id is the one that everybody can work out, and not its teller's own."""
        event = self.event
        return event.event_id == derive(self.store.config.id, event.event_type, event.order_id or "")


def prepare(
    names: KeyedHash, public: PublicIds, store: Store, checked: CheckedEvent, store_ip: str, caller: str | None = None
) -> NewEvent:
    """Name and encode a checked event, outside the writer's thread. A refusal of consent leaves no key behind.

    `caller`: the address that posted it.
    """
    event, number = checked.event, store.number
    keyed = not checked.flags & flags.DENIED
    address = public_address(event.ip) if keyed and event.ip else None
    agent = event.user_agent if keyed else None
    fbc = clickid.parse_fbc(event.fbc) if event.fbc else None
    visitor = event.visitor_id if keyed and event.visitor_id and canonical.visitor_id(event.visitor_id) else None
    fingerprint = (
        checked.fingerprint if keyed and checked.fingerprint and canonical.fingerprint(checked.fingerprint) else None
    )
    order_k = names.optional(number, "once", checked.idempotent and f"{event.event_type}\0{checked.idempotent}")
    dedup_k = order_k
    if event.order_id is not None and event.rank == Rank.PAGE:  # its own telling and nobody else's
        own = f"{event.event_type}\0{event.order_id}\0{event.visitor_id}\0{caller}\0{event.user_agent}"
        dedup_k = names.name(number, "page", own)
    query = Query(
        ts=event.ts,
        fbclid_k=names.name(number, "fbclid", event.fbclid) if keyed and event.fbclid else None,
        fbc_k=names.name(number, "fbclid", fbc.fbclid) if keyed and fbc else None,
        visitor_k=names.name(number, "visitor", visitor) if visitor else None,
        fbp_k=names.name(number, "fbp", event.fbp) if keyed and event.fbp else None,
        ip_k=names.name(number, "ip", addresses.match_prefix(address)) if address else None,
        net_k=_network(names, number, address),
        kind=kind_of(event.event_type),
        ua_k=names.name(number, "ua", agent) if agent else None,
        fp_k=names.name(number, "fp", fingerprint) if fingerprint else None,
        ua_class=classify(agent or ""),
        flags=_flags(checked, store),
        click_id=public.row("click", checked.click_id) if checked.click_id else None,
        fbc_created=fbc.created if fbc else None,
        jar_since=clickid.fbp_created(event.fbp) if keyed and event.fbp else None,
        consent=event.marketing,
        rank=dedup_k or 0,
    )
    kept = structs.replace(event, ip=clicks.network_address(address, store_ip), user_agent=agent, click=query.click_id)
    named = keys_of(names, number, checked.customer, store.config.country) if keyed else Named()
    return NewEvent(
        store=store,
        event=kept if keyed else without_person(kept),
        query=query,
        dedup_k=dedup_k,
        identities=named.keys,
        former=named.former,
        public=public,
        source=_source(names, number, address, event.received) if event.rank == Rank.PAGE else 0,
        told=told_of(names, number, event, query.ip_k, named.keys),
        order_k=order_k if event.order_id is not None else None,
    )


def _network(names: KeyedHash, store: int, address: str | None) -> int | None:
    """The name of an address's /24 or /48; of the address as it is kept: whole, cut, or not at all."""
    return names.name(store, "net", addresses.truncate(address)) if address else None


def _source(names: KeyedHash, store: int, address: str | None, received: int) -> int:
    """The name of a claim's address prefix and day; who has no public address is one with all the others."""
    prefix = addresses.truncate(address) if address else ""
    return names.name(store, "claim", f"{prefix}\0{received // times.DAY_MS}")


def told_of(
    names: KeyedHash,
    store: int,
    event: StoredEvent,
    ip_k: int | None,
    identities: Iterable[tuple[Identity, int]],
    called: str | None = None,
) -> Told | None:
    """Of who refused only that he told of this order, so that his device is kept out of it (T5).

    `called`: what else the order is called.
    """
    if event.order_id is None:
        return None
    emails = [key for kind, key in identities if kind == "email"]
    order = f"{event.event_type}\0{called or event.order_id}"
    return told_names(names, store, order, event.visitor_id, ip_k, emails)


def _flags(checked: CheckedEvent, store: Store) -> int:
    """A store that sends what pages tell has said that they are believed."""
    trusting = store.terms.browser_purchases == "send"
    return checked.flags & ~flags.UNCONFIRMED if trusting else checked.flags


def query_of(names: KeyedHash, row: ConversionRow, event: StoredEvent) -> Query:
    """The question that a stored event asks the matcher."""
    fbc = clickid.parse_fbc(event.fbc) if event.fbc else None
    name = names.name
    return Query(
        ts=row.ts,
        fbclid_k=name(row.store, "fbclid", event.fbclid) if event.fbclid else None,
        fbc_k=name(row.store, "fbclid", fbc.fbclid) if fbc else None,
        visitor_k=row.visitor_k,
        fbp_k=row.fbp_k,
        ip_k=row.ip_k,
        net_k=_network(names, row.store, event.ip) if row.ip_k is not None else None,
        kind=kind_of(row.event_type),
        ua_k=row.ua_k,
        fp_k=row.fp_k,
        ua_class=row.ua_class,
        flags=row.flags,
        click_id=event.click,
        fbc_created=fbc.created if fbc else None,
        jar_since=clickid.fbp_created(event.fbp) if event.fbp else None,
        consent=event.marketing,
        rank=row.dedup_k or 0,
    )
