"""Sets of clicks and orders drawn at random, each in many orders of arrival: one answer, as of sets made by hand."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.journal.test_journal_order import HOME, IPHONE, OFFICE, PIXEL_PHONE, assert_one, permutations, play
from tests.journal.test_journal_order import _visitors_counted_exactly as _visitors_counted_exactly
from tests.kit.journal_kit import HOUR, NOW, click, order

AGENTS = (IPHONE, PIXEL_PHONE, IPHONE.replace("17_5", "17_4") + " Instagram 300")
BROWSERS = [f"fb.1.{1_789_000_000_000 + n * 300 * HOUR}.123456789{n}" for n in range(3)]
PEOPLE: list[dict[str, Any]] = [
    {"email": "jane0@example.com"},
    {"email": "jane1@example.com"},
    {"email": "jane0+x@example.com"},
    {"phone": "+14155550100"},
    {"externalId": "7"},
    {"email": "jane0@example.com", "phone": "+14155550100"},
]


def keys(dice: Random) -> dict[str, Any]:
    """What a visit may carry, of few values, so that events meet."""
    drawn = {
        "visitorId": (0.5, f"visitor-{dice.randrange(3)}"),
        "fbp": (0.3, dice.choice(BROWSERS)),
        "ipAddress": (0.6, dice.choice((HOME, OFFICE))),
        "userAgent": (0.7, dice.choice(AGENTS)),
        "fingerprint": (0.3, f"a1b2c3d4e5f6a7{dice.randrange(2)}"),
    }
    return {name: value for name, (share, value) in drawn.items() if dice.random() < share}


def some(dice: Random, hours: float) -> list[dict[str, Any]]:
    """Three to six clicks, some reported twice and completed by that, and two to five orders of the last `hours`."""

    def when() -> int:
        return NOW - int(dice.uniform(0, hours) * HOUR)

    bodies: list[dict[str, Any]] = []
    for n in range(dice.randint(3, 6)):
        bodies.append(click(f"IwARc{n}0000000", when(), **keys(dice)))
        if dice.random() < 0.3:
            more = {name: value for name, value in keys(dice).items() if name != "visitorId"}
            bodies.append({**bodies[-1], **more, "at": when()})
    made = {body["fbclid"]: body["at"] for body in bodies}
    for n in range(dice.randint(2, 5)):
        body = order(f"n{n}", when(), **keys(dice))
        if dice.random() < 0.2:
            body["fbclid"] = f"IwARc{dice.randrange(6)}0000000"
        if dice.random() < 0.25:
            fbclid = f"IwARc{dice.randrange(8)}0000000"
            body["fbc"] = f"fb.1.{made.get(fbclid, NOW - int(hours * 0.7 * HOUR))}.{fbclid}"
        if dice.random() < 0.5:
            body["customerData"] = dice.choice(PEOPLE)
        if dice.random() < 0.25:
            body["eventType"] = "Lead"
        bodies.append(body)
    return bodies


@pytest.mark.parametrize("seeds", [range(12), pytest.param(range(100, 300), marks=pytest.mark.slow)], ids=len)
def test_every_order_of_arrival_of_any_set_gives_one_answer(seeds: range, tmp_path: Path) -> None:
    for seed in seeds:
        dice = Random(seed)
        bodies = some(dice, dice.choice((10, 60, 90)))
        orders = permutations(bodies, 14, seed)
        fold_at = dice.choice((None, None, len(bodies) // 2))
        answers = play(tmp_path / str(seed), bodies, orders, fold_at, dice.choice(("never", "always")))
        print(seed, *bodies, sep="\n")  # of the set that fails
        assert_one(answers, orders)
