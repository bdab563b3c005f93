"""What pages do to the tag: bad events, clocks, fetches, long addresses, policies, optimisers, odd click ids."""

from __future__ import annotations

import json
import secrets
import time
from pathlib import Path
from typing import Any

import pytest

from collector.config import EdgeConfig, PrivacyConfig
from collector.edge.snippet import Snippet
from tests.browser.conftest import Browser, Chromium, Place
from tests.browser.cost import of_ours
from tests.browser.ground import Collector
from tests.browser.shop import Shop
from tests.browser.test_journey import Put, fresh_click, page_views, settle, wait_for_event
from tests.browser.test_page_unharmed import LIVE, WATCH, seen
from tests.kit.recipes import recipe

pytestmark = pytest.mark.browser

COUNTED = "document.cookie.includes('_fbc')"


def has_click(collector: Collector, click: str) -> bool:
    return any(one.fbclid == click for one in collector.clicks())


def wait_for_click(collector: Collector, click: str, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not has_click(collector, click):
        assert time.monotonic() < deadline, "the click never arrived"
        time.sleep(0.05)


def lead(browser: Browser, collector: Collector, data: str = "{}") -> Any:
    """An event after all else: what came before it must not have taken it along."""
    mark = secrets.token_hex(12)
    browser.execute_script(f"collector('track', 'Lead', {data}, {{eventID: '{mark}'}})")
    return wait_for_event(collector, mark)


BAD = """
collector('track', 'Lead', {}, {eventID: 1001});
collector('track', 'Lead', {}, {eventID: {}});
collector('track', 'Lead', {}, {eventID: 'x'.repeat(300)});
collector('track', 'E'.repeat(60), {});
collector('track', '', {});
collector('track', 7, {});
collector('track');
collector('track', 'Lead', null);
collector('track', 'Lead', [1, 2]);
collector('track', 'Lead', 'words');
collector('track', 'Lead', document.body);
collector('track', 'Lead', window);
collector('track', 'Lead', {text: 'a\\0b'});
collector('track', 'Lead', {text: '\\ud800'});
collector('track', 'Purchase', {value: '12,50', currency: 'EUR', order_id: 'comma'});
collector('track', 'Purchase', {value: NaN, currency: 'EUR', order_id: 'nan'});
collector('track', 'Lead', {deep: JSON.parse('['.repeat(900) + ']'.repeat(900))});
collector('track', 'Lead', {get value() { throw new Error('theirs'); }});
collector('identify', 'nobody');
collector('identify', ['a']);
"""


def test_one_bad_event_is_one_bad_event(browser: Browser, near: Place, page: Put, collector: Collector) -> None:
    click = fresh_click()
    page("/", near, head=WATCH, body=f"<script>{BAD}</script>")
    browser.get(near.page(f"/?fbclid={click}"))
    settle(browser, COUNTED)
    lead(browser, collector)
    assert has_click(collector, click)
    assert seen(browser)["errors"] == []


@pytest.mark.parametrize(
    ("spoilt", "kept"),
    [
        ("const a = {value: 5, currency: 'EUR'}; a.self = a; return a", {"value": "5"}),
        ("return {value: 10n, currency: 'EUR'}", {"value": "10"}),
        ("return {value: 5, currency: 'EUR', get colour() { throw new Error('theirs') }}", {"value": "5"}),
        ("return {value: 5, currency: 'EUR', page: window}", {"value": "5"}),
        ("return {value: 5, currency: 'EUR', text: '€'.repeat(30000)}", {"value": "5"}),
        ("return Object.assign(Object.create(null), {value: 5, currency: 'EUR'})", {"value": "5"}),
    ],
)
def test_a_field_that_json_cannot_hold_is_left_out_alone(
    browser: Browser, near: Place, page: Put, collector: Collector, spoilt: str, kept: dict[str, str]
) -> None:
    page("/", near, head=WATCH)
    click, order = fresh_click(), secrets.token_hex(6)
    browser.get(near.page(f"/?fbclid={click}"))
    settle(browser, LIVE)
    browser.execute_script(
        f"const data = (() => {{ {spoilt} }})(); data.order_id = '{order}'; collector('track', 'Purchase', data)"
    )
    lead(browser, collector)
    (bought,) = [one for one in collector.events("Purchase") if one.order_id == order]
    assert str(bought.value) == kept["value"]
    assert has_click(collector, click)
    assert seen(browser)["errors"] == []


LISTS = "Array.prototype.toJSON = function () { return '[' + this.map(JSON.stringify).join(', ') + ']'; };"
TEXTS = "String.prototype.toJSON = function () { return JSON.stringify(String(this)); };"
DATES = """Date.prototype.toJSON = function () { return '"' + this.toISOString() + '"'; };"""
# Prototype.js 1.6 as old Magento has it, parts of it, and what else was written before JSON was the browser's.
FOREIGN_JSON = {
    "prototype 1.6": LISTS + TEXTS + DATES,
    "lists alone": LISTS,
    "numbers and truths": "Number.prototype.toJSON = Boolean.prototype.toJSON = function () { return String(this); };",
    "texts alone": TEXTS,
    "a date's that throws": "Date.prototype.toJSON = () => { throw new Error('no dates'); };",
    "more members": "Array.prototype.each = function () {}; Object.prototype.extend = function () {};",
}


@pytest.mark.parametrize("name", FOREIGN_JSON)
def test_beside_prototype_js_lists_are_lists(
    browser: Browser, near: Place, page: Put, collector: Collector, name: str
) -> None:
    page("/", near, head=f"{WATCH}<script>{FOREIGN_JSON[name]}</script>")
    click = fresh_click()
    browser.get(near.page(f"/?fbclid={click}"))
    settle(browser, COUNTED)
    stored = lead(browser, collector, "{content_ids: ['a', 'b'], contents: [{id: 'a', quantity: 1}]}")
    assert stored.custom_data == {"content_ids": ["a", "b"], "contents": [{"id": "a", "quantity": 1}]}
    assert has_click(collector, click)
    memory = json.loads(str(browser.execute_script("return localStorage.getItem('_ct_store_shop')")))
    assert all(isinstance(pair, list) for pair in memory.values())


@pytest.mark.parametrize(
    "clock", ["performance.now() + 1.8e12 + 0.5", "new Date()", "String(+new Date())", "NaN", "-5"]
)
def test_pages_that_replace_the_clock_are_counted(
    browser: Browser, near: Place, page: Put, collector: Collector, clock: str
) -> None:
    page("/", near, head=f"{WATCH}<script>Date.now = () => {clock}</script>")
    click = fresh_click()
    browser.get(near.page(f"/?fbclid={click}"))
    settle(browser, COUNTED)
    lead(browser, collector)
    assert has_click(collector, click)
    assert seen(browser)["errors"] == []


# A door that takes no post with this word in it, told apart from the real one by what it refuses: a whole heap. What it
# has taken meanwhile it answers just after a refusal, before the page can act on that: heaps must not grow by it.
REFUSING = """<script>window.posts = []; const own = fetch; let last = Promise.resolve();
const justAfter = async (answer) => { for (let i = 0; i < 20; i++) await 0; return answer; };
window.fetch = (url, given) => {
  const types = JSON.parse(given.body).e.map(event => event.t); posts.push(types);
  if (types.includes('Poison'))
    return last.then(() => new Response('{}', {status: %d, headers: {'Collector-Reason': '%s'}}));
  last = own(url, given); return last.then(justAfter); };</script>"""


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        *((400, "invalid_field"), (400, "invalid_json"), (400, ""), (413, "payload_too_large"), (413, ""), (403, "")),
        *((status, "") for status in (406, 422, 404, 418, 415)),
    ],
)
def test_a_refused_heap_is_never_sent_again_whole(
    browser: Browser, near: Place, page: Put, collector: Collector, status: int, reason: str
) -> None:
    page("/", near, head=REFUSING % (status, reason))
    click = fresh_click()
    names = ["A", "B", "C", "Poison", "D", "E", "F"]
    calls = "".join(f"collector('track', '{name}', {{}});" for name in names)
    page("/", near, head=REFUSING % (status, reason), body=f"<script>{calls}</script>")
    browser.get(near.page(f"/?fbclid={click}"))
    settle(browser, "posts.flat().filter(type => type == 'F').length && posts.some(types => '' + types == 'Poison')")
    lead(browser, collector)
    posts = [tuple(types) for types in browser.js("posts")]
    refused = [types for types in posts if "Poison" in types]
    taken = [name for types in posts if "Poison" not in types for name in types]
    assert len(refused[0]) > 1, "control: a heap was refused"
    assert len(set(refused)) == len(refused)
    assert sorted(name for name in taken if name in names) == ["A", "B", "C", "D", "E", "F"]
    assert has_click(collector, click)


def test_who_may_not_speak_is_not_asked_again(browser: Browser, near: Place, page: Put) -> None:
    calls = "".join(f"collector('track', '{name}', {{}});" for name in "ABCD")
    page(
        "/",
        near,
        head=REFUSING % (403, "origin_not_allowed"),
        body=f"<script>{calls}collector('track','Poison')</script>",
    )
    browser.get(near.page("/"))
    settle(browser, "posts.length")
    time.sleep(0.5)
    assert browser.js("posts.length") == 1


LONG = "q=" + "x" * 4200
THAI = "%E0%B8%81" * 460


@pytest.mark.parametrize(
    "address",
    [
        "/?fbclid={}&" + LONG,
        "/?" + LONG + "&fbclid={}",
        "/?" + LONG + "&utm_source=fb&fbclid={}&utm_campaign=c",
        "/?q=" + THAI + "&fbclid={}",
        "/?fbclid={}#" + "h" * 5000,
        "/?" + "&".join(f"a{n}=1" for n in range(230)) + "&fbclid={}",
    ],
    ids=["first", "last", "between", "thai", "hash", "many"],
)
def test_a_long_address_poisons_nothing(
    browser: Browser, near: Place, page: Put, collector: Collector, address: str
) -> None:
    page("/", near, head=WATCH)
    click = fresh_click()
    browser.get(near.page(address.format(click)))
    settle(browser, COUNTED)
    wait_for_click(collector, click)
    browser.get(near.page("/"))
    settle(browser, LIVE)
    lead(browser, collector)
    longest = "Math.max(...Object.values(localStorage).map(text => text.length))"
    assert int(str(browser.js(longest))) < 6200  # two touches of at most 3,000
    assert seen(browser)["errors"] == []


OLDER = """
localStorage.setItem('_ct_store_shop', JSON.stringify({
  f: [1732900000000.5, 'https://www.shop.test/?fbclid=IwAR0oldoldoldold&q=' + 'x'.repeat(4200)],
  l: [1732900000000.5, 'https://www.shop.test/?' + 'x'.repeat(4200) + '&utm_source=old'],
  v: ['abcdefghijklmnopqrstuvwx', 1732900000000.5]}));
localStorage.setItem('_cq_store_shop', JSON.stringify([
  {t: 'Lead', i: 'MARK', at: +new Date() + .5, u: 'https://www.shop.test/?q=' + 'x'.repeat(4200), r: '', d: {}, n: 0},
  null, 7, 'words']));
"""


@pytest.mark.parametrize(
    "stored",
    [
        OLDER,
        "localStorage.setItem('_ct_store_shop', '[1, 2]')",
        """localStorage.setItem('_ct_store_shop', '{"l": "[1, 2]", "f": null}')""",
        "localStorage.setItem('_ct_store_shop', '7')",
        "localStorage.setItem('_ct_store_shop', 'no json'); localStorage.setItem('_cq_store_shop', '{}')",
        "localStorage.setItem('_cq_store_shop', '\"words\"')",
    ],
)
def test_what_an_older_tag_has_stored_is_healed(
    browser: Browser, near: Place, page: Put, collector: Collector, stored: str
) -> None:
    page("/", near, head=WATCH)
    page("/bare", near, tag="")
    mark, click = secrets.token_hex(12), fresh_click()
    browser.get(near.page("/bare"))
    browser.execute_script(stored.replace("MARK", mark))
    browser.get(near.page(f"/?fbclid={click}"))
    settle(browser, COUNTED)
    lead(browser, collector)
    assert has_click(collector, click)
    if "MARK" in stored:
        wait_for_event(collector, mark)
    assert seen(browser)["errors"] == []


@pytest.mark.parametrize(
    "fetching",
    [
        "() => { throw new Error('theirs') }",
        "() => undefined",
        "() => Promise.resolve()",
        "() => Promise.resolve({})",
        "async () => ({ok: true})",
        "() => Promise.reject(new TypeError('blocked'))",
        "undefined",
    ],
)
def test_a_broken_fetch_stops_nothing(
    browser: Browser, near: Place, page: Put, collector: Collector, fetching: str
) -> None:
    page("/", near, head=f"{WATCH}<script>window.fetch = {fetching}; navigator.sendBeacon = () => true</script>")
    click = fresh_click()
    browser.get(near.page(f"/?fbclid={click}"))
    settle(browser, COUNTED)
    wait_for_click(collector, click)
    browser.execute_script(AT_ONCE)
    lead(browser, collector)
    assert seen(browser)["errors"] == []


def test_control_a_broken_fetch_stops_the_first_releases_tag(
    browser: Browser, near: Place, page: Put, collector: Collector, shop: Shop
) -> None:
    script = of_ours(Path(__file__).parent / "tag-0.2.0.min.js").script.replace(b'"b":"c"', b'"b":"/m/c"')
    tag = recipe("tag", {'src="/m/c.js"': 'src="/old.js"', "store_abc123": "store_shop"})
    page("/", near, head="<script>window.fetch = () => { throw new Error('theirs') }</script>", tag=tag)
    shop.pages["/old.js"] = script.decode()
    click = fresh_click()
    browser.get(near.page(f"/?fbclid={click}"))
    settle(browser, LIVE)
    time.sleep(1)
    assert not has_click(collector, click)


POLICIES = [
    "default-src 'none'; script-src 'self' 'nonce-watch'; connect-src 'none'; img-src 'self' data:",
    "default-src 'none'; script-src 'self' 'nonce-watch'; img-src 'self' data:",
    "default-src 'self' 'nonce-watch'; connect-src https://else.test; img-src * data:",
    "connect-src 'none'; img-src 'self' data:; sandbox allow-scripts allow-same-origin",
    "connect-src 'none'",
]
AT_ONCE = "dispatchEvent(new Event('online'))"  # what would wait two seconds after a failure is tried now
IMAGES = "performance.getEntriesByType('resource').filter(e => e.name.includes('c.gif')).length"


@pytest.mark.parametrize("policy", POLICIES)
def test_a_policy_that_lets_no_post_out_leaves_the_image(
    browser: Browser, near: Place, page: Put, collector: Collector, shop: Shop, policy: str
) -> None:
    shop.headers["Content-Security-Policy"] = policy
    tag = '<script async src="/m/c.js" data-store="store_shop"></script>'
    page("/", near, head=WATCH.replace("<script>", '<script nonce="watch">'), tag=tag)
    click = fresh_click()
    browser.get(near.page(f"/?fbclid={click}"))
    settle(browser, COUNTED)
    wait_for_click(collector, click)
    browser.execute_script(AT_ONCE if policy != POLICIES[0] else "")
    lead(browser, collector)
    assert any("connect-src" in line for line in seen(browser)["csp"]), "control: the policy stopped a post"
    if policy == POLICIES[0]:
        time.sleep(2.5)
        assert browser.js(IMAGES) == 2, "what an image has brought is not sent again"


@pytest.mark.parametrize("text", ["€", "a", "😀", "\\0", "\\ud800", '"'])
def test_sizes_are_in_bytes(browser: Browser, near: Place, page: Put, collector: Collector, text: str) -> None:
    page("/", near, head=WATCH)
    click, mark = fresh_click(), secrets.token_hex(6)
    browser.get(near.page(f"/?fbclid={click}"))
    settle(browser, LIVE)
    browser.execute_script(
        f"collector('track', 'Custom', {{a: '{text}'.repeat(25000)}});"
        f"for (let i = 0; i < 20; i++) collector('track', 'Lead', {{a: '€'.repeat(3000)}}, {{eventID: '{mark}' + i}})"
    )
    for number in (0, 10, 19):
        wait_for_event(collector, f"{mark}{number}")
    assert has_click(collector, click)


def served(**edge: str) -> str:
    return Snippet(EdgeConfig(**edge), PrivacyConfig(), []).body.decode()  # type: ignore[arg-type]


INERT = '<script type="text/plain" data-src="/m/c.js" data-store="store_shop"></script>'
MOVED = """<script>addEventListener('load', () => {
  const made = document.createElement('script'); made.src = '%s'; document.body.append(made); })</script>"""


@pytest.mark.parametrize(
    ("name", "tag"),
    [
        ("moved", INERT + MOVED % "/m/c.js"),
        ("combined", INERT + MOVED % "/combined.js"),
        ("rocket", INERT.replace("data-src", "src") + MOVED % "/combined.js"),
        ("module", '<script type="module" src="/m/c.js" data-store="store_shop"></script>'),
        ("store in its address", '<script async src="/m/c.js?store=store_shop"></script>'),
        ("copied, attributes kept", '<script src="/cache/c.js" data-store="store_shop" data-endpoint="/m/c"></script>'),
        ("a folder", '<script src="/cache/c.js" data-store="store_shop" data-endpoint="/m/"></script>'),
        ("copied, public_url", '<script src="/known.js" data-store="store_shop"></script>'),
        ("inlined", "<script data-store=\"store_shop\" data-endpoint=\"/m/c.js\">INLINE</script>"),
        ("delayed", f"<template>{INERT}</template><script>setTimeout(() => document.body.append("
         "Object.assign(document.createElement('script'), {src: '/m/c.js?store=store_shop'})), 300)</script>"),
        ("evaluated", INERT + "<script>fetch('/m/c.js').then(r => r.text()).then(text => (0, eval)(text))</script>"),
    ],
)  # fmt: skip
def test_optimisers_do_not_part_the_tag_from_its_store(
    browser: Browser, near: Place, page: Put, collector: Collector, shop: Shop, name: str, tag: str
) -> None:
    shop.pages["/combined.js"] = "window.other = 1;\n" + served()
    shop.pages["/cache/c.js"] = served()
    shop.pages["/known.js"] = served(public_url=near.page("/m"))
    page("/", near, head=WATCH, tag=tag.replace("INLINE", served()))
    shop.pages.update({path: text for path, text in shop.pages.items() if path.endswith(".js")})
    click = fresh_click()
    browser.get(near.page(f"/?fbclid={click}"))
    settle(browser, COUNTED)
    wait_for_click(collector, click)
    assert seen(browser)["errors"] == []


@pytest.mark.parametrize(
    ("tag", "says"),
    [
        ('<script src="/m/c.js"></script>', "data-store"),
        ("<script>INLINE</script>", "data-store"),
        ('<script data-store="store_shop">INLINE</script>', "data-store"),
        ('<script src="/cache/c.js" data-store="store_shop"></script>', "/cache/c.js: "),
        ('<script src="/m/c.js" data-store="store_shop" data-endpoint="/nowhere/"></script>', "/nowhere/: "),
        ('<script src="/m/c.js" data-store="store_shop" data-endpoint="https://"></script>', ""),
    ],
)
def test_a_tag_that_cannot_work_says_once_why(
    browser: Browser, near: Place, page: Put, shop: Shop, tag: str, says: str
) -> None:
    shop.pages["/cache/c.js"] = served()
    listening = "<script>window.said = []; console.warn = (...words) => { said.push(words.join(' ')); }</script>"
    page("/", near, head=WATCH + listening, tag=tag.replace("INLINE", served()))
    browser.get(near.page("/"))
    if says:
        settle(browser, "said.length")
    browser.execute_script("window.collector && collector('track', 'Lead', {})")
    time.sleep(0.4)
    said = browser.js("said")
    assert len(said) == bool(says)
    assert all(says in line for line in said)
    assert seen(browser)["errors"] == []


@pytest.mark.parametrize(
    "address",
    [
        "/?utm_campaign=x?fbclid={}",
        "/#/p?fbclid={}",
        "/#fbclid={}",
        "/?a=1#!/shop?b=2&fbclid={}",
        "/?fbclid=null&fbclid={}",
        "/?a=1&amp;fbclid={}",
        "/?FBCLID={}",
        "/?fbclid={}%23top&utm_source=fb",
        "/?fbclid={}.",
    ],
)
def test_a_click_id_is_found_where_metas_library_finds_it(
    browser: Browser, near: Place, page: Put, collector: Collector, address: str
) -> None:
    page("/", near)
    click = fresh_click()
    browser.get(near.page(address.format(click)))
    settle(browser, COUNTED)
    wait_for_click(collector, click)


@pytest.mark.parametrize(
    "cleaned", ["/lp?utm_source=fb", "/lp?campaign_id=7", "/lp", "/other?x=1", "/lp?utm_source=fb#top"]
)
def test_a_cleaned_address_hides_no_click(
    browser: Browser, near: Place, page: Put, collector: Collector, cleaned: str
) -> None:
    page("/lp", near, head=f"<script>history.replaceState({{}}, '', '{cleaned}')</script>")
    click = fresh_click()
    browser.get(near.page(f"/lp?utm_source=fb&campaign_id=7&fbclid={click}"))
    settle(browser, COUNTED)
    wait_for_click(collector, click)


def test_the_page_before_had_no_tag_but_the_click(
    browser: Browser, near: Place, page: Put, collector: Collector
) -> None:
    """Firefox tells no script of it, Meta's neither: of a referrer with an fbclid it leaves the bare domain."""
    page("/bare", near, tag="", body='<a href="/next">on</a>')
    page("/next", near, body='<a href="/more">on</a>')
    page("/more", near)
    click = fresh_click()
    browser.get(near.page(f"/bare?fbclid={click}"))
    told = []
    for path in ("/next", "/more"):  # the referrer of the second holds no click, and the first is known by then
        browser.execute_script("document.querySelector('a').click()")  # a page's own way: a driver's has no referrer
        settle(browser, f"location.pathname == '{path}' && {LIVE}")
        told.append(click in str(browser.js("document.referrer")))
        lead(browser, collector)
    assert told == [isinstance(browser, Chromium), False]
    assert sum(one.fbclid == click for one in collector.clicks()) == told[0]


@pytest.mark.parametrize(
    ("kept", "before", "again"),
    [
        (True, "history.pushState({}, '', '/prod/1')", "prod/1"),
        (True, "history.replaceState({}, '', '/prod/1')", "prod/1"),
        (True, "location.hash = 'part'", "land"),
        (True, "", "land"),
        (False, "", "land"),
        (False, "location.hash = 'part'", "land"),
    ],
    ids=["pushed", "replaced", "hash", "kept", "loaded again", "loaded again at a hash"],
)
def test_coming_back_is_no_new_click(
    browser: Browser,
    near: Place,
    page: Put,
    collector: Collector,
    shop: Shop,
    kept: bool,
    before: str,
    again: str,
) -> None:
    if not kept:
        shop.headers["Cache-Control"] = "no-store"
    for path in ("/land", "/other", "/prod/1"):
        page(path, near)
    older, newer = fresh_click(), fresh_click()
    browser.get(near.page(f"/land?utm_source=fb&fbclid={older}"))
    settle(browser, COUNTED)
    browser.execute_script(before)
    browser.execute_script(f"location.href = '/other?fbclid={newer}'")
    settle(browser, f"document.cookie.includes('{newer}')")
    wait_for_click(collector, newer)
    lead(browser, collector)
    count = len(collector.events("PageView"))
    browser.back()
    settle(browser, f"location.pathname != '/other' && {LIVE}")
    lead(browser, collector)
    back = collector.events("PageView")[count:]
    assert [one.event_source_url.split("?")[0].rpartition(":")[2].partition("/")[2] for one in back] == [  # type: ignore[union-attr]
        again
    ]
    assert "fbclid" not in (back[0].event_source_url or "")
    assert newer in str(browser.js("document.cookie"))
    memory = json.loads(str(browser.js("localStorage.getItem('_ct_store_shop')")))
    assert newer in memory["l"][1]


def test_replacing_is_a_page_where_the_path_is_new(
    browser: Browser, near: Place, page: Put, collector: Collector
) -> None:
    page("/", near)
    mark = secrets.token_hex(8)
    browser.get(near.page(f"/?m={mark}&fbclid={fresh_click()}"))
    settle(browser, COUNTED)
    for step in (
        f"history.replaceState({{}}, '', '/?m={mark}')",
        f"history.replaceState({{}}, '', '/?m={mark}&tab=2')",
        "location.hash = 'part'",
        f"history.replaceState({{}}, '', '/new?m={mark}')",
        f"history.replaceState({{}}, '', '/new?m={mark}#x')",
        f"collector('page', '#/cart/{mark}')",
        f"collector('page', '#/cart/{mark}')",
        f"location.hash = '/cart/{mark}'",
        f"collector('page', '#/pay/{mark}')",
    ):
        browser.execute_script(step)
        time.sleep(0.15)
    lead(browser, collector)
    seen_pages = ["/" + url.split("/", 3)[3].split("fbclid")[0] for url in page_views(collector, mark)]
    assert seen_pages == [
        f"/?m={mark}&",
        f"/new?m={mark}",
        f"/new?m={mark}#/cart/{mark}",
        f"/new?m={mark}#/pay/{mark}",
    ]
