"""Does the confidence come true: stated against proven, the calibration error with its noise floor, by evidence tier.

Labels come from orders whose click was proven later or by another way (core/learning.py): an identity proof where no
cookie survived tells whether inference would have named the right click; two device proofs that disagree tell how often
a device proof is wrong. Fewer labels than `ENOUGH` say nothing, and the answer says so.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from msgspec import Struct

from collector.core.calibration import calibrate, sigmoid
from collector.core.learning import BIN, decoy_shares
from collector.core.matching.model import DEFAULT_MODEL, Model
from collector.storage.reports.kept import SEPARATOR
from collector.storage.reports.questions import Reading, named

ENOUGH: Final = 100  # labels below which no error is stated: the noise floor alone would be about .05
_BINS: Final = 10
_REDRAWS: Final = 30
_STATED_FROM: Final = 0.05  # below it are the easy zeros, which flatter every model


class LabelKey(NamedTuple):
    """One kind of label; `step` is the stated log odds in steps of a quarter."""

    store: int
    kind: str
    method: str
    step: int
    purchase: bool = True


class Truth(Struct):
    """Labels with one key: how many, and how many of them came true."""

    n: int = 0
    right: int = 0

    def add(self, n: int, right: int) -> None:
        self.n, self.right = self.n + n, self.right + right


async def labels(reader: Reading, since: int) -> dict[LabelKey, Truth]:
    """What later proof said of what was stated, of events from `since` (ms) on; of purchases where a store has them."""
    sellers = {store for (store,) in await reader.rows(_SELLERS, since // 900_000)}
    out: dict[LabelKey, Truth] = defaultdict(Truth)
    for store, purchase, label, n in await reader.rows(_LABELS, since // 86_400_000):
        kind, method, step, right = label.split(SEPARATOR)
        if purchase or store not in sellers:
            out[LabelKey(store, kind, method, int(step), bool(purchase))].add(n, n * int(right))
    return out


# Store by store, so that each finds its span in the sums' keys.
_SELLERS: Final = named(
    "sellers",
    """
SELECT s.id FROM store s WHERE EXISTS (
       SELECT 1 FROM sale_sum t WHERE t.store = s.id AND t.event = 'Purchase' AND t.quarter >= ? AND t.n > 0)""",
)
_LABELS: Final = named(
    "labels",
    """
SELECT t.store, t.purchase, t.label, sum(t.n) FROM store s CROSS JOIN truth_sum t ON t.store = s.id AND t.day >= ?
 GROUP BY 1, 2, 3""",
)


class Bin(Struct, frozen=True):
    """Labels that were stated about as likely: the mean stated, the share that was right, how many."""

    stated: float
    true: float
    n: int


class Tier(Struct, frozen=True):
    """One evidence tier: what it says of itself, what came true."""

    name: str
    stated: float
    labels: int
    right: int


class Trust(Struct, frozen=True):
    """What can be said about the confidence of one store, or of all."""

    labels: int  # of the inference
    bins: list[Bin]
    error: float | None  # expected calibration error over equal-mass bins; None with too few labels
    floor: float | None  # what a perfect model would show on so few labels
    tiers: list[Tier]
    organic: int  # orders proven to come from no click
    organic_linked: int  # of these, how many inference would have linked at the threshold


def assess(labels: dict[LabelKey, Truth], models: dict[int, Model], stores: set[int], threshold: int) -> Trust:
    """The tables from the labels of `stores`; `models` by store, the defaults where there is none."""
    own = [(key, truth) for key, truth in labels.items() if key.store in stores]
    points = sorted(_points(own, models) + _without_a_click(own, models))
    total = sum(truth.n for key, truth in own if key.kind == "identity" and _stated(key, models) >= _STATED_FROM)
    bins = equal_mass(points)
    enough = total >= ENOUGH
    organic = [(key, truth) for key, truth in own if key.kind == "organic"]
    return Trust(
        labels=total,
        bins=bins,
        error=calibration_error(bins) if enough else None,
        floor=noise_floor(bins) if enough else None,
        tiers=_tiers(own, models, stores),
        organic=sum(truth.n for _, truth in organic),
        organic_linked=sum(truth.n for key, truth in organic if _stated(key, models) * 100 >= threshold),
    )


def _stated(key: LabelKey, models: dict[int, Model]) -> float:
    model = models.get(key.store, DEFAULT_MODEL)
    return calibrate(sigmoid(max(key.step, -400) * BIN), model.calibration, model.knots)


Point = tuple[float, int, int]  # stated, labels, of which right


def _points(labels: Iterable[tuple[LabelKey, Truth]], models: dict[int, Model]) -> list[Point]:
    found = [(_stated(key, models), truth.n, truth.right) for key, truth in labels if key.kind == "identity"]
    return [point for point in found if point[0] >= _STATED_FROM]


def _without_a_click(labels: Iterable[tuple[LabelKey, Truth]], models: dict[int, Model]) -> list[Point]:
    """What is stated of orders that no click caused, in proportion: labels all have one, and alone would flatter."""
    seen: Counter[int] = Counter()
    for key, truth in labels:
        if key.kind == "identity":
            seen[key.store] += truth.n
    points = []
    for store, n in seen.items():
        model = models.get(store, DEFAULT_MODEL)
        pi = model.share
        for stated, share in decoy_shares(model):
            p = calibrate(stated, model.calibration, model.knots)
            points.append((p, round(n * (1 - pi) / pi * share), 0))
    return [point for point in points if point[0] >= _STATED_FROM and point[1] > 0]


def equal_mass(points: Sequence[Point]) -> list[Bin]:
    """About ten bins with about as many labels each."""
    share = max(1.0, sum(n for _, n, _ in points) / _BINS)
    out: list[Bin] = []
    mass, stated, right = 0, 0.0, 0
    for p, n, r in points:
        mass, stated, right = mass + n, stated + p * n, right + r
        if mass >= share:
            out.append(Bin(stated / mass, right / mass, mass))
            mass, stated, right = 0, 0.0, 0
    if mass:
        out.append(Bin(stated / mass, right / mass, mass))
    return out


def calibration_error(bins: Sequence[Bin]) -> float:
    """The mean distance between stated and true, weighted by labels (Guo et al. 2017)."""
    total = sum(b.n for b in bins)
    return sum(b.n * abs(b.stated - b.true) for b in bins) / total if total else 0.0


def noise_floor(bins: Sequence[Bin]) -> float:
    """The error that a perfect model would show with these labels: the mean of thirty redraws."""
    draw = random.Random(0)  # noqa: S311  the same labels always give the same figure
    redrawn = [[Bin(b.stated, _drawn(draw, b) / b.n, b.n) for b in bins] for _ in range(_REDRAWS)]
    return sum(calibration_error(one) for one in redrawn) / _REDRAWS


def _drawn(draw: random.Random, b: Bin) -> int:
    if b.n > 1000:  # the normal approximation: a million labels need no million draws
        return round(min(max(draw.gauss(b.n * b.stated, (b.n * b.stated * (1 - b.stated)) ** 0.5), 0), b.n))
    return sum(draw.random() < b.stated for _ in range(b.n))


def _tiers(labels: Iterable[tuple[LabelKey, Truth]], models: dict[int, Model], stores: set[int]) -> list[Tier]:
    """Device proofs by method: the stores' own belief beside what contradicting proofs showed."""
    shown: dict[str, dict[int, Truth]] = defaultdict(lambda: defaultdict(Truth))
    for key, truth in labels:
        if key.kind == "device":
            shown[key.method][key.store].add(truth.n, truth.right)
    return [_tier(name, shown[name], models, stores) for name in DEFAULT_MODEL.tiers]


def _tier(name: str, shown: dict[int, Truth], models: dict[int, Model], stores: set[int]) -> Tier:
    """A store's belief counts as often as its labels tell of the proof; all count alike where none does."""
    labels, right = sum(truth.n for truth in shown.values()), sum(truth.right for truth in shown.values())
    weights = {store: truth.n for store, truth in shown.items()} if labels else dict.fromkeys(stores or (0,), 1)
    stated = sum(n * models.get(store, DEFAULT_MODEL).tiers[name].mean for store, n in weights.items())
    return Tier(name, stated / sum(weights.values()), labels, right)
