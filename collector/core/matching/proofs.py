"""Proof: which clicks the conversion's own identifiers name, and which of them the rule (last touch) picks.

Tiers in order: the click the caller names; the device (Meta's click id, visitor cookie, fbp, an fbc we never saw the
click of); an identity one hop away. Within a tier the newest wins, because `_fbc` is itself last-click.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from msgspec import Struct

from collector.core.flags import RECOVERED
from collector.core.matching.eligible import Eligible, order_key
from collector.core.matching.links import CLAIMED_CAP
from collector.core.matching.model import Model
from collector.core.matching.shapes import Candidate, Method, Policy, Query

SHARED_LINK_CAP = 90  # one fbclid on several visitors: the link was passed on
UNSEEN_CAP = 90
DEVICE: tuple[Method, ...] = ("fbclid", "visitor_id", "fbp")
IDENTITY: tuple[Method, ...] = ("external_id", "email", "phone", "email_weak")
ENRICHING = frozenset({"click_id", "fbclid", "visitor_id", "fbp", "external_id", "email", "phone"})


class Proven(Struct):
    """What proof picked. `click` is None for an fbc whose click was never stored."""

    method: Method
    tier: str
    click: Candidate | None
    ts: int
    cap: int
    agreeing: list[Method]  # further identifiers that name the same click
    conflicting: list[tuple[Method, Candidate]]  # identifiers whose newest click is another one
    sharers: int  # distinct visitors on the fbclid
    journey: list[Candidate]  # the person's eligible clicks that any identifier names, oldest first, up to `click`
    claimed: bool = False  # a page alone says that the click's visitor is this person


def older(query: Query, eligible: Eligible, policy: Policy) -> list[Candidate]:
    """Expired clicks of the same person: no cause within this window, but part of the journey in a longer one."""
    if not eligible.expired:
        return []
    kept = [c for c in _named(query, eligible.expired) if query.ts - c.ts <= policy.click_ms]
    named = [(c, names) for c in kept if (names := names_of(query, c))]
    known = {c.fbclid_k for c in eligible.fresh}
    own = [c for c, names in _without_strangers(named) if names != ["fbclid"] or c.fbclid_k not in known]
    return sorted(own, key=order_key)


def names_of(query: Query, c: Candidate) -> list[Method]:
    """The identifiers by which the conversion names this click, strongest first."""
    found: list[Method] = []
    if query.click_id is not None and c.id == query.click_id:
        found.append("click_id")
    if c.fbclid_k is not None and (c.fbclid_k == query.fbclid_k or c.fbclid_k == query.fbc_k):
        found.append("fbclid")
    if c.visitor_k is not None:
        if c.visitor_k == query.visitor_k:
            found.append("visitor_id")
        elif c.visitor_k in query.identity_visitors:
            found.append(query.identity_visitors[c.visitor_k])
    if c.fbp_k is not None and c.fbp_k == query.fbp_k:
        found.append("fbp")
    return found


def _named(query: Query, clicks: Sequence[Candidate]) -> list[Candidate]:
    """Clicks that may share an identifier, by set look-ups: most candidates share no more than an address."""
    ids = {query.fbclid_k, query.fbc_k, query.visitor_k, query.fbp_k, *query.identity_visitors} - {None}
    own = query.click_id
    if not ids and own is None:
        return []
    return [c for c in clicks if c.fbclid_k in ids or c.visitor_k in ids or c.fbp_k in ids or c.id == own]


def prove(query: Query, eligible: Eligible, model: Model, policy: Policy) -> Proven | None:
    """The click that proof names, or None."""
    named = [(c, names) for c in _named(query, eligible.fresh) if (names := names_of(query, c))]
    named += _skewed(query, eligible, named)
    unseen = _unseen_at(query, eligible, policy)
    for tier, methods in (("click", ("click_id",)), ("device", DEVICE), ("identity", IDENTITY)):
        here = [(c, names) for c, names in named if any(name in methods for name in names)]
        pick = _pick(query, here, methods)
        if tier == "device" and unseen is not None and (pick is None or unseen > pick[0].ts):
            return _unseen(unseen, named)
        if pick is not None:
            return _proven(tier, *pick, named, claimed=tier == "identity" and pick[0].visitor_k in query.claimed)
    return None


def _skewed(
    query: Query, eligible: Eligible, named: list[tuple[Candidate, list[Method]]]
) -> list[tuple[Candidate, list[Method]]]:
    """Clicks stamped up to 5 minutes after the conversion: two clocks, if the conversion carries the click's own id.

    By a cookie alone only where it names no earlier click: a shopper may well click again after the order.
    """
    if not eligible.skewed:
        return []
    own = {"click_id", "fbclid"}
    if not any(name in DEVICE for _, names in named for name in names):
        own |= {"visitor_id", "fbp"}
    late = [(c, names) for c in eligible.skewed if not own.isdisjoint(names := names_of(query, c))]
    return sorted(late, key=lambda pair: order_key(pair[0]))


def _pick(
    query: Query, named: list[tuple[Candidate, list[Method]]], methods: Sequence[Method]
) -> tuple[Candidate, list[Method], int] | None:
    """The newest click of the tier and how many visitors share its link.

    A passed-on link (same fbclid, several visitors): the hit of the conversion's own visitor; else the earliest hit.
    """
    if not named:
        return None
    c, names = max(named, key=lambda pair: order_key(pair[0]))
    if "fbclid" not in names or "fbclid" not in methods:
        return c, names, 1
    hits = [pair for pair in named if pair[0].fbclid_k == c.fbclid_k]
    own = [pair for pair in hits if len(pair[1]) > 1]
    if own:
        return *max(own, key=lambda pair: order_key(pair[0])), 1
    others = [pair for pair in named if pair[0].fbclid_k != c.fbclid_k]
    if others:  # another identifier names a click of its own: it is newer than the first hit of the link, or not
        rival = max(others, key=lambda pair: order_key(pair[0]))
        if rival[0].ts > hits[0][0].ts:
            return *rival, 1
    sharers = len({pair[0].visitor_k for pair in hits if pair[0].visitor_k is not None})
    return *min(hits, key=lambda pair: order_key(pair[0])), max(1, sharers)


def _without_strangers(named: list[tuple[Candidate, list[Method]]]) -> list[tuple[Candidate, list[Method]]]:
    """Of each passed-on link, the hits of the conversion's own visitor, else the earliest: the rest are others'."""
    links: defaultdict[int | None, list[tuple[Candidate, list[Method]]]] = defaultdict(list)
    for c, names in named:
        if "fbclid" in names:
            links[c.fbclid_k].append((c, names))
    strangers: set[int] = set()
    for hits in links.values():
        own = {c.id for c, names in hits if len(names) > 1} or {min((c for c, _ in hits), key=order_key).id}
        strangers.update(c.id for c, _ in hits if c.id not in own)
    return [(c, names) for c, names in named if c.id not in strangers]


def _proven(
    tier: str,
    c: Candidate,
    names: list[Method],
    sharers: int,
    named: list[tuple[Candidate, list[Method]]],
    *,
    claimed: bool = False,
) -> Proven:
    method = names[0]
    recovered = method == "fbclid" and bool(c.flags & RECOVERED)
    conflicts = []
    for other in ("click_id", *DEVICE, *IDENTITY):
        clicks = [k for k, own in named if other in own]
        if clicks and other not in names:
            conflicts.append((other, max(clicks, key=order_key)))
    cap = UNSEEN_CAP if recovered else SHARED_LINK_CAP if sharers > 1 else CLAIMED_CAP if claimed else 99
    until = order_key(c)
    journey = sorted((k for k, _ in _without_strangers(named) if order_key(k) <= until), key=order_key)
    found: Method = "fbc_unseen" if recovered else method
    return Proven(found, tier, c, c.ts, cap, names[1:], conflicts, sharers, journey, claimed)


def _unseen_at(query: Query, eligible: Eligible, policy: Policy) -> int | None:
    """When the click inside `fbc` happened, if we never stored it and it may be the cause."""
    created = query.fbc_created
    if created is None or query.fbc_k is None or query.fbc_foreign or eligible.spent:
        return None
    if not 0 <= query.ts - created <= policy.window_ms:
        return None
    known = (*eligible.fresh, *eligible.skewed, *eligible.expired)
    return None if any(c.fbclid_k == query.fbc_k for c in known) else created


def _unseen(at: int, named: list[tuple[Candidate, list[Method]]]) -> Proven:
    conflicts = [(names[0], c) for c, names in named if "fbclid" not in names]
    journey = sorted((c for c, _ in _without_strangers(named) if c.ts <= at), key=order_key)
    return Proven("fbc_unseen", "device", None, at, UNSEEN_CAP, [], conflicts[-1:], 1, journey)
