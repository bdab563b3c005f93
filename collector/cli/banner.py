"""What does a first start show? Two addresses, fresh keys, and lines that work when pasted."""

from __future__ import annotations

import secrets
import shlex
import time
from collections.abc import Mapping

import collector
from collector.config import Config
from collector.config_loader import Role
from collector.storage.ground.keys import create, list_keys
from collector.storage.rules.keys import NewKey

# Meta's click ids begin so; the rest is random, so that each start's click is a new one.
FBCLID_PREFIX = "IwAR"


class Banner:
    """The demo's first screen, on stdout: the keys are shown here and nowhere else."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._store = config.store[0].id
        self._keys: list[NewKey] = []

    def make_keys(self) -> None:
        """Fresh keys, at the first start and before the edge's: they are valid with its first answer."""
        from collector.storage.ground.database import open_database

        db = open_database(self._config.storage)
        try:
            if any(key.store == self._store and key.revoked is None for key in list_keys(db)):
                return
            now = time.time_ns() // 1_000_000
            self._keys = [create(db, store=self._store, kind=kind, now=now) for kind in ("secret", "publishable")]
        finally:
            db.close()

    def show(self, urls: Mapping[Role, str]) -> None:
        print(banner(urls, {key.kind: key.key for key in self._keys}, self._store, self._config), flush=True)


def banner(urls: Mapping[Role, str], keys: Mapping[str, str], store: str, config: Config) -> str:
    edge = urls["edge"].replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")
    visitor, fbclid, order = secrets.token_hex(8), FBCLID_PREFIX + secrets.token_urlsafe(40), secrets.token_hex(4)
    click = f'{{"storeId":"{store}","fbclid":"{fbclid}","landingPage":"https://shop.example/?utm_source=facebook",' + (
        f'"visitorId":"{visitor}"}}'
    )
    conversion = (
        f'{{"storeId":"{store}","eventType":"Purchase","orderId":"demo-{order}","eventValue":49.90,"currency":"USD",'
        f'"visitorId":"{visitor}","customerData":{{"email":"jo@example.com"}}}}'
    )
    where = f"""
Collector {collector.__version__}: a demo, since no --config is given. Nothing is sent to Meta (dry run).

  edge     {urls["edge"]}    clicks and conversions
  console  {urls["console"]}    dashboard and metrics
  data     {config.storage.data_dir}, store {store}
"""
    if not keys:
        return f"""{where}
Its keys were shown at the first start. Another one, which is shown once:

  collector keys create --data-dir {shlex.quote(config.storage.data_dir)} --store {store} --kind secret
"""
    return f"""{where}
Keys of {store}, shown only now:

  secret       {keys["secret"]}    for servers
  publishable  {keys["publishable"]}    for pages

A click, and the order that it led to:

{_curl(edge, "click", keys["secret"], click)}
{_curl(edge, "conversion", keys["secret"], conversion)}
"""


def _curl(edge: str, path: str, key: str, body: str) -> str:
    headers = f"-H 'Authorization: Bearer {key}' -H 'Content-Type: application/json'"
    return f"curl -sS {edge}/v1/track/{path} {headers} -d '{body}'"
