"""`collector send-test`: one Purchase with a test event code, and Meta's answer word for word."""

from __future__ import annotations

import argparse
import time

from collector.cli.output import print_json
from collector.cli.settings import BOTH, config_of
from collector.config import Config, PixelConfig, StoreConfig
from collector.core.capi.verdicts import Kind
from collector.courier import probe
from collector.errors import ConfigError

REFUSED = 4


def run(args: argparse.Namespace) -> int:
    config = config_of(args, role="courier", engines=BOTH)
    store, pixel = pixel_of(config, args.store)
    code = args.code or pixel.test_event_code
    if not code:
        raise ConfigError(
            ["--code: a test event code is needed, or the purchase would count; Events Manager shows one"]
        )
    came = probe.send_test(config, store, pixel, code, time.time_ns() // 1_000_000)
    body = came.answer.body.decode(errors="replace")
    if args.json:
        status, fault = came.answer.status, came.answer.fault
        print_json(
            {"pixel": pixel.id, "status": status, "fault": fault, "outcome": came.verdict.kind.value, "body": body}
        )
    else:
        print(f"HTTP {came.answer.status}" if came.answer.status else came.answer.fault)
        print(body)
    return 0 if came.verdict.kind is Kind.SENT else REFUSED


def pixel_of(config: Config, store_id: str | None) -> tuple[StoreConfig, PixelConfig]:
    """The store's first pixel with a token; without a store, the first of all."""
    for store in config.store:
        if store_id is None or store.id == store_id:
            for pixel in store.pixel:
                if pixel.access_token:
                    return store, pixel
    raise ConfigError([f"no pixel with an access token in {store_id or 'any store'}"])
