"""What the browser tests stand on: certificates, free ports, nginx, Caddy, Chromium, and the collector as a process."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import sqlite3
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from collector.core.events import StoredClick, StoredEvent
from collector.process import hardening
from tests.kit.program import PROGRAM, free_port

PERSON = (
    "Mozilla/5.0 (Linux; Android 14; SM-S921B) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.6478.71 "
    "Mobile Safari/537.36"
)
FBCLID = "IwAR2" + "aB3_-x9Kq" * 6  # 59 characters, does not decode: as real legacy ones
CHROMIUM_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--remote-debugging-pipe",  # Chromium ends with its driver, however that ends
    "--ignore-certificate-errors",
    "--host-resolver-rules=MAP *.test 127.0.0.1, EXCLUDE localhost",
)


def wait_for(port: int, process: subprocess.Popen[bytes] | None = None, seconds: float = 20) -> None:
    """Return once something listens on the port."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.5):
            return
        if process is not None and process.poll() is not None:
            raise RuntimeError(f"{process.args!r} ended with {process.returncode}")
        time.sleep(0.05)
    raise TimeoutError(f"nothing listens on {port}")


@contextlib.contextmanager
def running(command: list[str], port: int, log: Path, **more: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A process that serves a port, ended by its id."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=subprocess.STDOUT, preexec_fn=hardening.die_with_parent, **more
        )
        try:
            try:
                wait_for(port, process)
            except (RuntimeError, TimeoutError) as error:
                raise RuntimeError(f"{error}\n{log.read_text()[-3000:]}") from error
            yield process
        finally:
            process.terminate()
            try:
                process.wait(12)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def certificate(folder: Path) -> tuple[Path, Path]:
    """A self-made certificate for the test's host names."""
    cert, key = folder / "cert.pem", folder / "key.pem"
    names = "DNS:*.test,DNS:*.shop.test,DNS:shop.test,DNS:*.boutique.co.test"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-days", "2", "-subj", "/CN=shop.test", "-addext", f"subjectAltName={names}"),
            *("-keyout", str(key), "-out", str(cert)),
        ],
        check=True,
        capture_output=True,
    )
    return cert, key


def nginx(folder: Path, servers: str, port: int) -> contextlib.AbstractContextManager[subprocess.Popen[bytes]]:
    """nginx with the given server blocks."""
    conf = folder / "nginx.conf"
    temp = "\n".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    user = "user root; " if os.getuid() == 0 else ""  # its worker would not reach the test's folder
    conf.write_text(
        f"{user}daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log; worker_processes 1;\n"
        f"events {{ worker_connections 512; }}\nhttp {{ access_log off; {temp}\n{servers}\n}}\n"
    )
    return running([binary_of("nginx") or "nginx", "-c", str(conf), "-p", str(folder)], port, folder / "nginx.out")


def caddy(folder: Path, sites: str, port: int) -> contextlib.AbstractContextManager[subprocess.Popen[bytes]]:
    """Caddy with the given sites."""
    conf = folder / "Caddyfile"
    conf.write_text("{\n\tadmin off\n\tauto_https off\n}\n" + sites)
    env = {**os.environ, "HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    return running(["caddy", "run", "--config", str(conf)], port, folder / "caddy.out", env=env)


BINARIES = {"nginx": "nginx", "caddy": "caddy", "apache": "apache2", "traefik": "traefik"}
APACHE_MODULES = "mpm_event authz_core proxy proxy_http headers remoteip ssl"


def binary_of(proxy: str) -> str | None:
    """Where a proxy's program is: Debian's of servers are in sbin, Traefik comes by pip."""
    path = f"{os.environ['PATH']}:/usr/sbin:{Path(sys.executable).parent}"
    return shutil.which(BINARIES[proxy], path=path)


def apache(folder: Path, lines: list[str], port: int) -> contextlib.AbstractContextManager[subprocess.Popen[bytes]]:
    """Apache with the given lines of configuration."""
    conf = folder / "apache2.conf"
    head = [
        *(f"LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so" for name in APACHE_MODULES.split()),
        *(f"PidFile {folder}/pid", f"ErrorLog {folder}/error.log", f"Listen 127.0.0.1:{port}"),
        *("User nobody", "Group nogroup", "ServerName shop.test", "SSLSessionCache none"),
    ]
    conf.write_text("\n".join([*head, *lines]))
    return running([binary_of("apache") or "apache2", "-DFOREGROUND", "-f", str(conf)], port, folder / "apache.out")


@contextlib.contextmanager
def traefik(folder: Path, dynamic: list[str], port: int, entry: str | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """Traefik with the given files of its file provider, and what its own file says of its entry point.

    It listens before it has read the former, and is waited for.
    """
    routes = folder / "routes"
    routes.mkdir()
    for number, text in enumerate(dynamic):
        (routes / f"{number}.yml").write_text(text)
    entry = entry or f'entryPoints: {{websecure: {{address: "127.0.0.1:{port}"}}}}\n'
    others = (
        f"providers: {{file: {{directory: {routes}}}}}\nglobal: {{checkNewVersion: false, sendAnonymousUsage: false}}\n"
    )
    own = folder / "traefik.yml"
    own.write_text(entry + others)
    command = [binary_of("traefik") or "traefik", f"--configFile={own}"]
    with running(command, port, folder / "traefik.out") as process:
        wait_for_route(port)
        yield process


def wait_for_route(port: int, host: str = "t.shop.test", seconds: float = 60) -> None:
    """Return once the collector answers behind a proxy, whose certificate is asked for by the host's name (Caddy)."""
    request = f"GET /healthz HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", port), 5) as plain,
            client_context().wrap_socket(plain, server_hostname=host) as tls,
        ):
            tls.sendall(request)
            if tls.recv(64).startswith(b"HTTP/1.1 200 "):
                return
        time.sleep(0.1)
    raise TimeoutError(f"nothing behind {port} answers")


class Collector:
    """The collector as its users run it: `collector serve`, asked through its own API."""

    def __init__(self, folder: Path, toml: str) -> None:
        self.folder = folder
        self.port = free_port()
        self.console_port = free_port()
        self.config = folder / "collector.toml"
        self.config.write_text(
            f'[edge]\nlisten = "127.0.0.1:{self.port}"\ntrusted_proxies = ["127.0.0.1/32"]\n'
            f'[console]\nlisten = "127.0.0.1:{self.console_port}"\n'
            f'[storage]\ndata_dir = "{folder}/data"\n[meta]\nmode = "dry_run"\n{toml}'
        )
        self.keys: dict[tuple[str, str], str] = {}

    @contextlib.contextmanager
    def serve(self) -> Iterator[Collector]:
        command = [*PROGRAM, "serve", "--config", str(self.config)]
        with running(command, self.port, self.folder / "collector.log"):
            yield self

    def key(self, store: str, kind: str = "secret") -> str:
        """A key of the store, made by the command."""
        if (store, kind) not in self.keys:
            command = [*PROGRAM, "keys", "create", "--config", str(self.config)]
            command += ["--store", store, "--kind", kind, "--json"]
            made = subprocess.run(command, check=True, capture_output=True)
            self.keys[store, kind] = json.loads(made.stdout)["key"]
        return self.keys[store, kind]

    def call(self, path: str, body: Mapping[str, Any] | None = None, store: str = "store_shop") -> dict[str, Any]:
        """One API call with the store's secret key; the whole answer."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}",
            data=json.dumps(body).encode() if body is not None else None,
            headers={"Authorization": f"Bearer {self.key(store)}", "Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return dict(json.load(answer))
        except urllib.error.HTTPError as error:
            return dict(json.load(error))

    def events(self, event_type: str | None = None) -> list[StoredEvent]:
        """Every stored conversion and funnel event, read beside the running process."""
        with contextlib.closing(sqlite3.connect(f"file:{self.folder}/data/collector.db?mode=ro", uri=True)) as db:
            rows = [
                msgspec.msgpack.decode(body, type=StoredEvent) for (body,) in db.execute("SELECT body FROM conversion")
            ]
        return [row for row in rows if event_type in (None, row.event_type)]

    def clicks(self) -> list[StoredClick]:
        """Every stored click."""
        with contextlib.closing(sqlite3.connect(f"file:{self.folder}/data/collector.db?mode=ro", uri=True)) as db:
            return [msgspec.msgpack.decode(body, type=StoredClick) for (body,) in db.execute("SELECT body FROM click")]


def client_context() -> ssl.SSLContext:
    """TLS without a check of the self-made certificate."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
