"""When is the next backup due, and what became of the last? Made by the courier, on a thread of its own."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from collector.config import Config
from collector.courier.alerts import Alerts
from collector.errors import CollectorError
from collector.storage.ground import backup, copies
from collector.telemetry import logger

log = logger("courier")

_HOUR_MS: Final = 3_600_000
_AGAIN_MS: Final = _HOUR_MS // 4  # after one that failed


class Copies:
    """Backups on schedule: the newest file's time decides, so that a restart neither skips nor repeats one."""

    def __init__(self, config: Config, alerts: Alerts) -> None:
        self._config = config
        self._alerts = alerts
        self._not_before = 0
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="backup")

    async def step(self, now: int) -> None:
        """Make one if it is due; a failure is told, and tried again in a quarter of an hour. `now` in ms."""
        if not self._is_due(now):
            return
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._make, now)
        except (CollectorError, OSError) as error:
            self._not_before = now + _AGAIN_MS
            log.failed("no backup could be made", error, fault=str(error))
            self._alerts.raised("backup", "", f"no backup could be made: {error}", now)
        else:
            self._alerts.over("backup", now)

    def _is_due(self, now: int) -> bool:
        wanted = self._config.backup
        if not wanted.dir or now < self._not_before:
            return False
        newest = copies.newest_ms(Path(wanted.dir))
        return newest is None or not newest <= now < newest + int(wanted.every_hours * _HOUR_MS)

    def _make(self, now: int) -> None:
        folder = Path(self._config.backup.dir)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path, manifest = backup.backup(self._config, folder, now)
        gone = copies.thin(folder, self._config.backup.keep)
        log.info("a backup was made and verified", path=str(path), bytes=manifest.database_bytes, count=len(gone))

    def close(self) -> None:
        """Wait for the one that is being made."""
        self._thread.shutdown()
