"""A night's lesson: the model that a store's own labels make of yesterday's, as a pure function.

Counts per delay bucket, smoothed towards the defaults with the strength of 20 labels and forgotten with a half-life
of 60 days. A new store keeps the defaults until it has earned its own figures; each night gives a new version.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import exp2, log2, sqrt

from msgspec import Struct, structs

from collector.core.calibration import fit_isotonic, fit_platt, logit, sigmoid
from collector.core.matching.inference import prior_odds
from collector.core.matching.model import (
    BUCKETS,
    CAPS_KNOWN,
    CAPS_USUAL,
    DEFAULT_MODEL,
    OTHER_PLATFORM,
    Beta,
    Model,
    Network,
    Row,
)
from collector.core.matching.shapes import Label, Match, Statistics
from collector.core.sightings import Crowds, Sighting
from collector.core.useragents import device, level, same_shell

STRENGTH = 20.0
HALF_LIFE_DAYS = 60.0
PLATT_LABELS = 200
ISOTONIC_LABELS = 2000
CAP_LABELS = 200
CAP_MOST = 98
DECOYS = 200.0  # decoys below which labels are not believed
HIGH = 0.3  # stated so likely, an order counts as seen to have a click (for the share of those that do)
CAP_GROUPS = ((0, 1), (2, 3), (4, 5), (6, 7))  # under 1 h, 1-24 h, 1-7 d, longer
# Steps of the funnel are not orders: they would teach that hardly anything comes from an ad.
FUNNEL = frozenset(
    "PageView ViewContent Search AddToCart AddToWishlist InitiateCheckout AddPaymentInfo CustomizeProduct".split()
)
BIN = 0.25  # width of a calibration bin, in nats of log odds

Counts = dict[str, float]


def is_order(event_type: str, purchases: bool) -> bool:
    """Whether it teaches: where there are `purchases`, a Lead is a step to them; a shop without any has its Leads."""
    return event_type == "Purchase" or (not purchases and event_type not in FUNNEL)


class Pair(Struct, frozen=True, array_like=True):
    """A random conversion beside a random click: how often strangers agree."""

    ua: int  # level 0..4, or -1
    same_shell: bool
    jar: int  # 1: the conversion's cookies are older than the click; -1 unknown
    click_class: int  # without its shell
    neighbours: int = -1  # other visitors on the click's address in 30 days; -1 not looked up
    net: int | None = None  # the click's network


def pair(
    ua_k: int | None,
    ua_class: int,
    jar_since: int | None,
    click_ua_k: int | None,
    click_class: int,
    click_ts: int,
    neighbours: int = -1,
    net: int | None = None,
) -> Pair:
    """A pair from the two rows' columns."""
    ua = 0 if ua_k is not None and ua_k == click_ua_k else level(ua_class, click_class)
    jar = -1 if jar_since is None else int(jar_since < click_ts)
    return Pair(ua, same_shell(ua_class, click_class), jar, device(click_class), neighbours, net)


def learn(
    model: Model,
    matches: Iterable[Match],
    pairs: Iterable[Pair] = (),
    decoys: Iterable[Match] = (),
    sightings: Iterable[Sighting] = (),
    crowds: Crowds | None = None,
    *,
    now: int,
    elapsed_days: float = 1.0,
    seen: Statistics = Statistics(),  # noqa: B008  frozen
) -> Model:
    """The next model. `matches` are the answers given since the last night, each once; the cost is linear in them.

    `decoys`: answers for unproven orders against clicks made after them, all false.
    `sightings`: visitors seen again, for what their networks are like. `seen`: the store's conversions and clicks.
    """
    counts = forget(model.counts, elapsed_days)
    for answer in matches:
        _count_answer(counts, answer, model)
    strangers = list(pairs)
    for one in strangers:
        _count_pair(counts, one)
    for decoy in decoys:
        _count_decoy(counts, decoy)
    networks = see_again(model.networks, sightings, strangers, counts, elapsed_days)
    believed = _believed(counts, model, seen)
    corrected = _correction(counts, believed)
    if crowds is not None:
        model = crowded(model, crowds)
    learnt = structs.replace(model, networks=networks, share_corrected=corrected, share=believed * corrected)
    return build(learnt, counts, now)


def crowded(model: Model, crowds: Crowds) -> Model:
    """The model with what is known of the addresses that several share."""
    return structs.replace(
        model,
        crowds=crowds.visitors,
        clickers_per_visitor=crowds.clickers_per_visitor,
        bunched=crowds.bunched,
        bunched_usual=crowds.bunched_usual,
    )


def forget(counts: Counts, days: float) -> Counts:
    """Old labels weigh less; what is nearly nothing is dropped, so a model does not grow."""
    keep = 0.5 ** (days / HALF_LIFE_DAYS)
    return {name: n * keep for name, n in counts.items() if n * keep > 1e-4}


def _add(counts: Counts, name: str, n: float = 1.0) -> None:
    counts[name] = counts.get(name, 0.0) + n


def _count_answer(counts: Counts, answer: Match, model: Model) -> None:
    if answer.inherited:
        return
    label = answer.label
    if label is not None and label.kind == "identity":
        _count_features(counts, label)
        _count_stated(counts, label)
    elif label is not None and label.kind == "device" and label.contradicted is not None:
        _add(counts, f"tier:{answer.method}:{'wrong' if label.contradicted else 'right'}")
    if answer.tier in ("inferred", "none") and answer.reason != "consent":
        _add(counts, "obs:all")
        if stated_by(answer) >= HIGH:
            _add(counts, "obs:high")
        _add(counts, f"pool:{answer.pool}")


def _count_features(counts: Counts, label: Label) -> None:
    b = label.bucket
    _add(counts, "labels")
    _add(counts, f"delay:{b}")
    if label.ip >= 0:
        _add(counts, f"ip:{b}:{label.ip}")
        _add(counts, "reach:1" if label.ip == 1 or label.fp == 1 else "reach:0")
    if label.ua >= 0:
        _add(counts, f"{'app' if label.app else 'ua'}:{b}:{label.ua}")
    if label.fp >= 0:
        _add(counts, f"fp:{b}:{label.fp}")
    if label.jar >= 0:
        _add(counts, f"jar:{int(label.same_shell)}:{label.jar}")


def _count_stated(counts: Counts, label: Label) -> None:
    _add(counts, "cal:all")
    if label.stated <= 0:
        return
    at = _bin(label.stated)
    _add(counts, f"cal:{at}:n")
    _add(counts, f"cal:{at}:right", float(label.right))
    if label.stated >= HIGH:
        _add(counts, "cal:high")
    for stratum, cap in _strata(label.best_bucket, label.best_ua):
        _add(counts, f"cap:{stratum}:labels")
        if label.stated * 100 >= cap:
            _add(counts, f"cap:{stratum}:n")
            _add(counts, f"cap:{stratum}:right", float(label.right))


def _count_decoy(counts: Counts, decoy: Match) -> None:
    """What is stated where no stored click is the cause: the share of false statements among all that are made."""
    _add(counts, "dec:all")
    stated = stated_by(decoy)
    if stated <= 0:
        return
    _add(counts, f"dec:{_bin(stated)}:n")
    if stated >= HIGH:
        _add(counts, "dec:high")
    for stratum, cap in _strata(decoy.stratum, decoy.ua_level):
        if stated * 100 >= cap:
            _add(counts, f"cap:{stratum}:dec")


def stated_by(answer: Match) -> float:
    """The best journey's probability before calibration and caps; 0 where nothing was found."""
    if answer.tier != "inferred":
        return 0.0
    return 1 / (1 + exp2(-max(answer.log_odds_bits, -900.0)))


def _bin(stated: float) -> int:
    return round(logit(stated) / BIN)


def _strata(bucket: int, ua_level: int) -> list[tuple[str, int]]:
    """The strata with a cap of their own that a statement belongs to, with the default cap."""
    group = next(i for i, buckets in enumerate(CAP_GROUPS) if bucket in buckets)
    strata = [(str(group), CAPS_USUAL[CAP_GROUPS[group][0]])]
    if ua_level == OTHER_PLATFORM:
        strata.append(("platform", DEFAULT_MODEL.cap_other_platform))
    return strata


def _count_pair(counts: Counts, one: Pair) -> None:
    if one.jar >= 0:
        _add(counts, f"u:jar:{int(one.same_shell)}:{one.jar}")
    if one.click_class:
        _add(counts, f"class:{one.click_class}")
    if one.neighbours >= 0:
        _add(counts, f"near:{min(one.neighbours, 3)}")


def build(model: Model, counts: Counts, now: int) -> Model:
    """Every table from its counts."""
    base = DEFAULT_MODEL
    given_ua = tuple(f / u[0] for f, u in zip(base.m_fp, base.m_ua, strict=True))
    m_ua = tuple(_levels(counts, f"ua:{b}", base.m_ua[b]) for b in range(BUCKETS))
    m_fp_given_ua = [_share(counts, f"fp:{b}:1", f"fp:{b}:0", min(given_ua[b], 0.95)) for b in range(BUCKETS)]
    labels = int(counts.get("labels", 0.0))
    learnt = structs.replace(
        model,
        version=_next_version(model.version),
        created=now,
        counts=counts,
        labels=labels,
        ip_others=_others(counts),
        classes={int(name[6:]): n for name, n in counts.items() if name.startswith("class:")},
        rho=_share(counts, "reach:0", "reach:1", base.rho),
        delay_share=_delays(counts),
        m_ip=tuple(_share(counts, f"ip:{b}:1", f"ip:{b}:0", base.m_ip[b]) for b in range(BUCKETS)),
        m_fp=tuple(m * u[0] for m, u in zip(m_fp_given_ua, m_ua, strict=True)),
        m_ua=m_ua,
        m_ua_app=tuple(_levels(counts, f"app:{b}", base.m_ua_app[b]) for b in range(BUCKETS)),
        m_jar_old=tuple(_share(counts, f"jar:{s}:1", f"jar:{s}:0", base.m_jar_old[s]) for s in (0, 1)),
        u_jar_old=tuple(_share(counts, f"u:jar:{s}:1", f"u:jar:{s}:0", base.u_jar_old[s]) for s in (0, 1)),
        tiers={name: _tier(counts, name, prior) for name, prior in base.tiers.items()},
    )
    return _judged(learnt, counts)


def _next_version(version: str) -> str:
    """ "default.1" is followed by "fs.2", "fs.3", ..."""
    return f"fs.{int(version.rsplit('.', 1)[1]) + 1}"


def _three(n: list[float]) -> tuple[float, float, float]:
    return (n[0], n[1], n[2])


MOST_NETWORKS = 1_000  # kept, those with the most sightings


def see_again(
    networks: dict[int, Network],
    sightings: Iterable[Sighting],
    strangers: Iterable[Pair],
    counts: Counts,
    elapsed_days: float,
) -> dict[int, Network]:
    """What the networks are like by now, and in `counts` how long any address lasts."""
    keep = 0.5 ** (elapsed_days / HALF_LIFE_DAYS)
    found: dict[int, list[list[float]]] = {
        net: [[n * keep for n in part] for part in (old.expected, old.kept, old.near)] for net, old in networks.items()
    }
    seen = list(sightings)
    for one in seen:
        _add(counts, f"again:{one.bucket}:{int(one.same)}")
    lasts = [_share(counts, f"again:{b}:1", f"again:{b}:0", DEFAULT_MODEL.m_ip[b]) for b in range(BUCKETS)]
    for one in seen:
        expected, kept, _ = found.setdefault(one.net, [[0.0] * 3, [0.0] * 3, [0.0] * 3])
        expected[min(one.bucket, 2)] += lasts[one.bucket]
        kept[min(one.bucket, 2)] += one.same
    for stranger in strangers:
        if stranger.net is not None and 0 <= stranger.neighbours < 3:
            found.setdefault(stranger.net, [[0.0] * 3, [0.0] * 3, [0.0] * 3])[2][stranger.neighbours] += 1
    known = sorted(found.items(), key=lambda item: sum(map(sum, item[1])), reverse=True)[:MOST_NETWORKS]
    return {net: Network(*map(_three, parts)) for net, parts in known if sum(map(sum, parts)) > 0.05}


def _share(counts: Counts, yes: str, no: str, prior: float) -> float:
    n_yes, n_no = counts.get(yes, 0.0), counts.get(no, 0.0)
    return min(max((n_yes + STRENGTH * prior) / (n_yes + n_no + STRENGTH), 0.005), 0.995)


def _levels(counts: Counts, name: str, prior: Row) -> Row:
    seen = [counts.get(f"{name}:{at}", 0.0) for at in range(len(prior))]
    total = sum(seen) + STRENGTH
    return tuple(max((n + STRENGTH * p) / total, 1e-4) for n, p in zip(seen, prior, strict=True))


def _delays(counts: Counts) -> Row:
    return _levels(counts, "delay", DEFAULT_MODEL.delay_share)


def _others(counts: Counts) -> Row:
    """Good-Turing: of addresses with n other visitors, how many unrelated ones are to be expected."""
    n0, n1, n2 = (counts.get(f"near:{n}", 0.0) for n in range(3))
    first, second = DEFAULT_MODEL.ip_others
    at_none = (n1 + STRENGTH * first) / (n0 + STRENGTH)
    at_one = (2 * n2 + STRENGTH * second) / (n1 + STRENGTH)
    return (at_none, max(at_none, at_one))


def _believed(counts: Counts, model: Model, seen: Statistics) -> float:
    """The share of unproven orders with a stored click, as the prior has it before any correction."""
    plain = structs.replace(model, share_corrected=1.0)
    orders = [counts.get(f"pool:{pool}", 0.0) + 1 for pool in (0, 1)]
    odds = [prior_odds(plain, pool, seen) for pool in (0, 1)]
    return sum(n * o / (1 + o) for n, o in zip(orders, odds, strict=True)) / sum(orders)


def _correction(counts: Counts, believed: float) -> float:
    """What labels and decoys show the share with a click to be, by what was believed; the more labels the more.

    Of the orders with a click the share `cal` is stated high, of those without `dec`: so the share that is seen high
    tells how many have one. (High = stated .3 or more.)
    """
    labels, decoys, seen = (counts.get(f"{name}:all", 0.0) for name in ("cal", "dec", "obs"))
    if labels < 50 or decoys < DECOYS or seen < DECOYS:
        return 1.0
    cal, dec, obs = (
        counts.get(f"{name}:high", 0.0) / n for name, n in (("cal", labels), ("dec", decoys), ("obs", seen))
    )
    if cal <= 2 * dec:
        return 1.0
    observed = min(max((obs - dec) / (cal - dec), 0.0), 1.0) / believed
    trust = labels / (labels + 100)
    return exp2(trust * log2(min(max(observed, 0.2), 2.0)))


def _tier(counts: Counts, name: str, prior: Beta) -> Beta:
    return Beta(
        prior.right + counts.get(f"tier:{name}:right", 0.0), prior.wrong + counts.get(f"tier:{name}:wrong", 0.0)
    )


def wilson_low(right: float, n: float, z: float = 1.645) -> float:
    """The lower end of Wilson's 90 % interval (one-sided 95 %) of a share."""
    if n <= 0:
        return 0.0
    p = right / n
    return (p + z * z / (2 * n) - z * sqrt(p * (1 - p) / n + z * z / (4 * n * n))) / (1 + z * z / n)


def decoy_weight(counts: Counts, pi: float) -> float:
    """How many label-sized statements a decoy stands for: labels all have a true click, orders have one with `pi` only.

    Labels alone would flatter the model, for they hold no order without a click.
    """
    decoys = counts.get("dec:all", 0.0)
    return (1 - pi) / pi * counts.get("cal:all", 0.0) / decoys if decoys >= DECOYS else 0.0


def _caps(counts: Counts, weight: float, base: tuple[int, ...]) -> tuple[int, ...]:
    """The cap of each delay bucket."""
    by_group = [_earned(counts, str(group), base[b[0]], weight) for group, b in enumerate(CAP_GROUPS)]
    return tuple(cap for cap, buckets in zip(by_group, CAP_GROUPS, strict=True) for _ in buckets)


def _earned(counts: Counts, stratum: str, cap: int, weight: float) -> int:
    """A cap is lifted when 200 labels fell into its stratum and what was stated above it came true as often."""
    if counts.get(f"cap:{stratum}:labels", 0.0) < CAP_LABELS or weight <= 0:
        return cap
    n = counts.get(f"cap:{stratum}:n", 0.0) + weight * counts.get(f"cap:{stratum}:dec", 0.0)
    return min(max(cap, int(100 * wilson_low(counts.get(f"cap:{stratum}:right", 0.0), n))), CAP_MOST)


def _judged(model: Model, counts: Counts) -> Model:
    """Caps, and the map g: identity until 200 labels, then Platt, above 2,000 isotonic."""
    weight = decoy_weight(counts, model.share)
    labels = counts.get("cal:all", 0.0)
    judged = structs.replace(
        model,
        caps=_caps(counts, weight, CAPS_KNOWN if model.clickers_per_visitor else CAPS_USUAL),
        cap_other_platform=_earned(counts, "platform", DEFAULT_MODEL.cap_other_platform, weight),
        calibration=(1.0, 0.0),
        knots=(),
    )
    if labels < PLATT_LABELS or weight <= 0:
        return judged
    bins = stated_bins(counts, weight)
    knots = fit_isotonic(bins) if labels >= ISOTONIC_LABELS else ()
    return structs.replace(judged, calibration=fit_platt(bins), knots=knots)


def stated_bins(counts: Counts, weight: float) -> list[tuple[float, float, float]]:
    """(stated probability, statements, of which right), in order: labels, and decoys with their weight."""
    names = (name.split(":") for name in counts if name.endswith(":n") and name.startswith(("cal:", "dec:")))
    ats = sorted({int(parts[1]) for parts in names})
    return [
        (
            sigmoid(at * BIN),
            counts.get(f"cal:{at}:n", 0.0) + weight * counts.get(f"dec:{at}:n", 0.0),
            counts.get(f"cal:{at}:right", 0.0),
        )
        for at in ats
    ]


def decoy_shares(model: Model) -> list[tuple[float, float]]:
    """(stated probability, share of the orders without a click that are stated so); empty while too few decoys tell."""
    decoys = model.counts.get("dec:all", 0.0)
    if decoys < DECOYS:
        return []
    ats = sorted(int(name.split(":")[1]) for name in model.counts if name.startswith("dec:") and name.endswith(":n"))
    return [(sigmoid(at * BIN), model.counts[f"dec:{at}:n"] / decoys) for at in ats]
