"""The matcher's nouns: what goes in (Query, Candidate, Statistics, Policy) and what comes out (Match)."""

from __future__ import annotations

from typing import Literal
from zlib import crc32

from msgspec import Struct

from collector.core.events import Marketing

DAY_MS = 86_400_000
# What becomes known may change an answer for 96 hours of event time, a sign-in among it.
OPEN_MS = 96 * 3_600_000

Method = Literal[
    "click_id",
    "fbclid",
    "visitor_id",
    "fbp",
    "fbc_unseen",
    "external_id",
    "email",
    "phone",
    "email_weak",
    "probabilistic",
]
Reason = Literal["no_candidate", "below_threshold", "ambiguous", "outside_window", "consent"]
Identity = Literal["external_id", "email", "phone", "email_weak"]

RENEWAL = "renewal"  # the signal of an inherited answer
FP_VERSION_SHIFT = 16
FP_VERSION_MASK = 0xFF << FP_VERSION_SHIFT


def fingerprint_version_bits(version: str | None) -> int:
    """Bits 16..23 of `flags`: fingerprints of different library versions are never compared."""
    return (crc32(version.encode()) & 0xFF) << FP_VERSION_SHIFT if version else 0


class Candidate(Struct, array_like=True, gc=False):
    """A stored click: the columns of table `click` between `store` and `body`, in their order."""

    id: int
    ts: int  # first sighting, ms
    last_ts: int
    fbclid_k: int | None
    visitor_k: int | None
    fbp_k: int | None
    ip_k: int | None
    ua_k: int | None
    fp_k: int | None
    ua_class: int
    flags: int


class Query(Struct, kw_only=True):
    """A conversion, as far as matching looks at it."""

    ts: int  # ms
    fbclid_k: int | None = None  # of the `fbclid` field
    fbc_k: int | None = None  # of the fbclid inside `fbc`
    visitor_k: int | None = None
    fbp_k: int | None = None
    ip_k: int | None = None
    net_k: int | None = None  # of the address's /24 or /48
    ua_k: int | None = None
    fp_k: int | None = None
    ua_class: int = 0
    flags: int = 0
    click_id: int | None = None  # row id of the click that the caller names
    fbc_created: int | None = None  # the creation time inside `fbc`, ms
    jar_since: int | None = None  # the earliest proof that its cookies existed (fbp holds its creation time), ms
    fbc_foreign: bool = False  # its fbclid is known in another store of the same registrable domain
    identity_visitors: dict[int, Identity] = {}  # visitors one hop away, with the strongest kind of link
    claimed: frozenset[int] = frozenset()  # of these, the visitors of whom a page alone says so (links.py)
    consent: Marketing = "granted"
    taken: frozenset[int] = frozenset()  # clicks already given to another conversion, where the store counts one
    kind: int = 0  # 0 a purchase or a step to one, 1 another conversion
    rank: int = 0  # which of the conversions of one moment is the earlier one, whatever arrived first


class Statistics(Struct, kw_only=True):
    """How common the conversion's values are in its store. Clicks of bots, tests and prefetches are not counted.

    `visitors_on_*`: distinct visitors seen with the value in the last 30 days, without the conversion's own visit;
    the visitors of the candidates are among them (the matcher takes the one it judges out again).
    """

    clicks_in_window: float = 0.0
    visitors: float = 0.0
    visitors_on_ip: float = 0.0
    visitors_on_ua: float = 0.0
    visitors_on_fp: float = 0.0
    # Conversions of the same kind told by servers in 30 days before the conversion's hour, with cookies: those whose
    # click proof names, and the others. And all of the window, however they came.
    proven: float = 0.0
    unproven: float = 0.0
    orders_in_window: float = 0.0


class Policy(Struct, frozen=True, kw_only=True):
    """What the store wants: the window, the thresholds, and whether inference is allowed at all."""

    window_ms: int = 7 * DAY_MS
    click_ms: int = 90 * DAY_MS
    threshold: int = 50
    strong: int = 80
    probabilistic: bool = True


class Evidence(Struct, frozen=True, omit_defaults=True):
    """One piece of evidence and its weight; `value` is its number (visitors on it, clicks, seconds), never personal."""

    signal: str
    result: str
    bits: float
    value: float | None = None


class Rival(Struct, frozen=True):
    """Another journey that could have been it, with its probability."""

    click: int
    probability: float


class Label(Struct, frozen=True, array_like=True):
    """What one conversion teaches: features of the click that a proof names, and what inference would have said.

    Features are 1 equal, 0 different, -1 missing; `ua` is the level 0..4 or -1; `jar` 1 when the cookie jar is older.
    """

    kind: Literal["identity", "device", "organic"]
    bucket: int
    ip: int = -1
    ua: int = -1
    fp: int = -1
    jar: int = -1
    same_shell: bool = False
    stated: float = 0.0  # probability of inference's best journey, before calibration and caps
    right: bool = False  # that journey holds the proven click
    best_bucket: int = 0
    best_ua: int = -1
    contradicted: bool | None = None  # device proof: an identity names a newer click
    app: bool = False  # the proven click was made in an app's own browser


class Match(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The answer. `log_odds_bits` sums the evidence's bits, before calibration and caps: P = 1/(1 + 2^-bits)."""

    attributed: bool
    model: str
    click: int | None = None
    confidence: int = 0  # 1..99 when attributed
    method: Method | None = None
    tier: Literal["click", "device", "identity", "inferred", "none"] = "none"
    deterministic: bool = False  # only then may a conversion be enriched from its click
    strong: bool = False
    reason: Reason | None = None
    evidence: list[Evidence] = []
    log_odds_bits: float = 0.0
    p_any: float = 0.0  # probability that any stored click is the cause
    rivals: list[Rival] = []
    alternatives: int = 0  # journeys, the credited one included, that hold 5 % or more
    path: list[int] = []  # the journey's eligible clicks, oldest first
    journey: list[tuple[int, int]] = []  # (click, ms) of all its clicks, older ones too: for reports on other windows
    capped_from: int | None = None
    best: int = 0  # the best score that was refused
    best_click: int | None = None
    window_days: float = 7.0
    click_ts: int | None = None  # when the credited click (or the unseen one) happened
    first_ts: int | None = None  # of a renewal: when the order was made from which it inherits
    stratum: int = 0  # delay bucket, for the reliability tables
    ua_level: int = -1
    pool: int = 0  # 1: the order came with cookies
    shared: bool = False  # nothing but an address that is many people's speaks for it: it is no link
    unlearnt: int = 100  # the most that it may state, without a fingerprint, until a night has learnt of the addresses
    label: Label | None = None  # for core/learning.py

    @property
    def inherited(self) -> bool:
        """Whether it is a renewal's: the first order's answer once more, which must not teach twice."""
        return any(item.signal == RENEWAL for item in self.evidence)
