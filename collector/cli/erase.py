"""`collector erase`: a person's data, everywhere, with a receipt."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
from typing import Any, Final

import msgspec

from collector.cli.output import print_json, print_table, timestamp
from collector.cli.settings import BOTH, config_of
from collector.config import Config
from collector.errors import CollectorError, ConfigError
from collector.process import hardening
from collector.storage.forgetting import erase_person
from collector.storage.ground import audit
from collector.storage.verbs.erasing import Erasure
from collector.storage.verbs.person import Asked

_STDIN: Final = "-"
_COLUMNS: Final = {
    "store": "store",
    "clicks": "clicks",
    "conversions": "conversions",
    "visitors": "visitors",
    "links": "links",
    "answers": "answers",
    "sent": "Meta has",
    "notSent": "unsent",
}
_SHARED: Final = (
    "A value belongs to more browsers or customers than one person has (a till's, a shop's own): "
    "nobody was followed from it."
)
_META: Final = "What Meta has been sent, Meta alone can erase."
_COPIES: Final = "Backups and exports made before are not touched: delete them, or make them anew."
_LOG: Final = "Somebody still reads pages of before, so not all copies are overwritten; run it again in a minute."


def run(args: argparse.Namespace) -> int:
    config = config_of(args, engines=BOTH)
    if args.store is not None and config.store_by_id(args.store) is None:
        raise ConfigError([f"--store: '{args.store}' is not in the configuration"])
    asked = asked_of(args)
    hardening.harden()
    now = time.time_ns() // 1_000_000
    if not args.dry_run and not args.yes:
        _ask(erase_person(config, args.store, asked, now, dry_run=True))
    if not args.dry_run:
        noted(config, "erase", asked, args.store, now)
    _show(args, erase_person(config, args.store, asked, now, dry_run=args.dry_run))
    return 0


def asked_of(args: argparse.Namespace) -> Asked:
    """Who is meant, by the flags that `erase` and `export-person` share; a request's number is no flag."""
    return Asked(**{name: _value(getattr(args, name, None)) for name in Asked.__struct_fields__})


def noted(config: Config, action: str, asked: Asked, store: str | None, now: int) -> None:
    """The audit's line: by which kind of value the person was named, never by which."""
    by = next(name for name in Asked.__struct_fields__ if getattr(asked, name) is not None)
    if os.path.isdir(config.storage.data_dir):  # else there is nothing to be done
        with hardening.for_the_owner(config.storage.data_dir):
            audit.note(config.storage.data_dir, action, now, by=by, store=store)


def _value(given: str | None) -> str | None:
    """What a flag says; "-" reads it from standard input, where no list of processes shows it."""
    if given is not None and not given.strip():
        raise ConfigError(["who is meant is empty; write the value, or - and the value on standard input"])
    if given != _STDIN:
        return given
    line = sys.stdin.readline().strip()
    if not line:
        raise ConfigError(["-: standard input is empty; write the value there, on one line"])
    return line


def _ask(would: Erasure) -> None:
    if not sys.stdin.isatty():
        raise ConfigError(["--yes: nobody is there to be asked; look with --dry-run, then say --yes"])
    with contextlib.redirect_stdout(sys.stderr):  # stdout is for the receipt
        _table(would)
        print("Erase this for good? [y/N] ", end="", flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise CollectorError("nothing was erased")


def _table(erasure: Erasure) -> None:
    print_table([list(_row(r).values()) for r in erasure.receipts], list(_COLUMNS.values()))


def _row(receipt: Any) -> dict[str, Any]:
    fields = msgspec.to_builtins(receipt)
    return {name: fields[name] for name in _COLUMNS}


def _show(args: argparse.Namespace, done: Erasure) -> None:
    if args.json:
        print_json({**msgspec.to_builtins(done), "at": timestamp(done.at), "dryRun": args.dry_run})
        return
    _table(done)
    print("nothing was erased: --dry-run" if args.dry_run else f"erased at {timestamp(done.at)}")
    notes = [(any(r.shared for r in done.receipts), _SHARED), (any(r.sent for r in done.receipts), _META)]
    notes += [(not args.dry_run, _COPIES), (not done.cleared, _LOG)]
    for applies, note in notes:
        if applies:
            print(note, file=sys.stderr)
