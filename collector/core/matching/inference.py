"""Inference: how likely each journey is the cause, against its rivals and against "none of the stored clicks".

    W_k = ln(pi/(1-pi)) - ln N + ln T[b] + L_ip + L_ua + L_fp        (nats; Fellegi-Sunter, matching.md 2.2)
    p_k = e^W_k / (1 + rest + sum_j e^W_j)                           (NWAY's p_any and p_i, arXiv 1705.10711)

`- ln N` and the frequency of a value cancel into the expected number of unrelated clicks that share it, so an equal
address is worth much on a home line and nothing behind a carrier's NAT, with no rule for either.
"""

from __future__ import annotations

from math import exp, log

from msgspec import Struct

from collector.core.matching.model import UA_FLOOR, Model, Scores, bucket, scores
from collector.core.matching.shapes import (
    FP_VERSION_MASK,
    Candidate,
    Policy,
    Query,
    Statistics,
)
from collector.core.useragents import level, same_shell

MISSING = -1
LEVELS = ("equal", "same_ios_version", "same_android", "same_system", "other_platform")


class Weighed(Struct, gc=False):
    """One candidate's weights in nats; `ua_level` is -1 where a user agent is missing."""

    click: Candidate
    total: float
    bucket: int
    ua_level: int
    time: float
    ip: float
    ua: float
    fp: float
    jar: float
    ip_equal: bool


class Journey(Struct):
    """The clicks of one visitor, and the odds of them all together; credit goes to the newest."""

    clicks: list[Weighed]
    mass: float

    @property
    def newest(self) -> Weighed:
        return self.clicks[-1]


class Inference(Struct):
    """Every journey by falling probability, and what stands against them."""

    journeys: list[Journey]
    total: float  # sum of all masses
    prior: float  # nats: ln(pi/(1-pi)) - ln N
    rest: float  # odds of a click that retrieval cannot reach
    clicks: float
    others_on_ip: float
    others_on_ua: float
    others_on_fp: float

    def probability(self, journey: Journey) -> float:
        return journey.mass / (1 + self.rest + self.total)

    @property
    def p_any(self) -> float:
        return self.total / (1 + self.rest + self.total)


def infer(
    query: Query,
    fresh: list[Candidate],
    statistics: Statistics,
    model: Model,
    policy: Policy,
) -> Inference | None:
    """Weigh the clicks that share an address or a fingerprint with the conversion; None when there is none."""
    near = [
        c
        for c in fresh
        if (c.ip_k is not None and c.ip_k == query.ip_k) or (c.fp_k is not None and c.fp_k == query.fp_k)
    ]
    if not near:
        return None
    table = scores(model, policy.window_ms)
    n = max(statistics.clicks_in_window, float(len(near)))
    result = Inference(
        [], 0.0, table.prior - log(n), table.rest, n,
        max(statistics.visitors_on_ip - 1, 0.0),
        max(statistics.visitors_on_ua - 1, 0.0),
        max(statistics.visitors_on_fp - 1, 0.0),
    )  # fmt: skip
    weighed = _weigh(query, near, result, statistics, model, table)
    result.journeys = _journeys(weighed)
    result.total = sum(j.mass for j in result.journeys)
    return result


def _weigh(
    query: Query,
    near: list[Candidate],
    result: Inference,
    statistics: Statistics,
    model: Model,
    table: Scores,
) -> list[Weighed]:
    """The hot loop: what depends on the conversion alone is computed once, the rest is look-ups."""
    a, visitors = model.a, statistics.visitors
    ip_u = log((result.others_on_ip + a) / (visitors + model.pseudo_visitors_ip))
    ua_u = log(max((result.others_on_ua + a) / (visitors + model.pseudo_visitors_ua), UA_FLOOR))
    fp_u = log(min(1.0, (result.others_on_fp + a) / (result.others_on_ua + 2 * a)))
    fp_alone_u = log((result.others_on_fp + a) / (visitors + model.pseudo_visitors_ip))
    q_ts, q_ip, q_ua, q_fp, q_class = (
        query.ts,
        query.ip_k,
        query.ua_k,
        query.fp_k,
        query.ua_class,
    )
    q_version = query.flags & FP_VERSION_MASK
    prior, time_t, ip_e, ip_d, ua_t = (
        result.prior,
        table.time,
        table.ip_equal,
        table.ip_differs,
        table.ua,
    )
    levels: dict[int, int] = {}
    since = query.jar_since
    out = []
    for c in near:
        b = bucket(q_ts - c.ts)
        time = time_t[b]
        ip = ua = fp = jar = 0.0
        equal = False
        if q_ip is not None and c.ip_k is not None:
            equal = c.ip_k == q_ip
            ip = ip_e[b] - ip_u if equal else ip_d[b]
        if q_ua is None or c.ua_k is None:
            at = MISSING
        elif c.ua_k == q_ua:
            at = 0
            ua = ua_t[b][0] - ua_u
        else:
            at = levels.get(c.ua_class, -2)
            if at == -2:
                at = levels[c.ua_class] = level(c.ua_class, q_class)
            if at >= 0:
                ua = ua_t[b][at]
        if q_fp is not None and c.fp_k is not None and at <= 0 and c.flags & FP_VERSION_MASK == q_version:
            if c.fp_k != q_fp:
                fp = table.fp_differs[b] if at == 0 else 0.0
            else:
                fp = table.fp_equal[b] - fp_u if at == 0 else table.fp_alone[b] - fp_alone_u
        if since is not None and c.visitor_k is not None and 0 <= at <= 3:
            jar = table.jar[same_shell(c.ua_class, q_class)][since < c.ts]
        out.append(Weighed(c, prior + time + ip + ua + fp + jar, b, at, time, ip, ua, fp, jar, equal))
    return out


def _journeys(weighed: list[Weighed]) -> list[Journey]:
    """Clicks of one visitor together (of one address and user agent where there is no cookie), best first."""
    groups: dict[object, Journey] = {}
    for w in weighed:  # in their total order, so sums do not depend on arrival
        c = w.click
        key: object = c.visitor_k if c.visitor_k is not None else (c.ip_k, c.ua_k, None if c.ip_k else c.id)
        journey = groups.setdefault(key, Journey([], 0.0))
        journey.clicks.append(w)
        journey.mass += exp(w.total)
    return sorted(groups.values(), key=_best_first)


def _best_first(journey: Journey) -> tuple[float, int, int, int]:
    c = journey.newest.click
    return (-journey.mass, -c.ts, c.fbclid_k or 0, c.visitor_k or 0)
