"""Consent tools × what they say × when they come: nothing before an answer or after a refusal, no consenter lost."""

from __future__ import annotations

import time

import pytest

from tests.browser.conftest import Browser, Place
from tests.browser.ground import Collector
from tests.browser.test_journey import Put, fresh_click, settle

pytestmark = pytest.mark.browser

# Each defines come(state), the tool as it loads for who has or has not answered, and change(state), the answer.
TOOLS = {
    "wordpress": """
        const keep = state => state != 'pending' &&
          (document.cookie = 'wp_consent_marketing=' + (state == 'granted' ? 'allow' : 'deny') + ';path=/');
        window.remember = keep;
        window.come = state => { keep(state);
          window.wp_has_consent = kind => window.wp_consent_type != 'optin' ||
            /wp_consent_marketing=allow/.test(document.cookie);
          setTimeout(() => { window.wp_consent_type = 'optin';
            document.dispatchEvent(new CustomEvent('wp_consent_type_defined')); }, 300); };
        window.change = state => { keep(state); document.dispatchEvent(new CustomEvent('wp_listen_for_consent_change',
          {detail: {marketing: state == 'granted' ? 'allow' : 'deny'}})); };""",
    "shopify": """
        let said; window.Shopify = {};
        window.come = state => { said = state; Shopify.loadFeatures = (features, done) => setTimeout(() => {
          Shopify.customerPrivacy = {marketingAllowed: () => said == 'granted'}; done(); }, 50); };
        window.change = state => { said = state; document.dispatchEvent(new CustomEvent('visitorConsentCollected',
          {detail: {marketingAllowed: state == 'granted'}})); };""",
    "tcf": """
        const answer = {gdprApplies: true, eventStatus: 'cmpuishown', purpose: {consents: {}}}, heard = [];
        const set = (state, status) => { if (state != 'pending') answer.eventStatus = status;
          for (const p of [1, 3, 4, 7]) answer.purpose.consents[p] = state == 'granted' || p == 3; };
        window.come = state => { set(state, 'tcloaded');
          window.__tcfapi = (command, version, hear) => { heard.push(hear); hear(answer, true); }; };
        window.change = state => { set(state, 'useractioncomplete'); heard.forEach(hear => hear(answer, true)); };""",
    "google": """
        window.gtag = function () { dataLayer.push(arguments); };
        const both = state => ({ad_storage: state, ad_user_data: state});
        window.come = state => { window.dataLayer = window.dataLayer || [];
          gtag('consent', 'default', both('denied')); state != 'pending' && gtag('consent', 'update', both(state)); };
        window.change = state => gtag('consent', 'update', both(state));""",
    "google-template": """
        let now, heard = [];
        window.come = state => { now = state; window.google_tag_data = {ics: {
          getConsentState: type => now == 'granted' ? 1 : 2, addListener: (types, hear) => heard.push(hear)}}; };
        window.change = state => { now = state; heard.forEach(hear => hear()); };""",
    "cookiebot": """
        const keep = state => document.cookie =
          `CookieConsent={stamp:%27x%27%2Cnecessary:true%2Cmarketing:${state == 'granted'}%2Cver:1};path=/`;
        window.remember = state => state != 'pending' && keep(state);
        const set = state => {
          window.Cookiebot = {hasResponse: state != 'pending', consent: {marketing: state == 'granted'}};
          if (state != 'pending') { keep(state);
            window.dispatchEvent(new Event(state == 'granted' ? 'CookiebotOnAccept' : 'CookiebotOnDecline')); } };
        window.come = set; window.change = set;""",
    "onetrust": """
        const keep = state => { document.cookie = 'OptanonAlertBoxClosed=2026-11-30;path=/';
          document.cookie = `OptanonConsent=groups=C0001%3A1%2CC0004%3A${+(state == 'granted')};path=/`; };
        window.remember = state => state != 'pending' && keep(state);
        const set = state => { window.OnetrustActiveGroups = state == 'granted' ? ',C0001,C0004,' : ',C0001,';
          if (state != 'pending') { keep(state); window.dispatchEvent(new CustomEvent('OneTrustGroupsUpdated')); } };
        window.come = set; window.change = set;""",
}
OURS = "/(^|; )_(cv|fbc|fbp)=/.test(document.cookie)"
KEPT = "Object.keys(localStorage).some(key => key.startsWith('_c'))"
LIVE = "window.collector && collector.live"
ASKS, ASKS_NOT = ("store_pending", "pending.test"), ("store_shop", "shop.test")


class Landing:
    """A landing from an ad on a page that holds a tool."""

    def __init__(self, browser: Browser, collector: Collector, near: Place, page: Put) -> None:
        self.browser, self.collector, self.near, self.page = browser, collector, near, page

    def on(self, store: tuple[str, str], script: str, attributes: str = "") -> None:
        self.click = fresh_click()
        head = f"<script>{script}</script>"
        self.page("/", self.near, store=store[0], site=store[1], head=head, attributes=attributes)
        self.browser.get(self.near.page(f"/?fbclid={self.click}", store[1]))
        settle(self.browser, LIVE)

    def is_stored(self) -> bool:
        return any(one.fbclid == self.click for one in self.collector.clicks())

    def nothing_happened(self, seconds: float = 0.5) -> None:
        time.sleep(seconds)
        assert not self.browser.js(OURS)
        assert not self.browser.js(KEPT)
        assert not self.is_stored()

    def is_counted(self) -> None:
        settle(self.browser, OURS)
        assert self.is_stored()

    def is_forgotten(self) -> None:
        settle(self.browser, f"!({OURS}) && !({KEPT})")


@pytest.fixture
def landing(browser: Browser, collector: Collector, near: Place, page: Put) -> Landing:
    return Landing(browser, collector, near, page)


@pytest.fixture(params=TOOLS)
def tool(request: pytest.FixtureRequest) -> str:
    return TOOLS[request.param]


def test_who_has_granted_before_is_counted_where_the_store_asks(landing: Landing, tool: str) -> None:
    landing.on(ASKS, tool + "come('granted')")
    landing.is_counted()


def test_who_has_refused_before_is_not_touched_where_the_store_asks_not(landing: Landing, tool: str) -> None:
    landing.on(ASKS_NOT, tool + "come('denied')")
    landing.nothing_happened()


@pytest.mark.parametrize("store", [ASKS, ASKS_NOT], ids=["asks", "asks-not"])
def test_before_the_answer_nothing_and_then_what_it_says(landing: Landing, tool: str, store: tuple[str, str]) -> None:
    landing.on(store, tool + "come('pending')")
    landing.nothing_happened()
    landing.browser.execute_script("change('granted')")
    landing.is_counted()
    landing.browser.execute_script("change('denied')")
    landing.is_forgotten()


def test_a_refusal_is_one(landing: Landing, tool: str) -> None:
    landing.on(ASKS, tool + "come('pending')")
    landing.browser.execute_script("change('denied')")
    landing.nothing_happened()


def test_a_tool_that_comes_late_is_heard_by_who_grants(landing: Landing, tool: str) -> None:
    landing.on(ASKS, tool)
    landing.nothing_happened()
    landing.browser.execute_script("come('granted')")
    landing.is_counted()


def test_who_was_counted_before_the_tool_came_and_grants_then_is_counted(landing: Landing, tool: str) -> None:
    """Some tools' "not yet" is their "no" as well: what was told is taken back, and told again after the grant."""
    landing.on(ASKS_NOT, tool)
    landing.is_counted()
    landing.browser.execute_script("come('pending')")
    time.sleep(0.5)
    landing.browser.execute_script("change('granted')")
    landing.is_counted()
    time.sleep(0.5)  # no removal is under way that would come after it
    landing.is_counted()


def test_a_tool_that_comes_late_is_heard_by_who_refuses(landing: Landing, tool: str) -> None:
    landing.on(ASKS_NOT, tool)
    landing.is_counted()  # nobody had spoken
    landing.browser.execute_script("come('pending'); change('denied')")
    landing.is_forgotten()


@pytest.mark.parametrize("name", ["wordpress", "cookiebot", "onetrust"])
def test_an_answer_kept_in_a_cookie_counts_before_its_tool_has_come(landing: Landing, name: str) -> None:
    landing.on(ASKS_NOT, TOOLS[name] + "remember('denied')")
    landing.nothing_happened()
    landing.browser.forget()
    landing.on(ASKS, TOOLS[name] + "remember('granted')")
    landing.is_counted()


# WP Consent API is printed last; the others where a theme or an optimiser has put them there.
FOOTERS = {
    "wordpress": "window.wp_consent_type = 'optin'; window.wp_has_consent = () => false;",
    "wordpress, its type later": "window.wp_has_consent = () => false;"
    "document.addEventListener('DOMContentLoaded', () => { window.wp_consent_type = 'optin'; });",
    "tcf": TOOLS["tcf"] + "come('denied');",
    "cookiebot": TOOLS["cookiebot"] + "come('denied');",
    "onetrust": TOOLS["onetrust"] + "come('denied');",
    "google": TOOLS["google"] + "come('denied');",
}


@pytest.mark.parametrize("name", FOOTERS)
def test_a_tool_in_the_footer_is_waited_for(landing: Landing, name: str) -> None:
    """The tag comes long before it, and the store's default counts only after it."""
    slow = "<p>words</p>" * 20_000
    landing.click = fresh_click()
    landing.page("/", landing.near, body=f"{slow}<script>{FOOTERS[name]}</script>")
    landing.browser.get(landing.near.page(f"/?fbclid={landing.click}"))
    settle(landing.browser, LIVE)
    landing.nothing_happened()


# Google's parameters and regions.
G = "window.dataLayer = []; window.gtag = function () { dataLayer.push(arguments); };"
DENIED = "gtag('consent', 'default', {ad_storage: 'denied', ad_user_data: 'denied'});"
GRANTED = "gtag('consent', 'default', {ad_storage: 'granted', ad_user_data: 'granted'});"
ICS = "window.google_tag_data = {ics: {getConsentState: () => %d, addListener() {}}};"


@pytest.mark.parametrize(
    ("said", "store"),
    [
        (DENIED + "gtag('consent', 'update', {ad_storage: 'granted'});", ASKS_NOT),
        (DENIED + "gtag('consent', 'update', {ad_user_data: 'granted'});", ASKS),
        (GRANTED + "gtag('consent', 'update', {ad_user_data: 'denied'});", ASKS_NOT),
        (GRANTED + "gtag('consent', 'update', {ad_storage: 'denied'});", ASKS),
        (DENIED + "gtag('consent', 'update', {analytics_storage: 'granted'});", ASKS_NOT),
        ("gtag('consent', 'default', {ad_storage: 'denied', region: ['ES']});" + ICS % 2, ASKS_NOT),
        (ICS % 2, ASKS_NOT),
    ],
)
def test_google_updates_merge_and_one_refusal_is_a_refusal(landing: Landing, said: str, store: tuple[str, str]) -> None:
    landing.on(store, G + said)
    landing.nothing_happened()


@pytest.mark.parametrize(
    ("said", "store"),
    [
        (DENIED + "for (const t of ['ad_user_data', 'ad_storage']) gtag('consent', 'update', {[t]: 'granted'});", ASKS),
        (
            "gtag('consent', 'default', {ad_storage: 'denied'}); gtag('consent', 'update', {ad_storage: 'granted'});",
            ASKS,
        ),
        (
            GRANTED + "gtag('consent', 'default', {ad_storage: 'denied', ad_user_data: 'denied', region: ['ES']});",
            ASKS_NOT,
        ),
        ("gtag('consent', 'default', {ad_storage: 'denied', region: ['ES']});" + GRANTED, ASKS),
        ("gtag('consent', 'default', {ad_storage: 'denied', region: ['ES']});", ASKS_NOT),
        (GRANTED, ASKS),
        (DENIED + ICS % 1, ASKS),
        (ICS % 1, ASKS),
    ],
)
def test_google_counts_who_is_granted_by_all_that_was_named(
    landing: Landing, said: str, store: tuple[str, str]
) -> None:
    landing.on(store, G + said)
    landing.is_counted()


@pytest.mark.parametrize(
    ("shopify", "store"),
    [
        ("loadFeatures() { throw new Error('theirs') }, customerPrivacy: {marketingAllowed: () => true}", ASKS),
        ("loadFeatures() {}, customerPrivacy: {marketingAllowed: () => true}", ASKS),
        ("customerPrivacy: {marketingAllowed: () => true}", ASKS),
        ("loadFeatures() { throw new Error('theirs') }", ASKS_NOT),
        ("loadFeatures() {}", ASKS_NOT),
        ("theme: {}", ASKS_NOT),
    ],
)
def test_shopify_that_throws_or_is_silent_stops_nobody(landing: Landing, shopify: str, store: tuple[str, str]) -> None:
    landing.on(store, f"window.Shopify = {{{shopify}}};")
    landing.is_counted()


# An optimiser runs the tag when the page is there: what it reports goes at once.
OPTIMISER = """;addEventListener('load', () => setTimeout(() => {
    const held = document.querySelector('script[data-store]'), made = document.createElement('script');
    for (const {name, value} of held.attributes) if (name != 'type') made.setAttribute(name, value);
    held.replaceWith(made); }));"""
THROWS = "() { throw new Error('theirs') }"
TELLS = "{gdprApplies: true, eventStatus: 'tcloaded', purpose: {consents: {1: %s, 3: 1, 4: 1, 7: 1}}}"
BROKEN = {
    "shopify": (f"window.Shopify = {{loadFeatures{THROWS}}}", True),
    "shopify, granted": (
        f"window.Shopify = {{loadFeatures{THROWS}, customerPrivacy: {{marketingAllowed: () => true}}}}",
        True,
    ),
    "shopify, refused": (
        f"window.Shopify = {{loadFeatures{THROWS}, customerPrivacy: {{marketingAllowed: () => false}}}}",
        False,
    ),
    "tcf": (f"window.__tcfapi = function{THROWS}", False),
    "tcf, its stub only, granted": (
        f"window.__tcfapi = function{THROWS};"
        f"setTimeout(() => window.__tcfapi = (c, v, hear) => hear({TELLS % 1}, true), 300)",
        True,
    ),
    "tcf, its stub only, refused": (
        f"window.__tcfapi = function{THROWS};"
        f"setTimeout(() => window.__tcfapi = (c, v, hear) => hear({TELLS % 0}, true), 300)",
        False,
    ),
    "google, granted": (f"window.google_tag_data = {{ics: {{getConsentState: () => 1, addListener{THROWS}}}}}", True),
    "google, denied": (f"window.google_tag_data = {{ics: {{getConsentState: () => 2, addListener{THROWS}}}}}", False),
    "wordpress": (f"window.wp_consent_type = 'optin'; window.wp_has_consent = function{THROWS}", True),
    "cookiebot": ("window.Cookiebot = {get consent" + THROWS + "}", True),
}


@pytest.mark.parametrize("loaded", [False, True], ids=["with the page", "after it"])
@pytest.mark.parametrize("name", BROKEN)
def test_a_tool_that_throws_is_asked_again_and_heard(landing: Landing, name: str, loaded: bool) -> None:
    """It has said nothing yet; where nothing comes, the default counts, and no grant of its own is taken back."""
    script, counted = BROKEN[name]
    landing.on(ASKS_NOT, script + (OPTIMISER if loaded else ""), 'type="later"' if loaded else "")
    landing.is_counted() if counted else landing.nothing_happened(1)


@pytest.mark.parametrize(
    ("kind", "defined", "allowed"),
    [
        ("optin", "wp_consent_type_defined", False),
        ("optin", "", False),  # and the event never comes
        ("optout", "wp_consent_type_defined", True),
        ("optout", "wp_listen_for_consent_change", True),
        ("optinstats", "wp_consent_type_defined", False),
        ("", "", True),  # never defined: nobody asks here, and the store's default counts in the end
    ],
)
def test_without_a_consent_type_wordpress_has_said_nothing(
    landing: Landing, kind: str, defined: str, allowed: bool
) -> None:
    yes = "window.wp_consent_type == null || window.wp_consent_type == 'optout'"
    landing.on(ASKS_NOT, f"window.wp_has_consent = () => {yes};")
    landing.nothing_happened()
    landing.browser.execute_script(
        f"if ('{kind}') window.wp_consent_type = '{kind}';"
        f"if ('{defined}') document.dispatchEvent(new CustomEvent('{defined}'))"
    )
    landing.is_counted() if allowed else landing.nothing_happened()


def test_the_table_can_fail(landing: Landing) -> None:
    """Control: no tool, and the store's default counts at once."""
    landing.on(ASKS_NOT, "")
    landing.is_counted()
    with pytest.raises(AssertionError):
        landing.nothing_happened(0)
