"""Who may do what: keys, stores, origins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qs, urlsplit

from collector.config import StoreConfig
from collector.edge.keeper import Keeper
from collector.errors import ApiError
from collector.exchange import keys
from collector.exchange.keys import ApiKey
from collector.exchange.stores import Store

_BEARER: Final = b"bearer "
LONGEST_KEY: Final = 128


def bearer(headers: Mapping[bytes, bytes]) -> bytes | None:
    """The key of the Authorization header; None without one."""
    value = headers.get(b"authorization")
    if value is None:
        return None
    if value[:7].lower() != _BEARER or not value[7:].strip():
        raise ApiError("unauthorized", "the Authorization header must be: Bearer KEY")
    return value[7:].strip()


def key_in_query(query: bytes) -> bytes | None:
    """The publishable key of `?key=`; a secret key has no business in a URL, where logs keep it."""
    if not query:
        return None
    try:
        values = parse_qs(query.decode("latin-1"), max_num_fields=50).get("key", [])
    except ValueError as error:
        raise ApiError("invalid_field", "the query has too many parameters") from error
    if any(value.startswith("sk_") for value in values) or (b"sk_" in query and not values):
        raise ApiError("unauthorized", "a secret key may not stand in a URL; send it as Authorization: Bearer")
    return values[0].encode() if values else None


def authenticate(keeper: Keeper, presented: bytes | None) -> ApiKey:
    """The key in force that was presented; found by its digest, so that no comparison leaks how far one matched."""
    if not presented:
        raise ApiError("unauthorized", "no key: send Authorization: Bearer KEY")
    key = keeper.key(keys.digest(presented)) if len(presented) <= LONGEST_KEY else None
    if key is None:
        raise ApiError("unauthorized", "this key is unknown or revoked")
    return key


def known(keeper: Keeper, authorization: bytes) -> ApiKey | None:
    """The key in force that an Authorization header carries; None where it carries none."""
    presented = authorization[len(_BEARER) :].strip()
    if authorization[: len(_BEARER)].lower() != _BEARER or len(presented) > LONGEST_KEY:
        return None
    return keeper.key(keys.digest(presented))


def is_secret(key: ApiKey | None) -> bool:
    """Whether it is a server's."""
    return key is not None and key.kind == "secret"


def key_in_body(presented: str | None) -> bytes | None:
    """The publishable key that a body carries, where a page cannot set headers."""
    if not presented:  # `data-key=""` is none
        return None
    if presented.startswith("sk_"):
        raise ApiError("unauthorized", "a secret key may not stand in a body; send it as Authorization: Bearer")
    return presented.encode()


def store_for(stores: Mapping[str, Store], key: ApiKey, store_id: str) -> Store:
    """The active store of this id, if the key may act on it."""
    if not store_id:
        raise ApiError("missing_required_field", "storeId is required", "storeId")
    store = stores.get(store_id)
    if store is None or not store.config.active:
        raise ApiError("store_not_found", "no active store has this id", "storeId")
    if key.store is not None and key.store != store_id:
        raise ApiError("forbidden", "this key belongs to another store", "storeId")
    return store


def check_origin(headers: Mapping[bytes, bytes], store: StoreConfig) -> None:
    """A publishable key works from the store's own pages; without any domain configured, from every page."""
    origin = headers.get(b"origin") or headers.get(b"referer")
    if origin == b"null":
        raise ApiError("origin_not_allowed", "an opaque origin (null) is none of the store's pages")
    if not store.domains:
        return
    if origin is None:
        raise ApiError("origin_not_allowed", "a publishable key is for pages, and their browser's Origin is missing")
    if not is_own(origin.decode("latin-1"), store):
        raise ApiError("origin_not_allowed", "this origin is not among the store's domains")


def is_own(origin: str, store: StoreConfig) -> bool:
    """Whether an origin or URL is on one of the store's domains or below one."""
    try:
        parts = urlsplit(origin)
        host = (parts.hostname or "").lower().removesuffix(".")
    except ValueError:
        return False
    if parts.scheme not in ("http", "https") or not host:
        return False
    return any(host == domain or host.endswith("." + domain) for domain in map(_bare, store.domains))


def _bare(domain: str) -> str:
    return domain.lower().partition(":")[0].removesuffix(".").removeprefix("*.").removeprefix("www.")
