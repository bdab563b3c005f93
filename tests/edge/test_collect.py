"""The pages' door on a real socket: who may speak, what is kept, which cookies come back, and the reason in a word."""

from __future__ import annotations

import contextlib
import json
import re
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from collector.core.events import StoredClick, StoredEvent
from collector.storage.people.erasure import erase_person
from collector.storage.verbs.person import Asked
from tests.kit.edge_process import Edge, configuration, running
from tests.kit.raw_http import Answer, eventually

PERSON = "Mozilla/5.0 (X11; Linux x86_64; rv:127.0) Gecko/20100101 Firefox/127.0"
PAGE = {"Origin": "https://www.shop.example", "Host": "t.shop.example", "User-Agent": PERSON}
LANDING = "https://www.shop.example/?fbclid="


class Store(NamedTuple):
    """A running edge and what it has stored, read beside it."""

    edge: Edge
    database: Path

    def beacon(self, body: dict[str, Any], headers: dict[str, str] | None = None) -> Answer:
        raw = json.dumps({"s": "store_abc123", "n": 1_000_000} | body).encode()
        kind = {"Content-Type": "text/plain;charset=UTF-8"}
        return self.edge.ask("POST", "/c", raw, None, kind | (PAGE if headers is None else headers))

    def land(self, click: str, headers: dict[str, str] | None = None, **more: Any) -> Answer:
        view = {"t": "PageView", "i": "view" + click, "at": 1_000_000, "u": LANDING + click, "d": {}}
        return self.beacon({"e": [view]} | more, headers)

    def clicks(self, fbclid: str) -> list[StoredClick]:
        return [one for one in self._read("click", StoredClick) if one.fbclid == fbclid]

    def events(self, event_id: str) -> list[StoredEvent]:
        return [one for one in self._read("conversion", StoredEvent) if one.event_id == event_id]

    def _read(self, table: str, kind: Any) -> list[Any]:
        with contextlib.closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True)) as db:
            return [msgspec.msgpack.decode(body, type=kind) for (body,) in db.execute(f"SELECT body FROM {table}")]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    folder = tmp_path_factory.mktemp("pages")
    with running(folder) as edge:
        yield Store(edge, folder / "data" / "collector.db")


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def headers(answer: Answer) -> dict[str, str]:
    head = answer.data.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")[1:]
    return {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head)}


def cookies(answer: Answer) -> dict[str, str]:
    """Name and value of each cookie set."""
    return dict(re.findall(r"(?mi)^set-cookie: (\w+)=([^;]*)", answer.data.decode("latin-1")))


def reason(answer: Answer) -> str | None:
    return headers(answer).get("collector-reason")


def test_a_beacon_is_taken_without_a_word(store: Store) -> None:
    answer = store.land("IwTaken01")
    assert (answer.status, reason(answer)) == (204, None)
    assert headers(answer)["cache-control"] == "no-store, private"
    (click,) = store.clicks("IwTaken01")
    assert {"_cv": click.visitor_id, "_fbc": click.fbc, "_fbp": click.fbp} == cookies(answer)
    (view,) = store.events("viewIwTaken01")
    assert (view.event_type, view.event_source_url, view.fbc) == ("PageView", LANDING + "IwTaken01", click.fbc)


def test_another_host_of_the_shop_may_read_the_answer_and_keep_the_cookies(store: Store) -> None:
    given = headers(store.land("IwCors001"))
    assert given["access-control-allow-origin"] == "https://www.shop.example"
    assert given["access-control-allow-credentials"] == "true"
    assert "Collector-Reason" in given["access-control-expose-headers"]


@pytest.mark.parametrize(
    ("said", "code", "status"),
    [
        ({"Origin": "https://evil.example"}, "origin_not_allowed", 403),
        ({"Origin": "https://evilshop.example"}, "origin_not_allowed", 403),
        ({"Origin": "null"}, "origin_not_allowed", 403),
        ({}, "origin_not_allowed", 403),
    ],
)
def test_a_stranger_is_refused_with_the_reason(store: Store, said: dict[str, str], code: str, status: int) -> None:
    answer = store.land("IwStranger", {"User-Agent": PERSON, **said})
    assert (answer.status, reason(answer), answer.body["error"]["code"]) == (status, code, code)
    assert store.clicks("IwStranger") == []
    assert "access-control-allow-origin" not in headers(answer)


def test_a_publishable_key_speaks_for_its_own_store_only(store: Store) -> None:
    keys = store.edge.keys
    assert store.land("IwKeyed01", {"User-Agent": PERSON}, k=keys["page"]).status == 403  # it has domains
    assert store.land("IwKeyed01", k=keys["page"]).status == 204
    assert store.land("IwKeyed02", k="pk_unknown").status == 401
    assert store.land("IwKeyed02", k=keys["secret"]).status == 401
    assert store.land("IwKeyed02", s="store_other", k=keys["page"]).status == 403
    assert reason(store.land("IwKeyed02", s="store_closed")) == "store_not_found"


def test_a_returning_visitor_keeps_five_segments_byte_for_byte(store: Store) -> None:
    fbc = f"fb.1.{int(time.time() * 1000) - 86_400_000}.IwHeld001.AQICAQMC"
    held = {"Cookie": f"_cv=AAECAwQFBgcICQoLDA0ODw; _fbc={fbc}; _fbp=fb.1.1780000000000.7.AQ"}
    answer = store.land("IwHeld001", PAGE | held)
    assert cookies(answer) == {"_cv": "AAECAwQFBgcICQoLDA0ODw", "_fbp": "fb.1.1780000000000.7.AQ"}
    (click,) = store.clicks("IwHeld001")
    assert click.fbc == fbc


def test_hostile_cookies_are_never_given_back(store: Store) -> None:
    answer = store.land("IwHostile", PAGE | {"Cookie": "_cv=<x>; _fbc=fb.1.1.a b; _fbp=fb.1.1780000000000.7é"})
    assert answer.status == 204
    given = cookies(answer)
    assert re.fullmatch(r"[\w-]{22}", given["_cv"])
    assert re.fullmatch(r"fb\.1\.\d{13}\.IwHostile", given["_fbc"])
    assert re.fullmatch(r"fb\.1\.\d{13}\.\d+", given["_fbp"])


def test_what_a_cleaner_took_comes_back_with_the_visitor_id(store: Store) -> None:
    first = cookies(store.land("IwCleaned"))
    view = {"t": "PageView", "i": "later", "at": 1_000_000, "u": "https://www.shop.example/"}
    again = store.beacon({"e": [view]}, PAGE | {"Cookie": f"_cv={first['_cv']}"})
    assert cookies(again) == first


def test_two_posts_at_once_are_one_visitors(store: Store) -> None:
    seed = ["seed0123456789abcdefgh", 999_500]
    first, second = (cookies(store.land(click, v=seed)) for click in ("IwAtOnce1", "IwAtOnce2"))
    assert first["_cv"] == second["_cv"]
    assert cookies(store.land("IwAtOnce3", v=["another-seed-0123456789", 999_500]))["_cv"] != first["_cv"]


def test_a_visitor_without_any_cookie_is_known_by_the_page_s_seed(store: Store) -> None:
    seed = ["seed-of-a-cleaned-browser", 999_000]
    first = cookies(store.land("IwSeeded1", v=seed))
    view = {"t": "PageView", "i": "seeded-later", "at": 5_000_000, "u": "https://www.shop.example/"}
    again = cookies(store.beacon({"n": 5_000_000, "v": seed, "e": [view]}))
    assert again == first


def test_a_click_kept_back_has_its_own_time(store: Store) -> None:
    before = int(time.time() * 1000)
    answer = store.land("IwLater01", n=1_060_000)
    created = int(cookies(answer)["_fbc"].split(".")[2])
    assert before - 61_000 < created < before - 59_000


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"User-Agent": "facebookexternalhit/1.1"}, "crawler"),
        ({"User-Agent": "Mozilla/5.0 HeadlessChrome/126.0.0.0"}, "headless"),
        ({"User-Agent": ""}, "no_user_agent"),
        ({"X-Purpose": "preview", "X-FB-HTTP-Engine": "Liger"}, "prefetch"),
    ],
)
def test_what_is_no_person_is_kept_with_its_reason_and_gets_no_cookie(
    store: Store, said: dict[str, str], why: str
) -> None:
    click = f"IwRobot_{why}"
    answer = store.land(click, PAGE | said)
    assert (answer.status, reason(answer), cookies(answer)) == (204, why, {})
    assert [one.bot for one in store.clicks(click)] == [why]


def test_a_denial_removes_the_cookies_and_is_not_stored(store: Store) -> None:
    held = PAGE | {"Cookie": "_cv=AAECAwQFBgcICQoLDA0ODw; _fbc=fb.1.1780000000000.Iw"}
    for body in ({"c": "denied"}, {"x": 1}):
        answer = store.land("IwDenied1", held, **body)
        assert (answer.status, reason(answer)) == (204, "consent_denied")
        assert cookies(answer) == {"_cv": "", "_fbc": ""}
        assert b"Max-Age=0" in answer.data
    assert store.clicks("IwDenied1") == []


def test_whoever_takes_consent_back_is_forgotten_and_the_order_stays(store: Store) -> None:
    given = cookies(store.land("IwForget1"))
    order = {
        "storeId": "store_abc123",
        "eventType": "Purchase",
        "orderId": "forget-1",
        "eventValue": 5,
        "currency": "USD",
    }
    known = {"visitorId": given["_cv"], "customerData": {"email": "forget@example.com"}, "userAgent": PERSON}
    bought = store.edge.post("/v1/track/conversion", order | known).body["data"]
    assert bought["attributedTo"]["fbclid"] == "IwForget1"
    assert store.beacon({"x": 1}, PAGE | {"Cookie": f"_cv={given['_cv']}"}).status == 204
    state = store.edge.get(f"/v1/conversions/{bought['conversionId']}").body["data"]
    assert (state["attributed"], state["reason"]) == (False, "consent")
    (event,) = store.events(bought["eventId"])
    assert str(event.value) == "5"
    assert (event.visitor_id, event.user_data, event.user_agent, event.ip) == (None, {}, None, None)
    (click,) = store.clicks("IwForget1")
    assert (click.visitor_id, click.fbp, click.fbc) == (None, None, None)
    again = store.edge.post("/v1/track/conversion", order | known | {"orderId": "forget-2"}).body["data"]
    assert not again["attributed"]


def test_44_an_erased_visitor_who_comes_back_gets_new_cookies(store: Store) -> None:
    """And none of the old ones stays; posts of one moment agree on the new visitor, by the page's seed."""
    seed = ["seed-of-the-erased-0001", 500]
    given = cookies(store.land("IwErased1", v=seed))
    done = erase_person(
        configuration(store.database.parent), None, Asked(visitor=given["_cv"]), now_ms(), dry_run=False
    )
    assert sum(receipt.clicks for receipt in done.receipts) == 1
    held = PAGE | {"Cookie": "; ".join(f"{name}={value}" for name, value in given.items())}
    probe = {"e": [{"t": "PageView", "i": "is-it-heard", "at": 1_000_000, "u": "https://www.shop.example/"}], "v": seed}
    assert eventually(lambda: cookies(store.beacon(probe, held))["_cv"] != given["_cv"], 60.0)
    view = {"t": "PageView", "i": "erased-returns", "at": 1_000_000, "u": "https://www.shop.example/"}
    answer = store.beacon({"e": [view], "v": seed}, held)
    anew = cookies(answer)
    assert answer.status == 204
    assert anew["_cv"] not in ("", given["_cv"])
    assert (anew["_fbc"], anew["_fbp"] not in ("", given["_fbp"])) == ("", True)
    (event,) = store.events("erased-returns")
    assert (event.visitor_id, event.fbp, event.fbc) == (anew["_cv"], anew["_fbp"], None)
    clicked = cookies(store.land("IwErased2", held, v=seed))
    assert clicked["_cv"] == anew["_cv"]
    assert clicked["_fbc"].endswith(".IwErased2")


def test_taking_back_the_consent_of_nobody_is_harmless(store: Store) -> None:
    assert store.beacon({"x": 1}).status == 204
    assert store.beacon({"x": 1, "v": ["nobody-has-this-seed-yet", 1]}).status == 204


def test_pending_and_the_browsers_opt_out_store_nothing(store: Store) -> None:
    assert reason(store.land("IwPending", c="pending")) == "consent_pending"
    assert reason(store.land("IwPending", PAGE | {"Sec-GPC": "1"})) == "consent_denied"
    assert store.clicks("IwPending") == []
    assert reason(store.land("IwPending", PAGE | {"Sec-GPC": "1"}, c="granted")) is None


def reasons(answer: Answer) -> list[str]:
    head = answer.data.partition(b"\r\n\r\n")[0].decode("latin-1").splitlines()
    return [line.partition(": ")[2] for line in head if line.lower().startswith("collector-reason:")]


def test_F3_each_event_stands_alone_and_each_left_out_has_its_reason(store: Store) -> None:
    good = {"t": "Lead", "i": "good-one", "at": 1_000_000, "u": "https://www.shop.example/", "d": {}}
    bad = {"t": "Purchase", "at": 1_000_000, "u": "https://www.shop.example/", "d": {"value": 1}}
    answer = store.beacon({"e": [bad, good]})
    assert (answer.status, reason(answer)) == (204, "missing_required_field")
    assert len(store.events("good-one")) == 1
    for events, why in (
        ([bad], ["missing_required_field"]),
        ([bad, {"t": "x" * 51}, 7, good], ["invalid_field", "invalid_field", "missing_required_field"]),
        ([bad | {"t": "Lead", "d": {"value": "12,50"}}], ["invalid_field"]),
        ([{}], ["invalid_field"]),
    ):
        answer = store.beacon({"e": events})
        assert (answer.status, reasons(answer)) == (204, why)


def test_F1_what_does_not_fit_costs_itself_and_neither_the_click_nor_the_order(store: Store) -> None:
    landing = {"t": "PageView", "i": "poor-view", "at": 1_000_000, "u": LANDING + "IwPoorBeacon&q=" + "x" * 4200}
    lead = {"t": "Lead", "i": 1001, "at": 999_999.5, "u": "https://www.shop.example/", "d": []}
    touch = [1_000_000, landing["u"]]
    answer = store.beacon({"e": [landing, lead], "f": touch, "l": touch, "v": ["short", 1], "n": 1_000_000.25})
    assert (answer.status, reasons(answer)) == (204, [])
    (click,) = store.clicks("IwPoorBeacon")
    assert len(click.landing_page) == 4096
    assert cookies(answer)["_fbc"].endswith(".IwPoorBeacon")
    (event,) = store.events("1001")
    assert (event.event_type, len(event.first_touch or ""), len(event.last_touch or "")) == ("Lead", 4096, 4096)
    raw = json.dumps(
        {"s": "store_abc123", "n": 1_000_000, "e": [lead | {"i": "nul", "d": {"a": "b\0"}}, lead | {"i": 7}]}
    )
    answer = store.edge.ask("POST", "/c", raw.encode(), None, PAGE)
    assert (answer.status, reasons(answer), len(store.events("7")), store.events("nul")) == (
        204,
        ["invalid_json"],
        1,
        [],
    )


def test_a_placeholder_for_a_click_id_is_named(store: Store) -> None:
    answer = store.land("undefined")
    assert (answer.status, reason(answer)) == (204, "invalid_fbclid")
    assert "_fbc" not in cookies(answer)


def test_the_same_beacon_twice_counts_once(store: Store) -> None:
    first = cookies(store.land("IwTwice01"))
    held = PAGE | {"Cookie": "; ".join(f"{name}={value}" for name, value in first.items())}
    assert store.land("IwTwice01", held).status == 204
    assert len(store.clicks("IwTwice01")) == len(store.events("viewIwTwice01")) == 1


def test_the_pixel_is_an_image_whatever_happens(store: Store) -> None:
    for query, referer, why in (
        ("s=store_abc123", LANDING + "IwPixel01", None),
        ("s=store_abc123", "https://evil.example/", "origin_not_allowed"),
        ("s=nobody", LANDING, "store_not_found"),
        ("d={", LANDING, "invalid_json"),
        ("", LANDING, "missing_required_field"),
    ):
        answer = store.edge.get(f"/c.gif?{query}", None, {"Referer": referer, "User-Agent": PERSON})
        assert (answer.status, headers(answer)["content-type"], reason(answer)) == (200, "image/gif", why)
        assert answer.data.partition(b"\r\n\r\n")[2].startswith(b"GIF89a")
    assert len(store.clicks("IwPixel01")) == 1


def test_the_cookies_domain_is_the_hosts_registrable_one(store: Store) -> None:
    answer = store.land("IwDomain1", PAGE | {"Host": "metrics.shop.example:8443"})
    assert b"Domain=shop.example;" in answer.data


@pytest.mark.parametrize(
    ("host", "said", "domain"),
    [
        ("127.0.0.1:8080", None, "shop.example"),  # nginx passes the name of its upstream unless it is told otherwise
        ("localhost", None, "shop.example"),
        ("collector_upstream", None, "shop.example"),
        ("[::1]:8080", None, "shop.example"),
        ("collector.internal.lan", "same-site", "shop.example"),
        ("127.0.0.1:8080", "same-origin", "shop.example"),
        ("t.shop.example", None, "shop.example"),
        ("t.shop.example", "same-site", "shop.example"),
        ("t.tracker.example", "cross-site", "tracker.example"),
        ("t.tracker.example", None, "tracker.example"),
        ("127.0.0.1:8080", "cross-site", None),
    ],
)
def test_F16_where_the_host_is_not_passed_on_the_checked_origin_serves(
    store: Store, host: str, said: str | None, domain: str | None
) -> None:
    answer = store.land("IwHostless", PAGE | {"Host": host} | ({"Sec-Fetch-Site": said} if said else {}))
    found = set(re.findall(rb"Domain=([a-z.]+);", answer.data))
    assert found == ({domain.encode()} if domain else set())
    if domain and "_fbc" in cookies(answer):
        assert cookies(answer)["_fbc"].startswith("fb.1.")


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"e":[{}]}', b'{"s":[],"e":[{}]}', b"\xff" * 10, b"[" * 5000])
def test_nonsense_is_refused_in_the_contracts_shape(store: Store, body: bytes) -> None:
    answer = store.edge.ask("POST", "/c", body, None, PAGE)
    assert answer.status == 400
    assert answer.body["error"]["code"] == reason(answer)


def test_a_beacon_is_bounded(store: Store) -> None:
    answer = store.beacon({"e": [], "pad": "x" * 70_000})
    assert (answer.status, answer.body["error"]["code"]) == (413, "payload_too_large")


def test_the_script_is_served_at_its_addresses(store: Store) -> None:
    answer = store.edge.get("/c.js", None)
    pinned = headers(answer)["content-location"]
    assert re.fullmatch(r"c\.[0-9a-f]{10}\.js", pinned)
    assert "immutable" in headers(store.edge.get("/" + pinned, None))["cache-control"]
    older = store.edge.get("/c.0123456789.js", None)
    assert (older.status, "immutable" in headers(older)["cache-control"]) == (200, False)
    assert store.edge.get("/c.0123.js", None).status == 404
    assert store.edge.post("/nothing-here", {}, None).status == 404


def test_the_api_says_why_in_the_same_header(store: Store) -> None:
    body = {"storeId": "store_abc123", "fbclid": "IwApi0001", "landingPage": LANDING + "IwApi0001"}
    refused = store.edge.post("/v1/track/click", body | {"fbclid": "a b"})
    assert reason(refused) == refused.body["error"]["code"] == "invalid_fbclid"
    unused = store.edge.post("/v1/track/click", body | {"consent": {"marketing": "denied"}})
    assert reason(unused) == unused.body["data"]["reason"] == "consent"
    assert reason(store.edge.post("/v1/track/click", body | {"fbclid": "IwApi0002"})) is None


def test_whoever_said_who_they_are_is_found_by_it(store: Store) -> None:
    visitor = cookies(store.land("IwSaidWho"))
    view = {"t": "PageView", "i": "viewIwSaidWho", "at": 1_000_000, "u": LANDING + "IwSaidWho", "d": {}}
    held = PAGE | {"Cookie": f"_cv={visitor['_cv']}; _fbc={visitor['_fbc']}; _fbp={visitor['_fbp']}"}
    # as the script does: the page view again, richer, under the same id
    assert store.beacon({"e": [view | {"h": {"email": "Ana.Said@example.com"}}]}, held).status == 204
    assert len(store.events("viewIwSaidWho")) == 1
    order = {
        "storeId": "store_abc123",
        "eventType": "Purchase",
        "orderId": "said-1",
        "eventValue": 5,
        "currency": "USD",
    }
    bought = store.edge.post("/v1/track/conversion", order | {"customerData": {"email": "ana.said@example.com"}})
    assert bought.body["data"]["attributedTo"]["fbclid"] == "IwSaidWho"
    assert bought.body["data"]["attributedTo"]["confidenceScore"] == 75, "P1: a claim of a page is capped"


def test_a_servers_order_confirms_the_pages(store: Store) -> None:
    data = {"value": 9.5, "currency": "USD", "order_id": "confirm-1"}
    event = {"t": "Purchase", "at": 1_000_000, "u": "https://www.shop.example/thanks", "d": data}
    assert store.beacon({"e": [event]}).status == 204
    order = {"storeId": "store_abc123", "eventType": "Purchase", "orderId": "confirm-1"}
    answer = store.edge.post("/v1/track/conversion", order | {"eventValue": 9.5, "currency": "USD"})
    assert answer.body["data"]["duplicate"]
    told, stored = store.events(answer.body["data"]["eventId"])
    assert (told.unconfirmed, stored.unconfirmed) == (True, False)


def test_a_page_may_post_the_contracts_own_bodies(store: Store) -> None:
    keys = store.edge.keys
    click = {
        "storeId": "store_abc123",
        "fbclid": "IwOwnBody",
        "landingPage": LANDING + "IwOwnBody",
        "key": keys["page"],
    }
    answer = store.edge.ask("POST", "/c", json.dumps(click).encode(), None, PAGE | {"Content-Type": "text/plain"})
    assert (answer.status, reason(answer)) == (204, None)
    given = cookies(answer)
    assert given["_fbc"].endswith(".IwOwnBody")
    (stored,) = store.clicks("IwOwnBody")
    assert (stored.visitor_id, stored.fbc) == (given["_cv"], given["_fbc"])
    event = {"type": "event", "storeId": "store_abc123", "eventType": "AddToCart", "eventId": "own-body"}
    held = PAGE | {"Cookie": f"_cv={given['_cv']}; _fbc={given['_fbc']}"}
    assert store.edge.ask("POST", "/c", json.dumps(event).encode(), None, held).status == 204
    (added,) = store.events("own-body")
    assert (added.visitor_id, added.fbc) == (given["_cv"], given["_fbc"])
    refused = store.edge.ask("POST", "/c", json.dumps(click | {"fbclid": ""}).encode(), None, PAGE)
    assert (refused.status, reason(refused)) == (400, "missing_required_field")
    assert (
        store.edge.ask("POST", "/c", json.dumps(click).encode(), None, {"Origin": "https://evil.example"}).status == 403
    )
