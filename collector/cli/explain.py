"""`collector explain`: why a conversion was or was not attributed, what was sent, what Meta said."""

from __future__ import annotations

import argparse

import msgspec

from collector.cli.output import print_json
from collector.cli.settings import BOTH, config_of
from collector.errors import CollectorError
from collector.storage.reports import commands


def explain(args: argparse.Namespace) -> int:
    found = commands.explain(config_of(args, engines=BOTH), args.id)
    if found is None:
        raise CollectorError(f"there is no conversion with the id '{args.id}'")
    if args.json:
        print_json(found)
    else:
        print(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
    return 0
