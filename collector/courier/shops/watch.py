"""Does a shop still tell of its orders, and what has it asked for its customers? Every ten minutes (P1, C7)."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import partial
from typing import Any, Final

from collector.config import Config
from collector.courier.alerts import Alerts
from collector.courier.shops.pull import Puller, stores_to_pull
from collector.errors import CollectorError
from collector.storage import requests as storage
from collector.storage.delivery import OTHERS_S, Books
from collector.storage.outbox.dispatch import is_temporary
from collector.storage.verbs.requests import ShopRequest
from collector.storage.verbs.shop_health import Health
from collector.telemetry import logger

log = logger("courier")

EVERY_S: Final = 600.0
_DUTY: Final = "shops"
_ASKED: Final = {
    "shop_redact": "the platform asks to erase the whole shop, which nothing does by itself: `collector requests list`",
    "uninstalled": "the app was taken off the shop: no order will come any more",
}


class Watch:
    """The shops of one installation, until cancelled; of several couriers one watches them."""

    def __init__(
        self, config: Config, books: Books, alerts: Alerts, clock: Callable[[], int], thread: ThreadPoolExecutor
    ) -> None:
        self._config, self._books = config, books
        self._health, self._requests = Health(books.shop_figures, config), books.requests
        self._alerts, self._clock, self._thread = alerts, clock, thread
        self._standing: set[str] = set()

    async def run(self) -> None:
        """Look, wait, and again."""
        while True:
            ours = await self.once()
            await asyncio.sleep(EVERY_S if ours else OTHERS_S)

    async def once(self) -> bool:
        """Do what was asked, and tell what is amiss; False where another courier does, or it could not be done now."""
        try:
            requests: list[ShopRequest] = await self._ask(self._requests.all)
            for request in requests:
                if request.done is not None and request.kind == "data_request":  # on another machine, perhaps
                    await self._ask(partial(storage.remove_answer, self._config, request))
            if not await self._ask(partial(self._books.takes, _DUTY)):
                return False
            for request in requests:
                if request.done is None:
                    await self._do(request)
            found: dict[str, str] = await self._ask(lambda: self._health.look(self._clock()))
        except Exception as error:  # a busy file or a full disk passes; delivery goes on whatever this is
            if is_temporary(error):
                return False
            log.failed("the shops could not be looked at", error)
            return True
        for kind, text in found.items():
            self._alerts.raised(kind, "", text, self._clock())
        for kind in self._standing - found.keys():
            self._alerts.over(kind, self._clock())
        self._standing = set(found)
        return True

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
            gone = await self._ask(lambda: storage.run(self._config, self._requests, request, self._clock()))
        except CollectorError as error:
            log.failed("what a platform asked could not be erased yet", error, request=request.id)
            return
        log.info("a customer was erased, as the platform asked", request=request.id, orders=gone)

    async def _answer(self, request: ShopRequest) -> None:
        try:
            path = await self._ask(lambda: storage.answer(self._config, request, self._clock()))
        except CollectorError as error:
            log.failed("what is held of a customer could not be written yet", error, request=request.id)
            return
        where = path if self._config.storage.engine == "sqlite" else f"{path} on {socket.gethostname()}"
        then = f"send him {where}, and `collector requests dismiss {request.id}`"
        text = f"{request.store}: a customer asks what is held of him; {then}"
        self._alerts.raised("shop_data_request", "", text, self._clock())

    def _ask(self, question: Callable[[], Any]) -> Awaitable[Any]:
        return asyncio.get_running_loop().run_in_executor(self._thread, question)


@contextmanager
def shop_work(config: Config, books: Books, alerts: Alerts, clock: Callable[[], int]) -> Iterator[list[Puller | Watch]]:
    """What there is to do for the shops; over books and a thread of its own, so that delivery never waits."""
    thread = ThreadPoolExecutor(1, thread_name_prefix="shops")
    with closing(books):
        try:
            pulls = [Puller(store, books, alerts, clock, thread) for store in stores_to_pull(config)]
            yield [Watch(config, books, alerts, clock, thread), *pulls]
        finally:
            thread.shutdown()
