"""The README's storefronts, run as they stand there: the order finds its click by what the recipe sends."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.browser.ground import FBCLID, PERSON, Collector, free_port, running
from tests.recipes import README, recipe

pytestmark = pytest.mark.slow

STORE = """
[[store]]
id = "store_abc123"
domains = ["shop.example"]
currency = "EUR"
country = "DE"
"""
EXPRESS = "express@5"
# What WordPress and WooCommerce are to the recipe: hooks, an order, the cookies of the checkout, an HTTP client.
WORDPRESS = r"""<?php
const COLLECTOR_KEY = '__KEY__';
$_COOKIE = json_decode('__COOKIES__', true);
$hooks = [];
function add_action($name, $work, $priority = 10) { global $hooks; $hooks[$name] = $work; }
function esc_attr($text) { return htmlspecialchars($text, ENT_QUOTES); }
function wp_unslash($text) { return $text; }
function sanitize_text_field($text) { return trim(strip_tags($text)); }
function wp_json_encode($value) { return json_encode($value); }
class Order {
    public $meta = [];
    function update_meta_data($name, $value) { $this->meta[$name] = $value; }
    function get_meta($name) { return $this->meta[$name] ?? ''; }
    function __call($name, $given) {
        return ['get_order_number' => '1003', 'get_total' => '49.90', 'get_currency' => 'EUR',
            'get_billing_email' => 'jo@example.com', 'get_customer_user_agent' => 'Mozilla/5.0',
            'get_customer_ip_address' => '203.0.113.9'][$name] ?? '';
    }
}
$the_order = new Order;
function wc_get_order($id) { global $the_order; return $the_order; }
function wp_remote_post($url, $given) {
    $lines = array_map(fn($name) => "$name: " . $given['headers'][$name], array_keys($given['headers']));
    $http = ['method' => 'POST', 'header' => $lines, 'content' => $given['body'], 'ignore_errors' => true];
    echo file_get_contents($url, false, stream_context_create(['http' => $http]));
}
"""


class Visitor(NamedTuple):
    """Somebody who came from an ad: the click id, and the cookies that the collector set."""

    fbclid: str
    cookies: dict[str, str]

    @property
    def header(self) -> str:
        return "; ".join(f"{name}={value}" for name, value in self.cookies.items())


@pytest.fixture(scope="module")
def collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    made = Collector(tmp_path_factory.mktemp("collector"), STORE)
    made.key("store_abc123")
    with made.serve():
        yield made


@pytest.fixture
def visitor(collector: Collector) -> Visitor:
    click = FBCLID[:-8] + secrets.token_hex(4)
    request = urllib.request.Request(
        f"http://127.0.0.1:{collector.port}/c.gif?s=store_abc123",
        headers={
            "Referer": f"https://www.shop.example/?fbclid={click}",
            "User-Agent": PERSON,
            "Host": "www.shop.example",
        },
    )
    with urllib.request.urlopen(request, timeout=5) as answer:
        pairs = [line.split(";")[0].partition("=") for line in answer.headers.get_all("Set-Cookie")]
    return Visitor(click, {name: value for name, _, value in pairs})


def environment(collector: Collector, port: int) -> dict[str, str]:
    own = {"COLLECTOR_URL": f"http://127.0.0.1:{collector.port}", "COLLECTOR_KEY": collector.key("store_abc123")}
    return {**os.environ, **own, "PORT": str(port)}


def pay(port: int, visitor: Visitor, order: str) -> dict[str, Any]:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/paid/{order}", headers={"Cookie": visitor.header, "User-Agent": PERSON}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return dict(json.load(answer))


def check(answer: dict[str, Any], visitor: Visitor) -> None:
    assert answer["success"], answer
    found = answer["data"]["attributedTo"]
    assert found["fbclid"] == visitor.fbclid
    assert found["confidenceScore"] >= 98


def test_the_storefront_in_python(tmp_path: Path, collector: Collector, visitor: Visitor) -> None:
    program, port = tmp_path / "storefront.py", free_port()
    program.write_text(recipe("python"))
    env = environment(collector, port)
    with running([sys.executable, str(program)], port, tmp_path / "log", env=env):
        check(pay(port, visitor, "1001"), visitor)


@pytest.mark.skipif(shutil.which("npm") is None, reason="needs node and npm")
def test_the_storefront_in_node(tmp_path: Path, collector: Collector, visitor: Visitor) -> None:
    subprocess.run(["npm", "install", "--silent", "--no-save", EXPRESS], check=True, cwd=tmp_path, capture_output=True)
    program, port = tmp_path / "storefront.js", free_port()
    program.write_text(recipe("express"))
    env = environment(collector, port)
    with running(["node", str(program)], port, tmp_path / "log", cwd=tmp_path, env=env):
        check(pay(port, visitor, "1002"), visitor)


@pytest.mark.skipif(shutil.which("php") is None, reason="needs php-cli from the distribution")
def test_the_woocommerce_snippet(tmp_path: Path, collector: Collector, visitor: Visitor) -> None:
    stand_in = WORDPRESS.replace("__KEY__", collector.key("store_abc123"))
    code = recipe("woocommerce", {"http://127.0.0.1:8080": f"http://127.0.0.1:{collector.port}"})
    program = tmp_path / "functions.php"
    checkout = (
        "$hooks['wp_head'](); echo \"\\n\"; $hooks['woocommerce_checkout_create_order']($the_order);"
        "$_COOKIE = []; $hooks['woocommerce_payment_complete'](7);"  # the payment service calls, not the browser
    )
    program.write_text(stand_in.replace("__COOKIES__", json.dumps(visitor.cookies)) + code + checkout)
    out = subprocess.run(["php", str(program)], check=True, capture_output=True, text=True).stdout
    tag, _, answer = out.partition("\n")
    assert tag == '<script async src="/m/c.js" data-store="store_abc123"></script>'
    check(json.loads(answer), visitor)


def test_every_recipe_of_the_readme_is_run() -> None:
    named = {line.split()[2] for line in README.read_text().splitlines() if line.startswith("<!-- recipe: ")}
    sources = [path.read_text() for path in (Path(__file__), *(Path(__file__).parent / "browser").glob("*.py"))]
    assert {name for name in named if not any(re.search(rf'recipe\(\s*"{name}"', text) for text in sources)} == set()
