"""Which clicks may be a cause at all: of a person, allowed, before the conversion and inside its window."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import attrgetter

from msgspec import Struct

from collector.core import flags
from collector.core.matching.shapes import Candidate, Policy, Query

_ts = attrgetter("ts")
SKEW_MS = 5 * 60_000  # a proven click may be stamped this much after its conversion: two clocks


class Eligible(Struct, gc=False):
    """The candidates sorted out; `fresh` and `skewed` are in an order that does not depend on their arrival."""

    fresh: list[Candidate]
    skewed: list[Candidate]  # up to 5 minutes after the conversion: only proof of a device makes them a cause
    expired: list[Candidate]
    denied: list[Candidate]
    spent: bool = False  # what the conversion's fbc names is another conversion's


def order_key(c: Candidate) -> tuple[int, int, int, int, int]:
    """A total order of clicks from what they are; row ids count arrivals, so they come last."""
    return (c.ts, c.fbclid_k or 0, c.visitor_k or 0, c.fbp_k or 0, c.id)


def sort_out(query: Query, candidates: Sequence[Candidate], policy: Policy) -> Eligible:
    """Every candidate in its place; bots, prefetches, tests and clicks that another conversion has used are nowhere.

    Nor is a click recovered from an fbc, but where the caller names it: each fbc speaks for itself (proofs.py), so that
    no answer depends on whether another conversion has made us keep the click.
    """
    barred = flags.INELIGIBLE & ~(query.flags & flags.TEST)  # a test order may have a test click
    eligible = Eligible([], [], [], [])
    conversion, window, taken = query.ts, policy.window_ms, query.taken
    for c in _once(candidates):
        if c.flags & flags.RECOVERED and c.id != query.click_id:
            eligible.spent |= c.id in taken and c.fbclid_k == query.fbc_k
            continue
        if c.flags & barred:
            if not c.flags & barred & ~(flags.DENIED | flags.PENDING | flags.WITHDRAWN):
                eligible.denied.append(c)
            continue
        if taken and c.id in taken:
            eligible.spent |= c.fbclid_k == query.fbc_k
            continue
        delay = conversion - c.ts
        if delay > window:
            eligible.expired.append(c)
        elif delay >= 0:
            eligible.fresh.append(c)
        elif delay >= -SKEW_MS:
            eligible.skewed.append(c)
    eligible.fresh.sort(key=_ts)
    if len({c.ts for c in eligible.fresh}) < len(eligible.fresh):  # rare, and the full key is three times as slow
        eligible.fresh.sort(key=order_key)
    return eligible


def _once(candidates: Sequence[Candidate]) -> Iterable[Candidate]:
    """A click found by two keys is one click; so is one known from an fbc only, and the click that came later."""
    by_id = {c.id: c for c in candidates}
    once = candidates if len(by_id) == len(candidates) else by_id.values()
    if any([c.flags & flags.RECOVERED for c in once]):  # noqa: C419  half the time of a generator, and in every match
        seen = {c.fbclid_k for c in once if not c.flags & flags.RECOVERED}
        return [c for c in once if not (c.flags & flags.RECOVERED and c.fbclid_k in seen)]
    return once
