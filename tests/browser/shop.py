"""A small shop: pages with the tag, and a checkout that calls the collector with nothing but the cookie."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.cookies import SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


class Shop:
    """Serves what `pages` holds by path. Orders are posted to the collector's API as a storefront's server does."""

    def __init__(self, port: int, pages: dict[str, str]) -> None:
        self.port = port
        self.pages = pages
        self.headers: dict[str, str] = {}
        self.head = ""  # what the browser in use needs in every page
        self.posted: list[tuple[str, str]] = []
        self.order: Callable[[dict[str, Any]], dict[str, Any]] | None = None
        self.server = ThreadingHTTPServer(("127.0.0.1", port), _handler(self))
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)

    def __enter__(self) -> Shop:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


def _handler(shop: Shop) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = urlsplit(self.path)
            if path.path == "/buy" and shop.order is not None:
                self._answer(json.dumps(shop.order(self._order(parse_qs(path.query)))), "application/json")
            elif path.path in shop.pages:
                self._answer(
                    shop.pages[path.path].replace("<head>", "<head>" + shop.head, 1), "text/html; charset=utf-8"
                )
            else:
                self.send_error(404)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            shop.posted.append((urlsplit(self.path).path, body.decode()))
            self._answer("{}", "application/json")

        def _order(self, query: dict[str, list[str]]) -> dict[str, Any]:
            """An order, and of its buyer only the visitor cookie."""
            cookie = SimpleCookie(self.headers.get("Cookie", "")).get("_cv")
            order = {"orderId": query["order"][0], "eventType": "Purchase", "eventValue": 49.9, "currency": "EUR"}
            return {**order, "visitorId": cookie.value if cookie else None}

        def _answer(self, text: str, kind: str) -> None:
            body = text.encode()
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            for name, value in shop.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    return Handler
