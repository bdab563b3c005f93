"""The script as it is served: small, cached well, with this configuration in it."""

from __future__ import annotations

import gzip
import json
import re

import pytest

from collector.config import EdgeConfig, PrivacyConfig, StoreConfig
from collector.edge.snippet import Snippet, takes_gzip

STORES = [
    StoreConfig(id="store_a"),
    StoreConfig(id="store_b", default_consent="pending"),
    StoreConfig(id="store_c", pixel_mode="pixel+server"),
]


def snippet(**edge: str) -> Snippet:
    return Snippet(EdgeConfig(**edge), PrivacyConfig(), STORES)  # type: ignore[arg-type]


def settings(made: Snippet) -> dict[str, object]:
    found = re.search(rb"(\{\"b\":.*\})\)", made.body)
    assert found
    return dict(json.loads(found[1]))


def test_it_is_small() -> None:
    assert len(Snippet(EdgeConfig(), PrivacyConfig(), []).gzipped) <= 3.3 * 1024
    assert len(snippet().gzipped) <= 3.35 * 1024  # three stores that differ


def test_its_settings_name_only_stores_that_differ() -> None:
    assert settings(snippet()) == {
        "b": "c",
        "g": "c.gif",
        "o": "honour",
        "d": ["granted", "server-only"],
        "s": {"store_b": ["pending", "server-only"], "store_c": ["granted", "pixel+server"]},
    }


def test_its_paths_are_relative_so_that_a_proxy_may_put_it_anywhere() -> None:
    made = snippet(snippet_path="/assets/shop.js", beacon_path="/assets/cart", pixel_path="/img/dot.gif")
    assert (settings(made)["b"], settings(made)["g"]) == ("cart", "../img/dot.gif")
    assert made.owns("/assets/shop.js")
    assert re.fullmatch(r"/assets/shop\.[0-9a-f]{10}\.js", made.pinned_path)


def test_the_stable_address_is_asked_for_again_and_answers_not_modified() -> None:
    made = snippet()
    first = made.answer("/c.js", {})
    given = dict(first.headers)
    assert (first.status, first.body) == (200, made.body)
    assert given[b"content-type"] == b"text/javascript; charset=utf-8"
    assert given[b"cache-control"] == b"public, max-age=3600, stale-while-revalidate=86400"
    again = made.answer("/c.js", {b"if-none-match": b"W/" + given[b"etag"]})
    assert (again.status, again.body) == (304, b"")


def test_the_pinned_address_is_kept_for_a_year_and_an_old_one_is_not() -> None:
    made = snippet()
    assert dict(made.answer(made.pinned_path, {}).headers)[b"cache-control"] == b"public, max-age=31536000, immutable"
    assert made.owns("/c.0123456789.js")
    assert b"immutable" not in dict(made.answer("/c.0123456789.js", {}).headers)[b"cache-control"]
    assert not made.owns("/c.0123.js")
    assert not made.owns("/cxjs")


def test_another_configuration_has_another_address() -> None:
    other = Snippet(EdgeConfig(), PrivacyConfig(default_consent="pending"), STORES)
    assert other.pinned_path != snippet().pinned_path


def test_it_is_compressed_for_who_takes_it() -> None:
    made = snippet()
    answer = made.answer("/c.js", {b"accept-encoding": b"gzip, br"})
    assert dict(answer.headers)[b"content-encoding"] == b"gzip"
    assert gzip.decompress(answer.body) == made.body
    assert b"Accept-Encoding" in dict(answer.headers)[b"vary"]


def test_an_address_that_names_a_store_gets_a_script_that_carries_it() -> None:
    made = snippet()
    for query in (b"store=store_b", b"ver=1&store=store_b", b"store=store_b&store=x"):
        answer = made.answer("/c.js", {}, query)
        assert b'"t":"store_b"' in answer.body
        given = dict(answer.headers)
        assert given[b"content-location"].endswith(b"?store=store_b")
        assert given[b"etag"] != dict(made.answer("/c.js", {}).headers)[b"etag"]
        assert made.answer("/c.js", {b"if-none-match": given[b"etag"]}, query).status == 304
    for query in (b"", b"store=unknown", b"store=", b"store=%3C/script%3E", b"\xff", b"ver=1"):
        assert made.answer("/c.js", {}, query).body == made.body


def test_who_mirrors_to_the_pixel_is_given_that_part() -> None:
    part = snippet().answer("/c.js", {}, b"m")
    assert b"fbq" in part.body
    assert b"fbq" not in snippet().body
    assert b'"shop.js?m"' in snippet(snippet_path="/x/shop.js").body


def test_a_public_address_is_told_to_pages() -> None:
    made = snippet(public_url="https://www.shop.example/m/", snippet_path="/x/shop.js")
    assert settings(made)["u"] == "https://www.shop.example/m/x/shop.js"


def test_a_store_id_cannot_leave_the_script() -> None:
    made = Snippet(EdgeConfig(), PrivacyConfig(), [StoreConfig(id="</script>\u2028", default_consent="denied")])
    assert b"</script" not in made.body


@pytest.mark.parametrize(
    ("accepted", "taken"),
    [
        ("gzip", True), ("gzip, deflate, br", True), ("br;q=1.0, gzip;q=0.8, *;q=0.1", True), ("GZIP", True),
        ("*", True), ("x-gzip", True), ("gzip ; q=0.001", True), ("gzip;q=0", False), ("gzip;q=0.0", False),
        ("gzip; q=0, *", False), ("*;q=0", False), ("*;q=0, gzip", True), ("identity", False), ("", False),
        ("br", False), ("xgzip", False), ("gzip;q=no", False), ("deflate, gzip;q=0.000", False),
    ],
)  # fmt: skip
def test_gzip_is_sent_to_who_takes_it(accepted: str, taken: bool) -> None:
    assert takes_gzip(accepted.encode()) is taken
