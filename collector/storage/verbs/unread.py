"""Of whom are the orders that a pull or a file has found and no edge has read yet? An erasure takes them too (P6)."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from collector.config import StoreConfig
from collector.config_loader import shops
from collector.core.keyed import KeyedHash
from collector.core.shops import order
from collector.exchange.naming import KINDS, keys_of


def unread_of(
    rows: Iterable[tuple[int, str, str, bytes]],
    names: KeyedHash,
    store: tuple[str, int, str],
    values: Collection[tuple[int, int]],
    orders: Collection[int],
) -> list[int]:
    """The inbox's rows that carry one of the values (kind and name), or are one of the orders (names).

    `rows`: id, platform, topic and body of all of the store's; `store`: its id, number and country.
    """
    known, number, country = store
    found = []
    for row, platform, topic, body in rows:
        told = _order_in(known, platform, topic, body)
        if told is None:
            continue
        carried = {(KINDS[kind], key) for kind, key in keys_of(names, number, told.body.customer_data, country).keys}
        called = [str(told.body.order_id), *told.names, *told.numbers]
        own = {names.name(number, "once", f"Purchase\0o{name}") for name in called}
        if carried.intersection(values) or own.intersection(orders):
            found.append(row)
    return found


def _order_in(store: str, platform: str, topic: str, body: bytes) -> order.ShopOrder | None:
    if platform not in shops.PULLED:
        return None
    hook = shops.pulled(StoreConfig(id=store), platform)
    headers = {shops.TOPICS[platform][0]: topic}
    told = order.read(hook.platform, hook.terms, store, headers, body).outcome
    found = told.order if isinstance(told, order.Ignored) else told
    return found if isinstance(found, order.ShopOrder) else None
