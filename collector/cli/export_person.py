"""`collector export-person`: all that is held of a person, as one readable JSON document."""

from __future__ import annotations

import argparse
import sys
import time

import msgspec

from collector.cli.erase import asked_of, noted
from collector.cli.output import private_file, refuse_ours
from collector.cli.settings import BOTH, config_of
from collector.errors import ConfigError
from collector.process import hardening
from collector.storage.forgetting import held_of

_encode = msgspec.json.Encoder(decimal_format="number").encode


def run(args: argparse.Namespace) -> int:
    config = config_of(args, engines=BOTH)
    if args.store is not None and config.store_by_id(args.store) is None:
        raise ConfigError([f"--store: '{args.store}' is not in the configuration"])
    if args.output is not None:
        refuse_ours("--output", args.output, config)
    asked = asked_of(args)
    hardening.harden()
    now = time.time_ns() // 1_000_000
    noted(config, "export-person", asked, args.store, now)
    found = held_of(config, args.store, asked, now)
    document = msgspec.json.format(_encode(found), indent=2) + b"\n"
    if args.output is None:
        sys.stdout.buffer.write(document)
    else:
        with private_file(args.output) as out:
            out.write(document)
    clicks, events = (sum(len(store[kind]) for store in found["stores"]) for kind in ("clicks", "events"))
    print(f"{clicks} clicks and {events} events of this person", file=sys.stderr)
    return 0
