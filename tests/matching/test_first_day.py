"""Before a store's first night nobody knows which addresses many share: what it states then is cautious."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from msgspec import structs

from collector.core.learning import Pair, learn
from collector.core.matching import DEFAULT_MODEL, Candidate, Match, Model, Policy, Query, Statistics, decide, match
from collector.core.matching.model import CAPS_USUAL, DAY, HOUR, Network
from collector.core.sightings import crowds_of
from collector.core.useragents import classify
from tests.kit.simulators.scores import share
from tests.kit.simulators.trial import Shelf, Verdict, counted, try_matcher
from tests.kit.simulators.truth import START, Public, World

MINUTE = 60_000
SAFARI = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) Version/18.6 Mobile/15E148 Safari/604.1"
OLDER = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_1 like Mac OS X) Version/17.1 Mobile/15E148 Safari/604.1"
APP = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) Mobile/22G100 [FBAN/FBIOS;FBDV/iPhone14,7;FBSV/18.6]"
MAC = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 Version/18.6 Safari/605.1.15"
CHROME = "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 Chrome/141.0.0.0 Mobile Safari/537.36"
DROID = (
    "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 Chrome/141.0.0.0 Mobile Safari/537.36 [FBAN/EMA;FBAV/500]"
)
WINDOWS = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/141.0.0.0 Safari/537.36"
KNOWN = structs.replace(DEFAULT_MODEL, networks={9: Network((1.0, 1.0, 1.0), (1.0, 1.0, 1.0))}, caps=CAPS_USUAL)


def told(clicked: str, ordered: str, ago: int, model: Model, fp: bool = False, others: int = 0) -> Match:
    """An address in common, and the agent where the two are one; `fp`: the fingerprint as well.

    `others`: how many more have clicked from the address.
    """
    prints = 3 if fp else None
    click = Candidate(1, DAY - ago, DAY - ago, 1, 11, None, 5, hash(clicked), prints, classify(clicked), 0)
    query = Query(ts=DAY, ip_k=5, ua_k=hash(ordered), ua_class=classify(ordered), fp_k=prints)
    shop = Statistics(
        clicks_in_window=60, visitors=1500, visitors_on_ip=1 + others, visitors_on_ua=40, visitors_on_fp=1
    )
    return match(query, [click], shop, model, Policy())


@pytest.mark.parametrize(
    ("clicked", "ordered", "ago", "stated"),
    [
        (SAFARI, SAFARI, 50 * MINUTE, True),
        (MAC, MAC, 5 * MINUTE, True),
        (APP, APP, 2 * HOUR, True),
        (CHROME, CHROME, 2 * HOUR, True),
        (DROID, CHROME, 5 * MINUTE, True),  # one Android's version, which most phones have
        (DROID, CHROME, 50 * MINUTE, True),
        (DROID, CHROME, 2 * HOUR, False),
        (WINDOWS, WINDOWS, 20 * HOUR, True),
        (APP, SAFARI, 5 * MINUTE, True),  # one phone, from the app to its browser
        (APP, SAFARI, 2 * HOUR, True),
        (SAFARI, WINDOWS, 5 * MINUTE, False),  # another device on the line
        (CHROME, WINDOWS, 50 * MINUTE, False),
        (OLDER, SAFARI, 5 * MINUTE, False),
    ],
)
def test_before_the_first_night_an_address_that_may_be_anybodys_names_nobody(
    clicked: str, ordered: str, ago: int, stated: bool
) -> None:
    found = told(clicked, ordered, ago, DEFAULT_MODEL)
    assert (found.attributed, found.shared) == (stated, not stated)
    assert stated or found.best <= 3
    assert told(clicked, ordered, ago, KNOWN).attributed, "control: once a night has told of the addresses"


@pytest.mark.parametrize(
    ("agent", "ago"), [(SAFARI, 2 * HOUR), (SAFARI, 20 * HOUR), (MAC, 2 * HOUR), (CHROME, 2 * HOUR), (APP, 5 * HOUR)]
)
def test_before_the_first_night_an_address_an_hour_later_is_stated_as_even(agent: str, ago: int) -> None:
    """Apple's relay, or a carrier, may have lent it to somebody else by now."""
    assert told(agent, agent, ago, DEFAULT_MODEL).confidence == 50
    assert told(agent, agent, ago, KNOWN).confidence > 60, "control: once a night has told of the addresses"


@pytest.mark.parametrize(
    ("clicked", "ordered", "ago", "most"),
    [
        (SAFARI, SAFARI, 5 * MINUTE, 99),
        (SAFARI, SAFARI, 50 * MINUTE, 50),
        (APP, SAFARI, 50 * MINUTE, 50),
        (CHROME, CHROME, 2 * HOUR, 3),
        (DROID, CHROME, 5 * MINUTE, 50),
        (DROID, CHROME, 50 * MINUTE, 3),
    ],
)
def test_before_the_first_night_an_address_that_two_have_clicked_from_states_little(
    clicked: str, ordered: str, ago: int, most: int
) -> None:
    found, alone = (told(clicked, ordered, ago, DEFAULT_MODEL, others=others) for others in (1, 0))
    assert max(found.confidence, found.best) <= most
    assert max(alone.confidence, alone.best) > most or most == 99, "control: where nobody else has"
    assert told(clicked, ordered, ago, KNOWN, others=1).attributed, "control: once a night has told of the addresses"


def test_a_night_over_clicks_that_have_no_visitor_ends_the_caution() -> None:
    """Of such a store no visitors are known, and no networks where no raw address is kept; its neighbours are."""
    clicks = [Pair(ua=0, same_shell=True, jar=-1, click_class=0, neighbours=0)]
    nobody = crowds_of([], set())
    blind = learn(DEFAULT_MODEL, [], crowds=nobody, now=DAY)
    looked = learn(DEFAULT_MODEL, [], clicks, crowds=nobody, now=DAY)
    for agent, ago, others in ((SAFARI, 50 * MINUTE, 1), (MAC, 2 * HOUR, 0), (WINDOWS, 2 * HOUR, 1)):
        assert told(agent, agent, ago, looked, others=others).confidence > 60
        for model in (DEFAULT_MODEL, blind):
            cautious = told(agent, agent, ago, model, others=others)
            assert max(cautious.confidence, cautious.best) <= 50, "control: nobody has looked"


def test_a_fingerprint_in_common_is_no_mere_address() -> None:
    assert told(SAFARI, SAFARI, 2 * HOUR, DEFAULT_MODEL, fp=True).attributed


def test_nothing_is_stated_surer_than_after_a_night() -> None:
    for ago in (5 * MINUTE, 50 * MINUTE, 5 * HOUR, 20 * HOUR):
        assert told(CHROME, CHROME, ago, DEFAULT_MODEL).confidence <= told(CHROME, CHROME, ago, KNOWN).confidence


# -- a whole first day


SEEDS = range(920, 924)
DAYS = 3
TOWNS = (
    {"employed": 0.9, "per_office": 300},
    {"cgnat": 0.9, "strip": 0.2},
    {"relayed": 0.9, "employed": 0.9, "per_office": 1000},
    {},
    {"organic": 4.0},
)


def first_days(model: Model) -> list[Verdict]:
    """Of a shop with some 800 clicks a day, in towns of each kind; the nights look at the addresses."""
    found = []
    for town in TOWNS:
        for seed in SEEDS:
            a_day = {"clicks_per_person": DAYS / 30, "visits": DAYS / 3}
            public = Public(World(seed=seed, people=25_000, days=DAYS, **a_day, **town))  # type: ignore[arg-type]
            shelf = Shelf(public)
            found += try_matcher(public, model=model, since_day=0, learn=counted(public, shelf), shelf=shelf)
    return found


class Told(NamedTuple):
    """Of the first day's links without proof; `over`: what relays overstate, per link; recall: of all days."""

    at_90: float
    at_50: float
    over: float
    recall: float


def shown(name: str, verdicts: list[Verdict]) -> Told:
    links = [v for v in verdicts if v.order.ts < START + DAY and not v.proof and v.answer.attributed]
    sure = [v for v in links if v.answer.confidence >= 90]
    relays = [v for v in links if v.order.network == "relay"]
    true = [v for v in verdicts if v.order.truth is not None]
    over = sum(v.answer.confidence / 100 - v.right for v in relays) / len(links)
    told = Told(share(v.right for v in sure), share(v.right for v in links), over, share(v.right for v in true))
    print(f"{name}: {len(links)} links, {len(sure)} at 90, {len(relays)} relays; {told}")
    return told


@pytest.mark.long
def test_a_first_day_is_stated_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control is the same days without the caution."""
    cautious = shown("cautious", first_days(DEFAULT_MODEL))
    monkeypatch.setattr(decide, "unlearnt_most", lambda *_: 100)
    bold = shown("bold", first_days(structs.replace(DEFAULT_MODEL, caps=CAPS_USUAL)))
    assert cautious.at_90 >= 0.93 > bold.at_90
    assert cautious.at_50 >= bold.at_50 + 0.08
    assert cautious.over < bold.over / 2
    assert cautious.recall > bold.recall - 0.02
