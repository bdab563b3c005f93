"""Which commands are there, what do they take (arguments.py), and what does each look like in use?"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Final, NamedTuple

from collector.cli.arguments import (
    as_json,
    bench,
    config,
    conversion_id,
    data_dir,
    erased,
    export,
    first,
    followed,
    from_copy,
    imported,
    inside,
    installed,
    kept_copy,
    key_id,
    moved,
    new_key,
    new_share,
    of_a_week,
    origin,
    person,
    printed,
    private_output,
    probed,
    reconciled,
    replayed,
    request_id,
    share_id,
    shared,
    shell,
    shop_export,
    store,
    test_code,
)

Arguments = Callable[[argparse.ArgumentParser], None]


class Command(NamedTuple):
    """One command: `run` is `module:function` in collector.cli, imported when the command is used."""

    name: str
    help: str
    run: str
    example: str
    arguments: tuple[Arguments, ...] = ()


FILES: Final = (config, data_dir)

COMMANDS: Final = (
    Command(
        "serve",
        "start keeper, edge, courier and console under one supervisor",
        "serve:serve",
        "collector serve --config collector.toml\n"
        "  collector serve                              (no file: a demo store, nothing is sent to Meta)",
        FILES,
    ),
    Command(
        "init",
        "make a folder ready: configuration, token file, database and keys; prints the steps to going live",
        "init:run",
        "collector init /srv/collector --domain mystore.com --pixel 123456789012345 --currency USD --country US",
        (first, as_json),
    ),
    Command(
        "install",
        "make it a service of this machine: user, folders, rights and hardened units of systemd; prints each step",
        "installing.command:run",
        "collector install --config /srv/collector/collector.toml --dry-run",
        (*FILES, installed, as_json),
    ),
    Command("edge", "the public HTTP door alone", "serve:edge", "collector edge --config collector.toml", FILES),
    Command("keeper", "the one writer alone", "serve:keeper", "collector keeper --config collector.toml", FILES),
    Command("courier", "delivery to Meta alone", "serve:courier", "collector courier --config collector.toml", FILES),
    Command(
        "console",
        "dashboard and metrics alone; over PostgreSQL read where [storage] read_dsn says",
        "serve:console",
        "collector console --config collector.toml",
        FILES,
    ),
    Command(
        "config check",
        "tell all faults of the configuration at once",
        "configure:check",
        "collector config check --config collector.toml",
        (*FILES, as_json),
    ),
    Command(
        "config show",
        "show the values in force, secrets masked",
        "configure:show",
        "collector config show --config collector.toml --origin",
        (*FILES, origin, as_json),
    ),
    Command(
        "config hash-password",
        "make [console] password_hash from a password, asked for or read from stdin",
        "password:hash_it",
        "collector config hash-password",
    ),
    Command(
        "keys create",
        "make an API key; it is shown once",
        "keys:create",
        "collector keys create --config collector.toml --store store_abc123 --kind secret",
        (*FILES, new_key, as_json),
    ),
    Command("keys list", "list the API keys", "keys:show", "collector keys list --json", (*FILES, as_json)),
    Command(
        "keys revoke",
        "end an API key; a running collector sees it within seconds",
        "keys:revoke",
        "collector keys revoke key_0123456789ab",
        (*FILES, key_id, as_json),
    ),
    Command(
        "doctor",
        "look for what is wrong, from outside too: files, clock, DNS, proxy, tag, token, queue; and say the mend",
        "doctor:run",
        "collector doctor --config collector.toml\n  collector doctor --code TEST12345",
        (*FILES, probed, as_json),
    ),
    Command(
        "status",
        "queue, delivery, attribution and storage at a glance",
        "status:status",
        "collector status --config collector.toml --json",
        (*FILES, as_json),
    ),
    Command(
        "tail",
        "what happens, as it happens: clicks, orders, events, attempts, refusals, reloads; no personal data",
        "tail:run",
        "collector tail --kind order --kind attempt --config collector.toml",
        (*FILES, followed, store, as_json),
    ),
    Command(
        "audit",
        "who did what: keys, erasures, exports of a person, replays, restores, reloads, releases",
        "audit:run",
        "collector audit --config collector.toml",
        (*FILES, as_json),
    ),
    Command(
        "explain",
        "why a conversion was or was not attributed, what was sent, what Meta said",
        "explain:explain",
        "collector explain conv_0123456789abcdefghijklmnop --config collector.toml",
        (*FILES, conversion_id, as_json),
    ),
    Command(
        "metrics",
        "print a Grafana dashboard, or Prometheus' alert rules, for what /metrics has",
        "metrics:run",
        "collector metrics --grafana > collector-dashboard.json\n"
        "  collector metrics --rules > /etc/prometheus/rules/collector.yml",
        (printed,),
    ),
    Command(
        "learn",
        "take the nightly learning step at once, by event time, and say what was learnt",
        "learn:learn",
        "collector learn --store store_abc123 --config collector.toml",
        (*FILES, store, as_json),
    ),
    Command(
        "replay",
        "put dead letters back in the queue, with the same event ids",
        "replay:run",
        "collector replay --status rejected --since 2d --dry-run --config collector.toml",
        (*FILES, replayed, store, as_json),
    ),
    Command(
        "send-test",
        "send one Purchase with a test event code and print Meta's answer",
        "send_test:run",
        "collector send-test --store store_abc123 --code TEST12345 --config collector.toml",
        (*FILES, store, test_code, as_json),
    ),
    Command(
        "export",
        "write clicks, conversions or deliveries as NDJSON or CSV",
        "export:export",
        "collector export conversions --config collector.toml --format csv --output conversions.csv",
        (*FILES, export, store),
    ),
    Command(
        "import",
        "take history out of a file, with its true times; exit 1 where a line was refused",
        "importing.command:run",
        "collector import orders.csv --columns orderId=Name,eventValue=Total,timestamp=Date --type conversion\n"
        "  collector import clicks.ndjson --no-send --rejects rejects.ndjson --config collector.toml",
        (*FILES, imported, store, as_json),
    ),
    Command(
        "backup",
        "write database and key into one verified file, beside a running collector",
        "backup:backup",
        "collector backup /var/backups/collector --config collector.toml",
        (*FILES, kept_copy, as_json),
    ),
    Command(
        "restore",
        "put a backup into an empty data directory, verified; nothing that Meta may have is counted twice",
        "backup:restore",
        "collector restore collector-20260131T060000Z.tar --data-dir ./collector-data",
        (*FILES, from_copy, as_json),
    ),
    Command(
        "migrate",
        "move all that the SQLite file in the data directory has into PostgreSQL; the collector is stopped meanwhile",
        "migrate:run",
        "collector migrate --to postgres --dry-run --config collector.toml\n"
        "  collector migrate --to postgres --config collector.toml\n"
        "  collector migrate --to postgres --resume --config collector.toml",
        (*FILES, moved, as_json),
    ),
    Command(
        "report attribution",
        "share orders out over campaigns, ads, pages or days, to the cent",
        "report:attribution",
        "collector report attribution --model linear --by campaign --config collector.toml",
        (*FILES, shared, store, as_json),
    ),
    Command(
        "report reconcile",
        "did every order of the shop arrive: sent, held, ignored, waiting, failed or missing, by day",
        "report_shops:reconcile",
        "collector report reconcile --since 28d --config collector.toml",
        (*FILES, reconciled, store, as_json),
    ),
    Command(
        "report weekly",
        "a week of each shop beside the one before: orders, value, clicks, campaigns; printed, or sent as a letter",
        "report_weekly:weekly",
        "collector report weekly --week 2026-W48 --config collector.toml\n"
        "  collector report weekly --format html > week.html\n  collector report weekly --send",
        (*FILES, of_a_week, store, as_json),
    ),
    Command(
        "share create",
        "make a link to a shop's sums of some days, for whoever has no log-in; it shows no order and ends by itself",
        "share:create",
        "collector share create --store store_abc123 --range last_month --valid 14 --config collector.toml",
        (*FILES, new_share, as_json),
    ),
    Command(
        "share list",
        "list the shared links, also those that have ended",
        "share:show",
        "collector share list --config collector.toml",
        (*FILES, as_json),
    ),
    Command(
        "share revoke",
        "end a shared link at once",
        "share:revoke",
        "collector share revoke 0123456789abcdef --config collector.toml",
        (*FILES, share_id, as_json),
    ),
    Command(
        "reconcile",
        "compare the shop's own export of its orders with what is here; exit 1 below --min",
        "reconcile:run",
        "collector reconcile orders_export.csv --store store_abc123 --min 98 --config collector.toml",
        (*FILES, shop_export, store, as_json),
    ),
    Command(
        "requests list",
        "what shop platforms have asked for their customers: erasures, and what is held of a person",
        "requests:show",
        "collector requests list --config collector.toml",
        (*FILES, as_json),
    ),
    Command(
        "requests run",
        "do what a platform has asked, now",
        "requests:run",
        "collector requests run req_0123456789abcdef --config collector.toml",
        (*FILES, request_id, as_json),
    ),
    Command(
        "requests dismiss",
        "strike out a request without doing it",
        "requests:dismiss",
        "collector requests dismiss req_0123456789abcdef --config collector.toml",
        (*FILES, request_id, as_json),
    ),
    Command(
        "erase",
        "erase a person's data everywhere, with a receipt",
        "erase:run",
        "collector erase --email jo@example.com --config collector.toml\n"
        "  echo jo@example.com | collector erase --email - --yes --json",
        (*FILES, person, erased, store, as_json),
    ),
    Command(
        "export-person",
        "write all that is held of a person as one JSON document, found as `erase` finds it",
        "export_person:run",
        "collector export-person --email jo@example.com --output jo.json --config collector.toml",
        (*FILES, person, private_output, store),
    ),
    Command(
        "damage show",
        "say what the database has lost, and read it through for what is damaged",
        "damage:show",
        "collector damage show --config collector.toml",
        (*FILES, as_json),
    ),
    Command(
        "damage accept",
        "go on without acknowledged rows that are lost: commands answer again, /readyz is 200",
        "damage:accept",
        "collector damage accept --config collector.toml",
        (*FILES, as_json),
    ),
    Command(
        "clock show",
        "say what time is believed, and whether a jump of this machine's clock is held; `collector clock` alone too",
        "clock:show",
        "collector clock show --config collector.toml",
        (*FILES, as_json),
    ),
    Command(
        "clock accept",
        "say that this machine's clock is right after a jump that is held",
        "accept:run",
        "collector clock accept --config collector.toml",
        (*FILES, as_json),
    ),
    Command(
        "bench",
        "measure this machine: each figure beside what it is to be judged by",
        "bench:bench",
        "collector bench\n  collector bench --only matching --rows 10000000\n  collector bench --against ./old",
        (bench, as_json),
    ),
    Command(
        "completion",
        "print the shell's completion of every command and option",
        "completion:run",
        "collector completion bash > ~/.local/share/bash-completion/completions/collector\n"
        "  collector completion fish > ~/.config/fish/completions/collector.fish",
        (shell,),
    ),
    Command(
        "version",
        "version, git revision and SQLite; the parts inside and their licences",
        "version:version",
        "collector version --json\n  collector version --licences\n  collector version --sbom > collector.cdx.json",
        (inside, as_json),
    ),
)

GROUPS: Final = {
    "clock": "what time is believed",
    "config": "check and show the configuration",
    "keys": "API keys",
    "report": "what the orders are owed to, and whether all of them arrived",
    "share": "links to some days' sums of a shop",
    "requests": "what shop platforms have asked for their customers",
    "damage": "what the database has lost, and going on without it",
}
