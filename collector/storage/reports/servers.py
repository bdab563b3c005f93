"""What does it mean how the PostgreSQL that [storage] names stands? Pure, as judged.py is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from collector.storage.reports.findings import Finding, ok, warn
from collector.storage.rules.standing import Reads, Standing

_BEHIND_S: Final = 60


def judge_server(found: Standing) -> Iterator[Finding]:
    """What the PostgreSQL that [storage] names tells of itself, its standbys and the machines over it."""
    seen = f"{found.version} at {found.primary}, schema {found.schema}, {found.database_bytes / 1e6:.1f} MB"
    if not found.schema:
        yield warn("database", f"{seen}: it is empty", "start a collector; it makes the tables")
    else:
        yield ok("database", seen)
    for doubt in found.doubts:
        yield warn("server", doubt, "collector/README.md says what is relied on")
    if not found.doubts:
        standbys = ", ".join(f"{s.name} ({s.sync})" for s in found.standbys) or "none"
        yield ok("server", f"its clock is this machine's, its standbys are: {standbys}")
    yield from _of_reads(found.reads)
    for edge in found.edges:
        if edge.over:
            yield warn(
                "edge",
                f"edge {edge.number} ({edge.owner}) ended without a word {edge.silent_seconds} s ago",
                "any keeper that runs looks through what it has left; start one",
            )


def _of_reads(reads: Reads | None) -> Iterator[Finding]:
    if reads is None:
        return
    if reads.problem is not None:
        mend = "mend what it says, or take [storage] read_dsn out; until then the console reads at dsn"
        yield warn("server.reads", f"{reads.at} cannot be asked: {reads.problem}", mend)
    elif reads.behind_seconds > _BEHIND_S:
        what = f"{reads.at}, where the console reads, is {reads.behind_seconds} s behind"
        yield warn("server.reads", what, "does it still follow the primary? collector status lists the standbys")
    else:
        kind = "a standby" if reads.standby else "no standby"
        yield ok("server.reads", f"the console reads at {reads.at}, {kind}, {reads.behind_seconds} s behind")
