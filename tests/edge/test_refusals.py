"""What the API refused stands one by one in the database: code, field and the order's number; batches' items too."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Any

import apsw
import pytest

from collector.core import refused, times
from collector.edge import keeper
from collector.storage.people.erasure import erase_person
from collector.storage.rules import refusals
from collector.storage.verbs.person import Asked
from tests.edge.test_error_shape import CLICK, FROM_SHOP, ORDER
from tests.kit.edge_process import configuration, running
from tests.kit.journal_kit import NOW, Kit, click, order

DAY_MS = 86_400_000


def kept(folder: Path) -> list[tuple[str, str, str]]:
    path = str(folder / "collector.db")
    with contextlib.closing(apsw.Connection(path, flags=apsw.SQLITE_OPEN_READONLY)) as db:
        return [tuple(row) for row in db.execute("SELECT code, field, called FROM refusal ORDER BY id")]


def sums(folder: Path) -> dict[str, int]:
    path = str(folder / "collector.db")
    with contextlib.closing(apsw.Connection(path, flags=apsw.SQLITE_OPEN_READONLY)) as db:
        return dict(db.execute("SELECT code, sum(n) FROM refusal_sum GROUP BY 1"))


def test_each_refusal_tells_its_field_and_the_orders_number(tmp_path: Path) -> None:
    bad: list[dict[str, Any]] = [
        ORDER | {"orderId": "B-1", "currency": "EURO"},
        ORDER | {"orderId": 4711, "eventValue": "a lot"},
        ORDER | {"orderId": "B-3", "storeId": "nobody"},
        {key: value for key, value in ORDER.items() if key != "eventValue"} | {"orderId": "B-4"},
    ]
    with running(tmp_path) as edge:
        for body in bad:
            assert edge.post("/v1/track/conversion", body).status >= 400
        assert edge.post("/v1/track/click", CLICK | {"fbclid": "a b"}).status == 400
        batch = [ORDER | {"orderId": "G-1"}, *bad, ORDER | {"orderId": "G-2"}]
        assert edge.post("/v1/track/batch", [{"type": "conversion"} | item for item in batch]).status == 200
    singles = [("invalid_currency", "currency", "B-1"), ("invalid_field", "eventValue", "4711")]
    singles += [("store_not_found", "storeId", "B-3"), ("missing_required_field", "eventValue", "B-4")]
    assert kept(tmp_path / "data") == [*singles, ("invalid_fbclid", "fbclid", ""), *singles]


def test_an_order_that_is_told_with_two_values_is_told_with_its_number_in_a_batch_too(tmp_path: Path) -> None:
    with running(tmp_path) as edge:
        assert edge.post("/v1/track/conversion", ORDER | {"orderId": "C-1"}).status == 200
        assert edge.post("/v1/track/conversion", ORDER | {"orderId": "C-1", "eventValue": 7}).status == 409
        edge.post("/v1/track/batch", [{"type": "conversion"} | ORDER | {"orderId": "C-1", "eventValue": 8}])
    assert kept(tmp_path / "data") == [("order_conflict", "eventValue", "C-1")] * 2


def test_a_number_is_short_text_and_nobodys_address(tmp_path: Path) -> None:
    evil = "<script>\x07" + "x" * 500
    with running(tmp_path) as edge:
        edge.post("/v1/track/conversion", ORDER | {"orderId": "jane@shop.example", "currency": "EURO"})
        edge.post("/v1/track/conversion", ORDER | {"orderId": evil, "currency": "EURO"})
    found = kept(tmp_path / "data")
    assert found[0] == ("invalid_currency", "currency", "")
    assert found[1][2].startswith("<script>xxx")
    assert len(found[1][2]) == 64


def test_what_a_page_or_a_stranger_sends_is_counted_and_never_listed(tmp_path: Path) -> None:
    bad = ORDER | {"orderId": "Pay at evil.example", "currency": "EURO"}
    with running(tmp_path) as edge:
        for key, headers in ((None, {}), ("page", FROM_SHOP), ("page", {}), (None, FROM_SHOP)):
            assert edge.post("/v1/track/conversion", bad, key, headers).status >= 400
        assert edge.post("/v1/track/conversion", bad, None, {"Authorization": "Bearer sk_nonsense"}).status == 401
        assert edge.post("/v1/track/conversion?key=sk_nonsense", bad, None).status == 401
        assert edge.post("/v1/track/conversion", bad | {"key": "sk_nonsense"}, None).status >= 400
        assert edge.post("/v1/track/batch", [bad], None).status == 401
        assert edge.post("/v1/track/batch", [bad], "page", FROM_SHOP).status == 403
        assert edge.post("/c", {"s": "nobody", "e": []}, None, FROM_SHOP).status == 404
        assert edge.get("/c.gif?s=nobody", None).status == 200
        for _ in range(2 * keeper.MOST_REFUSED):  # a stranger's flood takes nobody's place
            edge.post("/v1/track/conversion", {}, None)
        assert edge.post("/v1/track/conversion", bad | {"orderId": "REAL"}).status == 400
        # With a key, whatever else is wrong with the head: it is the merchant's own.
        assert edge.post("/v1/track/conversion", bad, headers={"Content-Type": "text/xml"}).status == 415
        assert edge.post("/v1/track/conversion", bad | {"orderId": "TWO"}, headers=FROM_SHOP).status == 400
    assert kept(tmp_path / "data") == [
        ("invalid_currency", "currency", "REAL"),
        ("unsupported_media_type", "", ""),
        ("invalid_currency", "currency", "TWO"),
    ]
    assert sum(sums(tmp_path / "data").values()) == 11 + 2 * keeper.MOST_REFUSED + 3


def test_a_flood_of_one_code_leaves_room_for_the_others(tmp_path: Path) -> None:
    flood = [{"type": "conversion"} | ORDER | {"orderId": f"F-{n}", "currency": "EURO"} for n in range(1_000)]
    with running(tmp_path) as edge:
        assert edge.post("/v1/track/batch", flood).status == 200
        assert edge.post("/v1/track/conversion", ORDER | {"orderId": "REAL", "storeId": "nobody"}).status == 404
    found = kept(tmp_path / "data")
    assert ("store_not_found", "storeId", "REAL") in found
    assert keeper.MOST_REFUSED <= sum(code == "invalid_currency" for code, *_ in found) < 1_000
    assert sums(tmp_path / "data")["invalid_currency"] == 1_000


@pytest.mark.parametrize(
    ("code", "item"), [("invalid_currency", {"currency": "EURO"}), ("order_conflict", {"eventValue": 8})]
)
def test_a_batch_under_an_idempotency_key_is_counted_once(tmp_path: Path, code: str, item: dict[str, Any]) -> None:
    key = {"Idempotency-Key": "a"}
    with running(tmp_path) as edge:
        assert edge.post("/v1/track/conversion", ORDER | {"orderId": "C-1"}).status == 200
        for _ in range(3):
            answer = edge.post(
                "/v1/track/batch", [{"type": "conversion"} | ORDER | {"orderId": "C-1"} | item], headers=key
            )
            assert code.encode() in answer.data
        other = [{"type": "conversion"} | ORDER | {"orderId": "C-2"} | item]
        assert edge.post("/v1/track/batch", other, headers=key).status == 409  # the whole is refused, none of its items
    assert [(found, number) for found, _, number in kept(tmp_path / "data")] == [
        (code, "C-1"),
        ("idempotency_conflict", ""),
    ]
    assert sums(tmp_path / "data") == {code: 1, "idempotency_conflict": 1}


@pytest.mark.parametrize(
    ("body", "number"),
    [
        (b'{"orderId": "A-1", "eventValue": 1}', "A-1"),
        (b'{"orderId": 17}', "17"),
        (b'{"orderId": "  A 1  "}', "A 1"),
        (b'{"orderId": "+41 79 123 45 67"}', ""),
        (b'{"orderId": "jane%40shop.example"}', ""),
        (b'{"orderId": "' + b"x" * 58 + b'-jane@shop.example"}', ""),
        (b'{"orderId": ' + b"7" * 5_000 + b"}", ""),
        (b'{"orderId": "jane%2540shop.example"}', ""),
        (b'{"orderId": "jane%25252540shop.example"}', ""),
        (b'{"orderId": "jane%' + b"25" * 20 + b'40shop.example"}', ""),
        ('{"orderId": "jane\uff20shop.example"}'.encode(), ""),
        ('{"orderId": "jane\ufe6bshop.example"}'.encode(), ""),
        ('{"orderId": "jane\u200b@\u200bshop.example"}'.encode(), ""),
        (b'{"orderId": "jane%EF%BC%A0shop.example"}', ""),
        (b'{"orderId": "jane%E2%80%8B%40shop.example"}', ""),
        (b'{"orderId": "jane&#64;shop.example"}', ""),
        (b'{"orderId": "jane%26commat;shop.example"}', ""),
        (b'{"orderId": "%2B41 79 123 45 67"}', ""),
        ('{"orderId": "\uff0b41 79 123 45 67"}'.encode(), ""),
        (b'{"orderId": "' + b"x" * 60 + b'%40shop.example"}', ""),
        (b'{"orderId": "' + b"x" * 50 + b' jane@shop.example"}', ""),
        (b'{"orderId": "' + b"x" * 1_025 + b'"}', ""),
        (b'{"orderId": "100% A & B"}', "100% A & B"),
        (b'{"orderId": "A%2F1"}', "A%2F1"),
        (b'{"orderId": true}', ""),
        (b'{"orderId": null}', ""),
        (b'{"orderId": {"a": 1}}', ""),
        (b'{"orderId": 1.5}', ""),
        (b'{"orderId": "A-1"', ""),
        (b'["orderId"]', ""),
        (b"\xff\xfe", ""),
        (b"", ""),
        (b'{"a": ' + b"[" * 9_000 + b"]" * 9_000 + b', "orderId": "A-1"}', ""),
        (b'{"orderId": "A-1", "a": "' + b"x" * 20_000 + b'"}', ""),
        ('{"orderId": "é\u202e№ 1"}'.encode(), "é№ 1"),
    ],
)
def test_a_number_is_read_where_it_can_be(body: bytes, number: str) -> None:
    assert refused.number_in(body) == number


def test_the_newest_of_each_code_are_kept_and_a_flood_stays_small(tmp_path: Path) -> None:
    with Kit(tmp_path) as kit:
        kit.journal.count([], {}, [("store_not_found", "storeId", "B-1")])
        kit.journal.count([], {}, [("invalid_json", "", f"A-{n}") for n in range(2_000)])
        kit.transaction.beat()
        newest = (
            "SELECT count(*), min(called), max(called) FROM refusal WHERE code = 'invalid_json'",
            (500, "A-1500", "A-1999"),
        )
        assert kit.rows(newest[0]) == [newest[1]]
        for _ in range(3):
            kit.journal.count([], {}, [("invalid_json", "", "again")] * 300)
            kit.transaction.beat()
        assert kit.rows("SELECT code, count(*) FROM refusal GROUP BY 1 ORDER BY 1") == [
            ("invalid_json", 500),
            ("store_not_found", 1),
        ]


def test_they_stand_in_the_order_in_which_they_came(tmp_path: Path) -> None:
    told = [("invalid_json", "", "1"), ("not_found", "", "2"), ("invalid_json", "", "3")]
    with Kit(tmp_path) as kit:
        kit.journal.count([], {}, told)
        kit.transaction.beat()
        assert kit.rows("SELECT code, field, called FROM refusal ORDER BY id") == told


def test_what_is_older_than_thirty_days_goes_though_nothing_new_is_refused(tmp_path: Path) -> None:
    with Kit(tmp_path) as kit:
        kit.journal.count([], {}, [("invalid_json", "", "OLD"), ("invalid_json", "", "NEW")])
        kit.transaction.beat()
        kit.transaction._db.execute("UPDATE refusal SET at = ? WHERE called = 'OLD'", (NOW - 31 * DAY_MS,))
        kit.transaction.beat()
        assert kit.rows("SELECT called FROM refusal") == [("NEW",)]


JANE = Asked(email="jane@example.com")


def erase(kit: Kit, asked: Asked = JANE) -> None:
    erase_person(kit.config, None, asked, NOW, dry_run=False)


def test_an_erasure_leaves_no_number_of_a_refused_order(tmp_path: Path) -> None:
    """Whose it was, nobody can tell: so all of them go, and what was refused and why stays."""
    with Kit(tmp_path) as kit:
        kit.post(click("IwARofJane0000"), order("J1", customerData={"email": "jane@example.com"}))
        kit.journal.count([], {}, [("invalid_currency", "currency", "J2")])
        kit.transaction.beat()
        assert kit.rows("SELECT called FROM refusal") == [("J2",)]  # the control
        erase(kit)
        assert kit.rows("SELECT code, field, called FROM refusal") == [("invalid_currency", "currency", "")]


@pytest.mark.parametrize("asked", [JANE, Asked(order="J2")], ids=["her orders", "known by nothing but the refusal"])
@pytest.mark.parametrize("late", [False, True], ids=["waits in the keeper", "was on its way to it"])
def test_an_erasure_leaves_no_number_that_was_on_its_way_to_the_disk(tmp_path: Path, asked: Asked, late: bool) -> None:
    with Kit(tmp_path) as kit:
        kit.post(click("IwARofJane0000"), order("J1", customerData={"email": "jane@example.com"}))
        told = [("invalid_currency", "currency", "J2")]
        kit.journal.count([], {}, [] if late else told)
        erase(kit, asked)
        if late:
            kit.transaction.refresh_keys(force=True)  # as each second
            kit.journal.count([], {}, told)
        kit.transaction.beat()
        assert kit.rows("SELECT code, field, called FROM refusal") == [("invalid_currency", "currency", "")]


def test_what_is_refused_long_after_an_erasure_has_its_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusals, "_QUIET_S", 0.0)
    with Kit(tmp_path) as kit:
        kit.post(click("IwARofJane0000"), order("J1", customerData={"email": "jane@example.com"}))
        erase(kit)
        kit.transaction.refresh_keys(force=True)
        kit.journal.count([], {}, [("invalid_currency", "currency", "K1")])
        kit.transaction.beat()
        assert kit.rows("SELECT called FROM refusal") == [("K1",)]


def test_the_refusal_of_an_erased_order_keeps_no_number(tmp_path: Path) -> None:
    body = ORDER | {"orderId": "JANE-77", "customerData": {"email": "jane@example.com"}}
    item = {"type": "conversion"} | body
    with running(tmp_path, patch="import collector.storage.rules.refusals as r; r._QUIET_S = 0.0") as edge:
        assert edge.post("/v1/track/conversion", body).status == 200
        config = configuration(tmp_path / "data")
        erase_person(config, None, JANE, int(time.time() * 1000), dry_run=False)
        assert edge.post("/v1/track/conversion", body).status == 409
        assert edge.post("/v1/track/conversion", body, headers={"Idempotency-Key": "a"}).status == 409
        before = body | {"orderId": "JANE-78", "timestamp": times.text(int(time.time() * 1000) - 3_600_000)}
        assert edge.post("/v1/track/conversion", before).status == 403
        assert edge.post("/v1/track/batch", [item]).status == 200
        assert edge.post("/v1/track/batch", [item], headers={"Idempotency-Key": "b"}).status == 200
        assert edge.post("/v1/track/conversion", ORDER | {"orderId": "K-1", "currency": "EURO"}).status == 400
    conflict = ("order_conflict", "orderId", "")
    control = ("invalid_currency", "currency", "K-1")
    assert kept(tmp_path / "data") == [conflict] * 2 + [("forbidden", "", "")] + [conflict] * 2 + [control]
