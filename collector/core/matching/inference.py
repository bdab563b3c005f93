"""Inference: how likely each journey is the cause, against its rivals and against "none of the stored clicks".

    W_k = ln(pi/(1-pi)) - ln N + ln T[b] + L_ip + L_ua + L_fp + L_jar     (nats; Fellegi-Sunter, matching.md 2.2)
    p_k = e^W_k / (1 + rest + sum_j e^W_j)                                (NWAY's p_any and p_i, arXiv 1705.10711)

`- ln N` and the frequency of a value cancel into the expected number of unrelated clicks that share it, so an equal
address is worth much on a home line and nothing behind a carrier's NAT, with no rule for either.
"""

from __future__ import annotations

from bisect import bisect_left
from math import exp, log
from operator import attrgetter

from msgspec import Struct

from collector.core.matching.model import BUCKET_ENDS, UA_FLOOR, Model, Row, Scores, agents, bucket, scores
from collector.core.matching.shapes import FP_VERSION_MASK, Candidate, Policy, Query, Statistics
from collector.core.useragents import in_app, level, same_shell

MISSING = -1
_mass = attrgetter("mass")


class Weights(Struct, gc=False):
    """One click's weights in nats. `ua_level` -1: no user agent. `ip_equal`, `fp_equal`: 1, 0, or -1 for missing."""

    time: float
    ip: float
    ua: float
    fp: float
    jar: float
    bucket: int
    ua_level: int
    ip_equal: int
    fp_equal: int

    @property
    def total(self) -> float:
        return self.time + self.ip + self.ua + self.fp + self.jar


class Journey(Struct):
    """The clicks of one visitor, oldest first, and the odds of them all together; credit goes to the newest."""

    clicks: list[Candidate]
    mass: float

    @property
    def newest(self) -> Candidate:
        return self.clicks[-1]


class Inference(Struct):
    """Every journey by falling probability, and what stands against them."""

    journeys: list[Journey]
    total: float  # sum of all masses
    rest: float  # odds of a click that retrieval cannot reach
    scale: Scale

    def probability(self, journey: Journey) -> float:
        return journey.mass / (1 + self.rest + self.total)

    @property
    def p_any(self) -> float:
        return self.total / (1 + self.rest + self.total)


class Scale(Struct, gc=False):
    """What depends on the conversion alone, in nats, computed once."""

    query: Query
    table: Scores
    agents: tuple[tuple[Row, ...], tuple[Row, ...]]  # [click in an app][bucket][level]
    odds: float  # pi/(1-pi)
    prior: float  # ln(pi/(1-pi)) - ln N
    ip_u: float
    ua_u: float
    fp_u: float
    fp_alone_u: float
    clicks: float
    others_on_ip: float
    others_on_ua: float
    others_on_fp: float
    levels: dict[int, int]  # of device classes met so far


def infer(
    query: Query, fresh: list[Candidate], statistics: Statistics, model: Model, policy: Policy
) -> Inference | None:
    """Weigh the clicks that share an address or a fingerprint with the conversion; None when there is none."""
    ip, fp = query.ip_k, query.fp_k
    near = [c for c in fresh if (c.ip_k == ip and ip is not None) or (c.fp_k == fp and fp is not None)]
    if not near:
        return None
    scale = _scale(query, len(near), statistics, model, policy)
    journeys = _journeys(near, scale)
    return Inference(journeys, sum(j.mass for j in journeys), model.rho * scale.odds, scale)


def pool_of(query: Query) -> int:
    """Which share of true clicks applies: 1 for an order that came with cookies, 0 for one without."""
    return int(query.visitor_k is not None or query.fbp_k is not None)


def _scale(query: Query, found: int, statistics: Statistics, model: Model, policy: Policy) -> Scale:
    """The frequencies of the conversion's values; the visitor of the click being judged is not one of the others."""
    table, a, visitors = scores(model, policy.window_ms), model.a, statistics.visitors
    n = max(statistics.clicks_in_window, float(found))
    odds = prior_odds(model, pool_of(query))
    on_ip = max(statistics.visitors_on_ip - 1, 0.0)
    alike = model.shared_alike if on_ip >= model.shared_from else 1.0
    on_ua = max(statistics.visitors_on_ua - 1, 0.0)
    on_fp = max(statistics.visitors_on_fp - 1, 0.0)
    return Scale(
        query=query,
        table=table,
        agents=agents(model, table, query.ua_class),
        odds=odds,
        prior=log(odds / n),
        ip_u=log(expected_others(model, on_ip) * alike / (visitors + model.pseudo_visitors_ip)),
        ua_u=log(max((on_ua + a) / (visitors + model.pseudo_visitors_ua), UA_FLOOR)),
        fp_u=log(min(1.0, (on_fp + a) / (on_ua + 2 * a))),
        fp_alone_u=log((on_fp + a) / (visitors + model.pseudo_visitors_ip)),
        clicks=n,
        others_on_ip=on_ip,
        others_on_ua=on_ua,
        others_on_fp=on_fp,
        levels={},
    )


def prior_odds(model: Model, pool: int) -> float:
    """Odds that an unproven conversion has a stored click; clicks can yield only so many conversions."""
    pi = model.pi[pool]
    if model.orders_per_click > 0:
        pi = min(pi, max(model.yield_most / model.orders_per_click, 0.005))
    return pi / (1 - pi)


def expected_others(model: Model, seen: float) -> float:
    """Unrelated visitors to expect on an address where `seen` others were; linear between the learnt figures."""
    known = (*model.ip_others, len(model.ip_others) + model.a)
    if seen >= len(known) - 1:
        return seen + model.a
    low = int(seen)
    return known[low] + (known[low + 1] - known[low]) * (seen - low)


def weigh(c: Candidate, scale: Scale) -> Weights:
    """One click against the conversion; what is missing on either side weighs nothing."""
    q, table = scale.query, scale.table
    b = bucket(q.ts - c.ts)
    ip = ua = fp = jar = 0.0
    ip_equal = fp_equal = MISSING
    if q.ip_k is not None and c.ip_k is not None:
        ip_equal = int(c.ip_k == q.ip_k)
        ip = table.ip_equal[b] - scale.ip_u if ip_equal else table.ip_differs[b]
    at = _ua_level(c, scale)
    if at >= 0:
        ua = scale.agents[in_app(c.ua_class)][b][at] - (scale.ua_u if at == 0 else 0.0)
    if at <= 0 and q.fp_k is not None and c.fp_k is not None and not (c.flags ^ q.flags) & FP_VERSION_MASK:
        fp_equal = int(c.fp_k == q.fp_k)
        fp = _fp(fp_equal, at, b, scale)
    if 0 <= at <= 3 and q.jar_since is not None and c.visitor_k is not None:
        jar = table.jar[same_shell(c.ua_class, q.ua_class)][q.jar_since < c.ts]
    return Weights(table.time[b], ip, ua, fp, jar, b, at, ip_equal, fp_equal)


def _ua_level(c: Candidate, scale: Scale) -> int:
    q = scale.query
    if q.ua_k is None or c.ua_k is None:
        return MISSING
    if c.ua_k == q.ua_k:
        return 0
    known = scale.levels.get(c.ua_class)
    if known is None:
        known = scale.levels[c.ua_class] = level(c.ua_class, q.ua_class)
    return known


def _fp(equal: int, ua_level: int, b: int, scale: Scale) -> float:
    """What the fingerprint adds beyond the user agent that it contains; all of it where no user agent is known."""
    table = scale.table
    if ua_level == 0:
        return table.fp_equal[b] - scale.fp_u if equal else table.fp_differs[b]
    return table.fp_alone[b] - scale.fp_alone_u if equal else 0.0


def _journeys(near: list[Candidate], scale: Scale) -> list[Journey]:
    """Clicks of one visitor together (of one address and user agent where there is no cookie), best first."""
    groups: dict[object, Journey] = {}
    for c, total in zip(
        near, _totals(near, scale), strict=True
    ):  # in their total order, so sums do not depend on arrival
        mass = exp(total)
        key: object = c.visitor_k
        if key is None:
            key = (c.ip_k, c.ua_k, c.id if c.ip_k is None else 0)
        journey = groups.get(key)
        if journey is None:
            groups[key] = Journey([c], mass)
        else:
            journey.clicks.append(c)
            journey.mass += mass
    journeys = list(groups.values())
    journeys.reverse()  # of equals the newer one first; the sort is stable
    journeys.sort(key=_mass, reverse=True)
    return journeys


def _totals(near: list[Candidate], scale: Scale) -> list[float]:
    """ln of each click's odds: the sum of `weigh`, 3 times as fast for clicks of the order's own address.

    This is the only loop whose length others choose, so it holds to look-ups; the rest goes through `weigh`.
    """
    q, table, ua_u, by_shell = scale.query, scale.table, scale.ua_u, scale.agents
    ts, ip, ua, fp, ua_class, since = q.ts, q.ip_k, q.ua_k, q.fp_k, q.ua_class, q.jar_since
    equal, prior = table.time_and_ip, scale.prior - scale.ip_u
    classes: dict[int, tuple[int, Row, tuple[Row, ...]]] = {}
    out = []
    for c in near:
        if c.ip_k != ip or ip is None or ua is None or c.ua_k is None:
            out.append(scale.prior + weigh(c, scale).total)
            continue
        b = bisect_left(BUCKET_ENDS, ts - c.ts)
        known = classes.get(c.ua_class)
        if known is None:
            shell = same_shell(c.ua_class, ua_class)
            rows = by_shell[in_app(c.ua_class)]
            known = classes[c.ua_class] = (level(c.ua_class, ua_class), table.jar[shell], rows)
        at, jar, by_level = known
        total = prior + equal[b]
        if c.ua_k == ua:
            at = 0
            total += by_level[b][0] - ua_u
            if fp is not None and c.fp_k is not None and not (c.flags ^ q.flags) & FP_VERSION_MASK:
                total += _fp(int(c.fp_k == fp), 0, b, scale)
        elif at > 0:
            total += by_level[b][at]
        if since is not None and 0 <= at <= 3 and c.visitor_k is not None:
            total += jar[since < c.ts]
        out.append(total)
    return out
