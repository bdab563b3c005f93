"""`collector share create`, `list`, `revoke`: a link to some days' sums of one shop, for whoever has no log-in."""

from __future__ import annotations

import argparse
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from zoneinfo import ZoneInfo

from collector.cli.keys import now_ms
from collector.cli.output import print_json, print_table, timestamp
from collector.cli.settings import BOTH, config_of
from collector.config import Config
from collector.core import shares as core
from collector.core.days import RANGES, Days, day_of, days_of, zone_of
from collector.core.event_names import STANDARD
from collector.core.keyed import KeyedHash
from collector.core.shares import MOST_DAYS, Share
from collector.errors import CollectorError, ConfigError
from collector.process import hardening
from collector.storage import engine
from collector.storage.engine import Shares
from collector.storage.ground import audit, pepper
from collector.storage.rules.shares import Kept

_DAY_MS = 86_400_000


def create(args: argparse.Namespace) -> int:
    config, now = config_of(args, engines=BOTH), now_ms()
    days = _days(args, config, now)
    if args.event not in STANDARD:
        raise ConfigError([f"--event: '{args.event}' is no standard event; known are {', '.join(sorted(STANDARD))}"])
    if not 1 <= args.valid <= MOST_DAYS:
        raise ConfigError([f"--valid: a link lives for 1 to {MOST_DAYS} days"])
    expires = now + args.valid * _DAY_MS
    share = Share(secrets.token_hex(8), args.store, days.first, days.last, args.event, expires)
    with _shares(config) as shares:
        link = f"{_console(config)}/share/{core.seal(share, _key(config))}"
        audit.note(config.storage.data_dir, "share create", now, id=share.id, store=share.store)
        shares.put(share, now)
    told = {"id": share.id, "link": link, "store": share.store, "from": str(days.first), "to": str(days.last)}
    if args.json:
        print_json({**told, "event": share.event, "expires": timestamp(expires)})
    else:
        print_table([[name, said] for name, said in told.items()] + [["expires", timestamp(expires)]])
        if not config.alerts.console_url:
            print("It leads to [console] listen; set [alerts] console_url to the address by which others reach it.")
    return 0


def show(args: argparse.Namespace) -> int:
    with _shares(config_of(args, engines=BOTH)) as shares:
        found = shares.list()
    if args.json:
        print_json([_told(share) for share in found])
        return 0
    rows = [[s.id, s.store, s.first, s.last, s.event, timestamp(s.expires), _state(s, now_ms())] for s in found]
    print_table(rows, head=["id", "store", "from", "to", "event", "expires", "state"])
    return 0


def revoke(args: argparse.Namespace) -> int:
    config = config_of(args, engines=BOTH)
    with _shares(config) as shares:
        audit.note(config.storage.data_dir, "share revoke", now_ms(), id=args.id)
        if not shares.revoke(args.id, now_ms()):
            raise CollectorError(f"no link with the id '{args.id}' is in force; `collector share list` shows them")
    print_json({"id": args.id, "revoked": True}) if args.json else print(f"{args.id} is revoked")
    return 0


@contextmanager
def _shares(config: Config) -> Iterator[Shares]:
    """Beside a running `serve`."""
    hardening.harden()
    with hardening.for_the_owner(config.storage.data_dir), engine.shares(config) as shares:
        if config.storage.engine == "postgres":  # for the audit: a machine that only asks has none yet
            os.makedirs(config.storage.data_dir, mode=0o700, exist_ok=True)
        yield shares


def _told(share: Kept) -> dict[str, str | None]:
    times = {"made": timestamp(share.made), "expires": timestamp(share.expires), "revoked": timestamp(share.revoked)}
    days = {"from": share.first, "to": share.last}
    return {"id": share.id, "store": share.store, **days, "event": share.event, **times}


def _state(share: Kept, now: int) -> str:
    if share.revoked is not None:
        return "revoked"
    return "expired" if share.expires <= now else "in force"


def _days(args: argparse.Namespace, config: Config, now: int) -> Days:
    """The shop's days that `--range` names; they stay these, whenever the link is opened."""
    store = config.store_by_id(args.store)
    if store is None:
        known = ", ".join(store.id for store in config.store) or "none"
        raise ConfigError([f"--store: '{args.store}' is not in the configuration; it has {known}"])
    zone = zone_of(store.timezone) or ZoneInfo("UTC")
    days = days_of(args.range, day_of(now, zone))
    if days is None:
        raise ConfigError([f"--range: '{args.range}' is none of {', '.join(RANGES)} or 2026-11-01..2026-11-15"])
    return days


def _key(config: Config) -> bytes:
    path = pepper.path_of(config.storage.data_dir, config.privacy.pepper_file)
    key = pepper.read(path)
    if key is None:
        raise CollectorError(f"no key at {path}; start the edge (collector serve) first")
    return KeyedHash(key).subkey(core.PURPOSE)


def _console(config: Config) -> str:
    return (config.alerts.console_url or f"http://{config.console.listen}").rstrip("/")
