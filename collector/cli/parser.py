"""Which commands are there, what do they take, and what does each look like in use?"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from typing import Final, NamedTuple, TypeAlias

import collector

ABOUT: Final = "Collector: a self-hosted edge collector for Meta ads."  # the binary has no docstrings
BENCH_PARTS: Final = ("clicks", "batch", "orders", "webhooks", "ingest", "matching", "payloads", "drain", "start")
Subparsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
Arguments = Callable[[argparse.ArgumentParser], None]


class Command(NamedTuple):
    """One command: `run` is `module:function` in collector.cli, imported when the command is used."""

    name: str
    help: str
    run: str
    example: str
    arguments: tuple[Arguments, ...] = ()


def config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", metavar="F", default=os.environ.get("COLLECTOR_CONFIG"), help="the TOML file")


def data_dir(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data-dir", metavar="D", help="where the database is kept; wins over [storage] data_dir")


def as_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="answer in JSON")


def origin(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--origin", action="store_true", help="say where each value came from")


def store(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--store", metavar="ID", help="one store's alone")


def new_key(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--store", metavar="ID", help="the store it opens; a secret key without it opens all stores")
    parser.add_argument("--kind", choices=("secret", "publishable"), required=True, help="for servers, or for pages")


def key_id(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", metavar="ID", help="the key's id, as `keys list` shows it")


def conversion_id(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", metavar="CONVERSION_ID", help="conv_…, as the API answered it, or a Purchase's order id")


def export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", choices=("clicks", "conversions", "deliveries"))
    parser.add_argument("--format", choices=("ndjson", "csv"), default="ndjson", help="one object a line, or a table")
    parser.add_argument("--output", metavar="F", help="write to a file instead of stdout")


def replayed(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--status", nargs="+", metavar="STATUS", default=["rejected"], help="rejected, expired, dry_run … (rejected)"
    )
    parser.add_argument("--since", metavar="T", help="settled since: 2d, 12h, 30m or an RFC 3339 time")
    parser.add_argument("--dry-run", action="store_true", help="only say what would happen")


def reconciled(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--since", metavar="T", default="28d", help="from then on: 28d, 12h, a date (28d)")
    parser.add_argument("--by", choices=("day", "reason", "channel"), default="day", help="what each line is of (day)")


def shop_export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="the shop's export of its orders, CSV or NDJSON; -: stdin")
    parser.add_argument("--format", choices=("auto", "shopify", "woocommerce", "ndjson"), default="auto")
    parser.add_argument(
        "--columns", metavar="C", default="", help="order=…,date=…,total=…,currency=…,status=… of another CSV"
    )
    parser.add_argument("--timezone", metavar="Z", help="of the file's times that name none; else the store's")
    parser.add_argument("--min", metavar="PERCENT", type=float, help="exit 1 where accuracy is below it")
    parser.add_argument("--fill", action="store_true", help="NDJSON: have the missing orders taken in")


def request_id(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", metavar="ID", help="the request's id, as `requests list` shows it")
    parser.add_argument("--yes", action="store_true", help="do not ask")


def person(parser: argparse.ArgumentParser) -> None:
    one = parser.add_mutually_exclusive_group(required=True)
    one.add_argument("--email", metavar="E", help="the address; - reads it from standard input, as for each of these")
    one.add_argument("--phone", metavar="P", help="the number, with its country code or in the store's country")
    one.add_argument("--external-id", metavar="ID", help="the shop's own customer id")
    one.add_argument("--visitor", metavar="ID", help="the visitor id of one browser, as its cookie or an export has it")
    one.add_argument("--order", metavar="ID", help="whoever placed this order")


def erased(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="only say what would go")
    parser.add_argument("--yes", action="store_true", help="do not ask")


def private_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", metavar="FILE", help="a file that only its owner can read; else stdout")


def printed(parser: argparse.ArgumentParser) -> None:
    one = parser.add_mutually_exclusive_group(required=True)
    one.add_argument("--grafana", action="store_true", help="a dashboard, to be imported as it is")
    one.add_argument("--rules", action="store_true", help="alert rules, for rule_files of prometheus.yml")


def installed(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--systemd", action="store_true", help="write units of systemd: what it does anyway")
    parser.add_argument("--user", metavar="U", default="collector", help="who runs it; made where absent (collector)")
    parser.add_argument("--split", action="store_true", help="a unit for each process; else one for all")
    parser.add_argument("--program", metavar="P", default="/usr/local/bin/collector", help="for the binary")
    parser.add_argument(
        "--units", metavar="D", default="/etc/systemd/system", help="for the units (/etc/systemd/system)"
    )
    parser.add_argument("--docker", action="store_true", help="only print a Dockerfile and a Compose file")
    parser.add_argument("--dry-run", action="store_true", help="only say what would be done, and show the units")


def imported(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="in the API's own field names, or as `export` wrote it")
    parser.add_argument("--type", choices=("click", "conversion", "event"), help="of its lines; else by their fields")
    parser.add_argument("--format", choices=("ndjson", "csv"), help="else csv for a name that ends so, or --columns")
    parser.add_argument(
        "--columns", metavar="OURS=THEIRS,…", help="columns with other names; customerData.email=E-Mail"
    )
    parser.add_argument("--rejects", metavar="F", help="a file for the lines that were refused, with the reason")
    parser.add_argument("--no-send", action="store_true", help="send none of it; else what Meta still takes goes out")
    parser.add_argument("--dry-run", action="store_true", help="only look for faults; nothing is stored")
    parser.add_argument("--resume", action="store_true", help="go on where an import of this file was cut off")


def followed(parser: argparse.ArgumentParser) -> None:
    kinds = ("click", "hit", "order", "event", "attempt", "refusal", "reload")
    parser.add_argument("--kind", action="append", choices=kinds, help="only this; may be given twice (all)")
    parser.add_argument("--last", type=int, default=10, metavar="N", help="begin with the newest N of each table (10)")


def first(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dir", metavar="DIR", nargs="?", default=".", help="the folder to be made ready (this one)")
    parser.add_argument("--store", metavar="ID", help="the store's id, which callers send; else made of the domain")
    parser.add_argument("--domain", metavar="D", help="the shop's domain, for example mystore.com")
    parser.add_argument("--pixel", metavar="P", help="Meta's pixel (dataset) id")
    parser.add_argument("--currency", metavar="C", help="of its reports, for example USD")
    parser.add_argument("--country", metavar="CC", help="of its phone numbers, for example US")
    parser.add_argument("--token-file", metavar="F", help="the file with Meta's token: live with it, else a dry run")
    parser.add_argument("--yes", action="store_true", help="ask nothing")


def kept_copy(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("to", metavar="FILE|DIR", help="the file to write, or a folder: then it is named by the time")


def from_copy(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="as `collector backup` wrote it")


def test_code(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--code", metavar="CODE", help="the test event code; else the pixel's own")


def bench(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--quick", action="store_true", help="tiny numbers: does it run, not how fast")
    parser.add_argument("--rows", type=int, metavar="N", help="clicks stored in the large cases (1000000)")
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--only", nargs="+", choices=BENCH_PARTS, metavar="PART", help=" ".join(BENCH_PARTS))
    choice.add_argument(
        "--against",
        metavar="PROGRAM",
        help="another release beside this one, in turn: a binary or a folder with its source",
    )


def shared(parser: argparse.ArgumentParser) -> None:
    models = ("last", "first", "linear", "time-decay", "position")
    parser.add_argument("--model", choices=models, help="how an order is shared; else [matching] model")
    labels = ("campaign", "source", "adset", "ad", "landing-page", "day")
    parser.add_argument("--by", choices=labels, default="campaign", help="what earns the credit (campaign)")
    parser.add_argument("--since", metavar="T", default="30d", help="30d, 12h, a date or an RFC 3339 time (30d)")
    parser.add_argument("--until", metavar="T", help="likewise; else now")
    parser.add_argument("--window", type=int, metavar="DAYS", help="1, 7, 28, 30 or 90; else [matching] window_days")
    parser.add_argument("--day-of", choices=("order", "click"), default="order", help="whose day `--by day` means")
    parser.add_argument("--event", metavar="TYPE", default="Purchase", help="the event type (Purchase)")


def shell(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=("bash", "zsh", "fish"))


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
        "console", "dashboard and metrics alone", "serve:console", "collector console --config collector.toml", FILES
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
        "collector doctor --config collector.toml",
        (*FILES, as_json),
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
        "who did what: keys, erasures, exports of a person, replays, restores, reloads",
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
    Command("version", "version, git revision and SQLite", "version:version", "collector version --json", (as_json,)),
)

RAW: Final = argparse.RawDescriptionHelpFormatter
GROUPS: Final = {
    "clock": "what time is believed",
    "config": "check and show the configuration",
    "keys": "API keys",
    "report": "what the orders are owed to, and whether all of them arrived",
    "requests": "what shop platforms have asked for their customers",
    "damage": "what the database has lost, and going on without it",
}


def build_parser() -> argparse.ArgumentParser:
    """The parser of every command."""
    parser = argparse.ArgumentParser(
        prog="collector",
        description=ABOUT,
        allow_abbrev=False,
        epilog="Example:\n  collector serve",
        formatter_class=RAW,
    )
    parser.add_argument("--version", action="version", version=f"collector {collector.__version__}")
    top = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    groups = {name: _group(top, name, text) for name, text in GROUPS.items()}
    for command in COMMANDS:
        group, _, name = command.name.rpartition(" ")
        _add(groups[group] if group else top, name, command)
    _alone(top.choices["clock"], groups["clock"], "show")
    return parser


def _group(top: Subparsers, name: str, text: str) -> Subparsers:
    parser = top.add_parser(name, help=text, description=text, epilog=_examples(name), formatter_class=RAW)
    return parser.add_subparsers(title="commands", metavar="COMMAND", required=True)


def _alone(parser: argparse.ArgumentParser, commands: Subparsers, name: str) -> None:
    """Have a group without a command do as this one of its commands, options before or after the command's name."""
    commands.required = False
    for arguments in (*FILES, as_json):
        arguments(parser)
    parser.set_defaults(run=commands.choices[name].get_default("run"))
    for command in commands.choices.values():
        for action in command._actions:
            action.default = argparse.SUPPRESS  # what the group was told stays where the command is not told


def _examples(group: str) -> str:
    return "Examples:\n" + "\n".join(f"  {c.example}" for c in COMMANDS if c.name.startswith(f"{group} "))


def _add(subparsers: Subparsers, name: str, command: Command) -> None:
    parser = subparsers.add_parser(
        name,
        help=command.help,
        description=command.help[0].upper() + command.help[1:] + ".",
        epilog=f"Example:\n  {command.example}",
        allow_abbrev=False,
        formatter_class=RAW,
    )
    for arguments in command.arguments:
        arguments(parser)
    parser.set_defaults(run=command.run)
