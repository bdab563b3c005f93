"""The console's pages, as a browser and an attacker see them."""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from collector.config import ConsoleConfig
from collector.console.auth import check_access
from collector.core import flags
from collector.errors import ConfigError
from collector.storage.ground import damage
from tests.kit.console_process import ConsoleProcess, make_config
from tests.kit.console_store import add_click, add_conversion, add_outbox, add_request, make_store
from tests.kit.console_world import PAGES

Filled = tuple[Path, sqlite3.Connection]
EVIL = "<script>document.title='owned'</script>\"'><img src=x onerror=document.title='owned'>"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Filled]:
    data_dir = tmp_path_factory.mktemp("data")
    now = int(time.time() * 1000)
    db = make_store(data_dir, now=now)
    click = add_click(db, now - 5000, landing_page=f"https://x.example/?utm_source={EVIL}&utm_campaign={EVIL}&u={EVIL}")
    number = add_conversion(db, now - 1000, click=click, order=EVIL, kind=EVIL[:50], currency="USD")
    request = add_request(db, now, outcome="refused", http=400, code=100, message=EVIL)
    add_outbox(db, number, 11, now, settled=now, request=request, reason=EVIL)
    add_click(db, now - 4000, landing_page=f"javascript:alert(1)//{EVIL}")
    yield data_dir, db
    db.close()


@pytest.fixture(scope="module")
def console(store: Filled) -> Iterator[ConsoleProcess]:
    with ConsoleProcess(make_config(store[0])) as running:
        yield running


@pytest.mark.parametrize("path", PAGES)
def test_every_page_answers_and_carries_the_safe_headers(console: ConsoleProcess, path: str) -> None:
    answer = console.get(path)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    assert "server" not in answer.headers


@pytest.mark.parametrize("path", [*PAGES, "/nothing"])
def test_a_page_needs_nothing_from_elsewhere_and_nothing_inline(console: ConsoleProcess, path: str) -> None:
    html = console.get(path).text
    assert not re.search(r"""(src|href)=["']?(https?:)?//(?!x\.example|mystore)""", html)
    assert not re.search(r"<script(?![^>]*src=)", html)
    assert not re.search(r"\sstyle=|\son\w+=", re.sub(r"&[a-z#0-9]+;", "", re.sub(r"&lt;.*?&gt;", "", html)))


def _evil_pages(console: ConsoleProcess) -> list[str]:
    events = console.get("/events").text
    first = re.search(r"/conversions/(conv_\w+)", events)
    assert first is not None
    page = console.get(f"/conversions/{first[1]}").text
    click = re.search(r"/clicks/(click_\w+)", page)
    assert click is not None
    return [events, page, console.get(f"/clicks/{click[1]}").text, *(console.get(path).text for path in PAGES)]


def test_what_callers_write_is_never_markup(console: ConsoleProcess) -> None:
    pages = _evil_pages(console)
    assert sum("&lt;script&gt;document" in page for page in pages) >= 5  # it is shown, as text
    for page in pages:
        assert "<script>document" not in page
        assert "<img" not in page


def test_the_control_shows_that_unescaped_text_would_be_found() -> None:
    from collector.console.shell import templates

    raw = templates.overlay(autoescape=False).from_string("{{ text }}").render(text=EVIL)
    assert "<script>document" in raw
    assert "<script>" not in templates.from_string("{{ text }}").render(text=EVIL)


def test_a_callers_address_is_a_link_only_when_it_is_http(console: ConsoleProcess) -> None:
    from collector.console.events import outside_link

    assert 'href="https://a.example/?x=&lt;"' in str(outside_link("https://a.example/?x=<"))
    assert 'rel="noopener noreferrer nofollow"' in str(outside_link("https://a.example/"))
    for bad in (
        "javascript:alert(1)",
        "data:text/html,x",
        "//a.example",
        "vbscript:x",
        "https:nowhere",
        "http://[",
        "x",
    ):
        assert "<a" not in str(outside_link(bad))


def test_the_host_header_must_name_this_machine(console: ConsoleProcess) -> None:
    for host in ("evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "[::2]", "0.0.0.0"):
        assert console.get("/", headers={"Host": host}).status_code == 421, host
        assert console.get("/metrics", headers={"Host": host}).status_code == 421, host
    for host in ("127.0.0.1:9000", "localhost", "[::1]:8081", "console.localhost"):
        assert console.get("/", headers={"Host": host}).status_code == 200, host


def test_bad_questions_get_an_answer_in_words(console: ConsoleProcess) -> None:
    assert console.get("/nothing").status_code == 404
    assert console.get("/conversions/conv_nothing").status_code == 404
    for wrong in ("range=x", "range=99999999999999999999", "shop=nobody", "compare=1", "event=Sale", "by=hour", "by="):
        answer = console.get(f"/campaigns?{wrong}")
        assert answer.status_code == 400, wrong
        assert "There" in answer.text
    assert console.get("/orders?state=lost").status_code == 400
    assert console.get("/orders?after=1-x").status_code == 400
    assert console.get("/live?kind=x").status_code == 400
    assert console.get("/assets/..%2f..%2fapp.py").status_code == 404
    assert console.get("/delivery?before=-1").status_code == 200
    assert console.get("/find", params={"id": "//evil.example"}).status_code == 404
    found = console.get("/find", params={"id": "conv_/../x"}, allow_redirects=False)
    assert found.headers["location"] == "/conversions/conv_%2F..%2Fx"


def test_the_overview_says_what_the_database_holds(
    console: ConsoleProcess, store: tuple[Path, sqlite3.Connection]
) -> None:
    day = 0
    while day != (day := int(time.time()) // 86_400 * 86_400_000 - 6 * 86_400_000):  # not across midnight
        html = console.get("/").text
    clicks = (
        store[1]
        .execute("SELECT count(*) FROM click WHERE ts >= ? AND flags & ? = 0", (day, flags.INELIGIBLE))
        .fetchone()
    )
    assert f'<div class="big">{clicks[0]:,}</div>' in html
    assert "Meta refuses what is sent. Nothing waits." in html
    assert "Meta: the access token has expired" in html
    assert "Mend what Meta names" in html


def test_D6_a_loss_stands_on_top_until_a_person_accepts_it(console: ConsoleProcess, store: Filled) -> None:
    lost = "<12 clicks> that were acknowledged are gone"
    assert "acknowledged are gone" not in console.get("/").text  # the control
    damage.tell(store[0], lost)
    try:
        html = console.get("/").text
    finally:
        damage.forget(store[0])
    assert "&lt;12 clicks&gt; that were acknowledged are gone" in html
    assert "collector damage accept" in html
    assert "acknowledged are gone" not in console.get("/").text


def test_a_new_conversion_shows_at_the_next_look(
    console: ConsoleProcess, store: tuple[Path, sqlite3.Connection]
) -> None:
    number = add_conversion(store[1], int(time.time() * 1000), order="fresh", value=Decimal("31337.00"), currency="JPY")
    assert number > 0
    assert "JPY 31,337" in console.get("/").text


def test_currencies_stay_apart(console: ConsoleProcess) -> None:
    html = console.get("/").text
    assert "USD" in html
    assert "CHF" in html
    assert "Currencies are never added up" in html


def test_too_few_labels_are_said_and_no_figure_is_made_up(console: ConsoleProcess) -> None:
    html = console.get("/trust").text
    assert "Not enough orders yet" in html
    assert "0.0000" not in html


def test_without_a_password_only_a_loopback_address_may_be_used() -> None:
    for listen in ("127.0.0.1:8081", "[::1]:8081", "localhost:8081"):
        check_access(ConsoleConfig(listen=listen))
    for listen in ("0.0.0.0:8081", "192.0.2.1:8081", "[::]:8081", ":8081", "console.example:8081"):
        with pytest.raises(ConfigError, match="password_hash"):
            check_access(ConsoleConfig(listen=listen))
    with pytest.raises(ConfigError, match="not a scrypt hash"):
        check_access(ConsoleConfig(listen="0.0.0.0:8081", password_hash="hunter2"))


def test_before_the_first_edge_the_console_waits_in_words(tmp_path: Path) -> None:
    with ConsoleProcess(make_config(tmp_path / "later")) as console:
        answer = console.get("/")
        assert answer.status_code == 503
        assert "no database" in answer.text
        assert console.get("/healthz").status_code == 200
        assert "collector_up 0" in console.get("/metrics").text
        make_store(tmp_path / "later", clicks=3, conversions=1).close()
        assert console.get("/").status_code == 200


def test_sigterm_is_an_orderly_end_and_apsw_was_never_there(tmp_path: Path) -> None:
    make_store(tmp_path, clicks=3, conversions=1).close()
    with ConsoleProcess(make_config(tmp_path)) as console:
        for path in PAGES:
            assert console.get(path).status_code == 200
    assert console.ending == (0, "no apsw")


@pytest.mark.parametrize("path", PAGES)
def test_every_figure_has_a_title_that_says_what_it_counts(console: ConsoleProcess, path: str) -> None:
    """Tiles, and columns of figures; the words are the glossary's, in one place."""
    page = console.get(path).text
    heads = re.findall(r'<th class="n[^"]*"(?! title="[^"]{5,})[^>]*>[^<]*', page)
    tiles = re.findall(r'<(?:section|div) class="[^"]*figure"><h2(?! title="[^"]{5,})[^>]*>[^<]*', page)
    assert heads + tiles == []


def test_the_glossary_has_no_word_that_no_page_says(store: Filled) -> None:
    from collector.console import glossary, share

    folder = Path(glossary.__file__).parent
    sources = [*folder.glob("*.py"), *folder.glob("templates/*.html"), Path(share.__file__)]
    text = "".join(path.read_text() for path in sources if path.name != "glossary.py")
    made = {f"class {name}" for name in ("sent", "held", "ignored", "waiting", "failed", "missing")}
    said = {word for word in glossary.WORDS if f'"{word}"' in text} | made
    assert set(glossary.WORDS) - said == set()
