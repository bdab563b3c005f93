"""The configuration as frozen data, handed down by section: `collector.toml` > its Structs."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field

Rate = Annotated[int, Meta(ge=0)]


class EdgeConfig(Struct, frozen=True, kw_only=True):
    listen: str = "127.0.0.1:8080"
    workers: Annotated[int, Meta(ge=1, le=64)] = 1
    tls_cert: str = ""  # empty: plain HTTP, behind a proxy
    tls_key: str = ""
    public_url: str = ""
    trusted_proxies: list[str] = []
    max_body_bytes: Annotated[int, Meta(ge=1024, le=64 * 1024 * 1024)] = 1_048_576
    max_webhook_bytes: Annotated[int, Meta(ge=65_536, le=32 * 1024 * 1024)] = 4_194_304
    max_connections: Annotated[int, Meta(ge=16)] = 16_000
    max_connections_per_address: Annotated[int, Meta(ge=1)] = 256
    rate_limit_key_per_second: Rate = 20_000  # 0 = no limit
    rate_limit_address_per_second: Rate = 100  # pages; 0 = no limit
    snippet_path: str = "/c.js"
    pixel_path: str = "/c.gif"
    beacon_path: str = "/c"
    visitor_cookie: str = "_cv"
    cookie_domain: str = ""  # empty: the registrable domain of the request's host
    cookie_days: Annotated[int, Meta(ge=1, le=400)] = 90


class ConsoleConfig(Struct, frozen=True, kw_only=True):
    timezone: str = "UTC"  # IANA; of the days where several shops are looked at together
    listen: str = "127.0.0.1:8081"
    password_hash: str = ""
    session_hours: Annotated[int, Meta(ge=1, le=720)] = 12


class StorageConfig(Struct, frozen=True, kw_only=True):
    engine: Literal["sqlite", "postgres"] = "sqlite"
    dsn: str = ""  # secret, as it holds a password
    read_dsn: str = ""  # secret; where the console reads; empty: dsn
    pool: Annotated[int, Meta(ge=2, le=64)] = 4  # connections of a keeper, courier or console
    standby: Literal["required", "warn", "none"] = "required"
    group_timeout_seconds: Annotated[float, Meta(gt=0, le=60)] = 5.0
    data_dir: Annotated[str, Meta(min_length=1)] = "./collector-data"
    durability: Literal["full", "normal"] = "full"
    cache_mb: Annotated[int, Meta(ge=2, le=16_384)] = 64
    checkpoint_pages: Annotated[int, Meta(ge=32, le=1_000_000)] = 256  # units of 8 KiB
    reserve_mb: Annotated[int, Meta(ge=1)] = 32  # ballast, and the free space below which posts are refused


class MatchingConfig(Struct, frozen=True, kw_only=True):
    window_days: Annotated[int, Meta(ge=1, le=90)] = 7
    click_days: Annotated[int, Meta(ge=1, le=400)] = 90
    threshold: Annotated[int, Meta(ge=1, le=99)] = 50
    strong: Annotated[int, Meta(ge=1, le=99)] = 80
    probabilistic: bool = True
    model: Literal["last", "first", "linear", "time-decay", "position"] = "last"


class BatchWait(Struct, frozen=True, kw_only=True):
    """Seconds that an event may wait for company in its batch."""

    purchase: Annotated[float, Meta(ge=0, le=60)] = 1.0
    other: Annotated[float, Meta(ge=0, le=3600)] = 15.0


class MetaConfig(Struct, frozen=True, kw_only=True):
    mode: Literal["live", "dry_run", "off"] = "live"
    graph_url: str = "https://graph.facebook.com"
    api_version: str = "v26.0"
    batch_max: Annotated[int, Meta(ge=1, le=1000)] = 1000
    batch_wait_seconds: BatchWait = BatchWait()
    timeout_seconds: Annotated[float, Meta(gt=0, le=120)] = 15.0
    retry_base_seconds: Annotated[float, Meta(gt=0, le=60)] = 1.0
    retry_max_seconds: Annotated[float, Meta(gt=0, le=3600)] = 300.0
    app_secret: str = ""


class PrivacyConfig(Struct, frozen=True, kw_only=True):
    store_ip: Literal["full", "truncated", "none"] = "full"
    network_days: Annotated[int, Meta(ge=0, le=7)] = 7  # raw address and user agent
    click_days: Annotated[int, Meta(ge=1, le=400)] = 90
    conversion_days: Annotated[int, Meta(ge=1, le=1200)] = 400
    dead_letter_days: Annotated[int, Meta(ge=1, le=400)] = 30
    default_consent: Literal["granted", "denied", "pending"] = "granted"
    ldu: bool = False
    gpc: Literal["honour", "ldu", "ignore"] = "honour"  # Sec-GPC and Do-Not-Track
    pepper_file: str = ""  # empty: <data_dir>/pepper.key


class AlertsConfig(Struct, frozen=True, kw_only=True):
    webhook_url: str = ""
    revisions_url: str = ""
    email_to: list[str] = []  # empty: no letters
    weekly: str = ""  # when the week's report is sent: "monday 08:00"; empty: never
    email_from: str = ""
    smtp_url: str = ""  # smtps://user:password@host:465, or smtp:// (STARTTLS)
    console_url: str = ""  # where links lead; empty: [console] listen
    backlog_minutes: Annotated[int, Meta(ge=1)] = 30
    rejected_per_hour: Annotated[int, Meta(ge=1)] = 100
    accuracy_percent: Annotated[int, Meta(ge=0, le=100)] = 95  # of a shop's orders; below it somebody is told


class BackupConfig(Struct, frozen=True, kw_only=True):
    dir: str = ""  # empty: none are made
    every_hours: Annotated[float, Meta(gt=0, le=8760)] = 24.0
    keep: Annotated[int, Meta(ge=1, le=10_000)] = 7


class InsightsConfig(Struct, frozen=True, kw_only=True):
    """What the ads cost, read from Meta's ad account."""

    ad_account: str = ""  # act_…; empty: nothing is read
    access_token: str = ""
    hours: Annotated[float, Meta(ge=0.25, le=24)] = 3.0


class LogConfig(Struct, frozen=True, kw_only=True):
    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["json", "text"] = "text"


class MetricsConfig(Struct, frozen=True, kw_only=True):
    listen: str = ""  # empty: /metrics on the console's address only


class PixelConfig(Struct, frozen=True, kw_only=True):
    id: str
    access_token: str = ""
    test_event_code: str = ""
    test_event_code_expires: str = ""  # RFC 3339; required with test_event_code
    events: list[str] = []  # empty: all


class WebhookConfig(Struct, frozen=True, kw_only=True):
    """A platform whose signed messages tell of orders: a preset, or where each field lies (core/shops/mapping.py)."""

    name: str
    preset: str = ""
    secret: str | list[str] = ""
    signature: dict[str, Any] = {}
    topic: str = ""
    delivery: str | list[str] = ""
    order: str = ""
    topics: dict[str, str] = {}
    fields: dict[str, Any] = {}
    marks: str | list[str] = ""
    status: dict[str, Any] = {}
    channels: dict[str, Literal["send", "ignore", "offline", "renewal"]] = {}


class ShopConfig(Struct, frozen=True, kw_only=True):
    """How a store's orders are read from its shop."""

    order_key: Literal["id", "order_number", "name", "number"] = "id"
    value: Literal["total", "goods"] = "total"
    money: Literal["shop", "presentment"] = "shop"
    content_id: str = ""  # empty: the platform's own
    channels: dict[str, Literal["send", "ignore", "offline", "renewal"]] = {}
    renewals: Literal["ignore", "send"] = "ignore"
    refund_event: str = ""  # empty: Meta is told of no refund
    shop: str = ""
    platform: Literal["", "shopify", "woocommerce", "stripe"] = ""  # what is pulled; empty: nothing
    url: str = ""
    pull_minutes: Annotated[int, Meta(ge=0, le=1440)] = 15  # 0: no pull
    client_id: str = ""  # Shopify, with client_secret; or access_token
    client_secret: str = ""
    access_token: str = ""
    consumer_key: str = ""  # WooCommerce
    consumer_secret: str = ""
    restricted_key: str = ""  # Stripe


class StoreConfig(Struct, frozen=True, kw_only=True):
    id: str
    name: str = ""
    active: bool = True
    domains: list[str] = []
    currency: str = ""
    country: str = ""
    timezone: str = "UTC"  # IANA: where the shop's days begin
    send_purchase_on: Literal["order", "paid"] = "order"
    browser_purchases: Literal["hold", "send"] = "hold"
    count: Literal["every", "one"] = "every"  # conversions that one click may be given
    probabilistic: bool | None = None  # None: as in [matching]
    default_consent: Literal["", "granted", "denied", "pending"] = ""
    ldu: bool | None = None
    pixel_mode: Literal["server-only", "pixel+server"] = "server-only"
    excluded_addresses: list[str] = []
    excluded_emails: list[str] = []
    webhook_secrets: dict[str, str | list[str]] = {}
    webhook: list[WebhookConfig] = []
    shop: ShopConfig = ShopConfig()
    pixel: list[PixelConfig] = []


class Config(Struct, frozen=True, kw_only=True):
    """Everything `serve` runs on. `path` is the file it came from, None for embedded defaults."""

    edge: EdgeConfig = EdgeConfig()
    console: ConsoleConfig = ConsoleConfig()
    storage: StorageConfig = StorageConfig()
    matching: MatchingConfig = MatchingConfig()
    meta: MetaConfig = MetaConfig()
    privacy: PrivacyConfig = PrivacyConfig()
    alerts: AlertsConfig = AlertsConfig()
    backup: BackupConfig = BackupConfig()
    insights: InsightsConfig = InsightsConfig()
    log: LogConfig = LogConfig()
    metrics: MetricsConfig = MetricsConfig()
    store: list[StoreConfig] = field(default_factory=list)
    path: str | None = None

    def store_by_id(self, store_id: str) -> StoreConfig | None:
        return next((s for s in self.store if s.id == store_id), None)
