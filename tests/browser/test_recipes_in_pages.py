"""The recipes that live in pages: Tag Manager's, Shopify's, and every call that the README shows."""

from __future__ import annotations

import json

import pytest

from tests.browser.conftest import Browser, Place, Ports, place_of
from tests.browser.ground import Collector
from tests.browser.shop import Shop
from tests.browser.test_journey import Put, fresh_click, settle, wait_for_event
from tests.kit.recipes import recipe

pytestmark = pytest.mark.browser

# Tag Manager puts custom HTML into the page and makes its scripts anew, without attributes that it does not know.
TAG_MANAGER = """<script>addEventListener('load', () => {
  const box = document.createElement('div'); box.innerHTML = %s;
  for (const old of box.querySelectorAll('script')) {
    const made = document.createElement('script');
    for (const name of ['src', 'async', 'type', 'id'])
      if (old.hasAttribute(name)) made.setAttribute(name, old.getAttribute(name));
    made.text = old.text; document.body.appendChild(made);
  }
})</script>"""


def test_tag_manager(browser: Browser, near: Place, page: Put, collector: Collector) -> None:
    html = recipe("gtm", {"https://www.shop.example/m/c.js": near.page("/m/c.js"), "store_abc123": "store_shop"})
    page("/", near, tag=TAG_MANAGER % json.dumps(html).replace("</", "<\\/"))
    click = fresh_click()
    browser.get(near.page(f"/?fbclid={click}"))
    settle(browser, "document.cookie.includes('_fbc')")
    assert any(stored.fbclid == click for stored in collector.clicks())


GOOGLE = """<script>dataLayer = []; function gtag() { dataLayer.push(arguments); }
gtag('consent', 'default', {ad_storage: 'denied', ad_user_data: 'denied'})</script>"""


@pytest.mark.parametrize("answer", ["granted", "denied"])
def test_tag_manager_waits_for_googles_consent_mode(
    browser: Browser, near: Place, page: Put, collector: Collector, answer: str
) -> None:
    html = recipe("gtm", {"https://www.shop.example/m/c.js": near.page("/m/c.js"), "store_abc123": "store_shop"})
    page("/", near, tag=TAG_MANAGER % json.dumps(html).replace("</", "<\\/"), head=GOOGLE)
    click = fresh_click()
    browser.get(near.page(f"/?fbclid={click}"))
    settle(browser, "!!(window.collector && collector.live)")
    assert not {"_fbc", "_fbp", "_cv"} & set(browser.cookies()), "a default is no answer"
    browser.execute_script(f"gtag('consent', 'update', {{ad_storage: '{answer}', ad_user_data: '{answer}'}})")
    if answer == "granted":
        settle(browser, "document.cookie.includes('_fbc')")
    else:
        collector_is_quiet(browser)
    assert any(stored.fbclid == click for stored in collector.clicks()) == (answer == "granted")


def collector_is_quiet(browser: Browser) -> None:
    """Nothing was posted, and no cookie set, by the time a request made after it has its answer."""
    browser.execute_async_script("const done = arguments[0]; fetch('/m/c.js').then(() => setTimeout(done, 300))")
    posts = "performance.getEntriesByType('resource').filter((one) => new URL(one.name).pathname === '/m/c').length"
    assert browser.js(posts) == 0
    assert not {"_fbc", "_fbp", "_cv"} & set(browser.cookies())


PRIVACY = """<script>window.Shopify = {customerPrivacy: {
  marketingAllowed: () => '%s' === 'yes', currentVisitorConsent: () => ({marketing: '%s'})}}</script>"""


@pytest.mark.parametrize(("answer", "told"), [("yes", "granted"), ("no", "denied")])
def test_shopify_carries_the_answer_to_the_order(
    browser: Browser, proxies: Ports, page: Put, shop: Shop, answer: str, told: str
) -> None:
    there = place_of("nginx-subdomain", proxies)
    tag = recipe("shopify", {"https://t.shop.example": there.door(), "store_abc123": "store_shop"})
    page("/", there, tag=tag, head=PRIVACY % (answer, answer))
    page("/next", there, tag="")
    browser.get(there.page(f"/?fbclid={fresh_click()}"))
    if answer == "yes":
        settle(browser, "document.cookie.includes('_fbc')")
    browser.get(there.page("/next"))
    settle(browser, "true")
    (posted,) = [json.loads(body) for path, body in shop.posted if path == "/cart/update.js"]
    assert posted["attributes"]["_consent"] == told
    assert bool(posted["attributes"]["_fbc"]) == bool(posted["attributes"]["_fbp"]) == (answer == "yes")


def test_shopify(browser: Browser, proxies: Ports, page: Put, shop: Shop) -> None:
    there = place_of("nginx-subdomain", proxies)
    tag = recipe("shopify", {"https://t.shop.example": there.door(), "store_abc123": "store_shop"})
    page("/", there, tag=tag)
    page("/next", there, tag="")
    click = fresh_click()
    browser.get(there.page(f"/?fbclid={click}"))
    settle(browser, "document.cookie.includes('_fbc')")
    browser.get(there.page("/next"))
    settle(browser, "true")
    (posted,) = [json.loads(body) for path, body in shop.posted if path == "/cart/update.js"]
    assert posted["attributes"]["_fbc"].endswith("." + click)
    assert posted["attributes"]["_fbp"].startswith("fb.1.")


def test_every_call_of_the_readme_arrives(browser: Browser, near: Place, page: Put, collector: Collector) -> None:
    lead = "lead-" + fresh_click()[-8:]
    page("/", near)
    browser.get(near.page("/"))
    browser.execute_script(recipe("calls", {"lead-77": lead, "'1001'": f"'{lead}'"}))
    wait_for_event(collector, lead)
    bought = [event for event in collector.events("Purchase") if event.order_id == lead]
    assert [str(event.value) for event in bought] == ["49.9"]
    assert bought[0].user_data["em"]
    assert collector.events("AddToCart")[-1].custom_data == {"content_ids": ["sku-1"], "content_type": "product"}
