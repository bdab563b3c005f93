"""Who reads for the console, on whichever engine keeps the events ([storage] engine)."""

from __future__ import annotations

from typing import Final

from collector.config import Config
from collector.storage.reports.questions import Reading
from collector.storage.reports.reader import DEADLINE_SECONDS, Reader, database

_COUNT_DEADLINE_SECONDS: Final = 60.0  # a slice may need thousands of reads from a slow disk


def of_console(config: Config) -> tuple[Reading, Reading]:
    """One for pages, and one for what is counted beside them, so that no page waits behind it."""
    if config.storage.engine == "postgres":
        from collector.storage.postgres import reading

        pages, counting = reading.of_console(config.storage, DEADLINE_SECONDS, _COUNT_DEADLINE_SECONDS)
        return pages, counting
    path = database(config.storage.data_dir)
    return Reader(path), Reader(path, deadline_seconds=_COUNT_DEADLINE_SECONDS)
