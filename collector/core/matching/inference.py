"""Inference: how likely each journey is the cause, against its rivals and against "none of the stored clicks".

    W_k = ln(pi/(1-pi)) - ln N + ln T[b] + L_ip + L_ua + L_fp + L_jar     (nats; Fellegi-Sunter)
    p_k = e^W_k / (1 + rest + sum_j e^W_j)                                (NWAY's p_any and p_i, arXiv 1705.10711)

`- ln N` and the frequency of a value cancel into the expected number of unrelated clicks that share it, so an equal
address is worth much on a home line and nothing behind a carrier's NAT, with no rule for either.
"""

from __future__ import annotations

from bisect import bisect_left
from math import exp, log
from operator import attrgetter

from msgspec import Struct

from collector.core.matching.model import (
    BUCKET_ENDS,
    FP_FLOOR,
    NETWORK_STRENGTH,
    OTHER_PLATFORM,
    UA_FLOOR,
    UA_FLOOR_OF_BROWSERS,
    Model,
    Network,
    Row,
    Scores,
    agents,
    bucket,
    scores,
)
from collector.core.matching.shapes import FP_VERSION_MASK, Candidate, Policy, Query, Statistics
from collector.core.useragents import in_app, level, same_shell

MISSING = -1
_ANY_NETWORK: Row = (0.0, 0.0, 0.0)
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
    lasting: Row  # under 10 min, under 1 h, longer: ln of how much likelier the address lasts than elsewhere
    ua_u: float
    fp_u: float
    fp_alone_u: float
    clicks: float
    crowd: int  # visitors seen on the address, where it was several
    learnt: bool  # whether a night has looked at the addresses
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
    odds = prior_odds(model, pool_of(query), statistics)
    on_ip = max(statistics.visitors_on_ip - 1, 0.0)
    network = model.networks.get(query.net_k) if query.net_k is not None and model.networks else None
    alike = model.shared_alike if on_ip >= model.shared_from else 1.0
    on_ua = max(statistics.visitors_on_ua - 1, 0.0)
    on_fp = max(statistics.visitors_on_fp - 1, 0.0)
    return Scale(
        query=query,
        table=table,
        agents=agents(model, table, query.ua_class),
        odds=odds,
        prior=log(odds / n),
        ip_u=log(
            min(
                1.0,
                max(expected_others(model, on_ip, network), crowd_of(model, query.ip_k))
                * alike
                * bunched(model, query.ip_k, on_ip)
                / (visitors + model.pseudo_visitors_ip),
            )
        ),
        lasting=tuple(map(log, lasting(network))) if network is not None else _ANY_NETWORK,
        ua_u=log(
            max(
                (on_ua + a) / (visitors + model.pseudo_visitors_ua),
                UA_FLOOR if in_app(query.ua_class) else UA_FLOOR_OF_BROWSERS,
            )
        ),
        fp_u=log(min(1.0, max((on_fp + a) / (on_ua + 2 * a), FP_FLOOR))),
        fp_alone_u=log((on_fp + a) / (visitors + model.pseudo_visitors_ip)),
        clicks=n,
        crowd=model.crowds.get(query.ip_k, 0) if query.ip_k is not None else 0,
        learnt=model.has_looked,
        others_on_ip=on_ip,
        others_on_ua=on_ua,
        others_on_fp=on_fp,
        levels={},
    )


def prior_odds(model: Model, pool: int, seen: Statistics) -> float:
    """Odds that an unproven conversion has a stored click, as the store's own conversions tell.

    The more of those with cookies bring no proof, the more others have no click either; and clicks can yield only so
    many conversions.
    """
    proven = seen.proven + model.proven_strength * model.proven_share
    unproven = seen.unproven + model.proven_strength * (1 - model.proven_share)
    odds = model.odds_per_proof[pool] * proven / unproven
    pi = odds / (1 + odds) * model.share_corrected
    most = model.yield_most * seen.clicks_in_window / max(seen.orders_in_window, model.yield_orders)
    pi = min(pi, max(most, 0.005)) if seen.orders_in_window >= model.yield_orders else pi
    pi = min(pi, 0.9)
    return pi / (1 - pi)


def expected_others(model: Model, seen: float, network: Network | None = None) -> float:
    """Unrelated visitors to expect on an address where `seen` others were; linear between the learnt figures."""
    first, second = model.ip_others
    if network is not None:
        n0, n1, n2 = network.near
        first = (n1 + NETWORK_STRENGTH * first) / (n0 + NETWORK_STRENGTH)
        second = max(first, (2 * n2 + NETWORK_STRENGTH * second) / (n1 + NETWORK_STRENGTH))
    known = (first, second, 2 + model.a)
    if seen >= 2:
        return seen + model.a
    low = int(seen)
    return known[low] + (known[low + 1] - known[low]) * (seen - low)


def crowd_of(model: Model, ip: int | None) -> float:
    """Other visitors with a click to expect on an address by all who were seen there."""
    return (model.crowds.get(ip, 1) - 1) * model.clickers_per_visitor if ip is not None else 0.0


def bunched(model: Model, ip: int | None, on_ip: float) -> float:
    """How much denser than evenly spread others click around the order, on an address that several share."""
    if ip in model.bunched:
        return model.bunched[ip]
    return model.bunched_usual if on_ip >= SHARED_BY else 1.0


SHARED_BY = 1.0  # other visitors with a click, from which an address may be no home's
RELAYED = (
    0.15  # so rarely a visitor comes back to a relay's address after an hour; to a phone's own, by day, more often
)
PASSING = 0.4  # an address that lasts so much more rarely than elsewhere is a relay's, lent for minutes
RARE_AGENT = 0.01  # a share of the visitors so small that a user agent is a signal of the device


CROWDED_CLICKERS, CROWDED_VISITORS = 5, 6  # others with a click, or all who were seen, from which it is a crowd's
LATE = 3  # the bucket from which an address that many share has forgotten whom it saw (6 hours)


def is_a_crowds(weights: Weights, scale: Scale) -> bool:
    """Whether only an address that many share, and a browser's agent, speaks for it late or on another device."""
    if weights.ip_equal != 1 or weights.fp_equal == 1:
        return False
    if weights.ua_level != OTHER_PLATFORM and weights.bucket < LATE:
        return False
    crowded = scale.others_on_ip >= CROWDED_CLICKERS or scale.crowd >= CROWDED_VISITORS
    return crowded and (weights.ua_level != 0 or scale.ua_u >= log(UA_FLOOR_OF_BROWSERS))


def is_lent(weights: Weights, scale: Scale) -> bool:
    """Whether nothing but a relay's address, and a common user agent once it is another's, speaks for the click."""
    if weights.ip_equal != 1 or weights.fp_equal == 1:
        return False
    lasting, passing = scale.lasting, log(PASSING)
    if lasting[min(weights.bucket, 2)] <= passing:
        return weights.ua_level != 0 or scale.ua_u >= log(RARE_AGENT)
    return weights.ua_level != 0 and (lasting[1] <= passing or lasting[2] <= log(RELAYED))


SAME_ANDROID = 2  # the user-agent level: most phones share it
OTHER_DEVICE = 3
# The most (percent) that an address states before a night: of one device, and of two phones of one Android; within ten
# minutes, an hour, later. First where nobody else has clicked from it so far, then where somebody has.
_UNLEARNT = (((100, 80), (100, 50), (50, 3)), ((100, 50), (50, 3), (3, 3)))


def unlearnt_most(weights: Weights, scale: Scale) -> int:
    """The most (percent) that an address without a fingerprint states while nobody knows who shares it: before a night.

    How many were its buyer's on 60 first days in five kinds of towns, in the table's order: 190 of 192, 21 of 27; 122
    of 127, 36 of 62; 39 of 69, 5 of 55; and 54 of 60, 7 of 13; 19 of 42, 0 of 5; 3 of 12. Of another device 4 of 139.
    """
    if scale.learnt or weights.ip_equal != 1:
        return 100
    if weights.ua_level >= OTHER_DEVICE:
        return 3
    return _UNLEARNT[scale.others_on_ip >= 1][min(weights.bucket, 2)][weights.ua_level == SAME_ANDROID]


def lasting(network: Network) -> Row:
    """How much likelier than elsewhere an address of the network is still the visitor's, by delay."""
    pairs = zip(network.expected, network.kept, strict=True)
    return tuple((kept + NETWORK_STRENGTH) / (expected + NETWORK_STRENGTH) for expected, kept in pairs)


def weigh(c: Candidate, scale: Scale) -> Weights:
    """One click against the conversion; what is missing on either side weighs nothing."""
    q, table = scale.query, scale.table
    b = bucket(q.ts - c.ts)
    ip = ua = fp = jar = 0.0
    ip_equal = fp_equal = MISSING
    if q.ip_k is not None and c.ip_k is not None:
        ip_equal = int(c.ip_k == q.ip_k)
        ip = table.ip_equal[b] + scale.lasting[min(b, 2)] - scale.ip_u if ip_equal else table.ip_differs[b]
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
    lasts = scale.lasting
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
        total = prior + equal[b] + lasts[b if b < 2 else 2]
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
