"""The verb of `collector erase`: a person's rows go, everywhere, and leave keyed names by which late word is refused.

Who is meant, person.py tells. Everything is found and deleted inside one transaction that holds up the keeper, so
nothing slips in between. The newest row of a table stays as an empty shell of no store (0), because the next one's
number is one more than its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final, cast

import apsw
import msgspec

from collector.config import Config
from collector.core.capi.states import OPEN, CapiState
from collector.core.events import StoredClick, StoredEvent
from collector.core.flags import WITHDRAWN
from collector.core.ids import PublicIds
from collector.core.keyed import KeyedHash
from collector.core.matching import Match
from collector.errors import StorageError
from collector.exchange.rows import ConversionRow
from collector.storage.ground import damage, gaps
from collector.storage.ground.database import DATABASE, immediate, load_pepper, open_existing
from collector.storage.index import index, leaving
from collector.storage.people.looking import SqliteLooking
from collector.storage.rules.tables import CLICKS, CONVERSIONS
from collector.storage.verbs.erasing import (
    Erasure,
    Receipt,
    blanked,
    fbclids_of,
    names_left,
    naming,
    public_ids,
    receipt_of,
    without_device,
)
from collector.storage.verbs.person import Asked, Finder, Nameless, Person, Value
from collector.storage.verbs.unread import unread_of

_encode = msgspec.msgpack.Encoder().encode
_PATIENCE_MS: Final = 30_000
_UNREAD: Final = "SELECT id, platform, topic, body FROM shop_inbox WHERE store = ?"
_FOR_REQUEST: Final = "UPDATE shop_request SET found = coalesce(found, 0) + ? WHERE id = ? AND done IS NULL"
_STATES: Final = "SELECT id, state, doubts FROM outbox WHERE conversion = ?"
_IN_FLIGHT: Final = "SELECT ids FROM request WHERE outcome = 'in_flight'"
_LINKS_OF_VALUE: Final = (
    "SELECT store, kind, key, visitor_k FROM identity_link WHERE store = ? AND kind = ? AND key = ?"
)
_LINKS_OF_VISITOR: Final = "SELECT store, kind, key, visitor_k FROM identity_link WHERE store = ? AND visitor_k = ?"
_STILL_KNOWN: Final = """
SELECT EXISTS (SELECT 1 FROM conversion_identity WHERE key = :key AND kind = :kind)
    OR EXISTS (SELECT 1 FROM identity_link WHERE store = :store AND kind = :kind AND key = :key)"""
_STRIPPED: Final = (
    "UPDATE conversion SET visitor_k = NULL, fbp_k = NULL, fp_k = NULL, fbclid_k = NULL, body = ? WHERE id = ?"
)
_OTHER_NAMES: Final = "SELECT name FROM order_name WHERE conversion = ? AND number = 0"


def erase_person(config: Config, store: str | None, asked: Asked, now: int, *, dry_run: bool) -> Erasure:
    """Erase a person from a store, or from all; beside a running collector.

    StorageError when there is no database or no such store, Nameless when nothing can be found by what was given.
    """
    try:
        return _erase(config, store, asked, now, dry_run=dry_run)
    except (apsw.CorruptError, apsw.NotADBError) as error:
        raise damage.of_file(DATABASE, str(error)) from error
    except apsw.Error as error:
        raise StorageError(
            f"the database refused a part of it: {error}; run it again, which does what is left"
        ) from error


def _erase(config: Config, store: str | None, asked: Asked, now: int, *, dry_run: bool) -> Erasure:
    with opened(config) as (db, eraser):
        receipts = eraser.erase(stores_of(db, config, store), asked, now, dry_run=dry_run)
        return Erasure(now, receipts, dry_run or eraser.cleared())


@contextmanager
def opened(config: Config) -> Iterator[tuple[apsw.Connection, Eraser]]:
    """The database, and who finds people in it and erases them."""
    data_dir = Path(config.storage.data_dir)
    with closing(open_existing(config.storage)) as db:
        db.set_busy_timeout(_PATIENCE_MS)  # a busy keeper leaves short gaps
        names = KeyedHash(load_pepper(db, data_dir, config.privacy.pepper_file))
        with closing(index.open_index(data_dir, config.storage, mend=False)) as folded:
            reader = index.IndexReader(data_dir, config.storage)
            try:
                yield db, Eraser(db, folded, reader, names)
            finally:
                reader.close()


def stores_of(db: apsw.Connection, config: Config, wanted: str | None) -> dict[str, tuple[int, str]]:
    """Number and country of each store that has rows, configured or not any more."""
    rows = cast("Iterable[tuple[int, str]]", db.execute("SELECT id, name FROM store ORDER BY id"))
    known = {name: (number, _country(config, name)) for number, name in rows if wanted in (None, name)}
    if not known:
        raise StorageError("there is no such store in the database" if wanted else "the database has no store yet")
    return known


def _country(config: Config, store: str) -> str:
    known = config.store_by_id(store)
    return known.country if known else ""


class Eraser:
    """Over the open main database and a folder's connection to its index."""

    def __init__(self, db: apsw.Connection, folded: apsw.Connection, reader: index.IndexReader, names: KeyedHash):
        self._db = db
        self._folded = folded
        self._reader = reader
        self._names = names
        self._looking = SqliteLooking(db, reader)
        self._finder = Finder(self._looking, names)
        self.public = PublicIds(names.subkey("public ids"))

    def erase(self, stores: dict[str, tuple[int, str]], asked: Asked, now: int, *, dry_run: bool) -> list[Receipt]:
        """Erase the person from each store (id: number and country), or only say what would go; a receipt of each.

        Raises Nameless where no row can be named by what was given.
        """
        people = self.look(stores, asked)  # folds most of it before the keeper is held up
        answers = self._answers(people.values())  # they are many: not while the keeper is held up
        if not dry_run:
            people = self._take(stores, asked, answers, now)
            late = self._answers(people.values())  # given meanwhile
            with immediate(self._db):
                self._blank(late)
            answers |= late
        return [self._receipt(name, person, answers) for name, person in people.items()]

    def look(self, stores: dict[str, tuple[int, str]], asked: Asked) -> dict[str, Person]:
        """The person in each store (id: number and country). Raises Nameless where no row can be named by it."""
        if asked.by_value and not any(self._finder.values(*store, asked) for store in stores.values()):
            raise Nameless("nothing is ever named by this value, so nothing is found by it; try --order or --visitor")
        self._fold()
        self._db.execute("BEGIN")
        try:
            return self._find(stores, asked)
        finally:
            self._db.execute("ROLLBACK")

    def cleared(self) -> bool:
        """Whether neither a page's gap nor a write-ahead log holds anything of before any more."""
        main, folded = Path(self._db.filename), Path(self._folded.filename)
        return gaps.overwrite(self._db, main) and gaps.overwrite(self._folded, folded)

    def _take(
        self, stores: dict[str, tuple[int, str]], asked: Asked, answers: dict[int, set[bytes]], now: int
    ) -> dict[str, Person]:
        with immediate(self._db):
            self._fold()
            people = self._find(stores, asked)
            for name, person in people.items():
                self._delete(stores[name][0], person, now)
            gone = sum(len(person.conversions) for person in people.values())
            self._db.execute(_FOR_REQUEST, (gone, asked.request))
            self._blank(answers)
        leaving.work_off(self._db, self._folded)
        return people

    def _find(self, stores: dict[str, tuple[int, str]], asked: Asked) -> dict[str, Person]:
        types = (
            [row[0] for row in self._db.execute("SELECT DISTINCT event_type FROM conversion")] if asked.order else []
        )
        people = {name: self._finder.find(*store, asked, types) for name, store in stores.items()}
        for name, person in people.items():
            person.unread = self._unread(name, *stores[name], asked, person)
        flying = self._in_flight()
        for person in people.values():  # before their rows go
            person.links = len(self.links(person))
            for row in person.conversions:
                for number, state, doubts in self._outbox(row):
                    sent = state == CapiState.SENT or doubts > 0 or number in flying
                    person.sent += sent
                    person.not_sent += state in OPEN and not sent
        return people

    def _fold(self) -> None:
        for table in (CLICKS, CONVERSIONS):
            while index.watermark(self._folded, table) != index.fold(self._folded, table, index.MOST_UNFOLDED):
                pass
            self._reader.refresh(table)

    def _receipt(self, store: str, person: Person, answers: dict[int, set[bytes]]) -> Receipt:
        own = public_ids(self.public, person)
        return receipt_of(store, person, sum(not own.isdisjoint(named) for named in answers.values()))

    # -- what goes

    def _outbox(self, conversion: int) -> list[tuple[int, int, int]]:
        return cast("list[tuple[int, int, int]]", self._db.execute(_STATES, (conversion,)).fetchall())

    def _in_flight(self) -> set[int]:
        """Events that the courier holds in a request at this moment: Meta may get them whatever we delete."""
        rows = cast("Iterable[tuple[bytes | None]]", self._db.execute(_IN_FLIGHT))
        return {number for (ids,) in rows if ids for number in msgspec.msgpack.decode(ids, type=list[int])}

    def _unread(self, name: str, store: int, country: str, asked: Asked, person: Person) -> list[int]:
        orders = {row.dedup_k for row in person.conversions.values() if row.dedup_k is not None}
        if asked.order is not None:
            orders.add(self._names.name(store, "once", f"Purchase\0o{asked.order}"))
        rows: Any = self._db.execute(_UNREAD, (name,)).fetchall()
        return unread_of(rows, self._names, (name, store, country), person.own_values - person.shared, orders)

    def links(self, person: Person) -> set[tuple[int, int, int, int]]:
        """Links of the person's devices, and of the values that are the person's own."""
        found: set[Any] = set()
        for kind, key in person.own_values:
            found |= set(self._db.execute(_LINKS_OF_VALUE, (person.store, kind, key)))
        for visitor in person.visitors:
            found |= set(self._db.execute(_LINKS_OF_VISITOR, (person.store, visitor)))
        return found

    def _delete(self, store: int, person: Person, now: int) -> None:
        many = self._db.executemany
        carried = {value for row in person.conversions for value in self._looking.carried(store, row)}
        self._db.execute("UPDATE refusal SET called = ''")  # whose a refused order was, nobody can tell
        many("DELETE FROM shop_inbox WHERE id = ?", [(row,) for row in person.unread])
        many("DELETE FROM identity_link WHERE store = ? AND kind = ? AND key = ? AND visitor_k = ?", self.links(person))
        ids = [(i,) for i in person.conversions]
        outbox = [(number,) for (conversion,) in ids for number, *_ in self._outbox(conversion)]
        for table, key in (("outbox_payload", "id"), ("attempt", "outbox")):
            many(f"DELETE FROM {table} WHERE {key} = ?", outbox)
        for table in ("conversion_identity", "notice", "order_name", "shop_delivery", "shop_order", "shop_note"):
            many(f"DELETE FROM {table} WHERE conversion = ?", ids)
        waiting = [(row.store, row.ts, row.id) for row in person.conversions.values()]
        many("DELETE FROM unproven WHERE store = ? AND ts = ? AND conversion = ?", waiting)
        many("DELETE FROM outbox WHERE id = ?", self._but_the_newest("outbox", outbox, now))
        many("DELETE FROM conversion WHERE id = ?", self._but_the_newest("conversion", ids, now))
        clicks = [(i,) for i in person.clicks]
        many("DELETE FROM click_network WHERE id = ?", clicks)
        many("DELETE FROM click WHERE id = ?", self._but_the_newest("click", clicks, now))
        for click in person.clicks.values():
            leaving.note(self._db, CLICKS, click)
        for row in person.conversions.values():
            leaving.note(self._db, CONVERSIONS, row)
        for row in person.others.values():
            self._strip(row)
        self._remember(store, person, carried, now)

    def _but_the_newest(self, table: str, ids: list[tuple[int]], now: int) -> list[tuple[int]]:
        """`ids` without that of the table's newest row, which becomes an empty shell."""
        newest = (self._db.execute(f"SELECT max(id) FROM {table}").get,)
        if newest in ids:
            self._db.execute(*_shell(table, newest[0], now))
        return [i for i in ids if i != newest]

    def _strip(self, row: ConversionRow) -> None:
        """Take the person's device out of somebody else's order."""
        self._db.execute(_STRIPPED, (without_device(row.body), row.id))
        self._db.execute("DELETE FROM conversion_identity WHERE conversion = ? AND kind = 0", (row.id,))
        leaving.note(self._db, CONVERSIONS, row, kept=("dedup", "ip"))

    def _remember(self, store: int, person: Person, carried: set[Value], now: int) -> None:
        """Leave the names by which late word of the person is known: those that are nobody else's."""
        mine = [value for value in carried if not self._is_still_known(store, *value)]
        called = [found[0] for row in person.conversions for found in self._db.execute(_OTHER_NAMES, (row,))]
        passed_on = [name for name in fbclids_of(person) if self._looking.clicks_under(store, "fbclid", name)]
        rows = [(store, name, now) for name in names_left(person, mine, cast("list[int]", called), passed_on)]
        self._db.executemany("INSERT INTO erased (store, name, at) VALUES (?, ?, ?)", rows)

    def _is_still_known(self, store: int, kind: int, key: int) -> bool:
        """Whether a value of the erased orders is somebody else's too: an order or a visitor still has it."""
        return bool(self._db.execute(_STILL_KNOWN, {"store": store, "kind": kind, "key": key}).get)

    # -- answers that are remembered for an Idempotency-Key, for a day

    def _answers(self, people: Iterable[Person]) -> dict[int, set[bytes]]:
        """Answers that name the people's clicks or orders, by their key: which of these each names."""
        wanted = set().union(*(public_ids(self.public, person) for person in people))
        if not wanted:
            return {}
        rows = cast("Iterable[tuple[int, bytes]]", self._db.execute("SELECT key_k, answer FROM idempotency"))
        return naming(rows, wanted)

    def _blank(self, answers: dict[int, set[bytes]]) -> None:
        """Put a refusal in the place of each; a replay without an answer would be taken for a new request."""
        for key, named in answers.items():
            row = self._db.execute("SELECT status, answer FROM idempotency WHERE key_k = ?", (key,)).fetchone()
            if row is not None:
                blank = blanked(cast(int, row[0]), cast(bytes, row[1]), named)
                self._db.execute("UPDATE idempotency SET status = ?, answer = ? WHERE key_k = ?", (*blank, key))


_NAMELESS: Final = (
    "fbclid_k = NULL, visitor_k = NULL, fbp_k = NULL, ip_k = NULL, ua_k = NULL, fp_k = NULL, ua_class = 0"
)
_EMPTY_CLICK: Final = f"UPDATE click SET store = 0, {_NAMELESS}, flags = ?, body = ? WHERE id = ?"
_EMPTY_CONVERSION: Final = f"""
UPDATE conversion SET store = 0, {_NAMELESS}, dedup_k = NULL, click = NULL, confidence = NULL, method = NULL,
       event_type = 'erased', flags = ?, capi = ?, body = ?, match = ? WHERE id = ?"""
_EMPTY_OUTBOX: Final = """
UPDATE outbox SET conversion = 0, state = ?, settled = coalesce(settled, ?), reason = 'erased' WHERE id = ?"""


def _shell(table: str, number: int, now: int) -> tuple[str, tuple[Any, ...]]:
    """The statement that leaves of a row its number and nothing of a person."""
    if table == "outbox":
        return _EMPTY_OUTBOX, (int(CapiState.SKIPPED), now, number)
    if table == "click":
        body = _encode(StoredClick(fbclid="", landing_page="", marketing="denied"))
        return _EMPTY_CLICK, (WITHDRAWN, body, number)
    event = _encode(StoredEvent(event_type="erased", event_id="", ts=now, received=now, marketing="denied"))
    match = _encode(Match(attributed=False, model="", reason="consent"))
    return _EMPTY_CONVERSION, (WITHDRAWN, int(CapiState.SKIPPED), event, match, number)
