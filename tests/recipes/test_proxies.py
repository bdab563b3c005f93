"""Real proxies before a real edge, set up as edge/README.md says: address, Host, the cookies' domain, bodies."""

from __future__ import annotations

import contextlib
import http.client
import json
import secrets
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

import pytest

from collector.core.addresses import client_address, parse_networks
from tests.browser.ground import (
    BINARIES,
    FBCLID,
    PERSON,
    Collector,
    apache,
    binary_of,
    caddy,
    certificate,
    client_context,
    free_port,
    nginx,
    traefik,
    wait_for_route,
)
from tests.kit.recipes import recipe

pytestmark = pytest.mark.slow

STORE = '[[store]]\nid = "store_shop"\ndomains = ["shop.test"]\ncurrency = "EUR"\n'
# The proxies hear on 127.0.0.1 and speak from there; visitors and strangers come from other addresses of the loopback.
VISITOR, STRANGER, CLOUDFLARE = "127.0.0.7", "127.0.0.8", "127.0.0.9"
OF_EDGE = parse_networks(["127.0.0.1/32"])


class Tap(ThreadingHTTPServer):
    """Between proxy and edge: notes the head of each request and passes everything on."""

    daemon_threads = True

    def __init__(self, edge_port: int) -> None:
        super().__init__(("127.0.0.1", 0), _Tapped)
        self.edge_port = edge_port
        self.heads: list[http.client.HTTPMessage] = []

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


class _Tapped(BaseHTTPRequestHandler):
    server: Tap

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.heads.append(self.headers)
        edge = http.client.HTTPConnection("127.0.0.1", self.server.edge_port, timeout=60)
        edge.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            edge.putheader(name, value)
        edge.endheaders(body)
        got = edge.getresponse()
        answer = got.read()
        self.send_response(got.status)
        for name, value in got.getheaders():
            if name.lower() not in ("content-length", "connection", "date", "server"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)
        edge.close()

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    made = Collector(tmp_path_factory.mktemp("collector"), STORE)
    made.key("store_shop")
    with made.serve():
        yield made


@pytest.fixture
def tap(collector: Collector) -> Iterator[Tap]:
    with Tap(collector.port) as tap:
        yield tap


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return certificate(tmp_path_factory.mktemp("tls"))


Proxy = contextlib.AbstractContextManager[object]
Tls = tuple[Path, Path]


def in_nginx(folder: Path, port: int, to: dict[str, str], tls: Tls, before: str) -> Proxy:
    cert, key = map(str, tls)
    names = {"listen 443 ssl": f"listen 127.0.0.1:{port} ssl", "t.shop.example": "t.shop.test"}
    subdomain = recipe("nginx-subdomain", {**to, **names, "/etc/ssl/shop.pem": cert, "/etc/ssl/shop.key": key})
    cloudflare = recipe("nginx-cloudflare", {"173.245.48.0/20": before})
    shop = f"""server {{ listen 127.0.0.1:{port} ssl; server_name www.shop.test;
        ssl_certificate {cert}; ssl_certificate_key {key};
        {recipe("nginx-path", to)}
    }}"""
    return nginx(folder, f"{cloudflare}\n{shop}\n{subdomain}", port)


def in_caddy(folder: Path, port: int, to: dict[str, str], tls: Tls, before: str) -> Proxy:
    own = f" {{\n\tbind 127.0.0.1\n\ttls {tls[0]} {tls[1]}"
    snippet = {"reverse_proxy 127.0.0.1:8080": "import collector"}
    sites = [
        recipe("caddy-cloudflare", {**to, "173.245.48.0/20": before}),
        recipe("caddy-path", {**snippet, "shop.example {": f"https://www.shop.test:{port}{own}"}),
        recipe("caddy-subdomain", {**snippet, "t.shop.example {": f"https://t.shop.test:{port}{own}"}),
    ]
    return caddy(folder, "".join(sites), port)


def in_apache(folder: Path, port: int, to: dict[str, str], tls: Tls, before: str) -> Proxy:
    cert, key = map(str, tls)
    files = {"/etc/ssl/shop.pem": cert, "/etc/ssl/shop.key": key}
    names = {"*:443": f"*:{port}", "t.shop.example": "t.shop.test"}
    lines = [
        recipe("apache-cloudflare", {"173.245.48.0/20": before}),
        *(f"<VirtualHost *:{port}>", "ServerName www.shop.test", "SSLEngine on"),
        *(f"SSLCertificateFile {cert}", f"SSLCertificateKeyFile {key}", recipe("apache-path", to), "</VirtualHost>"),
        recipe("apache-subdomain", {**to, **files, **names}),
    ]
    return apache(folder, lines, port)


def in_traefik(folder: Path, port: int, to: dict[str, str], tls: Tls, before: str) -> Proxy:
    names = {"Host(`shop.example`)": "Host(`www.shop.test`)", "Host(`t.shop.example`)": "Host(`t.shop.test`)"}
    stores = f"tls:\n  certificates:\n    - certFile: {tls[0]}\n      keyFile: {tls[1]}\n"
    entry = recipe("traefik-cloudflare", {":443": f"127.0.0.1:{port}", "173.245.48.0/20": before})
    return traefik(folder, [recipe("traefik", {**to, **names}) + stores], port, entry)


SETUPS: dict[str, Callable[[Path, int, dict[str, str], Tls, str], Proxy]] = {
    "nginx": in_nginx,
    "caddy": in_caddy,
    "apache": in_apache,
    "traefik": in_traefik,
}


@pytest.fixture(params=SETUPS)
def proxy(request: pytest.FixtureRequest, tmp_path: Path, tap: Tap, tls: Tls) -> Iterator[tuple[str, int]]:
    """Each proxy with both recipes, path and subdomain; networks of Cloudflare where it knows them."""
    if binary_of(request.param) is None:
        pytest.skip(f"needs {BINARIES[request.param]}")
    port = free_port()
    tmp_path.chmod(0o755)
    to = {"127.0.0.1:8080": f"127.0.0.1:{tap.server_port}"}
    with SETUPS[request.param](tmp_path, port, to, tls, f"{CLOUDFLARE}/32"):
        wait_for_route(port)
        tap.heads.clear()
        yield request.param, port


def ask(
    port: int, host: str, method: str, path: str, body: bytes = b"", source: str = VISITOR, **headers: str
) -> tuple[int, http.client.HTTPMessage, bytes]:
    connection = http.client.HTTPSConnection(
        "127.0.0.1", port, timeout=60, source_address=(source, 0), context=_named(host)
    )
    given = {"Host": host, "User-Agent": PERSON, **{name.replace("_", "-"): value for name, value in headers.items()}}
    connection.request(method, path, body or None, given)
    answer = connection.getresponse()
    text = answer.read()
    connection.close()
    return answer.status, answer.headers, text


def _named(host: str):  # type: ignore[no-untyped-def]
    """TLS that asks for the host's name: http.client would ask for the address."""
    context = client_context()
    wrap = context.wrap_socket
    context.wrap_socket = lambda sock, **_: wrap(sock, server_hostname=host)  # type: ignore[assignment, method-assign]
    return context


def caller(head: http.client.HTTPMessage) -> str:
    """Who the edge says it is: the tap stands where the edge would."""
    return client_address("127.0.0.1", head.get_all("X-Forwarded-For") or [], OF_EDGE, head["X-Real-IP"])


PLACES = {"path": ("www.shop.test", "/m"), "subdomain": ("t.shop.test", "")}


def test_a_visit_comes_through_every_proxy(proxy: tuple[str, int], tap: Tap, collector: Collector) -> None:
    _, port = proxy
    for host, prefix in PLACES.values():
        click = FBCLID[:-8] + secrets.token_hex(4)
        page = f"https://www.shop.test/?fbclid={click}"
        status, headers, body = ask(port, host, "GET", f"{prefix}/c.gif?s=store_shop", Referer=page)
        assert (status, body[:3]) == (200, b"GIF")
        head = tap.heads[-1]
        assert head["Host"].split(":")[0] == host
        assert caller(head) == VISITOR
        cookies = {line.split("=")[0]: line for line in headers.get_all("Set-Cookie") or []}
        assert {"_cv", "_fbc", "_fbp"} <= set(cookies)
        assert all("domain=shop.test" in line.lower() and "secure" in line.lower() for line in cookies.values())
        assert any(stored.fbclid == click for stored in collector.clicks())
        status, _, script = ask(port, host, "GET", f"{prefix}/c.js")
        assert (status, b"currentScript" in script) == (200, True)


def test_what_a_stranger_writes_is_not_believed(proxy: tuple[str, int], tap: Tap) -> None:
    _, port = proxy
    forged = {"X_Forwarded_For": "8.8.4.4", "X_Real_IP": "8.8.4.4", "CF_Connecting_IP": "8.8.4.4"}
    for host, prefix in PLACES.values():
        ask(port, host, "GET", f"{prefix}/c.gif?s=store_shop", source=STRANGER, **forged)
        assert caller(tap.heads[-1]) == STRANGER
    assert client_address("127.0.0.1", ["8.8.4.4"], OF_EDGE) == "8.8.4.4", "control: passed on as it is, it is believed"


def test_the_visitor_behind_cloudflare(proxy: tuple[str, int], tap: Tap) -> None:
    """Cloudflare sends both headers; the edge trusts its networks too, where the proxy adds to what it was sent."""
    server, port = proxy
    trusted = parse_networks(["127.0.0.1/32", f"{CLOUDFLARE}/32"]) if server == "traefik" else OF_EDGE
    for address, before in (("8.8.4.4", ""), ("2606:4700::1111", ""), ("8.8.4.4", "9.9.9.9, "), ("8.8.4.4", "x, ")):
        # What the visitor has written himself stands before what Cloudflare adds.
        sent = {"CF_Connecting_IP": address, "X_Forwarded_For": before + address}
        for host, prefix in PLACES.values():
            ask(port, host, "GET", f"{prefix}/c.gif?s=store_shop", source=CLOUDFLARE, **sent)
            forwarded = tap.heads[-1].get_all("X-Forwarded-For") or []
            assert client_address("127.0.0.1", forwarded, trusted) == address


@pytest.mark.parametrize(("size", "taken"), [(900_000, True), (1_040_000, True), (1_100_000, False)])
def test_bodies_up_to_the_edges_own_limit_pass(
    proxy: tuple[str, int], collector: Collector, size: int, taken: bool
) -> None:
    _, port = proxy
    item = {"type": "event", "storeId": "store_shop", "eventType": "Lead", "eventId": "x", "customData": {"a": ""}}
    lines = [
        json.dumps({**item, "eventId": secrets.token_hex(8), "customData": {"content_name": "a" * 2000}})
        for _ in range(size // 2200)
    ]
    body = ("[" + ",".join(lines)).encode()
    body += b" " * (size - len(body) - 1) + b"]"
    for host, prefix in PLACES.values():
        headers = {"Authorization": f"Bearer {collector.key('store_shop')}", "Content_Type": "application/json"}
        status, _, answer = ask(port, host, "POST", f"{prefix}/v1/track/batch", body, **headers)
        assert status == (200 if taken else 413), answer[:200]
