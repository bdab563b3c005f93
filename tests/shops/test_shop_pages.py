"""The owners' pages: each configuration works as it stands, and takes that platform's first order."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from collector.config_loader import load, load_settings, shops
from collector.core.shops import order, signature
from collector.core.shops.order import Ignored, ShopOrder
from collector.core.shops.signature import Refused
from tests.kit import shops as made
from tests.kit.program import ROOT

PAGES = (ROOT / "collector/edge/SHOPS.md").read_text()
BLOCKS = dict(re.findall(r"<!-- shop: (\w+) -->\n\s*```toml\n(.*?)```", PAGES, re.DOTALL))
PULLS = dict(re.findall(r"<!-- pull: (\w+) -->\n\s*```toml\n(.*?)```", PAGES, re.DOTALL))
PLATFORMS = ("shopify", "woocommerce", "stripe", "paddle")


def orders(at: int) -> dict[str, made.Message]:
    """A first order of each, signed at `at` (s)."""
    return {
        "shopify": made.shopify(),
        "woocommerce": made.woocommerce(),
        "stripe": made.stripe(at=at),
        "paddle": made.signed(
            "paddle",
            {
                "event_type": "transaction.completed",
                "event_id": "evt_1",
                "occurred_at": "2026-11-20T08:14:31Z",
                "data": {"id": "txn_1", "currency_code": "EUR", "details": {"totals": {"grand_total": "1999"}}},
            },
            {},
            at,
        ),
    }


@pytest.mark.parametrize("platform", PLATFORMS)
def test_a_pages_configuration_takes_the_platforms_first_order(platform: str, tmp_path: Path) -> None:
    written = BLOCKS[platform].replace("\n   ", "\n").replace("mystore.myshopify.com", "")
    (tmp_path / "collector.toml").write_text(written)
    for name in re.findall(r'"([\w.]+\.(?:secret|token))"', written):
        (tmp_path / name).write_text(made.SECRETS[platform] if name.endswith(".secret") else "EAAtoken")
        (tmp_path / name).chmod(0o600)
    store = load(str(tmp_path / "collector.toml"), {}, role="all").store[0]
    hook, message = shops.hooks(store)[platform], orders(int(time.time()))[platform]
    pairs = [(name.lower().encode(), value.encode()) for name, value in message.headers.items()]
    claimed = signature.claim(hook.scheme, pairs, int(time.time()))
    assert not isinstance(claimed, Refused)
    assert signature.is_signed(hook.scheme, hook.keys, claimed, message.body)
    assert not signature.is_signed(hook.scheme, hook.keys, claimed, message.body + b" ")  # control
    headers = {name.lower(): value for name, value in message.headers.items()}
    told = order.read(hook.platform, hook.terms, store.id, headers, message.body).outcome
    assert isinstance(told, ShopOrder)


def test_shopifys_send_test_is_seen_and_is_no_order() -> None:
    message = made.shopify()
    hook = shops.hooks(made.STORE)["shopify"]
    headers = {name.lower(): value for name, value in message.headers.items()} | {"x-shopify-test": "true"}
    assert order.read(hook.platform, hook.terms, "s", headers, message.body).outcome == Ignored("test_notification")


def test_every_platform_of_ours_has_its_page() -> None:
    assert set(BLOCKS) == set(shops.PRESETS) - {"standard_webhooks"}


@pytest.mark.parametrize("platform", shops.BUILT_IN)
def test_C2_a_pages_last_lines_end_the_warning_of_lost_webhooks(platform: str, tmp_path: Path) -> None:
    first, more = (blocks[platform].replace("\n   ", "\n") for blocks in (BLOCKS, PULLS))
    before, shop, after = (
        first.partition("[store.shop]\n") if platform == "shopify" else first.partition("[[store.pixel]]")
    )
    whole = before + shop + more + after if platform == "shopify" else before + more + shop + after
    for name in re.findall(r'"([\w.-]+\.(?:secret|token))"', whole):
        (tmp_path / name).write_text("whsec_x")
        (tmp_path / name).chmod(0o600)
    path = tmp_path / "collector.toml"
    for written, warned in ((first, 1), (whole, 0)):  # the first is the control
        path.write_text(written)
        path.chmod(0o600)
        found = load_settings(path, {}).warnings
        assert sum("pulls nothing from it" in one for one in found) == warned
        assert not [one for one in found if "has no key" in one]
