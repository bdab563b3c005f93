# ruff: noqa: E501 (cases are read as one line each)
"""R1–R14, D1 and O8 on a real edge with its keeper: what a shop posts is one order, stored before it is answered."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from tests.kit import shops as made
from tests.kit.edge_process import CLOSED, Edge, refused_at_last, running
from tests.kit.program import SOURCE, Serving, below
from tests.kit.raw_http import Answer, connect, eventually, exchange
from tests.kit.shop_server import ShopServer, graph_order, serving
from tests.kit.shops import STORE, Message

SHOP_STORE = "store_abc123"
TWIN = structs.replace(STORE, id="store_twin", domains=["twin.example"], pixel=[])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("webhooks")


@pytest.fixture(scope="module")
def edge(folder: Path) -> Iterator[Edge]:
    with running(folder, stores=[STORE, TWIN, CLOSED, STORE.__class__(id="store_bare")]) as edge:
        yield edge


numbers = iter(range(700_000, 800_000))


def some_id() -> int:
    return next(numbers)


def send(edge: Edge, message: Message, store: str = SHOP_STORE, **headers: str) -> Answer:
    return edge.post(f"/v1/webhooks/{message.name}/{store}", message.body, None, message.headers | headers)


def told(answer: Answer) -> Any:
    assert answer.status == 200, answer.data
    return answer.body["data"]


def reason(answer: Answer) -> str:
    """The Collector-Reason of an answer; empty where it has none."""
    lines = [line for line in answer.data.split(b"\r\n") if line.lower().startswith(b"collector-reason:")]
    assert len(lines) < 2
    return lines[0].partition(b":")[2].strip().decode() if lines else ""


def state(edge: Edge, conversion: str) -> Any:
    return told(edge.get(f"/v1/conversions/{conversion}"))


def rows(folder: Path, sql: str, *bind: Any) -> list[Any]:
    db = sqlite3.connect(f"file:{folder}/data/collector.db?mode=ro", uri=True)
    try:
        return db.execute(sql, bind).fetchall()
    finally:
        db.close()


def now() -> int:
    return int(time.time())


# -- answers


def test_R1_a_signed_order_is_a_queued_purchase(edge: Edge) -> None:
    first = told(send(edge, made.shopify(id=some_id(), admin_graphql_api_id=None)))
    assert first["topic"] == "orders/paid"
    assert state(edge, first["conversionId"])["eventType"] == "Purchase"
    for message in (
        made.woocommerce(id=some_id(), number="w1"),
        made.stripe(at=now(), payment_intent="pi_R1", id="cs_R1"),
    ):
        assert told(send(edge, message))["conversionId"].startswith("conv_")


def test_a_platform_by_configuration_alone_reaches_the_queue(edge: Edge) -> None:
    message = made.kiosk(at=now(), ref="K-9", changed=now(), delivery="k9")
    answer = told(send(edge, message))
    assert state(edge, answer["conversionId"])["capiStatus"] in ("queued", "dry_run")


def test_R2_D1_the_same_delivery_again_changes_nothing(edge: Edge, folder: Path) -> None:
    message = made.shopify(delivery="same", id=some_id(), admin_graphql_api_id=None)
    first, again = told(send(edge, message)), told(send(edge, message))
    assert again == first | {"duplicate": True}


def test_10_3_D1_two_orders_of_one_second_share_their_delivery_id(edge: Edge) -> None:
    one, two = (made.woocommerce(delivery="sec", id=some_id(), number=f"n{n}", total=f"{n}.00") for n in (1, 2))
    answers = [told(send(edge, message)) for message in (one, two)]
    assert len({answer["conversionId"] for answer in answers}) == 2
    assert not any("duplicate" in answer for answer in answers)


def test_D1_one_delivery_to_two_stores_is_two(edge: Edge) -> None:
    message = made.shopify(delivery="both", id=some_id(), admin_graphql_api_id=None)
    answers = [told(send(edge, message, store)) for store in (SHOP_STORE, "store_twin")]
    assert len({answer["conversionId"] for answer in answers}) == 2


@pytest.mark.parametrize(
    ("message", "word"),
    [
        (made.shopify("themes/publish"), "unknown_topic"),
        (made.shopify("refunds/create"), "no_order"),
        (made.woocommerce(status="checkout-draft"), "draft"),
        (made.shopify(currency="XYZ"), "bad_currency"),
        (made.shopify(currency=None), "bad_currency"),
        (made.shopify(current_total_price=None, total_price=None), "no_value"),
        (made.shopify(current_total_price="1" * 30), "no_value"),
        (made.shopify(id="undefined"), "no_order"),
        (made.signed("shopify", {"id": 4}, {"X-Shopify-Topic": "orders/delete"}), "no_order"),
        (made.signed("shopify", b"no json", {"X-Shopify-Topic": "orders/paid"}), "not_json"),
        (made.signed("shopify", b"", {"X-Shopify-Topic": "orders/paid"}), "not_json"),
    ],
)  # fmt: skip
def test_R3_what_is_of_no_use_is_200_with_its_reason(edge: Edge, folder: Path, message: Message, word: str) -> None:
    answer = send(edge, message)
    assert told(answer)["ignored"] == word
    assert "conversionId" not in told(answer)
    assert reason(answer) == word
    assert rows(folder, "SELECT 1 FROM shop_delivery WHERE reason = ?", word)


def again(message: Message, raw: bytes) -> Message:
    """The message with another body, signed anew."""
    keep = {name: value for name, value in message.headers.items() if name != "X-Shopify-Hmac-Sha256"}
    return made.signed("shopify", raw, keep)


@pytest.mark.parametrize(
    "raw",
    [b"[]", b"null", b'"x"', b"NaN", b"{" * 10_000, b"[" * 10_000, '{"id": 1}'.encode("utf-16"), b'{"id": 1} x', b'{"id": 1}\0'],
)  # fmt: skip
def test_R3_what_is_no_object_is_not_json(edge: Edge, raw: bytes) -> None:
    assert told(send(edge, again(made.shopify(), raw)))["ignored"] == "not_json"


@pytest.mark.parametrize("written", ["bom", "crlf", "newline", "lower", "blanks", "media", "identity", "chunked"])
def test_R1_however_it_is_written_it_is_the_order(edge: Edge, written: str) -> None:
    number = some_id()
    message = made.shopify("orders/paid", f"w{number}", id=number, admin_graphql_api_id=None)
    raw, headers = message.body, dict[str, str]()
    if written == "bom":
        message = again(message, b"\xef\xbb\xbf" + raw)
    elif written == "crlf":
        message = again(message, json.dumps(json.loads(raw), indent=1).replace("\n", "\r\n").encode())
    elif written == "newline":
        message = again(message, raw + b"\n")
    elif written == "lower":
        message = message._replace(headers={name.lower(): value for name, value in message.headers.items()})
    elif written == "blanks":
        message = message._replace(headers={name: f" \t{value} \t" for name, value in message.headers.items()})
    elif written == "media":
        headers = {"Content-Type": "text/plain; charset=utf-16"}
    elif written == "identity":
        headers = {"Content-Encoding": "identity"}
    if written == "chunked":
        head = [
            f"POST /v1/webhooks/shopify/{SHOP_STORE} HTTP/1.1",
            "Host: x",
            "Connection: close",
            "Transfer-Encoding: chunked",
        ]
        head += [f"{name}: {value}" for name, value in message.headers.items()]
        pieces = b"".join(b"%x\r\n%b\r\n" % (len(one), one) for one in (raw[:9], raw[9:]))
        answer = exchange(edge.port, "\r\n".join(head).encode() + b"\r\n\r\n" + pieces + b"0\r\n\r\n")
    else:
        answer = send(edge, message, **headers)
    assert told(answer)["topic"] == "orders/paid"
    assert "conversionId" in told(answer)


def test_R4_what_does_not_verify_is_401_with_its_reason(edge: Edge) -> None:
    good = made.shopify()
    cases = {
        "signature_missing": good._replace(headers={"X-Shopify-Topic": "orders/paid"}),
        "signature_malformed": good._replace(headers=good.headers | {"X-Shopify-Hmac-Sha256": "x"}),
        "signature_invalid": good._replace(body=good.body + b" "),
        "signature_expired": made.stripe(at=now() - 400),
    }
    for word, message in cases.items():
        answer = send(edge, message)
        assert (answer.status, reason(answer)) == (401, word)
        assert answer.body["error"]["code"] == "unauthorized"
    answer = send(edge, good, "store_bare")
    assert (answer.status, reason(answer)) == (401, "no_secret")


def test_R5_an_unknown_name_or_store(edge: Edge) -> None:
    good = made.shopify()
    for path, code in (
        (f"/v1/webhooks/magento/{SHOP_STORE}", "not_found"),
        ("/v1/webhooks/shopify/nobody", "store_not_found"),
        ("/v1/webhooks/shopify/store_closed", "store_not_found"),
        ("/v1/webhooks/shopify", "store_not_found"),
        (f"/v1/webhooks/shopify/{SHOP_STORE}/more", "store_not_found"),
        ("/v1/webhooks/", "store_not_found"),
    ):
        answer = edge.post(path, good.body, None, good.headers)
        assert (answer.status, answer.body["error"]["code"]) == (404, code), path


def test_R7_a_coding_and_a_wrong_method(edge: Edge) -> None:
    good = made.shopify()
    assert send(edge, good, **{"Content-Encoding": "gzip"}).status == 415
    assert edge.get(f"/v1/webhooks/shopify/{SHOP_STORE}").status == 405


FULL = "from collector.storage.journal import shop_orders as s; import apsw; s.Deliveries.keep = lambda *a: (_ for _ in ()).throw(apsw.FullError('no'))"


def test_R8_what_could_not_be_stored_is_503(tmp_path: Path) -> None:
    with running(tmp_path, FULL, stores=[STORE]) as edge:
        refused_by_a_full_disk(edge, tmp_path)


def refused_by_a_full_disk(edge: Edge, folder: Path) -> None:
    answer = send(edge, made.shopify())
    assert answer.status == 503
    assert b"retry-after" in answer.data.lower()
    assert rows(folder, "SELECT count(*) FROM conversion") == [(0,)]


def ping(edge: Edge, raw: bytes, media: str = "application/x-www-form-urlencoded", name: str = "woocommerce") -> Answer:
    return edge.post(f"/v1/webhooks/{name}/{SHOP_STORE}", raw, None, {"Content-Type": media})


def test_R9_woocommerces_ping_is_200_and_stores_nothing(edge: Edge, folder: Path) -> None:
    before = rows(folder, "SELECT count(*) FROM shop_delivery")
    assert ping(edge, b"webhook_id=5").status == 200
    assert rows(folder, "SELECT count(*) FROM shop_delivery") == before


def test_C8_the_log_says_the_first_ping_and_the_first_order(tmp_path: Path) -> None:
    with running(tmp_path, stores=[STORE]) as edge:
        firsts(edge)


def firsts(edge: Edge) -> None:
    for _ in range(2):
        ping(edge, b"webhook_id=5")
        send(edge, made.woocommerce())
    assert eventually(lambda: edge.log.read_text().count("order has come") == 1, 5.0)
    assert edge.log.read_text().count("ping has come") == 1


@pytest.mark.parametrize(
    "raw", [b"webhook_id=", b"webhook_id=x", b"webhook_id=5&a=b", b"", b"webhook_id=5\n", b"a" * 5000]
)
def test_R9_nothing_else_is_a_ping(edge: Edge, raw: bytes) -> None:
    assert ping(edge, raw).status in (401, 413)


def test_R9_a_ping_is_woocommerces_and_a_form(edge: Edge) -> None:
    assert ping(edge, b"webhook_id=5", name="shopify").status == 401
    assert ping(edge, b"webhook_id=5", media="application/json").status == 401


def test_R10_HTTP_1_0(edge: Edge) -> None:
    message = made.woocommerce(id=some_id(), number="http10")
    lines = [
        f"POST /v1/webhooks/woocommerce/{SHOP_STORE} HTTP/1.0",
        "Host: edge.test",
        f"Content-Length: {len(message.body)}",
    ]
    lines += [f"{name}: {value}" for name, value in message.headers.items()]
    answer = exchange(edge.port, "\r\n".join(lines).encode() + b"\r\n\r\n" + message.body, 10.0)
    assert b" 200 OK\r\n" in answer.data[:20]
    assert b"conversionId" in answer.data


def test_R11_a_head_that_cannot_verify_is_refused_before_its_body(edge: Edge) -> None:
    head = f"POST /v1/webhooks/shopify/{SHOP_STORE} HTTP/1.1\r\nHost: t\r\nContent-Length: 3000000\r\n"
    for line in ("", "X-Shopify-Hmac-Sha256: x\r\n"):
        assert exchange(edge.port, f"{head}{line}\r\n".encode(), 5.0).status == 401
    stale = made.stripe(at=now() - 999)
    line = f"Stripe-Signature: {stale.headers['Stripe-Signature']}\r\n"
    assert exchange(edge.port, f"{head}{line}\r\n".replace("/shopify/", "/stripe/").encode(), 5.0).status == 401


CRASH = "from collector.core.shops import order as o; o.read = lambda *a: 1 // 0"


@pytest.mark.parametrize(
    "topic",
    ["orders/delete", "customers/redact", "customers/data_request", "shop/redact", "app/uninstalled", "order.deleted"],
)
def test_S1_S2_an_order_played_again_under_another_topic_does_nothing(edge: Edge, folder: Path, topic: str) -> None:
    """Nobody has signed the topic. What truly tells of a deletion or a person holds no whole order."""
    number = some_id()
    kind = made.woocommerce if topic == "order.deleted" else made.shopify
    true = kind(id=number, number=f"{number}", admin_graphql_api_id=None)
    header = "X-WC-Webhook-Topic" if topic == "order.deleted" else "X-Shopify-Topic"
    first, played = told(send(edge, true)), true._replace(headers=true.headers | {header: topic})
    assert told(send(edge, played))["ignored"] == "other_topic"
    after = state(edge, first["conversionId"])
    assert "cancelled" not in (after.get("capiReason") or "")
    assert rows(folder, "SELECT count(*) FROM shop_request") == [(0,)]
    assert "duplicate" in told(send(edge, true)), "control: the order's own message is known"


@pytest.mark.slow
def test_R11_nothing_is_decoded_before_its_signature_holds(tmp_path: Path) -> None:
    with running(tmp_path, CRASH, stores=[STORE]) as edge:
        unread_unless_signed(edge)


def unread_unless_signed(edge: Edge) -> None:
    """Where whatever is read breaks its reader. Large ones are read aside, and in chunks by the application."""
    for message in (made.shopify(), made.shopify(note="x" * 300_000), made.woocommerce(), made.stripe(at=now())):
        assert send(edge, message._replace(body=message.body + b" ")).status == 401
        assert send(edge, message).status == 500, "control: what is signed is read"


def test_R12_who_guesses_is_told_to_wait_and_what_verifies_is_taken(tmp_path: Path) -> None:
    with running(tmp_path, stores=[STORE]) as edge:
        guesses(edge)


def guesses(edge: Edge) -> None:
    good = made.shopify()
    bad = good._replace(body=good.body + b" ")
    assert [send(edge, bad).status for _ in range(20)] == [401] * 20
    assert refused_at_last(lambda _: send(edge, bad))
    assert "conversionId" in told(send(edge, good))


def test_R14_neither_secret_nor_body_nor_person_is_in_the_log(edge: Edge) -> None:
    send(edge, made.shopify(email="nobody.here@example.com", id=[]))
    send(edge, made.shopify(email="nobody.here@example.com", id=[], note="x" * 5_000_000))
    log = edge.log.read_text()
    assert "nobody.here" not in log
    assert not any(secret in log for secret in made.SECRETS.values())


@given(
    st.dictionaries(
        st.sampled_from(["X-Shopify-Hmac-Sha256", "X-Shopify-Topic", "X-Shopify-Webhook-Id", "Content-Type"]),
        st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=200),
    ),
    st.binary(max_size=300),
)
@settings(max_examples=60)
def test_S8_no_sender_gets_a_5xx(edge: Edge, headers: dict[str, str], raw: bytes) -> None:
    assert send(edge, Message("shopify", headers, raw)).status in (200, 400, 401, 429)


@given(st.binary(max_size=400) | st.text(max_size=200).map(str.encode), st.text(max_size=40))
@settings(max_examples=60)
def test_M3_no_signed_body_gets_anything_but_200(edge: Edge, raw: bytes, key: str) -> None:
    for body in (raw, json.dumps({"id": key, "currency": key, "current_total_price": key, key: [key]}).encode()):
        assert send(edge, made.signed("shopify", body, {"X-Shopify-Topic": "orders/paid"})).status == 200


NASTY = (
    b"",
    b"\0",
    b"\xff\xfe",
    b"{" * 3_000,
    b"[" * 3_000,
    b"9" * 5_000,
    b'"\\ud800"',
    b"1e999999",
    b"-0",
    b"null",
    b"\xef\xbb\xbf",
)
HEADERS = ("X-Shopify-Hmac-Sha256", "X-WC-Webhook-Signature", "Stripe-Signature", "Paddle-Signature", "X-Kiosk-Proof", "X-Kiosk-Time",
           "X-Kiosk-Id", "X-Shopify-Topic", "X-WC-Webhook-Topic", "Content-Type", "Content-Length", "Transfer-Encoding", "Expect")  # fmt: skip


def mutated(dice: random.Random, message: Message) -> bytes:
    """A webhook with something wrong anywhere: in its body, signed again or not, its headers, or its bytes."""
    raw = bytearray(message.body)
    for _ in range(dice.randrange(4)):
        at = dice.randrange(len(raw) + 1)
        raw[at : at + dice.randrange(12)] = dice.choice(NASTY)
    headers = dict(message.headers)
    if dice.random() < 0.7:  # its sender has the secret, so what is in it is read
        headers |= made.signature(message.name, bytes(raw), now(), headers)
    if dice.random() < 0.4:
        value = bytes(dice.randrange(0x20, 0x7F) for _ in range(dice.choice((0, 1, 44, 64, 900))))
        headers[dice.choice(HEADERS)] = value.decode()
    lines = [
        f"POST /v1/webhooks/{message.name}/{SHOP_STORE} HTTP/1.{dice.randrange(2)}",
        "Host: t",
        "Connection: close",
    ]
    lines += [f"Content-Length: {len(raw)}"] if "Content-Length" not in headers else []
    lines += [f"{name}: {value}" for name, value in headers.items()]
    whole = bytearray("\r\n".join(lines).encode() + b"\r\n\r\n" + raw)
    if dice.random() < 0.1:
        whole[dice.randrange(len(whole))] = dice.randrange(256)
    return bytes(whole)


@pytest.mark.parametrize(
    "rounds", [40, pytest.param(int(os.environ.get("FUZZ_ROUNDS", "3000")), marks=pytest.mark.slow)]
)
def test_nothing_that_a_sender_can_send_gives_a_5xx_or_ends_a_process(edge: Edge, rounds: int) -> None:
    dice, pids = random.Random(int(os.environ.get("FUZZ_SEED", "8"))), below(edge.pid)
    for n in range(rounds):
        some = (made.shopify(id=some_id()), made.woocommerce(id=some_id()), made.stripe(at=now(), id=f"cs_f{n}"),
                made.kiosk(at=now(), ref=f"f{n}"))  # fmt: skip
        raw = mutated(dice, dice.choice(some))
        with connect(edge.port) as sock:
            sock.settimeout(5)
            sock.sendall(raw)
            sock.shutdown(socket.SHUT_WR)
            head = sock.recv(65536)[:12]
        assert head[9:10] in (b"", b"2", b"4"), (n, raw[:200], head)
    assert below(edge.pid) == pids
    assert "conversionId" in told(send(edge, made.shopify(id=some_id(), admin_graphql_api_id=None)))


def test_control_a_reader_that_crashes_is_seen(tmp_path: Path) -> None:
    with running(tmp_path, CRASH, stores=[STORE]) as edge, pytest.raises(AssertionError):
        test_nothing_that_a_sender_can_send_gives_a_5xx_or_ends_a_process(edge, 20)


# -- one order, many tellers


def page_or_server(edge: Edge, order_id: str, key: str = "secret", **more: Any) -> Any:
    body = {"storeId": SHOP_STORE, "eventType": "Purchase", "orderId": order_id, "eventValue": 118.9, "currency": "EUR"}
    return told(edge.post("/v1/track/conversion", body | more, key))


def order(number: int, **changes: Any) -> dict[str, Any]:
    """What sets a Shopify order apart; its times are of now, as a server's are."""
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    gid = f"gid://shopify/Order/{number}"
    times = {"created_at": at, "updated_at": at}
    return (
        {"id": number, "admin_graphql_api_id": gid, "name": f"#{number + 1}", "order_number": number + 1}
        | times
        | changes
    )


def test_O6_the_shops_word_counts_before_a_servers(edge: Edge) -> None:
    number = some_id()
    first = page_or_server(edge, str(number), eventValue=500)
    answer = told(send(edge, made.shopify(**order(number))))
    assert answer["conversionId"] == first["conversionId"]
    assert page_or_server(edge, str(number), eventValue=3)["conversionId"] == first["conversionId"]  # no 409, a note


def test_O1_an_older_word_that_comes_late_changes_nothing(edge: Edge, folder: Path) -> None:
    number = some_id()
    times = [time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now() - age)) for age in (60, 0)]
    newer = made.shopify("orders/cancelled", **order(number, cancelled_at=times[1], updated_at=times[1]))
    older = made.shopify(**order(number, updated_at=times[0]))
    answer = told(send(edge, newer))
    assert told(send(edge, older))["conversionId"] == answer["conversionId"]
    assert state(edge, answer["conversionId"])["capiStatus"] == "skipped"


def test_O9_a_deleted_order_is_a_cancelled_one(edge: Edge) -> None:
    number = some_id()
    answer = told(send(edge, made.shopify(**order(number))))
    gone = made.signed("shopify", {"id": number}, {"X-Shopify-Topic": "orders/delete", "X-Shopify-Webhook-Id": "del"})
    assert told(send(edge, gone))["conversionId"] == answer["conversionId"]
    after = state(edge, answer["conversionId"])
    assert (after["capiStatus"], "cancelled" in after["capiReason"]) == ("skipped", True)


@pytest.mark.parametrize("called", ["gid", "order_number", "name"])
@pytest.mark.parametrize("shop_first", [True, False])
def test_O8_an_order_has_one_conversion_under_all_its_names(edge: Edge, called: str, shop_first: bool) -> None:
    number = some_id() * 10
    name = {"gid": f"gid://shopify/Order/{number}", "order_number": str(number + 1), "name": f"#{number + 1}"}[called]
    message = made.shopify(**order(number))
    tellers = [lambda: told(send(edge, message)), lambda: page_or_server(edge, name)]
    first, second = (tell() for tell in (tellers if shop_first else tellers[::-1]))
    assert first["conversionId"] == second["conversionId"]
    later = made.shopify("orders/updated", delivery="later", **order(number, tags="shipped"))
    assert told(send(edge, later))["conversionId"] == first["conversionId"]


@pytest.mark.parametrize(
    "other", [{"eventValue": 117.9}, {"currency": "USD"}, {"customerData": {"email": "another@example.com"}}]
)
@pytest.mark.parametrize("shop_first", [True, False])
def test_O8_a_number_alone_does_not_make_two_sales_one(edge: Edge, folder: Path, other: Any, shop_first: bool) -> None:
    number = some_id() * 10
    message = made.shopify(**order(number))
    tellers = [lambda: told(send(edge, message)), lambda: page_or_server(edge, str(number + 1), **other)]
    first, second = (tell() for tell in (tellers if shop_first else tellers[::-1]))
    assert first["conversionId"] != second["conversionId"]


def test_O8_stripes_session_and_a_later_refund_meet(edge: Edge) -> None:
    session = made.stripe(at=now(), id="cs_8", payment_intent="pi_8", metadata={"order_id": "A-8"})
    charge = made.stripe("charge.refunded", at=now(), event="evt_2", id="ch_8", payment_intent="pi_8", mode=None,
                         payment_status=None, amount_total=None, amount=4800, amount_refunded=4800, metadata={})  # fmt: skip
    assert told(send(edge, session))["conversionId"] == told(send(edge, charge))["conversionId"]


def test_O8_a_pages_telling_under_another_name_is_only_a_note(edge: Edge, folder: Path) -> None:
    number = some_id() * 10
    page = {"Origin": "https://shop.example", "User-Agent": made.AGENT}
    body = {
        "storeId": SHOP_STORE,
        "eventType": "Purchase",
        "orderId": str(number + 1),
        "eventValue": 118.9,
        "currency": "EUR",
    }
    noted = told(edge.post("/v1/track/conversion", body, "page", page))
    assert noted["capiStatus"] == "held"
    answer = told(send(edge, made.shopify(**order(number))))
    found = eventually(lambda: state(edge, noted["conversionId"])["conversionId"] == answer["conversionId"], 15.0)
    assert found, "its note leads to the order"


def test_O8_two_orders_of_one_shop_stay_two_whatever_their_numbers_say(edge: Edge) -> None:
    """An order's number is another one's id, at the same value on the same day."""
    number = some_id() * 10
    first = told(send(edge, made.shopify(**order(number))))
    second = told(send(edge, made.shopify(delivery="2", **order(number + 1))))
    assert first["conversionId"] != second["conversionId"]


def test_a_renewal_is_kept_and_never_sent(edge: Edge) -> None:
    parent = {"subscription_details": {"metadata": {"order_id": "S-1"}}}
    message = made.stripe("invoice.paid", at=now(), event="evt_r", id="in_r", payment_intent=None, mode=None, parent=parent,
                          billing_reason="subscription_cycle", amount_total=None, amount_paid=2900, metadata={})  # fmt: skip
    after = state(edge, told(send(edge, message))["conversionId"])
    assert after["capiStatus"] == "skipped"
    assert "renewal" in after["capiReason"]


SERVED = """
[meta]
mode = "dry_run"

[[store]]
id = "store_abc123"
[store.webhook_secrets]
shopify_file = "shopify.secret"
[[store.pixel]]
id = "123456789012345"
"""


@pytest.mark.slow
def test_the_program_takes_a_webhook_and_its_reload_another_secret(tmp_path: Path) -> None:
    """As it runs for a merchant: confined by the kernel, the secret in a file that the edge alone reads."""
    secret = tmp_path / "shopify.secret"
    secret.write_text(made.SECRETS["shopify"])
    secret.chmod(0o600)
    (tmp_path / "collector.toml").write_text(SERVED)
    serving = Serving(SOURCE, tmp_path, "--config", str(tmp_path / "collector.toml"))
    try:
        port = int(serving.ready()["edge"].rpartition(":")[2])
        edge = Edge(port, 0, {}, tmp_path / "stderr")
        assert "conversionId" in told(send(edge, made.shopify()))
        secret.write_text("another one")
        serving.process.send_signal(signal.SIGHUP)
        assert eventually(lambda: send(edge, made.shopify()).status == 401, 60)
    finally:
        serving.end()


PULLED = """
[meta]
mode = "dry_run"

[[store]]
id = "store_abc123"
[store.shop]
platform = "shopify"
url = "{url}"
client_id = "client-1"
client_secret_file = "app.secret"
[[store.pixel]]
id = "123456789012345"
"""


@pytest.mark.slow
def test_L1_the_program_confined_pulls_what_no_webhook_told(tmp_path: Path) -> None:
    """From the shop's API over courier, inbox, edge and keeper to an order, and to the report."""
    secret = tmp_path / "app.secret"
    secret.write_text("hush-client")
    secret.chmod(0o600)
    at = int(time.time() * 1000) - 3_600_000
    with serving(ShopServer(page=7)) as shop:
        for n in range(20):
            shop.orders[str(n)] = graph_order(4_440_000 + n, at, at)
        (tmp_path / "collector.toml").write_text(PULLED.format(url=shop.url))
        program = Serving(SOURCE, tmp_path, "--config", str(tmp_path / "collector.toml"))
        try:
            program.ready()
            ask = ("report", "reconcile", "--json", "--config", "collector.toml")
            assert eventually(lambda: sum(line["orders"] for line in json.loads(program.run(*ask))) == 20, 40.0)
            # A dry run sends nothing, and says so of each.
            assert eventually(lambda: {line["accuracy"] for line in json.loads(program.run(*ask))} == {100.0}, 60)
        finally:
            program.end()
