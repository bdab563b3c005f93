"""By which ways does each shop tell of its orders, and when did each last? For `status` and the console's page."""

from __future__ import annotations

from datetime import date
from typing import Final

from msgspec import Struct

from collector.config import Config, StoreConfig
from collector.config_loader import shops
from collector.core import times
from collector.storage.reports.questions import STORE, Reading, named

_DAYS: Final = 7
_UNSET: Final = "https://YOUR-ADDRESS"  # where [edge] public_url is not set
_LAST: Final = named(
    "last delivery", "SELECT at FROM shop_delivery WHERE store = ? AND webhook = ? ORDER BY at DESC LIMIT 1"
)
_ORDER: Final = named(
    "last order by webhook",
    """
SELECT at FROM shop_delivery WHERE store = ? AND webhook = ? AND conversion IS NOT NULL ORDER BY at DESC LIMIT 1""",
)
_COUNTED: Final = named(
    "counted of a shop",
    """
SELECT name, sum(n), max(day) FROM counter WHERE store = ? AND day >= ? AND name >= 'shop.' AND name < 'shop/'
 GROUP BY name""",
)
_PULL: Final = named("pull of a shop", "SELECT at, watermark FROM shop_pull WHERE store = ?")


class Webhook(Struct, rename="camel", kw_only=True):
    """One webhook: what to paste where, and when it last told. Times are null where nothing came in eight days."""

    name: str
    url: str
    topics: list[str]
    last_delivery: str | None
    last_order: str | None


class ShopWays(Struct, rename="camel", kw_only=True):
    """One store's. `refused7`, `ignored7`: how often by reason in seven days; `last_ping`: its day, UTC."""

    store: str
    webhooks: list[Webhook]
    last_ping: str | None
    refused7: dict[str, int]
    ignored7: dict[str, int]
    pulls_from: str | None
    last_pull: str | None
    pulled_to: str | None


async def ways(reader: Reading, config: Config, now: int) -> list[ShopWays]:
    """Of every active store that has a webhook with a secret, or a pull."""
    return [await _of(reader, config, store, now) for store in config.store if store.active and _has_any(store)]


def _has_any(store: StoreConfig) -> bool:
    return bool(store.shop.platform) or bool(_names(store))


def _names(store: StoreConfig) -> list[str]:
    return [*store.webhook_secrets, *(webhook.name for webhook in store.webhook)]


async def _of(reader: Reading, config: Config, store: StoreConfig, now: int) -> ShopWays:
    row = await reader.one(STORE, store.id)
    number = row[0] if row else -1
    counted = await reader.rows(_COUNTED, number, now // times.DAY_MS - _DAYS + 1)
    pings = [day for name, _, day in counted if name == "shop.ping"]
    pulled = await reader.one(_PULL, store.id)
    hooks = shops.hooks(store)
    return ShopWays(
        store=store.id,
        webhooks=[await _webhook(reader, config, store, number, hooks[name]) for name in _names(store)],
        last_ping=date.fromordinal(pings[0] + date(1970, 1, 1).toordinal()).isoformat() if pings else None,
        refused7=_by_reason(counted, "shop.refused."),
        ignored7=_by_reason(counted, "shop.ignored."),
        pulls_from=store.shop.platform if store.shop.pull_minutes and store.shop.platform else None,
        last_pull=times.text(pulled[0]) if pulled else None,
        pulled_to=times.text(pulled[1]) if pulled else None,
    )


async def _webhook(reader: Reading, config: Config, store: StoreConfig, number: int, hook: shops.Hook) -> Webhook:
    last, order = [await reader.one(sql, number, hook.name) for sql in (_LAST, _ORDER)]
    base = config.edge.public_url.rstrip("/") or _UNSET
    return Webhook(
        name=hook.name,
        url=f"{base}/v1/webhooks/{hook.name}/{store.id}",
        topics=shops.taken(hook),
        last_delivery=times.text(last[0]) if last else None,
        last_order=times.text(order[0]) if order else None,
    )


def _by_reason(counted: list[tuple[str, int, int]], kind: str) -> dict[str, int]:
    return {name.removeprefix(kind): n for name, n, _ in counted if name.startswith(kind)}
