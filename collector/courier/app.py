"""The courier's process: opens the outbox, delivers until SIGTERM, takes new tokens, leaves nothing half written."""

from __future__ import annotations

import asyncio
import fcntl
import os
import random
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from datetime import UTC, datetime
from typing import Final, TypeVar

import msgspec

from collector.config import Config, StorageConfig
from collector.config_loader import load
from collector.core.capi import versions
from collector.core.capi.verdicts import classify, date_of, is_metas
from collector.courier.alerts import Alerts
from collector.courier.copies import Copies
from collector.courier.deliver import PixelQueue
from collector.courier.desk import Desk, Once
from collector.courier.disk import Disk
from collector.courier.graph import GraphClient
from collector.courier.housekeeping import Housekeeping
from collector.courier.insights import InsightReader, insight_work
from collector.courier.register import Stats
from collector.courier.revisions import Revisions
from collector.courier.shops.pull import Puller
from collector.courier.shops.watch import Watch, shop_work
from collector.courier.targets import Target, base_of, targets_of
from collector.courier.timekeeper import Timekeeper
from collector.courier.waiting import told
from collector.courier.weekly import WeeklySender, weekly_work
from collector.errors import ConfigError, StorageError, Unavailable
from collector.exchange.clock import boot_ms, system_ms
from collector.storage import delivery
from collector.storage.delivery import Commits, Side
from collector.storage.ground import damage
from collector.storage.ground.database import DATABASE, prepare_data_dir
from collector.storage.outbox.dispatch import is_locked, may_open_later
from collector.telemetry import logger

log = logger("courier")

LOCK: Final = "courier.lock"
T = TypeVar("T")
Beside = Puller | Watch | InsightReader | WeeklySender
LOCK_PATIENCE_S = 12.0  # a predecessor that drains may hold it for ten seconds
OPEN_PATIENCE_S: Final = 10.0  # until a database that has no room must open
# The data_version pragma costs two microseconds; a Purchase waits 0.75 s for company, so this is soon enough.
_POLL_S: Final = 0.1
_QUIET_POLL_S: Final = 0.25  # after a second without a commit: looking is half of what an idle courier costs
_QUIET_MS: Final = 1_000
_RELOAD_S: Final = 2.0
_DRAIN_S: Final = 8.0
_CACHE_MB: Final = 8  # the queue's head and nothing more: memory stays flat at any backlog


def run(config: Config, ready: Callable[[], None] | None = None) -> int:
    """Deliver until SIGTERM; the exit code. `ready` is called once the outbox is open and taken over."""
    try:
        with _alone(config.storage) if delivery.is_alone(config) else nullcontext():
            _loop_runner()(_main(config, ready))
    except Exception as error:
        if (told := damage.explained(error, DATABASE)) is None:
            raise
        log.failed(str(told), error)
        return 1 if is_locked(error) else 3
    return 0


def _loop_runner() -> Callable[..., object]:
    try:
        import uvloop
    except ImportError:
        return asyncio.run
    return uvloop.run


@contextmanager
def _alone(storage: StorageConfig) -> Iterator[None]:
    """One courier at a time: two would send every event twice. The kernel gives the lock back when we die."""
    path = prepare_data_dir(storage) / LOCK
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        deadline = time.monotonic() + LOCK_PATIENCE_S
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise StorageError("another courier works on this data directory") from None
                time.sleep(0.05)
        yield
    finally:
        os.close(fd)


async def _main(config: Config, ready: Callable[[], None] | None) -> None:
    courier = Courier(config)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, courier.stop)
    loop.add_signal_handler(signal.SIGINT, courier.stop)
    loop.add_signal_handler(signal.SIGHUP, courier.reload)
    await courier.run(ready)


class Courier:
    """Every pixel's queue, the housekeeping and the watch over both."""

    def __init__(
        self,
        config: Config,
        *,
        clock: Callable[[], int] = system_ms,
        ticks: Callable[[], int] = boot_ms,
        dice: Callable[[], float] = random.random,
    ) -> None:
        self._config = config
        self._clock = clock
        self._ticks = ticks
        self._dice = dice
        self._stats = Stats()
        self._queues: dict[str, PixelQueue] = {}
        self._unknown = Once("nobody can tell which pixels are ours")
        self._targets = targets_of(config)
        self._insights: list[InsightReader] = []
        self._stopping = asyncio.Event()
        self._reload_now = asyncio.Event()

    def stop(self) -> None:
        """Settle what is in flight and end."""
        self._stopping.set()

    def reload(self) -> None:
        """Read the configuration again, and try every queue that is blocked, whatever was mended."""
        self._reload_now.set()
        for reader in self._insights:
            reader.try_now()

    async def run(self, ready: Callable[[], None] | None = None) -> None:
        """Deliver until `stop`."""
        storage = msgspec.structs.replace(self._config.storage, cache_mb=_CACHE_MB)
        if (doubt := versions.warning(self._config.meta.api_version, datetime.now(UTC).date())) is not None:
            log.warning("api_version", setting="meta.api_version", fault=doubt)
        side = await self._opened(lambda: delivery.opened(msgspec.structs.replace(self._config, storage=storage)))
        desk = Desk(side.outbox)
        graph = GraphClient(self._config.meta)
        stores = {pixel.id: store.id for store in self._config.store for pixel in store.pixel}
        alerts = Alerts(self._config.alerts, stores, f"http://{self._config.console.listen}")
        self._time = Timekeeper(side.kept, self._clock, self._ticks)
        self._house = house = Housekeeping(
            side.upkeep,
            desk,
            self._queues,
            self._stats,
            alerts,
            self._config.privacy,
            self._time,
            lambda: self._metas_clock(graph),
            side.night,
            side.loss,
            Revisions(self._config.alerts.revisions_url, side.notices),
            Copies(self._config, alerts),
            Disk(self._config, side.upkeep, alerts),
        )
        try:
            await self._take_over(desk)
            if ready is not None:
                ready()
            with self._beside(desk, graph, alerts, side) as beside:
                await self._serve(desk, graph, alerts, house, beside, side.commits)
        finally:
            await graph.close()
            with suppress(Unavailable):
                await desk.once(desk.outbox.release)
            desk.close()
            house.close()
            side.close()

    @contextmanager
    def _beside(self, desk: Desk, graph: GraphClient, alerts: Alerts, side: Side) -> Iterator[Sequence[Beside]]:
        """The work beside events: shops, the ad account, the week's report."""
        with (
            shop_work(self._config, side.books(), alerts, self._time.clock) as shops,
            insight_work(
                self._config, desk, graph, alerts, self._time.clock, self._queues, self._read_again, side.books
            ) as self._insights,
            weekly_work(self._config, side.books, self._time.clock.trusted) as reports,
        ):
            yield [*shops, *self._insights, *reports]

    async def _metas_clock(self, graph: GraphClient) -> int | None:
        """What Graph's clock shows (ms); None where nothing is sent to Meta, or it does not say."""
        if self._config.meta.mode != "live":
            return None
        answer = await graph.ask(base_of(self._config.meta))
        return date_of(answer.headers) if is_metas(classify(answer, 0)) else None

    async def _opened(self, opening: Callable[[], T]) -> T:
        """What `opening` gives; at a start on a full disk it fails until the edge has freed its reserve."""
        deadline = time.monotonic() + OPEN_PATIENCE_S
        while True:
            try:
                return opening()
            except Exception as error:
                if self._stopping.is_set() or time.monotonic() > deadline or not may_open_later(error):
                    raise
            await asyncio.sleep(_POLL_S)

    async def _take_over(self, desk: Desk) -> None:
        now = self._time.clock()

        doubtful = await desk.insist(lambda: desk.outbox.take_over(now))
        self._stats.ambiguous += doubtful
        if doubtful:
            log.warning("a former courier ended in the middle of a request", events=doubtful)

    async def _serve(
        self,
        desk: Desk,
        graph: GraphClient,
        alerts: Alerts,
        house: Housekeeping,
        beside: Sequence[Beside],
        commits: Commits,
    ) -> None:
        async with asyncio.TaskGroup() as around:
            side = [around.create_task(house.run()), around.create_task(alerts.run())]
            side += [around.create_task(one.run()) for one in beside]
            if self._config.meta.mode != "off":
                side.append(around.create_task(self._watch_config()))
            await self._deliver(desk, graph, alerts, house, commits)
            with suppress(Exception):
                await house.beat()
            for task in side:
                task.cancel()

    async def _deliver(
        self, desk: Desk, graph: GraphClient, alerts: Alerts, house: Housekeeping, commits: Commits
    ) -> None:
        """Run a queue for each pixel that appears; after `stop`, wait for the requests in flight."""
        tasks: list[asyncio.Task[None]] = []
        try:
            async with asyncio.TaskGroup() as group:
                busy = leased = self._ticks()
                while not self._stopping.is_set():
                    if happened := commits.happened():
                        busy = self._ticks()
                        house.stir()
                    if happened or self._ticks() - leased >= desk.outbox.lease_ms:
                        leased = self._ticks()
                        for queue in self._begun(await self._pixels(desk), desk, graph, alerts):
                            tasks.append(group.create_task(queue.run()))
                    for queue in self._queues.values() if happened else ():
                        queue.look()
                    quiet = self._ticks() - busy > _QUIET_MS
                    await told(self._stopping, _QUIET_POLL_S if quiet else _POLL_S)
                for queue in self._queues.values():
                    queue.stop()
                _, running = await asyncio.wait(tasks, timeout=_DRAIN_S) if tasks else (set(), set())
                for task in running:
                    task.cancel()  # its request stays written as in flight; the next courier takes it over as in doubt
        finally:
            self._stopping.set()

    async def _pixels(self, desk: Desk) -> dict[str, int] | None:
        """Whose events are delivered from here, and their numbers; None where nobody can tell for the moment."""
        if self._config.meta.mode == "off":
            return {}
        try:
            mine = await desk.once(lambda: desk.outbox.lease(self._time.clock()))
        except Unavailable as error:
            self._unknown.failed(error)
            return None
        self._unknown.over()
        return mine

    def _begun(self, mine: dict[str, int] | None, desk: Desk, graph: GraphClient, alerts: Alerts) -> list[PixelQueue]:
        """The queues of pixels that are new here; those of pixels that are another courier's by now end."""
        if mine is None:
            return []
        for name in self._queues.keys() - mine.keys():
            self._queues.pop(name).stop()
        begun = {name: self._queue(name, mine[name], desk, graph, alerts) for name in mine if name not in self._queues}
        self._queues |= begun
        return list(begun.values())

    def _queue(self, name: str, number: int, desk: Desk, graph: GraphClient, alerts: Alerts) -> PixelQueue:
        return PixelQueue(
            number,
            self._targets.get(name, Target(name)),
            meta=self._config.meta,
            desk=desk,
            graph=graph,
            alerts=alerts,
            time=self._time,
            ticks=self._ticks,
            dice=self._dice,
            stats=self._stats,
        )

    def _wake(self) -> None:
        for queue in self._queues.values():
            queue.wake()

    async def _watch_config(self) -> None:
        """Settings are read again on SIGHUP, and by themselves while a queue is blocked: something of them is bad."""
        while True:
            await told(self._reload_now, _RELOAD_S)
            asked = self._reload_now.is_set()
            if asked or any(queue.blocked for queue in self._queues.values()):
                self._reload_now.clear()
                self._take_targets()
            if asked:
                for queue in list(self._queues.values()):
                    queue.try_now()

    def _read_again(self) -> Config | None:
        """The configuration as it stands now; None where there is no file, or a faulty one."""
        if self._config.path is None:
            return None
        try:
            return load(self._config.path, os.environ, role="courier")
        except ConfigError as error:
            for fault in error.faults:
                log.error("the configuration was not taken over", fault=fault)
            return None

    def _take_targets(self) -> None:
        if (config := self._read_again()) is None:
            return
        # A token that only the supervisor's environment has is absent here: what cannot be read again stays.
        self._targets |= {name: target for name, target in targets_of(config).items() if target.token}
        for name, queue in list(self._queues.items()):
            queue.retarget(self._targets.get(name, Target(name)))
