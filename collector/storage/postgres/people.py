"""How PostgreSQL finds a person's rows (`storage/verbs/person.py`): each question a statement of its own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import Any, Final

from collector.core.matching.links import Link
from collector.exchange.rows import ClickRow, ConversionRow
from collector.storage.postgres.connecting import Connection
from collector.storage.postgres.threaded import Threaded
from collector.storage.rules.tables import CLICKS, CONVERSIONS
from collector.storage.verbs.held import Sent
from collector.storage.verbs.person import Value

_ORDERS: Final = f"SELECT {CONVERSIONS.columns} FROM conversion"
_CLICKS: Final = f"SELECT {CLICKS.columns} FROM click WHERE store = $1"
_CLICKS_OF: Final = f"{_CLICKS} AND id = ANY($2::bigint[])"
_CLICKS_UNDER: Final = f"{_CLICKS} AND {{}}_k = $2"
# A click's link by every visitor who was seen with it.
_CLICKS_OF_LINK: Final = f"""
{_CLICKS} AND id IN (SELECT id FROM sighting WHERE store = $1 AND fbclid_k = $2) AND fbclid_k = $2"""
_ORDERS_OF: Final = f"{_ORDERS} WHERE store = $1 AND id = ANY($2::bigint[])"
_ORDERS_UNDER: Final = f"{_ORDERS} WHERE store = $1 AND {{}}_k = $2"
_CARRYING: Final = f"""
{_ORDERS} WHERE store = $1 AND id IN (
    SELECT conversion FROM conversion_identity WHERE store = $1 AND kind = $2 AND key = $3)"""
_CARRIED: Final = "SELECT kind, key FROM conversion_identity WHERE store = $1 AND conversion = $2 AND kind > 0"
_CALLED: Final = f"""
{_ORDERS} WHERE store = $1 AND id IN (SELECT conversion FROM order_name WHERE store = $1 AND name = $2) LIMIT 2"""
_LINKS: Final = """
SELECT visitor_k, first_ts, confirmed_ts, source FROM identity_link WHERE store = $1 AND kind = $2 AND key = $3"""

_NETWORK: Final = "SELECT ip, user_agent FROM click_network WHERE store = $1 AND id = $2"
_SENT: Final = """
SELECT o.id, p.name, o.state, o.created, o.settled, o.reason, o.request, b.body
  FROM outbox o LEFT JOIN pixel p ON p.id = o.pixel
  LEFT JOIN outbox_payload b ON b.id = o.id AND b.store = o.store
 WHERE o.store = $1 AND o.conversion = $2 ORDER BY o.id"""
_ATTEMPTS: Final = """
SELECT at, outcome, http_status, code, subcode, trace_id, message FROM request
 WHERE id = $1 OR id IN (SELECT request FROM attempt WHERE outbox = $2) ORDER BY id"""
_TOLD: Final = """
SELECT called, ts, status, value, currency, channel, reason FROM shop_order WHERE store = $1 AND conversion = $2"""
_LAST_SEEN: Final = """
SELECT kind, last_ts FROM identity_link WHERE store = $1 AND kind = $2 AND key = $3 AND visitor_k = $4"""

Ask = Callable[[Callable[[Connection], Awaitable[Any]]], Any]


class PostgresLooking:
    """Over a database that is written meanwhile: what comes between two questions is found when it is looked again."""

    def __init__(self, threaded: Threaded) -> None:
        self._ask = threaded.ask

    def clicks(self, store: int, ids: Collection[int]) -> list[ClickRow]:
        return _clicks(self._all(_CLICKS_OF, store, list(ids))) if ids else []

    def conversions(self, store: int, ids: Collection[int]) -> list[ConversionRow]:
        return _orders(self._all(_ORDERS_OF, store, list(ids))) if ids else []

    def clicks_under(self, store: int, key: str, name: int) -> list[ClickRow]:
        return _clicks(self._all(_CLICKS_OF_LINK if key == "fbclid" else _CLICKS_UNDER.format(key), store, name))

    def conversions_under(self, store: int, key: str, name: int) -> list[ConversionRow]:
        return _orders(self._all(_ORDERS_UNDER.format(key), store, name))

    def carrying(self, store: int, value: Value) -> list[ConversionRow]:
        return _orders(self._all(_CARRYING, store, *value))

    def carried(self, store: int, conversion: int) -> set[Value]:
        return {(kind, key) for kind, key in self._all(_CARRIED, store, conversion)}

    def called(self, store: int, name: int) -> list[ConversionRow]:
        return _orders(self._all(_CALLED, store, name))

    def links(self, store: int, value: Value) -> list[Link]:
        return [Link(*row) for row in self._all(_LINKS, store, *value)]

    def _all(self, sql: str, *asked: Any) -> list[Any]:
        rows: list[Any] = self._ask(lambda c: c.fetch(sql, *asked))
        return rows


class Holding:
    """What is kept beside a person's rows in one store (`storage/verbs/held.py`)."""

    def __init__(self, ask: Ask, store: int, links: Collection[tuple[int, int, int]]) -> None:
        self._ask, self._store, self._links = ask, store, links

    def network(self, click: int) -> tuple[str | None, str | None] | None:
        rows = self._all(_NETWORK, self._store, click)
        return rows[0] if rows else None

    def sent(self, conversion: int) -> list[Sent]:
        return [Sent(*row) for row in self._all(_SENT, self._store, conversion)]

    def attempts(self, outbox: int, request: int | None) -> list[tuple[Any, ...]]:
        return self._all(_ATTEMPTS, request, outbox)

    def told(self, conversion: int) -> list[tuple[Any, ...]]:
        return self._all(_TOLD, self._store, conversion)

    def links(self) -> list[tuple[int, int]]:
        return [row for link in self._links for row in self._all(_LAST_SEEN, self._store, *link)]

    def _all(self, sql: str, *asked: Any) -> list[Any]:
        return [tuple(row) for row in self._ask(lambda c: c.fetch(sql, *asked))]


def _clicks(rows: Iterable[Any]) -> list[ClickRow]:
    return [ClickRow(*row) for row in rows]


def _orders(rows: Iterable[Any]) -> list[ConversionRow]:
    return [ConversionRow(*row) for row in rows]
