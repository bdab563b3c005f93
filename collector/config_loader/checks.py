"""Do the values make sense, and together? Each rule is one small function that yields faults."""

from __future__ import annotations

import datetime
import ipaddress
import os
import re
import stat
import time
from collections.abc import Iterator, Mapping
from typing import Final
from urllib.parse import urlsplit

from collector import certificate
from collector.config import Config, PixelConfig, StoreConfig
from collector.config_loader import engines, shops
from collector.config_loader.faults import Fault, Path
from collector.config_loader.secret_files import Role, may_hold
from collector.core.days import zone_of
from collector.core.weeks import due_of

IDENT: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
PIXEL: Final = re.compile(r"[0-9]{5,20}")
AD_ACCOUNT: Final = re.compile(r"act_[0-9]{1,20}", re.ASCII)
VERSION: Final = re.compile(r"v[1-9][0-9]*\.[0-9]+")
COOKIE: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
URL_PATH: Final = re.compile(r"/[A-Za-z0-9._~/-]{1,200}")
HOST: Final = re.compile(r"(?=.{1,253}$)(?:\*\.)?[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,62})(?:\.[A-Za-z0-9_-]{1,63})*")
PASSWORD: Final = re.compile(r"scrypt\$\d{1,2}\$\d{1,2}\$\d{1,2}\$[A-Za-z0-9+/]+=*\$[A-Za-z0-9+/]+=*", re.ASCII)
_LONGEST_NAME: Final = 255  # bytes, NAME_MAX of Linux's file systems
_LONGEST_PATH: Final = 4000  # bytes; PATH_MAX is 4096, and our own files' names come after it
RESERVED: Final = ("/v1/", "/healthz", "/readyz", "/openapi.json")  # the API's own paths on the edge


def check(config: Config, *, role: Role, env: Mapping[str, str]) -> list[Fault]:
    """Every rule that a value breaks. `role` decides whether missing Meta tokens matter to this process."""
    faults = [
        *_listening(config),
        *_console(config),
        *_edge(config),
        *_meta(config),
        *_matching(config),
        *_privacy(config, env),
        *_places(config),
    ]
    # A child that reads the file again has none of the secrets that stand in its supervisor's environment.
    is_child = "COLLECTOR_CONFIG_FD" in env
    faults += engines.check(config, needs_dsn=may_hold(role, ("storage", "dsn")) and not is_child)
    faults += _alerts(config)
    faults += _certificate(config) if role in ("all", "edge") else ()
    needs_tokens = role in ("all", "courier") and not is_child
    faults += _insights(config, needs_token=needs_tokens)
    for index, store in enumerate(config.store):
        faults += _store(store, ("store", index))
        faults += shops.check(store, ("store", index))
        if config.meta.mode == "live" and needs_tokens:
            faults += _tokens(store, ("store", index))
    return faults + list(_repeated_stores(config))


def warnings_of(config: Config, secret: str | None) -> list[str]:
    """What works but is probably not meant. `secret`: the config file's path when secrets stand in it."""
    found = [] if config.store else ["no [[store]] is configured, so every event will be refused with store_not_found"]
    alerts = config.alerts
    if alerts.weekly and not (alerts.webhook_url or (alerts.smtp_url and alerts.email_to)):
        found.append("[alerts] weekly has no way to go: set webhook_url, or smtp_url, email_from and email_to")
    found += [
        f"[[store]] {store.id}: no domains, so pages need its publishable key, which anybody can read off a page"
        for store in config.store
        if store.active and not store.domains
    ]
    for store in config.store:
        found += shops.warnings(store)
        found += [
            f"[store.pixel] {pixel.id}: its test_event_code expired on {pixel.test_event_code_expires} and is left out"
            for pixel in store.pixel
            if pixel.test_event_code and _expired(pixel.test_event_code_expires)
        ]
    if secret is not None and stat.S_IMODE(os.stat(secret).st_mode) & 0o077:
        found.append(f"{secret} holds secrets and can be read by others; run: chmod 600 {secret}")
    return found


def parse_listen(text: str) -> tuple[str, int]:
    """`127.0.0.1:8080` or `[::1]:8080` as (host, port); ValueError says what was expected."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ValueError("expected host:port, for example 127.0.0.1:8080")
    if host.startswith("[") and host.endswith("]"):
        return str(ipaddress.IPv6Address(host[1:-1])), int(port)
    if ":" in host or not (host == "" or HOST.fullmatch(host)):
        raise ValueError("expected host:port, an IPv6 address in brackets: [::1]:8080")
    return host, int(port)


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _listening(config: Config) -> Iterator[Fault]:
    taken: dict[tuple[str, int], str] = {}
    sections = (("edge", config.edge.listen), ("console", config.console.listen), ("metrics", config.metrics.listen))
    for section, text in sections:
        if section == "metrics" and not text:
            continue
        try:
            address = parse_listen(text)
        except ValueError as error:
            yield Fault((section, "listen"), str(error))
            continue
        if address[1] and address in taken:
            yield Fault((section, "listen"), f"{text} is already taken by [{taken[address]}] listen")
        taken[address] = section
        if section == "console" and not is_loopback(address[0]) and not config.console.password_hash:
            yield Fault(
                (section, "listen"),
                "the console is open without a password_hash, so it may listen on a loopback address only",
            )


def _console(config: Config) -> Iterator[Fault]:
    if zone_of(config.console.timezone) is None:
        zone = config.console.timezone
        yield Fault(("console", "timezone"), f"no time zone '{zone}'; for example Europe/Berlin, or UTC")
    stored = config.console.password_hash
    if stored and not PASSWORD.fullmatch(stored):
        yield Fault(("console", "password_hash"), "no such hash; make one with `collector config hash-password`")


def _edge(config: Config) -> Iterator[Fault]:
    edge = config.edge
    for proxy in edge.trusted_proxies:
        if not _is_network(proxy):
            yield Fault(("edge", "trusted_proxies"), f"'{proxy}' is no address or network, for example 10.0.0.0/8")
        elif _is_half_the_internet(proxy):
            yield Fault(
                ("edge", "trusted_proxies"),
                f"'{proxy}' trusts strangers: anybody in it could write any visitor's address; "
                "give your proxy's own address, for example 127.0.0.1/32",
            )
    if edge.public_url and not _is_url(edge.public_url, plain_http=True):
        yield Fault(("edge", "public_url"), "expected an absolute http(s) address, for example https://shop.example")
    if edge.cookie_domain and not HOST.fullmatch(edge.cookie_domain.removeprefix(".")):
        yield Fault(("edge", "cookie_domain"), "expected a domain, for example shop.example")
    if not COOKIE.fullmatch(edge.visitor_cookie):
        yield Fault(("edge", "visitor_cookie"), "expected letters, digits, _ and - only")
    yield from _paths(
        {"snippet_path": edge.snippet_path, "pixel_path": edge.pixel_path, "beacon_path": edge.beacon_path}
    )


def _certificate(config: Config) -> Iterator[Fault]:
    try:
        certificate.of(config.edge)
    except certificate.Unusable as unusable:
        yield Fault(("edge", unusable.setting), str(unusable))


def _paths(paths: Mapping[str, str]) -> Iterator[Fault]:
    seen: dict[str, str] = {}
    for key, path in paths.items():
        if not URL_PATH.fullmatch(path) or "//" in path or "/." in path:
            yield Fault(("edge", key), "expected a path that begins with /, of letters, digits, . _ ~ - and /")
        elif path.startswith(RESERVED):
            yield Fault(("edge", key), f"{path} belongs to the API; choose another path")
        elif path in seen:
            yield Fault(("edge", key), f"{path} is already {seen[path]}")
        seen[path] = key


def _meta(config: Config) -> Iterator[Fault]:
    meta = config.meta
    if not _is_url(meta.graph_url, plain_http=False):
        yield Fault(("meta", "graph_url"), "expected an https address; http is taken for a loopback address only")
    if not VERSION.fullmatch(meta.api_version):
        yield Fault(("meta", "api_version"), "expected a Graph version such as v26.0")
    if meta.retry_base_seconds > meta.retry_max_seconds:
        yield Fault(("meta", "retry_base_seconds"), "must not be larger than retry_max_seconds")


def _matching(config: Config) -> Iterator[Fault]:
    matching = config.matching
    if matching.threshold > matching.strong:
        yield Fault(("matching", "threshold"), "must not be larger than strong")
    if matching.window_days > matching.click_days:
        yield Fault(("matching", "window_days"), "must not be larger than click_days")


def _privacy(config: Config, env: Mapping[str, str]) -> Iterator[Fault]:
    path = config.privacy.pepper_file
    if path and os.path.exists(path) and os.stat(path).st_mode & 0o077 and "CREDENTIALS_DIRECTORY" not in env:
        yield Fault(("privacy", "pepper_file"), f"'{path}' can be read by others; run: chmod 600 {path}")


def _places(config: Config) -> Iterator[Fault]:
    """What no file system takes would be a fault of its own wherever it is used."""
    for path in (("storage", "data_dir"), ("privacy", "pepper_file"), ("backup", "dir")):
        text = getattr(getattr(config, path[0]), path[1])
        if len(os.fsencode(text)) > _LONGEST_PATH or any(len(os.fsencode(p)) > _LONGEST_NAME for p in text.split("/")):
            yield Fault(path, f"too long: a name has at most {_LONGEST_NAME} bytes, a path {_LONGEST_PATH}")


_MAILBOX: Final = re.compile(r"[^\s@<>,;\"]+@[^\s@<>,;\"]+")


def _alerts(config: Config) -> Iterator[Fault]:
    for name in ("webhook_url", "revisions_url"):
        url = getattr(config.alerts, name)
        if url and not _is_url(url, plain_http=False):
            yield Fault(("alerts", name), "expected an https address; http is taken for a loopback address only")
    yield from _letters(config)


def _insights(config: Config, *, needs_token: bool) -> Iterator[Fault]:
    insights = config.insights
    account = insights.ad_account
    if account and not AD_ACCOUNT.fullmatch(account):
        hint = f"act_{account}" if account.isascii() and account.isdigit() else "act_1234567890"
        yield Fault(("insights", "ad_account"), f"expected act_ and digits, for example {hint}; Ads Manager shows it")
    if insights.access_token and not account:
        yield Fault(("insights", "ad_account"), "missing: a token alone reads nothing; give it, or take the token out")
    if account and not insights.access_token and needs_token:
        instead = "access_token_file, or COLLECTOR_INSIGHTS__ACCESS_TOKEN"
        yield Fault(("insights", "access_token"), f"missing, and ad_account is set; give {instead}")


def _letters(config: Config) -> Iterator[Fault]:
    alerts = config.alerts
    if alerts.weekly and due_of(alerts.weekly) is None:
        yield Fault(("alerts", "weekly"), "expected a weekday and a time, for example monday 08:00")
    if alerts.console_url and not _is_url(alerts.console_url, plain_http=True):
        yield Fault(("alerts", "console_url"), "expected an address, for example https://console.mystore.com")
    if alerts.smtp_url and not _is_mail_server(alerts.smtp_url):
        yield Fault(("alerts", "smtp_url"), "expected smtps://user:password@mail.example:465, or smtp://…:587")
    if not alerts.email_to:
        return
    for name in ("email_to", "email_from"):
        given = getattr(alerts, name)
        for address in given if name == "email_to" else [given]:
            if not _MAILBOX.fullmatch(address):
                yield Fault(("alerts", name), "expected an e-mail address, for example shop@mystore.com")


def _is_mail_server(url: str) -> bool:
    try:
        way = urlsplit(url)
        host, _ = way.hostname, way.port  # .port raises when it is no number
    except ValueError:
        return False
    return way.scheme in ("smtp", "smtps") and bool(host) and url.isprintable()


def _store(store: StoreConfig, path: Path) -> Iterator[Fault]:
    if store.id and not IDENT.fullmatch(store.id):
        yield Fault((*path, "id"), "expected 1 to 64 letters, digits, _ and -")
    for domain in store.domains:
        if not _is_domain(domain):
            hint = _ascii_name(domain) or "mystore.com"
            yield Fault((*path, "domains"), f"'{domain}' is no domain; give the name alone, for example {hint}")
        elif _is_public_suffix(domain):
            yield Fault(
                (*path, "domains"),
                f"'{domain}' is a public suffix: everybody's shop below it could post; give your own name below it, "
                f"for example mystore.{domain.lower().removeprefix('*.')}",
            )
    if zone_of(store.timezone) is None:
        yield Fault((*path, "timezone"), f"no time zone '{store.timezone}'; for example Europe/Berlin, or UTC")
    if store.currency and not _is_currency(store.currency):
        yield Fault((*path, "currency"), f"'{store.currency}' is no ISO 4217 code, for example USD")
    if store.country and not _is_country(store.country):
        yield Fault((*path, "country"), f"'{store.country}' is no ISO 3166 code of two letters, for example US")
    for address in store.excluded_addresses:
        if not _is_network(address):
            yield Fault((*path, "excluded_addresses"), "each must be an address or a network, for example 192.0.2.0/24")
    if any("@" not in email for email in store.excluded_emails):
        yield Fault((*path, "excluded_emails"), "each must be an e-mail address")
    yield from _pixels(store, path)


def _pixels(store: StoreConfig, path: Path) -> Iterator[Fault]:
    seen: set[str] = set()
    for index, pixel in enumerate(store.pixel):
        here = (*path, "pixel", index)
        if pixel.id and not PIXEL.fullmatch(pixel.id):
            yield Fault((*here, "id"), "expected Meta's pixel or dataset id, digits only")
        if pixel.id and pixel.id in seen:
            yield Fault((*here, "id"), f"pixel {pixel.id} is given twice in store '{store.id}'")
        seen.add(pixel.id)
        yield from _test_code(pixel, here)
        if any(not 1 <= len(name) <= 50 for name in pixel.events):
            yield Fault((*here, "events"), "each event name has 1 to 50 characters")


def _test_code(pixel: PixelConfig, path: Path) -> Iterator[Fault]:
    """A forgotten test code would keep real orders out of Meta's reports, so it must say when it ends."""
    if pixel.test_event_code and not pixel.test_event_code_expires:
        yield Fault((*path, "test_event_code"), "needs test_event_code_expires, for example 2026-01-31T06:00:00Z")
    if pixel.test_event_code_expires and _instant(pixel.test_event_code_expires) is None:
        yield Fault(
            (*path, "test_event_code_expires"), "expected a time with its offset, for example 2026-01-31T06:00:00Z"
        )


def _tokens(store: StoreConfig, path: Path) -> Iterator[Fault]:
    for index, pixel in enumerate(store.pixel):
        if store.active and not pixel.access_token:
            message = "missing, and [meta] mode is live; give it, access_token_file, or COLLECTOR_META_TOKEN"
            yield Fault((*path, "pixel", index, "access_token"), message)


def _repeated_stores(config: Config) -> Iterator[Fault]:
    seen: set[str] = set()
    for index, store in enumerate(config.store):
        if store.id and store.id in seen:
            yield Fault(("store", index, "id"), f"store '{store.id}' is given twice")
        seen.add(store.id)


def _is_network(text: str) -> bool:
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    return True


def _ascii_name(domain: str) -> str | None:
    """How browsers and DNS write a name with other letters: bücher.example is xn--bcher-kva.example."""
    import idna  # 13 ms with its tables, so only where a name needs it

    name = domain.strip().removeprefix("https://").removeprefix("http://").partition("/")[0]
    try:
        ascii_name = idna.encode(name, uts46=True).decode("ascii")
    except idna.IDNAError:
        return None
    return ascii_name if _is_domain(ascii_name) else None


# The largest networks that one party runs: 10/8, and the fc00::/7 of private IPv6.
_LARGEST_PREFIX: Final = {4: 8, 6: 7}


def _is_half_the_internet(text: str) -> bool:
    network = ipaddress.ip_network(text, strict=False)
    if isinstance(network, ipaddress.IPv6Network) and network.network_address.ipv4_mapped is not None:
        return network.prefixlen < 96 + _LARGEST_PREFIX[4]
    return network.prefixlen < _LARGEST_PREFIX[network.version]


def _is_public_suffix(domain: str) -> bool:
    """Whether strangers register names right below it: com, co.uk, myshopify.com."""
    from publicsuffixlist import PublicSuffixList  # 20 ms to read, so only where a store names domains

    host = domain.lower().partition(":")[0].removeprefix("*.").rstrip(".")
    return bool(host) and PublicSuffixList(accept_unknown=False).is_public(host)


def _is_domain(text: str) -> bool:
    host, colon, port = text.partition(":")
    host = host.removesuffix(".")
    return bool(HOST.fullmatch(host)) and (not colon or (port.isascii() and port.isdigit() and 0 < int(port) < 65536))


def _is_currency(code: str) -> bool:
    from iso4217 import Currency  # 29 ms to import, so only when a store names one

    try:
        Currency(code)
    except ValueError:
        return False
    return True


def _is_country(code: str) -> bool:
    from iso3166 import countries_by_alpha2

    return code in countries_by_alpha2


def _is_url(text: str, *, plain_http: bool) -> bool:
    try:
        url = urlsplit(text)
        host, _ = url.hostname, url.port  # .port raises when it is no number
    except ValueError:
        return False
    if not host or url.username is not None or url.query or url.fragment or not text.isprintable():
        return False
    return url.scheme == "https" or (url.scheme == "http" and (plain_http or is_loopback(host)))


def _instant(text: str) -> datetime.datetime | None:
    try:
        at = datetime.datetime.fromisoformat(text)
    except ValueError:
        return None
    return at if at.tzinfo is not None else None


def _expired(text: str) -> bool:
    at = _instant(text)
    return at is not None and at.timestamp() < time.time()
