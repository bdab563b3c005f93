"""A person clicks an ad, browses and buys: the order finds the click, whatever stands before the collector."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from collector.core.events import StoredEvent
from tests.browser.conftest import STORES, Browser, Place
from tests.browser.ground import FBCLID, Collector
from tests.browser.shop import Shop

pytestmark = pytest.mark.browser

Put = Callable[..., None]


def fresh_click() -> str:
    return FBCLID[:-8] + secrets.token_hex(4)


def settle(browser: Browser, condition: str, seconds: float = 60) -> Any:
    """What a script expression says once it is true."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := browser.js(condition):
            return found
        time.sleep(0.05)
    raise AssertionError(f"never true: {condition}\n" + "\n".join(browser.console()))


def buy(browser: Browser) -> dict[str, Any]:
    """The order by the shop's server, which knows the visitor cookie only."""
    order = secrets.token_hex(6)
    return browser.execute_async_script(  # type: ignore[no-any-return]
        "const done = arguments[0]; fetch('/buy?order=" + order + "').then(r => r.json()).then(done)"
    )["data"]


def test_from_the_ad_to_the_order(browser: Browser, place: Place, page: Put) -> None:
    for path in ("/", "/product"):
        page(path, place)
    click = fresh_click()
    browser.get(place.page(f"/?utm_source=fb&fbclid={click}"))
    settle(browser, "document.cookie.includes('_fbc')")
    browser.get(place.page("/product"))
    bought = buy(browser)
    assert bought["attributed"], bought
    assert bought["attributedTo"]["fbclid"] == click
    assert bought["attributedTo"]["confidenceScore"] >= 98
    assert "visitor" in bought["attributedTo"]["method"]


def test_the_cookies_are_the_servers_on_the_registrable_domain(browser: Browser, place: Place, page: Put) -> None:
    page("/", place)
    click = fresh_click()
    before = time.time() * 1000
    browser.get(place.page(f"/?fbclid={click}"))
    settle(browser, "document.cookie.includes('_fbc')")
    jar = browser.cookies()
    assert all(jar[name]["domain"] == ".shop.test" for name in ("_cv", "_fbc", "_fbp"))
    assert all(jar[name]["secure"] and jar[name]["sameSite"] == "Lax" for name in jar)
    assert jar["_cv"]["httpOnly"]
    assert abs(float(str(jar["_cv"]["expiry"])) - time.time() - 90 * 86400) < 60
    prefix, level, created, fbclid = str(jar["_fbc"]["value"]).split(".")
    assert (prefix, level, fbclid) == ("fb", "1", click)
    assert before - 1000 <= int(created) <= time.time() * 1000


def test_with_cookies_cleared_by_a_script_the_visitor_survives(browser: Browser, place: Place, page: Put) -> None:
    page("/", place)
    click = fresh_click()
    browser.get(place.page(f"/?fbclid={click}"))
    settle(browser, "document.cookie.includes('_fbc')")
    first = browser.cookies()
    browser.execute_script(
        "localStorage.clear(); for (const c of document.cookie.split('; '))"
        " document.cookie = c.split('=')[0] + '=; Max-Age=0; Path=/; Domain=shop.test'"
    )
    assert browser.js("document.cookie") == ""
    browser.get(place.page("/"))
    settle(browser, "document.cookie.includes('_fbc') && document.cookie.includes('_fbp')")
    again = browser.cookies()
    assert {name: again[name]["value"] for name in again} == {name: first[name]["value"] for name in first}
    assert buy(browser)["attributedTo"]["fbclid"] == click


def test_a_single_page_shop_counts_each_page_once(
    browser: Browser, near: Place, page: Put, collector: Collector
) -> None:
    page("/", near, attributes="data-debug")
    mark = secrets.token_hex(12)
    browser.get(near.page(f"/?m={mark}"))
    for step in (
        f"history.pushState({{}}, '', '/a?m={mark}')",
        f"history.pushState({{}}, '', '/a?m={mark}')",
        f"history.replaceState({{}}, '', '/a?m={mark}#tab')",
        f"history.pushState({{}}, '', '/b?m={mark}')",
        f"history.pushState({{}}, '', '/x'); history.replaceState({{}}, '', '/c?m={mark}')",
        "collector('page')",
        "history.back()",
    ):
        browser.execute_script(step)
        time.sleep(0.3)
    seen = page_views(collector, mark)
    assert [url.split("/")[3].split("?")[0] for url in seen] == ["", "a", "b", "c", "b"]


def page_views(collector: Collector, mark: str) -> list[str]:
    return [
        event.event_source_url or "" for event in collector.events("PageView") if mark in (event.event_source_url or "")
    ]


@pytest.mark.parametrize("how", ["close", "leave"])
def test_closing_the_tab_loses_nothing(
    browser: Browser, near: Place, page: Put, collector: Collector, how: str
) -> None:
    page("/", near)
    page("/next", near, tag="")
    mark = secrets.token_hex(12)
    browser.get(near.page("/"))
    settle(browser, "window.collector && collector.live")
    leave = "window.close()" if how == "close" else "location.href = '/next'"
    browser.open_tab()
    browser.get(near.page("/"))
    settle(browser, "window.collector && collector.live")
    browser.execute_script(f"collector('track', 'AddToWishlist', {{mark: '{mark}'}}, {{eventID: '{mark}'}}); {leave}")
    wait_for_event(collector, mark)


def wait_for_event(collector: Collector, event_id: str, seconds: float = 20) -> StoredEvent:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for event in collector.events():
            if event.event_id == event_id:
                return event
        time.sleep(0.1)
    raise AssertionError("the event never arrived")


@pytest.mark.chromium
def test_what_could_not_be_sent_is_sent_from_the_next_page(
    browser: Browser, near: Place, page: Put, collector: Collector
) -> None:
    page("/", near)
    mark = secrets.token_hex(12)
    browser.get(near.page("/"))
    settle(
        browser,
        "Object.keys(window.localStorage).some(key => key.startsWith('_ct_'))",
    )
    browser.execute_cdp_cmd("Network.enable", {})
    blocked = {"offline": True, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    browser.execute_cdp_cmd("Network.emulateNetworkConditions", blocked)
    browser.execute_script(f"collector('track', 'AddToCart', {{}}, {{eventID: '{mark}'}})")
    time.sleep(0.5)
    browser.execute_script("dispatchEvent(new Event('pagehide'))")
    assert mark in str(browser.js("localStorage.getItem('_cq_store_shop')"))
    browser.execute_cdp_cmd("Network.emulateNetworkConditions", blocked | {"offline": False})
    browser.get(near.page("/"))
    wait_for_event(collector, mark)
    assert sum(event.event_id == mark for event in collector.events()) == 1


@pytest.mark.chromium
def test_posts_before_the_first_answer_are_the_same_visitors(browser: Browser, near: Place, page: Put) -> None:
    soon = "setTimeout(() => collector('track', 'ViewContent', {}), 100)"  # the first post is under way for 400 ms
    wait = f"const t = setInterval(() => {{ if (collector.live) {{ clearInterval(t); {soon} }} }}, 5)"
    page("/", near, body=f"<script>{wait}</script>")
    browser.execute_cdp_cmd("Network.enable", {})
    slow = {"offline": False, "latency": 400, "downloadThroughput": -1, "uploadThroughput": -1}
    browser.execute_cdp_cmd("Network.emulateNetworkConditions", slow)
    click = fresh_click()
    browser.get(near.page(f"/?fbclid={click}"))
    settle(browser, "document.cookie.includes('_fbc')")
    time.sleep(1)
    bought = buy(browser)
    assert bought["attributedTo"]["fbclid"] == click
    assert bought["attributedTo"]["confidenceScore"] >= 98


@pytest.mark.chromium
def test_a_post_that_failed_is_made_again_from_the_same_page(
    browser: Browser, near: Place, page: Put, collector: Collector
) -> None:
    page("/", near)
    mark = secrets.token_hex(12)
    browser.get(near.page("/"))
    settle(browser, "Object.keys(localStorage).some(key => key.startsWith('_ct_'))")
    browser.execute_cdp_cmd("Network.enable", {})
    browser.execute_cdp_cmd("Network.setBlockedURLs", {"urls": ["*/c", "*/c.gif*"]})
    browser.execute_script(
        f"navigator.sendBeacon = () => false; collector('track', 'AddToCart', {{}}, {{eventID: '{mark}'}})"
    )
    time.sleep(0.7)
    browser.execute_cdp_cmd("Network.setBlockedURLs", {"urls": []})
    wait_for_event(collector, mark)
    assert sum(event.event_id == mark for event in collector.events()) == 1


def test_coming_back_to_a_kept_page_counts(browser: Browser, near: Place, page: Put, collector: Collector) -> None:
    page("/", near)
    page("/other", near, tag="")
    mark = secrets.token_hex(8)
    browser.get(near.page(f"/?m={mark}"))
    settle(browser, "window.collector && collector.live")
    browser.execute_script("window.mine = 1; location.href = '/other'")
    settle(browser, "location.pathname == '/other'")
    browser.back()
    settle(browser, "location.pathname == '/'")
    time.sleep(0.6)
    assert len(page_views(collector, mark)) == 2


def test_under_other_names_and_paths(browser: Browser, shop: Shop, page: Put, tmp_path: Path) -> None:
    """No proxy between: a page and the collector on two hosts of one shop, plain http, every name changed."""
    names = 'snippet_path = "/assets/menu.js"\nbeacon_path = "/assets/cart/update"\npixel_path = "/dot.gif"\n'
    names += 'visitor_cookie = "sid"\n[console]'
    other = Collector(tmp_path, STORES)
    other.config.write_text(other.config.read_text().replace("[console]", names, 1))
    door = f"http://assets.shop.test:{other.port}"
    tag = f'<script async src="{door}/assets/menu.js" data-store="store_shop" data-name="menu"></script>'
    page("/", Place("bare", shop.port, True), tag=tag)
    click = fresh_click()
    with other.serve():
        browser.get(f"http://www.shop.test:{shop.port}/?fbclid={click}")
        settle(browser, "document.cookie.includes('_fbc')")
        assert set(browser.cookies()) == {"sid", "_fbc", "_fbp"}
        assert browser.js("typeof menu + typeof collector") == "functionundefined"
        assert any(stored.fbclid == click for stored in other.clicks())


@pytest.mark.chromium
def test_the_queue_in_the_browser_is_small_and_holds_no_person(browser: Browser, near: Place, page: Put) -> None:
    page("/", near)
    browser.get(near.page("/"))
    settle(browser, "Object.keys(localStorage).some(key => key.startsWith('_ct_'))")
    browser.execute_cdp_cmd("Network.enable", {})
    browser.execute_cdp_cmd("Network.setBlockedURLs", {"urls": ["*/c", "*/c.gif*"]})
    browser.execute_script(
        "navigator.sendBeacon = () => false; const fetched = window.fetch; window.tries = 0;"
        "window.fetch = (...given) => { tries++; return fetched(...given); };"
        "collector('identify', {email: 'kept@example.com'});"
        "for (let i = 0; i < 120; i++) collector('track', 'Lead', {i});"
    )
    time.sleep(1)
    browser.execute_script("dispatchEvent(new Event('pagehide'))")
    kept = str(browser.js("localStorage.getItem('_cq_store_shop')"))
    assert 1 <= int(str(browser.js("tries"))) <= 3  # 50 events are three posts at most, and then there is a pause
    assert 40 <= kept.count('"Lead"') <= 50
    assert '"i":119' in kept
    assert "kept@" not in kept


def test_a_page_rendered_ahead_counts_when_it_is_opened(
    browser: Browser, near: Place, page: Put, collector: Collector
) -> None:
    mark = secrets.token_hex(8)
    rules = '{"prerender": [{"source": "list", "urls": ["/ahead?m=' + mark + '"]}]}'
    page("/", near, head=f'<script type="speculationrules">{rules}</script>')
    page("/ahead", near, head="<script>window.ahead = document.prerendering</script>")
    browser.get(near.page("/"))
    time.sleep(2)
    assert page_views(collector, mark) == []
    browser.execute_script(f"location.href = '/ahead?m={mark}'")
    settle(browser, "location.pathname == '/ahead' && window.collector && collector.live")
    time.sleep(0.6)
    assert len(page_views(collector, mark)) == 1
    if not browser.js("window.ahead"):
        pytest.skip("Chromium did not render the page ahead here")
