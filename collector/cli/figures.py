"""What `collector status` tells of the sums, on either engine: clicks and sales, ads, shops, how sure it all is."""

from __future__ import annotations

from decimal import Decimal

from collector.cli.formatting import section
from collector.storage.reports.shop_ways import ShopWays
from collector.storage.reports.status import Confidence, Counts, Figures, Status


def show_sales(found: Figures | Status) -> None:
    """What was clicked and sold, and for how much."""
    section("attribution", [_counts("today", found.today), _counts("7 days", found.days7)], _COUNTED)
    money = [[r.currency, _money(r.value), _money(r.attributed)] for r in found.revenue7]
    section("revenue of 7 days", money, ["currency", "purchases", "attributed"])


def show_rest(found: Figures | Status) -> None:
    """Ads, shops, how sure attribution is, and what is in doubt."""
    if (ads := found.insights) is not None:
        days = f"{ads.since} to {ads.until}" if ads.since else "-"
        row = [ads.account, ads.last_read or "never", days, ads.timezone or "-", ads.fault or "-"]
        section("insights", [row], ["ad account", "last read", "days known", "zone", "fault"])
    for shop in found.shops:
        _show_shop(shop)
    _show_confidence(found.confidence)
    if found.ambiguous7:
        print(f"\n{found.ambiguous7} events in doubt in 7 days: sent, no answer, sent again with the same ids")


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
