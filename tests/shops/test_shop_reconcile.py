# ruff: noqa: E501 (cases are read as one line each)
"""C1-C6: the shop's own count of its orders, beside what became of each; by webhooks, and by an export's file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from msgspec import structs

from collector.cli import main
from collector.core import times
from collector.core.capi.states import CapiState
from collector.core.shops import counted, exports
from collector.core.shops.exports import BadRow, FileOrder
from collector.storage.reports import commands
from collector.storage.reports.commands import Reconciled
from tests.journal.test_shop_orders import Shop, moment
from tests.kit import shops as made
from tests.kit.journal_kit import DAY, HOUR, NOW, PIXEL, STORE, order

NUMBER = 6_660_000
UTC = ZoneInfo("UTC")


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    one = Shop(tmp_path)
    yield one
    one.kit.close()


def paid(number: int, **changes: Any) -> made.Message:
    at = {"created_at": moment(0), "processed_at": moment(0), "updated_at": moment(1)}
    named = {"name": f"#{number % 10_000}", "order_number": number % 10_000}
    return made.shopify(id=number, admin_graphql_api_id=None, **named | at | changes)


def put(shop: Shop, conversion: int | None, state: CapiState) -> None:
    """Have Meta's answer to an order's event be this one."""
    shop.kit.execute("UPDATE outbox SET state = ? WHERE conversion = ?", int(state), conversion)


def reconciled(shop: Shop, **asked: Any) -> Reconciled:
    config = asked.pop("config", shop.kit.config)
    return commands.reconcile(config, NOW - 30 * DAY, NOW + 30 * DAY, store=None, by=asked.pop("by", "day"))


def test_C1_each_class_once_and_they_make_up_all_orders(shop: Shop) -> None:
    states = [CapiState.SENT, CapiState.HELD, CapiState.RETRYING, CapiState.EXPIRED]
    for n, state in enumerate(states):
        put(shop, shop.tell(paid(NUMBER + n)).conversion, state)
    shop.tell(paid(NUMBER + 10, source_name="pos"))
    shop.tell(paid(NUMBER + 11, financial_status="voided"))
    (line,) = reconciled(shop).lines
    assert (line.orders, line.sent, line.held, line.waiting, line.failed, line.ignored, line.missing) == (
        6,
        1,
        1,
        1,
        1,
        2,
        0,
    )
    assert line.orders == sum(getattr(line, name) for name in counted.CLASSES)
    assert line.accuracy == 66.66
    assert line.delivered == 25.0
    assert line.pixel == PIXEL


@pytest.mark.parametrize("by", ["reason", "channel"])
def test_C4_sums_by_reason_and_channel_make_up_all_orders_too(shop: Shop, by: str) -> None:
    shop.tell(paid(NUMBER))
    shop.tell(paid(NUMBER + 1, source_name="pos"))
    lines = reconciled(shop, by=by).lines
    assert sum(line.orders for line in lines) == 2
    assert (
        {"ignored: channel_pos", "waiting"} == {line.day for line in lines}
        if by == "reason"
        else {line.day for line in lines} == {"pos", "web"}
    )


def test_an_order_told_a_hundred_times_and_refunded_is_one_with_what_stays(shop: Shop) -> None:
    for n in range(20):
        shop.tell(paid(NUMBER))
        shop.tell(
            paid(NUMBER, updated_at=moment(5), current_total_price="18.90", financial_status="partially_refunded"),
            seen=2 if n % 2 else 1,
        )
    assert shop.kit.rows("SELECT called, status, value, seen FROM shop_order") == [
        (str(NUMBER), "partially_refunded", "18.90", 3)
    ]


def test_C1_days_are_the_shops_own(shop: Shop) -> None:
    shop.tell(paid(NUMBER, created_at="2026-09-20T23:10:00Z", processed_at=None, updated_at="2026-09-20T23:10:00Z"))
    store = shop.kit.config.store[0]
    kiev = structs.replace(shop.kit.config, store=[structs.replace(store, timezone="Europe/Kyiv")])
    assert [line.day for line in reconciled(shop).lines] == ["2026-09-20"]
    assert [line.day for line in reconciled(shop, config=kiev).lines] == ["2026-09-21"]


def test_C1_without_orders_there_is_no_share() -> None:
    assert counted.share(0, 0) is None
    assert counted.share(999_999, 1_000_000) == 99.99  # never rounded up to all of them


def test_C2_a_day_says_what_its_count_rests_on(shop: Shop) -> None:
    def bases(since: int, watermark: int) -> list[str]:
        row = (STORE, since, watermark, NOW, None)
        shop.kit.transaction._db.execute("INSERT OR REPLACE INTO shop_pull VALUES (?, ?, ?, ?, ?)", row)
        return [line.basis for line in reconciled(shop).lines]

    shop.tell(paid(NUMBER))
    (line,) = reconciled(shop).lines
    assert line.basis == "webhooks only (lower bound)"  # a webhook that was lost is in neither count
    begin = int(datetime.fromisoformat(f"{line.day}T00:00:00+00:00").timestamp() * 1000)
    assert bases(begin, begin + 14 * HOUR) == ["pull, complete to 14:00"]
    assert bases(begin - DAY, begin + DAY) == ["pull"]
    assert bases(begin + 1, begin + DAY) == ["webhooks only (lower bound)"]  # the pull began within the day
    assert bases(begin - DAY, begin) == ["webhooks only (lower bound)"]  # and has not come to it


def test_C2_control_a_pull_of_another_store_says_nothing_of_this_one(shop: Shop) -> None:
    shop.tell(paid(NUMBER))
    row = ("store_other", NOW - 30 * DAY, NOW + 30 * DAY, NOW, None)
    shop.kit.transaction._db.execute("INSERT INTO shop_pull VALUES (?, ?, ?, ?, ?)", row)
    assert [line.basis for line in reconciled(shop).lines] == ["webhooks only (lower bound)"]


def test_C3_purchases_that_no_order_of_the_shop_matches_are_named(shop: Shop) -> None:
    shop.tell(paid(NUMBER))
    assert reconciled(shop).notes == {STORE: []}
    shop.kit.submit([shop.kit.operation(order("strange-1"))])
    assert reconciled(shop).notes[STORE] == ["unknown to the shop: 1 purchases that no order of the shop matches"]


def test_O8_a_number_that_another_order_has_is_listed_and_goes_with_its_order(shop: Shop) -> None:
    shop.kit.submit([shop.kit.operation(order("7001", eventValue="7.00", currency="EUR"))])
    shop.tell(paid(NUMBER, order_number=7001, name="#7001"))
    shop.kit.transaction.beat()
    assert f"name_conflict: 1 ({NUMBER})" in reconciled(shop).notes[STORE]
    shop.kit.transaction._db.execute("DELETE FROM conversion")
    assert shop.kit.rows("SELECT count(*) FROM shop_note") == [(0,)]


def test_O8_a_hundred_notes_are_kept_of_a_kind(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("collector.storage.journal.shop_orders._MOST_NOTES", 3)
    for n in range(5):
        shop.kit.submit([shop.kit.operation(order(str(NUMBER + n), eventValue="7.00", currency="EUR"))])
        shop.kit.now += HOUR
        shop.tell(paid(NUMBER + n))
    kept = shop.kit.rows("SELECT called FROM shop_note ORDER BY at")
    assert kept == [(str(NUMBER + n),) for n in (2, 3, 4)]


@pytest.mark.parametrize(
    ("value", "notes"), [("118.90", []), ("118.895", []), ("100.00", [f"value_differs: 1 ({NUMBER})"])]
)
def test_O6_a_server_that_told_another_value_is_named(shop: Shop, value: str, notes: list[str]) -> None:
    shop.kit.submit([shop.kit.operation(order(str(NUMBER), eventValue=value, currency="EUR"))])
    for _ in range(3):
        shop.tell(paid(NUMBER))
    shop.kit.transaction.beat()
    assert reconciled(shop).notes[STORE] == notes
    assert shop.kit.rows("SELECT value FROM shop_order") == [("118.90",)]  # the shop's counts


def test_an_erased_order_leaves_the_list(shop: Shop) -> None:
    from tests.journal.test_shop_erasure import erase

    shop.tell(paid(NUMBER))
    assert erase(shop, order=str(NUMBER)) == 1
    assert shop.kit.rows("SELECT count(*) FROM shop_order") == [(0,)]


# -- files

HEAD = "Name,Email,Financial Status,Currency,Total,Created at,Cancelled at,Refunded Amount,Id,Source\n"


def row(number: int, total: str = "118.90", **more: str) -> str:
    said = {"status": "paid", "refunded": "0.00", "source": "web", "cancelled": "", "id": str(number)} | more
    name = f"#{number % 10_000}"
    return f"{name},jo@example.com,{said['status']},EUR,{total},2026-09-21 16:13:20 +0200,{said['cancelled']},{said['refunded']},{said['id']},{said['source']}\n"


def storage_of(shop: Shop) -> str:
    """Its section of a configuration."""
    return f"[storage]\ndata_dir = {json.dumps(shop.kit.config.storage.data_dir)}\nreserve_mb = 1\n"


def compare(shop: Shop, text: str | bytes, capsys: Any, *flags: str) -> tuple[int, Any]:
    folder = Path(shop.kit.config.storage.data_dir)
    file, config = folder / "export.csv", folder / "collector.toml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    config.write_text(f"{storage_of(shop)}[[store]]\nid = '{STORE}'\n[[store.pixel]]\nid = '{PIXEL}'\n")
    code = main(["reconcile", str(file), "--config", str(config), "--json", *flags])
    out = capsys.readouterr()
    return code, json.loads(out.out) if out.out else out.err


def test_C5_a_file_beside_what_is_here(shop: Shop, capsys: Any) -> None:
    put(shop, shop.tell(paid(NUMBER)).conversion, CapiState.SENT)
    shop.tell(paid(NUMBER + 1))
    text = HEAD + row(NUMBER) + "#0,jo@example.com,,,,,,,,\n" + row(NUMBER + 1) + row(NUMBER + 1) + row(NUMBER + 2)
    text += (
        row(NUMBER + 3, source="pos")
        + row(NUMBER + 4, status="voided")
        + row(NUMBER + 5, cancelled="2026-09-22")
        + row(NUMBER + 6, "0.00")
        + "#9,,paid,EUR,x,2026-09-21,,,9,web\n"
    )
    code, told = compare(shop, text, capsys)
    (line,) = told["lines"]
    assert code == 0
    assert (line["orders"], line["sent"], line["waiting"], line["ignored"], line["missing"]) == (7, 1, 1, 4, 1)
    assert [one["order"] for one in told["missing"]] == [str(NUMBER + 2)]
    assert (told["repeated"], told["badRows"], told["accuracy"], line["basis"]) == (1, 1, 71.42, "file")
    assert compare(shop, text, capsys, "--min", "71")[0] == 0
    assert compare(shop, text, capsys, "--min", "72")[0] == 1


def test_C5_an_order_is_found_by_the_number_that_people_know_it_by(shop: Shop, capsys: Any) -> None:
    shop.tell(paid(NUMBER))
    shop.kit.submit([shop.kit.operation(order("A-7"))])  # a server's own
    _, told = compare(shop, HEAD + row(NUMBER, id="") + row(NUMBER, id="A-7"), capsys)
    assert told["missing"] == []
    assert told["orders"] == 2
    _, told = compare(shop, HEAD + row(NUMBER + 1, id="A-8"), capsys)  # control: another number
    assert len(told["missing"]) == 1


def test_C5_what_a_file_alone_knew_is_the_same_order_once_it_is_told(shop: Shop, capsys: Any) -> None:
    _, told = compare(shop, HEAD + row(NUMBER, id=""), capsys)
    assert len(told["missing"]) == 1
    shop.tell(paid(NUMBER))
    _, told = compare(shop, HEAD + row(NUMBER, id=""), capsys)
    assert told["missing"] == []
    assert shop.kit.rows("SELECT count(*) FROM shop_order") == [(1,)]


def test_C3_another_value_is_counted(shop: Shop, capsys: Any) -> None:
    shop.tell(paid(NUMBER))
    assert compare(shop, HEAD + row(NUMBER), capsys)[1]["valueDiffers"] == 0
    assert compare(shop, HEAD + row(NUMBER, refunded="30.00"), capsys)[1]["valueDiffers"] == 1


def test_C5_ndjson_fills_what_is_missing(shop: Shop, capsys: Any) -> None:
    lines = b"\n".join([paid(NUMBER).body, b"", b"[1]", made.woocommerce(status="draft").body, paid(NUMBER + 1).body])
    shop.tell(paid(NUMBER))
    code, told = compare(shop, lines, capsys, "--fill")
    assert (code, told["filled"], told["unfit"], told["badRows"]) == (0, 1, 0, 2)
    assert shop.kit.rows("SELECT platform, topic, seen FROM shop_inbox") == [("shopify", "orders/updated", 4)]


def test_C5_what_a_csv_lacks_cannot_be_filled_and_is_said(shop: Shop, capsys: Any) -> None:
    _, told = compare(shop, HEAD + row(NUMBER) + row(NUMBER + 1), capsys, "--fill")
    assert (told["filled"], told["unfit"]) == (0, 2)
    assert compare(shop, HEAD + row(NUMBER), capsys)[1]["unfit"] == 0  # control: nobody asked for it


@pytest.mark.parametrize("encode", [
    lambda t: b"\xef\xbb\xbf" + t.encode(), lambda t: t.encode("utf-16"), lambda t: t.replace("\n", "\r\n").encode(),
    lambda t: t.replace(",", ";").encode(), lambda t: t.replace(",", "\t").encode(),
    lambda t: t.replace("jo@example.com", '"jo\n@example, com"').encode(),
    lambda t: t.replace("jo@example.com", "Zoë Müller").encode("cp1252"), lambda t: t.replace("\n", "\r").encode(),
    lambda t: t.encode("utf-16-le"), lambda t: t.encode("utf-16-be"), lambda t: t.encode("utf-32"),
    lambda t: b"sep=;\r\n" + t.replace(",", ";").encode(), lambda t: b"\xef\xbb\xbfsep=,\n" + t.encode(),
    lambda t: t.replace("jo@example.com", "jo\0@example.com").encode(), lambda t: t.encode() + b"\n\n,,,\n",
    lambda t: t.replace("\n", f",note{';' * 40}\n", 1).encode(),
])  # fmt: skip
def test_C6_files_as_spreadsheets_write_them(shop: Shop, capsys: Any, encode: Any) -> None:
    shop.tell(paid(NUMBER))
    code, told = compare(shop, encode(HEAD + row(NUMBER) + row(NUMBER + 1)), capsys)
    assert code == 0
    assert (told["orders"], len(told["missing"]), told["badRows"]) == (2, 1, 0)


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", "Nam,Financial Stat,Currency,Total,Created at\n", b"\xff\xfe\x00",
    b"PK\x03\x04 a spreadsheet", b"\x1f\x8b gzip", b"\0" * 9, b"\xff" * 99, "sep=;\n"])  # fmt: skip
def test_C6_a_file_of_unknown_columns_is_refused_with_what_was_seen(shop: Shop, capsys: Any, text: Any) -> None:
    code, told = compare(shop, text, capsys)
    assert code == 2
    assert "columns seen" in told or "no text" in told


def test_C6_nothing_of_a_person_is_kept(shop: Shop, capsys: Any) -> None:
    compare(shop, HEAD + row(NUMBER), capsys)
    kept = str(shop.kit.rows("SELECT * FROM shop_order"))
    assert str(NUMBER) in kept, "control: what is kept is found"
    assert "jo@example.com" not in kept


def read(text: str, form: str = "auto", **columns: str) -> list[FileOrder | BadRow]:
    return list(
        exports.rows_of(
            text.splitlines(keepends=True),
            exports.delimiter_of(text.splitlines()[0]),
            form,
            columns,
            ZoneInfo("Europe/Warsaw"),
        )
    )


def test_C5_woocommerces_export() -> None:
    head = 'Date,"Order #","N. Revenue (formatted)",Status,"Net Sales"\n'
    one, two, three = read(
        head
        + '"2026-11-21 18:05:40",10452,"190,00 zł",processing,190\n"2026-11-21 19:40:00",10453,"76,00 zł",checkout-draft,76\nx,1,,paid,1\n'
    )
    assert isinstance(one, FileOrder)
    assert (one.names[0], one.value, one.ts, one.draft) == ("10452", None, 1_795_280_740_000, False)
    assert isinstance(two, FileOrder)
    assert two.draft
    assert three == BadRow(4, "its date cannot be read")


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("1,234.50", "1234.50"),
        ("1.234,50 zł", "1234.50"),
        ("118.90", "118.90"),
        ("76,00", "76.00"),
        ("1,234", "1234"),
        ("-3", "-3"),
        ("1\u202f234,50\u00a0€", "1234.50"),
        ("1.234.567", "1234567"),
        ("CHF 1'234.50", "1234.50"),
        ("1e5", None),
        ("12 of 15", None),
        ("abc", None),
        (".50", "0.50"),
        ("-$5.00", "-5.00"),
        ("$-5.00", "-5.00"),
        ("-€1.234,50", "-1234.50"),
        ("$" * 20_000 + "5", None),
    ],
)
def test_amounts_as_people_write_them(text: str, amount: str | None) -> None:
    assert exports.amount(text) == (None if amount is None else Decimal(amount))


@pytest.mark.parametrize(
    ("text", "read_as"),
    [
        ("2026-11-20 09:14:07 +0100", "2026-11-20T08:14:07Z"),
        ("20.11.2026 09:14", "2026-11-20T08:14:00Z"),
        ("5.1.2026", "2026-01-04T23:00:00Z"),
        ("2026/11/20 9:14", "2026-11-20T08:14:00Z"),
        ("11/12/2026", None),  # two days
        ("31.02.2026", None),
        ("20.11.26", None),
    ],
)
def test_C6_dates_as_a_spreadsheet_writes_them_back_where_they_are_one_day(text: str, read_as: str | None) -> None:
    found = exports.moment(text, ZoneInfo("Europe/Warsaw"))
    assert (None if found is None else times.text(found)) == read_as


def test_a_columns_table_takes_any_export() -> None:
    (one,) = read("no;when;sum\n7;2026-11-20;12,50\n", order="no", date="when", total="sum")
    assert isinstance(one, FileOrder)
    assert str(one.value) == "12.50"


def test_control_a_class_that_is_not_counted_is_noticed(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(counted._CLASS, CapiState.HELD, "waiting")
    put(shop, shop.tell(paid(NUMBER)).conversion, CapiState.HELD)
    (line,) = reconciled(shop).lines
    assert (line.held, line.waiting) == (0, 1)


def test_msgspec_prints_a_line_as_the_contract_has_it(shop: Shop) -> None:
    shop.tell(paid(NUMBER))
    (line,) = reconciled(shop).lines
    names = "store pixel day currency orders sent held ignored waiting failed missing accuracy delivered basis".split()
    assert list(msgspec.to_builtins(line)) == names
    assert line.basis == "webhooks only (lower bound)"
