"""What `config check` (and with it `serve` and `doctor`) says of a shop's settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from collector.config_loader import load_settings
from collector.errors import ConfigError

STORE = """
[meta]
mode = "off"
[[store]]
id = "s1"
domains = ["shop.example"]
[store.webhook_secrets]
{secrets}
[store.shop]
{shop}
"""
PULL = 'platform = "shopify"\nurl = "https://s.myshopify.com"\naccess_token = "t"'


def warned(folder: Path, shop: str = "", secrets: str = 'shopify = "x"', more: str = "") -> list[str]:
    path = folder / "collector.toml"
    path.write_text(STORE.format(secrets=secrets, shop=shop) + more)
    path.chmod(0o600)
    return load_settings(path, {}).warnings


@pytest.mark.parametrize("platform", ["shopify", "woocommerce", "stripe"])
def test_C2_webhooks_without_a_pull_are_warned_about(tmp_path: Path, platform: str) -> None:
    (said,) = warned(tmp_path, secrets=f'{platform} = "x"')
    assert f"takes {platform}'s webhooks and pulls nothing" in said


def test_C2_a_pull_that_is_switched_off_is_none(tmp_path: Path) -> None:
    assert "pulls nothing" in "".join(warned(tmp_path, PULL + "\npull_minutes = 0"))


@pytest.mark.parametrize(
    "given",
    [
        {"shop": PULL},
        {"secrets": ""},
        # no API of theirs is known, so nothing could be done about it
        {"secrets": "", "more": '[[store.webhook]]\nname = "paddle"\npreset = "paddle"\nsecret = "x"\n'},
    ],
    ids=["pulled", "no webhook", "no pull for it"],
)
def test_C2_control_where_it_is_pulled_or_cannot_be_nothing_is_said(tmp_path: Path, given: dict[str, str]) -> None:
    assert warned(tmp_path, **given) == []


def test_a_pull_without_its_key_is_warned_about(tmp_path: Path) -> None:
    said = warned(tmp_path, 'platform = "woocommerce"\nurl = "https://s.example"', secrets="")
    assert any("has no key for it: set consumer_key_file and consumer_secret_file" in one for one in said)


@pytest.mark.parametrize("name", ["Purchase", "purchase", " Refund", "ada@example.com", "{{name}}", "x" * 51, "Lead"])
def test_O5_a_refund_event_is_no_standard_event_and_no_name_that_meta_refuses(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError) as error:
        warned(tmp_path, f"{PULL}\nrefund_event = '{name}'")
    assert "expected a custom event's name" in str(error.value)


PIXEL = '\n[[store.pixel]]\nid = "123456789012345"\nevents = {events}\n'


def test_O5_a_refund_event_that_no_pixel_takes_is_a_fault(tmp_path: Path) -> None:
    shop = f'{PULL}\nrefund_event = "Refund"'
    with pytest.raises(ConfigError, match="no pixel of this store takes 'Refund'"):
        warned(tmp_path, shop, more=PIXEL.format(events='["Purchase"]'))
    assert warned(tmp_path, shop, more=PIXEL.format(events='["Purchase", "Refund"]')) == []
