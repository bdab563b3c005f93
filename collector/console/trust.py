"""How sure are we of the clicks, were we right, and what would make us surer? Statistics are folded away."""

from __future__ import annotations

from collections import Counter
from math import sqrt
from typing import Any, Final

from litestar import Response

from collector.console import glossary, plots, signals, words
from collector.console.bar import Asked, Bar, read
from collector.console.shell import Desk, page
from collector.storage.reports import decoys, kept, models, trust
from collector.storage.reports.explain import WHY_NOT
from collector.storage.reports.folds import DAY_MS
from collector.storage.reports.totals import HORIZON_DAYS

_SURE: Final = ((2, "proven", "sure-proven"), (1, "likely", "sure-likely"), (0, "none", "sure-none"))
_Z: Final = 1.96  # of an interval that holds the truth in 95 of 100 cases


async def trust_page(desk: Desk, asked: Asked) -> Response[bytes]:
    """The page."""
    bar, totals = await read(desk, asked), await desk.fresh_totals()
    since = desk.clock() - HORIZON_DAYS * DAY_MS
    learnt = await models.newest(desk.reader)
    wanted = set(bar.stores)
    found = trust.assess(await trust.labels(desk.reader, since), learnt, wanted, desk.config.matching.threshold)
    outcomes: Counter[tuple[str, str]] = Counter()
    for key, n in totals.outcomes(since).items():
        outcomes[key.tier, key.word] += n if key.store in wanted else 0
    tried = await decoys.counted(desk.reader, desk.clock(), wanted)
    names = await desk.stores()
    return page(
        "trust.html",
        title="Trust",
        here="/trust",
        bar=bar,
        sure=await _sure(desk, bar),
        enough=found.labels >= trust.ENOUGH,
        labels=words.number(found.labels),
        needed=words.number(trust.ENOUGH),
        diagram=_diagram(found),
        bins=[_bin(b) for b in found.bins],
        horizon=HORIZON_DAYS,
        counting=not totals.complete,
        signals=signals.told(totals, bar),
        figures=[_error(found), _organic(found), _decoy(tried)],
        tiers=[_tier(t, outcomes) for t in found.tiers],
        outcomes=_outcomes(outcomes),
        models=[
            {
                "store": bar.shops.get(names.get(number, ""), str(number)),
                "version": model.version,
                "labels": words.number(model.labels),
            }
            for number, model in sorted(learnt.items())
            if number in wanted
        ],
    )


async def _sure(desk: Desk, bar: Bar) -> dict[str, Any]:
    """The orders of the bar's days by how sure their click is: a bar of three parts that add up to them."""
    counts = await kept.by_tier(desk.reader, bar.span, bar.event)
    whole, x, parts = sum(counts), 0.0, list[dict[str, Any]]()
    for tier, name, kind in _SURE:
        width = 100 * counts[tier] / whole if whole else 0
        parts.append(
            {
                "name": name,
                "kind": kind,
                "n": words.number(counts[tier]),
                "share": words.percent(counts[tier], whole),
                "title": glossary.title(name, bar.said),
                "address": bar.address("/orders", sure=name),
                "x": f"{x:.2f}",
                "width": f"{width:.2f}",
            }
        )
        x += width
    return {"whole": words.number(whole), "any": bool(whole), "parts": parts}


def _error(found: trust.Trust) -> dict[str, str]:
    if found.error is None or found.floor is None:
        return {"name": "Calibration error", "word": "calibration", "big": "–", "under": "not enough orders yet"}
    return {
        "name": "Calibration error",
        "word": "calibration",
        "big": f"{found.error:.3f}",
        "under": f"a perfect model would show {found.floor:.3f} here, by chance",
    }


def _organic(found: trust.Trust) -> dict[str, str]:
    big = words.percent(found.organic_linked, found.organic) if found.organic >= trust.ENOUGH else "–"
    return {
        "name": "False links among proven organic orders",
        "word": "organic",
        "big": big,
        "under": f"{found.organic_linked:,} of {found.organic:,}" if found.organic else "no proven organic order yet",
    }


def _decoy(tried: decoys.Decoys) -> dict[str, str]:
    name = "Decoy false links, per order"
    if tried.orders < trust.ENOUGH:
        return {"name": name, "word": "decoys", "big": "–", "under": "not measured yet; the nightly step does"}
    per_80, per_90 = tried.at_80 / tried.orders, tried.at_90 / tried.orders
    under = f"at confidence 80; {per_90:.4f} at 90; an upper bound, of {tried.orders:,} orders"
    return {"name": name, "word": "decoys", "big": f"{per_80:.4f}", "under": under}


def interval(right: float, n: int) -> tuple[float, float]:
    """Where the true share lies in 95 of 100 cases, seen `right` (0..1) among n (Wilson 1927)."""
    middle, wide = right + _Z * _Z / (2 * n), _Z * sqrt(right * (1 - right) / n + _Z * _Z / (4 * n * n))
    below = 1 + _Z * _Z / n
    return max(0.0, (middle - wide) / below), min(1.0, (middle + wide) / below)


def _diagram(found: trust.Trust) -> Any:
    said = "; ".join(f"stated {100 * b.stated:.0f} %, true {100 * b.true:.0f} %" for b in found.bins)
    bins = [plots.Bin(b.stated, b.true, b.n, *interval(b.true, b.n)) for b in found.bins if b.n]
    return plots.reliability(bins, f"Stated against true: {said or 'no orders yet'}")


def _bin(b: trust.Bin) -> dict[str, str]:
    low, high = interval(b.true, b.n)
    return {
        "stated": f"{100 * b.stated:.0f} %",
        "true": f"{100 * b.true:.0f} %",
        "between": f"{100 * low:.0f} – {100 * high:.0f} %",
        "n": words.number(b.n),
    }


def _tier(tier: trust.Tier, outcomes: Counter[tuple[str, str]]) -> dict[str, Any]:
    enough = tier.labels >= trust.ENOUGH
    return {
        "name": words.METHODS.get(tier.name, tier.name),
        "used": words.number(sum(n for (_, word), n in outcomes.items() if word == tier.name)),
        "stated": f"{100 * tier.stated:.1f} %",
        "true": f"{100 * tier.right / tier.labels:.1f} %" if enough else "–",
        "labels": words.number(tier.labels),
        "measured": enough,
    }


def _outcomes(outcomes: Counter[tuple[str, str]]) -> list[dict[str, Any]]:
    total = sum(outcomes.values())
    rows = []
    for (tier, word), n in outcomes.most_common():
        if n:
            name = words.METHODS.get(word, word) if tier != "none" else WHY_NOT.get(word, word.replace("_", " "))
            bar = plots.share(n, total, f"{name}: {words.percent(n, total)}")
            rows.append(
                {
                    "name": name,
                    "attributed": tier != "none",
                    "n": words.number(n),
                    "share": words.percent(n, total),
                    "bar": bar,
                }
            )
    return rows
