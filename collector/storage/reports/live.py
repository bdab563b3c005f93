"""What is happening now: clicks, events, attempts, refusals and reloads, each once, as it comes. For tail and console.

Nothing of a person is told: no address, no cookie, no click id, no order number.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from decimal import Decimal
from typing import Any, Final, Literal, get_args

import msgspec

from collector.core import flags, times
from collector.core.capi.states import name_of
from collector.core.event_names import STANDARD
from collector.core.ids import PublicIds
from collector.core.landing import labels_of
from collector.storage.ground import audit
from collector.storage.reports.delivery import STATES_SQL, combined
from collector.storage.reports.questions import Reading, Row, named

Kind = Literal["click", "hit", "order", "event", "attempt", "refusal", "reload"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
Item = dict[str, Any]
_PAGE: Final = 1000
_BROWSING: Final = frozenset({"PageView", "ViewContent", "Search"})

_CLICKS: Final = named(
    "clicks since",
    """
SELECT k.id, k.received, s.name, k.flags, k.body FROM click k LEFT JOIN store s ON s.id = k.store
 WHERE k.id > ? AND k.store > 0 ORDER BY k.id LIMIT ?""",
)
_CONVERSIONS: Final = named(
    "conversions since",
    f"""
SELECT c.id, c.received, s.name, c.event_type, c.flags, c.confidence, c.method, c.capi, {STATES_SQL}, c.body
  FROM conversion c LEFT JOIN store s ON s.id = c.store WHERE c.id > ? AND c.store > 0 ORDER BY c.id LIMIT ?""",
)
# One in flight is told once it is over; those that were in flight at the last look are asked for by their numbers.
_REQUESTS: Final = named(
    "requests since",
    """
SELECT r.id, r.at, p.name, r.events, r.outcome, r.http_status, r.code, r.took_ms
  FROM request r LEFT JOIN pixel p ON p.id = r.pixel WHERE r.id > ?1 OR r.id IN (SELECT value FROM json_each(?2))
 ORDER BY r.id LIMIT ?3""",
)
_REFUSALS: Final = named("refusals since", "SELECT code, sum(n) FROM refusal_sum WHERE quarter >= ? GROUP BY 1")
_TABLES: Final = ("click", "conversion", "request")
# After which row the newest of them lie.
_BEGIN: Final = {
    table: named(f"newest of {table}", f"SELECT max(0, coalesce((SELECT max(id) FROM {table}), 0) - ?)")
    for table in _TABLES
}


class _Landed(msgspec.Struct, array_like=True):
    fbclid: str
    landing_page: str


class _Sold(msgspec.Struct):
    value: Decimal | None = None
    currency: str | None = None


_landed: Final = msgspec.msgpack.Decoder(_Landed).decode
_sold: Final = msgspec.msgpack.Decoder(_Sold).decode


class Follower:
    """Where one reader of the happenings is. `begin` first; `last`: so many rows of each kind are told at once."""

    def __init__(self, reader: Reading, ids: PublicIds, *, store: str | None, pixels: Iterable[str], kinds: set[Kind]):
        self._reader, self._ids, self._store, self._kinds = reader, ids, store, kinds
        self._pixels = frozenset(pixels)  # of the store
        self._after: dict[str, int] = {}
        self._flying: set[int] = set()
        self._refused: Counter[str] = Counter()
        self._since = 0
        self._audit = 0
        self._noted: list[audit.Entry] = []  # reloads of before, told with the first step

    async def begin(self, now: int, last: int) -> None:
        """Begin with the newest `last` rows of each table."""
        for table in _TABLES:
            row = await self._reader.one(_BEGIN[table], last)
            self._after[table] = row[0] if row else 0
        self._since = now // 900_000 - 1
        self._refused = Counter(dict(await self._reader.rows(_REFUSALS, self._since)))
        entries, self._audit = audit.read(self._reader.path.parent)
        self._noted = [entry for entry in entries if _is_reload(entry)][-last:] if last else []

    async def step(self, now: int) -> list[Item]:
        """What has come since the last step, oldest first; at most a page of each kind."""
        found = [*await self._clicks(), *await self._conversions(), *await self._requests()]
        found += [*await self._refusals(now), *self._reloads()]
        return sorted((item for item in found if item["kind"] in self._kinds), key=lambda item: str(item["at"]))

    async def _rows(self, table: str, sql: str) -> list[Row]:
        rows = await self._reader.rows(sql, self._after[table], _PAGE)
        if rows:
            self._after[table] = rows[-1][0]
        return [row for row in rows if self._store in (None, row[2])]

    async def _clicks(self) -> list[Item]:
        if "click" not in self._kinds:
            return []
        return [self._click(row) for row in await self._rows("click", _CLICKS)]

    def _click(self, row: Row) -> Item:
        number, received, store, marks, body = row
        source, campaign, *_ = labels_of(_landed(body).landing_page)
        return {
            "at": times.text(received),
            "kind": "click",
            "store": store,
            "id": self._ids.public("click", number),
            "source": source or None,
            "campaign": campaign or None,
            "keptApart": bool(marks & flags.INELIGIBLE),
        }

    async def _conversions(self) -> list[Item]:
        if self._kinds.isdisjoint(("hit", "order", "event")):
            return []
        return [self._conversion(row) for row in await self._rows("conversion", _CONVERSIONS)]

    def _conversion(self, row: Row) -> Item:
        number, received, store, name, marks, confidence, method, capi, states, body = row
        sold = _sold(body)
        return {
            "at": times.text(received),
            "kind": "order" if name == "Purchase" else "hit" if name in _BROWSING else "event",
            "store": store,
            "id": self._ids.public("conv", number),
            "event": name if name in STANDARD else "(custom)",  # a caller's own words may be anybody's
            "value": sold.value,
            "currency": sold.currency,
            "confidence": confidence,
            "method": method,
            "meta": name_of(combined(capi, states)),
            "test": bool(marks & flags.TEST),
        }

    async def _requests(self) -> list[Item]:
        if "attempt" not in self._kinds:
            return []
        flying = msgspec.json.encode(sorted(self._flying)).decode()
        rows = await self._reader.rows(_REQUESTS, self._after["request"], flying, _PAGE)
        self._after["request"] = max([self._after["request"], *(row[0] for row in rows)])
        self._flying = {row[0] for row in rows if row[4] == "in_flight"}
        return [self._attempt(row) for row in rows if row[4] != "in_flight" and self._is_ours(row[2])]

    def _is_ours(self, pixel: str) -> bool:
        return self._store is None or pixel in self._pixels

    @staticmethod
    def _attempt(row: Row) -> Item:
        _, at, pixel, events, outcome, status, code, took = row
        said = {"events": events, "outcome": outcome, "httpStatus": status, "code": code, "tookMs": took}
        return {"at": times.text(at), "kind": "attempt", "pixel": pixel, **said}

    async def _refusals(self, now: int) -> list[Item]:
        """By code, of all stores: what was refused belongs to none for sure, so a store's own tail has none."""
        if "refusal" not in self._kinds or self._store is not None:
            return []
        counts: Counter[str] = Counter(dict(await self._reader.rows(_REFUSALS, self._since)))
        more, self._refused = counts - self._refused, counts
        return [{"at": times.text(now), "kind": "refusal", "error": code, "n": n} for code, n in sorted(more.items())]

    def _reloads(self) -> list[Item]:
        entries, self._audit = audit.read(self._reader.path.parent, self._audit)
        mine, self._noted = self._noted + [entry for entry in entries if _is_reload(entry)], []
        return [{"at": e.at, "kind": "reload", "who": e.who, "action": e.action, **e.about} for e in mine]


def _is_reload(entry: audit.Entry) -> bool:
    return entry.action.startswith("reload")
