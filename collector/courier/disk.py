"""Is the disk filling up, and how old is the newest backup? Looked at each minute; told in the sign of life."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from collector.config import Config
from collector.core import filling
from collector.core.retention import cuts
from collector.courier.alerts import Alerts
from collector.storage.delivery import Upkeep
from collector.storage.ground import copies

_MB: Final = 1 << 20


class Disk:
    """Of the data directory. `figures`: what was seen last."""

    def __init__(self, config: Config, upkeep: Upkeep, alerts: Alerts) -> None:
        self._config, self._upkeep, self._alerts = config, upkeep, alerts
        self.figures: dict[str, int] = {}

    def look(self, now: int) -> str | None:
        """What a person should know, at `now` (ms)."""
        free = shutil.disk_usage(self._config.storage.data_dir).free
        reserve = self._config.storage.reserve_mb * _MB
        days = filling.days_left(free, reserve, self._upkeep.growth(now, cuts(self._config.privacy, now).clicks))
        self.figures = {"diskFreeBytes": free}
        if days is not None:
            self.figures["diskDays"] = days
        if self._config.backup.dir and (newest := copies.newest_ms(Path(self._config.backup.dir))) is not None:
            self.figures["newestBackupAt"] = newest
        return filling.warning(free, reserve, days)

    def tell(self, told: str | None, now: int) -> None:
        if told is not None:
            self._alerts.raised("disk", "", told, now)
        else:
            self._alerts.over("disk", now)
