"""Does a shop still tell of its orders, and what has it asked for its customers? Every ten minutes (P1, C7)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

from collector.config import Config
from collector.courier.alerts import Alerts
from collector.courier.shops.pull import Puller, stores_to_pull
from collector.errors import CollectorError
from collector.storage.ground.database import DATABASE, connect
from collector.storage.outbox.dispatch import is_temporary
from collector.storage.shops import answers, erasure
from collector.storage.shops.health import Health
from collector.storage.shops.inbox import Inbox
from collector.storage.shops.requests import Requests, ShopRequest
from collector.telemetry import logger

log = logger("courier")

EVERY_S: Final = 600.0
_CACHE_MB: Final = 2
_ASKED: Final = {
    "shop_redact": "the platform asks to erase the whole shop, which nothing does by itself: `collector requests list`",
    "uninstalled": "the app was taken off the shop: no order will come any more",
}


class Watch:
    """The shops of one installation, until cancelled."""

    def __init__(
        self,
        config: Config,
        health: Health,
        requests: Requests,
        alerts: Alerts,
        clock: Callable[[], int],
        thread: ThreadPoolExecutor,
    ) -> None:
        self._config, self._health, self._requests = config, health, requests
        self._alerts, self._clock, self._thread = alerts, clock, thread
        self._standing: set[str] = set()

    async def run(self) -> None:
        """Look, wait, and again."""
        while True:
            await self.once()
            await asyncio.sleep(EVERY_S)

    async def once(self) -> None:
        """Do what was asked, and tell what is amiss."""
        try:
            for request in await self._ask(self._requests.all):
                if request.done is None:
                    await self._do(request)
            found: dict[str, str] = await self._ask(lambda: self._health.look(self._clock()))
        except Exception as error:  # a busy file or a full disk passes; delivery goes on whatever this is
            if not is_temporary(error):
                log.failed("the shops could not be looked at", error)
            return
        for kind, text in found.items():
            self._alerts.raised(kind, "", text, self._clock())
        for kind in self._standing - found.keys():
            self._alerts.over(kind, self._clock())
        self._standing = set(found)

    async def _do(self, request: ShopRequest) -> None:
        if request.kind == "data_request":
            await self._answer(request)
            return
        if request.kind != "redact":
            text = f"{request.store}: {_ASKED.get(request.kind, request.kind)}"
            kind = f"shop_{request.kind.removeprefix('shop_')}"
            self._alerts.raised(kind, "", text, self._clock(), store=request.store)
            return
        try:
            gone = await self._ask(lambda: erasure.run(self._config, request, self._clock()))
        except CollectorError as error:
            log.failed("what a platform asked could not be erased yet", error, request=request.id)
            return
        log.info("a customer was erased, as the platform asked", request=request.id, orders=gone)

    async def _answer(self, request: ShopRequest) -> None:
        try:
            path = await self._ask(lambda: answers.write(self._config, request, self._clock()))
        except CollectorError as error:
            log.failed("what is held of a customer could not be written yet", error, request=request.id)
            return
        then = f"send him {path}, and `collector requests dismiss {request.id}`"
        text = f"{request.store}: a customer asks what is held of him; {then}"
        self._alerts.raised("shop_data_request", "", text, self._clock())

    def _ask(self, question: Callable[[], Any]) -> Awaitable[Any]:
        return asyncio.get_running_loop().run_in_executor(self._thread, question)


@contextmanager
def shop_work(config: Config, alerts: Alerts, clock: Callable[[], int]) -> Iterator[list[Puller | Watch]]:
    """What there is to do for the shops; over a connection and a thread of its own, so that delivery never waits."""
    storage = msgspec.structs.replace(config.storage, cache_mb=_CACHE_MB)
    thread = ThreadPoolExecutor(1, thread_name_prefix="shops")
    db = connect(Path(storage.data_dir) / DATABASE, storage)
    inbox = Inbox(db)
    work: list[Puller | Watch] = [Watch(config, Health(db, config), Requests(db), alerts, clock, thread)]
    work += [Puller(store, inbox, alerts, clock, thread) for store in stores_to_pull(config)]
    try:
        yield work
    finally:
        thread.shutdown()
        db.close()
