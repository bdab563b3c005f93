"""The edge's verb for conversions: insert, candidates, match, enrichment, outbox rows, all in one transaction."""

from __future__ import annotations

from typing import Any

import apsw
import msgspec
from msgspec import Struct, structs

from collector.core import addresses, canonical, clickid, flags, times
from collector.core.capi import gate
from collector.core.capi.identifiers import public_address
from collector.core.capi.states import CapiState
from collector.core.events import StoredEvent
from collector.core.ids import PublicIds
from collector.core.intake import CheckedEvent
from collector.core.keyed import KeyedHash
from collector.core.matching import Match, Query
from collector.core.useragents import classify
from collector.errors import ApiError
from collector.storage import clicks, leaving, multirow, notices, outbox
from collector.storage.attribution import Attribution, first_order
from collector.storage.clicks import Clicks
from collector.storage.identities import Identities, Keys, Named, Witness, keys_of
from collector.storage.lookup import Lookup
from collector.storage.queueing import Figures, Queueing
from collector.storage.reader import EventState, event_state
from collector.storage.stores import Store
from collector.storage.subjects import CONVERSIONS, ConversionRow

_encode = msgspec.msgpack.Encoder().encode
_decode_event = msgspec.msgpack.Decoder(StoredEvent).decode
_decode_match = msgspec.msgpack.Decoder(Match).decode
_UPDATE = f"UPDATE conversion SET {', '.join(f'{c} = ?' for c in ConversionRow._fields[1:])} WHERE id = ?"
# Statuses under which an order's amount may differ from what we were told first.
_EXPLAINS = gate.PAID | gate.ENDED | {"updated", "partially_refunded"}


class NewEvent(Struct, gc=False):
    """A conversion or funnel event on its way to the writer."""

    store: Store
    event: StoredEvent
    query: Query
    dedup_k: int | None
    identities: Keys
    former: dict[int, int]  # what the release before called some of these
    public: PublicIds
    confirmed: bool  # a server says so
    source: int = 0  # of a page's claim: the name of its address prefix and the day

    def witness(self, visitor: int | None) -> Witness:
        """Who vouches that the event's values are `visitor`'s: a server, where this telling of its has both."""
        both = self.confirmed and visitor is not None and visitor == self.query.visitor_k
        return Witness(self.source, frozenset(self.identities if both else ()))


class EventResult(Struct, frozen=True, gc=False):
    """Where the event is, what is known of it now, and whether it was here before; `before`: as this one found it."""

    state: EventState
    duplicate: bool = False
    before: ConversionRow | None = None


def prepare(
    names: KeyedHash, public: PublicIds, store: Store, checked: CheckedEvent, store_ip: str, *, confirmed: bool
) -> NewEvent:
    """Name and encode a checked event, outside the writer's thread. A refusal of consent leaves no key behind."""
    event, number = checked.event, store.number
    keyed = not checked.flags & flags.DENIED
    address = public_address(event.ip) if keyed and event.ip else None
    agent = event.user_agent if keyed else None
    fbc = clickid.parse_fbc(event.fbc) if event.fbc else None
    visitor = event.visitor_id if keyed and event.visitor_id and canonical.visitor_id(event.visitor_id) else None
    fingerprint = (
        checked.fingerprint if keyed and checked.fingerprint and canonical.fingerprint(checked.fingerprint) else None
    )
    dedup_k = names.optional(number, "once", checked.idempotent and f"{event.event_type}\0{checked.idempotent}")
    query = Query(
        ts=event.ts,
        fbclid_k=names.name(number, "fbclid", event.fbclid) if keyed and event.fbclid else None,
        fbc_k=names.name(number, "fbclid", fbc.fbclid) if keyed and fbc else None,
        visitor_k=names.name(number, "visitor", visitor) if visitor else None,
        fbp_k=names.name(number, "fbp", event.fbp) if keyed and event.fbp else None,
        ip_k=names.name(number, "ip", addresses.match_prefix(address)) if address else None,
        ua_k=names.name(number, "ua", agent) if agent else None,
        fp_k=names.name(number, "fp", fingerprint) if fingerprint else None,
        ua_class=classify(agent or ""),
        flags=checked.flags,
        click_id=public.row("click", checked.click_id) if checked.click_id else None,
        fbc_created=fbc.created if fbc else None,
        jar_since=clickid.fbp_created(event.fbp) if keyed and event.fbp else None,
        consent=event.marketing,
        rank=dedup_k or 0,
    )
    named = keys_of(names, number, checked.customer, store.config.country) if keyed else Named()
    kept = structs.replace(event, ip=clicks.network_address(address, store_ip), user_agent=agent, click=query.click_id)
    return NewEvent(
        store=store,
        event=kept if keyed else without_person(kept),
        query=query,
        dedup_k=dedup_k,
        identities=named.keys,
        former=named.former,
        public=public,
        confirmed=confirmed,
        source=0 if confirmed else _source(names, number, address, event.received),
    )


def _source(names: KeyedHash, store: int, address: str | None, received: int) -> int:
    """The name of a claim's address prefix and day; who has no public address is one with all the others."""
    prefix = addresses.truncate(address) if address else ""
    return names.name(store, "claim", f"{prefix}\0{received // times.DAY_MS}")


def without_person(event: StoredEvent) -> StoredEvent:
    """What is kept of an event whose visitor refused: the order, not the person."""
    return structs.replace(
        event, user_data={}, fbclid=None, fbc=None, fbp=None, visitor_id=None, ip=None, user_agent=None
    )


class Conversions:
    """Owned by the writer thread. What is taken is findable at once and written by `flush`."""

    def __init__(
        self, db: apsw.Connection, names: KeyedHash, lookup: Lookup, appended: Clicks, figures: Figures
    ) -> None:
        self._db = db
        self._names = names
        self._lookup = lookup
        self._clicks = appended
        self._attribution = Attribution(db, names, lookup, appended)
        self._queueing = Queueing(db, figures)
        self.identities = Identities(db)
        self.gained, self.renewed = self.identities.beyond_values()
        self.related: set[int] = set()  # conversions with a value whose link to a visitor is new (late.py)

    def take_models(self) -> None:
        """Put in force what the last night has learnt."""
        self._attribution.take_models()

    def take(self, new: NewEvent, now: int) -> EventResult:
        """Store the event, matched and queued; an event that is here already is merged with what is new in it."""
        known = self._earlier(new) if new.dedup_k is not None else None
        if known is not None:
            return self._again(known, new, now)
        event_id = self._next_id()
        event = new.event
        if not event.event_id:
            event = structs.replace(event, event_id=new.public.public("conv", event_id))
        people = self.identities.known(new.store.number, new.identities, new.query.visitor_k, new.former)
        witness = new.witness(new.query.visitor_k)
        meant = people.people(event.ts, witness)
        found, enrichment, click = self._attribution.of(new.store, new.query, meant, event, now)
        state = self._queueing.queue(event_id, new.store, event, enrichment, now)
        row = _row(event_id, new, event, found, state, 0)
        self._append(row)
        self.related = self.identities.link(people, event.ts, witness)
        self.identities.carry(event_id, new.identities)
        if second := _second_click(new.query, row):
            self.identities.gain(event_id, second)
            self.gained = True
        self._renew(event_id, new.store, event)
        return EventResult(EventState(row, event, found, state, None, click))

    def _renew(self, event_id: int, store: Store, event: StoredEvent) -> None:
        """Have a renewal found by its first order, whose answer it inherits unless its own consent is denied."""
        if event.renewal_of is not None and event.marketing != "denied":
            self.identities.renew(event_id, first_order(self._names, store.number, event))
            self.renewed = True

    def _next_id(self) -> int:
        last = self._lookup.last
        last[CONVERSIONS] += 1
        return last[CONVERSIONS]

    def _append(self, row: ConversionRow) -> None:
        self._lookup.conversions.add(row)
        self._lookup.unwritten[row.id] = row

    def flush(self) -> None:
        """Write what was taken into the open transaction."""
        if self._lookup.unwritten:
            multirow.write(self._db, "INSERT INTO conversion", list(self._lookup.unwritten.values()))
            self._lookup.unwritten = {}
        self._queueing.flush()
        self.identities.flush()

    def forget(self) -> None:
        """Drop what is not written: the transaction is rolled back."""
        self._lookup.unwritten = {}
        self._queueing.forget()
        self.identities.forget()

    def _earlier(self, new: NewEvent) -> ConversionRow | None:
        assert new.dedup_k is not None
        number, event = new.store.number, new.event
        ids = self._lookup.find(CONVERSIONS, "dedup", new.dedup_k, 0, 4)
        for row in self._lookup.conversion_rows(set(ids)):
            if row.store == number and row.dedup_k == new.dedup_k and row.event_type == event.event_type:
                return row
        return None

    def _again(self, row: ConversionRow, new: NewEvent, now: int) -> EventResult:
        """The same order again: nothing is sent twice, and nothing richer is lost; a refusal then or now stands."""
        self._clicks.flush()
        self.flush()
        old, event_id = _decode_event(row.body), row.id
        _refuse_conflict(old, new.event)
        merged = merge(old, new.event, confirmed=new.confirmed)
        if merged == old:
            return EventResult(event_state(self._db, row), duplicate=True)
        store, bits = new.store, _bits_of(row, new, merged)
        if merged.marketing == "denied":
            self.identities.drop(event_id, store.number, row.visitor_k)
            leaving.note(self._db, CONVERSIONS, row, kept=("dedup",))  # the same order must be known again
            new = structs.replace(new, query=_BARE, identities=[])
            row = row._replace(visitor_k=None, fbp_k=None, ip_k=None, ua_k=None, fp_k=None, ua_class=0)
        keys = list(dict.fromkeys([*self.identities.keys_in(event_id), *new.identities]))
        query = structs.replace(_complete(self.query_of(row, merged), new.query), flags=bits)
        people = self.identities.known(store.number, keys, query.visitor_k, new.former)
        witness = new.witness(query.visitor_k)
        meant = people.people(merged.ts, witness)
        found, enrichment, click = self._attribution.of(store, query, meant, merged, now)
        state = self._queueing.requeue(event_id, store, merged, enrichment, now)
        changed = _row(event_id, structs.replace(new, query=query), merged, found, state, row.revision + 1, bits=bits)
        self.update(changed)
        gained = {n for n in CONVERSIONS.names(changed)[1:] if n is not None} - set(CONVERSIONS.names(row))
        if gained := gained | _second_click(query, changed):
            self.identities.gain(event_id, gained)
            self.gained = True
        self.related = self.identities.link(people, merged.ts, witness) - {event_id}
        self.identities.carry(event_id, new.identities)
        self._renew(event_id, store, merged)
        self._queueing.flush()
        delivery = outbox.delivery_of(self._db, event_id)
        return EventResult(
            EventState(
                changed,
                merged,
                found,
                delivery.state if delivery else state,
                delivery.reason if delivery else None,
                click,
            ),
            duplicate=True,
            before=row,
        )

    def query_of(self, row: ConversionRow, event: StoredEvent) -> Query:
        """The question that a stored event asks the matcher."""
        fbc = clickid.parse_fbc(event.fbc) if event.fbc else None
        name = self._names.name
        return Query(
            ts=row.ts,
            fbclid_k=name(row.store, "fbclid", event.fbclid) if event.fbclid else None,
            fbc_k=name(row.store, "fbclid", fbc.fbclid) if fbc else None,
            visitor_k=row.visitor_k,
            fbp_k=row.fbp_k,
            ip_k=row.ip_k,
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

    def reconsider(self, row: ConversionRow, store: Store, now: int) -> ConversionRow | None:
        """Match a stored event anew with what is known by now; its new row if the answer changed, else None."""
        event = _decode_event(row.body)
        before = _decode_match(row.match)
        people = self.identities.known(store.number, self.identities.keys_in(row.id), None)
        found, enrichment, _ = self._attribution.of(
            store, self.query_of(row, event), people.people(event.ts), event, now
        )
        if before == structs.replace(found, label=before.label):
            return None
        same = _same_answer(before, found)  # only its journey, its rivals or their weights are others
        changed = row._replace(
            click=found.click if found.attributed else None,
            confidence=found.confidence if found.attributed else None,
            method=found.method,
            revision=row.revision if same else row.revision + 1,
            match=_encode(found),
        )
        self.update(changed)
        if not same:
            self._queueing.enrich(row.id, store, event, enrichment, now)
            notices.note(self._db, row.id, changed.revision, now)
        return changed

    def update(self, row: ConversionRow) -> None:
        if row.id in self._lookup.unwritten:
            self._lookup.unwritten[row.id] = row
        else:
            self._db.execute(_UPDATE, (*row[1:], row.id))
        self._lookup.conversions.replace(row)


def _row(
    event_id: int,
    new: NewEvent,
    event: StoredEvent,
    found: Match,
    state: CapiState,
    revision: int,
    *,
    bits: int | None = None,
) -> ConversionRow:
    query = new.query
    return ConversionRow(
        event_id,
        new.store.number,
        event.ts,
        event.received,
        event.event_type,
        new.dedup_k,
        query.fbc_k if query.fbclid_k is None else query.fbclid_k,
        query.visitor_k,
        query.fbp_k,
        query.ip_k,
        query.ua_k,
        query.fp_k,
        query.ua_class,
        query.flags if bits is None else bits,
        found.click if found.attributed else None,
        found.confidence if found.attributed else None,
        found.method,
        revision,
        int(state),
        _encode(event),
        _encode(found),
    )


def _second_click(query: Query, row: ConversionRow) -> set[int]:
    """The click id inside `fbc` where the event also names another: the row is found by that one."""
    return set() if query.fbc_k in (None, row.fbclid_k) else {query.fbc_k}


def _complete(query: Query, new: Query) -> Query:
    """The first request's keys, and the second's where the first had none."""
    absent = {f: value for f in _KEYS if getattr(query, f) is None and (value := getattr(new, f)) is not None}
    return structs.replace(query, ua_class=query.ua_class or new.ua_class, **absent)


def _bits_of(row: ConversionRow, new: NewEvent, merged: StoredEvent) -> int:
    """The flags of an order that was told again."""
    bits = new.query.flags if new.confirmed else row.flags & ~flags.UNCONFIRMED | new.query.flags
    bits &= ~(flags.DENIED | flags.PENDING)
    withdrawn = row.flags & flags.WITHDRAWN
    if merged.marketing == "denied" and not withdrawn:
        bits |= flags.DENIED
    return bits | withdrawn | (flags.PENDING if merged.marketing == "pending" else 0)


_BARE = Query(ts=0)  # asks for nobody
_KEYS = ("visitor_k", "fbp_k", "ip_k", "ua_k", "fp_k", "click_id")


def _same_answer(before: Match, after: Match) -> bool:
    return (before.attributed, before.click, before.confidence, before.method, before.reason) == (
        after.attributed,
        after.click,
        after.confidence,
        after.method,
        after.reason,
    )


def _refuse_conflict(old: StoredEvent, new: StoredEvent) -> None:
    """The same order with another amount is a mistake somewhere, unless its status explains it."""
    if (new.order_status or "").lower() in _EXPLAINS:
        return
    if new.value is not None and old.value is not None and new.value != old.value:
        raise ApiError(
            "order_conflict", "this order is known with another eventValue; say why in orderStatus", "eventValue"
        )
    if new.currency is not None and old.currency is not None and new.currency != old.currency:
        raise ApiError(
            "order_conflict", "this order is known with another currency; say why in orderStatus", "currency"
        )


def merge(old: StoredEvent, new: StoredEvent, *, confirmed: bool) -> StoredEvent:
    """The first event completed by the second: what was absent is filled, identifiers are united, a status replaces."""
    user_data = {k: list(dict.fromkeys([*old.user_data.get(k, ()), *v])) for k, v in new.user_data.items()}
    changes: dict[str, Any] = {"user_data": {**old.user_data, **user_data}}
    for name in _FILLED:
        if not getattr(old, name) and getattr(new, name):
            changes[name] = getattr(new, name)
    if new.order_status is not None:
        changes["order_status"] = new.order_status
        if new.value is not None and new.order_status.lower() in _EXPLAINS - gate.ENDED:
            changes["value"], changes["currency"] = new.value, new.currency
    if confirmed and old.unconfirmed:
        changes["unconfirmed"] = False
    if old.marketing == "pending" and new.marketing != "pending":
        changes["marketing"] = new.marketing
    if old.marketing == "granted" and new.marketing == "denied":
        changes["marketing"] = "denied"
    merged = structs.replace(old, **changes)
    return without_person(merged) if merged.marketing == "denied" else merged


_FILLED = (
    "value currency products custom_data fbclid fbc fbp visitor_id ip user_agent event_source_url referrer "
    "test_event_code renewal_of"
).split()
