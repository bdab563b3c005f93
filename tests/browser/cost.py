"""What the tag costs a page beside Plausible's and Umami's, measured here: python -m tests.browser.cost

Beside another minified one of ours, `python -m tests.browser.cost tests/browser/tag-0.2.0.min.js`: both in turn in one
Chromium, processor time of the main thread in scripts, the least of RUNS landings and the ratio.

Sizes are of the minified script under gzip -9; times are its own share of the main thread from landing until one
second after, by Chromium's sampling profiler (100 µs), the median of RUNS landings with an empty cache. Each posts to
an address on this machine that takes everything.
"""

from __future__ import annotations

import gzip
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

from collector.config import EdgeConfig, PrivacyConfig
from collector.edge.snippet import SOURCE, Snippet
from tests.browser.conftest import Browser, chromium
from tests.browser.test_minified import ASSETS, OPTIONS, TERSER

RUNS = 15
PACKAGES = [TERSER, "esbuild@0.28.2", "@plausible-analytics/tracker@0.4.6"]
OURS = ASSETS / SOURCE
UMAMI = "umami@2.10.0"  # the whole product; only its tracker's source is unpacked


class Tag(NamedTuple):
    """One way to count a page: the script, and the element that loads it."""

    name: str
    script: bytes
    element: str


def tags(folder: Path) -> list[Tag]:
    """Ours, and the others from their npm packages, minified alike."""
    subprocess.run(
        ["npm", "install", "--silent", "--no-save", "--prefix", str(folder), *PACKAGES], check=True, timeout=120
    )
    modules = folder / "node_modules"
    packed = subprocess.run(["npm", "pack", "--silent", UMAMI], check=True, capture_output=True, cwd=folder, text=True)
    subprocess.run(["tar", "xzf", packed.stdout.strip(), "package/src/tracker/index.js"], check=True, cwd=folder)
    umami = run(modules / ".bin/terser", folder / "package/src/tracker/index.js", "--module", *OPTIONS)
    entry = folder / "plausible.js"
    entry.write_text(
        "import {init} from '@plausible-analytics/tracker'; init({domain: 'x.test', endpoint: '/api/event'});"
    )
    bundled = run(modules / ".bin/esbuild", entry, "--bundle", "--minify", "--format=iife")
    ours = Snippet(EdgeConfig(), PrivacyConfig(), []).body
    return [
        Tag("collector", ours, '<script async src="/s.js" data-store="store_demo"></script>'),
        Tag("Plausible (npm 0.4.6)", bundled, '<script async src="/s.js"></script>'),
        Tag("Umami (npm 2.10.0)", umami, '<script async src="/s.js" data-website-id="1"></script>'),
    ]


def run(*command: object) -> bytes:
    return subprocess.run([str(word) for word in command], check=True, capture_output=True).stdout


def serve(tag: Tag) -> ThreadingHTTPServer:
    """A page with one tag, and an address that takes every post."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            page = f"<!doctype html><title>x</title><link rel=icon href=data:,>{tag.element}<p>words</p>"
            script = self.path.startswith("/s.js")
            self.answer(tag.script if script else page.encode(), "text/javascript" if script else "text/html")

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", "0")))
            self.answer(b"", "application/json", 204)  # as the edge answers; the others take any 2xx

        def answer(self, body: bytes, kind: str, status: int = 200) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def land(browser: Browser, port: int) -> float:
    """Milliseconds of the main thread that /s.js took on one landing."""
    browser.execute_cdp_cmd("Network.clearBrowserCache", {})
    browser.execute_cdp_cmd("Profiler.start", {})
    browser.get(f"http://www.shop.test:{port}/?fbclid=IwAR0abcdefgh&utm_source=fb")
    time.sleep(1)
    profile = browser.execute_cdp_cmd("Profiler.stop", {})["profile"]
    urls = {node["id"]: node["callFrame"]["url"] for node in profile["nodes"]}
    samples = zip(profile["samples"], profile["timeDeltas"], strict=True)
    return float(sum(micros for node, micros in samples if "/s.js" in urls[node])) / 1000


def of_ours(path: Path, more: str = "") -> Tag:
    """A minified tag of ours, of any release, with today's settings in it."""
    settings = b'{"b":"c","g":"c.gif","o":"honour","d":["granted","server-only"],"s":{}}'
    script = path.read_bytes().replace(b"__PIXEL__", b'"c.js?m"').replace(b"__SETTINGS__", settings) + more.encode()
    return Tag(path.name, script, '<script async src="/s.js" data-store="store_demo"></script>')


def script_millis(browser: Browser, port: int) -> float:
    """The main thread's processor time in scripts on one landing of somebody new."""
    origin = f"http://www.shop.test:{port}"
    browser.execute_cdp_cmd("Network.clearBrowserCache", {})
    browser.execute_cdp_cmd("Storage.clearDataForOrigin", {"origin": origin, "storageTypes": "all"})
    browser.get("about:blank")
    browser.execute_cdp_cmd("Performance.enable", {"timeDomain": "threadTicks"})
    browser.get(f"{origin}/?fbclid=IwAR0abcdefgh&utm_source=fb")
    time.sleep(1)
    metrics = browser.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
    browser.execute_cdp_cmd("Performance.disable", {})
    return 1000 * sum(float(metric["value"]) for metric in metrics if metric["name"] == "ScriptDuration")


def in_turn(browser: Browser, tags: Sequence[Tag], rounds: int) -> list[float]:
    """The least processor time of each tag over so many landings, one after the other: all have the same luck."""
    servers = [serve(tag) for tag in tags]
    try:
        times = [[script_millis(browser, server.server_address[1]) for server in servers] for _ in range(rounds)]
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()
    return [min(of_tag) for of_tag in zip(*times, strict=True)]


def beside(other: Path) -> None:
    """Print our tag's processor time, another's, and the ratio."""
    with tempfile.TemporaryDirectory() as name, chromium(Path(name)) as browser:
        theirs, ours = in_turn(browser, [of_ours(other), of_ours(OURS)], RUNS)
    print(f"{other.name} {theirs:.2f} ms, {OURS.name} {ours:.2f} ms: {ours / theirs:.2f} times")


def main() -> None:
    """Print one line for each tag."""
    if len(sys.argv) > 1:
        return beside(Path(sys.argv[1]))
    with tempfile.TemporaryDirectory() as name:
        for tag in tags(Path(name)):
            server = serve(tag)
            with chromium(Path(name) / tag.name) as browser:
                browser.execute_cdp_cmd("Profiler.enable", {})
                browser.execute_cdp_cmd("Profiler.setSamplingInterval", {"interval": 100})
                times = [land(browser, server.server_address[1]) for _ in range(RUNS)]
            server.shutdown()
            size = len(gzip.compress(tag.script, 9))
            spread = f"{min(times):.2f} to {max(times):.2f}"
            print(f"{tag.name:24} {size:6} bytes  {statistics.median(times):5.2f} ms ({spread})")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
