"""Bodies that public reports of trackers, shops and senders tell of: what a door is sent on a bad day.

Each is (what it is, path, body, headers). `orders` are a server's, whole but for one poor part, and each must be taken;
`beacons` are a page's; `others` are what must be refused, or is no JSON at all.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

STORE = "store_abc123"
FBC = "IwAR0" + "aB3_-x9Kq" * 3
NOTHING = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"  # SHA-256 of no text
EMPTIES = ("", "   ", "null", "undefined", "NaN", "None", "N/A", "-", "[object Object]", "{{id}}", "0", "false")
ORDER: dict[str, Any] = {
    "storeId": STORE,
    "eventType": "Purchase",
    "eventValue": 49.9,
    "currency": "USD",
    "customerData": {"email": "jo@example.com"},
    "ipAddress": "81.2.69.142",
    "userAgent": "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0",
}
# field: what is written there, read or left out, and never a reason to refuse the order
POOR: dict[str, list[Any]] = {
    "eventSourceUrl": [
        "https://shop.example/a\u200cb", "https://shop.example/a\u200d", "https://shop.example/\u00a0", "",
        "https://shop.example/\u3000", "https://shop.example/\u00ad", "https://shop.example/a\nb", " https://shop.example/",
        "/thanks", "shop.example/thanks", "android-app://com.example", "https://shop.example/" + "x" * 5000,
        "https://shop.example/thanks?email=jo@example.com&phone=16505551212", "https://shop.example/reset?token=S",
        "about:blank", "blob:https://shop.example/1", "http://localhost/", "http://[::1]/", "http://127.0.0.1/",
        "//x", 7,
        "https://shop.example/\ufeff", "https://shop.example/\u2060", "\thttps://shop.example/", "?a=1", [], {},
    ],
    "referrer": ["x" * 5000, "", "android-app://x", "https://shop.example/\u200b", "/cart", 7, [], "about:client"],
    "userAgent": ["x" * 5000, "", "okhttp/4.12.0", "Stripe/1.0 (+https://stripe.com)", "WordPress/6.5; https://shop.example",
                  "a\nb", 7, [], "axios/1.7", "node-fetch/1.0", "Go-http-client/2.0", "\u200b"],
    "ipAddress": [
        "1.1.1.7, 10.0.0.1", "10.0.0.1, 1.1.1.7", "localhost", "203.0.113.9.AQQAAQMC", "2a02:8109:9a80:1::5.AQQAAQMC",
        "81.2.69.142, 10.0.0.1", "unknown", "", "100.64.1.2", "192.0.2.1", "240.0.0.1", "224.0.0.1", "2001:db8::1",
        "2002:5102:458e::1", "64:ff9b::5102:458e", "[2a02::1]:443", "81.2.69.142:5555", "::ffff:81.2.69.142", 0, [],
        "999.1.1.1", "fe80::1%eth0", ["81.2.69.142"],
    ],
    "actionSource": ["", "shop", None, 7, "WEBSITE", "Web site", []],
    "timestamp": ["", "yesterday", "0001-01-01T00:00:00Z", 0, None, "2026-13-45T99:99:99Z", [], {}, "+0000", -1],
    "statusAt": ["", "soon", 0, [], "2099-01-01T00:00:00Z"],
    "orderStatus": ["", "processing", "on-hold", "PAID", "Cancelled", "authorized", "partially_paid", "wat", 7, [],
                    None,
                    "Pending Payment", "partially-refunded"],
    "test": [None, "", "yes", 0, [], "false"],
    "customerData": [[], {}, None, "", "jo@example.com", 7, [None]],
    "customData": [
        [], None, "", 7, {"a": {"b": [1]}}, {"contents": [{"id": "A", "quantity": "x"}]}, {"contents": [{"id": 1}]},
        {"value": "19.99", "currency": "usd"}, {"content_ids": 7}, {"contents": {}}, {"contents": "A"},
        {"num_items": 1.5},
        {"customer": {"email": "jo@example.com", "phone": "+16505551212"}}, {"emails": ["jo@example.com"]},
        {"customer_name": "Jo Smith", "billing_phone": "+16505551212", "billing_email": "x"},
        {"user_data": {"em": "jo@example.com"}}, {"email": "jo@example.com"}, {"note": "from jo@example.com"},
        {"jo@example.com": 1}, {"predicted_ltv": "high"}, {"value": -0.0}, {"content_type": "Product"},
        {"big": 10**400}, {"\ud7ff": "a"},
    ],
    "products": [
        {}, [], None, "", "A", 7, [None], [[]], ["A"], [{"productId": "A", "quantity": 1.5, "price": 2}],
        [{"productId": "A", "quantity": 2.0, "price": 2}], [{"productId": "A", "quantity": "2", "price": 2}],
        [{"productId": "A", "quantity": -1, "price": 2}], [{"productId": "A", "quantity": "", "price": 2}],
        [{"productId": "A", "price": ""}], [{"productId": "A", "price": "19,99"}], [{"productId": 123.0}],
        [{"productId": -1}], [{"productId": "A", "name": 501}], [{"productId": "A", "category": ["a", "b"]}],
        [{"productId": "A", "price": "NaN"}], [{"productId": ""}], [{}], [{"productId": "A", "quantity": 10**30}],
    ],
    "consent": [[], "", "granted", {}, None, {"marketing": ""}, {"marketing": "perhaps"}, 7],
    "fbc": ["fb.1.1.undefined", "fb.1.1700000000000.null", "x", "", 7, " fb.1.1700000000000.IwAR0abcdefghijkl ", [],
            '"fb.1.1700000000000.IwAR0abcdefghijkl"', "fb.1.1700000000.IwAR0abcdefghijkl"],
    "fbp": ["fb.1.1700000000000.1234567890.ZZ", "x", "", 7, [], "fb.1.1.1", "undefined"],
    "fbclid": ["undefined", "", "null", 7, [], "x" * 600, "{{fbclid}}"],
    "visitorId": [123, "", [], "x" * 600, "undefined", "a b", 1.5, {}],
    "eventId": [12345, "", 1.5, None, "a" * 300, [], "id\u200b"],
    "renewalOf": ["", 7, [], "undefined", {}],
    "clickId": ["", "click_1", 7, []],
    "fingerprint": ["", 7, [], "x" * 5000],
    "firstTouch": ["", 7, [], "x" * 5000, "https://shop.example/?fbclid=" + FBC],
    "lastTouch": ["", 7, [], "x" * 5000, "/?utm_source=x"],
    "nobodyKnows": [1, "x", [], {}, None],
    "eventValue": [49.899999999999999, 67.2000000000000028421709430404007434844970703125, 0, -0.0],
    "currency": ["usd", " EUR ", "HRK", "BGN", "ANG", "LTL", "BYR", "EEK"],
    "eventType": ["purchase", " Purchase ", "PURCHASE", "pUrchase\t"],
}  # fmt: skip
PERSON: dict[str, list[Any]] = {
    "email": [[None], "undefined", "test@example", "a@b..com", "!@#$%^&*()", "mailto:jo@example.com", NOTHING, "",
              "\u200bjo@example.com\ufeff", "Jo <jo@example.com>", 7, {}, ["jo@example.com", "x"], "jo@exämple.de"],
    "phone": [16505551212, "null", NOTHING, "4915123456789", "+44 (0)20 7946 0958", "0612345678", "0", [], {}, 1e20,
              "1-650-555-1212", "+001 (616) 954-7888", "01(650)555-1212", "tel:+16505551212", "x" * 500],
    "firstName": ["Ana María", "undefined", "n.a.", "d&#39;Angelo", "Jos%C3%A9", "ﬁona", 7, [], "a b", "\u200b", ""],
    "lastName": ["García Márquez", "null", NOTHING, "-", {}, "Müller-Lüdenscheidt", "O’Brien"],
    "dateOfBirth": [19970216, "1997-02-31", "19970230", "2027-01-01", "2099-01-01", "199702", "1997216", "", [],
                    "1997-02-16 00:00:00", "0000-00-00", "1997-02-16T00:00:00Z", 1e9],
    "zipCode": [94035, "undefined", "M1 1AE", "", [], 1.5, "94035-1234"],
    "externalId": [[1, 2], 0, "0", "undefined", "null", "None", "N/A", "{{id}}", "[object Object]", NOTHING,
                   [], {}, 1.0],
    "country": ["Nederland", "România", "Česko", "United Kingdom (UK)", "xx", "日本", "대한민국", "Ελλάδα", "Россия",
                "",
                "St. Lucia", "Cote d'Ivoire", "Trinidad & Tobago", "Vatican", "United States (US)", 7, [], "undefined"],
    "state": ["Ontario", "AE", "Armed Forces Europe", "undefined", 7, []],
    "city": ["n.a.", NOTHING, "São Paulo", 7, [], ""],
    "gender": ["Mr", "x", "", 7, "female", []],
    "shoeSize": [43, None, "x"],
}  # fmt: skip
EVENT: dict[str, list[Any]] = {
    "i": [1001, {}, [], "x" * 300, "", 1.5, True, "a\0b", "\ud800"],
    "t": ["E" * 60, "", 7, None, [], "Level Up", " purchase ", "{{event}}", "a\0b"],
    "u": ["https://shop.example/?q=" + "x" * 4200, "/relative", "about:blank", "blob:x", "", 7, None, "javascript:1",
          "https://shop.example/?utm_campaign=x?fbclid=" + FBC, "https://shop.example/#/p?fbclid=" + FBC,
          "https://shop.example/?FBCLID=" + FBC, "https://shop.example/?a=1&amp;fbclid=" + FBC,
          "https://shop.example/?fbclid=null&fbclid=" + FBC, "https://shop.example/?fbclid=" + FBC + "/",
          "https://shop.example/?fbclid=" + FBC + "%20", "https://shop.example/?fbclid=" + FBC + "?ref=x",
          "https://shop.example/?" + "&".join(f"a{n}=1" for n in range(230)) + "&fbclid=" + FBC],
    "r": ["x" * 5000, 7, [], None, "https://shop.example/no?fbclid=" + FBC, "about:client"],
    "at": [1.5, -1, "1", None, [], 1e300, 10**30, "2026-01-01"],
    "d": [None, [], "x", 7, {"value": "12,50"}, {"value": "NaN", "currency": "USD"}, {"value": 1}, {"a": "x" * 20_000},
          {"value": 1, "currency": "XXX"}, {"text": "a\0b"}, {"text": "\ud800"}, {"content_ids": '["a", "b"]'},
          {"email": "jo@example.com"}, json.loads("[" * 90 + "]" * 90)],
    "h": ["x", [], 7, {"email": {"x": 1}}, {"email": 7}, {"shoeSize": 43}, None],
}  # fmt: skip
HEAP: dict[str, list[Any]] = {
    "n": [1.5, -1, "1", None, [], 10**30],
    "f": [[1.5, "https://shop.example/"], [1, "x" * 5000], "[1, 2]", {}, [], [1], 7],
    "l": [[1, "https://shop.example/?" + "x" * 4200], "x", [None, None], 7],
    "v": [["short", 1], ["x" * 40, 1.5], "x", [], 7],
    "c": ["perhaps", 7, [], "granted"],
    "k": ["", None],
    "w": ["x", 7, None],
    "e": [{}, "x", [[]], [None], [7, "x"], [{}] * 30],
}
NO_ORDER: list[Any] = [
    b"", b"[]", b"{", b"\xff" * 10, b"[" * 5000, b'{"a":"\\ud800"}', b'{"a":"\\u0000"}', b"\xef\xbb\xbf{}", b"null",
    *({"orderId": word} for word in EMPTIES[:10]), {"eventValue": "much"}, {"currency": "euros"}, {"storeId": "nobody"},
    {"eventType": ""}, {"eventType": "E" * 60}, {"eventType": "{{event}}"}, {"eventValue": None}, {"eventValue": -5},
    {"eventValue": "NaN"}, {"eventValue": "49.90"}, {"eventValue": "12,50"},
    {"eventValue": 10**40},
]  # fmt: skip
PAGE = {
    "Origin": "https://shop.example",
    "Content-Type": "text/plain;charset=UTF-8",
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:127.0) Gecko/20100101 Firefox/127.0",
}
COOKIES = [
    f"_fbc=fb.1.1700000000000.{FBC}; _fbc=fb.1.1790000000000.{FBC}x", f"_fbc=; _fbc=fb.1.1790000000000.{FBC}",
    f"_fbc=undefined; _fbc=fb.1.1790000000000.{FBC}", "_fbp=; _cv=", "_cv=\xff; =x; ;;", "_fbp=fb.1.1.1; _fbp=x",
]  # fmt: skip
UPGRADES = [
    {"Connection": "Upgrade, HTTP2-Settings, close", "Upgrade": "h2c", "HTTP2-Settings": "AAMAAABkAAQAAP__"},
    {"Connection": "upgrade, close", "Upgrade": "websocket"},
    {"Connection": "Upgrade, close", "Upgrade": "TLS/1.0"},
]


class Input(NamedTuple):
    """One request, and whether a server's order is in it, which must be taken."""

    what: str
    path: str
    body: bytes
    headers: dict[str, str]
    by_server: bool
    is_taken: bool | None  # None: refused or taken, but answered


def _as(body: Any) -> bytes:
    return body if isinstance(body, bytes) else json.dumps(body).encode()


def orders(run: str) -> Iterator[Input]:
    """Every poor field beside a whole order; `run` tells one round's orders from another's."""
    path, json_type = "/v1/track/conversion", {"Content-Type": "application/json"}
    number = 0
    for person, fields in ((False, POOR), (True, PERSON)):
        for field, values in fields.items():
            for value in values:
                number += 1
                told = {**ORDER, "orderId": f"{run}-{number}"}
                told |= {"customerData": {**ORDER["customerData"], field: value}} if person else {field: value}
                more = UPGRADES[number % 9] if number % 9 < len(UPGRADES) else {}
                yield Input(f"{field} {str(value)[:60]!r}", path, _as(told), json_type | more, True, True)
    for number, body in enumerate(NO_ORDER):
        raw = body if isinstance(body, bytes) else _as({**ORDER, "orderId": f"{run}-no-{number}", **body})
        yield Input(f"no order {raw[:60]!r}", path, raw, json_type, True, False)


def beacons() -> Iterator[Input]:
    """Every poor part of a page's post, beside an event that is whole."""
    whole = {"t": "Lead", "at": 1, "u": "https://shop.example/", "d": {}}
    cookies = [{}, *({"Cookie": jar} for jar in COOKIES)]
    number = 0
    for field, values in (EVENT | HEAP).items():
        for value in values:
            number += 1
            poor = {**whole, field: value} if field in EVENT else whole
            heap = {"s": STORE, "n": 2, "e": [poor, whole], **({field: value} if field in HEAP else {})}
            given = PAGE | cookies[number % len(cookies)] | (UPGRADES[0] if number % 10 == 0 else {})
            yield Input(f"beacon {field} {str(value)[:60]!r}", "/c", _as(heap), given, False, field != "e" or None)
    for body in NO_ORDER[:9]:
        yield Input(f"no beacon {body[:60]!r}", "/c", body, PAGE, False, None)


def clicks() -> Iterator[Input]:
    """A server's clicks: 400 is for the click id, the store, and what is no address at all."""
    json_type = {"Content-Type": "application/json"}
    for name in ("eventSourceUrl", "referrer", "userAgent", "ipAddress", "timestamp", "visitorId", "fbp", "fbc"):
        for value in POOR[name]:
            field = "landingPage" if name == "eventSourceUrl" else name
            body = {"storeId": STORE, "fbclid": FBC, "landingPage": "https://shop.example/", field: value}
            taken = None if field in ("landingPage", "fbc") else True  # an old click's fbc refuses it
            yield Input(f"click {field} {str(value)[:60]!r}", "/v1/track/click", _as(body), json_type, True, taken)
    for word in EMPTIES:
        body = {"storeId": STORE, "fbclid": word, "landingPage": "https://shop.example/"}
        yield Input(f"click id {word!r}", "/v1/track/click", _as(body), json_type, True, False)
