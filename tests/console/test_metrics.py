"""/metrics: Prometheus's text format, every name documented, figures that agree with the rows."""

from __future__ import annotations

import json
import re
import socket
import time
from pathlib import Path

import msgspec
import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from collector.cli import main
from collector.config import MetricsConfig
from collector.console import metrics
from collector.console.metrics import METRICS, OF_SERVER, Sample, render
from collector.core.capi.states import CapiState
from collector.core.latency import BOUNDS, Latency
from tests.console.test_console_auth import CHEAP
from tests.kit.console_process import ConsoleProcess, make_config
from tests.kit.console_store import PIXEL, add_outbox, make_store

LINE = re.compile(r'^([a-z_]+)(?:\{((?:[a-z_]+="(?:[^"\\\n]|\\["\\n])*",?)*)\})? (-?[0-9.]+)$', re.MULTILINE)


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> str:
    data_dir = tmp_path_factory.mktemp("data")
    now = int(time.time() * 1000)
    db = make_store(data_dir, now=now)
    add_outbox(db, 1, int(CapiState.RETRYING), now - 90_000)
    life = {"sent": 7, "diskFreeBytes": 5_000_000_000, "diskDays": 90, "newestBackupAt": now - 3_600_000}
    db.execute("UPDATE heartbeat SET body = ? WHERE process = 'courier'", (msgspec.json.encode(life),))
    answers = Latency("answer")
    for seconds in (0.0005, 0.005, 0.01):
        answers.observe(seconds)
    db.executemany("INSERT INTO total VALUES (?, ?)", answers.totals().items())
    told = "INSERT INTO shop_order SELECT id, 1, '1', ?, 'paid', '1', 'EUR', '', NULL, NULL, 1, ? FROM store"
    db.execute(told, (now - 1, now))
    db.commit()
    with ConsoleProcess(make_config(data_dir)) as console:
        answer = console.get("/metrics")
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        return answer.text


def _value(text: str, name: str, **labels: str) -> float:
    for found in LINE.finditer(text):
        if found[1] == name and all(f'{key}="{value}"' in (found[2] or "") for key, value in labels.items()):
            return float(found[3])
    raise AssertionError(f"no {name} with {labels}")


def test_every_line_is_well_formed_and_every_name_has_help_and_type(scraped: str) -> None:
    assert scraped.endswith("\n")
    for line in scraped.splitlines():
        assert line.startswith("#") or LINE.fullmatch(line), line
    names = {re.sub(r"_(bucket|sum|count)$", "", found[1]) for found in LINE.finditer(scraped)}
    assert names == set(METRICS) - OF_SERVER  # the fixture store exercises all of them
    for name in names:
        kind, text = METRICS[name]
        assert f"# TYPE {name} {kind}\n" in scraped
        assert f"# HELP {name} {text}\n" in scraped


def test_prometheus_own_parser_reads_the_same(scraped: str) -> None:
    families = {family.name: family for family in text_string_to_metric_families(scraped)}
    for name, (kind, text) in METRICS.items():
        if name in OF_SERVER:
            continue
        family = families[name.removesuffix("_total") if kind == "counter" else name]
        assert (family.type, family.documentation) == (kind, text)
    parsed = [sample for family in families.values() for sample in family.samples]
    assert len(parsed) == len(LINE.findall(scraped))
    for sample in parsed:
        assert _value(scraped, sample.name, **sample.labels) == sample.value


def test_a_histogram_counts_every_duration_once_and_cumulates(scraped: str) -> None:
    buckets = [float(f[3]) for f in LINE.finditer(scraped) if f[1] == "collector_answer_seconds_bucket"]
    assert len(buckets) == len(BOUNDS) + 1
    assert buckets == sorted(buckets)
    assert buckets[-1] == _value(scraped, "collector_answer_seconds_count") == 3
    assert _value(scraped, "collector_answer_seconds_sum") == 0.0155
    assert _value(scraped, "collector_answer_seconds_bucket", le="0.005") == 2
    assert _value(scraped, "collector_graph_request_seconds_count") > 100


def test_what_has_a_store_is_labelled_by_it(scraped: str) -> None:
    for name in ("collector_clicks_kept", "collector_conversions_kept", "collector_deliveries_kept"):
        stores = {
            found[2] and re.search(r'store="([^"]*)"', found[2])[1]
            for found in LINE.finditer(scraped)
            if found[1] == name
        }
        assert stores == {"store_demo", "store_zurich"}, name


def test_figures_agree_with_the_rows(scraped: str) -> None:
    assert _value(scraped, "collector_clicks_total") == 400
    assert _value(scraped, "collector_conversions_total") == 120
    assert _value(scraped, "collector_outbox_events", pixel=PIXEL, state="retrying") == 1
    assert 90 <= _value(scraped, "collector_outbox_oldest_seconds", pixel=PIXEL, state="retrying") < 120
    assert _value(scraped, "collector_pixel_open", pixel=PIXEL) == 1
    assert _value(scraped, "collector_pixel_open", pixel="987654321098765") == 0
    assert _value(scraped, "collector_up") == 1
    assert _value(scraped, "collector_heartbeat_age_seconds", process="edge") < 60
    kept = [float(f[3]) for f in LINE.finditer(scraped) if f[1] == "collector_conversions_kept"]
    assert sum(kept) == 120


def test_metrics_may_have_an_address_of_their_own(tmp_path: Path) -> None:
    make_store(tmp_path, clicks=3, conversions=1).close()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    plain = make_config(tmp_path, password_hash=CHEAP)
    config = msgspec.structs.replace(plain, metrics=MetricsConfig(listen=f"127.0.0.1:{port}"))
    with ConsoleProcess(config) as console:
        assert console.get("/metrics").status_code == 401
        own = requests.get(f"http://127.0.0.1:{port}/metrics", timeout=10)
        assert "collector_clicks_total 3\n" in own.text
        assert requests.get(f"http://127.0.0.1:{port}/", timeout=10).status_code == 404
    assert console.ending == (0, "no apsw")


def test_labels_are_escaped() -> None:
    text = render([Sample("collector_conversions_kept", 1, {"event_type": 'a"b\\c\nd', "attributed": "true"})])
    assert 'event_type="a\\"b\\\\c\\nd"' in text
    assert text.count("\n") == 3


def test_names_follow_prometheus() -> None:
    for name, (kind, text) in METRICS.items():
        assert re.fullmatch(r"collector_[a-z0-9_]+", name)
        assert name.endswith("_total") == (kind == "counter")
        assert text.endswith(".")


def test_the_consoles_readme_names_every_metric() -> None:
    readme = (Path(metrics.__file__).parent / "README.md").read_text(encoding="utf-8")
    missing = [name for name in METRICS if name not in readme]
    assert not missing, f"collector/console/README.md lacks {missing}"


def test_dashboard_and_rules_ask_for_metrics_that_there_are(scraped: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Names and labels, as a scrape has them: a wrong one makes an empty panel, and an alert that sleeps."""
    assert main(["metrics", "--grafana"]) == 0
    board = json.loads(capsys.readouterr().out)
    asked = [target["expr"] for panel in board["panels"] for target in panel.get("targets", [])]
    asked.append(board["templating"]["list"][0]["query"])
    assert main(["metrics", "--rules"]) == 0
    rules = capsys.readouterr().out
    asked += re.findall(r"(?m)^ +expr: (.*)$", rules)
    assert len(asked) > 20
    series = {found[1]: set(re.findall(r'([a-z_]+)="', found[2] or "")) for found in LINE.finditer(scraped)}
    for expression in asked:
        names = re.findall(r"collector_[a-z_]+", expression)
        assert names, expression
        assert set(names) <= set(series), expression
        for name, labels in re.findall(r"(collector_[a-z_]+)\{([^}]*)\}", expression):
            assert set(re.findall(r"([a-z_]+)[=!]~?", labels)) <= series[name], expression
    for name in re.findall(r"(?m)^ +- alert: (\w+)$", rules):
        block = rules.split(f"alert: {name}\n")[1].split("- alert:")[0]
        assert "severity:" in block, name
        assert "summary:" in block, name


def test_metrics_says_what_it_can_print(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["metrics"])
    assert ended.value.code == 2
    assert "--grafana" in capsys.readouterr().err
