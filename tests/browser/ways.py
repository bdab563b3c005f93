"""The shop's pages, and the collector as path and as subdomain, by each proxy that has a recipe in edge/README.md."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from subprocess import Popen

from tests.browser import ground
from tests.kit.recipes import recipe

SITES = ("shop.test", "pending.test", "pixel.test")
Proxy = AbstractContextManager[Popen[bytes]]


def nginx(folder: Path, port: int, collector: int, shop: int) -> Proxy:
    cert, key = ground.certificate(folder)
    inner = {"127.0.0.1:8080": f"127.0.0.1:{collector}"}
    subdomain = recipe(
        "nginx-subdomain",
        {**inner, "listen 443 ssl": f"listen 127.0.0.1:{port} ssl", "t.shop.example": "~^t\\."}
        | {"/etc/ssl/shop.pem": str(cert), "/etc/ssl/shop.key": str(key)},
    )
    shops = f"""server {{ listen 127.0.0.1:{port} ssl default_server; server_name _;
        ssl_certificate {cert}; ssl_certificate_key {key};
        {recipe("nginx-path", inner)}
        location / {{ proxy_pass http://127.0.0.1:{shop}; }} }}"""
    return ground.nginx(folder, shops + subdomain, port)


def caddy(folder: Path, port: int, collector: int, shop: int) -> Proxy:
    cert, key = ground.certificate(folder)
    inner = {"127.0.0.1:8080": f"127.0.0.1:{collector}"}
    tls = f" {{\n\tbind 127.0.0.1\n\ttls {cert} {key}"
    sites = ""
    for site in SITES:
        own = {"shop.example {": f"https://www.{site}:{port}{tls}", "127.0.0.1:3000": f"127.0.0.1:{shop}"}
        sites += recipe("caddy-path", {**inner, **own})
        sites += recipe("caddy-subdomain", {**inner, "t.shop.example {": f"https://t.{site}:{port}{tls}"})
    return ground.caddy(folder, sites, port)


def apache(folder: Path, port: int, collector: int, shop: int) -> Proxy:
    cert, key = map(str, ground.certificate(folder))
    inner = {"127.0.0.1:8080": f"127.0.0.1:{collector}"}
    files = {"/etc/ssl/shop.pem": cert, "/etc/ssl/shop.key": key}
    names = {"*:443": f"*:{port}", "t.shop.example": "t.shop.test\n    ServerAlias t.*"}
    lines = [
        *(f"<VirtualHost *:{port}>", "ServerName www.shop.test", "ServerAlias www.*", "SSLEngine on"),
        *(f"SSLCertificateFile {cert}", f"SSLCertificateKeyFile {key}", recipe("apache-path", inner)),
        *(f'ProxyPass "/" "http://127.0.0.1:{shop}/"', "</VirtualHost>"),
        recipe("apache-subdomain", {**inner, **files, **names}),
    ]
    return ground.apache(folder, lines, port)


def traefik(folder: Path, port: int, collector: int, shop: int) -> Proxy:
    inner = {"127.0.0.1:8080": f"127.0.0.1:{collector}"}
    names = {
        "Host(`shop.example`)": "HostRegexp(`^www\\..+$`)",
        "Host(`t.shop.example`)": "HostRegexp(`^t\\..+$`)",
    }
    pages = f"""http:
  routers: {{pages: {{rule: HostRegexp(`^www\\..+$`), entryPoints: [websecure], service: pages, tls: {{}}}}}}
  services: {{pages: {{loadBalancer: {{servers: [{{url: "http://127.0.0.1:{shop}"}}]}}}}}}
"""
    return ground.traefik(folder, [recipe("traefik", {**inner, **names}), pages], port)


PROXIES: dict[str, Callable[[Path, int, int, int], Proxy]] = {
    "nginx": nginx,
    "caddy": caddy,
    "apache": apache,
    "traefik": traefik,
}
WAYS = [f"{proxy}-{kind}" for proxy in PROXIES for kind in ("path", "subdomain")]
