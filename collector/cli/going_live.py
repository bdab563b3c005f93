"""The six steps from a fresh folder to the first order in Events Manager, as `init` prints and README has them."""

from __future__ import annotations

import shlex
from typing import Final

PIXEL: Final = "The pixel id: Events Manager, Data sources, your dataset (Meta's newer word for pixel), under its name."
TOKEN: Final = (
    "The token: there, Settings, Conversions API, Generate access token (takes full control of the dataset; "
    "a system user's token takes ads_management)."
)


def steps(config: str, store: str) -> list[str]:
    """Each step, to be followed as it stands; `config` is the file's path."""
    with_config = f"--config {shlex.quote(config)}"
    return [
        f"{PIXEL} {TOKEN} Write the id under [[store.pixel]].",
        "Put the token into the token file, one line; then take the # away from the pixel's lines "
        'and set mode = "live".',
        f"Check: collector config check {with_config}; start: collector serve {with_config}; "
        f"look from outside: collector doctor {with_config}",
        "Give the secret key to the shop's server, or set up its webhooks; a new key: "
        f"collector keys create {with_config} --store {store} --kind secret",
        "Send a test event: Events Manager, your dataset, Test events shows a code; "
        f"collector send-test {with_config} --store {store} --code TEST12345",
        "Put a proxy with TLS on the shop's own domain before it, and the tag first in the head of every page.",
    ]


def tag_of(store: str) -> str:
    """What goes into the head, with the path that the recipes for proxies use."""
    return (
        "<script>window.collector=window.collector||function(){(collector.q=collector.q||[]).push(arguments)}</script>\n"
        f'<script async src="/m/c.js" data-store="{store}"></script>'
    )
