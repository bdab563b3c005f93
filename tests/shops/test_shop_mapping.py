# ruff: noqa: E501 (cases are read as one line each)
"""M1–M5 and what each platform's order becomes: paths, converters, money, and bodies that are not what they should be."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.config import ShopConfig, StoreConfig, WebhookConfig
from collector.config_loader import for_role, load, shops
from collector.config_loader.show import rows
from collector.core.shops import compiling, money, order, paths
from collector.core.shops.order import Ignored, ShopOrder
from collector.core.shops.paths import Shape
from collector.errors import ConfigError
from tests.kit import shops as made
from tests.kit.shops import KIOSK, STORE, Message

HOOKS = shops.hooks(STORE)


def read(message: Message, shop: ShopConfig | None = None) -> ShopOrder | Ignored:
    hooks = (
        HOOKS if shop is None else shops.hooks(StoreConfig(id="s", webhook_secrets=STORE.webhook_secrets, shop=shop))
    )
    hook = hooks[message.name]
    headers = {name.lower(): value for name, value in message.headers.items()}
    return order.read(hook.platform, hook.terms, "store_abc123", headers, message.body).outcome


def body(message: Message, shop: ShopConfig | None = None) -> Any:
    found = read(message, shop)
    assert isinstance(found, ShopOrder), found
    return found.body


def at(path: str, value: Any) -> list[Any]:
    """What a path finds in a value."""
    parsed, shape = paths.parse(path), Shape()
    shape.add(parsed.steps)
    tree = paths.tree(value if isinstance(value, bytes) else json.dumps(value).encode(), shape)
    assert tree is not None
    return [paths.scalar(one) for one in paths.among(tree, shape.hops(parsed.steps), {}) if one is not None]


@pytest.mark.parametrize(
    ("path", "value", "found"),
    [
        ("a.b", {"a": {"b": "x"}}, ["x"]),
        ("a[0]", {"a": ["x", "y"]}, ["x"]),
        ("a[-1].b", {"a": [{"b": 1}, {"b": 2}]}, ["2"]),
        ("a[7]", {"a": [1]}, []),
        ("a[*].b", {"a": [{"b": 1}, 5, {"b": 2}, None]}, ["1", "2"]),
        ("a[key=_fbp].value", {"a": [{"key": "x", "value": 1}, {"key": "_fbp", "value": "v"}]}, ["v"]),
        ("a[key=7].value", {"a": [{"key": 7, "value": "seven"}]}, ["seven"]),
        ("a-b.c_d", {"a-b": {"c_d": True}}, [True]),
        ("a", {"a": 820982911946154508}, ["820982911946154508"]),
        ("a", b'{"a": 12345678901234567890123.10}', ["12345678901234567890123.10"]),
        ("a", b'{"a": "\\ud83d"}', ["\ufffd"]),
        ("a", b'{"a": "x\\u0000y"}', [None]),
        ("a.b", {"a": "text"}, []),
        ("a[0]", {"a": {"0": 1}}, []),
        ("a", {"a": {}}, [None]),
    ],
)
def test_M1_M3_paths_find_what_is_there_and_nothing_of_another_kind(path: str, value: Any, found: list[Any]) -> None:
    assert at(path, value) == found


@pytest.mark.parametrize("bad", ["", "a..b", "a[", "a[x]", "a.", "a[1", ".".join("abcdefghi"), "{a", "a]b"])
def test_M1_what_is_no_path_is_refused(bad: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        paths.parse(bad)


MONEY = [
    ("JPY", "4800", "4800"), ("KRW", "5", "5"), ("CLP", "100", "100"), ("XOF", "7", "7"), ("KWD", "1500", "1.500"),
    ("BHD", "1", "0.001"), ("EUR", "1", "0.01"), ("USD", "2900", "29.00"), ("HUF", "12345", "123.45"), ("TWD", "100", "1"),
    ("ISK", "1000", "10"), ("ISK", "1001", "1001"), ("UGX", "500", "5"), ("UGX", "550", "550"), ("usd", "5950", "59.50"),
]  # fmt: skip


@pytest.mark.parametrize(("currency", "units", "value"), MONEY)
def test_10_7_M5_minor_units(currency: str, units: str, value: str) -> None:
    found = money.from_minor(Decimal(units), currency)
    assert found == money.Amount(Decimal(value), odd=currency in ("ISK", "UGX") and int(units) % 100 > 0)


def test_10_7_M5_control_by_isos_table_isk_and_ugx_would_be_a_hundred_times_too_much(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(money, "_WHOLE", money._WHOLE | {"ISK", "UGX"})
    for currency, units, value in (("ISK", "1000", "10"), ("UGX", "500", "5")):
        with pytest.raises(AssertionError):
            test_10_7_M5_minor_units(currency, units, value)


@pytest.mark.parametrize("units", ["1.5", "NaN", "Infinity", "1e40"])
def test_M5_parts_of_a_unit_are_no_amount(units: str) -> None:
    assert money.from_minor(Decimal(units), "EUR") is None


def test_shopify_an_order_with_all_that_it_says() -> None:
    told = read(made.shopify())
    assert isinstance(told, ShopOrder)
    one = told.body
    assert (one.order_id, one.event_value, one.currency) == ("5120034455821", Decimal("118.90"), "EUR")
    assert (one.order_status, one.status_at) == ("paid", "2026-11-20T08:14:31.000Z")
    assert one.timestamp == "2026-11-20T08:14:07.000Z"
    assert (one.fbp, one.fbclid, one.ip_address) == (made.FBP, made.FBCLID, "203.0.113.57")
    assert (one.customer_data.first_name, one.customer_data.external_id) == ("Ада", "778899")
    assert [(p.product_id, p.quantity) for p in one.products] == [
        ("4411", 1)
    ]  # no gift card, nothing of which 0 is left
    assert told.names == ("gid://shopify/Order/5120034455821",)
    assert told.numbers == ("1017", "#1017")
    assert one.consent is None


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"financial_status": "pending"}, "pending"),
        ({"financial_status": "partially_paid"}, "pending"),
        ({"financial_status": "authorized"}, "authorized"),
        ({"financial_status": "partially_refunded"}, "partially_refunded"),
        ({"financial_status": "refunded"}, "refunded"),
        ({"financial_status": "voided"}, "voided"),
        ({"financial_status": "expired"}, "failed"),
        ({"cancelled_at": "2026-11-21T09:00:00+01:00"}, "cancelled"),
        ({"fulfillment_status": "fulfilled"}, "paid"),
    ],
)
def test_shopify_states(changes: dict[str, Any], status: str) -> None:
    assert body(made.shopify(**changes)).order_status == status


@pytest.mark.parametrize(
    ("shop", "changes", "expected"),
    [
        (ShopConfig(order_key="name"), {}, {"order_id": "#1017"}),
        (ShopConfig(order_key="order_number"), {}, {"order_id": "1017"}),
        (ShopConfig(value="goods"), {}, {"event_value": Decimal("94.97")}),
        (ShopConfig(value="goods"), {"taxes_included": False}, {"event_value": Decimal("113.95")}),
        (
            ShopConfig(money="presentment"),
            {"current_total_price_set": {"presentment_money": {"amount": "99.20", "currency_code": "GBP"}}},
            {"event_value": Decimal("99.20"), "currency": "GBP"},
        ),
        (ShopConfig(channels={"pos": "offline"}), {"source_name": "pos"}, {"action_source": "physical_store"}),
        (ShopConfig(channels={"pos": "send"}), {"source_name": "pos"}, {"action_source": None}),
    ],
)
def test_the_store_says_how_its_orders_are_read(shop: ShopConfig, changes: Any, expected: dict[str, Any]) -> None:
    found = body(made.shopify(**changes), shop)
    assert {name: getattr(found, name) for name in expected} == expected


def test_content_ids_by_a_pattern() -> None:
    found = body(made.shopify(), ShopConfig(content_id="shopify_DE_{product_id}_{variant_id}"))
    assert [p.product_id for p in found.products] == ["shopify_DE_83_4411"]


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (made.shopify("orders/edited"), "no_order"),
        (made.shopify("refunds/create"), "no_order"),
        (made.shopify("themes/publish"), "unknown_topic"),
        (made.shopify(source_name="pos"), "channel_pos"),
        (made.shopify(source_name="shopify_draft_order"), "channel_shopify_draft_order"),
        (made.shopify(id=None, admin_graphql_api_id=None), "no_order"),
        (made.shopify(current_total_price=None, total_price=None), "no_value"),
        (made.shopify(current_total_price="NaN", total_price={}), "no_value"),
        (made.shopify()._replace(body=b"[1]"), "not_json"),
        (made.shopify()._replace(body=b'{"id": 1'), "not_json"),
        (made.shopify()._replace(body=b""), "not_json"),
        (made.shopify()._replace(body=b"\xff\xfe"), "not_json"),
        (made.shopify()._replace(body=b'{"id":' * 100_000), "not_json"),
        (made.woocommerce(status="checkout-draft"), "draft"),
        (made.woocommerce(status="auto-draft"), "draft"),
        (made.stripe(mode="setup"), "channel_setup"),
        (made.stripe("payment_intent.succeeded"), "unknown_topic"),
        (made.stripe("invoice.paid", amount_total=None, amount_paid=0, billing_reason="manual", mode=None), "no_value"),
    ],
)
def test_R3_what_is_of_no_use_has_a_reason(message: Message, reason: str) -> None:
    told = read(message)
    assert isinstance(told, Ignored)
    assert told.reason == reason


def test_R3_S9_the_admins_test_button_and_another_shop() -> None:
    tried = made.shopify()
    assert read(tried._replace(headers=tried.headers | {"X-Shopify-Test": "true"})) == Ignored("test_notification")
    own = ShopConfig(shop="mine.myshopify.com")
    assert read(tried, own) == Ignored("other_shop")
    of_mine = tried._replace(headers=tried.headers | {"X-Shopify-Shop-Domain": "Mine.myshopify.com"})
    assert isinstance(read(of_mine, own), ShopOrder)
    assert isinstance(read(made.woocommerce(), own), ShopOrder)  # S9 is Shopify's alone


def test_woocommerce_an_order_with_all_that_it_says() -> None:
    told = read(made.woocommerce())
    assert isinstance(told, ShopOrder)
    one = told.body
    assert (one.order_id, one.event_value, one.currency) == ("31877", Decimal("248.70"), "PLN")
    assert (one.order_status, one.status_at) == ("paid", "2026-11-21T17:06:02.000Z")
    assert (one.fbp, one.fbclid, one.visitor_id) == (made.FBP, made.FBCLID, "v_2f6c1a0be94d4c55")
    assert [(p.product_id, p.name) for p in one.products] == [("K_7", "A & B"), ("wc_post_id_6", "Bag")]
    assert one.customer_data.external_id is None
    assert told.numbers == ("10452", "#10452")


@pytest.mark.parametrize(
    ("changes", "status", "value"),
    [
        ({"status": "processing", "date_paid_gmt": None}, "pending", "248.70"),
        ({"status": "on-hold"}, "pending", "248.70"),
        ({"status": "completed", "date_paid_gmt": None}, "paid", "248.70"),
        ({"status": "in-the-oven"}, "paid", "248.70"),
        ({"status": "in-the-oven", "date_paid_gmt": None}, "pending", "248.70"),
        ({"status": "trash"}, "cancelled", "248.70"),
        ({"refunds": [{"total": "-98.40"}]}, "partially_refunded", "150.30"),
        ({"refunds": [{"total": "-98.40"}, {"total": "-150.30"}]}, "refunded", "0.00"),
        ({"refunds": [{"total": "-300"}]}, "refunded", "0"),
        ({"refunds": {}}, "paid", "248.70"),
    ],
)
def test_woocommerce_states_and_what_stays(changes: dict[str, Any], status: str, value: str) -> None:
    found = body(made.woocommerce(**changes))
    assert (found.order_status, found.event_value) == (status, Decimal(value))


def test_stripe_sessions_refunds_and_renewals() -> None:
    session = read(made.stripe())
    assert isinstance(session, ShopOrder)
    assert (session.body.order_id, session.body.event_value) == ("pi_1", Decimal(4800))
    assert (session.body.customer_data.first_name, session.body.customer_data.last_name) == ("Haruto", "Mori")
    assert session.names == ("cs_1",)
    assert body(made.stripe(payment_status="unpaid")).order_status == "pending"
    charge = {"id": "ch_1", "mode": None, "payment_status": None, "amount_total": None, "amount": 4800}
    back = body(made.stripe("charge.refunded", amount_refunded=1200, **charge))
    assert (back.order_id, back.order_status, back.event_value) == ("pi_1", "partially_refunded", Decimal(3600))
    assert body(made.stripe("charge.refunded", amount_refunded=4800, **charge)).order_status == "refunded"
    parent = {"subscription_details": {"metadata": {"order_id": "S-1"}}}
    cycle = {"billing_reason": "subscription_cycle", "mode": None, "amount_total": None, "amount_paid": 2900}
    renewed = read(made.stripe("invoice.paid", id="in_1", payment_intent=None, parent=parent, **cycle))
    assert isinstance(renewed, ShopOrder)
    assert (renewed.body.renewal_of, renewed.unsent) == ("S-1", "a renewal of a subscription")
    assert read(made.stripe("invoice.paid", **cycle), ShopConfig(renewals="send")).unsent is None  # type: ignore[union-attr]
    assert isinstance(read(made.stripe("invoice.paid", **cycle | {"billing_reason": "subscription_create"})), ShopOrder)


def test_stripe_an_event_without_live_mode_is_a_test() -> None:
    message = made.stripe()
    assert body(message).test is False
    assert body(message._replace(body=message.body.replace(b'"livemode": true', b'"livemode": false'))).test is True


def test_a_platform_of_ones_own_by_configuration_alone() -> None:
    told = read(made.kiosk())
    assert isinstance(told, ShopOrder)
    one = told.body
    assert (one.order_id, one.event_value, one.currency, one.order_status) == ("K-1", Decimal("19.99"), "EUR", "paid")
    assert (one.customer_data.email, one.fbp) == ("kim@example.com", made.FBP)
    assert [(p.product_id, p.price) for p in one.products] == [("hat-3", Decimal("19.99"))]
    undone = read(made.kiosk("sale.undone", cents=None))
    assert isinstance(undone, ShopOrder)
    assert (undone.ends, undone.body.order_status) == (True, "cancelled")


def test_M4_consent_is_read_from_our_own_mark_and_never_from_a_newsletter() -> None:
    def consent(**changes: Any) -> Any:
        return body(made.shopify(**changes)).consent

    assert consent(note_attributes=[{"name": "_consent", "value": "denied"}]).marketing == "denied"
    assert consent(buyer_accepts_marketing=True, note_attributes=[]) is None
    told = read(made.shopify(note_attributes=[{"name": "_consent", "value": "perhaps"}]))
    assert isinstance(told, ShopOrder)
    assert told.left_out == ("consent",)
    for no in (False, 0, "no", "false", " Denied "):
        assert body(made.woocommerce(meta_data=[{"key": "_consent", "value": no}])).consent.marketing == "denied"


OUR_MARKS = {
    "fbp": (("_fbp", "fbp", "_elevar__fbp"), made.FBP),
    "fbc": (("_fbc", "fbc", "_elevar__fbc"), f"fb.1.1790000000000.{made.FBCLID}"),
    "visitor_id": (("_cv", "visitor_id", "_collector_visitor"), "v_2f6c1a0be94d4c55"),
    "consent": (("_consent",), "denied"),
}


def marked(name: str, value: str) -> list[Message]:
    """An order of each platform that was given this mark."""
    at = {"landing_site": None, "note_attributes": [{"name": name, "value": value}]}
    return [
        made.shopify(**at),
        made.woocommerce(meta_data=[{"key": name, "value": value}]),
        made.stripe(metadata={name: value}),
        made.paddle(custom_data={"orderId": "P-1", name: value}),
        made.kiosk(extra=[{"key": name, "value": value}]),
    ]


def test_M4_every_mark_is_found_by_each_of_its_names_and_nothing_else_is_one() -> None:
    for field, (names, value) in OUR_MARKS.items():
        for name in names:
            for found in map(body, marked(name, value)):
                told = getattr(found, field)
                assert (told.marketing if field == "consent" and told else told) == value, (field, name)
    for name in ("gift", "consent", "marketing", "accepts_marketing", "fbclid_", "_FBP"):
        for found in map(body, marked(name, "granted")):
            assert [getattr(found, field) for field in OUR_MARKS] == [None] * 4, name


def test_M4_what_the_recipe_for_woocommerce_keeps_with_an_order_is_found() -> None:
    kept = {"visitorId": "v_7", "fbp": made.FBP, "consent": {"marketing": "denied"}}
    found = body(made.woocommerce(meta_data=[{"key": "_collector", "value": kept}]))
    assert (found.visitor_id, found.fbp, found.consent.marketing) == ("v_7", made.FBP, "denied")


def test_10_7_M3_1500_lines_and_ids_of_64_bits() -> None:
    line = {
        "variant_id": (1 << 63) - 1,
        "title": "x",
        "price": "1.00",
        "quantity": 1,
        "tax_lines": [{"price": "0.1"}] * 4,
    }
    found = body(made.shopify(id=820982911946154508, line_items=[line] * 1500))
    assert found.order_id == "820982911946154508"
    assert len(found.products) == 1000  # as many as an event may have
    assert found.products[0].product_id == "9223372036854775807"


WHOLE = {
    "shopify": made.shopify(),
    "woocommerce": made.woocommerce(),
    "stripe": made.stripe(),
    "paddle": made.paddle(),
    "kiosk": made.kiosk(),
}
WRONG = [None, True, 7, -1.5, "", "x", [], {}, [1], {"a": 1}, "\0", [[]], [{}], "9" * 600, 10**400]


def places(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a body."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [path] + [place for key, value in items for place in places(value, (*path, key))]


def put(tree: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    copy = dict(tree) if isinstance(tree, dict) else list(tree)
    copy[path[0]] = put(tree[path[0]], path[1:], value)
    return copy


@pytest.mark.parametrize("name", WHOLE)
def test_10_7_M3_every_field_null_or_of_a_wrong_type_costs_that_field_alone(name: str) -> None:
    message = WHOLE[name]
    tree = json.loads(message.body)
    whole = body(message)
    for place in places(tree)[1:]:
        for value in WRONG:
            found = read(message._replace(body=json.dumps(put(tree, place, value)).encode()))
            if isinstance(found, ShopOrder) and found.body.order_id == whole.order_id:
                assert found.body.currency is not None
                assert found.body.event_value is None or found.body.event_value >= 0


NOT_YET = [False, 0, "", "false", "0000-00-00 00:00:00", "0000-00-00T00:00:00", None]


@pytest.mark.parametrize("never", NOT_YET)
def test_M3_what_has_not_happened_is_not_said_by_false_or_a_date_of_zeros(never: Any) -> None:
    """PHP's shops write so what is not set: an order would be cancelled, paid or renewed by it."""
    assert body(made.shopify(cancelled_at=never)).order_status == "paid"
    assert body(made.woocommerce(date_paid_gmt=never)).order_status == "pending"
    found = read(made.woocommerce(meta_data=[{"key": "_subscription_renewal", "value": never}]))
    assert isinstance(found, ShopOrder)
    assert found.unsent is None


def test_M3_control_what_has_happened_is_said() -> None:
    assert body(made.shopify(cancelled_at="2026-11-20T09:14:31+01:00")).order_status == "cancelled"
    assert body(made.woocommerce()).order_status == "paid"
    found = read(made.woocommerce(meta_data=[{"key": "_subscription_renewal", "value": 17}]))
    assert isinstance(found, ShopOrder)
    assert found.unsent == "a renewal of a subscription"


@pytest.mark.parametrize("field", ["email", "phone", "landing_site", "referring_site", "browser_ip", "updated_at"])
def test_M3_a_truth_in_the_place_of_a_text_is_absent(field: str) -> None:
    untrue, absent = body(made.shopify(**{field: True})), body(made.shopify(**{field: None}))
    assert untrue == absent
    assert body(made.shopify(test=True)).test, "where a truth is asked for it is one"


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=8), lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["id", "status", "total", "currency", "refunds", "meta_data", "key", "value", "line_items", "billing"]), inner, max_size=6), max_leaves=40))  # fmt: skip
@settings(max_examples=300)
def test_M3_any_tree_is_an_order_or_has_a_reason(tree: Any) -> None:
    message = made.woocommerce()
    assert isinstance(read(message._replace(body=json.dumps(tree).encode())), ShopOrder | Ignored)


# -- M2: what is wrong in a configuration


def faults(webhook: WebhookConfig) -> list[str]:
    return [
        f"{'.'.join(map(str, f.path))}: {f.message}" for f in shops.check(StoreConfig(id="s", webhook=[webhook]), ())
    ]


def test_M2_every_fault_is_told_at_once_with_its_key_and_the_nearest_name() -> None:
    bad = WebhookConfig(
        name="bad name",
        secret=["x", " "],
        signature={"header": "X", "encoding": "hex", "signed": "nothing"},
        topic="header:X",
        topics={"a": "payed"},
        fields={"orderId": "a..b", "statusAt": "t | tine", "emial": "e", "eventValue": "v", "products": {"each": "l[*]", "sku": "s"}},
        status={"from": "s", "piad": ["x"]},
    )  # fmt: skip
    told = "\n".join(faults(bad))
    for part in (
        "webhook.0.name: expected",
        "webhook.0.secret: an empty secret",
        "webhook.0.signature: signed needs {body}",
        "webhook.0.topics.a: expected a status or nothing; did you mean 'paid'?",
        "webhook.0.fields.orderId: 'a..b': no path",
        "unknown converter 'tine'; did you mean 'time'?",
        "webhook.0.fields.emial: unknown key; did you mean 'email'?",
        "webhook.0.fields.currency: 'currency' is missing",
        "webhook.0.fields.products.sku: unknown key",
        "webhook.0.status.piad: unknown key; did you mean 'paid'?",
    ):
        assert part in told, (part, told)


def test_M2_a_hundred_paths_and_no_more() -> None:
    def of(count: int) -> list[str]:
        fields = KIOSK.fields | {"email": ["e"] * count}
        return [fault for fault in faults(KIOSK.__class__(name="k", signature=KIOSK.signature, topic="header:T",
                topics=KIOSK.topics, fields=fields)) if "paths" in fault]  # fmt: skip

    assert of(80) == []
    assert "at most 100 are read" in of(120)[0]


def test_M2_control_the_platform_of_these_tests_has_no_fault() -> None:
    assert faults(KIOSK) == []
    for name in shops.PRESETS[:4]:
        assert faults(WebhookConfig(name="x", preset=name, secret="s")) == []


def test_R14_secrets_are_up_to_four_none_of_them_empty_and_of_known_platforms() -> None:
    def of(**secrets: Any) -> str:
        return "\n".join(f.message for f in shops.check(StoreConfig(id="s", webhook_secrets=secrets), ()))

    assert "an empty secret" in of(shopify=["a", ""])
    assert "at most 4 secrets" in of(stripe=["a"] * 5)
    assert "did you mean 'shopify'?" in of(shopfy="x")
    assert of(shopify=["a", "b", "c", "d"]) == ""
    assert compiling.nearest("x", []) == ""


TOML = """
[meta]
mode = "off"

[[store]]
id = "s1"

[store.webhook_secrets]
stripe = "inline"
shopify_file = ["one.secret", "two.secret"]

[[store.webhook]]
name = "mine"
preset = "stripe"
secret_file = "one.secret"
[store.webhook.fields]
orderId = "a..b"
emial = "x"
"""


def test_secrets_come_from_files_faults_have_their_lines_and_the_edge_alone_holds_secrets(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / f"{name}.secret").write_text(f"hush-{name}\n")
        (tmp_path / f"{name}.secret").chmod(0o600)
    path = tmp_path / "collector.toml"
    path.write_text(TOML)
    with pytest.raises(ConfigError) as caught:
        load(str(path), {})
    told = str(caught.value)
    assert f"{path}:17: [store.webhook.fields] orderId: 'a..b': no path" in told
    assert f"{path}:18: [store.webhook.fields] emial: unknown key; did you mean 'email'?" in told
    path.write_text(TOML.partition("[store.webhook.fields]")[0])
    config = load(str(path), {})
    assert config.store[0].webhook_secrets == {"stripe": "inline", "shopify": ["hush-one", "hush-two"]}
    assert config.store[0].webhook[0].secret == "hush-one"
    held = {role: "hush" in repr(for_role(config, role)) for role in ("edge", "courier", "console", "keeper")}
    assert held == {"edge": True, "courier": False, "console": False, "keeper": False}
    assert "hush" not in repr(load(str(path), {}, role="courier"))
    assert "hush" not in json.dumps([row.value for row in rows(config, {})], default=str)
