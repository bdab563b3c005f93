"""A shared link shows what it was made for and nothing else: not forged, stretched, outlived or looked beside."""

from __future__ import annotations

import re
import sqlite3
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterator
from datetime import date, timedelta
from html import unescape
from pathlib import Path
from typing import Any

import msgspec
import pytest
import requests

from collector.console import app, bar, campaigns, share, today
from collector.console.bar import Asked
from collector.console.shell import Desk
from collector.core import shares
from collector.core.shares import LONGEST, PURPOSE, Share
from collector.storage.reports.reader import Reader
from tests.console.test_console_auth import CHEAP
from tests.kit.console_process import ConsoleProcess, make_config
from tests.kit.console_store import DAY_MS, KEYED, NOW, add_click, make_store

KEY = KEYED.subkey(PURPOSE)
TODAY = date(2026, 9, 21)
FAR = 4_000_000_000_000


def a_share(**changed: Any) -> Share:
    said = {"id": "0123456789abcdef", "store": "store_demo", "first": TODAY - timedelta(6), "last": TODAY}
    return Share(**{**said, "event": "Purchase", "expires": FAR, **changed})  # type: ignore[arg-type]


def put(db: sqlite3.Connection, share: Share, revoked: int | None = None) -> str:
    """A link that `collector share create` has made; its token."""
    row = (share.id, share.store, str(share.first), str(share.last), share.event, NOW, share.expires, revoked)
    db.execute("INSERT INTO share VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
    return shares.seal(share, KEY)


class Shown:
    """A console with a password, and the links that were made for it."""

    def __init__(self, console: ConsoleProcess, links: dict[str, str]) -> None:
        self.console, self.links = console, links

    def get(self, token: str, **more: Any) -> requests.Response:
        return self.console.get(f"/share/{token}", allow_redirects=False, **more)


LINKS = {
    "good": a_share(),
    "zurich": a_share(id="zurich", store="store_zurich"),
    "expired": a_share(id="expired", expires=NOW),
    "leads": a_share(id="leads", event="Lead"),
    "revoked": a_share(id="revoked"),
}


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    folder = tmp_path_factory.mktemp("shared")
    db = make_store(folder)
    links = {name: put(db, share, NOW if name == "revoked" else None) for name, share in LINKS.items()}
    db.close()
    with ConsoleProcess(make_config(folder, password_hash=CHEAP)) as running:
        yield Shown(running, links)


def text_of(answer: requests.Response) -> str:
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", answer.text)))


def test_it_needs_no_log_in_and_the_rest_still_does(shown: Shown) -> None:
    assert shown.get(shown.links["good"]).status_code == 200
    for path in ("/", "/orders", "/orders.csv", "/campaigns", "/delivery", "/trust", "/events", "/share", "/share/"):
        answer = shown.console.get(path, allow_redirects=False, headers={"Referer": shown.links["good"]})
        assert answer.status_code in (303, 404), path
        assert "store_demo" not in answer.text
    assert shown.console.get("/metrics").status_code == 401


def test_it_gives_no_session(shown: Shown) -> None:
    answer = shown.get(shown.links["good"])
    assert "set-cookie" not in answer.headers
    assert "Log out" not in answer.text


def test_it_is_in_no_referrer_no_cache_and_no_index(shown: Shown) -> None:
    for token in (shown.links["good"], shown.links["expired"], "forged"):
        headers = shown.get(token).headers
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cache-control"] == "no-store"
        assert "noindex" in headers["x-robots-tag"]
        assert "script-src 'self'" in headers["content-security-policy"]
    assert shown.console.get("/login").headers["referrer-policy"] == "same-origin"


def test_it_shows_no_single_order_no_link_and_no_other_shop(shown: Shown) -> None:
    page = shown.get(shown.links["good"]).text
    assert "order-" not in page
    assert "conv_" not in page
    assert "store_zurich" not in page
    assert "CHF" not in page
    assert re.findall(r'<a [^>]*href="(?!#)', page) == []
    assert "CHF" in shown.get(shown.links["zurich"]).text, "control: the other shop's page has it"


def test_nothing_in_the_address_changes_what_it_shows(shown: Shown) -> None:
    good = shown.get(shown.links["good"]).text
    for query in ("shop=store_zurich", "range=90", "from=2020-01-01&to=2026-09-21", "event=Lead", "expires=9" * 20):
        assert shown.get(f"{shown.links['good']}?{query}").text == good, query


@pytest.mark.parametrize("name", ["expired", "revoked"])
def test_one_that_has_ended_says_so_in_one_sentence(shown: Shown, name: str) -> None:
    answer = shown.get(shown.links[name])
    said = {"expired": "This link ended on 2026-09-21; ask who sent it", "revoked": "This link was revoked"}
    assert answer.status_code == 410
    assert said[name] in text_of(answer)
    assert "USD" not in answer.text


def test_whatever_single_character_is_changed_it_is_no_link(shown: Shown) -> None:
    """Every place of the token, body and proof alike, in the core; some of them through the console."""
    token = shown.links["good"]
    for at in range(len(token)):
        for other in "A_9.%":
            changed = token[:at] + other + token[at + 1 :]
            assert changed == token or shares.opened(changed, KEY) is None, (at, other)
    for at in range(0, len(token), 40):
        changed = token[:at] + ("A" if token[at] != "A" else "B") + token[at + 1 :]
        assert shown.get(changed).status_code == 404
    assert shares.opened(token, KEY) == LINKS["good"], "control"


def body_of(token: str) -> list[Any]:
    said = token.partition(".")[0]
    return list(msgspec.msgpack.decode(urlsafe_b64decode(said + "=" * (-len(said) % 4))))


CHANGES = {0: "another", 1: "store_zurich", 2: "2020-01-01", 3: "2026-12-31", 4: "Lead", 5: FAR * 2}


@pytest.mark.parametrize("field", CHANGES)
def test_a_token_whose_body_says_something_else_is_no_link(shown: Shown, field: int) -> None:
    said = body_of(shown.links["good"])
    said[field] = CHANGES[field]
    body = urlsafe_b64encode(msgspec.msgpack.encode(said)).decode().rstrip("=")
    assert shown.get(f"{body}.{shown.links['good'].partition('.')[2]}").status_code == 404


@pytest.mark.parametrize("changed", [{"store": "store_zurich"}, {"first": date(2020, 1, 1)}, {"event": "Lead"}])
def test_signed_by_us_but_never_made_is_no_link(shown: Shown, changed: dict[str, Any]) -> None:
    """What counts stands in the database as well: a key that leaks alone opens nothing."""
    assert shown.get(shares.seal(a_share(**changed), KEY)).status_code == 404
    assert shown.get(shares.seal(a_share(id="other"), KEY)).status_code == 404
    longer = shares.seal(msgspec.structs.replace(LINKS["expired"], expires=FAR), KEY)
    assert shown.get(longer).status_code == 410, "its row says when it ends"


FORGED = [
    "",
    ".",
    "a.b",
    "A" * LONGEST,
    "A" * 5000,
    "." * 300,
    "%00",
    "%2e%2e%2f",
    "..%2f..%2fetc%2fpasswd",
    "é.é",
    "' OR 1=1 --",
    "<script>alert(1)</script>",
    shares.seal(a_share(), b"x" * 32),
    shares.seal(a_share(first=TODAY, last=TODAY - timedelta(1)), KEY),
]


@pytest.mark.parametrize("token", FORGED, ids=range(len(FORGED)))
def test_what_is_no_link_says_so_and_nothing_else(shown: Shown, token: str) -> None:
    answer = shown.get(token)
    assert answer.status_code in (303, 400, 404)
    assert "<script>alert" not in answer.text
    assert "USD" not in answer.text


def test_bytes_that_are_no_share_are_none_though_they_are_signed() -> None:
    for body in (b"", b"\xc1", b"\x90", msgspec.msgpack.encode([1] * 6), msgspec.msgpack.encode(["a"] * 7)):
        text = shares._text(body)
        assert shares.opened(f"{text}.{shares._text(shares._mac(body, KEY))}", KEY) is None


def test_a_padded_or_otherwise_spelt_token_is_none() -> None:
    token = shares.seal(a_share(), KEY)
    for other in (f"{token}=", token.replace(".", "=."), f" {token}", f"{token}\n", token + ".", token.swapcase()):
        assert shares.opened(other, KEY) is None, other


def test_the_longest_store_still_makes_a_link_within_bounds() -> None:
    token = shares.seal(a_share(store="s" * 64, event="CompleteRegistration", id="f" * 16), KEY)
    assert len(token) <= LONGEST
    assert shares.opened(token, KEY) is not None


def test_the_control_without_the_proof_a_made_up_link_would_open(shown: Shown, tmp_path: Path) -> None:
    """The same requests at a console that does not look at the proof: then another shop's page is shown."""
    db = make_store(tmp_path)
    put(db, LINKS["zurich"])
    db.close()
    patch = "from collector.core import shares\nshares.hmac = type('h', (), {'compare_digest': lambda a, b: True})"
    forged = shares.seal(LINKS["zurich"], b"x" * 32)
    assert shown.get(forged).status_code == 404
    with ConsoleProcess(make_config(tmp_path, password_hash=CHEAP), patch) as lax:
        assert lax.get(f"/share/{forged}").status_code == 200


async def test_its_figures_are_those_of_today_and_campaigns(tmp_path: Path) -> None:
    db = make_store(tmp_path)
    token = put(db, LINKS["good"])
    async with Reader(tmp_path / "collector.db") as reader:
        desk = Desk(make_config(tmp_path), reader, lambda: NOW)
        page = (await share.shared(desk, token)).content.decode()
        asked = Asked(shop="store_demo", range="7")
        shop = await bar.read(desk, asked)
        own = await today.figures(desk, shop.span, "Purchase", [shop.span.since])
        ours = (await campaigns.campaigns(desk, asked, "campaign", "")).content.decode()
    db.close()
    tiles = dict(re.findall(r"<h2>([^<]*)</h2><div class=\"(?:big|mid)\">([^<]*)<", page))
    assert tiles["Orders"] == f"{own.orders:,}"
    assert tiles["Clicks"] == f"{own.all_clicks:,}"
    assert tiles["Value"] == f"USD {own.revenue()['USD'][0]:,.2f}"
    for row in re.findall(r'<tr[^>]*><td class="break">.*?</tr>', ours, re.S):
        name, *cells = re.sub(r"<svg.*?</svg>", "", row, flags=re.S).split("</td>")
        name, value = re.sub(r"<[^>]+>", "", name), next((cell for cell in cells if "USD" in cell), "–")
        value = re.sub(r"<[^>]+>", "", value)
        assert re.search(rf">{name}</td>.*?{re.escape(value)}", page, re.S), name
    by_day = re.findall(r'<tr><td class="break">\w{3} \d+ \w{3}</td>.*?<td class="n">([\d,]+)</td>', page, re.S)
    assert len(by_day) == 7
    assert sum(int(n.replace(",", "")) for n in by_day) == own.orders


def test_the_routes_are_the_gates() -> None:
    """Nothing but /share/TOKEN lies below /share/, which the gate lets pass."""
    paths = [path for handler in app._HANDLERS for path in handler.paths]
    assert [path for path in paths if path.startswith("/share")] == ["/share/{token:str}"]


def test_days_of_the_store_are_the_links(shown: Shown) -> None:
    assert DAY_MS == 86_400_000
    assert "Tue 15 Sep – Mon 21 Sep 2026 · UTC" in text_of(shown.get(shown.links["good"]))
    assert "Lead ·" in text_of(shown.get(shown.links["leads"]))


async def test_a_year_of_many_campaigns_stays_a_small_page(tmp_path: Path) -> None:
    db = make_store(tmp_path, clicks=0, conversions=0)
    for n in range(400):
        add_click(db, NOW - n * DAY_MS // 2, campaign=f"a campaign of a rather long name, number {n}")
    token = put(db, a_share(first=TODAY - timedelta(399)))
    async with Reader(tmp_path / "collector.db") as reader:
        page = (await share.shared(Desk(make_config(tmp_path), reader, lambda: NOW), token)).content
    db.close()
    assert len(page) < 60_000
    text = re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", page.decode())))
    assert "By seven days, from" in text
    assert "300 more campaigns are in the sum" in text
    rows = re.findall(r'<tr><td class="break">\w{3} \d+ \w{3}</td>.*?</tr>', page.decode(), re.S)
    assert len(rows) == 58
    assert sum(int(re.findall(r'<td class="n(?: long)?">([\d,]+)<', row)[2]) for row in rows) == 400
