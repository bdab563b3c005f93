"""What is wrong with the PostgreSQL that [storage] names, and with the machines over it?"""

from __future__ import annotations

from collections.abc import Iterator

from collector.cli.doctor.machine import of_key
from collector.config import Config
from collector.errors import StorageError
from collector.storage.ground import pepper
from collector.storage.reports.findings import Finding, fail, ok, warn


def look(config: Config) -> Iterator[Finding]:
    """Each finding of the server; where it cannot be used, why."""
    from collector.storage.postgres.standing import key_check, standing  # the driver is loaded where it is chosen

    try:
        found, check = standing(config.storage), key_check(config.storage)
    except StorageError as error:
        yield fail("database", str(error), "mend what it says; collector status looks again")
        return
    seen = f"{found.version} at {found.primary}, schema {found.schema}, {found.database_bytes / 1e6:.1f} MB"
    if not found.schema:
        yield warn("database", f"{seen}: it is empty", "start a collector; it makes the tables")
    else:
        yield ok("database", seen)
        yield from of_key(config, pepper.Witness(check, named=check is not None))
    for doubt in found.doubts:
        yield warn("server", doubt, "collector/README.md says what is relied on")
    if not found.doubts:
        standbys = ", ".join(f"{s.name} ({s.sync})" for s in found.standbys) or "none"
        yield ok("server", f"its clock is this machine's, its standbys are: {standbys}")
    for edge in found.edges:
        if edge.over:
            yield warn(
                "edge",
                f"edge {edge.number} ({edge.owner}) ended without a word {edge.silent_seconds} s ago",
                "any keeper that runs looks through what it has left; start one",
            )
