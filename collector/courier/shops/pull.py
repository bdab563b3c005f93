"""When is each shop pulled, from when on, and what if it does not answer? (L1, L5)

watermark less 10 minutes ─▶ pages, oldest change first ─▶ inbox and watermark, one commit each ─▶ now less 60 s
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final

from collector.config import Config, StoreConfig
from collector.config_loader import shops
from collector.core.shops.counted import PULL
from collector.courier.alerts import Alerts
from collector.courier.shops.apis import APIS
from collector.courier.shops.http import ShopClient, Trouble
from collector.storage.delivery import OTHERS_S, Books
from collector.storage.outbox.dispatch import is_temporary
from collector.storage.rules.pulled import MOST_WAITING, Pulled
from collector.telemetry import logger

log = logger("courier")

_OVERLAP_MS: Final = 600_000
_REST_MS: Final = 60_000
_FIRST_MS: Final = 7 * 86_400_000
_HOUR_S: Final = 3_600.0
_LONGEST_S: Final = 300.0
_STRIPE: Final = "https://api.stripe.com"
_FULL_S: Final = 0.5  # until a full inbox is looked at again
ALERT_AFTER: Final = 3  # failures in a row


class Puller:
    """One store's pull, until cancelled; delivery to Meta never waits for it. Of several couriers one pulls a store."""

    def __init__(
        self,
        store: StoreConfig,
        books: Books,
        alerts: Alerts,
        clock: Callable[[], int],
        thread: ThreadPoolExecutor,
        dice: Callable[[], float] = random.random,
    ) -> None:
        self._store, self._books, self._inbox, self._alerts = store, books, books.inbox, alerts
        self._clock, self._thread, self._dice = clock, thread, dice
        self._client = ShopClient(store.shop.url or _STRIPE)
        topics = shops.taken(shops.pulled(store, store.shop.platform))
        self._api = APIS[store.shop.platform](self._client, store.shop, topics)
        self._failures = 0

    async def run(self) -> None:
        """Pull, wait, and again."""
        try:
            while True:
                wait = await self.once()
                await asyncio.sleep(wait)
        finally:
            await self._client.close()

    async def once(self) -> float:
        """One pull, if it is this courier's; how many seconds to wait until the next."""
        try:
            if not await self._ask(partial(self._books.takes, f"pull {self._store.id}")):
                return OTHERS_S
            await self._pull()
        except Trouble as trouble:
            return await self._failed(trouble)
        except Exception as error:
            if not is_temporary(error):
                log.failed("a pull has failed", error, store=self._store.id)
            return await self._failed(Trouble("the collector could not store what it gave"))
        if self._failures:
            self._alerts.over("shop_auth", self._clock())
            self._alerts.over("shop_pull", self._clock())
        self._failures = 0
        return self._store.shop.pull_minutes * 60.0

    async def _pull(self) -> None:
        known: Pulled | None = await self._ask(lambda: self._inbox.pulled(self._store.id))
        until = self._clock() - _REST_MS
        since = known.watermark - _OVERLAP_MS if known else until - _FIRST_MS
        first = known.since if known else since
        mark = known.watermark if known else since
        async for found, changed in self._api.pages(since, until):
            while await self._ask(self._inbox.waiting) > MOST_WAITING:  # noqa: ASYNC110 (another process empties it)
                await asyncio.sleep(_FULL_S)
            mark = max(mark, min(changed, until))
            pulled = Pulled(first, mark, self._clock(), None)
            await self._ask(partial(self._inbox.put, self._store.id, PULL, found, pulled))

    async def _failed(self, trouble: Trouble) -> float:
        self._failures += 1
        log.warning("a shop could not be pulled", store=self._store.id, fault=trouble.word)
        now = self._clock()
        if trouble.auth:
            text = f"{self._store.id}: {self._store.shop.platform} refuses the key of [store.shop]; set a new one"
            self._alerts.raised("shop_auth", "", text, now, store=self._store.id)
        elif self._failures >= ALERT_AFTER:
            text = f"{self._store.id}: the shop cannot be pulled: {trouble.word}"
            self._alerts.raised("shop_pull", "", text, now, store=self._store.id)
        if trouble.auth:
            return _HOUR_S
        if trouble.wait is not None:
            return trouble.wait
        return min(2.0 ** (self._failures - 1), _LONGEST_S) * (0.5 + self._dice() / 2)

    def _ask(self, question: Callable[[], Any]) -> Awaitable[Any]:
        return asyncio.get_running_loop().run_in_executor(self._thread, question)


def stores_to_pull(config: Config) -> list[StoreConfig]:
    """The stores that have a shop to pull, and a key for it."""
    return [
        store
        for store in config.store
        if store.active and store.shop.platform and store.shop.pull_minutes and _has_key(store)
    ]


def _has_key(store: StoreConfig) -> bool:
    shop = store.shop
    keys = (shop.access_token, shop.client_secret, shop.consumer_secret, shop.restricted_key)
    return any(keys)
