"""What a visit writes into the browser: Meta's formats to the byte, and nothing that a caller could smuggle in."""

from __future__ import annotations

import pytest

from collector.core import cookies
from collector.core.cookies import Fresh, Jar, Policy, Site

NOW = 1_790_000_000_000
FRESH = Fresh(bytes(range(16)), 123456789)
VISITOR = "AAECAwQFBgcICQoLDA0ODw"
POLICY = Policy("_cv", 90, Site("example.com", 1), secure=True)


def visit(jar: Jar = cookies.EMPTY, fbclid: str | None = None, **more: object) -> cookies.Visit:
    given = {"clicked": NOW, "now": NOW, "subdomain_index": 1, "fresh": FRESH} | more
    return cookies.visit(jar, fbclid=fbclid, **given)  # type: ignore[arg-type]


def test_a_first_visit_from_an_ad_gets_all_three() -> None:
    seen = visit(fbclid="IwAR0AbC-_x", clicked=NOW - 5000)
    assert seen.jar == Jar(VISITOR, f"fb.1.{NOW - 5000}.IwAR0AbC-_x", f"fb.1.{NOW}.123456789")
    assert seen.write == seen.jar


def test_a_visit_without_a_click_makes_no_fbc() -> None:
    assert visit().jar.fbc is None


@pytest.mark.parametrize(
    "held", ["fb.1.1780000000000.IwAR0", "fb.1.1780000000000.IwAR0.AQ", "fb.2.1780000000000.IwAR0.AQICAQMC"]
)
def test_the_same_click_keeps_its_fbc_and_writes_nothing(held: str) -> None:
    seen = visit(Jar(fbc=held), "IwAR0")
    assert seen.jar.fbc == held
    assert seen.write.fbc is None


def test_another_click_replaces_the_fbc() -> None:
    assert visit(Jar(fbc="fb.1.1780000000000.IwAR0.AQICAQMC"), "IwAR1").write.fbc == f"fb.1.{NOW}.IwAR1"


def test_letter_case_makes_another_click() -> None:
    assert visit(Jar(fbc="fb.1.1780000000000.IwAR0"), "iwar0").write.fbc == f"fb.1.{NOW}.iwar0"


def test_a_click_that_arrives_late_does_not_replace_a_newer_one() -> None:
    held = f"fb.1.{NOW - 1000}.IwNewer"
    assert visit(Jar(fbc=held), "IwOlder", clicked=NOW - 60_000).jar.fbc == held


def test_the_visitor_and_fbp_are_written_again_as_they_are() -> None:
    jar = Jar("z" * 22, None, "fb.1.1780000000000.1098115397.AQ")
    assert visit(jar).write == jar


def test_what_was_dropped_is_restored_from_what_we_know_of_the_visitor() -> None:
    known = Jar(None, "fb.1.1780000000000.IwAR0.AQ", "fb.1.1780000000000.42")
    seen = visit(Jar("z" * 22), known=known)
    assert (seen.write.fbc, seen.write.fbp) == (known.fbc, known.fbp)


@pytest.mark.parametrize(
    ("host", "configured", "expected"),
    [
        ("example.com", "", Site("example.com", 1)),
        ("www.example.com:8443", "", Site("example.com", 1)),
        ("a.b.shop.co.uk", "", Site("shop.co.uk", 2)),
        ("shop.myshopify.com", "", Site("shop.myshopify.com", 2)),
        ("www.example.com", "www.example.com", Site("www.example.com", 2)),
        ("other.org", "example.com", Site("other.org", 1)),
        ("evilexample.com", "example.com", Site("evilexample.com", 1)),
        ("localhost:8080", "", Site(None, 0)),
        ("127.0.0.1:8080", "", Site(None, 0)),
        ("[::1]:8080", "", Site(None, 0)),
        ("[::1]", "", Site(None, 0)),
        ("github.io", "", Site(None, 1)),
        ("EXAMPLE.com.", "", Site("example.com", 1)),
        ("exa mple.com; Secure", "", Site(None, 0)),
        ("", "", Site(None, 0)),
    ],
)
def test_cookies_live_on_the_registrable_domain(host: str, configured: str, expected: Site) -> None:
    assert cookies.site(host, configured) == expected


def test_two_hosts_of_one_shop_are_one_site() -> None:
    assert cookies.same_site("www.shop.co.uk", "t.shop.co.uk:8443")
    assert not cookies.same_site("one.co.uk", "two.co.uk")
    assert cookies.same_site("127.0.0.1", "127.0.0.1")


@pytest.mark.parametrize(
    ("page", "host"),
    [
        ("2001:db8::1", "[2001:db8::1]:8080"),
        ("2001:db8::1", "[2001:DB8:0::1]"),
        ("127.0.0.1", "127.0.0.1:8080"),
        ("localhost", "localhost:8080"),
        ("www.shop.example", "t.shop.example:443"),
        ("shop.example.", "shop.example"),
    ],
)
def test_a_page_and_a_host_are_one_site_however_the_host_is_written(page: str, host: str) -> None:
    assert cookies.same_site(page, host)
    assert not cookies.same_site("2001:db8::2", host)


def test_set_cookie_is_written_exactly() -> None:
    assert cookies.set_cookies(Jar(VISITOR, "fb.1.1.x", "fb.1.1.2"), POLICY) == [
        f"_cv={VISITOR}; Path=/; Max-Age=7776000; Domain=example.com; SameSite=Lax; Secure; HttpOnly",
        "_fbc=fb.1.1.x; Path=/; Max-Age=7776000; Domain=example.com; SameSite=Lax; Secure",
        "_fbp=fb.1.1.2; Path=/; Max-Age=7776000; Domain=example.com; SameSite=Lax; Secure",
    ]


def test_a_host_without_a_domain_gets_a_cookie_of_its_own() -> None:
    policy = Policy("_cv", 9999, Site(None, 0), secure=False)
    assert cookies.set_cookies(Jar(VISITOR), policy) == [
        f"_cv={VISITOR}; Path=/; Max-Age={400 * 86400}; SameSite=Lax; HttpOnly"
    ]


def test_a_denial_removes_what_the_browser_still_sends() -> None:
    assert cookies.clear_cookies("a=1; _fbc=rubbish; _cv=x", POLICY) == [
        "_cv=; Path=/; Max-Age=0; Domain=example.com; SameSite=Lax; Secure; HttpOnly",
        "_fbc=; Path=/; Max-Age=0; Domain=example.com; SameSite=Lax; Secure",
    ]


@pytest.mark.parametrize(
    "value",
    [
        "fb.1.1780000000000.Iw;x",
        "fb.1.1780000000000",
        "fb.1.178.Iw",
        "a.b.c.d",
        "fb.1.1780000000000.a.b.c",
        "fb.1.1780000000000.Iw\r\nX: y",
        "fb.1.1780000000000.Iw.AQI",
        "fb.1.1780000000000.IwAR0\n",
        "fb.1.\u0661\u0667\u0668\u0660\u0660\u0660\u0660\u0660\u0660\u0660.Iw",
    ],
)
def test_what_is_not_metas_form_is_absent(value: str) -> None:
    assert cookies.fbc_or_none(value) is None
    assert cookies.fbp_or_none(value) is None


def test_the_three_are_read_from_among_others() -> None:
    header = f'x=1; _fbp="fb.1.1780000000000.42"; _cv={VISITOR}; _cv=other; _fbc=fb.1.1780000000000.IwAR0.AQ'
    assert cookies.read(header, "_cv", 1_790_000_000_000) == Jar(
        VISITOR, "fb.1.1780000000000.IwAR0.AQ", "fb.1.1780000000000.42"
    )
