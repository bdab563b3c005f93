"""Which arguments does a command take? A function for each thing that it may be told; commands.py says who has it."""

from __future__ import annotations

import argparse
import os
from typing import Final

BENCH_PARTS: Final = (
    "clicks",
    "batch",
    "orders",
    "webhooks",
    "ingest",
    "matching",
    "payloads",
    "drain",
    "start",
    "edges",
)


def path(text: str) -> str:
    """A file or folder; an empty text is a shell's variable that nobody has set, and not the current folder."""
    if not text:
        raise argparse.ArgumentTypeError("it is empty; name a file or a folder")
    return text


def written(text: str) -> str:
    """A file that is made; - is no name for one."""
    if text == "-":
        raise argparse.ArgumentTypeError("it is not written to standard output; name a file (./- is one too)")
    return path(text)


def output(text: str) -> str | None:
    """A file that is made; -: standard output, as without one."""
    return None if text == "-" else path(text)


def config(parser: argparse.ArgumentParser) -> None:
    given = os.environ.get("COLLECTOR_CONFIG") or None
    parser.add_argument("--config", metavar="F", type=path, default=given, help="the TOML file")


def data_dir(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data-dir", metavar="D", type=path, help="where the database is kept; wins over [storage] data_dir"
    )


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
    parser.add_argument("--output", metavar="F", type=output, help="write to a file instead of stdout")


def replayed(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--status", nargs="+", metavar="STATUS", default=["rejected"], help="rejected, expired, dry_run … (rejected)"
    )
    parser.add_argument("--since", metavar="T", help="settled since: 2d, 12h, 30m or an RFC 3339 time")
    parser.add_argument("--dry-run", action="store_true", help="only say what would happen")


def of_a_week(parser: argparse.ArgumentParser) -> None:
    one = parser.add_mutually_exclusive_group()
    one.add_argument("--week", metavar="W", help="2026-W48; else the last whole one, Monday to Sunday")
    one.add_argument("--since", metavar="DAY", help="seven days from a date, 2026-11-23")
    parser.add_argument("--format", choices=("text", "html"), default="text", help="how it is printed (text)")
    parser.add_argument("--send", action="store_true", help="send it by the ways of [alerts] instead")


def reconciled(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--since", metavar="T", default="28d", help="from then on: 28d, 12h, a date (28d)")
    parser.add_argument("--by", choices=("day", "reason", "channel"), default="day", help="what each line is of (day)")


def shop_export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file", metavar="FILE", type=path, help="the shop's export of its orders, CSV or NDJSON; -: stdin"
    )
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
    parser.add_argument(
        "--output", metavar="FILE", type=output, help="a file that only its owner can read; else stdout"
    )


def printed(parser: argparse.ArgumentParser) -> None:
    one = parser.add_mutually_exclusive_group(required=True)
    one.add_argument("--grafana", action="store_true", help="a dashboard, to be imported as it is")
    one.add_argument("--rules", action="store_true", help="alert rules, for rule_files of prometheus.yml")


def installed(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--systemd", action="store_true", help="write units of systemd: what it does anyway")
    parser.add_argument("--user", metavar="U", default="collector", help="who runs it; made where absent (collector)")
    parser.add_argument("--split", action="store_true", help="a unit for each process; else one for all")
    parser.add_argument(
        "--program",
        metavar="P",
        help="for the binary: where it stands below /usr or /opt, else /usr/local/bin/collector",
    )
    parser.add_argument(
        "--units", metavar="D", type=path, default="/etc/systemd/system", help="for the units (/etc/systemd/system)"
    )
    parser.add_argument("--docker", action="store_true", help="only print a Dockerfile and a Compose file")
    parser.add_argument("--deb", metavar="FILE", type=written, help="only make a Debian package of this binary")
    parser.add_argument("--dry-run", action="store_true", help="only say what would be done, and show the units")


def imported(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", type=path, help="in the API's own field names, or as `export` wrote it")
    parser.add_argument("--type", choices=("click", "conversion", "event"), help="of its lines; else by their fields")
    parser.add_argument("--format", choices=("ndjson", "csv"), help="else csv for a name that ends so, or --columns")
    parser.add_argument(
        "--columns", metavar="OURS=THEIRS,…", help="columns with other names; customerData.email=E-Mail"
    )
    parser.add_argument(
        "--rejects", metavar="F", type=written, help="a file for the lines that were refused, with the reason"
    )
    parser.add_argument("--no-send", action="store_true", help="send none of it; else what Meta still takes goes out")
    parser.add_argument("--dry-run", action="store_true", help="only look for faults; nothing is stored")
    parser.add_argument("--resume", action="store_true", help="go on where an import of this file was cut off")


def followed(parser: argparse.ArgumentParser) -> None:
    kinds = ("click", "hit", "order", "event", "attempt", "refusal", "reload")
    parser.add_argument("--kind", action="append", choices=kinds, help="only this; may be given twice (all)")
    parser.add_argument("--last", type=int, default=10, metavar="N", help="begin with the newest N of each table (10)")


def first(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "dir", metavar="DIR", type=path, nargs="?", default=".", help="the folder to be made ready (this one)"
    )
    parser.add_argument("--store", metavar="ID", help="the store's id, which callers send; else made of the domain")
    parser.add_argument("--domain", metavar="D", help="the shop's domain, for example mystore.com")
    parser.add_argument("--pixel", metavar="P", help="Meta's pixel (dataset) id")
    parser.add_argument("--currency", metavar="C", help="of its reports, for example USD")
    parser.add_argument("--country", metavar="CC", help="of its phone numbers, for example US")
    parser.add_argument(
        "--token-file", metavar="F", type=path, help="the file with Meta's token: live with it, else a dry run"
    )
    parser.add_argument("--yes", action="store_true", help="ask nothing")


def kept_copy(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "to", metavar="FILE|DIR", type=written, help="the file to write, or a folder: then it is named by the time"
    )


def from_copy(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", type=path, help="as `collector backup` wrote it")


def moved(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--to", choices=("postgres",), required=True, help="the engine to move to")
    one = parser.add_mutually_exclusive_group()
    one.add_argument("--dry-run", action="store_true", help="look for whatever would be refused, and write nothing")
    one.add_argument("--resume", action="store_true", help="go on with a move that was broken off")


def inside(parser: argparse.ArgumentParser) -> None:
    one = parser.add_mutually_exclusive_group()
    one.add_argument("--licences", action="store_true", help="the licence texts of everything inside")
    one.add_argument("--sbom", action="store_true", help="what is inside, as CycloneDX 1.6 (JSON)")


def probed(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--code", metavar="CODE", help="a test event code: then each pixel is sent a test event too")


def test_code(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--code", metavar="CODE", help="the test event code; else the pixel's own")


def bench(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--quick", action="store_true", help="tiny numbers: does it run, not how fast")
    parser.add_argument("--rows", type=int, metavar="N", help="clicks stored in the large cases (1000000)")
    parser.add_argument(
        "--engine",
        choices=("sqlite", "postgres"),
        default="sqlite",
        help="postgres: beside SQLite, on a server made with initdb for it",
    )
    parser.add_argument("--dsn", metavar="DSN", help="a server to measure; its user may make databases")
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


def new_share(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--store", metavar="ID", required=True, help="whose sums the link shows")
    parser.add_argument(
        "--range", metavar="R", default="28", help="today, yesterday, 7, 28, 90, month, last_month, FROM..TO (28)"
    )
    parser.add_argument("--event", metavar="TYPE", default="Purchase", help="the event type (Purchase)")
    parser.add_argument("--valid", metavar="DAYS", type=int, default=14, help="days until it ends, 1 to 365 (14)")


def share_id(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", metavar="ID", help="the link's id, as `share list` shows it")


def shell(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=("bash", "zsh", "fish"))
