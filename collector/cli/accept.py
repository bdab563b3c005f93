"""`collector clock accept`: a person says that this machine's clock is right."""

from __future__ import annotations

import argparse

from collector.cli.output import print_json
from collector.cli.settings import BOTH, config_of
from collector.core import times
from collector.exchange.clock import Clock
from collector.process import hardening
from collector.storage import engine
from collector.storage.ground import audit


def run(args: argparse.Namespace) -> int:
    """Works beside a running `serve`, which sees it within seconds."""
    config = config_of(args, engines=BOTH)
    hardening.harden()
    now = Clock().reading()
    with engine.clock(config) as kept:
        audit.note(config.storage.data_dir, "clock accept", now.system)
        kept.accept(now)
    accepted = times.text(now.system)
    print_json({"accepted": accepted}) if args.json else print(f"accepted: it is {accepted}")
    return 0
