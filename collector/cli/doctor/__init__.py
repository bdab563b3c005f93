"""`collector doctor`: looks at everything that can be wrong, from outside too, and says how each is mended."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Iterator
from typing import Final

from collector.cli.doctor import machine, outside, server
from collector.cli.output import print_json, print_table
from collector.cli.settings import settings_of
from collector.config import Config
from collector.errors import ConfigError, NoStore, StorageError
from collector.storage.reports import commands, judged
from collector.storage.reports.findings import Finding, fail, ok, warn

_MARKS: Final = {"ok": "ok  ", "warn": "WARN", "fail": "FAIL"}


def run(args: argparse.Namespace) -> int:
    """0 where nothing fails, 1 otherwise; a configuration that cannot be read is a failure like any other."""
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it logs whole URLs at INFO
    found = list(examine(args))
    if args.json:
        print_json(found)
    else:
        print_table([[_MARKS[one.level], one.check, one.what] for one in found])
        for one in found:
            if one.mend:
                print(f"\n{one.check}: {one.what}\n  {one.mend}")
    return 1 if any(one.level == "fail" for one in found) else 0


def examine(args: argparse.Namespace) -> Iterator[Finding]:
    """Every finding, in the order in which a person would look."""
    try:
        settings = settings_of(args)
    except ConfigError as error:
        for fault in error.faults:
            yield fail("config", fault, "collector config check tells all faults; config.example.toml has every key")
        return
    yield ok("config", args.config or "the demo configuration")
    for warning in settings.warnings:
        yield warn("config", warning, "collector config check")
    yield from _examine(settings.config, args.code)


def _examine(config: Config, code: str | None) -> Iterator[Finding]:
    now = machine.now_ms()
    of_data: tuple[Callable[[], Iterator[Finding]], ...] = (
        lambda: machine.of_files(config),
        lambda: _database(config, now),
        lambda: machine.of_backups(config, now),
        lambda: machine.of_newest_backup(config),
    )
    if config.storage.engine == "postgres":  # whose backups are the server's
        of_data = (lambda: server.look(config, now),)
    parts: tuple[Callable[[], Iterator[Finding]], ...] = (
        lambda: machine.of_settings(config),
        *of_data,
        machine.of_limits,
        lambda: machine.of_certificate(config),
        lambda: outside.look(config),
        lambda: outside.take_a_test(config, code, now),
    )
    for part in parts:
        yield from part()


def _database(config: Config, now: int) -> Iterator[Finding]:
    growth = 0
    try:
        facts = commands.health(config, now)
    except NoStore:
        pass  # said by of_files
    except StorageError as error:
        yield fail("database", str(error), "collector damage show; or put a backup in its place: collector restore")
    else:
        growth = facts.bytes_a_day
        yield from machine.of_key(config, facts.witness)
        yield from judged.judge(facts, config, now)
    yield from machine.of_disk(config, growth)
