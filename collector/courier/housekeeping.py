"""What does the courier do beside delivering, and how often? One table of jobs, each short, on a thread of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final

import msgspec

from collector.config import PrivacyConfig
from collector.core.retention import cuts
from collector.courier import waiting
from collector.courier.alerts import Alerts
from collector.courier.copies import Copies
from collector.courier.deliver import PixelQueue
from collector.courier.desk import Desk, Once
from collector.courier.disk import Disk
from collector.courier.pacing import LONGEST_MS
from collector.courier.register import Stats
from collector.courier.revisions import Revisions
from collector.courier.timekeeper import Timekeeper
from collector.exchange.clock import SignOfLife
from collector.storage.delivery import Upkeep
from collector.storage.outbox.dispatch import is_temporary
from collector.storage.outbox.upkeep import SLICE
from collector.telemetry import logger

log = logger("courier")

Job = Callable[[], Awaitable[object]]

_CHECKPOINT_S: Final = 1.0
_BEAT_S: Final = 5.0
# Where nobody commits anything, most jobs have nothing to do but for the time that passes.
_CALM_BEAT_S: Final = 15.0  # a quarter of the silence that doctor and console call a fault
_DUE_S: Final = 10.0  # looked for every 5 s until then: no sign is later than the calm one
_LATE_S: Final = 20.0  # the machine has slept
_CALM_S: Final = 60.0
_EXPIRE_S: Final = 30.0
_WIPE_S: Final = 1.0
_REST_S: Final = 0.25  # after some slices, so that the edge's commits seldom wait for one
_CUT_S: Final = 60.0
_TELL_S: Final = 5.0
_CLOCK_S: Final = 2.0
_ASK_MS: Final = 60_000
_LEARN_S: Final = 600.0  # how often it is asked whether a day has passed
_COPY_S: Final = 2.0  # how often it is asked whether a backup is due
_DISK_S: Final = 60.0
_SLICES_AT_ONCE: Final = 20


class Housekeeping:
    """The jobs of one courier, until cancelled."""

    def __init__(
        self,
        upkeep: Upkeep,
        desk: Desk,
        queues: dict[str, PixelQueue],
        stats: Stats,
        alerts: Alerts,
        privacy: PrivacyConfig,
        time: Timekeeper,
        metas_clock: Callable[[], Awaitable[int | None]],
        night: Callable[[int], Any],
        loss: Callable[[], str | None],
        revisions: Revisions,
        copies: Copies,
        disk: Disk,
    ) -> None:
        self._upkeep = upkeep
        self._desk = desk
        self._queues = queues
        self._stats = stats
        self._alerts = alerts
        self._privacy = privacy
        self._time = time
        self._metas_clock = metas_clock
        self._ask_at = 0
        self._night = night
        self._loss = loss
        self._revisions = revisions
        self._copies = copies
        self._disk = disk
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="upkeep")
        self._stirred: list[asyncio.Event] = []
        self._is_news = True  # somebody has committed, a person's word about the clock perhaps
        self._sign, self._said = SignOfLife(), dict[str, Any]()  # the last sign of life: when, and what

    async def run(self) -> None:
        """Every job at its interval: while somebody commits, and where nobody does."""
        jobs: list[tuple[float, float, Job]] = [
            (_CHECKPOINT_S, _CALM_S, self._checkpoint),
            (_BEAT_S, _CALM_BEAT_S, self._beat_if_due),
            (_BEAT_S, _CALM_BEAT_S, self.watch),
            (_CLOCK_S, _CLOCK_S, self._beat_if_late),
            (_CLOCK_S, _CLOCK_S, self._keep_time),
            (_CLOCK_S, _CLOCK_S, self._ask_meta),
            (_EXPIRE_S, _EXPIRE_S, self._expire),
            (_WIPE_S, _CALM_S, self._wipe),
            (_CUT_S, _CUT_S, self._cut),
            (_LEARN_S, _LEARN_S, self._learn),
            (_TELL_S, _TELL_S, self._tell),
            (_COPY_S, _COPY_S, self._copy),
            (_DISK_S, _DISK_S, self._watch_disk),
        ]
        async with asyncio.TaskGroup() as group:
            for seconds, calm, job in jobs:
                group.create_task(self._every(seconds, calm, job))

    def stir(self) -> None:
        """Somebody has committed: what rests where nothing happens goes on at its usual interval."""
        self._is_news = True
        for event in self._stirred:
            event.set()

    async def _every(self, seconds: float, calm: float, job: Job) -> None:
        """A job that answers that there is more of it does not rest."""
        self._stirred.append(stirred := asyncio.Event())
        waits = Once("housekeeping has to wait")
        while True:
            stirred.clear()
            more = True
            try:
                more = bool(await job())
                waits.over()
            except Exception as error:
                # A busy file or a full disk passes; anything else ends the process, and a new one is started.
                if not is_temporary(error):
                    raise
                waits.failed(error)
            await asyncio.sleep(seconds)
            if calm > seconds and not more:
                await waiting.told(stirred, calm - seconds)

    async def _ask(self, question: Callable[[], Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, question)

    async def _checkpoint(self) -> None:
        await self._ask(self._upkeep.checkpoint)

    async def beat(self) -> None:
        """Write the sign of life, and raise the alarm about old backlogs."""
        await self._beat(always=True)

    async def _beat_if_due(self) -> bool:
        """Whether none was due yet, and it is to be asked again before the calm is over."""
        return not await self._beat(always=False)

    async def _beat_if_late(self) -> None:
        """At once where the clock was set or the machine has slept, whatever the calm one waits for."""
        if self._sign.is_due(self._time.clock.reading(), _LATE_S):
            await self._beat(always=False)

    async def _beat(self, *, always: bool) -> bool:
        """It is written where it says something new, and else as often as shows that the process lives."""
        reading = self._time.clock.reading()
        now = reading.system  # who reads it compares it with that clock
        numbers = {name: queue.number for name, queue in self._queues.items()}  # some may go while it is asked
        queues = {name: await self._ask(partial(self._upkeep.backlog, number)) for name, number in numbers.items()}
        figures = {**msgspec.structs.asdict(self._stats), **self._disk.figures, "queues": queues}
        if writes := always or figures != self._said or self._sign.is_due(reading, _DUE_S):
            await self._ask(lambda: self._upkeep.beat("courier", now, figures))
            self._sign.written(reading)
            self._said = figures
        for name, figures_of in queues.items():
            if figures_of["oldest"]:
                self._alerts.backlog(name, figures_of["oldest"], now)
            first = await self._desk.ask(partial(self._desk.outbox.first_deadline, numbers[name]))
            self._alerts.expiring(name, first, now)
        return writes

    async def watch(self) -> None:
        """Raise the alarm about a loss of acknowledged events, until a person has accepted it (D6)."""
        if (told := await self._ask(self._loss)) is not None:
            self._alerts.raised("damage", "", told, self._time.clock())
        else:
            self._alerts.over("damage", self._time.clock())

    async def _keep_time(self) -> None:
        """Carry the trusted now on; a queue that waits for the clock is tried once it is right."""
        if not (self._is_news or self._time.is_due):
            return
        self._is_news = False
        wrong = self._time.is_held or self._time.is_doubtful
        told: list[str] = []
        await self._ask(lambda: self._time.step(told.append))
        for text in told:
            self._alerts.raised("clock", "", text, self._time.clock())
        if wrong and not (self._time.is_held or self._time.is_doubtful):
            self._alerts.over("clock", self._time.clock())
            for queue in list(self._queues.values()):
                queue.hasten()

    async def _ask_meta(self) -> None:
        """The second witness of a clock that is in doubt, where no answer to an event has brought one."""
        ticks = self._time.clock.reading().boot
        if not self._time.is_doubtful or self._time.knows_metas or ticks < self._ask_at:
            return
        if (date := await self._metas_clock()) is not None:
            self._time.heard(date)
        else:
            self._ask_at = ticks + _ASK_MS

    async def _expire(self) -> None:
        now, trusted = self._time.clock(), self._time.clock.trusted()
        outbox = self._desk.outbox
        for queue in list(self._queues.values()):
            expired = 0
            while n := await self._desk.ask(partial(outbox.expire, queue.number, trusted)):
                expired += n
            if expired:
                text = f"{expired} events have waited longer than Meta takes them, and are not sent any more"
                self._alerts.raised("expired", queue.target.pixel, text, now)
            while await self._desk.ask(partial(outbox.pull_forward, queue.number, now, LONGEST_MS)):
                pass

    async def _wipe(self) -> bool:
        dead = cuts(self._privacy, self._time.clock.trusted()).dead_payloads
        slices = 0
        while await self._ask(lambda: self._upkeep.wipe_payloads(dead)) >= SLICE:
            slices += 1
            await asyncio.sleep(0 if slices % _SLICES_AT_ONCE else _REST_S)
        return self._upkeep.wiping

    async def _cut(self) -> None:
        for _ in range(_SLICES_AT_ONCE):
            if not await self._ask(lambda: self._upkeep.cut(cuts(self._privacy, self._time.clock.trusted()))):
                return
            await asyncio.sleep(0.05)

    async def _learn(self) -> None:
        """Once a day: new models from what the stores' own orders have shown."""
        now = self._time.clock.trusted()
        for store, model in (await self._ask(lambda: self._night(now))).items():
            log.info("learnt", store=store, model=model.version, labels=model.labels)

    async def _tell(self) -> None:
        reading = self._time.clock.reading()
        await self._revisions.tell(self._ask, self._time.clock.trusted(), reading.boot)

    async def _copy(self) -> None:
        await self._copies.step(self._time.clock.reading().system)

    async def _watch_disk(self) -> None:
        now = self._time.clock.trusted()
        self._disk.tell(await self._ask(lambda: self._disk.look(now)), now)

    def close(self) -> None:
        """Wait for the last slice."""
        self._copies.close()
        self._thread.shutdown()
