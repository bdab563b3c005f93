"""The verb of `collector erase` on PostgreSQL: a person's rows go, and leave keyed names by which late word is refused.

Keepers write meanwhile, and hold nobody up. So the names are written in the transaction that takes the rows, every
keeper learns them within a second, and then it is looked again: what had slipped in between goes too.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Final

from msgspec import structs

from collector.config import Config
from collector.core import times
from collector.core.capi.states import OPEN, CapiState
from collector.core.ids import PublicIds
from collector.core.keyed import KeyedHash
from collector.errors import StorageError
from collector.storage.postgres import peppers
from collector.storage.postgres.connecting import Connection
from collector.storage.postgres.people import Holding, PostgresLooking
from collector.storage.postgres.refusals import UNNAMED
from collector.storage.postgres.threaded import Threaded
from collector.storage.verbs.erasing import (
    Erasure,
    Receipt,
    blanked,
    fbclids_of,
    is_nobody,
    names_left,
    naming,
    public_ids,
    receipt_of,
    without_device,
)
from collector.storage.verbs.held import Item, item_of
from collector.storage.verbs.person import Asked, Finder, Nameless, Person
from collector.storage.verbs.unread import unread_of

_HEARD_S: Final = 3.0  # keepers ask each second who was erased
_STORES: Final = "SELECT id, name FROM store ORDER BY id"
_KEEPERS: Final = "SELECT count(*) FROM edge WHERE until > now_ms()"
_TYPES: Final = "SELECT name FROM event_name UNION SELECT 'Purchase'"
_DELIVERIES: Final = """
SELECT o.state, o.doubts > 0 OR EXISTS (
         SELECT 1 FROM request r WHERE r.outcome = 'in_flight' AND r.pixel = o.pixel AND o.id = ANY(r.ids)) AS maybe
  FROM outbox o WHERE o.store = $1 AND o.conversion = ANY($2::bigint[])"""
_LINKS: Final = """
SELECT kind, key, visitor_k FROM identity_link WHERE store = $1 AND (visitor_k = ANY($2::bigint[])
    OR (kind, key) IN (SELECT * FROM unnest($3::int[], $4::bigint[])))"""
_STILL_KNOWN: Final = """
SELECT kind, key FROM unnest($2::int[], $3::bigint[]) AS asked (kind, key)
 WHERE EXISTS (SELECT 1 FROM conversion_identity c WHERE c.store = $1 AND c.kind = asked.kind AND c.key = asked.key)
    OR EXISTS (SELECT 1 FROM identity_link l WHERE l.store = $1 AND l.kind = asked.kind AND l.key = asked.key)"""
_CARRIED: Final = """
SELECT DISTINCT kind, key FROM conversion_identity WHERE store = $1 AND conversion = ANY($2::bigint[]) AND kind > 0"""
_PASSED_ON: Final = "SELECT DISTINCT fbclid_k FROM sighting WHERE store = $1 AND fbclid_k = ANY($2::bigint[])"
_CALLED: Final = "SELECT name FROM order_name WHERE store = $1 AND conversion = ANY($2::bigint[]) AND number = 0"
_OUTBOX: Final = "SELECT id FROM outbox WHERE store = $1 AND conversion = ANY($2::bigint[]) ORDER BY id FOR UPDATE"
_LOCK: Final = "SELECT id FROM conversion WHERE store = $1 AND id = ANY($2::bigint[]) ORDER BY id FOR UPDATE"
_UNLINK: Final = """
DELETE FROM identity_link WHERE store = $1 AND (kind, key, visitor_k) IN (
    SELECT * FROM unnest($2::int[], $3::bigint[], $4::bigint[]))"""
_OF_OUTBOX: Final = (
    "DELETE FROM outbox_payload WHERE id = ANY($1::bigint[])",
    "DELETE FROM attempt WHERE outbox = ANY($1::bigint[])",
    "DELETE FROM outbox WHERE id = ANY($1::bigint[])",
)
_UNLOOKED: Final = "DELETE FROM unlooked WHERE store = $1 AND number = ANY($2::bigint[])"
_OF_ORDER: Final = (
    _UNLOOKED,
    *(
        f"DELETE FROM {table} WHERE store = $1 AND conversion = ANY($2::bigint[])"
        for table in (
            "conversion_identity",
            "notice",
            "order_name",
            "shop_delivery",
            "shop_order",
            "shop_note",
            "sent_before",
            "unproven",
            "unweighed",
            "reopened",
        )
    ),
)
_FOR_REQUEST: Final = "UPDATE shop_request SET found = coalesce(found, 0) + $2 WHERE id = $1 AND done IS NULL"
_ORDERS: Final = "DELETE FROM conversion WHERE store = $1 AND id = ANY($2::bigint[])"
_OF_CLICK: Final = (
    _UNLOOKED,
    "DELETE FROM sighting WHERE store = $1 AND id = ANY($2::bigint[])",
    "DELETE FROM click_network WHERE store = $1 AND id = ANY($2::bigint[])",
    "DELETE FROM click WHERE store = $1 AND id = ANY($2::bigint[])",
)
_OTHERS: Final = "SELECT id, body FROM conversion WHERE store = $1 AND id = ANY($2::bigint[]) ORDER BY id FOR UPDATE"
_STRIPPED: Final = """
UPDATE conversion SET visitor_k = NULL, fbp_k = NULL, fp_k = NULL, fbclid_k = NULL, body = $3
 WHERE store = $1 AND id = $2"""
_UNGAINED: Final = "DELETE FROM conversion_identity WHERE store = $1 AND conversion = $2 AND kind = 0"
_REMEMBER: Final = "INSERT INTO erased (store, name, at) SELECT $1, unnest($2::bigint[]), $3"
_UNREAD: Final = "SELECT id, platform, topic, body FROM shop_inbox WHERE store = $1"
_READ: Final = "DELETE FROM shop_inbox WHERE id = ANY($1::bigint[])"
_UNCALLED: Final = "UPDATE refusal SET called = '' WHERE called <> ''"  # whose a refused order was, nobody can tell
_ANSWERS: Final = "SELECT key_k, answer FROM idempotency WHERE key_k >= $1 ORDER BY key_k LIMIT $2"
_AT_ONCE: Final = 20_000  # answers
_ANSWER: Final = "SELECT status, answer FROM idempotency WHERE key_k = $1 FOR UPDATE"
_BLANK: Final = "UPDATE idempotency SET status = $2, answer = $3 WHERE key_k = $1"


def held_of(config: Config, store: str | None, asked: Asked, now: int) -> Item:
    """Every row of a person, of one store or of all, with what Meta was sent and when; nothing is changed.

    StorageError when there is no such store, Nameless when nothing can be found by what was given.
    """
    with Threaded(config.storage, "collector export-person") as threaded:
        return {"at": times.text(now), "stores": _Eraser(threaded, config).held(store, asked)}


def erase_person(config: Config, store: str | None, asked: Asked, now: int, *, dry_run: bool) -> Erasure:
    """Erase a person from a store, or from all; beside running keepers.

    StorageError when there is no such store, Nameless when nothing can be found by what was given.
    """
    with Threaded(config.storage, "collector erase", changes=not dry_run) as threaded:
        return _Eraser(threaded, config).erase(store, asked, now, dry_run=dry_run)


class _Eraser:
    def __init__(self, threaded: Threaded, config: Config) -> None:
        self._config = config
        self._ask = threaded.ask
        self._names = names = KeyedHash(threaded.ask(lambda c: peppers.load(c, config)))
        self._public = PublicIds(names.subkey("public ids"))
        self._looking = PostgresLooking(threaded)
        self._finder = Finder(self._looking, names)

    def erase(self, store: str | None, asked: Asked, now: int, *, dry_run: bool) -> Erasure:
        stores = self._nameable(store, asked)
        receipts = self._look(stores, asked, now, takes=not dry_run)
        if not dry_run and self._ask(lambda c: c.fetchval(_KEEPERS)):
            time.sleep(_HEARD_S)
            late = self._look(stores, asked, now, takes=True, late=True)
            receipts = [_sum(one, other) for one, other in zip(receipts, late, strict=True)]
        return Erasure(now, receipts, cleared=True)

    def held(self, store: str | None, asked: Asked) -> list[Item]:
        people = self._people(self._nameable(store, asked), asked)
        return [
            item_of(name, person, self._public, Holding(self._ask, person.store, self._links(person)))
            for name, person in people
        ]

    def _nameable(self, store: str | None, asked: Asked) -> dict[str, tuple[int, str]]:
        stores = self._stores(store)
        if asked.by_value and not any(self._finder.values(*one, asked) for one in stores.values()):
            raise Nameless("nothing is ever named by this value, so nothing is found by it; try --order or --visitor")
        return stores

    def _people(self, stores: Mapping[str, tuple[int, str]], asked: Asked) -> Iterator[tuple[str, Person]]:
        types = [row["name"] for row in self._ask(lambda c: c.fetch(_TYPES))] if asked.order else []
        for name, store in stores.items():
            person = self._finder.find(*store, asked, types)
            person.unread = self._unread(name, *store, asked, person)
            yield name, person

    def _unread(self, name: str, store: int, country: str, asked: Asked, person: Person) -> list[int]:
        orders = {row.dedup_k for row in person.conversions.values() if row.dedup_k is not None}
        if asked.order is not None:
            orders.add(self._names.name(store, "once", f"Purchase\0o{asked.order}"))
        rows = self._ask(lambda c: c.fetch(_UNREAD, name))
        return unread_of(
            map(tuple, rows), self._names, (name, store, country), person.own_values - person.shared, orders
        )

    def _stores(self, wanted: str | None) -> dict[str, tuple[int, str]]:
        rows = self._ask(lambda c: c.fetch(_STORES))
        countries = {one.id: one.country for one in self._config.store}
        known = {
            row["name"]: (row["id"], countries.get(row["name"], "")) for row in rows if wanted in (None, row["name"])
        }
        if not known:
            raise StorageError("there is no such store in the database" if wanted else "the database has no store yet")
        return known

    def _look(
        self, stores: Mapping[str, tuple[int, str]], asked: Asked, now: int, *, takes: bool, late: bool = False
    ) -> list[Receipt]:
        """`late`: what was found before is gone, and its names are known."""
        if takes:
            self._ask(lambda c: c.execute(UNNAMED))
        return [
            self._one(name, person, asked.request, now, takes=takes and not (late and is_nobody(person)))
            for name, person in self._people(stores, asked)
        ]

    def _one(self, name: str, person: Person, request: str | None, now: int, *, takes: bool) -> Receipt:
        self._count(person)
        named = self._named(person)
        if takes:
            links = self._links(person)
            self._ask(lambda c: _take(c, person, links, request, now))
            named |= self._named(person)  # given meanwhile
            self._ask(lambda c: _blank(c, named))
        return receipt_of(name, person, len(named))

    def _count(self, person: Person) -> None:
        """What Meta has of it, and how many links there are, before the rows go."""
        rows = self._ask(lambda c: c.fetch(_DELIVERIES, person.store, list(person.conversions)))
        sent = [row["state"] == CapiState.SENT or row["maybe"] for row in rows]
        person.sent = sum(sent)
        person.not_sent = sum(row["state"] in OPEN and not gone for row, gone in zip(rows, sent, strict=True))
        person.links = len(self._links(person))

    def _links(self, person: Person) -> list[tuple[int, int, int]]:
        kinds, keys = [kind for kind, _ in person.own_values], [key for _, key in person.own_values]
        rows = self._ask(lambda c: c.fetch(_LINKS, person.store, list(person.visitors), kinds, keys))
        return [tuple(row) for row in rows]

    def _named(self, person: Person) -> dict[int, set[bytes]]:
        wanted = public_ids(self._public, person)
        return naming(self._answers(), wanted) if wanted else {}

    def _answers(self) -> Iterator[tuple[int, bytes]]:
        """All of a day: some at a time, or they would be more than one transaction's time lets through."""
        first = -(1 << 63)
        while rows := self._ask(partial(_answers_from, first)):
            yield from rows
            first = rows[-1][0] + 1


async def _take(
    c: Connection, person: Person, links: list[tuple[int, int, int]], request: str | None, now: int
) -> None:
    """In one transaction the rows go and the names stay; locked first, orders before what is sent of them."""
    store, orders, clicks = person.store, list(person.conversions), list(person.clicks)
    await c.fetch(_LOCK, store, orders)
    outbox = [row["id"] for row in await c.fetch(_OUTBOX, store, orders)]
    carried = await c.fetch(_CARRIED, store, orders)
    called = [row["name"] for row in await c.fetch(_CALLED, store, orders)]
    await c.execute(_READ, person.unread)
    await c.execute(_UNCALLED)
    await c.execute(_UNLINK, store, *([link[n] for link in links] for n in range(3)))
    for sql in _OF_OUTBOX:
        await c.execute(sql, outbox)
    for sql in _OF_ORDER:
        await c.execute(sql, store, orders)
    gone = await c.execute(_ORDERS, store, orders)
    await c.execute(_FOR_REQUEST, request, int(gone.rpartition(" ")[2]))
    for sql in _OF_CLICK:
        await c.execute(sql, store, clicks)
    for row in await c.fetch(_OTHERS, store, list(person.others)):
        await c.execute(_STRIPPED, store, row["id"], without_device(row["body"]))
        await c.execute(_UNGAINED, store, row["id"])
    values = {tuple(row) for row in carried}
    known = await c.fetch(_STILL_KNOWN, store, [kind for kind, _ in values], [key for _, key in values])
    passed_on = [row["fbclid_k"] for row in await c.fetch(_PASSED_ON, store, list(fbclids_of(person)))]
    names = names_left(person, values - {tuple(row) for row in known}, called, passed_on)
    await c.execute(_REMEMBER, store, names, now)


async def _answers_from(first: int, c: Connection) -> list[tuple[int, bytes]]:
    return [tuple(row) for row in await c.fetch(_ANSWERS, first, _AT_ONCE)]


async def _blank(c: Connection, answers: Mapping[int, set[bytes]]) -> None:
    """Put a refusal in the place of each; a replay without an answer would be taken for a new request."""
    for key, named in answers.items():
        if (row := await c.fetchrow(_ANSWER, key)) is not None:
            await c.execute(_BLANK, key, *blanked(row["status"], row["answer"], named))


def _sum(one: Receipt, other: Receipt) -> Receipt:
    """What went at first, and what had slipped in."""
    counts = {
        name: getattr(one, name) + getattr(other, name)
        for name in ("clicks", "conversions", "links", "answers", "sent", "not_sent", "unread")
    }
    return structs.replace(one, **counts)
