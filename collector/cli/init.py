"""`collector init`: a folder ready to run: configuration, token file, database and keys, and the six steps left."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from collector.cli import going_live
from collector.cli.output import print_json
from collector.config import Config, MetaConfig, PixelConfig, StoreConfig
from collector.config_loader import checks, load
from collector.config_loader.faults import names
from collector.errors import CollectorError, ConfigError, StorageError, why
from collector.process import hardening
from collector.storage.ground import keys
from collector.storage.ground.database import DATABASE, load_pepper, open_database
from collector.storage.rules.keys import NewKey

CONFIG: Final = "collector.toml"
TOKEN: Final = "meta.token"
DATA: Final = "collector-data"
_FLAGS: Final = {"domains": "--domain", "currency": "--currency", "country": "--country"}


class Shop(Struct, frozen=True, kw_only=True):
    """What a configuration is made of; empty is what nobody said."""

    store: str
    domain: str = ""
    pixel: str = ""
    currency: str = ""
    country: str = ""
    token_file: str = TOKEN
    live: bool = False


def run(args: argparse.Namespace) -> int:
    folder = Path(args.dir).expanduser()
    _refuse_to_overwrite(folder)
    shop = _asked(args) if sys.stdin.isatty() and not args.yes and not args.json else _told(args)
    shop = _with_token(shop, args.token_file, folder)
    _refuse_faults(shop)
    hardening.harden()
    _made(folder)
    with hardening.for_the_owner(str(folder)), _all_or_nothing(folder):
        made = _write(folder, shop)
    _show(args, folder, shop, made)
    return 0


def _refuse_to_overwrite(folder: Path) -> None:
    for path in (folder / CONFIG, folder / DATA / DATABASE):
        if path.exists():
            raise ConfigError(
                [f"{path} is there already and is not overwritten; name another folder: collector init DIR"]
            )


def _told(args: argparse.Namespace) -> Shop:
    if not args.domain and not args.yes:
        raise ConfigError(["--domain: the shop's domain is needed, for example --domain mystore.com (or --yes: none)"])
    return _shop(args, args.domain or "")


def _shop(args: argparse.Namespace, domain: str) -> Shop:
    return Shop(
        store=args.store or _store_of(domain),
        domain=domain,
        pixel=args.pixel or "",
        currency=(args.currency or "").upper(),
        country=(args.country or "").upper(),
    )


def _store_of(domain: str) -> str:
    """`store_mystore` for www.mystore.com."""
    name = domain.lower().removeprefix("*.").removeprefix("www.").partition(".")[0]
    return "store_" + (re.sub(r"[^a-z0-9-]", "", name)[:50] or "1")


def _asked(args: argparse.Namespace) -> Shop:
    """What no flag says, asked for on standard error: standard output is for the keys."""
    domain = args.domain or _ask("The shop's domain, for example mystore.com", "")
    shop = _shop(args, domain)
    return Shop(
        store=args.store or _ask("A short id for the store, which callers send", shop.store),
        domain=domain,
        pixel=args.pixel or _ask("Meta's pixel (dataset) id; empty: later", ""),
        currency=shop.currency or _ask("Currency of its reports, for example USD", "").upper(),
        country=shop.country or _ask("Country of its phone numbers, for example US", "").upper(),
    )


def _ask(question: str, default: str) -> str:
    print(f"{question}{f' [{default}]' if default else ''}: ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip() or default


def _with_token(shop: Shop, given: str | None, folder: Path) -> Shop:
    """Live where a token file with something in it is given, or lies in the folder already."""
    path = Path(given).expanduser() if given else folder / TOKEN
    try:
        text = path.read_text(encoding="utf-8").removeprefix("\ufeff").strip()
    except (FileNotFoundError, NotADirectoryError):
        if given:
            raise ConfigError([f"--token-file: no such file '{given}'"]) from None
        return shop
    except (OSError, UnicodeDecodeError) as error:
        said = why(error, path) if isinstance(error, OSError) else "it is not text"
        raise ConfigError([f"--token-file: cannot read '{path}': {said}"]) from None
    name = str(path.absolute()) if given else TOKEN
    return replace(shop, token_file=name, live=bool(text and shop.pixel))


def _refuse_faults(shop: Shop) -> None:
    """Every value by the configuration's own rules, told by the flag that gives it."""
    pixels = [PixelConfig(id=shop.pixel, access_token="-")] if shop.pixel else []  # noqa: S106 (a stand-in)
    store = StoreConfig(
        id=shop.store,
        domains=[shop.domain] if shop.domain else [],
        currency=shop.currency,
        country=shop.country,
        pixel=pixels,
    )
    found = checks.check(Config(meta=MetaConfig(mode="dry_run"), store=[store]), role="none", env={})
    if found:
        raise ConfigError([f"{_flag(names(fault.path))}: {fault.message}" for fault in found])


def _flag(key: tuple[str, ...]) -> str:
    if key[-1] == "id":
        return "--pixel" if "pixel" in key else "--store"
    return _FLAGS.get(key[-1], key[-1])


def _made(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"cannot make {folder}: {why(error, folder)}") from None


@contextlib.contextmanager
def _all_or_nothing(folder: Path) -> Iterator[None]:
    """What a failed or interrupted init has made goes again, so that the next one finds nothing in its way."""
    new = [path for path in (folder / CONFIG, folder / TOKEN, folder / DATA) if not path.exists()]
    try:
        yield
    except BaseException as error:
        for path in new:
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise StorageError(f"cannot write in {folder}: {why(error, folder)}") from None
        raise


def _write(folder: Path, shop: Shop) -> list[NewKey]:
    if shop.token_file == TOKEN and not (folder / TOKEN).exists():
        _new_file(folder / TOKEN, "")
    _new_file(folder / CONFIG, text_of(shop))
    config = load(str(folder / CONFIG), {}, role="none")
    with closing(open_database(config.storage)) as db:
        load_pepper(db, Path(config.storage.data_dir), "")
        now = time.time_ns() // 1_000_000
        return [keys.create(db, store=shop.store, kind=kind, now=now) for kind in ("secret", "publishable")]


def _new_file(path: Path, text: str) -> None:
    """Its owner's alone, and never over another one."""
    with open(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def text_of(shop: Shop) -> str:
    """A short, commented `collector.toml`; the pixel's lines are there either way, ready to be uncommented."""
    no = "" if shop.live else "# "
    domains = f'["{shop.domain}"]' if shop.domain else "[]"
    mode, pixel_id = "live" if shop.live else "dry_run", shop.pixel or "123456789012345"
    return f"""\
# Every other key, at its default, with one line of explanation: config.example.toml of the release.

[edge]
listen = "127.0.0.1:8080"             # the public door; a proxy on the shop's own domain stands before it
trusted_proxies = ["127.0.0.1/32"]    # that proxy: its X-Forwarded-For is believed

[storage]
data_dir = "./{DATA}"        # relative to this file

[meta]
mode = "{mode}"{" " * (30 - len(mode))}# "dry_run": record what would be sent; "live": send it

[[store]]
id = "{shop.store}"
domains = {domains}            # whose pages may post
{_line("currency", shop.currency, "USD", "of its reports")}
{_line("country", shop.country, "US", "of its phone numbers")}

# {going_live.PIXEL}
# {going_live.TOKEN}
{no}[[store.pixel]]
{no}id = "{pixel_id}"
{no}access_token_file = "{_quoted(shop.token_file)}"
"""


def _line(key: str, value: str, example: str, what: str) -> str:
    return f'{"" if value else "# "}{key} = "{value or example}"    # {what}'


def _quoted(text: str) -> str:
    if not text.isprintable():
        raise CollectorError("--token-file: a path of printable characters, please")
    return text.replace("\\", "\\\\").replace('"', '\\"')


def _show(args: argparse.Namespace, folder: Path, shop: Shop, made: list[NewKey]) -> None:
    by_kind = {key.kind: key.key for key in made}
    config = str(folder / CONFIG)
    tag = going_live.tag_of(shop.store)
    if args.json:
        steps = going_live.steps(config, shop.store)
        print_json({"config": config, "store": shop.store, "live": shop.live, **by_kind, "tag": tag, "steps": steps})
        return
    print(f"""\
Made {config}: {"live" if shop.live else "a dry run, nothing is sent to Meta yet"}.

Keys of {shop.store}, shown only now:

  secret       {by_kind["secret"]}    for servers
  publishable  {by_kind["publishable"]}    for pages

The tag, first in the head of every page:

{tag}

Going live:
""")
    for number, step in enumerate(going_live.steps(config, shop.store), 1):
        print(f"{number}. {step}")
