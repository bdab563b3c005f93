"""The edge's verb for conversions: insert, candidates, match, enrichment, outbox rows, all in one transaction."""

from __future__ import annotations

from typing import Any

import apsw
import msgspec
from msgspec import Struct, structs

from collector.core import addresses, canonical, clickid, flags
from collector.core.capi import gate, payload
from collector.core.capi.identifiers import public_address
from collector.core.capi.states import CapiState
from collector.core.events import Enrichment, StoredClick, StoredEvent
from collector.core.ids import PublicIds
from collector.core.intake import CheckedEvent
from collector.core.keyed import KeyedHash
from collector.core.matching import DEFAULT_MODEL, Match, Model, Query, match, renew
from collector.core.useragents import classify
from collector.errors import ApiError
from collector.storage import clicks, identities, outbox
from collector.storage.clicks import Clicks
from collector.storage.identities import Keys
from collector.storage.lookup import Lookup
from collector.storage.reader import EventState, event_state
from collector.storage.stores import Store
from collector.storage.subjects import CLICKS, CONVERSIONS, ConversionRow

_encode = msgspec.msgpack.Encoder().encode
_decode_event = msgspec.msgpack.Decoder(StoredEvent).decode
_decode_match = msgspec.msgpack.Decoder(Match).decode
_INSERT = f"INSERT INTO conversion VALUES ({', '.join('?' * len(ConversionRow._fields))})"
_UPDATE = (
    f"UPDATE conversion SET {', '.join(f'{c} = ?' for c in ConversionRow._fields[1:])} WHERE id = ?"
)
# Statuses under which an order's amount may differ from what we were told first.
_EXPLAINS = gate.PAID | gate.ENDED | {"updated", "partially_refunded"}
REOPEN_MS = 96 * 3_600_000  # a late click re-opens a conversion for this long, in event time


class NewEvent(Struct, gc=False):
    """A conversion or funnel event on its way to the writer."""

    store: Store
    event: StoredEvent
    query: Query
    dedup_k: int | None
    click_id: int | None
    identities: Keys
    public: PublicIds
    names: KeyedHash
    confirmed: bool  # a server says so


class EventResult(Struct, frozen=True, gc=False):
    """Where the event is, what is known of it now, and whether it was here before."""

    state: EventState
    duplicate: bool = False


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
    fingerprint = checked.fingerprint if keyed and checked.fingerprint and canonical.fingerprint(checked.fingerprint) else None
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
        consent=event.marketing,
    )
    kept = structs.replace(event, ip=clicks.network_address(address, store_ip), user_agent=agent)
    return NewEvent(
        store=store,
        event=kept if keyed else _without_person(kept),
        query=query,
        dedup_k=names.name(number, f"once {event.event_type}", checked.idempotent) if checked.idempotent else None,
        click_id=query.click_id,
        identities=identities.keys_of(names, number, checked.customer, store.config.country) if keyed else [],
        public=public,
        names=names,
        confirmed=confirmed,
    )


def _without_person(event: StoredEvent) -> StoredEvent:
    """What is kept of an event whose visitor refused: the order, not the person."""
    return structs.replace(
        event, user_data={}, fbclid=None, fbc=None, fbp=None, visitor_id=None, ip=None, user_agent=None
    )


class Conversions:
    """Owned by the writer thread."""

    def __init__(self, db: apsw.Connection, lookup: Lookup, appended: Clicks) -> None:
        self._db = db
        self._lookup = lookup
        self._clicks = appended
        self.models: dict[int, Model] = {}

    def take(self, new: NewEvent, now: int) -> EventResult:
        """Store the event, matched and queued; an event that is here already is merged with what is new in it."""
        known = self._earlier(new) if new.dedup_k is not None else None
        if known is not None:
            return self._again(known, new, now)
        lookup = self._lookup
        event_id = lookup.last[CONVERSIONS] + 1
        lookup.last[CONVERSIONS] = event_id
        event = new.event
        if not event.event_id:
            event = structs.replace(event, event_id=new.public.public("conv", event_id))
        found, enrichment, click = self._match(new.store, new.query, new.identities, event, new.names, now)
        state = self._queue(event_id, new.store, event, enrichment, now)
        row = _row(event_id, new, event, found, state, 0)
        self._db.execute(_INSERT, row)
        lookup.conversions.add(row)
        identities.link(self._db, new.store.number, new.identities, new.query.visitor_k, event.ts)
        return EventResult(EventState(row, event, found, state, None, click))

    def _earlier(self, new: NewEvent) -> ConversionRow | None:
        assert new.dedup_k is not None
        number, event = new.store.number, new.event
        ids = self._lookup.find(CONVERSIONS, "dedup", new.dedup_k, 0, 4)
        for row in self._lookup.conversion_rows(set(ids)):
            if row.store == number and row.dedup_k == new.dedup_k and row.event_type == event.event_type:
                return row
        return None

    def _match(
        self, store: Store, query: Query, keys: Keys, event: StoredEvent, names: KeyedHash, now: int
    ) -> tuple[Match, Enrichment, StoredClick | None]:
        """The answer, what the click adds on proof, and the click."""
        model = self.models.get(store.number, DEFAULT_MODEL)
        if event.bot is not None:
            return Match(attributed=False, model=model.version, reason="no_candidate"), Enrichment(), None
        self._clicks.flush()
        if keys:
            query.identity_visitors = identities.visitors_of(self._db, store.number, keys)
        if query.fbc_k is not None and store.siblings:
            query.fbc_foreign = self._known_elsewhere(store, event, names)
        policy = store.policy
        inferred = policy.probabilistic and query.consent == "granted"
        lookup = self._lookup
        candidates = lookup.candidates(store.number, query, policy.window_ms, policy.click_ms, inferred)
        statistics = lookup.statistics(store.number, query, policy.window_ms)
        if store.config.count == "one":
            query.taken = self._taken({c.id for c in candidates})
        found = match(query, candidates, statistics, model, policy)
        if event.renewal_of is not None:
            found = self._renewed(store, event, names) or found
        if found.attributed and found.click is None and found.method == "fbc_unseen":
            found = self._recover(store, query, event, names, found, now)
        return found, *self._enrichment(found)

    def _taken(self, ids: set[int]) -> frozenset[int]:
        marks = ", ".join("?" * len(ids))
        return frozenset(r[0] for r in self._db.execute(f"SELECT click FROM conversion WHERE click IN ({marks})", tuple(ids)))

    def _known_elsewhere(self, store: Store, event: StoredEvent, names: KeyedHash) -> bool:
        """Whether another store on the same domain has this click id: then it is that store's click."""
        fbc = clickid.parse_fbc(event.fbc or "")
        since = event.ts - store.policy.click_ms
        return fbc is not None and any(
            self._lookup.find(CLICKS, "fbclid", names.name(other, "fbclid", fbc.fbclid), since, 1)
            for other in store.siblings
        )

    def _renewed(self, store: Store, event: StoredEvent, names: KeyedHash) -> Match | None:
        """A renewal inherits the first order's attribution (matching.md 5, row 37)."""
        first = names.name(store.number, f"once {event.event_type}", f"o{event.renewal_of}")
        for row in self._lookup.conversion_rows(set(self._lookup.find(CONVERSIONS, "dedup", first, 0, 4))):
            if row.store == store.number and row.dedup_k == first:
                return renew(_decode_match(row.match))
        return None

    def _recover(
        self, store: Store, query: Query, event: StoredEvent, names: KeyedHash, found: Match, now: int
    ) -> Match:
        """Keep the click that a later fbc proves, so that it can be named and found again."""
        fbc = clickid.parse_fbc(event.fbc or "")
        if fbc is None:
            return found
        new = clicks.recovered(names, store.number, fbc.fbclid, event.fbc or "", fbc.created, event.visitor_id, now)
        result = self._clicks.append(new)
        self._clicks.flush()
        return structs.replace(found, click=result.id, path=[result.id])

    def _enrichment(self, found: Match) -> tuple[Enrichment, StoredClick | None]:
        """What the credited click adds: everything on proof, nothing on inference."""
        if found.click is None:
            return Enrichment(), None
        rows = self._lookup.click_rows({found.click})
        if not rows:
            return Enrichment(), None
        click = clicks.read(rows[0])
        if not found.deterministic:
            return Enrichment(), click
        ip, agent = clicks.network_of(self._db, found.click)
        return (
            Enrichment(
                fbc=click.fbc if _same_click(click) else clickid.build_fbc(click.fbclid, rows[0].ts),
                fbp=click.fbp,
                ip=ip,
                user_agent=agent,
                event_source_url=click.landing_page or None,
            ),
            click,
        )

    def _queue(self, event_id: int, store: Store, event: StoredEvent, enrichment: Enrichment, now: int) -> CapiState:
        """One outbox row per pixel that takes the event; the state that the event has by it."""
        pixels = [p for p in store.pixels if p.takes(event.event_type)]
        verdict = gate.decide(event, store.terms, len(pixels) or int(store.dry_run))
        if verdict.state in (CapiState.DISABLED, CapiState.SKIPPED):
            return verdict.state
        if not pixels:
            return CapiState.DRY_RUN if verdict.state is CapiState.QUEUED else verdict.state
        built = payload.build_event(event, enrichment, store.profile)
        wait = store.purchase_wait if event.event_type == "Purchase" else store.other_wait
        rows = [
            outbox.row(
                event_id,
                pixel.number,
                event.event_type,
                built,
                now=now,
                wait_seconds=wait,
                held=(verdict.state, verdict.reason) if verdict.state is not CapiState.QUEUED else None,
                test_code=event.test_event_code,
            )
            for pixel in pixels
        ]
        outbox.insert(self._db, rows)
        return CapiState(rows[0].state)

    def _again(self, row: ConversionRow, new: NewEvent, now: int) -> EventResult:
        """The same order again: nothing is sent twice, and nothing richer is lost."""
        old, event_id = _decode_event(row.body), row.id
        _refuse_conflict(old, new.event)
        merged = merge(old, new.event, confirmed=new.confirmed)
        if merged == old:
            return EventResult(event_state(self._db, row), duplicate=True)
        store = new.store
        query = self._query_of(row, new.query, merged)
        found, enrichment, click = self._match(store, query, new.identities, merged, new.names, now)
        before = _decode_match(row.match)
        if not _better(before, found):
            found = before
            enrichment, click = self._enrichment(found)
        state = self._requeue(event_id, store, merged, enrichment, now)
        bits = new.query.flags if new.confirmed else row.flags & ~flags.UNCONFIRMED | new.query.flags
        changed = _row(event_id, structs.replace(new, query=query), merged, found, state, row.revision + 1, bits=bits)
        self._update(changed)
        identities.link(self._db, store.number, new.identities, query.visitor_k, merged.ts)
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
        )

    def _query_of(self, row: ConversionRow, new: Query, merged: StoredEvent) -> Query:
        """The first request's keys, completed by the second's."""
        fbc = clickid.parse_fbc(merged.fbc) if merged.fbc else None
        return structs.replace(
            new,
            ts=merged.ts,
            fbclid_k=row.fbclid_k if row.fbclid_k is not None else new.fbclid_k,
            visitor_k=row.visitor_k if row.visitor_k is not None else new.visitor_k,
            fbp_k=row.fbp_k if row.fbp_k is not None else new.fbp_k,
            ip_k=row.ip_k if row.ip_k is not None else new.ip_k,
            ua_k=row.ua_k if row.ua_k is not None else new.ua_k,
            fp_k=row.fp_k if row.fp_k is not None else new.fp_k,
            ua_class=row.ua_class or new.ua_class,
            fbc_created=fbc.created if fbc else None,
            consent=merged.marketing,
        )

    def _requeue(self, event_id: int, store: Store, event: StoredEvent, enrichment: Enrichment, now: int) -> CapiState:
        """Bring what is not settled yet in line with the order's new state."""
        delivery = outbox.delivery_of(self._db, event_id)
        if delivery is None:
            return self._queue(event_id, store, event, enrichment, now)
        pixels = [p for p in store.pixels if p.takes(event.event_type)]
        verdict = gate.decide(event, store.terms, len(pixels))
        if verdict.state is CapiState.SKIPPED:
            outbox.drop(self._db, event_id, now=now, reason=verdict.reason or "", state=CapiState.SKIPPED)
            return CapiState.SKIPPED
        built = payload.build_event(event, enrichment, store.profile)
        if built.refused is None:
            outbox.merge(self._db, event_id, {p.number: built.payload for p in pixels})
        if verdict.state is CapiState.HELD:
            outbox.hold(self._db, event_id, reason=verdict.reason or "")
        else:
            outbox.release(self._db, event_id, now=now)
        after = outbox.delivery_of(self._db, event_id)
        return after.state if after else verdict.state

    def _update(self, row: ConversionRow) -> None:
        self._db.execute(_UPDATE, (*row[1:], row.id))
        self._lookup.conversions.replace(row)


def _same_click(click: StoredClick) -> bool:
    fbc = clickid.parse_fbc(click.fbc) if click.fbc else None
    return fbc is not None and fbc.fbclid == click.fbclid


def _row(
    event_id: int, new: NewEvent, event: StoredEvent, found: Match, state: CapiState, revision: int, *, bits: int | None = None
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


def _refuse_conflict(old: StoredEvent, new: StoredEvent) -> None:
    """The same order with another amount is a mistake somewhere, unless its status explains it."""
    if (new.order_status or "").lower() in _EXPLAINS:
        return
    if new.value is not None and old.value is not None and new.value != old.value:
        raise ApiError("order_conflict", "this order is known with another eventValue; say why in orderStatus", "eventValue")
    if new.currency is not None and old.currency is not None and new.currency != old.currency:
        raise ApiError("order_conflict", "this order is known with another currency; say why in orderStatus", "currency")


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
    return structs.replace(old, **changes)


_FILLED = (
    "value currency products custom_data fbclid fbc fbp visitor_id ip user_agent event_source_url referrer "
    "test_event_code renewal_of"
).split()


def _better(before: Match, after: Match) -> bool:
    """Whether the completed event's answer replaces the first one."""
    return after.attributed and (not before.attributed or after.confidence > before.confidence)
