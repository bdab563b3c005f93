"""`collector replay`: put dead letters back in the queue, with the same event ids."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Final

from collector.cli.output import print_json, print_table
from collector.cli.settings import BOTH, config_of
from collector.core.capi.states import BY_NAME, CapiState
from collector.core.ids import PublicIds
from collector.errors import ConfigError
from collector.process import hardening
from collector.storage import engine
from collector.storage.ground import audit
from collector.storage.rules.replays import Replayed

_UNITS: Final = {"m": 60, "h": 3_600, "d": 86_400}
_SHOWN: Final = 20


def run(args: argparse.Namespace) -> int:
    config = config_of(args, engines=BOTH)
    if args.store is not None and config.store_by_id(args.store) is None:
        raise ConfigError([f"--store: '{args.store}' is not in the configuration"])
    states, since = states_of(args.status), since_of(args.since, _now())
    hardening.harden()
    ids = engine.public_ids(config)
    if not args.dry_run:
        audit.note(config.storage.data_dir, "replay", _now(), status=args.status, since=args.since, store=args.store)
    answers = engine.replay(config, states, now=_now(), store=args.store, since=since, dry_run=args.dry_run)
    _show(args, answers, ids)
    return 0


def states_of(names: list[str]) -> list[CapiState]:
    """The states that `--status` names; ConfigError for a name that is none."""
    unknown = [name for name in names if name not in BY_NAME]
    if unknown:
        raise ConfigError([f"--status: '{name}' is none of {', '.join(BY_NAME)}" for name in unknown])
    return [BY_NAME[name] for name in names]


def since_of(text: str | None, now: int) -> int:
    """Milliseconds: `2d`, `12h`, `30m` before now, or an RFC 3339 time; 0 without one."""
    if not text:
        return 0
    if text[-1] in _UNITS and text[:-1].isdigit():
        return now - int(timedelta(seconds=int(text[:-1]) * _UNITS[text[-1]]).total_seconds() * 1000)
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError([f"--since: '{text}' is no time; write 2d, 12h or 2026-01-31T06:00:00Z"]) from None
    return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)


def _show(args: argparse.Namespace, answers: list[Replayed], ids: PublicIds) -> None:
    queued = [answer for answer in answers if answer.refused is None]
    refused = [answer for answer in answers if answer.refused is not None]
    if args.json:
        items = [
            {"conversionId": ids.public("conv", a.conversion), "pixel": a.pixel, "reason": a.refused} for a in refused
        ]
        print_json({"queued": len(queued), "refused": len(refused), "dryRun": args.dry_run, "refusals": items})
        return
    print_table([["would be queued" if args.dry_run else "queued again", len(queued)], ["refused", len(refused)]])
    for reason, count in Counter(answer.refused for answer in refused).most_common(_SHOWN):
        print(f"  {count} × {reason}")
    if any(a.refused for a in answers):
        print("`collector replay … --json` names each of them", file=sys.stderr)


def _now() -> int:
    return time.time_ns() // 1_000_000
