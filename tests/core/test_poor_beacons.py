"""F2, F3, F11, F12: each event of a beacon stands alone, poor fields are left out, and the click id is found."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import unquote

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from collector.core import beacon, cookies, intake, lenient, said
from collector.core.beacon import Landing
from collector.core.cookies import EMPTY, Jar
from collector.core.intake import Caller
from collector.core.said import Beacon, decode
from collector.errors import ApiError
from tests.core.test_poor_fields import GRANTED, ODD

NOW = 1_790_000_000_000
PAGE = Caller(secret=False, address="81.2.69.142", user_agent="Mozilla/5.0")
FBC = "IwARpoorbeacon0000000000"
LANDING = f"https://shop.example/?fbclid={FBC}"
VIEW = {"t": "PageView", "i": "p1", "at": NOW, "u": LANDING, "d": {}}
LONG = f"https://shop.example/?fbclid={FBC}&q=" + "x" * 4200


def heard(*events: Any, **more: Any) -> tuple[Beacon, list[str]]:
    """A beacon, and the codes of what is wrong with the events that were left out."""
    faults = list[ApiError]()
    raw = json.dumps({"s": "store_demo", "n": NOW, "e": list(events)} | more)
    return decode(raw.encode(), faults), [fault.code for fault in faults]


def stored(one: Beacon) -> tuple[list[Any], list[Any]]:
    """The clicks and the events that a beacon comes to, as the edge prepares them."""
    found, _ = beacon.landing(one, NOW)
    taken = [
        intake.check_click(body, PAGE, GRANTED, NOW, None).stored for body in beacon.clicks(one, EMPTY, NOW, found)
    ]
    events = [
        intake.check_event(beacon.event(one, happened, EMPTY, NOW), PAGE, GRANTED, NOW, None, "US").event
        for happened in one.e
    ]
    msgspec.msgpack.encode([taken, events])
    return taken, events


LEFT_OUT = {
    "a number as name": ({"t": 404}, "invalid_field"),
    "an empty name": ({"t": ""}, "missing_required_field"),
    "no name": ({}, "invalid_field"),
    "null as name": ({"t": None}, "invalid_field"),
    "51 letters": ({"t": "x" * 51}, "invalid_field"),
    "a name with NUL": ({"t": "a\0"}, "invalid_json"),
    "NUL in its data": ({"t": "Lead", "d": {"a": ["b\0"]}}, "invalid_json"),
    "NUL in a key": ({"t": "Lead", "d": {"a\0": 1}}, "invalid_json"),
    "half a character": ({"t": "Lead", "d": {"a": "\ud800"}}, "invalid_json"),
    "half a character as id": ({"t": "Lead", "i": "\udfff"}, "invalid_json"),
    "a text": ("Lead", "invalid_field"),
    "a number": (7, "invalid_field"),
    "null": (None, "invalid_field"),
    "a list": ([], "invalid_field"),
    "a name with an e-mail": ({"t": "hi jo@example.com", "d": 1}, "invalid_field"),
}


@pytest.mark.parametrize("name", LEFT_OUT)
def test_F3_a_bad_event_costs_itself_alone(name: str) -> None:
    bad, code = LEFT_OUT[name]
    for events in ((VIEW, bad), (bad, VIEW), (VIEW, bad, {"t": "Lead", "i": "l1", "at": NOW, "u": LANDING, "d": {}})):
        one, codes = heard(*events)
        assert codes == [code]
        assert [happened.t for happened in one.e] == [e["t"] for e in events if e is not bad]
        assert [click.fbclid for click in stored(one)[0]] == [FBC]


def _deep(depth: int) -> Any:
    tree: Any = 1
    for _ in range(depth):
        tree = [tree]
    return tree


@pytest.mark.parametrize(
    ("change", "field", "value"),
    [
        ({"i": 1001}, "i", "1001"),
        ({"i": 1001.0}, "i", "1001"),
        ({"i": {}}, "i", None),
        ({"i": True}, "i", None),
        ({"i": "x" * 257}, "i", None),
        ({"at": NOW - 0.5}, "at", NOW - 1),
        ({"at": str(NOW)}, "at", NOW),
        ({"at": "2026-09-21T14:13:20.000Z"}, "at", NOW),
        ({"at": -5}, "at", 0),
        ({"at": None}, "at", 0),
        ({"at": 1e30}, "at", 0),
        ({"at": "yesterday"}, "at", 0),
        ({"u": 7}, "u", ""),
        ({"u": None}, "u", ""),
        ({"r": []}, "r", None),
        ({"r": "https://x.example/" + "y" * 5000}, "r", ("https://x.example/" + "y" * 5000)[:4096]),
        ({"d": None}, "d", {}),
        ({"d": []}, "d", {}),
        ({"d": "text"}, "d", {}),
        ({"h": "jo@example.com"}, "h", None),
        ({"h": []}, "h", None),
        ({"t": " lead "}, "t", "Lead"),
    ],
)
def test_F2_a_poor_field_of_an_event_costs_the_field(change: dict[str, Any], field: str, value: Any) -> None:
    one, codes = heard(VIEW, {"t": "Lead", "i": "l1", "at": NOW, "u": LANDING, "d": {}} | change | {"zz": "\u0001"})
    assert codes == []
    assert getattr(one.e[1], field) == value or (field == "t" and stored(one)[1][1].event_type == value)
    assert len(stored(one)[1]) == 2


@pytest.mark.parametrize(
    ("more", "field", "value"),
    [
        ({"f": [NOW, LONG]}, "f", (NOW, LONG[:4096])),
        ({"l": [NOW - 0.25, LANDING]}, "l", (NOW - 1, LANDING)),
        ({"f": [str(NOW), LANDING]}, "f", (NOW, LANDING)),
        ({"f": json.dumps([NOW, LANDING])}, "f", (NOW, LANDING)),
        ({"f": None}, "f", None),
        ({"f": 7}, "f", None),
        ({"f": []}, "f", None),
        ({"f": [NOW]}, "f", None),
        ({"f": [NOW, "a\0"]}, "f", None),
        ({"l": {"at": NOW}}, "l", None),
        ({"v": ["short", NOW]}, "v", None),
        ({"v": ["x" * 65, NOW]}, "v", None),
        ({"v": ["x" * 20, NOW + 0.5]}, "v", ("x" * 20, NOW)),
        ({"v": "text"}, "v", None),
        ({"n": NOW + 0.5}, "n", NOW),
        ({"n": "text"}, "n", 0),
        ({"n": -1}, "n", 0),
        ({"n": [1]}, "n", 0),
        ({"w": True}, "w", 1),
        ({"w": "0"}, "w", 0),
        ({"x": "1"}, "x", 1),
        ({"x": {}}, "x", 0),
        ({"c": "GRANTED"}, "c", "granted"),
        ({"c": "deny"}, "c", "denied"),
        ({"c": "perhaps"}, "c", "pending"),
        ({"c": ""}, "c", None),
        ({"k": 7}, "k", "7"),
        ({"k": "pk_" + "x" * 600}, "k", None),
        ({"s": 7}, "s", "7"),
    ],
)
def test_F2_a_poor_part_of_a_beacon_costs_the_part(more: dict[str, Any], field: str, value: Any) -> None:
    one, codes = heard(VIEW, **more)
    assert (codes, getattr(one, field)) == ([], value)
    assert [click.fbclid for click in stored(one)[0]] == [FBC]


def test_F2_what_an_older_snippet_keeps_in_the_browser_poisons_nothing() -> None:
    landed, later = [NOW - 5, LONG], [NOW, LANDING]
    one, codes = heard(
        {"t": "Purchase", "at": NOW, "d": {"value": 5, "currency": "EUR", "order_id": 7}}, f=landed, l=later
    )
    _, (order,) = stored(one)
    assert (codes, order.order_id, order.last_touch) == ([], "7", LANDING)
    assert order.first_touch == LONG[:4096]


@pytest.mark.parametrize("letter", ["x", "%E0%B8%81", "ж"])
def test_F2_a_long_landing_is_still_a_click(letter: str) -> None:
    for url in (
        f"https://shop.example/?q={letter * 4200}&fbclid={FBC}",
        f"https://shop.example/?fbclid={FBC}&q={letter * 4200}",
    ):
        one, codes = heard(VIEW | {"u": url})
        (click,), (event,) = stored(one)
        assert (codes, click.fbclid) == ([], FBC)
        assert len(click.landing_page) <= 4096
        assert f"fbclid={FBC}" in click.landing_page
        assert event.event_source_url == click.landing_page


@pytest.mark.parametrize(
    "events", [json.dumps([VIEW]), VIEW, {"0": VIEW}, [VIEW | {"d": "[]"}], f" {json.dumps([VIEW])}"]
)
def test_F2_a_list_that_a_page_has_bent_is_read(events: Any) -> None:
    faults = list[ApiError]()
    one = decode(json.dumps({"s": "store_demo", "n": NOW, "e": events}).encode(), faults)
    if events == {"0": VIEW}:
        assert [fault.code for fault in faults] == ["invalid_field"]
    else:
        assert [click.fbclid for click in stored(one)[0]] == [FBC]


def test_F3_of_too_many_events_the_first_count() -> None:
    one, codes = heard(*[VIEW | {"i": str(n)} for n in range(53)])
    assert (len(one.e), codes) == (50, ["payload_too_large"] * 3)


def test_F2_deep_data_costs_the_data_only() -> None:
    one, codes = heard(VIEW, {"t": "Lead", "i": "l", "d": {"deep": _deep(30), "big": 10**400, "keep": 1.5}})
    assert codes == []
    assert stored(one)[1][1].custom_data == {"keep": 1.5}


@pytest.mark.parametrize(
    "raw", [b'{"s":"x","e":[{"t":"Lead"}', b'{"s":"x","e":NaN}', b'{"s":"x",}', b'{"s":"x","e":[\xff]}']
)
def test_what_is_no_json_is_refused_whole(raw: bytes) -> None:
    with pytest.raises(ApiError) as caught:
        decode(raw)
    assert (caught.value.code, caught.value.status) == ("invalid_json", 400)


EVENT = st.fixed_dictionaries({}, optional=dict.fromkeys(("t", "i", "at", "u", "r", "d", "h", "zz"), ODD))
PARTS = st.fixed_dictionaries({}, optional=dict.fromkeys(("k", "n", "f", "l", "v", "w", "zz"), ODD))


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(EVENT | ODD, max_size=4), PARTS, st.integers(0, 4))
def test_F3_nothing_in_a_beacon_refuses_its_neighbours(others: list[Any], parts: dict[str, Any], place: int) -> None:
    events = [*others[:place], VIEW | {"i": "mine"}, *others[place:]]
    one, codes = heard(*events, **parts)
    assert len(one.e) + len(codes) == len(events)
    mine = next(happened for happened in one.e if happened.i == "mine" and happened.u == LANDING)
    event = intake.check_event(beacon.event(one, mine, EMPTY, NOW), PAGE, GRANTED, NOW, None, "US").event
    assert event.event_source_url == LANDING
    assert FBC in {click.fbclid for click in beacon.clicks(one, EMPTY, NOW)}


def test_control_without_the_reading_part_by_part_a_bad_event_takes_the_click(monkeypatch: pytest.MonkeyPatch) -> None:
    def strict(tree: Any, faults: list[ApiError], ignored: list[str]) -> Beacon:
        return msgspec.convert(tree, Beacon)

    monkeypatch.setattr(said, "_read", strict)
    with pytest.raises(msgspec.ValidationError):
        heard(VIEW, {"t": 404})


# -- F12: where Meta's own library finds a click id


@pytest.mark.parametrize(
    "rest",
    [
        f"?fbclid={FBC}",
        f"?utm_campaign=x?fbclid={FBC}",
        f"#/p?fbclid={FBC}",
        f"#fbclid={FBC}",
        f"#!/p&fbclid={FBC}",
        f"?a=1&amp;fbclid={FBC}",
        f"?a=1&#038;fbclid={FBC}",
        f"?a=1;fbclid={FBC}",
        f"?fbclid=null&fbclid={FBC}",
        f"?fbclid=&fbclid={FBC}",
        f"?fbclid=__FBCLID__&x=1#fbclid={FBC}",
        f"?fbclid={FBC}&fbclid=undefined",
        f"?fbclid={FBC}/",
        f"?fbclid={FBC}%20",
        f"?fbclid={FBC}%22",
        f"?fbclid={FBC}?ref=x",
        "?" + "&".join(f"p{n}=1" for n in range(400)) + f"&fbclid={FBC}",
        f"?FBCLID={FBC}",
        f"?a=1&FbClid={FBC}",
        f"?fbclid={FBC}+",
        f"?fbclid={FBC}%0D%0A",
        f"?fbclid={FBC}.",
        f"?fbclid={FBC},",
        f"?fbclid={FBC})",
        f"?fbclid={FBC}%23top",
        f"?fbclid={FBC}%26utm_source=fb",
        f"?fbclid={FBC}%3Fref=x",
        f"?fbclid={FBC}%",
        f"?fbclid={FBC}%E2%80%8B",
        f"?fbclid={FBC}%3C/a%3E",
        f"?fbclid=%20%22{FBC}%22",
        f"?fbclid=={FBC}",
        f"?fbclid={FBC},{FBC}",
        f"?fbclid={FBC}&fbclid=IwARanother000000000000",
        f"?fbclid={FBC[:9]}%2{{}}".format("5" + "".join(f"{ord(c):02X}" for c in FBC[9])) + FBC[10:],
        f"#!/shop?colour=red&fbclid={FBC}",
        f"#/a#fbclid={FBC}",
    ],
)
def test_F12_a_click_id_is_found_wherever_it_stands(rest: str) -> None:
    one, _ = heard(VIEW | {"u": "https://shop.example/" + rest})
    assert beacon.landing(one, NOW)[0] == Landing(FBC, NOW)
    assert [click.fbclid for click in stored(one)[0]] == [FBC]


@pytest.mark.parametrize(
    "rest",
    [
        f"?FBCLID={FBC.upper()}",
        f"?FBCLID={FBC.lower()}",
        f"?xfbclid={FBC}",
        f"/fbclid={FBC}",
        f"?fbclid[]={FBC}",
        f"?fbclid={FBC[:12]}.{FBC[12:]}",
        f"?u=https%3A%2F%2Fshop.example%2F%3Ffbclid%3D{FBC}",
        f"fbclid={FBC}",
        "?fbclid=null",
        "?fbclid=a b",
        "?fbclid=%252D",
    ],
)
def test_F12_what_is_no_click_id_of_this_page_is_none(rest: str) -> None:
    one, _ = heard(VIEW | {"u": "https://shop.example/" + rest})
    assert beacon.landing(one, NOW)[0] is None
    assert stored(one)[0] == []


def test_control_an_id_is_lost_for_what_stands_behind_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beacon, "_in_value", unquote)
    beacon.fbclid_of.cache_clear()
    assert beacon.landing(heard(VIEW | {"u": f"https://shop.example/?fbclid={FBC}."})[0], NOW) == (
        None,
        "invalid_fbclid",
    )
    beacon.fbclid_of.cache_clear()


def test_control_a_click_of_tomorrow_hides_the_good_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cookies, "_not_ahead", lambda value, now: value)
    assert cookies.read(f"_fbc={OLD}; _fbc=fb.1.9999999999999.IwARahead00000000", "_cv", NOW) != Jar(fbc=OLD)


BEFORE = f"https://shop.example/no?fbclid={FBC}"


@pytest.mark.parametrize(
    "r", [BEFORE, f"https://www.shop.example/no?fbclid={FBC}", f"https://shop.example/a?b?fbclid={FBC}"]
)
def test_F12_a_landing_without_the_snippet_is_known_by_the_next_pages_referrer(r: str) -> None:
    one, _ = heard(VIEW | {"u": "https://shop.example/next", "r": r})
    found, fault = beacon.landing(one, NOW, EMPTY)
    assert (found, fault) == (Landing(FBC, NOW, r), None)
    (click,) = beacon.clicks(one, EMPTY, NOW, found)
    assert (click.fbclid, click.landing_page) == (FBC, r)


def held(fbclid: str, ago: int) -> Jar:
    return Jar(fbc=f"fb.1.{NOW - ago}.{fbclid}")


MINUTE = 60_000


@pytest.mark.parametrize(
    ("change", "jar", "more"),
    [
        ({}, held(FBC, 86_400_000), {}),  # the same click
        ({}, held("IwARnewer000000000000", 5 * MINUTE), {}),  # Back to a page of before a newer ad
        ({}, EMPTY, {"l": [NOW - 5 * MINUTE, "https://shop.example/?fbclid=IwARnewer000000000000"]}),
        ({"r": f"https://other.example/?fbclid={FBC}"}, EMPTY, {}),
        ({"t": "Lead"}, EMPTY, {}),
        ({"r": "https://shop.example/?fbclid=null"}, EMPTY, {}),
        ({"u": ""}, EMPTY, {}),
        ({"r": "https://[/?fbclid=x"}, EMPTY, {}),
    ],
)
def test_F12_a_referrer_takes_no_cookie_back_and_tells_of_no_strangers_click(
    change: dict[str, Any], jar: Jar, more: dict[str, Any]
) -> None:
    one, _ = heard(VIEW | {"u": "https://shop.example/next", "r": BEFORE} | change, **more)
    found, _ = beacon.landing(one, NOW, jar)
    assert found is None or found.before is None
    assert beacon.clicks(one, jar, NOW, found) == []


def test_F12_an_older_click_yields_to_the_referrers() -> None:
    one, _ = heard(VIEW | {"u": "https://shop.example/next", "r": BEFORE})
    assert beacon.landing(one, NOW, held("IwARolder000000000000", 31 * MINUTE))[0] == Landing(FBC, NOW, BEFORE)


# -- F11: two cookies of one name

OLD, NEW = f"fb.1.{NOW - 9_000_000}.IwARold00000", f"fb.1.{NOW - 1_000}.IwARnew00000"
OLD_FBP, NEW_FBP = f"fb.1.{NOW - 9_000_000}.111", f"fb.1.{NOW}.222"
OLD_VISITOR, NEW_VISITOR = "A" * 22, "B" * 22


@pytest.mark.parametrize(
    ("header", "jar"),
    [
        (f"_fbc={OLD}; _fbc={NEW}", Jar(fbc=NEW)),
        (f"_fbc={NEW}; _fbc={OLD}", Jar(fbc=NEW)),
        (f"_fbc=; _fbc={NEW}", Jar(fbc=NEW)),
        (f"_fbc={NEW}; _fbc=", Jar(fbc=NEW)),
        (f"_fbc=undefined; _fbc={NEW}", Jar(fbc=NEW)),
        (f"_fbc=fb.1.{NOW}.undefined; _fbc={OLD}", Jar(fbc=OLD)),
        (f"_fbc=fb.1.{NOW // 1000}.IwAR0; _fbc={OLD}", Jar(fbc=OLD)),
        (f'_fbc="{NEW}"', Jar(fbc=NEW)),
        (f"_fbc=fb.1.{NOW + 601_000}.IwARahead00000000; _fbc={OLD}", Jar(fbc=OLD)),
        (f"_fbc={OLD}; _fbc=fb.1.9999999999999.IwARahead00000000", Jar(fbc=OLD)),
        (
            f"_fbc=fb.1.{NOW + 599_000}.IwARahead00000000; _fbc={OLD}",
            Jar(fbc=f"fb.1.{NOW + 599_000}.IwARahead00000000"),
        ),
        (f"_FBC={NEW}; _fbc={OLD}", Jar(fbc=OLD)),
        (f"_fbc=deleted; _fbc={OLD}\t", Jar(fbc=OLD)),
        (f"_fbc={NEW}; _fbc={NEW}.AQ", Jar(fbc=NEW)),
        (f"_fbc={NEW}.ZZ; _fbc={OLD}", Jar(fbc=OLD)),
        (f"_fbc=FB.1.{NOW}.IwARupper00; _fbc=fb.3.{NOW}.IwARthree00; _fbc={OLD}", Jar(fbc=OLD)),
        (f"_fbp={OLD_FBP}; _fbp={NEW_FBP}", Jar(fbp=NEW_FBP)),
        (f"_fbp={NEW_FBP}; _fbp=x; _fbp={OLD_FBP}", Jar(fbp=NEW_FBP)),
        (f"_fbp=fb.1.1500000000.1; _fbp={OLD_FBP}", Jar(fbp=OLD_FBP)),
        (f"_cv={OLD_VISITOR}; _cv={NEW_VISITOR}", Jar(visitor=NEW_VISITOR)),
        (f"_cv={OLD_VISITOR}; _cv=", Jar(visitor=OLD_VISITOR)),
        (f"_cv=bad; _cv={OLD_VISITOR}; _cv=worse", Jar(visitor=OLD_VISITOR)),
        ("_fbc=; _fbp=; _cv=", EMPTY),
    ],
)
def test_F11_the_newest_valid_of_two_cookies_counts(header: str, jar: Jar) -> None:
    assert cookies.read(header, "_cv", NOW) == jar
    assert cookies.read(f"a=b; {header}; c=d", "_cv", NOW) == jar


def test_a_person_is_read_as_far_as_possible() -> None:
    one, _ = heard(VIEW | {"h": {"email": "jo@example.com", "zipCode": 94035, "city": {}, "shoe": 44}})
    said_of = beacon.event(one, one.e[0], EMPTY, NOW).customer_data
    assert said_of is not None
    assert (said_of.email, said_of.zip_code, said_of.city) == ("jo@example.com", "94035", None)
    assert lenient.person({"email": {"no": 1}}, []) is None
