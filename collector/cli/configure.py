"""`collector config check` and `collector config show`."""

from __future__ import annotations

import argparse
import json
import sys

from collector import certificate
from collector.cli.output import print_json, print_table
from collector.cli.settings import settings_of
from collector.config_loader.show import rows
from collector.errors import ConfigError


def check(args: argparse.Namespace) -> int:
    """All faults at once; 2 when there is one."""
    try:
        settings = settings_of(args)
    except ConfigError as error:
        if args.json:
            print_json({"ok": False, "faults": error.faults, "warnings": []})
        else:
            print(error, file=sys.stderr)
        return 2
    warnings = [*settings.warnings, *certificate.doubts(settings.config.edge)]
    if args.json:
        print_json({"ok": True, "faults": [], "warnings": warnings})
    else:
        for warning in warnings:
            print(f"warning: {warning}", file=sys.stderr)
        print(f"{args.config or 'the demo configuration'}: ok")
    return 0


def show(args: argparse.Namespace) -> int:
    settings = settings_of(args)
    shown = rows(settings.config, settings.origins)
    if args.json:
        print_json(shown)
    else:
        values = [f"{row.key} = {json.dumps(row.value)}" for row in shown]
        origins = [[f"# {row.origin}"] if args.origin else [] for row in shown]
        print_table([[value, *origin] for value, origin in zip(values, origins, strict=True)])
    return 0
