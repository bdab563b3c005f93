"""The numbered hard cases of matching that the matcher itself decides."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
import pytest

from collector.core import flags
from collector.core.matching import (
    DEFAULT_MODEL,
    Candidate,
    Match,
    Policy,
    Query,
    Statistics,
    decide,
    fingerprint_version_bits,
    match,
    renew,
)
from collector.core.matching.shapes import Identity
from collector.core.useragents import classify

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
NOW = 1_780_000_000_000
_IPHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15"
SAFARI = f"{_IPHONE} Version/18.6 Mobile/15E148 Safari/604.1"
IN_APP = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 [FBAN/FBIOS;FBDV/iPhone15,2;FBSV/18.6]"
)
SAFARI_OLD = SAFARI.replace("18_6", "18_5")
CHROME = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36"
)
AGENTS = {SAFARI: 1, IN_APP: 2, CHROME: 3, SAFARI_OLD: 4}
SHOP = Statistics(
    clicks_in_window=18_000,
    visitors=40_000,
    visitors_on_ip=1,
    visitors_on_ua=800,
    visitors_on_fp=1,
)
_ids = itertools.count(1)


def click(ago: int, agent: str | None = None, **fields: Any) -> Candidate:
    """A click `ago` ms before the order; its visitor and fbclid are its own unless they are given."""
    number = fields.pop("id", None) or next(_ids)
    keys: dict[str, Any] = {
        "fbclid_k": 1000 + number,
        "visitor_k": 2000 + number,
        "fbp_k": None,
        "ip_k": None,
        "fp_k": None,
    }
    keys |= {
        "ua_k": AGENTS[agent] if agent else None,
        "ua_class": classify(agent or ""),
        "flags": 0,
        "last_ts": NOW - ago,
    }
    return Candidate(id=number, ts=NOW - ago, **(keys | fields))


def order(agent: str | None = None, **fields: Any) -> Query:
    return Query(**({"ts": NOW, "ua_k": AGENTS[agent] if agent else None, "ua_class": classify(agent or "")} | fields))


def answer(query: Query, *clicks: Candidate, shop: Statistics = SHOP, **policy: Any) -> Match:
    return match(query, clicks, shop, DEFAULT_MODEL, Policy(**policy))


def test_01_a_click_after_the_order_is_never_its_cause() -> None:
    assert answer(order(visitor_k=7), click(-6 * MINUTE, visitor_k=7)).reason == "no_candidate"


@pytest.mark.parametrize(
    ("proof", "attributed"), [({"visitor_k": 7}, True), ({"fbc_k": 9}, True), ({"ip_k": 5}, False)]
)
def test_02_two_clocks_may_differ_by_five_minutes_where_a_device_is_proven(
    proof: dict[str, int], attributed: bool
) -> None:
    late = click(-4 * MINUTE, SAFARI, visitor_k=7, fbclid_k=9, ip_k=5)
    assert answer(order(SAFARI, **proof), late).attributed is attributed


def test_02_a_click_after_the_order_does_not_displace_one_before_it() -> None:
    before, after = click(HOUR, visitor_k=7), click(-4 * MINUTE, visitor_k=7)
    assert answer(order(visitor_k=7), before, after).click == before.id


def test_04_arrival_order_changes_nothing() -> None:
    """Row ids count arrivals: the same clicks with ids in any order give the same click (told by its fbclid)."""
    seen = set()
    for numbers in itertools.permutations(range(1, 6)):
        clicks = [
            click(ago, SAFARI, id=n, fbclid_k=50 + at, visitor_k=60 + at % 3, ip_k=5)
            for at, (n, ago) in enumerate(zip(numbers, (HOUR, HOUR, 2 * HOUR, 3 * HOUR, HOUR), strict=True))
        ]
        found = answer(order(SAFARI, ip_k=5), *clicks)
        best = next(c.fbclid_k for c in clicks if c.id == (found.click or found.best_click))
        seen.add((best, found.confidence, found.best, found.log_odds_bits))
    assert len(seen) == 1


def test_09_the_window_starts_at_the_first_sighting() -> None:
    reloaded = click(8 * DAY, visitor_k=7, last_ts=NOW - HOUR)
    assert answer(order(visitor_k=7), reloaded).reason == "outside_window"


def test_10_a_shared_link_goes_to_the_orders_own_visitor() -> None:
    first, own = click(3 * HOUR, fbclid_k=9), click(2 * HOUR, fbclid_k=9, visitor_k=7)
    other = click(HOUR, fbclid_k=9)
    found = answer(order(fbclid_k=9, visitor_k=7), first, own, other)
    assert (found.click, found.confidence) == (own.id, 99)


def test_10_a_shared_link_alone_goes_to_the_earliest_hit_at_90_at_most() -> None:
    first, second = click(3 * HOUR, fbclid_k=9), click(2 * HOUR, fbclid_k=9)
    found = answer(order(fbclid_k=9), second, first)
    assert (found.click, found.confidence, found.capped_from) == (first.id, 90, 99)
    assert "shared_link" in {e.signal for e in found.evidence}


@pytest.mark.parametrize(("visitor", "credited"), [(None, 0), (8, 1), (9, 2)])
def test_10_the_other_hits_of_a_shared_link_are_in_nobodys_journey(visitor: int | None, credited: int) -> None:
    hits = [click(hours * HOUR, fbclid_k=9, visitor_k=10 - hours) for hours in (3, 2, 1)]
    found = answer(order(fbclid_k=9, visitor_k=visitor), *hits)
    own = hits[credited]
    assert (found.click, found.path, found.journey) == (own.id, [own.id], [(own.id, own.ts)])


def test_10_an_expired_hit_of_a_shared_link_is_not_the_visitors_own() -> None:
    stranger, own = click(20 * DAY, fbclid_k=9), click(DAY, fbclid_k=9, visitor_k=7)
    assert answer(order(fbclid_k=9, visitor_k=7), stranger, own).journey == [(own.id, own.ts)]


@pytest.mark.parametrize("bit", [flags.PREFETCH, flags.BOT, flags.WITHDRAWN])
def test_12_13_prefetches_and_bots_are_never_a_cause(bit: int) -> None:
    found = answer(order(SAFARI, visitor_k=7, ip_k=5), click(MINUTE, SAFARI, visitor_k=7, ip_k=5, flags=bit))
    assert not found.attributed


def test_14_two_people_of_one_home_and_one_user_agent_are_ambiguous() -> None:
    two = [click(3 * MINUTE, SAFARI, ip_k=5), click(4 * MINUTE, SAFARI, ip_k=5)]
    found = answer(order(SAFARI, ip_k=5), *two, shop=msgspec.structs.replace(SHOP, visitors_on_ip=2))
    assert (found.attributed, found.reason, found.alternatives) == (False, "ambiguous", 2)


@pytest.mark.parametrize("visitors", [200, 2_000])
def test_15_a_carriers_address_and_a_common_agent_prove_nothing(visitors: int) -> None:
    shop = msgspec.structs.replace(SHOP, visitors_on_ip=visitors, visitors_on_ua=4_000)
    found = answer(order(SAFARI, ip_k=5), click(2 * HOUR, SAFARI, ip_k=5), shop=shop)
    assert (found.attributed, found.reason) == (False, "below_threshold")


def test_16_a_carriers_address_with_a_rare_agent_five_minutes_ago_may_do() -> None:
    shop = msgspec.structs.replace(SHOP, visitors_on_ip=3_000, visitors_on_ua=1)
    found = answer(order(IN_APP, ip_k=5), click(5 * MINUTE, IN_APP, ip_k=5), shop=shop)
    assert found.attributed
    common = msgspec.structs.replace(shop, visitors_on_ua=8_000)
    assert not answer(order(IN_APP, ip_k=5), click(5 * MINUTE, IN_APP, ip_k=5), shop=common).attributed


def test_19_a_missing_address_weighs_nothing() -> None:
    found = answer(order(SAFARI, fp_k=8), click(MINUTE, SAFARI, fp_k=8))
    assert [e.bits for e in found.evidence if e.signal == "ip"] == [0.0]


def test_20_in_app_to_safari_on_one_line_within_minutes() -> None:
    found = answer(order(SAFARI, ip_k=5), click(3 * MINUTE, IN_APP, ip_k=5))
    assert found.attributed
    assert found.confidence >= 90
    assert found.ua_level == 1


def test_21_in_app_to_safari_across_networks_is_never_guessed() -> None:
    assert answer(order(SAFARI, ip_k=6), click(3 * MINUTE, IN_APP, ip_k=5)).reason == "no_candidate"


def test_22_phone_click_and_desktop_order_stay_at_85() -> None:
    found = answer(order(CHROME, ip_k=5), click(2 * HOUR, IN_APP, ip_k=5))
    assert max(found.confidence, found.best) <= 85
    crowd = answer(order(CHROME, ip_k=5), click(2 * HOUR, IN_APP, ip_k=5), click(3 * HOUR, SAFARI, ip_k=5))
    assert not crowd.attributed


def test_23_another_device_is_reached_by_the_customer_id() -> None:
    phone = click(DAY, IN_APP, visitor_k=70)
    found = answer(order(CHROME, visitor_k=7, identity_visitors={70: "external_id"}), phone)
    assert (found.click, found.method, found.confidence, found.tier) == (phone.id, "external_id", 97, "identity")


def test_25_a_dropped_plus_tag_is_weaker_and_enriches_nothing() -> None:
    weak = answer(order(identity_visitors={70: "email_weak"}), click(DAY, visitor_k=70))
    assert (weak.confidence, weak.deterministic) == (85, False)


def test_29_an_unseen_fbc_is_attributed_at_90_at_most() -> None:
    found = answer(order(fbc_k=9, fbc_created=NOW - HOUR))
    assert (found.attributed, found.method, found.click) == (True, "fbc_unseen", None)
    assert found.confidence <= 90
    assert not found.deterministic


@pytest.mark.parametrize(("created", "reason"), [(NOW - 8 * DAY, "outside_window"), (NOW + 1, "no_candidate")])
def test_29_an_unseen_fbc_must_lie_in_the_window(created: int, reason: str) -> None:
    assert answer(order(fbc_k=9, fbc_created=created)).reason == reason


def test_29_a_recovered_click_gives_what_the_unseen_fbc_gave() -> None:
    recovered = click(HOUR, fbclid_k=9, flags=flags.RECOVERED)
    found = answer(order(fbc_k=9, fbc_created=NOW - HOUR), recovered)
    assert (found.method, found.confidence) == ("fbc_unseen", 90)


def test_31_an_fbc_of_a_neighbour_store_is_not_unseen() -> None:
    assert not answer(order(fbc_k=9, fbc_created=NOW - HOUR, fbc_foreign=True)).attributed


def test_32_fbc_and_cookie_name_different_clicks_the_newest_wins() -> None:
    by_fbc, by_cookie = click(2 * HOUR, fbclid_k=9), click(HOUR, visitor_k=7)
    found = answer(order(fbc_k=9, visitor_k=7), by_fbc, by_cookie)
    assert (found.click, found.method) == (by_cookie.id, "visitor_id")
    assert {"visitor_id", "fbclid"} <= {e.signal for e in found.evidence}
    assert answer(order(fbc_k=9, visitor_k=7), click(HOUR, fbclid_k=9), click(2 * HOUR, visitor_k=7)).method == "fbclid"


def test_32_an_unseen_fbc_newer_than_the_cookies_click_wins() -> None:
    known = click(2 * HOUR, visitor_k=7)
    query = order(fbc_k=9, fbc_created=NOW - HOUR, visitor_k=7)
    assert answer(query, known).method == "fbc_unseen"
    assert answer(order(fbc_k=9, fbc_created=NOW - 3 * HOUR, visitor_k=7), known).click == known.id


@pytest.mark.parametrize(("ago", "attributed"), [(7 * DAY, True), (7 * DAY + 1, False)])
def test_33_the_window_includes_its_edge_to_the_millisecond(ago: int, attributed: bool) -> None:
    assert answer(order(visitor_k=7), click(ago, visitor_k=7)).attributed is attributed


def test_34_only_eligible_clicks_count_and_the_older_ones_stay_in_the_journey() -> None:
    old, new = click(20 * DAY, visitor_k=7), click(DAY, visitor_k=7)
    found = answer(order(visitor_k=7), old, new)
    assert (found.click, found.path) == (new.id, [new.id])
    assert found.journey == [(old.id, old.ts), (new.id, new.ts)]


def test_37_a_renewal_inherits() -> None:
    first = answer(order(visitor_k=7), click(DAY, visitor_k=7))
    again = renew(first, NOW)
    assert (again.click, again.confidence, again.first_ts) == (first.click, first.confidence, NOW)
    assert renew(again, NOW + 30 * DAY).first_ts == NOW
    assert again.evidence[-1].signal == "renewal"


def test_39_a_test_click_serves_test_orders_only() -> None:
    tested = click(HOUR, visitor_k=7, flags=flags.TEST)
    assert not answer(order(visitor_k=7), tested).attributed
    found = answer(order(visitor_k=7, flags=flags.TEST), tested)
    assert found.attributed
    assert found.label is None


def test_42_a_refused_click_is_not_used_and_the_answer_says_consent() -> None:
    found = answer(order(SAFARI, visitor_k=7, ip_k=5), click(HOUR, SAFARI, visitor_k=7, ip_k=5, flags=flags.DENIED))
    assert found.reason == "consent"


def test_42_a_refused_order_is_not_matched_at_all() -> None:
    assert answer(order(visitor_k=7, consent="denied"), click(HOUR, visitor_k=7)).reason == "consent"


def test_42_an_undecided_order_is_matched_by_proof_only() -> None:
    assert answer(order(visitor_k=7, consent="pending"), click(HOUR, visitor_k=7)).attributed
    assert answer(order(SAFARI, ip_k=5, consent="pending"), click(HOUR, SAFARI, ip_k=5)).reason == "consent"


def test_42_a_store_may_switch_inference_off() -> None:
    assert answer(order(SAFARI, ip_k=5), click(MINUTE, SAFARI, ip_k=5), probabilistic=False).reason == "no_candidate"


def test_45_last_touch_of_two_campaigns_and_both_in_the_path() -> None:
    first, second = click(2 * DAY, visitor_k=7), click(DAY, visitor_k=7)
    found = answer(order(visitor_k=7), second, first)
    assert (found.click, found.path) == (second.id, [first.id, second.id])


def test_46_one_mailbox_of_two_cookies_picks_the_newest_at_95() -> None:
    one, other = click(2 * DAY, visitor_k=70), click(DAY, visitor_k=71)
    found = answer(order(identity_visitors={70: "email", 71: "email"}), one, other)
    assert (found.click, found.confidence) == (other.id, 95)


def test_47_an_updated_system_is_the_same_system() -> None:
    found = answer(order(SAFARI, ip_k=5), click(DAY, SAFARI_OLD, ip_k=5))
    assert next(e.result for e in found.evidence if e.signal == "user_agent") == "same_system"


def test_48_fingerprints_of_different_versions_are_not_compared() -> None:
    old, new = fingerprint_version_bits("3.4"), fingerprint_version_bits("4.0")
    assert old != new
    found = answer(order(SAFARI, ip_k=5, fp_k=8, flags=new), click(MINUTE, SAFARI, ip_k=5, fp_k=9, flags=old))
    assert next(e for e in found.evidence if e.signal == "fingerprint").result == "missing"
    same = answer(order(SAFARI, ip_k=5, fp_k=8, flags=new), click(MINUTE, SAFARI, ip_k=5, fp_k=9, flags=new))
    assert next(e for e in same.evidence if e.signal == "fingerprint").bits < 0


def test_49_a_flood_on_one_address_raises_nobodys_score() -> None:
    own = click(3 * MINUTE, SAFARI, ip_k=5)
    alone = answer(order(SAFARI, ip_k=5), own)
    flooded = msgspec.structs.replace(SHOP, visitors_on_ip=100_000, visitors=140_000, clicks_in_window=118_000)
    found = answer(order(SAFARI, ip_k=5), own, *(click(n, SAFARI, ip_k=5) for n in range(1, 64)), shop=flooded)
    assert max(found.confidence, found.best) < alone.confidence
    assert not found.attributed


def test_50_a_forged_copy_of_a_link_does_not_displace_the_first_hit() -> None:
    real, forged = click(2 * HOUR, fbclid_k=9), click(HOUR, fbclid_k=9)
    assert answer(order(fbclid_k=9), forged, real).click == real.id


def test_52_a_click_given_away_is_not_given_twice_where_one_counts() -> None:
    one = click(HOUR, visitor_k=7)
    assert not answer(order(visitor_k=7, taken=frozenset({one.id})), one).attributed


@pytest.mark.parametrize(
    ("query", "fields", "method", "confidence"),
    [
        ({"click_id": 999}, {"id": 999}, "click_id", 99),
        ({"fbclid_k": 9}, {"fbclid_k": 9}, "fbclid", 99),
        ({"fbc_k": 9}, {"fbclid_k": 9}, "fbclid", 99),
        ({"visitor_k": 7}, {"visitor_k": 7}, "visitor_id", 98),
        ({"fbp_k": 6}, {"fbp_k": 6}, "fbp", 96),
        ({"identity_visitors": {7: "external_id"}}, {"visitor_k": 7}, "external_id", 97),
        ({"identity_visitors": {7: "email"}}, {"visitor_k": 7}, "email", 95),
        ({"identity_visitors": {7: "phone"}}, {"visitor_k": 7}, "phone", 93),
    ],
)
def test_each_proof_states_its_own_tier(
    query: dict[str, Any], fields: dict[str, Any], method: str, confidence: int
) -> None:
    found = answer(order(**query), click(HOUR, **fields))
    assert (found.attributed, found.method, found.confidence, found.deterministic) == (True, method, confidence, True)


def test_a_proof_below_the_threshold_is_refused_and_says_so() -> None:
    old, linked = click(20 * DAY, visitor_k=70), click(HOUR, visitor_k=70)
    found = answer(order(identity_visitors={70: "email_weak"}), old, linked, threshold=90)
    assert (found.attributed, found.reason, found.method, found.click) == (False, "below_threshold", None, None)
    assert (found.best, found.best_click, found.tier) == (85, linked.id, "identity")
    assert (found.path, found.journey) == ([], [(old.id, old.ts)])


def test_a_device_proof_stands_before_a_newer_identity() -> None:
    own, linked = click(2 * HOUR, visitor_k=7), click(HOUR, visitor_k=70)
    found = answer(order(visitor_k=7, identity_visitors={70: "email"}), own, linked)
    assert (found.click, found.alternatives) == (own.id, 2)
    assert found.label is not None
    assert found.label.contradicted is True


@pytest.mark.parametrize(
    ("visitor", "people", "contradicted"),
    [(7, {7: "email"}, None), (7, {7: "email", 70: "email"}, False), (None, {7: "email"}, False), (7, {}, None)],
)
def test_an_identity_confirms_a_cookie_only_where_it_leads_elsewhere(
    visitor: int | None, people: dict[int, Identity], contradicted: bool | None
) -> None:
    """One that the cookie itself has made known repeats it, and could not have said otherwise."""
    query = order(visitor_k=visitor, fbp_k=9, identity_visitors=people)
    found = answer(query, click(DAY, visitor_k=7, fbp_k=9), click(2 * DAY, visitor_k=70))
    assert found.tier == "device"
    assert found.label is not None
    assert found.label.contradicted is contradicted


def test_the_click_that_the_caller_names_stands_before_all() -> None:
    named, newer = click(2 * HOUR), click(HOUR, visitor_k=7)
    found = answer(order(visitor_k=7, click_id=named.id), named, newer)
    assert (found.click, found.path, found.journey) == (named.id, [named.id], [(named.id, named.ts)])


def test_the_journey_ends_at_an_unseen_fbc_that_is_credited() -> None:
    before, after = click(2 * HOUR, visitor_k=7), click(MINUTE, visitor_k=70)
    query = order(fbc_k=9, fbc_created=NOW - HOUR, visitor_k=7, identity_visitors={70: "email"})
    assert answer(query, before, after).journey == [(before.id, before.ts)]


def test_an_older_cookie_jar_of_the_same_browser_speaks_against_a_click() -> None:
    """The browser was known before the click and did not show its cookie there: it was somebody else's."""
    seen = click(30 * MINUTE, SAFARI, ip_k=5)
    fresh = answer(order(SAFARI, ip_k=5, visitor_k=7, jar_since=NOW - 20 * MINUTE), seen)
    known = answer(order(SAFARI, ip_k=5, visitor_k=7, jar_since=NOW - 30 * DAY), seen)
    assert fresh.attributed
    assert known.log_odds_bits < fresh.log_odds_bits - 4


def claimed(ago: int, who: int = 70) -> tuple[Query, Candidate]:
    """An order by Safari whose e-mail a page alone links with visitor `who`, and that visitor's click."""
    people: dict[int, Identity] = {who: "email"}
    query = order(SAFARI, ip_k=5, fp_k=6, identity_visitors=people, claimed=frozenset(people))
    return query, click(ago, CHROME, visitor_k=who)


def test_P1_a_claim_gives_way_to_a_surer_inference(monkeypatch: pytest.MonkeyPatch) -> None:
    query, theirs = claimed(HOUR)
    own = click(3 * MINUTE, SAFARI, ip_k=5, fp_k=6)
    found = answer(query, theirs, own)
    assert (found.click, found.method) == (own.id, "probabilistic")
    assert found.confidence > 75
    assert ("email", "claims_another_click", 0.0) in [(e.signal, e.result, e.bits) for e in found.evidence]
    assert found.label is not None  # it teaches as the claim did
    assert sum(e.bits for e in found.evidence) == pytest.approx(found.log_odds_bits)
    monkeypatch.setattr(decide, "_stronger", lambda proved, inferred, proven: proved)
    assert answer(query, theirs, own).click == theirs.id


def test_P1_a_claim_that_inference_bears_out_is_stated_as_inference_is() -> None:
    query, _ = claimed(HOUR)
    own = click(3 * MINUTE, SAFARI, ip_k=5, fp_k=6, visitor_k=70)
    found = answer(query, own)
    assert (found.click, found.method, found.deterministic) == (own.id, "probabilistic", False)
    assert found.evidence[-1].result == "claimed"


@pytest.mark.parametrize("policy", [{}, {"probabilistic": False}])
def test_P1_a_claim_stands_where_inference_says_less(policy: dict[str, Any]) -> None:
    query, theirs = claimed(HOUR)
    far = click(5 * DAY, SAFARI, ip_k=5)
    crowd = msgspec.structs.replace(SHOP, visitors_on_ip=40)
    found = answer(query, theirs, far, shop=crowd, **policy)
    assert (found.click, found.confidence, found.method) == (theirs.id, 75, "email")


def test_P1_a_confirmed_link_gives_way_to_no_inference() -> None:
    query, theirs = claimed(HOUR)
    query.claimed = frozenset()
    found = answer(query, theirs, click(3 * MINUTE, SAFARI, ip_k=5, fp_k=6))
    assert (found.click, found.confidence) == (theirs.id, 95)
