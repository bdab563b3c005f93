"""What the matcher believes: the model's tables with a new store's defaults, and their logarithms ready for scoring.

Defaults were measured on simulated towns; what is assumed instead (delays beyond 7 days, u of the user-agent levels) is
marked below.
"""

from __future__ import annotations

from bisect import bisect_left
from math import log

from msgspec import Struct, field

from collector.core.useragents import ANDROID, IOS, level, system

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
# Upper ends (inclusive) of the delay buckets; the last two serve windows of 28, 30 and 90 days.
BUCKET_ENDS: tuple[int, ...] = (10 * MINUTE, HOUR, 6 * HOUR, DAY, 3 * DAY, 7 * DAY, 28 * DAY, 90 * DAY)
BUCKETS = len(BUCKET_ENDS)
BUCKET_NAMES = ("<10m", "<1h", "<6h", "<24h", "<3d", "<=7d", "<=28d", "<=90d")
Row = tuple[float, ...]

# A user agent shared by nobody else is still not unique: its share never counts as less than this. A browser's may be
# a new version, which everybody has next week and nobody had in the last 30 days.
UA_FLOOR = 1e-5
UA_FLOOR_OF_BROWSERS = 5e-3
# Nor is a fingerprint given the agent: two phones of one model have one (unique are 9 % of iPhones, Hraska 2016).
FP_FLOOR = 0.08
OTHER_PLATFORM = 4  # the user-agent level
FP_GIVEN_UA_MAX = 0.95
# How often a stranger's click comes so near to an order's device: of a mixed public, most of it on phones. Chrome on
# Android names neither model nor version, so that there every other Android is as near as the order's own app.
U_UA: dict[int, Row] = {IOS: (0.09, 0.10, 0.001, 0.33, 0.48), ANDROID: (0.09, 0.001, 0.42, 0.03, 0.46)}
U_DESKTOP: Row = (0.09, 0.001, 0.001, 0.12, 0.79)
U_STRENGTH = 50.0


class Beta(Struct, frozen=True):
    """Right and wrong answers of one tier of proof, the prior's among them."""

    right: float
    wrong: float

    @property
    def mean(self) -> float:
        return self.right / (self.right + self.wrong)


class Network(Struct, frozen=True, array_like=True):
    """What visitors seen twice tell of the addresses of one network, a /24 or a /48; forgetting counts.

    `expected` and `kept`, by delay (under 10 min, under 1 h, longer): of visitors seen again, how many would have had
    the same address still if this were any network, and how many had. `near`: sightings with 0, 1, 2 other visitors
    on the address in 30 days.
    """

    expected: tuple[float, float, float] = (0.0, 0.0, 0.0)
    kept: tuple[float, float, float] = (0.0, 0.0, 0.0)
    near: tuple[float, float, float] = (0.0, 0.0, 0.0)


# Caps by delay until a night has looked at the addresses: with the usual ones what a store stated at 90 and more on its
# first day was right in .85 (395 links in five simulated towns), with these in .95.
CAPS_FIRST: tuple[int, ...] = (97, 89, 75, 65, 60, 60, 55, 55)
CAPS_USUAL: tuple[int, ...] = (97, 97, 90, 90, 80, 80, 70, 70)
# Caps once it is known on which addresses many were seen: what is left is seldom a stranger's.
CAPS_KNOWN: tuple[int, ...] = (97, 97, 94, 94, 88, 88, 75, 75)
NETWORK_STRENGTH = 4.0  # sightings that the whole is worth beside a network's own


M_UA: tuple[Row, ...] = (
    (0.80, 0.10, 0.05, 0.02, 0.03),
    (0.78, 0.10, 0.06, 0.02, 0.04),
    (0.45, 0.20, 0.15, 0.05, 0.15),
    (0.42, 0.20, 0.15, 0.05, 0.18),
    (0.30, 0.22, 0.18, 0.06, 0.24),
    (0.25, 0.22, 0.18, 0.08, 0.27),
    (0.20, 0.20, 0.18, 0.12, 0.30),
    (0.15, 0.18, 0.17, 0.18, 0.32),
)

DEFAULT_TIERS: dict[str, Beta] = {
    "click_id": Beta(99, 1),
    "fbclid": Beta(99, 1),
    "visitor_id": Beta(98, 2),
    "fbp": Beta(96, 4),
    "external_id": Beta(97, 3),
    "email": Beta(95, 5),
    "phone": Beta(93, 7),
    "email_weak": Beta(85, 15),  # +tag dropped outside gmail: mostly, not always, the same mailbox
    "fbc_unseen": Beta(90, 10),
}


class Model(Struct, frozen=True, kw_only=True):
    """A store's beliefs. Rows run over delay buckets; user-agent columns over levels 0..4 (core/useragents.py)."""

    version: str = "default.1"
    # Odds that an unproven conversion has a stored click, for each odds of proof among those that came with cookies:
    # (told without cookies, with cookies). A browser that kept its cookies and brings no click of ours is less often an
    # ad's. Measured over thirteen simulated towns, organic orders 1:4 to 10:1: 1.2-3.0 and .8-1.35.
    odds_per_proof: Row = (1.714, 1.0)
    # Share of a new store's conversions with cookies that proof names, and how many conversions that guess is worth.
    proven_share: float = 0.20
    proven_strength: float = 20.0
    share_corrected: float = 1.0  # what labels and decoys show the share with a click to be, by what was believed
    share: float = 0.25  # of unproven conversions with a stored click, when it was last learnt
    # Conversions per click that no store exceeds: bounds the share where conversions abound and clicks do not.
    yield_most: float = 0.10
    yield_orders: float = 20.0  # that many conversions at least tell so
    rho: float = 0.5  # share of those clicks that retrieval cannot reach
    a: float = 0.5  # smoothing of visitor counts
    # Unrelated visitors to expect on an address where 0 or 1 others were seen (Good-Turing: (n+1) N[n+1] / N[n]); n + a
    # beyond. An address with one visitor is mostly a home, where a second is rarer than a = .5 says.
    ip_others: Row = (0.30, 1.2)
    pseudo_visitors_ip: float = 200.0  # a new store knows too few visitors to call an address rare or common
    pseudo_visitors_ua: float = 6.0  # a / 6 = .083: two random visitors share a user agent with .087-.103
    # Visitors of an address that many share (a carrier's NAT: phones; an office: its desktops) have more alike user
    # agents than the shop's visitors at large (measured in simulation: .055 overstated there without it).
    shared_from: float = 5.0
    shared_alike: float = 1.35
    # Beyond 7 days: Chapelle's tail.
    delay_share: Row = (0.22, 0.18, 0.12, 0.10, 0.16, 0.22, 0.14, 0.06)
    m_ip: Row = (0.92, 0.80, 0.55, 0.40, 0.33, 0.28, 0.20, 0.12)
    m_fp: Row = (0.75, 0.72, 0.55, 0.45, 0.35, 0.30, 0.22, 0.15)
    m_ua: tuple[Row, ...] = M_UA  # clicks in browsers
    # The same of clicks in an app's own browser. Apart, because labels come from browsers: people seldom sign in
    # inside an app, and what is learnt of browsers must not be held against hand-overs.
    m_ua_app: tuple[Row, ...] = M_UA
    # A cookie jar that existed before the click, with other cookies than the click's: (shells differ, same shell).
    # The same browser would have shown its own cookie at the click, so this all but excludes it; an in-app browser
    # has its own jar.
    m_jar_old: Row = (0.45, 0.04)
    u_jar_old: Row = (0.60, 0.60)
    classes: dict[int, float] = field(
        default_factory=dict
    )  # clicks by device class, so that u fits the order's own device
    networks: dict[int, Network] = {}  # what is known of the store's most frequent ones
    # Addresses on which several visitors were seen, whatever they did there, and how many: an office whose people
    # seldom click looks like a home to who counts clicks alone. And how many visitors in one are clicked for.
    crowds: dict[int, int] = {}
    clickers_per_visitor: float = 0.0  # 0: nobody has looked yet
    # How much denser than evenly spread the visitors of such an address come around each other: an office's all come in
    # its hours, a carrier's at any. By address, and of others that are shared (3: in 50 of a week's 168 hours).
    bunched: dict[int, float] = {}
    bunched_usual: float = 3.0
    caps: tuple[int, ...] = CAPS_FIRST
    cap_other_platform: int = 85
    tiers: dict[str, Beta] = field(default_factory=DEFAULT_TIERS.copy)
    calibration: tuple[float, float] = (1.0, 0.0)  # Platt: logit(p) -> a logit(p) + b
    knots: tuple[tuple[float, float], ...] = ()  # isotonic map, above 2,000 labels; takes Platt's place
    labels: int = 0
    created: int = 0  # ms
    through: int = 0  # the last conversion (row id) that it has learnt from
    counts: dict[str, float] = {}  # learnt, forgetting counts (core/learning.py)

    @property
    def has_looked(self) -> bool:
        """Whether a night has looked at addresses: at visitors', or at those of clicks that nobody gave a visitor."""
        if self.networks or self.clickers_per_visitor > 0:
            return True
        return any(f"near:{n}" in self.counts for n in range(4))


DEFAULT_MODEL = Model()


def bucket(delay_ms: int) -> int:
    return bisect_left(BUCKET_ENDS, delay_ms)


class Scores(Struct, frozen=True, gc=False):
    """The model's logarithms (nats) for one window."""

    time: Row
    ip_equal: Row
    ip_differs: Row
    time_and_ip: Row  # time + ip_equal
    fp_equal: Row  # given the same user agent
    fp_differs: Row
    fp_alone: Row  # where no user agent is known
    jar: tuple[Row, Row]  # [same shell][jar older than the click]
    by_class: dict[
        int, tuple[tuple[Row, ...], tuple[Row, ...]]
    ]  # user agents by the order's class, made when asked for


def scores(model: Model, window_ms: int) -> Scores:
    """The logarithms, made once per model and window (kept for 64 of them)."""
    key = (id(model), window_ms)
    hit = _made.get(key)
    if hit is None:
        if len(_made) >= 64:
            _made.clear()
        hit = _made[key] = (model, _scores(model, window_ms))  # holding the model keeps its id from being reused
    return hit[1]


_made: dict[tuple[int, int], tuple[Model, Scores]] = {}


def _scores(model: Model, window_ms: int) -> Scores:
    given_ua = tuple(min(f / u[0], FP_GIVEN_UA_MAX) for f, u in zip(model.m_fp, model.m_ua, strict=True))
    time, ip_equal = _time(model.delay_share, window_ms), tuple(log(m) for m in model.m_ip)
    return Scores(
        time=time,
        ip_equal=ip_equal,
        time_and_ip=tuple(t + ip for t, ip in zip(time, ip_equal, strict=True)),
        ip_differs=tuple(log(1 - m) for m in model.m_ip),
        fp_equal=tuple(log(m) for m in given_ua),
        fp_differs=tuple(log(1 - m) for m in given_ua),
        fp_alone=tuple(log(m) for m in model.m_fp),
        jar=(_jar(model, 0), _jar(model, 1)),
        by_class={},
    )


def agents(model: Model, table: Scores, ua_class: int) -> tuple[tuple[Row, ...], tuple[Row, ...]]:
    """The user-agent weights for an order of this device class, of clicks in browsers and in apps.

    How often do strangers come that near to it?
    """
    made = table.by_class.get(ua_class)
    if made is None:
        u = device_u(model, ua_class)
        browser, app = (tuple(_ua(device_m(row, ua_class), u) for row in rows) for rows in (model.m_ua, model.m_ua_app))
        made = table.by_class[ua_class] = (browser, app)
    return made


def device_u(model: Model, ua_class: int) -> Row:
    """u of each level from the store's own clicks, steadied by a mixed public's."""
    prior = U_UA.get(system(ua_class), U_DESKTOP)
    seen = [0.0] * 5
    for clicked, n in model.classes.items():
        at = level(clicked, ua_class)
        if at > 0:
            seen[at] += n
    total = sum(seen) + U_STRENGTH
    return tuple(max((n + U_STRENGTH * u) / total, 1e-3) for n, u in zip(seen, prior, strict=True))


def device_m(row: Row, ua_class: int) -> Row:
    """m of each level for an order of this device: no device has all of them.

    A hand-over within one device is level 1 on an iPhone, 2 on an Android phone (Chrome names no version there), 3 on a
    desktop; the row has them as the store's orders have them together.
    """
    same, ios, android, other, platform = row
    own = system(ua_class)
    if own in U_UA:
        return (same, ios + android, ios + android, other, platform)
    return (same, ios + android + other, ios + android + other, ios + android + other, platform)


def _ua(row: Row, u: Row) -> Row:
    """Level 0 has its u from the value's own frequency, so only m is here."""
    return (log(row[0]), *(log(m) - log(p) for m, p in zip(row[1:], u[1:], strict=True)))


def _jar(model: Model, same: int) -> Row:
    m, u = model.m_jar_old[same], model.u_jar_old[same]
    return (log((1 - m) / (1 - u)), log(m / u))


def _time(share: Row, window_ms: int) -> Row:
    """ln of (share of true delays in the bucket / share of a uniform click's delays in it), within the window."""
    inside, start = [], 0
    for end, part in zip(BUCKET_ENDS, share, strict=True):
        length = max(0, min(end, window_ms) - start)
        inside.append((part * length / (end - start), length))
        start = end
    total = sum(part for part, _ in inside)
    return tuple(log(part / total / (length / window_ms)) if length else -50.0 for part, length in inside)
