"""The webhooks that a store takes: its platforms' presets, what its owner changes in them, and its secrets."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import resources
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct, structs

from collector.config import ShopConfig, StoreConfig, WebhookConfig
from collector.config_loader.faults import Fault, Path
from collector.core import event_names
from collector.core.shops import compiling, signature
from collector.core.shops.mapping import Platform
from collector.core.shops.order import IGNORE, Terms
from collector.core.shops.signature import Scheme
from collector.errors import ApiError

BUILT_IN: Final = ("shopify", "woocommerce", "stripe")
PRESETS: Final = (*BUILT_IN, "paddle", "standard_webhooks")
MOST_SECRETS: Final = 4
_KEYS: Final = {
    "shopify": "set client_id and client_secret_file, or access_token_file",
    "woocommerce": "set consumer_key_file and consumer_secret_file",
    "stripe": "set restricted_key_file",
}
# The header that a webhook of this platform has its topic in, and the topic that an order of its API stands for.
TOPICS: Final = {
    "shopify_pull": ("", "orders/pulled"),
    "shopify": ("x-shopify-topic", "orders/updated"),
    "woocommerce": ("x-wc-webhook-topic", "order.updated"),
    "stripe": ("", ""),
}
PULLED: Final = ("shopify_pull", *BUILT_IN)  # Shopify's API has another shape than its webhooks
# Of these platforms `content_id` says what a product is called.
_CATALOGUES: Final = ("shopify", "shopify_pull", "woocommerce")
_OWN_KEYS: Final = ("topic", "delivery", "order", "marks")
_TABLES: Final = ("signature", "fields", "status", "channels")


class Hook(Struct, frozen=True):
    """One store's webhook of one name. No keys: nobody's signature is known. `ping`: how a sender's ping begins."""

    name: str
    scheme: Scheme
    keys: list[bytes]
    platform: Platform
    terms: Terms
    ping: str = ""


@cache
def preset(name: str) -> dict[str, Any]:
    """The table of a preset; never to be changed."""
    file = resources.files("collector.config_loader").joinpath("presets", f"{name}.toml")
    return tomllib.loads(file.read_text(encoding="utf-8"))


def hooks(store: StoreConfig) -> dict[str, Hook]:
    """Every webhook of the store by its name, of a configuration without faults."""
    made = [_made(store, one, (), []) for one in configured(store)]
    return {hook.name: hook for hook in made if hook is not None}


@cache
def _pulled(store: str, shop: bytes, webhook: bytes) -> Hook:
    config = StoreConfig(id=store, shop=msgspec.json.decode(shop, type=ShopConfig))
    hook = _made(config, msgspec.json.decode(webhook, type=WebhookConfig), (), [])
    assert hook is not None
    return hook


def pulled(store: StoreConfig, platform: str) -> Hook:
    """How an order is read that a pull or a file has brought; `platform`: a preset. KeyError for none of ours."""
    if platform not in PULLED:
        raise KeyError(platform)
    return _pulled(store.id, msgspec.json.encode(store.shop), msgspec.json.encode(_as_told(store, platform)))


def _as_told(store: StoreConfig, platform: str) -> WebhookConfig:
    """The platform as the store's own webhook of it says, so that what is pulled equals what is told (L6)."""
    plain = WebhookConfig(name=platform.removesuffix("_pull"), preset=platform)
    own = next((webhook for webhook in store.webhook if webhook.preset == plain.name), None)
    if own is None:
        return plain
    if platform != plain.name:  # of another shape than the webhooks
        return structs.replace(plain, channels=own.channels)
    topic = TOPICS[platform][1]
    topics = own.topics | {topic: ""} if own.topics and topic else own.topics
    return structs.replace(own, name=plain.name, secret=[], topic="", topics=topics)


def taken(hook: Hook) -> list[str]:
    """The topics that it takes."""
    return [topic for topic, forced in hook.platform.topics.items() if not forced.startswith(IGNORE)]


def configured(store: StoreConfig) -> list[WebhookConfig]:
    """The store's own webhooks, and the built-in ones in whose place it has put none."""
    own = {webhook.name for webhook in store.webhook}
    built_in = [
        WebhookConfig(name=name, preset=name, secret=store.webhook_secrets.get(name, []))
        for name in BUILT_IN
        if name not in own
    ]
    return [*store.webhook, *built_in]


def check(store: StoreConfig, path: Path) -> Iterator[Fault]:
    """What is wrong with a store's webhooks, all at once."""
    faults: list[Fault] = []
    for name in store.webhook_secrets:
        if name not in BUILT_IN:
            own = "; a webhook of your own has its secret in [[store.webhook]]"
            near = compiling.nearest(name, BUILT_IN)
            faults.append(Fault((*path, "webhook_secrets", name), f"no built-in platform{near}{own}"))
        elif name in {webhook.name for webhook in store.webhook}:
            faults.append(Fault((*path, "webhook_secrets", name), "[[store.webhook]] has this name; keep one of them"))
    seen: set[str] = set()
    for index, webhook in enumerate(configured(store)):
        is_own = index < len(store.webhook)
        here = (*path, "webhook", index) if is_own else (*path, "webhook_secrets", webhook.name)
        if is_own:
            faults += _own(webhook, here, seen)
        if not webhook.preset or webhook.preset in PRESETS:
            _made(store, webhook, here, faults)
    yield from faults
    yield from _choices(store, (*path, "shop"))
    yield from _pull(store.shop, (*path, "shop"))
    yield from _refund_event(store, (*path, "shop", "refund_event"))


def _pull(shop: ShopConfig, path: Path) -> Iterator[Fault]:
    """What a pull needs (its secrets are the courier's, and are looked at by `warnings`)."""
    if not shop.platform:
        return
    try:
        address = urlsplit(shop.url)
        host, whole = address.hostname or "", not (address.query or address.fragment or address.username)
    except ValueError:
        host, whole, address = "", False, urlsplit("")
    plain = address.scheme == "http" and host in ("127.0.0.1", "::1", "localhost")
    if (shop.url or shop.platform != "stripe") and not (host and whole and (address.scheme == "https" or plain)):
        yield Fault((*path, "url"), "expected the shop's address, https://…; http for loopback only")


def _refund_event(store: StoreConfig, path: Path) -> Iterator[Fault]:
    """A standard event's name would have Meta count a refund as a sale, or as a step to one."""
    name = store.shop.refund_event
    try:
        good = not name or (event_names.read(name) == name and name not in event_names.STANDARD)
    except ApiError:
        good = False
    if not good:
        yield Fault(path, 'expected a custom event\'s name, for example "Refund"; empty: no event')
    elif name and store.pixel and not any(not pixel.events or name in pixel.events for pixel in store.pixel):
        yield Fault(path, f"no pixel of this store takes '{name}': add it to the events of one")


def warnings(store: StoreConfig) -> list[str]:
    """Webhooks that nobody can sign for, a pull without its key, lost webhooks that nobody would find."""
    shop = store.shop
    given = {
        "shopify": shop.access_token or (shop.client_id and shop.client_secret),
        "woocommerce": shop.consumer_key and shop.consumer_secret,
        "stripe": shop.restricted_key,
    }
    lacking = [
        f"[store.shop] of {store.id} pulls from {shop.platform} and has no key for it: {_KEYS[shop.platform]}"
        for platform in [shop.platform]
        if platform and shop.pull_minutes and not given[platform]
    ]
    return (
        lacking
        + _unpulled(store)
        + [
            f"[[store.webhook]] {webhook.name} of {store.id} has no secret, so all that is sent to it is refused"
            for webhook in store.webhook
            if not webhook.secret
        ]
    )


def _unpulled(store: StoreConfig) -> list[str]:
    """A lost webhook is an order that nobody knows of, unless its platform is asked as well (C2)."""
    shop = store.shop
    if not store.active:
        return []
    told = {webhook.preset for webhook in configured(store) if webhook.secret and webhook.preset in BUILT_IN}
    if shop.pull_minutes:
        told.discard(shop.platform)
    return [
        f"{store.id} takes {platform}'s webhooks and pulls nothing from it: an order whose webhook is lost is never "
        f'known of. Set [store.shop] platform = "{platform}" and its key ({_KEYS[platform]}), see SHOPS.md; until then '
        "hold `collector reconcile FILE` against the shop's own export"
        for platform in sorted(told)
        if not (shop.pull_minutes and shop.platform)  # one platform is pulled, and is the shop's own
    ]


def _own(webhook: WebhookConfig, path: Path, seen: set[str]) -> Iterator[Fault]:
    name = webhook.name
    if name and not (len(name) <= 64 and name.replace("_", "").replace("-", "").isalnum() and name.isascii()):
        yield Fault((*path, "name"), "expected 1 to 64 letters, digits, _ and -")
    if name in seen:
        yield Fault((*path, "name"), f"webhook '{name}' is given twice")
    seen.add(name)
    if webhook.preset and webhook.preset not in PRESETS:
        near = compiling.nearest(webhook.preset, PRESETS)
        yield Fault((*path, "preset"), f"no preset '{webhook.preset}'{near}")


def _choices(store: StoreConfig, path: Path) -> Iterator[Fault]:
    """A choice that no platform of the store has would be without effect."""
    tables = [preset(w.preset) for w in configured(store) if w.secret and w.preset in PRESETS]
    for name, default in (("order_key", "id"), ("value", "total"), ("money", "shop")):
        chosen = getattr(store.shop, name)
        if chosen != default and tables and not any(chosen in t.get("choices", {}).get(name, {}) for t in tables):
            yield Fault((*path, name), f"no webhook of this store knows '{chosen}'; leave it out")


def _made(store: StoreConfig, webhook: WebhookConfig, path: Path, faults: list[Fault]) -> Hook | None:
    """The webhook; None where it has faults, which are added. Those of a built-in one stand under its secret."""
    table = _table(store.shop, webhook)
    platform, found = compiling.compiled(table)
    faults += [Fault((*path, *key), message) for key, message in found]
    try:
        scheme = msgspec.convert(table.get("signature") or {}, Scheme)
    except msgspec.ValidationError as error:
        words = str(error).replace("Object", "the table")
        faults.append(Fault((*path, "signature"), words[:1].lower() + words[1:]))
        return None
    faults += [Fault((*path, "signature"), message) for message in signature.faults(scheme)]
    keys = _keys(scheme, webhook, path, faults)
    if platform is None:
        return None
    shop = store.shop
    terms = Terms(shop.channels, shop.renewals, shop.shop, refunds=bool(shop.refund_event))
    if "shop" not in platform.fields:
        terms = msgspec.structs.replace(terms, shop="")
    return Hook(webhook.name, scheme, keys, platform, terms, table.get("ping", ""))


def _keys(scheme: Scheme, webhook: WebhookConfig, path: Path, faults: list[Fault]) -> list[bytes]:
    here = (*path, "secret") if "webhook" in path else path
    secrets = [webhook.secret] if isinstance(webhook.secret, str) and webhook.secret else list(webhook.secret)
    if len(secrets) > MOST_SECRETS:
        faults.append(Fault(here, f"at most {MOST_SECRETS} secrets: the present one, and those that end"))
    if not all(secret.strip() for secret in secrets):
        faults.append(Fault(here, "an empty secret: anybody could sign with it"))
    keys: list[bytes] = []
    for secret in secrets:
        try:
            keys += signature.keys_of(scheme, secret)
        except ValueError:
            faults.append(Fault(here, f"a secret of this platform is written in {_written(scheme)}"))
    return keys


def _written(scheme: Scheme) -> str:
    return "hex" if scheme.key_encoding == "hex" else "base64"


def _table(shop: ShopConfig, webhook: WebhookConfig) -> dict[str, Any]:
    """The preset, with what the store chooses in it, under what the owner writes himself."""
    table = dict(preset(webhook.preset)) if webhook.preset else {}
    choices = table.pop("choices", {})
    chosen = [choices.get(name, {}).get(getattr(shop, name)) for name in ("order_key", "value", "money")]
    if shop.value == "goods":
        chosen.append(choices.get("goods_money", {}).get(shop.money))
    for change in chosen:
        table = _laid_over(table, change or {})
    if shop.content_id and webhook.preset in _CATALOGUES:
        table = _laid_over(table, {"fields": {"products": {"productId": [shop.content_id]}}})
    own: dict[str, Any] = {key: value for key in _OWN_KEYS if (value := getattr(webhook, key))}
    table = _laid_over(table, own | {key: getattr(webhook, key) for key in _TABLES})
    return table | ({"topics": webhook.topics} if webhook.topics else {})


def _laid_over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Tables are joined key by key; every other value stands in the place of the one below."""
    joined = dict(below)
    for key, value in above.items():
        under = joined.get(key)
        joined[key] = _laid_over(under, value) if isinstance(under, dict) and isinstance(value, dict) else value
    return joined
