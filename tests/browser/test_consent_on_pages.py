"""What the page does before, with and without consent, and whose word it takes."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable

import pytest

from tests.browser.conftest import Browser, Place, chromium
from tests.browser.ground import FBCLID, Collector
from tests.browser.test_journey import Put, fresh_click, settle, wait_for_event

pytestmark = pytest.mark.browser

SITE = "pending.test"
LOADED = "window.collector && collector.live"


@pytest.fixture
def land(browser: Browser, near: Place, page: Put) -> Callable[..., str]:
    """Land from an ad on a page of the store that asks first; gives the click id."""

    def land(head: str = "", store: str = "store_pending", site: str = SITE, attributes: str = "") -> str:
        page("/", near, store=store, site=site, head=head, attributes=attributes)
        click = fresh_click()
        browser.get(near.page(f"/?fbclid={click}", site))
        settle(browser, LOADED)
        return click

    return land


def nothing_happened(browser: Browser, collector: Collector, click: str) -> None:
    time.sleep(0.6)
    assert browser.js("document.cookie") == ""
    assert browser.cookies() == {}
    assert browser.js("localStorage.length + sessionStorage.length") == 0
    assert not any(stored.fbclid == click for stored in collector.clicks())
    assert posts(browser) == 0


def posts(browser: Browser) -> object:
    return browser.js(
        "performance.getEntriesByType('resource').filter(e => /\\/(c|c\\.gif)(\\?|$)/.test(e.name)).length"
    )


def test_pending_stores_and_sends_nothing(browser: Browser, collector: Collector, land: Callable[..., str]) -> None:
    nothing_happened(browser, collector, land())


def test_a_grant_releases_the_click_with_its_true_time(
    browser: Browser, collector: Collector, land: Callable[..., str]
) -> None:
    click, landed = land(), time.time() * 1000
    time.sleep(2)
    browser.execute_script("collector('consent', 'granted')")
    settle(browser, "document.cookie.includes('_fbc')")
    (stored,) = [one for one in collector.clicks() if one.fbclid == click]
    assert stored.marketing == "granted"
    assert stored.fbc is not None
    assert abs(int(stored.fbc.split(".")[2]) - landed) < 1000


def test_a_denial_sends_nothing_and_is_not_told(
    browser: Browser, collector: Collector, land: Callable[..., str]
) -> None:
    click = land()
    browser.execute_script("collector('consent', 'denied'); collector('track', 'AddToCart', {})")
    nothing_happened(browser, collector, click)


def test_a_withdrawal_removes_every_cookie_and_is_not_stored(
    browser: Browser, collector: Collector, land: Callable[..., str]
) -> None:
    land()
    browser.execute_script("collector('consent', 'granted')")
    settle(browser, "document.cookie.includes('_fbc')")
    assert set(browser.cookies()) == {"_cv", "_fbc", "_fbp"}
    before = len(collector.events())
    browser.execute_script("collector('consent', 'denied')")
    deadline = time.monotonic() + 60
    while browser.cookies() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert browser.cookies() == {}
    assert browser.js("localStorage.length") == 0
    assert len(collector.events()) == before


WORDPRESS = """<script>let allowed = false; window.wp_has_consent = () => allowed;
window.answer = yes => { allowed = yes; document.dispatchEvent(
  new CustomEvent('wp_listen_for_consent_change', {detail: {marketing: yes ? 'allow' : 'deny'}})); };</script>"""
SHOPIFY = """<script>window.Shopify = {loadFeatures: (features, done) => setTimeout(() => {
  const choice = {marketing: ''};
  Shopify.customerPrivacy = {marketingAllowed: () => false, currentVisitorConsent: () => choice}; done(); })};
window.answer = yes => document.dispatchEvent(
  new CustomEvent('visitorConsentCollected', {detail: {marketingAllowed: yes}}));</script>"""
TCF = """<script>const state = {gdprApplies: true, eventStatus: 'cmpuishown', purpose: {consents: {}}}; let heard;
window.__tcfapi = (command, version, callback) => { heard = callback; callback(state, true); };
window.answer = yes => { state.eventStatus = 'useractioncomplete';
  for (const p of [1, 3, 4, 7]) state.purpose.consents[p] = yes; heard(state, true); };</script>"""
GOOGLE = """<script>window.dataLayer = []; function gtag() { dataLayer.push(arguments); }
gtag('consent', 'default', {ad_storage: 'denied', ad_user_data: 'denied'});
window.answer = yes => gtag('consent', 'update',
  {ad_storage: yes ? 'granted' : 'denied', ad_user_data: yes ? 'granted' : 'denied'});</script>"""
TOOLS = {"wordpress": WORDPRESS, "shopify": SHOPIFY, "tcf": TCF, "google": GOOGLE}


@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize("store", [("store_pending", SITE), ("store_shop", "shop.test")], ids=["asks", "asks-not"])
def test_each_consent_tool_is_asked_and_heard(
    browser: Browser, collector: Collector, land: Callable[..., str], tool: str, store: tuple[str, str]
) -> None:
    click = land(TOOLS[tool], *store)
    nothing_happened(browser, collector, click)
    browser.execute_script("answer(true)")
    settle(browser, "document.cookie.includes('_fbc')")
    assert any(stored.fbclid == click for stored in collector.clicks())
    browser.execute_script("answer(false)")
    settle(browser, "document.cookie == ''")


@pytest.mark.parametrize("tool", TOOLS)
def test_each_consent_tools_refusal_is_a_refusal(
    browser: Browser, collector: Collector, land: Callable[..., str], tool: str
) -> None:
    click = land(TOOLS[tool])
    browser.execute_script("answer(false)")
    nothing_happened(browser, collector, click)


def test_of_several_tools_the_strictest_counts_and_the_pages_word_before_them(
    browser: Browser, collector: Collector, land: Callable[..., str]
) -> None:
    click = land(WORDPRESS.replace("answer", "first") + GOOGLE)
    browser.execute_script("answer(true)")
    nothing_happened(browser, collector, click)
    browser.execute_script("collector('consent', 'granted')")
    settle(browser, "document.cookie.includes('_fbc')")


@pytest.mark.chromium
def test_global_privacy_control_is_a_refusal_unless_the_visitor_grants_this_shop(
    browser: Browser, collector: Collector, land: Callable[..., str]
) -> None:
    signal = "Object.defineProperty(Navigator.prototype, 'globalPrivacyControl', {get: () => true})"
    browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": signal})
    browser.execute_cdp_cmd("Network.enable", {})
    browser.execute_cdp_cmd("Network.setExtraHTTPHeaders", {"headers": {"Sec-GPC": "1"}})
    click = land("", "store_shop", "shop.test")
    nothing_happened(browser, collector, click)
    browser.execute_script("collector('consent', 'granted')")
    settle(browser, "document.cookie.includes('_fbc')")


def test_without_javascript_the_pixel_reports_the_landing(
    tmp_path: object, near: Place, page: Put, collector: Collector
) -> None:
    page("/", near)
    click = FBCLID[:-8] + secrets.token_hex(4)
    with chromium(tmp_path / "p", "--blink-settings=scriptEnabled=false") as browser:  # type: ignore[operator]
        browser.get(near.page(f"/?fbclid={click}"))
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not any(one.fbclid == click for one in collector.clicks()):
            time.sleep(0.1)
        assert any(one.fbclid == click for one in collector.clicks())
        assert "_cv" in browser.cookies()


def test_a_grant_after_a_refusal_is_for_the_open_page_too(
    browser: Browser, collector: Collector, land: Callable[..., str]
) -> None:
    click = land()
    browser.execute_script("collector('consent', 'denied')")
    nothing_happened(browser, collector, click)
    browser.execute_script("collector('consent', 'granted')")
    settle(browser, "document.cookie.includes('_fbc')")
    assert sum(stored.fbclid == click for stored in collector.clicks()) == 1


def test_consent_is_stored_with_each_event(browser: Browser, collector: Collector, land: Callable[..., str]) -> None:
    land()
    mark = secrets.token_hex(12)
    browser.execute_script(f"collector('consent', 'granted'); collector('track', 'Lead', {{}}, {{eventID: '{mark}'}})")
    assert wait_for_event(collector, mark).marketing == "granted"
