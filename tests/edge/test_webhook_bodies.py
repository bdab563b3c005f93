# ruff: noqa: E501 (a program's patch is one line)
"""R6 and R13 on a real edge with its keeper: what becomes of bodies that are large, or too large."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import Struct

from collector.config_loader import shops
from collector.core.shops import paths
from tests.edge.test_webhooks import SHOP_STORE, rows, send, some_id, told
from tests.kit import shops as made
from tests.kit.edge_process import Edge, running
from tests.kit.raw_http import Answer, eventually, exchange
from tests.kit.shops import STORE, Message

WATCHED = """
import json, sys, threading
from collector.core.shops import order
true = order.read
def read(*given):
    print(json.dumps({"aside": threading.current_thread() is not threading.main_thread()}), file=sys.stderr, flush=True)
    return true(*given)
order.read = read
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bodies")


@pytest.fixture(scope="module")
def edge(folder: Path) -> Iterator[Edge]:
    with running(folder, WATCHED, stores=[STORE]) as edge:
        yield edge


def test_R6_a_body_of_megabytes_is_taken_and_one_over_the_limit_is_413(edge: Edge) -> None:
    large = made.shopify(id=some_id(), admin_graphql_api_id=None, note="x" * 3_000_000)
    assert "conversionId" in told(send(edge, large))
    assert send(edge, made.shopify(note="x" * 4_194_304)).status == 413


def chunked(edge: Edge, message: Message, at_once: int) -> Answer:
    """The message as a sender posts it that does not know its length."""
    lines = [f"POST /v1/webhooks/{message.name}/{SHOP_STORE} HTTP/1.1", "Host: t", "Transfer-Encoding: chunked"]
    lines += [f"{name}: {value}" for name, value in message.headers.items()]
    pieces = [message.body[n : n + at_once] for n in range(0, len(message.body), at_once)]
    body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return exchange(
        edge.port, "\r\n".join(lines).encode() + b"\r\nConnection: close\r\n\r\n" + body + b"0\r\n\r\n", 20.0
    )


def too_large(folder: Path) -> int:
    """How many orders the store is known to have lost for their size."""
    return int(rows(folder, "SELECT coalesce(sum(n), 0) FROM counter WHERE name = 'shop.too_large'")[0][0])


OVER = made.shopify(note="x" * 4_194_304)


def test_R6_an_order_that_is_too_large_is_told_whether_its_length_was_or_not(edge: Edge) -> None:
    said = edge.log.read_text().count("is larger than")
    answers = [send(edge, OVER), chunked(edge, OVER, 1_000)]
    assert [(a.status, a.body["error"]["code"]) for a in answers] == [(413, "payload_too_large")] * 2
    assert edge.log.read_text().count("is larger than") == said + 2


@pytest.mark.slow
def test_R6_the_store_knows_that_an_order_was_too_large(edge: Edge, folder: Path) -> None:
    before = too_large(folder)
    assert chunked(edge, OVER, 65_536).status == 413
    assert eventually(lambda: too_large(folder) > before, 60)


@pytest.mark.slow
def test_R6_control_a_guard_that_refuses_before_the_application_leaves_no_trace(tmp_path: Path) -> None:
    first = "import collector.guard.protocol as p; G = p.GuardedProtocol; T = G.on_body; G.on_body = lambda s, b: T(s, b) if s.body + len(b) <= 4_194_304 else s._fail(p.refusals.BODY_TOO_LARGE)"
    with running(tmp_path, first, stores=[STORE]) as edge, pytest.raises(AssertionError, match="larger"):
        test_R6_an_order_that_is_too_large_is_told_whether_its_length_was_or_not(edge)


def aside(edge: Edge, message: Message) -> bool:
    """Whether it was read beside the loop, which serves the others meanwhile."""
    assert "conversionId" in told(send(edge, message))
    (*_, last) = [line for line in edge.log.read_text().splitlines() if '"aside"' in line]
    return bool(json.loads(last)["aside"])


def test_R13_a_body_of_more_than_256_KiB_is_decoded_aside(edge: Edge) -> None:
    small, large = (made.shopify(id=some_id(), admin_graphql_api_id=None, note="x" * n) for n in (4_000, 300_000))
    assert not aside(edge, small)
    assert aside(edge, large)


@pytest.mark.slow
def test_R13_control_where_all_is_decoded_on_the_loop(tmp_path: Path) -> None:
    never = "import collector.edge.webhooks as w; w._ASIDE_BYTES = 1 << 40\n"
    with running(tmp_path, never + WATCHED, stores=[STORE]) as edge, pytest.raises(AssertionError, match="aside"):
        test_R13_a_body_of_more_than_256_KiB_is_decoded_aside(edge)


@pytest.mark.parametrize("name", ["shopify", "woocommerce", "stripe", "paddle"])
def test_R13_what_a_body_says_is_decoded_typed_and_into_no_dict(name: str) -> None:
    """2.3 MB took 25-38 ms so, and 185-280 ms as dicts."""
    platform, body = shops.hooks(STORE)[name].platform, getattr(made, name)().body
    assert dicts(paths.tree(body, platform.shape)) == 0
    assert dicts(msgspec.json.decode(body)) > 3  # the control


def dicts(node: Any) -> int:
    """How many there are in it."""
    if isinstance(node, Struct):
        return sum(dicts(getattr(node, name)) for name in node.__struct_fields__)
    if isinstance(node, Mapping):
        return 1 + sum(dicts(one) for one in node.values())
    return sum(dicts(one) for one in node) if isinstance(node, list) else 0
