"""`collector status`: how everything stands, at a glance."""

from __future__ import annotations

import argparse
import time
from decimal import Decimal

from collector.cli import machines
from collector.cli.formatting import duration, section
from collector.cli.output import print_json, print_table
from collector.cli.settings import BOTH, config_of
from collector.storage.reports import commands
from collector.storage.reports.shop_ways import ShopWays
from collector.storage.reports.status import Confidence, Counts, Status


def status(args: argparse.Namespace) -> int:
    config = config_of(args, engines=BOTH)
    if config.storage.engine == "postgres":
        return machines.status(config, as_json=args.json)
    found = commands.status(config, time.time_ns() // 1_000_000)
    if args.json:
        print_json(found)
    else:
        _show(found)
    return 0


def _show(found: Status) -> None:
    stored = f"{found.total_clicks} clicks, {found.total_conversions} conversions and events"
    print_table([["database", f"{found.database}, {found.database_bytes / 1e6:.1f} MB, {stored}"]])
    if found.clock.advice:
        print(found.clock.advice)
    held = f", held up by a reader for {duration(found.oldest_reader_seconds)}" if found.oldest_reader_seconds else ""
    print_table([["log", f"{found.wal_bytes / 1e6:.1f} MB{held}"]])
    section("attribution", [_counts("today", found.today), _counts("7 days", found.days7)], _COUNTED)
    money = [[r.currency, _money(r.value), _money(r.attributed)] for r in found.revenue7]
    section("revenue of 7 days", money, ["currency", "purchases", "attributed"])
    waiting = [[q.pixel, q.state, q.events, duration(q.oldest_seconds)] for q in found.queue]
    section("queue", waiting or [["empty", "", "", ""]], ["pixel", "state", "events", "oldest"])
    pixels = [[p.pixel, p.state, p.since or "-", p.last_success or "never", p.reason or "-"] for p in found.pixels]
    section("delivery", pixels, ["pixel", "state", "since", "last success", "reason"])
    if (ads := found.insights) is not None:
        days = f"{ads.since} to {ads.until}" if ads.since else "-"
        row = [ads.account, ads.last_read or "never", days, ads.timezone or "-", ads.fault or "-"]
        section("insights", [row], ["ad account", "last read", "days known", "zone", "fault"])
    for shop in found.shops:
        _show_shop(shop)
    _show_confidence(found.confidence)
    if found.ambiguous7:
        print(f"\n{found.ambiguous7} events in doubt in 7 days: sent, no answer, sent again with the same ids")
    section("processes", [[p.process, f"{duration(p.age_seconds)} ago"] for p in found.processes], ["name", "seen"])


def _show_shop(found: ShopWays) -> None:
    """What to paste into the platform's page, and what has come by it."""
    rows = [[w.name, w.url, w.last_delivery or "never", w.last_order or "never"] for w in found.webhooks]
    section(f"shop {found.store}", rows, ["webhook", "address to paste", "last message", "last order"])
    for webhook in found.webhooks:
        print(f"  {webhook.name} topics: {', '.join(webhook.topics)}")
    if found.last_ping:
        print(f"  last ping: {found.last_ping}")
    for title, counts in (("refused", found.refused7), ("ignored", found.ignored7)):
        if counts:
            print(f"  {title} in 7 days: {', '.join(f'{reason} {n}' for reason, n in counts.items())}")
    if found.pulls_from:
        print(
            f"  pull from {found.pulls_from}: last {found.last_pull or 'never'}, complete to {found.pulled_to or '-'}"
        )


def _show_confidence(found: Confidence) -> None:
    """What is stated beside what came true, per tier; tiers that nothing tells of yet are left out."""
    known = [one for one in found.reliability if one.true is not None]
    rows = [[one.tier, f"{one.stated:.1%}", f"{one.true:.1%}", one.labels] for one in known]
    section("confidence", rows, ["evidence", "stated", "came true", "labels"])
    if found.calibration_error is None:
        print(
            f"\nconfidence of inference: on defaults, with caps; {found.labels} of {found.labels_needed} labels so far"
        )
    else:
        floor = f"{found.noise_floor:.3f} by chance alone"
        print(f"  calibration error of inference {found.calibration_error:.3f} ({floor}, {found.labels} labels)")
    if found.decoy_links_at80 is not None:
        at = f"{found.decoy_links_at80:.4f} at confidence 80, {found.decoy_links_at90:.4f} at 90"
        print(f"  decoy false links per order: {at} ({found.decoy_orders} orders; an upper bound)")


_COUNTED = ["", "clicks", "kept apart", "events", "purchases", "attributed", "share"]


def _counts(name: str, c: Counts) -> list[str]:
    share = "-" if c.share is None else f"{c.share:.0%}"
    return [name, *map(str, (c.clicks, c.kept_apart, c.events, c.purchases, c.attributed)), share]


def _money(value: Decimal) -> str:
    return f"{value:,.2f}"
