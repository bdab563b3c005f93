"""Who is not a person, and why: nobody who came from an ad is taken for a robot."""

from __future__ import annotations

import crawleruseragents
import pytest

from collector.core import bots

PEOPLE = [
    (
        "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 "
        "Mobile/15E148 Safari/604.1"
    ),
    (
        "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148 "
        "[FBAN/FBIOS;FBAV/470.0.0.33.107;FBBV/612345678;FBDV/iPhone14,5;FBMD/iPhone;FBSN/iOS;FBSV/17.5;FBSS/3;FBLC/en_US]"
    ),
    (
        "Mozilla/5.0 (Linux; Android 14; SM-S921B Build/UP1A; wv) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 "
        "Chrome/126.0.6478.71 Mobile Safari/537.36 [FB_IAB/FB4A;FBAV/470.0.0.40.87;]"
    ),
    (
        "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148 "
        "Instagram 336.0.2.30.92 (iPhone14,5; iOS 17_5; en_US; en; scale=3.00; 1170x2532; 607834569)"
    ),
    (
        "Mozilla/5.0 (Linux; Android 16; Pixel 10 Pro XL; wv) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 "
        "Chrome/146.0.7680.174 Mobile Safari/537.36 MetaIAB Facebook"
    ),
    "[FBAN/FB4A;FBAV/567.1.0.52.74;FBBV/1003893689;FBDM/{density=3.0,width=1080,height=2340};FBLC/nl_NL;FBOP/1]",
    (
        "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148 "
        "WhatsApp/2.24"
    ),
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36",
    "Mozilla/5.0 (X11; Linux x86_64; rv:127.0) Gecko/20100101 Firefox/127.0",
]


@pytest.mark.parametrize("agent", PEOPLE)
def test_a_person_is_a_person(agent: str) -> None:
    assert bots.reason(agent) is None


@pytest.mark.parametrize(
    ("agent", "why"),
    [
        ("facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)", "crawler"),
        ("meta-externalagent/1.1 (+https://developers.facebook.com/docs/sharing/webmasters/crawler)", "crawler"),
        ("Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", "crawler"),
        ("WhatsApp/2.23.20.0 N", "crawler"),
        ("curl/8.5.0", "http_client"),
        ("python-requests/2.31.0", "http_client"),
        (
            (
                "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/126.0.0.0 "
                "Safari/537.36"
            ),
            "headless",
        ),
        ("", "no_user_agent"),
        ("   ", "no_user_agent"),
        (None, "no_user_agent"),
    ],
)
def test_each_kind_of_robot_has_its_reason(agent: str | None, why: str) -> None:
    assert bots.reason(agent) == why


def test_our_search_finds_every_robot_that_the_list_knows() -> None:
    samples = [s for e in crawleruseragents.CRAWLER_USER_AGENTS_DATA for s in e["instances"]]
    missed = [s for s in samples if bots.of_user_agent(s) is None]
    assert len(samples) > 1500
    assert [s for s in missed if "MetaIAB" not in s] == []


@pytest.mark.parametrize(
    "header",
    [
        (b"x-purpose", b"preview"),
        (b"x-fb-http-engine", b"Liger"),
        (b"purpose", b"prefetch"),
        (b"sec-purpose", b"prefetch;prerender"),
        (b"x-moz", b"prefetch"),
    ],
)
def test_a_prefetch_is_told_by_its_headers(header: tuple[bytes, bytes]) -> None:
    assert bots.reason(PEOPLE[1], [(b"accept", b"text/html"), header]) == "prefetch"


def test_other_headers_make_no_prefetch() -> None:
    assert bots.reason(PEOPLE[0], [(b"sec-purpose", b""), (b"x-purpose", b"reading")]) is None


def test_a_page_driven_by_a_script_is_automated() -> None:
    assert bots.reason(PEOPLE[0], automated=True) == "automated"


def test_a_server_may_not_know_its_visitors_user_agent() -> None:
    assert bots.reason(None, page=False) is None


def test_what_a_hostile_caller_appends_is_not_read() -> None:
    assert bots.reason("Mozilla/5.0 " + "a" * 600 + " Googlebot/") is None
