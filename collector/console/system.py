"""Is the machine well? What `collector doctor` finds in the database, versions, disk, clock, and who did what."""

from __future__ import annotations

import platform
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from litestar import Response
from msgspec import structs

from collector import __version__
from collector.console import words
from collector.console.bar import Asked, Bar, read
from collector.console.shell import Desk, Note, Word, page
from collector.console.standing import filling, lost, processes
from collector.core import times
from collector.storage.ground import audit
from collector.storage.reports import health, insights, judged, servers
from collector.storage.reports.findings import Finding
from collector.storage.reports.health import Facts
from collector.storage.rules.standing import Held, Reads, Standby

_NOTED: Final = 20
_FINDINGS: Final = 40  # of each kind: a page has 60 KB, however many shops there are
_NAMED: Final = 5
_TONES: Final = {"ok": "good", "warn": "warn", "fail": "bad"}
_WORDS: Final = {"ok": "ok", "warn": "look", "fail": "act"}
_LITTLE_DAYS: Final = 14
_MANY_DAYS: Final = 3650


async def system(desk: Desk, asked: Asked) -> Response[bytes]:
    """The page."""
    bar, now = await read(desk, asked), desk.clock()
    account = await insights.state(desk.reader, desk.config)
    facts = structs.replace(await health.facts(desk.reader, now), insights=account)
    found = [*_of_server(facts.held), *judged.judge(facts, desk.config, now)]
    troubles = sorted((one for one in found if one.level != "ok"), key=lambda one: one.level != "fail")
    fine = [one for one in found if one.level == "ok"]
    alive, silent = await processes(desk, now)
    return page(
        "system.html",
        title="System",
        here="/system",
        bar=bar,
        refresh=30,
        notes=[*lost(desk), *_away(facts.held), *_advice(facts), *await filling(desk, now)],
        looks=[_finding(one) for one in troubles[:_FINDINGS]],
        more_looks=max(0, len(troubles) - _FINDINGS),
        fine=[_finding(one) for one in fine[:_FINDINGS]],
        fine_n=len(fine),
        processes=alive,
        silent=bool(silent),
        versions=_versions(desk, facts),
        stored="The server" if facts.held.log is None else "Disk and backups",
        disk=_disk(desk, facts, now) if facts.held.log is not None else _server(facts),
        clock=_clock(desk, facts, bar),
        acts=_acts(desk, now),
    )


def _of_server(held: Held) -> Iterator[Finding]:
    if held.server is not None:
        yield from servers.judge_server(held.server)


def _away(held: Held) -> list[Note]:
    """The primary cannot be asked: what is read here is the standby's."""
    if held.problem is None:
        return []
    return [Note("bad", f"The primary does not answer: {held.problem}.", "`collector status` says more.")]


def _advice(facts: Facts) -> list[Note]:
    mend = "`collector clock show` says more; set the clock, or `collector clock accept`."
    return [Note("bad", facts.clock.advice, mend)] if facts.clock.advice else []


def _finding(one: Finding) -> dict[str, Any]:
    return {
        "state": Word(_WORDS[one.level], _TONES[one.level]),
        "check": one.check,
        "what": one.what,
        "mend": one.mend,
    }


def _versions(desk: Desk, facts: Facts) -> list[tuple[str, Any]]:
    return [
        ("Collector", __version__),
        ("Database's schema", str(facts.schema)),
        ("Graph API", f"{desk.config.meta.api_version}, {desk.config.meta.mode.replace('_', ' ')}"),
        ("Python", platform.python_version()),
        ("Engine", facts.held.version),
        ("Settings", desk.config.path or "none: the demo's"),
    ]


def _disk(desk: Desk, facts: Facts, now: int) -> list[tuple[str, Any]]:
    seen: dict[str, Any] = {}
    for beat in facts.beats:
        seen |= beat.figures
    free, days, newest = (seen.get(name) for name in ("diskFreeBytes", "diskDays", "newestBackupAt"))
    wanted = desk.config.backup
    plan = f"each {wanted.every_hours:g} h, {wanted.keep} are kept" if wanted.dir else "none are made: [backup] dir"
    return [
        ("Database", words.bytes_(facts.held.bytes)),
        ("Its log", f"{words.bytes_(facts.held.log or 0)} of it"),
        ("Grows", f"{words.bytes_(facts.bytes_a_day)} a day"),
        ("Free", words.bytes_(free) if isinstance(free, int) else "–"),
        ("Full in", _days(days)),
        ("Newest backup", words.ago(newest if isinstance(newest, int) else None, now)),
        ("Backups", plan),
        ("Where", str(Path(desk.config.storage.data_dir))),
    ]


def _server(facts: Facts) -> list[tuple[str, Any]]:
    """Primary, standbys, and the machines over them; of the standby alone where the primary is gone."""
    held, server = facts.held, facts.held.server
    size = [("Database", words.bytes_(held.bytes)), ("Grows", f"{words.bytes_(facts.bytes_a_day)} a day")]
    if server is None:
        return [("Primary", Word("does not answer", "bad")), *size]
    return [
        ("Primary", server.primary),
        ("Standbys", ", ".join(map(_standby, server.standbys)) or "none"),
        *([("The console reads at", _reads(server.reads))] if server.reads else []),
        *size,
        ("Connections", f"{server.connections:,} of {server.most_connections:,}"),
        ("Edges", words.some([edge.owner for edge in server.edges if not edge.over], _NAMED) or "none"),
        ("Couriers", words.some(sorted({p.courier for p in server.pixels if p.courier}), _NAMED) or "none"),
        ("Backups", "the server's own"),
    ]


def _standby(one: Standby) -> str:
    behind = f", {words.bytes_(one.behind_bytes)} behind" if one.behind_bytes else ""
    return f"{one.name} ({one.sync or one.state}{behind})"


def _reads(found: Reads) -> Any:
    if found.problem is not None:
        return Word(f"the primary: {found.at} cannot be asked", "warn")
    return f"{found.at}, {found.behind_seconds} s behind"


def _days(days: Any) -> Any:
    if not isinstance(days, int):
        return "not at this pace"
    if days > _MANY_DAYS:
        return "more than ten years"
    return Word(f"{days:,} days", "bad" if days < _LITTLE_DAYS else "")


def _clock(desk: Desk, facts: Facts, bar: Bar) -> list[tuple[str, Any]]:
    ahead = facts.clock.meta_ahead_seconds
    edge = desk.config.edge
    shops: dict[str, list[str]] = defaultdict(list)
    for store in desk.config.store:
        shops[store.timezone].append(bar.whose_shop(store.id))
    zones = [(f"Days of {words.some(names, _NAMED)}", zone) for zone, names in sorted(shops.items())]
    return [
        ("Time", facts.clock.trusted),
        ("Meta's clock", "not known yet" if ahead is None else f"{ahead:+d} s beside ours"),
        ("Days of all shops", desk.config.console.timezone),
        *zones,
        ("Trusted proxies", ", ".join(edge.trusted_proxies) or "none"),
        ("Address for visitors", edge.public_url or edge.listen),
    ]


def _acts(desk: Desk, now: int) -> list[dict[str, Any]]:
    entries = audit.newest(desk.config.storage.data_dir)
    return [
        {
            "when": words.ago(times.parse(entry.at), now),
            "who": entry.who,
            "what": entry.action,
            "about": ", ".join(f"{name} {value}" for name, value in entry.about.items() if value is not None),
        }
        for entry in reversed(entries[-_NOTED:])
    ]
