"""What the ads cost, in the running program, kept to its files and calls: read, shown, and the token nowhere."""

from __future__ import annotations

import json
import signal
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.kit.program import SOURCE, Serving, wait_until
from tests.kit.simulators.ad_account import AdAccount, an_ad_day
from tests.kit.simulators.graph import GraphSimulator

pytestmark = pytest.mark.slow
TOKEN = "ads-token-that-nobody-may-see"
CONFIG = """
[meta]
mode = "dry_run"
graph_url = "{url}"

[insights]
ad_account = "act_1"
access_token_file = "insights.token"

[[store]]
id = "store_a"
domains = ["shop.example"]
"""


def test_a_token_is_refused_mended_and_read_without_a_restart(tmp_path: Path) -> None:
    with GraphSimulator() as graph:
        account = graph.state.accounts["act_1"] = AdAccount(TOKEN)
        account.rows = [an_ad_day(datetime.now(UTC).date(), 12, "12.34")]
        (tmp_path / "insights.token").write_text("expired")
        (tmp_path / "insights.token").chmod(0o600)
        (tmp_path / "collector.toml").write_text(CONFIG.format(url=graph.url))
        serving = Serving(SOURCE, tmp_path, "--config", "collector.toml")
        try:
            serving.ready()
            beside = ("--config", "collector.toml", "--json")

            def state() -> dict[str, str | None]:
                return dict(json.loads(serving.run("status", *beside))["insights"])

            assert wait_until(lambda: "put a new token" in str(state()["fault"]), 60)
            (tmp_path / "insights.token").write_text(TOKEN)
            serving.process.send_signal(signal.SIGHUP)
            assert wait_until(lambda: state()["lastRead"], 60)
            assert state()["fault"] is None
            report = json.loads(serving.run("report", "attribution", "--since", "1d", *beside))
            assert [(line["label"], line["spend"]) for line in report["lines"]] == [("(not joined)", "12.34")]
            assert TOKEN not in serving.stderr
            assert serving.stderr.count("calls=kept") == serving.stderr.count("the kernel keeps")
        finally:
            serving.end()
