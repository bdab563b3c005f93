"""The keeper's verb for conversions: insert, candidates, match, enrichment, outbox rows, all in one transaction."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import structs

from collector.core import flags, orders, refunds
from collector.core.capi.gate import Gate
from collector.core.capi.states import CapiState
from collector.core.events import Enrichment, GivenBack, StoredEvent
from collector.core.keyed import KeyedHash
from collector.core.matching import Match, Model, Query, renew
from collector.core.orders import Rank
from collector.exchange.naming import NewEvent, query_of, told_of
from collector.exchange.operations import ShopTold
from collector.exchange.rows import ConversionRow
from collector.exchange.states import EventResult, EventState
from collector.exchange.stores import Store
from collector.storage.rules.matched import first_order
from collector.storage.rules.shop_tellings import ended, is_refund_of_a_pages, values_differ
from collector.storage.rules.tables import CONVERSIONS
from collector.storage.rules.told_again import KEY_OF, NOBODY, bits_of, complete, row_of, same_answer, second_click
from collector.storage.rules.weighed import without_device
from collector.storage.verbs.attribution import Attribution
from collector.storage.verbs.order_names import named
from collector.storage.verbs.ports import Landed, Parts
from collector.storage.verbs.queueing import Figures, Queueing
from collector.storage.verbs.weighing import Weighing

_encode = msgspec.msgpack.Encoder().encode
_decode_event = msgspec.msgpack.Decoder(StoredEvent).decode
_decode_match = msgspec.msgpack.Decoder(Match).decode


class Conversions:
    """Owned by the writer thread. What is taken is findable at once and written by `flush`."""

    def __init__(self, names: KeyedHash, parts: Parts, figures: Figures) -> None:
        self._names = names
        self._lookup = parts.lookup
        self._clicks = parts.clicks
        self._rows = parts.rows
        self._outbox = parts.outbox
        self.attribution = Attribution(names, parts.lookup, parts.clicks, parts.models)
        self._queueing = Queueing(parts.outbox, figures)
        self._event_names = parts.event_names
        self.identities = parts.identities
        self._shared = parts.shared
        self.refunds = parts.refunds
        self.order_names = parts.order_names
        self._figures = figures
        self.weighing = Weighing(names, parts, self.update)
        self.gained, self.renewed = self.identities.beyond_values()
        self.related: set[int] = set()  # conversions with a value whose link to a visitor is new (late.py)

    def take_models(self, newest: Mapping[int, Model]) -> None:
        """Put in force what the last night has learnt."""
        self.attribution.take_models(newest)

    def take(self, new: NewEvent, now: int) -> EventResult:
        """Store the event, matched and queued; an event that is here already is merged with what is new in it."""
        self._event_names.tell(new.store.number, new.event.event_type, by_page=new.by_page)
        known = named(self._lookup, new.store.number, new.event.event_type, new.dedup_k)
        if known is None and self.order_names.any and new.order_k is not None and not new.by_page:
            known = self.order_names.order(new.store.number, new.event, new.order_k)
        if known is not None:
            return self._again(known, new, now)
        return self._new(new, now)

    def take_shop(self, told: ShopTold, new: NewEvent, now: int) -> EventResult | None:
        """As `take`, of what a shop tells under all names of its order; None where it only ends one that we lack."""
        store, event = new.store.number, new.event
        known = named(self._lookup, store, event.event_type, new.order_k)
        by = told.delivery.webhook
        known = known or self.order_names.order(store, event, new.order_k, told.names, told.numbers, by)
        if told.ends and (known is None or is_refund_of_a_pages(event, known)):
            return None
        if known is not None and not told.ends and values_differ(known, event):
            self.order_names.note(store, "value_differs", event, known)
        taken = self._again(known, ended(new) if told.ends else new, now) if known is not None else self._new(new, now)
        row = taken.state.row
        own = [new.order_k] if new.order_k is not None else []
        named_so, numbered = {*own, *told.names} - {row.dedup_k}, set(told.numbers) - {row.dedup_k}
        self.order_names.keep(row.id, named_so, numbered, store=store)
        if self.weighing.tellings.any and self._told_by_pages(new, told.others):
            self._figures.append((store, "shop.page_number"))
        return taken

    def _told_by_pages(self, new: NewEvent, called: Sequence[str]) -> bool:
        """Have what pages told under the order's other names weighed; whether there is any."""
        names, weigh = self._names, self.weighing.tellings.weigh_again
        others = [told_of(names, new.store.number, new.event, new.query.ip_k, new.identities, one) for one in called]
        return sum(weigh(other, store=new.store.number) for other in others if other is not None) > 0

    def _new(self, new: NewEvent, now: int) -> EventResult:
        event_id = self._rows.next_id()
        if not new.event.event_id and new.public is not None:
            new = structs.replace(new, event=structs.replace(new.event, event_id=new.public.public("conv", event_id)))
        if new.order_k is None:
            return self._first(event_id, new, now)
        if new.by_page:
            return self._first(event_id, self.weighing.page_order(event_id, new), now)
        pages = self.weighing.told_of(new)
        if not pages:
            return self._first(event_id, new, now)
        self.flush()
        told = self.weighing.order(event_id, new, pages, now)
        taken = self._first(event_id, told.order, now, heir=told.heir)
        return structs.replace(taken, duplicate=told.confirmed)

    def _first(self, event_id: int, new: NewEvent, now: int, *, heir: StoredEvent | None = None) -> EventResult:
        """A new row. `heir`: as what a delivery that has been handed over to it went out, or may be under way."""
        event = self._named_apart(event_id, new, now)
        people = self.identities.known(new.store.number, new.identities, new.query.visitor_k, new.former)
        witness = new.witness(new.query.visitor_k)
        meant = people.people(event.ts, witness)
        found, enrichment, click = self.attribution.of(new.store, new.query, meant, event, now)
        if heir is not None:
            had = heir.value if heir.sent_value is None else heir.sent_value
            if had != event.value and self.refunds.pixels(event_id):
                event = structs.replace(event, sent_value=had)
            self.refunds.note_sent(event_id, heir, event)
            queued = self._queueing.requeue(event_id, new.store, event, enrichment, now)
        else:
            note = event.note_of is not None
            as_told = structs.replace(event, note_of=None) if note else event
            queued = self._queueing.queue(event_id, new.store, as_told, enrichment, now, note=note)
        state = CapiState.SKIPPED if event.note_of is not None else queued.state
        row = row_of(event_id, new.store.number, new.dedup_k, new.query, event, found, state, 0)
        self._append(row)
        self._rows.counted(None, row, event)
        self.related = self.identities.link(people, event.ts, witness)
        self.identities.carry(event_id, new.identities, store=new.store.number)
        if second := second_click(new.query, row):
            self.identities.gain(event_id, second, store=new.store.number)
            self.gained = True
        self._renew(event_id, new.store, event)
        return EventResult(EventState(row, event, found, queued.state, queued.reason, click))

    def _named_apart(self, event_id: int, new: NewEvent, now: int) -> StoredEvent:
        """The event, which knows the other order that bears its event id; and that one knows it."""
        other = self._shared.other(event_id, new, now)
        for row in self._lookup.conversion_rows({other}) if other is not None else ():
            event = structs.replace(_decode_event(row.body), shares_id=event_id)
            self.update(row._replace(body=_encode(event)))
        return new.event if other is None else structs.replace(new.event, shares_id=other)

    def weigh(self, page: ConversionRow, store: Store, now: int) -> EventResult | None:
        """Weigh a page's telling against its order, if a server or shop has told that by now.

        It is a note of it; where it is of the order's own browser, what it adds or refuses counts for the order too
        (T2, T5): what the order has become, if anything.
        """
        self.flush()
        weighed = self.weighing.against_order(page, store, now)
        return self._changed(*weighed, now) if weighed is not None else None

    def lose_device(self, row: ConversionRow, store: Store, now: int) -> EventResult:
        """Take the visitor's device out of an order that goes on without it (T5)."""
        self.flush()
        old = _decode_event(row.body)
        query = without_device(query_of(self._names, row, old))
        new = NewEvent(store, orders.without_device(old), query, row.dedup_k, [])
        return self._changed(row, old, new.event, query, new, now)

    def _renew(self, event_id: int, store: Store, event: StoredEvent) -> None:
        """Have a renewal found by its first order, whose answer it inherits unless its own consent is denied."""
        if event.renewal_of is not None and event.marketing != "denied":
            self.identities.renew(event_id, first_order(self._names, store.number, event), store=store.number)
            self.renewed = True

    def _append(self, row: ConversionRow) -> None:
        self._rows.append(row)

    def flush(self) -> None:
        """Write what was taken into the open transaction."""
        self._rows.flush()
        self._queueing.flush()
        self.identities.flush()
        self.weighing.tellings.flush()

    def forget(self) -> None:
        """Drop what is not written: the transaction is rolled back."""
        self._rows.forget()
        self._queueing.forget()
        self.identities.forget()
        self._event_names.forget()
        self.weighing.tellings.forget()
        self.order_names.forget()

    def _again(self, row: ConversionRow, new: NewEvent, now: int) -> EventResult:
        """The same event again: nothing is sent twice, and nothing richer is lost; a refusal then or now stands."""
        self._clicks.flush()
        self.flush()
        old = _decode_event(row.body)
        merged = orders.tell(old, new.event)
        if merged == old:
            return EventResult(self._rows.state_of(row), duplicate=True)
        if new.by_page and new.told is not None:
            self.weighing.tellings.keep(row.id, new.told, store=row.store)
        if new.by_page or orders.rank_of(old) > Rank.PAGE:
            row = self._give_way(row, orders.replaced(old, merged))
            query = complete(query_of(self._names, row, merged), new.query)
        else:  # T1: a page's person and device give way
            self.identities.drop(row.id, row.store, row.visitor_k)
            self._rows.lost(row, kept=("dedup",))
            row, query = row._replace(**NOBODY), new.query
        query = structs.replace(query, flags=bits_of(row, new, old, merged))
        return self._changed(row, old, merged, query, new, now)

    def _give_way(self, row: ConversionRow, filled: Collection[str]) -> ConversionRow:
        """The row without these keys, which a page had filled and a server tells otherwise (T1)."""
        if not filled:
            return row
        gone = [KEY_OF[name] for name in filled]
        without: dict[str, Any] = {f"{key}_k": None for key in gone}
        self._rows.lost(row, kept=[key.name for key in CONVERSIONS.keys if key.name not in gone])
        return row._replace(**without)

    def _changed(
        self,
        row: ConversionRow,
        old: StoredEvent,
        merged: StoredEvent,
        query: Query,
        new: NewEvent,
        now: int,
    ) -> EventResult:
        """Store what an event has become: matched and queued anew, unless only what was told of it is more.

        `new`: the telling that has changed it.
        """
        event_id, store, more, first = row.id, new.store, new.identities, row
        if orders.is_only_noted(old, merged):
            self.update(row._replace(body=_encode(merged)))
            return EventResult(self._rows.state_of(row), duplicate=True)
        if merged.marketing == "denied":
            self.identities.drop(event_id, store.number, row.visitor_k)
            more, query = [], Query(ts=0, flags=query.flags)  # asks for nobody
        if (query.visitor_k is None and row.visitor_k is not None) or merged.marketing == "denied":
            self._rows.lost(row, kept=("dedup",))  # the same order must be known again
            row = row._replace(**NOBODY)
        carried = self.identities.keys_in(event_id)
        more = [key for key in dict.fromkeys(more) if key not in carried]
        keys = [*carried, *more]
        query = structs.replace(query, ts=merged.ts, consent=merged.marketing)
        people = self.identities.known(store.number, keys, query.visitor_k, new.former)
        witness = new.witness(query.visitor_k)
        meant = people.people(merged.ts, witness)
        found, enrichment, click = self.attribution.of(store, query, meant, merged, now)
        had = next((one.value for one in self.refunds.landed(now, event_id) if one.value is not None), None)
        if had is None and self.refunds.pixels(event_id):
            had = old.value
        if merged.sent_value is None and had is not None and had != merged.value:
            merged = structs.replace(merged, sent_value=had)
        self.refunds.note_sent(event_id, old, merged)
        queued = self._queueing.requeue(event_id, store, merged, enrichment, now)
        merged, given_back = self.refunds.due(event_id, store, merged, now)
        revision = row.revision + 1
        changed = row_of(event_id, store.number, row.dedup_k, query, merged, found, queued.state, revision)
        self.update(changed)
        self._rows.counted((first, old), changed, merged)
        gained = {n for n in CONVERSIONS.names(changed)[1:] if n is not None} - set(CONVERSIONS.names(row))
        if gained := gained | second_click(query, changed):
            self.identities.gain(event_id, gained, store=store.number)
            self.gained = True
        self.related = self.identities.link(people, merged.ts, witness) - {event_id}
        self.identities.carry(event_id, more, store=store.number)
        self._renew(event_id, store, merged)
        for one in given_back:
            self._tell_refund(changed, merged, one, store, query, enrichment, now)
        self._queueing.flush()
        queued = self._standing(event_id, queued)
        state = EventState(changed, merged, found, queued.state, queued.reason, click)
        return EventResult(state, duplicate=True, before=row)

    def _standing(self, event_id: int, queued: Gate) -> Gate:
        """How its deliveries stand, where it has any by now."""
        delivery = self._outbox.delivery_of(event_id)
        return Gate(delivery.state, delivery.reason) if delivery else queued

    def _tell_refund(
        self,
        order: ConversionRow,
        event: StoredEvent,
        one: GivenBack,
        store: Store,
        query: Query,
        enrichment: Enrichment,
        now: int,
    ) -> None:
        """A refund as an event of its own, for the pixels that have the Purchase; its answer is the order's."""
        name = store.config.shop.refund_event
        back = refunds.event_of(event, order.id, one, name, store.config.id, now)
        called = self._names.name(store.number, "once", f"{name}\0r{order.id}\0{one.id}")
        event_id, own = self._rows.next_id(), structs.replace(enrichment, event_source_url=None)
        self._event_names.tell(store.number, name, by_page=False)
        queued = self._queueing.queue(event_id, store, back, own, now, only=self.refunds.pixels(order.id))
        asked, found = structs.replace(query, ts=back.ts), renew(_decode_match(order.match), order.ts)
        self._append(row_of(event_id, store.number, called, asked, back, found, queued.state, 0))
        self.identities.carry(event_id, self.identities.keys_in(order.id), store=store.number)
        if order.dedup_k is not None:
            self.identities.renew(event_id, order.dedup_k, store=store.number)
            self.renewed = True

    def land(self, landed: Landed, store: Store, row: ConversionRow, now: int) -> None:
        """It is known what Meta has of an order that changed before: write it down, or send what it is by now."""
        event = _decode_event(row.body)
        if landed.value is not None and event.sent_value is None and landed.value != event.value:
            event = structs.replace(event, sent_value=landed.value)
        enrichment, _ = self.attribution.enrichment(_decode_match(row.match))
        self._queueing.requeue(row.id, store, event, enrichment, now)
        event, given_back = self.refunds.due(row.id, store, event, now)
        row = row._replace(body=_encode(event))
        self.update(row)
        for one in given_back:
            self._tell_refund(row, event, one, store, query_of(self._names, row, event), enrichment, now)

    def reconsider(self, row: ConversionRow, store: Store, now: int) -> ConversionRow | None:
        """Match a stored event anew with what is known by now; its new row if the answer changed, else None."""
        event = _decode_event(row.body)
        before = _decode_match(row.match)
        people = self.identities.known(store.number, self.identities.keys_in(row.id), None)
        found, enrichment, _ = self.attribution.of(
            store, query_of(self._names, row, event), people.people(event.ts), event, now
        )
        if before == structs.replace(found, label=before.label):
            return None
        same = same_answer(before, found)  # only its journey, its rivals or their weights are others
        changed = row._replace(
            click=found.click if found.attributed else None,
            confidence=found.confidence if found.attributed else None,
            method=found.method,
            revision=row.revision if same else row.revision + 1,
            match=_encode(found),
        )
        self.update(changed)
        self._rows.counted((row, event), changed, event)
        if not same:
            self._queueing.enrich(row.id, store, event, enrichment, now)
            if not row.flags & flags.UNCONFIRMED:  # what only a page says concerns nobody yet
                self._rows.revised(row.id, changed.revision, now)
        return changed

    def update(self, row: ConversionRow) -> None:
        """Store what a row has become."""
        self._rows.update(row)
