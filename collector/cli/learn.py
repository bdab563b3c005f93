"""`collector learn`: the nightly step at once."""

from __future__ import annotations

import argparse
import time
from typing import Any

from collector.cli.output import print_json, print_table
from collector.cli.settings import BOTH, config_of
from collector.core.matching import Model
from collector.errors import ConfigError
from collector.process import hardening
from collector.storage import engine


def learn(args: argparse.Namespace) -> int:
    """Learn beside a running `serve`, which puts the new model in force within a minute."""
    config = config_of(args, engines=BOTH)
    if args.store is not None and config.store_by_id(args.store) is None:
        known = ", ".join(store.id for store in config.store) or "none"
        raise ConfigError([f"--store: '{args.store}' is not in the configuration; it has {known}"])
    hardening.harden()
    found = engine.learn(config, time.time_ns() // 1_000_000, args.store)
    lessons = [_lesson(s.id, found.get(s.id)) for s in config.store if args.store in (None, s.id)]
    if args.json:
        print_json(lessons)
    else:
        for lesson in lessons:
            _show(lesson)
    return 0


def _lesson(store: str, model: Model | None) -> dict[str, Any]:
    if model is None:
        return {"store": store, "learnt": False, "reason": "no conversion has settled since the last lesson"}
    return {
        "store": store,
        "learnt": True,
        "model": model.version,
        "labels": model.labels,
        "decoys": round(model.counts.get("dec:all", 0.0)),
        "shareWithAClick": round(model.share, 4),
        "networks": len(model.networks),
        "crowds": len(model.crowds),
        "caps": list(model.caps),
        "calibration": "isotonic" if model.knots else "platt" if model.calibration != (1.0, 0.0) else "none",
    }


def _show(lesson: dict[str, Any]) -> None:
    if not lesson["learnt"]:
        print(f"{lesson['store']}: {lesson['reason']} (a conversion settles in a day of the store's own time)")
        return
    caps = ", ".join(map(str, lesson["caps"]))
    rows = [
        ["model", lesson["model"]],
        ["labels", f"{lesson['labels']} orders that an identity proves, {lesson['decoys']} decoys"],
        ["orders", f"{100 * lesson['shareWithAClick']:.1f} % of those without proof come from a stored click"],
        ["addresses", f"{lesson['networks']} networks known, {lesson['crowds']} addresses of several visitors"],
        ["caps", f"{caps} (by delay)"],
        ["calibration", lesson["calibration"]],
    ]
    print(lesson["store"])
    print_table([["", *row] for row in rows])
