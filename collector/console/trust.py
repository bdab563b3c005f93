"""Can the confidence be believed: the page that nobody else publishes."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

from litestar import Response

from collector.console import plots, words
from collector.console.choice import choose
from collector.console.shell import Desk, Note, page
from collector.storage.reports import decoys, models, trust
from collector.storage.reports.explain import WHY_NOT
from collector.storage.reports.totals import HORIZON_DAYS

_TIERS: Final = {
    "click_id": "Click id named by the caller",
    "fbclid": "Meta click id",
    "visitor_id": "Visitor cookie",
    "fbp": "Meta browser id",
    "fbc_unseen": "Meta click id, click not stored",
    "external_id": "Customer id",
    "email": "E-mail",
    "phone": "Phone",
    "email_weak": "E-mail without its +tag",
    "probabilistic": "Inferred",
}


async def trust_page(desk: Desk, store: str) -> Response[bytes]:
    """Reliability by tier, calibration error and its floor, false links; honest about too few labels."""
    totals, choice = await desk.fresh_totals(), await choose(desk, store, HORIZON_DAYS)
    learnt = await models.newest(desk.reader)
    found = trust.assess(
        await trust.labels(desk.reader, choice.since), learnt, choice.wanted, desk.config.matching.threshold
    )
    outcomes: Counter[tuple[str, str]] = Counter()
    for key, n in totals.outcomes(choice.since).items():
        outcomes[key.tier, key.word] += n if key.store in choice.wanted else 0
    tried = await decoys.counted(desk.reader, desk.clock(), choice.wanted)
    return page(
        "trust.html",
        title="Trust",
        here="/trust",
        notes=[] if found.labels >= trust.ENOUGH else [_too_few(found.labels)],
        figures=[_error(found), _organic(found), _decoy(tried)],
        bins=[_bin(b) for b in found.bins],
        diagram=_diagram(found),
        tiers=[_tier(t, outcomes) for t in found.tiers],
        outcomes=_outcomes(outcomes),
        models=[
            {
                "store": choice.names.get(number, str(number)),
                "version": model.version,
                "labels": words.number(model.labels),
            }
            for number, model in sorted(learnt.items())
            if number in choice.wanted
        ],
        choice=choice,
    )


def _too_few(labels: int) -> Note:
    what = f"Not enough labels yet: {labels:,} of {trust.ENOUGH:,}. Until then confidence rests on defaults, with caps."
    mend = (
        "Labels grow by themselves, from orders that a customer id or a known e-mail proves where no cookie survived. "
        "Sending customerData and visitorId with events makes them grow sooner."
    )
    return Note("", what, mend)


def _error(found: trust.Trust) -> dict[str, str]:
    if found.error is None or found.floor is None:
        return {"name": "Calibration error", "big": "–", "under": "not enough labels yet"}
    return {
        "name": "Calibration error",
        "big": f"{found.error:.3f}",
        "under": f"a perfect model would show {found.floor:.3f} here, by chance",
    }


def _organic(found: trust.Trust) -> dict[str, str]:
    big = words.percent(found.organic_linked, found.organic) if found.organic >= trust.ENOUGH else "–"
    return {
        "name": "False links among proven organic orders",
        "big": big,
        "under": f"{found.organic_linked:,} of {found.organic:,}" if found.organic else "no proven organic order yet",
    }


def _decoy(tried: decoys.Decoys) -> dict[str, str]:
    name = "Decoy false links, per order"
    if tried.orders < trust.ENOUGH:
        return {"name": name, "big": "–", "under": "not measured yet; the nightly step does"}
    per_80, per_90 = tried.at_80 / tried.orders, tried.at_90 / tried.orders
    under = f"at confidence 80; {per_90:.4f} at 90; an upper bound, of {tried.orders:,} orders"
    return {"name": name, "big": f"{per_80:.4f}", "under": under}


def _diagram(found: trust.Trust) -> Any:
    said = "; ".join(f"stated {100 * b.stated:.0f} %, true {100 * b.true:.0f} %" for b in found.bins)
    bins = [plots.Bin(b.stated, b.true, b.n) for b in found.bins]
    return plots.reliability(bins, f"Reliability: {said or 'no labels yet'}")


def _bin(b: trust.Bin) -> dict[str, str]:
    return {"stated": f"{100 * b.stated:.0f} %", "true": f"{100 * b.true:.0f} %", "n": words.number(b.n)}


def _tier(tier: trust.Tier, outcomes: Counter[tuple[str, str]]) -> dict[str, Any]:
    enough = tier.labels >= trust.ENOUGH
    return {
        "name": _TIERS.get(tier.name, tier.name),
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
            name = _TIERS.get(word, word) if tier != "none" else WHY_NOT.get(word, word.replace("_", " "))
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
