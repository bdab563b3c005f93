# ruff: noqa: E501 (a program's patch is one line)
"""The controls of the webhooks' rules: with one switched off in a real edge and its keeper, the rule's own test fails."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.edge import test_webhooks as rules
from tests.kit import shops as made
from tests.kit.edge_process import CLOSED, Edge, running
from tests.kit.shops import STORE

NAMES = "from collector.storage.journal.shop_orders import OrderNames as N; "
OFF: dict[str, tuple[str, Callable[[Edge, Path], Any]]] = {
    "R1, answered and not stored": (
        "from collector.storage.verbs.conversions import Conversions as C; C._append = lambda *a: None",
        lambda edge, _: rules.test_R1_a_signed_order_is_a_queued_purchase(edge),
    ),
    "R1, as it is written": (
        "from collector.core.shops import paths as p; p._mended = lambda body: body",
        lambda edge, _: rules.test_R1_however_it_is_written_it_is_the_order(edge, "bom"),
    ),
    "S1, S2, the topic as the header has it": (
        "import msgspec as m; from collector.core.shops import order as o; O = o._outcome; o._outcome = lambda p, *a: O(m.structs.replace(p, bare={}), *a)",
        lambda edge, folder: rules.test_S1_S2_an_order_played_again_under_another_topic_does_nothing(
            edge, folder, "customers/redact"
        ),
    ),
    "R2, known deliveries forgotten": (
        "from collector.storage.journal.shop_orders import Deliveries as D; D.known = lambda *a: None",
        rules.test_R2_D1_the_same_delivery_again_changes_nothing,
    ),
    "D1, by the sender's id alone": (
        "import collector.edge.webhooks as w; R = w.sha256; w.sha256 = lambda b: R(b if b.startswith(b'store_') else b'')",
        lambda edge, _: rules.test_10_3_D1_two_orders_of_one_second_share_their_delivery_id(edge),
    ),
    "R3, the reason in the tracking API's word": (
        "import collector.edge.webhooks as w; w._REASONS = {}",
        lambda edge, folder: rules.test_R3_what_is_of_no_use_is_200_with_its_reason(
            edge, folder, made.shopify(currency="XYZ"), "bad_currency"
        ),
    ),
    "R3, what is no object is read all the same": (
        "from collector.core.shops import paths as p; p.tree = lambda *a: 1",
        lambda edge, _: rules.test_R3_what_is_no_object_is_not_json(edge, b"[]"),
    ),
    "R4, whatever the signature": (
        "import collector.core.shops.signature as s; s.is_signed = lambda *a: True",
        lambda edge, _: rules.test_R4_what_does_not_verify_is_401_with_its_reason(edge),
    ),
    "R5, every store is this one": (
        "import collector.edge.webhooks as w; O = w.Webhooks._of; w.Webhooks._of = lambda s, name, store: O(s, name, 'store_abc123')",
        lambda edge, _: rules.test_R5_an_unknown_name_or_store(edge),
    ),
    "R7, the coding is not looked at": (
        "import collector.edge.door as d; B = d.Door._body; d.Door._body = lambda s, r, v: (r.headers.pop(b'content-encoding', 0), B(s, r, v))[1]",
        lambda edge, _: rules.test_R7_a_coding_and_a_wrong_method(edge),
    ),
    "R8, kept or not": (
        f"{rules.FULL}; from collector.storage.journal import shops as j; j.Shops.take = j.Shops._order",
        rules.refused_by_a_full_disk,
    ),
    "R8, nobody says when to try again": (
        f"{rules.FULL}; import collector.exchange.responses as r; E = r.error_answer; r.error_answer = lambda *a: (lambda x: r.Answer(x.status, x.body, []))(E(*a))",
        rules.refused_by_a_full_disk,
    ),
    "R9, no ping": (
        "import collector.edge.webhooks as w; w._is_ping = lambda *a: False",
        rules.test_R9_woocommerces_ping_is_200_and_stores_nothing,
    ),
    "R9, every form is a ping": (
        "import collector.edge.webhooks as w; w._is_ping = w._may_be_ping",
        lambda edge, _: rules.test_R9_nothing_else_is_a_ping(edge, b"webhook_id=5&a=b"),
    ),
    "R9, of every platform": (
        "import collector.edge.webhooks as w; w._may_be_ping = w._is_ping = lambda *a: True",
        lambda edge, _: rules.test_R9_a_ping_is_woocommerces_and_a_form(edge),
    ),
    "R10, HTTP/1.1 alone": (
        "import collector.guard.protocol as p; F = p.fault_in; p.fault_in = lambda v, *a: p.refusals.BAD_REQUEST if v == '1.0' else F(v, *a)",
        lambda edge, _: rules.test_R10_HTTP_1_0(edge),
    ),
    "R11, the head is not looked at": (
        "import collector.edge.webhooks as w; w.Webhooks.admit = lambda *a: None",
        lambda edge, _: rules.test_R11_a_head_that_cannot_verify_is_refused_before_its_body(edge),
    ),
    "R11, read and then compared": (
        f"{rules.CRASH}; import collector.core.shops.signature as s; V = s.is_signed; s.is_signed = lambda *a: (o.read(), V(*a))[1]",
        lambda edge, _: rules.unread_unless_signed(edge),
    ),
    "R12, as many refusals as one likes": (
        "import collector.edge.webhooks as w; w._REFUSALS_A_MINUTE = 1_000_000",
        lambda edge, _: rules.guesses(edge),
    ),
    "R12, what verifies is charged too": (
        "import collector.edge.webhooks as w; w.signature.is_signed = lambda *a: False",
        lambda edge, _: rules.guesses(edge),
    ),
    "R14, a reader that logs what it reads": (
        "import sys; from collector.core.shops import order as o; R = o.read; o.read = lambda *a: (print(a[4][:9_000], file=sys.stderr, flush=True), R(*a))[1]",
        lambda edge, _: rules.test_R14_neither_secret_nor_body_nor_person_is_in_the_log(edge),
    ),
    "O8, no other names": (
        f"{NAMES}N.order = lambda *a, **b: None",
        lambda edge, _: rules.test_O8_an_order_has_one_conversion_under_all_its_names(edge, "gid", True),
    ),
    "O8, a number is enough": (
        "import collector.storage.verbs.order_names as o; o.is_same_sale = lambda *a: True",
        lambda edge, folder: rules.test_O8_a_number_alone_does_not_make_two_sales_one(
            edge, folder, {"eventValue": 117.9}, True
        ),
    ),
    "O8, its own shop's too": (
        f"{NAMES}N._has_told = lambda *a: False",
        lambda edge, _: rules.test_O8_two_orders_of_one_shop_stay_two_whatever_their_numbers_say(edge),
    ),
    "O9, a deletion ends nothing": (
        "from collector.core import statuses as s; s.has_ended = lambda *a: False",
        lambda edge, _: rules.test_O9_a_deleted_order_is_a_cancelled_one(edge),
    ),
    "C8, nothing is the first": (
        "import collector.edge.webhooks as w; w.Webhooks._seen = lambda *a: None",
        lambda edge, _: rules.firsts(edge),
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", OFF)
def test_with_its_rule_off_in_the_running_edge_its_test_fails(tmp_path: Path, name: str) -> None:
    patch, check = OFF[name]
    with (
        running(tmp_path, patch, stores=[STORE, CLOSED, STORE.__class__(id="store_bare")]) as edge,
        pytest.raises((AssertionError, KeyError)),
    ):
        check(edge, tmp_path)
