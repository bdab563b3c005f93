"""A shop's export beside what is here: which of its orders are known, and what became of each (C5)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

from msgspec import Struct

from collector.config import StoreConfig
from collector.config_loader.shops import TOPICS
from collector.core import amounts
from collector.core.keyed import KeyedHash
from collector.core.shops.counted import FILE, Class, class_of
from collector.core.shops.exports import FileOrder
from collector.errors import StorageError
from collector.storage.rules.pulled import Found


class Compared(Struct):
    """What became of one order of the file: its class for each pixel. `differs`: its value is another one here."""

    order: FileOrder
    classes: dict[str, Class]
    differs: bool = False
    repeated: bool = False


class Booked(NamedTuple):
    """An order in the shop's own list, and the name under which it is there."""

    conversion: int | None
    name: int
    value: str | None
    currency: str
    reason: str | None


class Row(NamedTuple):
    """An order of the file as the shop's list takes it."""

    store: int
    name: int
    called: str
    ts: int
    status: str | None
    value: str | None
    currency: str
    channel: str
    reason: str | None
    conversion: int | None
    seen: int
    first: int


class Files(ABC):
    """Compares the orders of one store's file, whose number is `number`; remembers which it has seen."""

    def __init__(self, store: StoreConfig, number: int | None, names: KeyedHash) -> None:
        """StorageError where the database does not know the store."""
        if number is None:
            raise StorageError(
                f"store {store.id} has no row in the database yet; start the edge (collector serve) first"
            )
        self._store, self._number, self._names = store, number, names
        self._pixels = [pixel.id for pixel in store.pixel] or [""]

    @abstractmethod
    def close(self) -> None:
        """Let go of the database."""

    @abstractmethod
    def compare(self, orders: Sequence[FileOrder], now: int) -> list[Compared]:
        """Which of these are here, and what became of them; enters each in the shop's list, as seen by file."""

    def fill(self, orders: Iterable[FileOrder]) -> int:
        """Have the edge take in what is missing; how many."""
        found = [Found(one.platform, TOPICS[one.platform][1], one.body) for one in orders if one.body]
        if found:
            self._put_in(found)
        return len(found)

    @abstractmethod
    def _put_in(self, found: Sequence[Found]) -> None: ...
    @abstractmethod
    def _has_seen(self, name: int) -> bool:
        """Whether the file had it before; from now on it had."""

    @abstractmethod
    def _booked(self, names: Sequence[int]) -> Booked | None:
        """The first of the names that is in the shop's list, itself or as another name of its order."""

    @abstractmethod
    def _conversion(self, names: Iterable[int]) -> int | None:
        """An order that only a server or a page has told of."""

    @abstractmethod
    def _state(self, pixel: str, conversion: int) -> int | None: ...
    @abstractmethod
    def _enter(self, row: Row) -> None: ...
    @abstractmethod
    def _see(self, name: int) -> None: ...

    def _named(self, orders: Iterable[FileOrder]) -> list[tuple[FileOrder, list[int], bool]]:
        """Each order, its names, and whether it is repeated."""
        name = self._names.namer(self._number, "once")
        found = []
        for order in orders:
            keyed = [name(f"Purchase\0o{called}") for called in order.names]
            found.append((order, keyed, self._has_seen(keyed[0])))
        return found

    def _one(self, order: FileOrder, keyed: list[int], repeated: bool, now: int) -> Compared:
        if repeated:
            return Compared(order, {}, repeated=True)
        known = self._booked(keyed)
        conversion, reason = (known.conversion, known.reason) if known else (self._conversion(keyed), None)
        if conversion is None and known is None:
            reason = self._kept_out(order)
        value = str(order.value) if order.value is not None else None
        if known is None:
            shown = (order.names[0], order.ts, order.status, value, order.currency, order.channel)
            self._enter(Row(self._number, keyed[0], *shown, reason or None, conversion, FILE, now))
        else:
            self._see(known.name)
        classes = {pixel: self._class(conversion, reason, pixel) for pixel in self._pixels}
        return Compared(order, classes, known is not None and _differs(order, known.value, known.currency))

    def _kept_out(self, order: FileOrder) -> str:
        """Why an order that is here by its file alone would never be sent; empty where it would."""
        rule = ({"pos": "ignore", "shopify_draft_order": "ignore"} | self._store.shop.channels).get(order.channel)
        return f"channel_{order.channel}" if rule == "ignore" else order.unsent

    def _class(self, conversion: int | None, reason: str | None, pixel: str) -> Class:
        state: Any = None if conversion is None else self._state(pixel, conversion)
        return class_of(state, bool(reason))


def _differs(order: FileOrder, value: str | None, currency: str) -> bool:
    """Whether the shop's own figure is another one than ours; of what has ended, neither says much."""
    if order.value is None or value is None or order.unsent or order.currency != currency:
        return False
    return not amounts.same(order.value, Decimal(value), currency)
