"""Campaigns: a name, and Meta's own ids of the campaigns that stand behind it."""

from __future__ import annotations

import csv
import html
import io
import re
from decimal import Decimal
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import pytest

from collector.console import campaigns, credit, orders, words
from collector.console.bar import Asked, Unknown
from collector.console.shell import Desk
from collector.core.landing import label_of
from collector.core.matching.shapes import Match
from collector.storage.reports.reader import Reader
from tests.kit.console_process import make_config
from tests.kit.console_store import HOUR_MS, NOW, add_click, add_conversion, make_store


async def test_the_csv_has_the_pages_lines_and_no_formula(tmp_path: Path) -> None:
    db = make_store(tmp_path, clicks=0, conversions=0)
    names = ["=HYPERLINK(%221%22)", "%2B1", "@x", "a%2Cb%22c", "%EF%BC%9D1", "00123"]
    for n, name in enumerate(names):
        click = add_click(db, NOW - HOUR_MS, landing_page=f"https://shop.example/p?utm_campaign={name}&adset_id=7")
        for k, code in enumerate(("EUR", "USD")):
            value = Decimal(10 * (n + 1) + k)
            add_conversion(db, NOW - 9 * n - k, click=click, order=f"o-{n}-{k}", value=value, currency=code)
    db.close()
    async with Reader(tmp_path / "collector.db") as reader:
        desk = Desk(make_config(tmp_path), reader, lambda: NOW)
        text = await campaigns.campaigns_csv(desk, Asked(), "campaign", "")
        deeper = await campaigns.campaigns_csv(desk, Asked(), "campaign", "00123")
        with pytest.raises(Unknown, match="There is no grouping"):
            await campaigns.campaigns_csv(desk, Asked(), "landing-page", "")
    rows = list(csv.DictReader(io.StringIO(text)))
    told = {(row["campaign"], row["currency"]): (row["clicks"], row["orders"], row["value"]) for row in rows}
    assert told['\'=HYPERLINK("1")', "EUR"] == ("1", "2", "10")
    assert told['\'=HYPERLINK("1")', "USD"] == ("", "", "11")  # a sum over all lines counts nothing twice
    assert {name for name, _ in told} == {'\'=HYPERLINK("1")', "'+1", "'@x", 'a,b"c', "'\uff1d1", "00123"}
    assert [sum(int(row[of] or 0) for row in rows) for of in ("clicks", "orders")] == [6, 12]
    (line, _) = csv.DictReader(io.StringIO(deeper))
    assert (line["campaign"], line["ad_set"], line["zone"], line["event"]) == ("00123", "7", "UTC", "Purchase")


async def _page(folder: Path, queries: list[str]) -> str:
    """What the page says of orders whose clicks' landing pages have these queries."""
    db = make_store(folder, clicks=0, conversions=0)
    for n, query in enumerate(queries):
        click = add_click(db, NOW - HOUR_MS, landing_page=f"https://shop.example/p?{query}")
        add_conversion(db, NOW - n * 1000, click=click, order=f"o-{n}")
    db.close()
    async with Reader(folder / "collector.db") as reader:
        desk = Desk(make_config(folder), reader, lambda: NOW)
        found = (await campaigns.campaigns(desk, Asked(), "campaign", "")).content.decode()
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", found)))


@pytest.mark.parametrize(
    ("queries", "said"),
    [
        (["utm_campaign=Sale&utm_id=1201"], "Sale 1201 1 "),
        (["utm_campaign=Sale&utm_id=1201", "utm_campaign=Sale&campaign_id=77"], "Sale 1201, 77 2 "),
        (["utm_campaign=Sale"], "Sale 1 "),
        (["utm_id=1201"], " 1201 1 "),  # it is the name itself, and stands there once
        ([f"utm_campaign=Sale&utm_id={n}" for n in range(10, 15)], "Sale 10, 11, 12 and 2 more 5 "),
        (["utm_campaign=Sale&utm_id=%3Cb%3E"], "Sale <b> 1 "),
        (["utm_campaign=Sale&utm_id="], "Sale 1 "),
    ],
)
async def test_metas_ids_stand_below_a_campaigns_name(tmp_path: Path, queries: list[str], said: str) -> None:
    page = await _page(tmp_path, queries)
    assert said in page
    assert "All 1 " in page or f"All {len(queries)} " in page  # the sum is of no campaign


def _further(page: str) -> list[str]:
    """What the link to the next page comes after; nothing on the last one."""
    found = re.findall(r'<a href="([^"]+)">[\d,]+ more</a>', page)
    return [parse_qs(urlsplit(html.unescape(address)).query)["after"][0] for address in found]


def _links(page: str) -> list[str]:
    return [html.unescape(name) for name in re.findall(r'class="break"><a href="[^"]*">([^<]+)</a>', page)]


@pytest.mark.parametrize("names", [[f"c{n}" for n in range(9)], [f"0_9_{n} é\n&_%" for n in range(9)]])
async def test_a_name_that_overtakes_between_two_pages_hides_and_repeats_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: list[str]
) -> None:
    monkeypatch.setattr(campaigns, "_SHOWN", 3)
    db = make_store(tmp_path, clicks=0, conversions=0)
    for n, name in enumerate(names):
        for k in range(9 - n):
            add_click(db, NOW - HOUR_MS - k, landing_page=f"https://shop.example/?utm_campaign={quote(name)}")
    told = list[str]()
    async with Reader(tmp_path / "collector.db") as reader:
        desk, after = Desk(make_config(tmp_path), reader, lambda: NOW), [""]
        while after:
            page = (await campaigns.campaigns(desk, Asked(), "campaign", "", after[0])).content.decode()
            told, after = told + _links(page), _further(page)
            for k in range(20 if len(told) == 3 else 0):
                add_click(db, NOW - k, landing_page=f"https://shop.example/?utm_campaign={quote(names[7])}")
    db.close()
    assert told == [label_of(name) for name in names if name != names[7]]


@pytest.mark.parametrize(
    "after", ["1", "1_2", "1_2_", "x_2_a", "-1_2_a", "1e9_2_a", "٣_2_a", "9" * 19 + "_2_a", "1_2_" + "a" * 401]
)
async def test_a_page_of_campaigns_that_is_none_is_told(tmp_path: Path, after: str) -> None:
    make_store(tmp_path, clicks=0, conversions=0).close()
    async with Reader(tmp_path / "collector.db") as reader:
        with pytest.raises(Unknown, match="cannot be read from the address"):
            await campaigns.campaigns(Desk(make_config(tmp_path), reader, lambda: NOW), Asked(), "campaign", "", after)


async def test_a_campaigns_figure_leads_to_as_many_orders(tmp_path: Path) -> None:
    db = make_store(tmp_path, clicks=0, conversions=0)
    for n, query in enumerate(["utm_campaign=Sale", "", "", None, None, None]):
        click = (
            add_click(db, NOW - HOUR_MS, landing_page=f"https://shop.example/?{query}") if query is not None else None
        )
        none = None if click else Match(attributed=False, model="m", reason="none")
        add_conversion(db, NOW - n * 1000, click=click, order=f"o-{n}", match=none)
    async with Reader(tmp_path / "collector.db") as reader:
        desk = Desk(make_config(tmp_path), reader, lambda: NOW)
        page = (await campaigns.campaigns(desk, Asked(), "campaign", "")).content.decode()
        figures = re.findall(r'<a href="/orders\?([^"]+)">(\d+)</a>', page)
        assert {parse_qs(html.unescape(query))["campaign"][0]: int(n) for query, n in figures} == {
            "Sale": 1,
            "(none)": 2,
        }
        for query, n in figures:
            filters = orders.Filters(campaign=parse_qs(html.unescape(query))["campaign"][0])
            listed = (await orders.orders(desk, Asked(), filters, "")).content.decode()
            assert listed.count('c-order"><a ') == int(n)
        other = (await campaigns.campaigns(desk, Asked(event="Lead"), "campaign", "")).content.decode()
        assert "/orders?campaign" not in other  # Orders has no leads
    db.close()


NAMES = {
    "plain": [f"campaign {n}" for n in range(260)],
    "long, of another script": [f"{'Ж' * 110} {n}" for n in range(90)],
    "marks": [f"{'<&>' * 30} {n}" for n in range(90)],
}


@pytest.mark.parametrize("kind", NAMES)
async def test_however_many_and_long_the_names_a_page_is_within_its_budget_and_all_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    db = make_store(tmp_path, clicks=0, conversions=0)
    db.execute("BEGIN")
    for n, name in enumerate(NAMES[kind]):
        add_click(db, NOW - n * 1000, landing_page=f"https://shop.example/{n}?utm_campaign={quote(name)}")
    db.execute("COMMIT")
    db.close()
    told, begin, pages = list[str](), list[str](), 0
    async with Reader(tmp_path / "collector.db") as reader:
        desk = Desk(make_config(tmp_path), reader, lambda: NOW)
        while not pages or begin:
            page = (await campaigns.campaigns(desk, Asked(range="90"), "campaign", "", *begin)).content
            assert len(page) < 60_000
            text = page.decode()
            told += _links(text)
            begin, pages = _further(text), pages + 1
        beyond = (await campaigns.campaigns(desk, Asked(range="90"), "campaign", "", "0_0_x")).content.decode()
        monkeypatch.setattr(words, "_ROOM_BYTES", 1_000_000)  # the control
        whole = (await campaigns.campaigns(desk, Asked(range="90"), "campaign", "")).content
    assert sorted(told) == sorted(NAMES[kind])
    assert pages > 1
    assert html.escape(told[0], quote=False) in beyond
    assert len(whole) > 60_000


async def test_another_credit_models_page_is_within_its_budget(tmp_path: Path) -> None:
    db = make_store(tmp_path, clicks=0, conversions=0)
    db.execute("BEGIN")
    for n in range(260):
        click = add_click(db, NOW - HOUR_MS, landing_page=f"https://shop.example/{'Ж' * 90}/{n}?utm_campaign=x")
        match = Match(attributed=True, model="m", click=click, click_ts=NOW - HOUR_MS)
        add_conversion(db, NOW - n, order=f"o-{n}", match=match, click=click)
    db.execute("COMMIT")
    db.close()
    async with Reader(tmp_path / "collector.db") as reader:
        desk = Desk(make_config(tmp_path), reader, lambda: NOW)
        page = (await credit.credit(desk, Asked(), "landing-page", "", "")).content
    rows = page.decode().count('<td class="break">') - 1
    assert len(page) < 60_000
    assert 50 < rows < 260
    assert f"{260 - rows} more; " in page.decode()
