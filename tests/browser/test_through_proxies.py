"""Servers and visitors through real proxies: Java's default HTTP client, and Cloudflare in front of nginx."""

from __future__ import annotations

import contextlib
import http.client
import json
import shutil
import sqlite3
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser.ground import FBCLID, PERSON, Collector, caddy, free_port, nginx
from tests.kit.recipes import recipe

pytestmark = pytest.mark.browser

STORE = '[[store]]\nid = "store_shop"\ndomains = ["shop.test"]\ncurrency = "EUR"\ncountry = "DE"\n'
# As a shop's developer writes it: the client's defaults ask for HTTP/2 over clear text with every request.
JAVA = """
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;

public class Orders {
    public static void main(String[] given) throws Exception {
        HttpClient client = HttpClient.newHttpClient();
        for (int number = 1; number <= 3; number++) {
            String body = "{\\"storeId\\":\\"store_shop\\",\\"eventType\\":\\"Purchase\\","
                + "\\"orderId\\":\\"" + given[2] + number + "\\",\\"eventValue\\":49.90,\\"currency\\":\\"EUR\\"}";
            HttpRequest request = HttpRequest.newBuilder(URI.create(given[0] + "/v1/track/conversion"))
                .header("Authorization", "Bearer " + given[1])
                .header("Content-Type", "application/json")
                .POST(HttpRequest.BodyPublishers.ofString(body))
                .build();
            HttpResponse<String> answer = client.send(request, HttpResponse.BodyHandlers.ofString());
            System.out.println(answer.statusCode() + " " + answer.version() + " " + answer.body());
        }
    }
}
"""


@pytest.fixture(scope="module")
def collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    made = Collector(tmp_path_factory.mktemp("collector"), STORE)
    made.key("store_shop")
    with made.serve():
        yield made


@pytest.mark.skipif(shutil.which("java") is None, reason="needs a JDK (openjdk-17-jdk-headless)")
@pytest.mark.parametrize("way", ["directly", "nginx", "caddy"])
def test_javas_client_posts_orders_in_its_default_mode(collector: Collector, tmp_path: Path, way: str) -> None:
    source = tmp_path / "Orders.java"
    source.write_text(JAVA)
    port = collector.port if way == "directly" else free_port()
    to = {"127.0.0.1:8080": f"127.0.0.1:{collector.port}"}

    def post(path: str) -> list[str]:
        command = ["java", str(source), f"http://127.0.0.1:{port}{path}", collector.key("store_shop"), way]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout.splitlines()

    if way == "directly":
        lines = post("")
    elif way == "nginx":
        with nginx(tmp_path, f"server {{ listen {port};\n{recipe('nginx-path', to)}\n}}", port):
            lines = post("/m")
    else:
        site = recipe("caddy-path", {**to, "shop.example {": f"http://127.0.0.1:{port} {{"})
        with caddy(tmp_path, site, port):
            lines = post("/m")
    assert [line.split()[0] for line in lines] == ["200"] * 3, lines
    orders = {event.order_id for event in collector.events("Purchase")}
    assert {f"{way}{number}" for number in (1, 2, 3)} <= orders


def test_the_visitors_address_comes_through_cloudflare_and_nginx(collector: Collector, tmp_path: Path) -> None:
    """127.0.0.1 plays Cloudflare, 127.0.0.2 a stranger who writes its header."""
    port = free_port()
    real_ip = recipe("nginx-cloudflare", {"173.245.48.0/20": "127.0.0.1/32"})
    site = recipe("nginx-path", {"127.0.0.1:8080": f"127.0.0.1:{collector.port}"})
    with nginx(tmp_path, f"{real_ip}\nserver {{ listen 127.0.0.1:{port};\n{site}\n}}", port):
        for number, (source, visitor, kept) in enumerate(
            [
                ("127.0.0.1", "8.8.4.4", "8.8.4.4"),
                ("127.0.0.1", "2606:4700::1111", "2606:4700::1111"),
                ("127.0.0.2", "9.9.9.9", None),
            ]
        ):
            click = f"{FBCLID[:-8]}{number:08d}"
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10, source_address=(source, 0))
            headers = {
                "CF-Connecting-IP": visitor,
                "User-Agent": PERSON,
                "Referer": f"https://shop.test/?fbclid={click}",
            }
            connection.request("GET", "/m/c.gif?s=store_shop", headers=headers)
            assert connection.getresponse().status == 200
            connection.close()
            assert address_of(collector, click) == kept


ADDRESS = "SELECT ip FROM click LEFT JOIN click_network USING (id) ORDER BY id DESC LIMIT 1"


def address_of(collector: Collector, click: str) -> str | None:
    """What was kept of a click's address; one that is no visitor's is not kept."""
    path = f"file:{collector.folder}/data/collector.db?mode=ro"
    with contextlib.closing(sqlite3.connect(path, uri=True)) as db:
        (ip,) = db.execute(
            "SELECT ip FROM click LEFT JOIN click_network USING (id) ORDER BY id DESC LIMIT 1"
        ).fetchone()
    return ip if isinstance(ip, str) else None


def test_control_without_the_recipe_the_edge_believes_no_header_of_cloudflares(collector: Collector) -> None:
    click = f"{FBCLID[:-8]}99999999"
    request = urllib.request.Request(
        f"http://127.0.0.1:{collector.port}/c.gif?s=store_shop",
        headers={"CF-Connecting-IP": "9.9.9.9", "User-Agent": PERSON, "Referer": f"https://shop.test/?fbclid={click}"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.status == 200
    assert address_of(collector, click) is None
    assert json.dumps([one.fbclid for one in collector.clicks()]).count(click) == 1, "control: it was stored"
