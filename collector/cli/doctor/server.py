"""What is wrong with the PostgreSQL that [storage] names, with the machines over it, and with what is in it?"""

from __future__ import annotations

from collections.abc import Iterator

from collector.cli.doctor.machine import of_key
from collector.config import Config
from collector.errors import StorageError
from collector.storage.ground import pepper
from collector.storage.reports import commands, judged, servers
from collector.storage.reports.findings import Finding, fail


def look(config: Config, now: int) -> Iterator[Finding]:
    """Each finding at `now` (ms); where it cannot be used, why."""
    from collector.storage.postgres.standing import key_check, standing  # the driver is loaded where it is chosen

    try:
        found, check = standing(config.storage), key_check(config.storage)
        facts = commands.health(config, now) if found.schema else None
    except StorageError as error:
        yield fail("database", str(error), "mend what it says; collector status looks again")
        return
    yield from servers.judge_server(found)
    if facts is not None:
        yield from of_key(config, pepper.Witness(check, named=check is not None, shared=True))
        yield from judged.judge(facts, config, now)
