"""The week's report on its way: to the alerts' webhook as text, to their mailboxes as a letter; each once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import partial
from typing import Any, Final

from collector.config import Config
from collector.core import weeks
from collector.core.days import day_of, zone_of
from collector.courier.weekly_ways import send, ways_of
from collector.storage.delivery import Books
from collector.storage.outbox.dispatch import is_temporary
from collector.storage.reports.weekly import weekly, zone_of_week
from collector.telemetry import logger

log = logger("courier")

_LOOK_S: Final = 30.0
_AGAIN_MS: Final = 15 * 60_000  # after a way that did not take it
_GRACE_MS: Final = 24 * 3_600_000  # a machine that was off sends late; what is older than a day is not sent
_UNSURE: Final = "the week's report may not have arrived; collector report weekly --send sends it again"


class WeeklySender:
    """Sends each week's report when it is due, until cancelled; of several couriers one does.

    `clock`: the trusted now, so that no jump sends one.
    """

    def __init__(
        self,
        config: Config,
        due: weeks.Due,
        books: Books,
        clock: Callable[[], int],
        thread: ThreadPoolExecutor,
    ) -> None:
        self._config, self._due, self._books, self._book = config, due, books, books.weekly
        self._clock, self._thread, self._asking = clock, thread, books.asking(thread)
        self._zone = zone_of_week(config)
        self._not_before = 0
        self._told = False

    async def run(self) -> None:
        """Look, wait, and again."""
        while True:
            try:
                await self.once()
            except Exception as error:  # a busy file passes; delivery goes on whatever this is
                if not is_temporary(error):
                    log.failed("the week's report could not be made", error)
                self._not_before = self._clock() + _AGAIN_MS
                self._told = False  # one that has gone could not be noted, perhaps
            await asyncio.sleep(_LOOK_S)

    async def once(self) -> None:
        """Send what is due by each way that has not had it."""
        if not await self._ask(partial(self._books.takes, "weekly")):
            self._told = False
            return
        if not self._told:
            for way in await self._ask(self._book.unknown):
                log.warning(_UNSURE, kind=way)
            self._told = True
        now = self._clock()
        due = self._due.latest(now, self._zone)
        if now - due > _GRACE_MS or now < self._not_before or self._is_still_under_way(due, now):
            return
        for way in ways_of(self._config.alerts):
            if await self._ask(partial(self._book.claim, due, way, now)):
                await self._send(due, way, now)

    def _is_still_under_way(self, due: int, now: int) -> bool:
        """Whether it is still Sunday in some shop's zone."""
        days = weeks.week_before(day_of(due, self._zone))
        zones = (zone_of(one.timezone) or self._zone for one in self._config.store if one.active)
        return any(now < days.span(zone)[1] for zone in zones)

    async def _send(self, due: int, way: str, now: int) -> None:
        """One way. A courier that ends meanwhile leaves the claim: whether it arrived nobody knows then."""
        try:
            days = weeks.week_before(day_of(due, self._zone))
            outcome = await send(self._config.alerts, way, await weekly(self._asking, self._config, days), now)
        except Exception:
            await self._ask(partial(self._book.release, due, way))
            raise
        if outcome.is_sure and outcome.fault is not None:
            await self._ask(partial(self._book.release, due, way))
            self._not_before = now + _AGAIN_MS
            log.warning("the week's report was not taken; again in a quarter of an hour", kind=way, fault=outcome.fault)
            return
        await self._ask(partial(self._book.sent, due, way))
        if outcome.fault is None:
            log.info("the week's report is sent", kind=way)
        else:
            log.warning(_UNSURE, kind=way, fault=outcome.fault)

    def _ask(self, question: Callable[[], Any]) -> Awaitable[Any]:
        return asyncio.get_running_loop().run_in_executor(self._thread, question)


@contextmanager
def weekly_work(config: Config, books: Callable[[], Books], clock: Callable[[], int]) -> Iterator[list[WeeklySender]]:
    """The sender, where a moment and a way are set; over books and a thread of its own."""
    due = weeks.due_of(config.alerts.weekly)
    if due is None or not ways_of(config.alerts):
        yield []
        return
    thread = ThreadPoolExecutor(1, thread_name_prefix="weekly")
    with closing(books()) as own:
        try:
            yield [WeeklySender(config, due, own, clock, thread)]
        finally:
            thread.shutdown()
