"""The nightly step: what a store's own labels do to its model, and what they do not do."""

from __future__ import annotations

import msgspec
import pytest
from msgspec import structs

from collector.core.learning import Pair, decoy_shares, forget, learn, stated_by, wilson_low
from collector.core.matching import DEFAULT_MODEL, Candidate, Label, Match, Model, Policy, Query, Statistics, match
from collector.core.matching.inference import bunched, crowd_of, lasting, prior_odds
from collector.core.matching.model import CAPS_USUAL, DAY, HOUR, Network, device_m, device_u
from collector.core.sightings import Hit, Sighting, crowds_of, seen_again
from collector.core.useragents import classify

NOTHING = Match(attributed=False, model="x", reason="no_candidate", tier="none")
QUIET = [NOTHING] * 200  # decoys that state nothing
NIGHT = 1_780_000_000_000
SAFARI = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) Version/18.6 Mobile/15E148 Safari/604.1"
APP = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) Mobile/22G100 [FBAN/FBIOS;FBDV/iPhone14,7;FBSV/18.6]"
CHROME = "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 Chrome/141.0.0.0 Mobile Safari/537.36"
WINDOWS = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/141.0.0.0 Safari/537.36"


def taught(label: Label, **fields: object) -> Match:
    return Match(attributed=True, model="default.1", tier="identity", method="email", label=label, **fields)  # type: ignore[arg-type]


def proven(**fields: object) -> Label:
    return Label("identity", **({"bucket": 0, "ip": 1, "ua": 0, "stated": 0.9, "right": True} | fields))  # type: ignore[arg-type]


def test_no_labels_leave_the_defaults() -> None:
    model = learn(DEFAULT_MODEL, [], now=NIGHT)
    assert model.m_ip == pytest.approx(DEFAULT_MODEL.m_ip)
    assert model.delay_share == pytest.approx(DEFAULT_MODEL.delay_share)
    assert (model.share_corrected, model.networks, model.crowds) == (1.0, {}, {})
    assert model.caps == CAPS_USUAL
    assert model.calibration == (1.0, 0.0)


def test_each_night_has_its_own_version_and_can_be_stored() -> None:
    first = learn(DEFAULT_MODEL, [taught(proven())], now=NIGHT)
    second = learn(first, [], now=NIGHT + 1)
    assert [first.version, second.version] == ["fs.2", "fs.3"]
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(first), type=Model) == first


def test_twenty_labels_weigh_as_much_as_the_default() -> None:
    model = learn(DEFAULT_MODEL, [taught(proven(ip=0))] * 20, now=NIGHT)
    assert model.m_ip[0] == pytest.approx(DEFAULT_MODEL.m_ip[0] / 2)
    assert model.m_ip[1] == pytest.approx(DEFAULT_MODEL.m_ip[1])


def test_labels_of_device_proofs_do_not_teach_the_features() -> None:
    """The hidden-cookie trap: orders that kept their cookie are the easy ones."""
    untaught = learn(DEFAULT_MODEL, [], now=NIGHT)
    easy = Label("device", 0, ip=0, ua=4, contradicted=False)
    answers = [Match(attributed=True, model="x", tier="device", method="fbclid", label=easy)] * 500
    model = learn(DEFAULT_MODEL, answers, now=NIGHT)
    assert model.m_ip == untaught.m_ip
    assert model.m_ua == untaught.m_ua


def test_device_proofs_that_identities_contradict_lower_their_tier() -> None:
    wrong = Label("device", 0, contradicted=True)
    answers = [Match(attributed=True, model="x", tier="device", method="fbclid", label=wrong)] * 10
    assert learn(DEFAULT_MODEL, answers, now=NIGHT).tiers["fbclid"].mean == pytest.approx(99 / 110)


def test_labels_are_forgotten_with_a_half_life_of_sixty_days() -> None:
    assert forget({"labels": 8.0}, 60.0) == {"labels": 4.0}
    assert forget({"labels": 1e-4}, 60.0) == {}


def prior(pool: int, **seen: float) -> float:
    odds = prior_odds(DEFAULT_MODEL, pool, Statistics(**seen))  # type: ignore[arg-type]
    return odds / (1 + odds)


def test_the_prior_follows_the_stores_own_orders_as_they_arrive() -> None:
    assert (prior(0), prior(1)) == pytest.approx((0.30, 0.20), abs=1e-3)
    assert prior(1, proven=4, unproven=96) == pytest.approx(8 / 120, abs=1e-3)
    assert prior(0, proven=4, unproven=96) < 0.11
    assert prior(1, proven=50, unproven=50) > 0.4


def test_clicks_yield_only_so_many_orders() -> None:
    assert prior(0, clicks_in_window=100, orders_in_window=200) == pytest.approx(0.05)
    assert prior(0, clicks_in_window=100, orders_in_window=10) == pytest.approx(0.30, abs=1e-3)


def test_visitors_seen_again_tell_how_long_a_networks_addresses_last() -> None:
    home = [Hit(at * DAY, n, 500 + n, 1) for n in range(20) for at in (0, 1)]
    relay = [Hit(at * DAY, 100 + n, 1000 * at + n, 2) for n in range(20) for at in (0, 1)]
    seen = seen_again(sorted([*home, *relay]), DAY)
    assert len(seen) == 40
    model = learn(DEFAULT_MODEL, [], (), (), seen, now=NIGHT)
    at_home, lent = (lasting(model.networks[net])[2] for net in (1, 2))
    assert lent < 0.4 < 1 < at_home


def test_one_sighting_of_a_network_is_worth_little() -> None:
    model = learn(DEFAULT_MODEL, [], (), (), [Sighting(1, 4, same=False)], now=NIGHT)
    assert lasting(model.networks[1])[2] > 0.85


def test_a_relays_address_alone_is_never_enough() -> None:
    """Control: the same click counts where the network is not known to be a relay's."""
    for lasts, attributed in ((0.0, False), (20.0, True)):
        network = Network((20.0, 20.0, 20.0), (lasts, lasts, lasts), (20.0, 1.0, 0.0))
        model = structs.replace(DEFAULT_MODEL, networks={2: network})
        for fp, expected in ((None, attributed), (9, True)):
            at = DAY - 5 * 60_000
            click = Candidate(1, at, at, 1, 11, None, 5, 7, fp, 0, 0)
            query = Query(ts=DAY, ip_k=5, net_k=2, ua_k=7, fp_k=fp)
            shop = Statistics(
                clicks_in_window=300, visitors=1500, visitors_on_ip=1, visitors_on_ua=300, visitors_on_fp=1
            )
            assert match(query, [click], shop, model, Policy()).attributed is expected


def test_while_a_relay_lends_its_address_another_agent_is_another_persons() -> None:
    """Control: the same agent counts then, and another one where addresses last."""
    at = DAY - 2 * 60_000
    click = Candidate(1, at, at, 1, 11, None, 5, 7, None, classify(SAFARI), 0)
    shop = Statistics(clicks_in_window=300, visitors=1500, visitors_on_ip=1, visitors_on_ua=300)
    cases = (
        (0.0, 0.0, 7, True),
        (0.0, 0.0, 8, False),
        (19.0, 0.0, 8, False),
        (19.0, 8.0, 8, True),
        (20.0, 60.0, 8, True),
    )
    for hour, later, ua_k, expected in cases:
        network = Network((20.0, 20.0, 60.0), (18.0, hour, later), (20.0, 1.0, 0.0))
        query = Query(ts=DAY, ip_k=5, net_k=2, ua_k=ua_k, ua_class=classify(SAFARI))
        model = structs.replace(DEFAULT_MODEL, networks={2: network})
        assert match(query, [click], shop, model, Policy()).attributed is expected


def test_an_office_is_known_by_all_who_are_seen_there() -> None:
    seen = [(5, n) for n in range(30)] + [(6, 40), (6, 41), (7, 50)]
    crowds = crowds_of([Hit(n * HOUR, visitor, ip, 1) for n, (ip, visitor) in enumerate(seen)], {0, 1, 2, 40})
    assert crowds.visitors == {5: 30}
    model = learn(DEFAULT_MODEL, [], (), (), (), crowds, now=NIGHT)
    assert crowd_of(model, 5) == pytest.approx(29 * 4 / 33)
    assert crowd_of(model, 6) == crowd_of(model, None) == 0.0


def hits_of(ip: int, weekdays: int, opens: int, closes: int) -> list[Hit]:
    """One visitor an hour while it is open, of 40 in turn."""
    times = [day * DAY + hour * HOUR for day in range(30) if day % 7 < weekdays for hour in range(opens, closes)]
    return [Hit(at + n * 37 % 60 * 60_000, 100 * ip + n % 40, ip, 1) for n, at in enumerate(times)]


def test_an_office_is_there_in_its_hours_and_a_carrier_at_all_of_them() -> None:
    crowds = crowds_of(sorted([*hits_of(5, 5, 8, 18), *hits_of(6, 7, 0, 24)]), set())
    assert crowds.bunched[5] > 1.7
    assert crowds.bunched[6] == pytest.approx(1.0, abs=0.1)
    model = learn(DEFAULT_MODEL, [], (), (), (), crowds, now=NIGHT)
    assert bunched(model, 5, 0.0) == crowds.bunched[5]
    assert bunched(model, 7, 1.0) == crowds.bunched_usual > bunched(model, 7, 0.0) == 1.0
    stated = [shared(structs.replace(model, bunched={5: times})) for times in (1.0, 2.0, 3.0)]
    assert stated == sorted(stated, reverse=True)
    assert len(set(stated)) == 3


def shared(model: Model) -> float:
    """What is stated of an iPhone's hand-over from an app to its browser, on an address of six others."""
    click = Candidate(1, DAY - HOUR, DAY - HOUR, 1, 11, None, 5, 7, None, classify(APP), 0)
    query = Query(ts=DAY, ip_k=5, ua_k=8, ua_class=classify(SAFARI))
    shop = Statistics(clicks_in_window=300, visitors=1500, visitors_on_ip=7, visitors_on_ua=300)
    return stated_by(match(query, [click], shop, model, Policy()))


@pytest.mark.parametrize(
    ("hours", "agent", "ua_k", "seen", "attributed"),
    [
        (7, APP, 7, 0, True),
        (7, APP, 7, 6, True),  # the very phone
        (7, SAFARI, 7, 5, True),
        (7, SAFARI, 7, 6, False),
        (5, SAFARI, 7, 6, True),
        (0, WINDOWS, 8, 5, True),
        (0, WINDOWS, 8, 6, False),
        (0, SAFARI, 7, 6, True),
    ],
)
def test_a_crowds_address_says_nothing_late_or_of_another_device(
    hours: int, agent: str, ua_k: int, seen: int, attributed: bool
) -> None:
    at = DAY - hours * HOUR - 2 * 60_000
    click = Candidate(1, at, at, 1, 11, None, 5, ua_k, None, classify(APP if agent == APP else SAFARI), 0)
    query = Query(ts=DAY, ip_k=5, ua_k=7, ua_class=classify(agent))
    shop = Statistics(clicks_in_window=60, visitors=1500, visitors_on_ip=1, visitors_on_ua=2)
    model = structs.replace(DEFAULT_MODEL, crowds={5: seen}, clickers_per_visitor=0.05)
    assert match(query, [click], shop, model, Policy()).attributed is attributed


def test_two_browsers_of_one_person_are_no_crowd() -> None:
    """Within an hour it may be one person's app and browser: only what is further apart counts."""
    pairs = [Hit(n * 8 * DAY + k * 60_000, 2 * n + k, 5, 1) for n in range(4) for k in (0, 1)]
    assert crowds_of(pairs, set()).bunched[5] < DEFAULT_MODEL.bunched_usual


def test_no_device_comes_near_in_all_ways() -> None:
    """Chrome on Android names no version: there a hand-over says little more than Android, on an iPhone it does."""
    row = DEFAULT_MODEL.m_ua[0]
    for agent, near, other in ((SAFARI, 1, 2), (CHROME, 2, 1), (WINDOWS, 3, 1)):
        m, u = device_m(row, classify(agent)), device_u(DEFAULT_MODEL, classify(agent))
        assert m[0] + m[near] + (m[3] if near < 3 else 0) + m[4] == pytest.approx(1)
        assert u[near] > 10 * u[other]
    ratios = [
        device_m(row, c)[n] / device_u(DEFAULT_MODEL, c)[n] for c, n in ((classify(SAFARI), 1), (classify(CHROME), 2))
    ]
    assert ratios[0] > 1 > ratios[1]


def test_a_browsers_agent_that_nobody_had_may_be_a_new_version() -> None:
    """An app's names the very phone; control: one that many have weighs the same in both."""
    shop = Statistics(clicks_in_window=300, visitors=1500, visitors_on_ip=1, visitors_on_ua=1)
    for agent, rare in ((SAFARI, False), (APP, True)):
        click = Candidate(1, DAY - HOUR, DAY - HOUR, 1, 11, None, 5, 7, None, classify(agent), 0)
        query = Query(ts=DAY, ip_k=5, ua_k=7, ua_class=classify(agent))
        for visitors, bits in ((1, 9.0), (200, 9.0)):
            found = match(query, [click], structs.replace(shop, visitors_on_ua=visitors), DEFAULT_MODEL, Policy())
            weight = next(e.bits for e in found.evidence if e.signal == "user_agent")
            assert (weight > bits) is (rare and visitors == 1)


def test_strangers_teach_how_common_devices_and_neighbours_are() -> None:
    pairs = [Pair(4, False, -1, 77, 0)] * 900 + [Pair(0, True, 1, 78, 1)] * 100
    model = learn(DEFAULT_MODEL, [], pairs, now=NIGHT)
    assert model.classes[77] == 900
    assert model.ip_others[0] == pytest.approx(100 / 900, abs=0.02)


def test_a_cap_is_lifted_after_two_hundred_labels_that_earn_it() -> None:
    earned = [taught(proven(bucket=3, best_bucket=3, stated=0.99))] * 400
    lifted = learn(DEFAULT_MODEL, earned, decoys=QUIET, now=NIGHT).caps
    assert lifted[2] == lifted[3] > CAPS_USUAL[3]
    assert lifted[0] == CAPS_USUAL[0]
    few = learn(DEFAULT_MODEL, earned[:150], decoys=QUIET, now=NIGHT).caps
    wrong = [taught(proven(bucket=3, best_bucket=3, stated=0.99, right=False))] * 400
    assert few == learn(DEFAULT_MODEL, wrong, decoys=QUIET, now=NIGHT).caps == CAPS_USUAL


def test_the_cap_of_another_platform_is_lifted_apart() -> None:
    earned = [taught(proven(ua=4, best_ua=4, stated=0.99))] * 400
    assert learn(DEFAULT_MODEL, earned, decoys=QUIET, now=NIGHT).cap_other_platform > 85
    other = [taught(proven(ua=0, best_ua=0, stated=0.99))] * 400
    assert learn(DEFAULT_MODEL, other, decoys=QUIET, now=NIGHT).cap_other_platform == 85


def test_labels_without_decoys_lift_nothing() -> None:
    """Labels hold no order without a click: alone they would flatter the model."""
    earned = [taught(proven(bucket=3, best_bucket=3, stated=0.99))] * 400
    model = learn(DEFAULT_MODEL, earned, now=NIGHT)
    assert model.caps == CAPS_USUAL
    assert model.calibration == (1.0, 0.0)


def test_decoys_that_link_hold_a_cap_down_and_bend_the_map() -> None:
    loud = Match(attributed=True, model="x", tier="inferred", confidence=90, log_odds_bits=7.0, stratum=3)
    earned = [taught(proven(bucket=3, best_bucket=3, stated=0.99))] * 400
    model = learn(DEFAULT_MODEL, earned, decoys=[loud] * 40 + QUIET, now=NIGHT)
    assert model.caps == CAPS_USUAL
    a, b = model.calibration
    assert a * 4.6 + b < 3


def test_calibration_starts_at_two_hundred_labels_and_bends_towards_the_truth() -> None:
    half = [taught(proven(right=right)) for right in (True, False)] * 99
    assert learn(DEFAULT_MODEL, half, decoys=QUIET, now=NIGHT).calibration == (1.0, 0.0)
    a, b = learn(DEFAULT_MODEL, half * 3, decoys=QUIET, now=NIGHT).calibration
    assert a * 2.2 + b < 1.0
    assert learn(DEFAULT_MODEL, half * 20, decoys=QUIET, now=NIGHT).knots


def test_the_share_of_false_statements_is_known_from_two_hundred_decoys() -> None:
    loud = Match(attributed=True, model="x", tier="inferred", confidence=88, log_odds_bits=3.0)
    model = learn(DEFAULT_MODEL, [], decoys=[loud] * 5 + QUIET[:195], now=NIGHT)
    assert decoy_shares(model) == [(pytest.approx(8 / 9, abs=0.02), 5 / 200)]
    assert decoy_shares(learn(DEFAULT_MODEL, [], decoys=[loud] * 5, now=NIGHT)) == []


def test_wilsons_lower_end_is_careful_with_few() -> None:
    assert wilson_low(10, 10) < 0.9 < wilson_low(400, 400)
    assert wilson_low(0, 0) == 0.0
