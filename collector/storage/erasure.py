"""The verb of `collector erase`: a person's rows go, everywhere, and leave keyed names by which late word is refused.

Who is meant, person.py tells. Everything is found and deleted inside one transaction that holds up the edge, so nothing
slips in between. The newest row of a table stays as an empty shell of no store (0), because the next one's number is
one more than its own.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any, Final, cast

import apsw
import msgspec
from msgspec import Struct

from collector.config import Config
from collector.core.capi.states import OPEN, CapiState
from collector.core.events import StoredClick, StoredEvent
from collector.core.flags import WITHDRAWN
from collector.core.ids import PublicIds
from collector.core.keyed import KeyedHash
from collector.core.matching import Match
from collector.errors import StorageError
from collector.storage import index
from collector.storage.database import immediate, load_pepper, open_existing
from collector.storage.person import Asked, Finder, Person
from collector.storage.subjects import CLICKS, CONVERSIONS, ClickRow, ConversionRow, Subject

_encode = msgspec.msgpack.Encoder().encode
_CHECKPOINTS: Final = 10  # tries, of half a second and more each
_PUBLIC_ID: Final = re.compile(rb"(?:click|conv)_[0-9a-f]{32}")
_STATES: Final = "SELECT id, state FROM outbox WHERE conversion = ?"


class Receipt(Struct, frozen=True, rename="camel"):
    """What was, or would be, erased in one store. No personal data is in it."""

    store: str
    clicks: int = 0
    conversions: int = 0
    visitors: int = 0
    links: int = 0  # of a value with a visitor
    answers: int = 0  # remembered for an Idempotency-Key
    sent: int = 0  # events that Meta has: it alone can erase those
    not_sent: int = 0  # events that were still to be sent
    shared: int = 0  # values with too many visitors to be one person's: their visitors were not followed


class Erasure(Struct, frozen=True, rename="camel"):
    """`cleared`: the write-ahead logs hold no page of before either; else they do until their next checkpoints."""

    at: int
    receipts: list[Receipt]
    cleared: bool


def erase_person(config: Config, store: str | None, asked: Asked, now: int, *, dry_run: bool) -> Erasure:
    """Erase a person from a store, or from all; beside a running collector.

    StorageError when there is no database or no such store, Nameless when nothing can be found by what was given.
    """
    data_dir = Path(config.storage.data_dir)
    with closing(open_existing(config.storage)) as db:
        names = KeyedHash(load_pepper(db, data_dir, config.privacy.pepper_file))
        with closing(index.open_index(data_dir, config.storage)) as folded:
            reader = index.IndexReader(data_dir, config.storage)
            try:
                stores = _stores(db, config, store)
                receipts = Eraser(db, folded, reader, names).erase(stores, asked, now, dry_run=dry_run)
            finally:
                reader.close()
            cleared = dry_run or (_checkpointed(db) and _checkpointed(folded))
    return Erasure(now, receipts, cleared)


def _stores(db: apsw.Connection, config: Config, wanted: str | None) -> dict[str, tuple[int, str]]:
    """Number and country of each store that has rows, configured or not any more."""
    rows = cast("Iterable[tuple[int, str]]", db.execute("SELECT id, name FROM store ORDER BY id"))
    known = {name: (number, _country(config, name)) for number, name in rows if wanted in (None, name)}
    if not known:
        raise StorageError("there is no such store in the database" if wanted else "the database has no store yet")
    return known


def _country(config: Config, store: str) -> str:
    known = config.store_by_id(store)
    return known.country if known else ""


def _checkpointed(db: apsw.Connection) -> bool:
    """Whether the log could be emptied, which waits for whoever still reads a page of before."""
    db.set_busy_timeout(500)
    for _ in range(_CHECKPOINTS):
        try:
            db.wal_checkpoint("main", apsw.SQLITE_CHECKPOINT_TRUNCATE)
            return True
        except apsw.BusyError:
            time.sleep(0.25)
    return False


class Eraser:
    """Over the open main database and the folder's connection to its index. `stores`: number and country by id."""

    def __init__(self, db: apsw.Connection, folded: apsw.Connection, reader: index.IndexReader, names: KeyedHash):
        self._db = db
        self._folded = folded
        self._reader = reader
        self._find = Finder(db, reader, names)
        self._public = PublicIds(names.subkey("public ids"))

    def erase(self, stores: dict[str, tuple[int, str]], asked: Asked, now: int, *, dry_run: bool) -> list[Receipt]:
        """Erase the person from each store (id: number and country), or only say what would go; a receipt of each."""
        types = [row[0] for row in self._db.execute("SELECT DISTINCT event_type FROM conversion")]
        self._fold()  # most of it before the edge is held up
        receipts = []
        gone: list[tuple[Subject, ClickRow | ConversionRow]] = []
        with immediate(self._db):
            self._fold()
            for store, (number, country) in stores.items():
                person = self._find.find(number, country, asked, types)
                receipts.append(self._receipt(store, number, person))
                if not dry_run:
                    self._delete(number, person, now)
                    gone += [(CLICKS, row) for row in person.clicks.values()]
                    gone += [(CONVERSIONS, row) for row in person.conversions.values()]
        # After the commit: a fold that began before it is over by now, and a later one reads what is left.
        index.forget(self._folded, gone)
        return receipts

    def _fold(self) -> None:
        for subject in (CLICKS, CONVERSIONS):
            while index.watermark(self._folded, subject) != index.fold(self._folded, subject, index.MOST_UNFOLDED):
                pass
            self._reader.refresh(subject)

    # -- what goes

    def _receipt(self, store: str, number: int, person: Person) -> Receipt:
        states = [state for row in person.conversions for _, state in self._outbox(row)]
        return Receipt(
            store=store,
            clicks=len(person.clicks),
            conversions=len(person.conversions),
            visitors=len(person.visitors),
            links=len(self._links(number, person)),
            answers=len(self._answers(person)),
            sent=states.count(CapiState.SENT),
            not_sent=sum(state in OPEN for state in states),
            shared=person.shared,
        )

    def _outbox(self, conversion: int) -> list[tuple[int, int]]:
        return cast("list[tuple[int, int]]", self._db.execute(_STATES, (conversion,)).fetchall())

    def _links(self, store: int, person: Person) -> set[tuple[int, int, int]]:
        """(kind, key, visitor) of the person's values and visitors."""
        found: set[Any] = set()
        for kind, key in person.keys:
            sql = "SELECT kind, key, visitor_k FROM identity_link WHERE store = ? AND kind = ? AND key = ?"
            found |= set(self._db.execute(sql, (store, kind, key)))
        for visitor in person.visitors:
            sql = "SELECT kind, key, visitor_k FROM identity_link WHERE store = ? AND visitor_k = ?"
            found |= set(self._db.execute(sql, (store, visitor)))
        return found

    def _answers(self, person: Person) -> list[int]:
        """Answers that are remembered for their Idempotency-Key and name one of the person's clicks or orders."""
        public = {self._public.public("click", i).encode() for i in person.clicks}
        public |= {self._public.public("conv", i).encode() for i in person.conversions}
        rows = cast("Iterable[tuple[int, bytes]]", self._db.execute("SELECT key_k, answer FROM idempotency"))
        return [key for key, answer in rows if public and not public.isdisjoint(_PUBLIC_ID.findall(answer))]

    def _delete(self, store: int, person: Person, now: int) -> None:
        many = self._db.executemany
        self._remember(store, person, now)
        links = [(store, *link) for link in self._links(store, person)]
        many("DELETE FROM identity_link WHERE store = ? AND kind = ? AND key = ? AND visitor_k = ?", links)
        many("DELETE FROM idempotency WHERE key_k = ?", [(key,) for key in self._answers(person)])
        ids = [(i,) for i in person.conversions]
        outbox = [(number,) for (conversion,) in ids for number, _ in self._outbox(conversion)]
        for table, key in (("outbox_payload", "id"), ("attempt", "outbox")):
            many(f"DELETE FROM {table} WHERE {key} = ?", outbox)
        for table in ("conversion_identity", "notice"):
            many(f"DELETE FROM {table} WHERE conversion = ?", ids)
        many("DELETE FROM unproven WHERE store = ? AND ts = ? AND conversion = ?", _unproven(person))
        many("DELETE FROM outbox WHERE id = ?", self._but_the_newest("outbox", outbox, now))
        many("DELETE FROM conversion WHERE id = ?", self._but_the_newest("conversion", ids, now))
        clicks = [(i,) for i in person.clicks]
        many("DELETE FROM click_network WHERE id = ?", clicks)
        many("DELETE FROM click WHERE id = ?", self._but_the_newest("click", clicks, now))

    def _but_the_newest(self, table: str, ids: list[tuple[int]], now: int) -> list[tuple[int]]:
        """`ids` without that of the table's newest row, which becomes an empty shell."""
        newest = (self._db.execute(f"SELECT max(id) FROM {table}").get,)
        if newest in ids:
            self._db.execute(*_shell(table, newest[0], now))
        return [i for i in ids if i != newest]

    def _remember(self, store: int, person: Person, now: int) -> None:
        """Leave the names by which late word of the person is known."""
        names = {key for _, key in person.keys} | person.visitors
        fbclids: set[int | None] = set()
        for row in person.conversions.values():
            names |= {key for _, key in self._find.carried(row.id)}
            names |= {name for name in (row.dedup_k, row.fbp_k) if name is not None}
            fbclids.add(row.fbclid_k)
        for click in person.clicks.values():
            names |= {name for name in (click.visitor_k, click.fbp_k) if name is not None}
            fbclids.add(click.fbclid_k)
        names |= {name for name in fbclids if name is not None and self._is_theirs_alone(store, name, person)}
        rows = [(store, name, now) for name in sorted(names)]
        self._db.executemany("INSERT INTO erased (store, name, at) VALUES (?, ?, ?)", rows)

    def _is_theirs_alone(self, store: int, fbclid: int, person: Person) -> bool:
        """Whether nobody else came by this link: a link that was passed on stays the others'."""
        return all(row.id in person.clicks for row in self._find.clicks_under(store, "fbclid", fbclid))


def _unproven(person: Person) -> list[tuple[int, int, int]]:
    return [(row.store, row.ts, row.id) for row in person.conversions.values()]


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
