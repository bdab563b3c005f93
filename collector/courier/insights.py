"""When is the ad account read, and what if Meta does not answer? A queue of its own, behind every event.

account (currency, zone) ─▶ pages of the last 28 days, one commit each ─▶ whole ─▶ [insights] hours later, again
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from datetime import date
from functools import partial
from typing import Any, Final
from zoneinfo import ZoneInfo

from collector.config import Config
from collector.core import insights as core
from collector.core.capi.verdicts import Answer, Kind, Verdict, wait_of
from collector.core.days import day_of, zone_of
from collector.courier.alerts import Alerts
from collector.courier.deliver import PixelQueue
from collector.courier.desk import Desk
from collector.courier.graph import GraphClient
from collector.courier.targets import Target, base_of
from collector.errors import StorageError
from collector.storage.delivery import OTHERS_S, Books, Outbox
from collector.storage.outbox.dispatch import is_temporary
from collector.telemetry import logger

log = logger("courier")

_LARGEST: Final = 8 * 1024 * 1024  # bytes of a page: 250 rows with all their actions are some 2 MB
_SECONDS: Final = 120.0  # Meta works a page out while we wait
_ROWS: Final = 250  # of a page; fewer after Meta has asked for less
_FEWEST: Final = 10
_HOUR_S: Final = 3_600.0
_SHORTEST_S: Final = 30.0
_PAUSE_S: Final = 1.0  # until it is looked again whether events wait
_LONGEST_MS: Final = 2 * 60_000  # that a request for figures waits behind events
_LOOK_S: Final = 60.0  # how often a refused token is looked for anew
_MOST_PAGES: Final = 20_000
_STALE_MS: Final = 24 * 3_600_000  # without figures for a day somebody is told, whatever the fault


class Refused(Exception):
    """Meta's answer is none. `verdict` says why."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict.kind.value)
        self.verdict = verdict


class InsightReader:
    """One ad account, until cancelled; of several couriers one reads it.

    `quiet` returns once nothing waits for Meta; `anew`: the settings as of now.
    """

    def __init__(
        self,
        config: Config,
        books: Books,
        graph: GraphClient,
        alerts: Alerts,
        clock: Callable[[], int],
        thread: ThreadPoolExecutor,
        *,
        quiet: Callable[[], Awaitable[None]],
        anew: Callable[[], Config | None] = lambda: None,
        dice: Callable[[], float] = random.random,
    ) -> None:
        self._config, self._books, self._graph, self._alerts = config, books, graph, alerts
        self._book = books.insights(config.insights.ad_account)
        self._clock, self._thread, self._quiet, self._anew, self._dice = clock, thread, quiet, anew, dice
        self._target = _target_of(config)
        self._rows = _ROWS
        self._failures = 0
        self._refused = False
        self._look = asyncio.Event()

    async def run(self) -> None:
        """Read, wait, and again."""
        own = False
        while True:
            before, own = own, await self._is_ours()
            if not own:
                await self._rest(OTHERS_S)
            else:
                await self._rest(await self.once() if before else await self._lack())

    async def _is_ours(self) -> bool:
        try:
            return bool(await self._ask(partial(self._books.takes, "insights")))
        except StorageError as error:
            log.failed("nobody can tell who reads the ad account", error)
            return False

    async def _lack(self) -> float:
        """For how many seconds what is kept is new enough: a restart does not read what was just read."""
        try:
            state = await self._ask(self._book.state)
        except Exception as error:
            if not is_temporary(error):
                raise
            return 0.0  # whoever reads finds out what stands in the way, and waits
        if state.at is None or state.fault is not None:
            return 0.0
        return self._config.insights.hours * _HOUR_S - (self._clock() - float(state.at)) / 1000

    def try_now(self) -> None:
        """A person may have mended what Meta refused."""
        self._look.set()

    async def once(self) -> float:
        """One reading; how many seconds to wait until the next."""
        try:
            reading = await self._ask(self._book.begin)
            await self._read(reading)
        except Refused as error:
            return await self._failed(error.verdict)
        except Exception as error:
            if not is_temporary(error):
                log.failed("the ad account could not be read", error)
            return await self._failed(Verdict(kind=Kind.TRANSIENT, message="what Meta says could not be stored"))
        self._failures, self._refused, self._rows = 0, False, min(_ROWS, self._rows * 2)
        self._alerts.over("insights", self._clock())
        return self._config.insights.hours * _HOUR_S

    async def _read(self, reading: int) -> None:
        account = await self._account()
        zone = zone_of(account.timezone or "UTC") or ZoneInfo("UTC")
        days = core.span_of(day_of(self._clock(), zone))
        unread, after = 0, None
        for _ in range(_MOST_PAGES):
            page = await self._rows_of(days, after, account.currency or "")
            unread += page.unread
            await self._ask(partial(self._book.put, reading, page.rows))
            if (after := page.after) is None:
                break
        else:
            raise Refused(Verdict(kind=Kind.TRANSIENT, message=f"its answer has more than {_MOST_PAGES} pages"))
        if unread:
            log.warning("rows of the ad account could not be read", count=unread)
        keep = self._config.privacy.conversion_days
        whole = partial(self._book.done, reading, account, days, self._clock(), unread=unread, keep_days=keep)
        await self._ask(whole)

    async def _account(self) -> core.Account:
        """The account's currency and zone; as they were last told where Meta does not say them now."""
        try:
            answer = await self._page({"fields": "currency,timezone_name"}, "")
        except Refused as error:
            if not core.is_ours_to_mend(error.verdict):
                raise
            return await self._known()  # the question for the figures says what is amiss
        return core.read_account(answer.body) or await self._known()

    async def _known(self) -> core.Account:
        found: core.Account = await self._ask(self._book.account)
        return found

    async def _rows_of(self, days: tuple[date, date], after: str | None, currency: str) -> core.Page:
        answer = await self._page(core.asked(*days, self._rows, after), "/insights")
        if (page := core.read_page(answer.body, *days, after, currency)) is None:
            raise Refused(core.garbled(answer))
        if wait := wait_of(answer.headers):
            await asyncio.sleep(wait / 1000)
        return page

    async def _page(self, said: Mapping[str, str], what: str) -> Answer:
        await self._quiet()
        path = self._config.insights.ad_account + what
        answer = await self._graph.read(self._target, path, said, largest=_LARGEST, seconds=_SECONDS)
        if (verdict := core.fault_of(answer)) is not None:
            raise Refused(verdict)
        return answer

    async def _failed(self, verdict: Verdict) -> float:
        self._failures += 1
        self._refused = core.is_ours_to_mend(verdict)
        if core.wants_less(verdict):
            self._rows = max(_FEWEST, self._rows // 2)
        code = f" (code {verdict.code})" if verdict.code is not None else ""
        text = f"{self._config.insights.ad_account}: {verdict.message or verdict.kind.value}{code}"
        if self._refused:
            text += f"; {core.mend_of(verdict.code, self._config.insights.ad_account)}"
        now = self._clock()
        log.warning("the ad account could not be read", kind=verdict.kind.value, code=verdict.code, fault=text)
        with suppress(Exception):  # a full disk: it is said again
            await self._ask(partial(self._book.failed, text, now))
            state = await self._ask(self._book.state)
            if self._refused or now - (state.at or state.fault_at or now) > _STALE_MS:
                self._alerts.raised("insights", "", text, now)
        return self._wait_after(verdict)

    def _wait_after(self, verdict: Verdict) -> float:
        if self._refused or verdict.slow:
            return _HOUR_S
        if verdict.wait_ms:
            return verdict.wait_ms / 1000
        return min(_SHORTEST_S * 2.0 ** min(self._failures - 1, 7), _HOUR_S) * (0.5 + self._dice() / 2)

    async def _rest(self, seconds: float) -> None:
        """Until then; sooner where a person asks, or the token that Meta refused has been replaced."""
        end = asyncio.get_running_loop().time() + seconds
        while (left := end - asyncio.get_running_loop().time()) > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(min(left, _LOOK_S)):
                    await self._look.wait()
            asked = self._look.is_set()
            self._look.clear()
            if ((asked or self._refused) and self._is_new()) or asked:
                return

    def _is_new(self) -> bool:
        """Take token, version and address as they stand in the configuration now; whether any is another one."""
        config = self._anew()
        if config is None or config.insights.ad_account != self._config.insights.ad_account:
            return False
        target, before = _target_of(config), self._target
        if not target.token:  # one that only the supervisor's environment has is absent here
            return False
        self._target = target
        return self._target.way_hash != before.way_hash

    def _ask(self, question: Callable[[], Any]) -> Awaitable[Any]:
        return asyncio.get_running_loop().run_in_executor(self._thread, question)


def _target_of(config: Config) -> Target:
    return Target("", base_of(config.meta), config.insights.access_token, config.meta.app_secret)


async def quiet(desk: Desk, queues: Mapping[str, PixelQueue], clock: Callable[[], int], *, live: bool) -> None:
    """Return once no pixel has an event that is due, or was asked by Meta to slow down; a blocked one waits alone.

    After `_LONGEST_MS` all the same: a pixel that is never done keeps nobody from his figures.
    """
    begin = clock()  # it may be set back, too; and another process fills the queue: there is no event to wait for
    while live and abs(clock() - begin) < _LONGEST_MS and await _are_busy(desk, queues, clock):  # noqa: ASYNC110
        await asyncio.sleep(_PAUSE_S)


async def _are_busy(desk: Desk, queues: Mapping[str, PixelQueue], clock: Callable[[], int]) -> bool:
    for name, number in (await desk.ask(desk.outbox.pixels)).items():
        queue = queues.get(name)
        if queue is not None and (queue.blocked or not queue.target.token):
            continue
        closed = queue is not None and queue.closed_for() > 0  # asked before and after: in between a wait may end
        due, sending = await desk.ask(partial(_due_and_sending, desk.outbox, number))
        if closed or sending or (due is not None and due <= clock()):
            return True
        if queue is not None and queue.closed_for() > 0:
            return True
    return False


def _due_and_sending(outbox: Outbox, pixel: int) -> tuple[int | None, bool]:
    return outbox.next_due(pixel), outbox.is_sending(pixel)


@contextmanager
def insight_work(
    config: Config,
    desk: Desk,
    graph: GraphClient,
    alerts: Alerts,
    clock: Callable[[], int],
    queues: Mapping[str, PixelQueue],
    anew: Callable[[], Config | None],
    books: Callable[[], Books],
) -> Iterator[list[InsightReader]]:
    """The ad account's reader, where one is set; over books and a thread of its own."""
    if not config.insights.ad_account:
        yield []
        return
    thread = ThreadPoolExecutor(1, thread_name_prefix="insights")
    still = partial(quiet, desk, queues, clock, live=config.meta.mode == "live")
    with closing(books()) as own:
        try:
            yield [InsightReader(config, own, graph, alerts, clock, thread, quiet=still, anew=anew)]
        finally:
            thread.shutdown()
