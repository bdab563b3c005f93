"""`collector import`: reads, has taken, notes how far it is, and says what came of it.

What was taken is noted after each batch, beside the database. A batch that was taken and not noted (kill -9, a power
cut) is told again by `--resume`, and changes nothing: everything in it has a name by which it is known again.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Final

import msgspec
from msgspec import Struct

from collector.cli.importing.pieces import Form, Piece, Shape, pieces_of
from collector.cli.importing.taker import Taker, opened
from collector.cli.output import is_special, print_json, refuse_ours
from collector.cli.progress import Bar
from collector.cli.settings import BOTH, config_of
from collector.config import Config
from collector.core import wire
from collector.core.intake import Caller
from collector.edge.prepare import Preparer
from collector.errors import ApiError, CollectorError, ConfigError, why
from collector.exchange.keys import ApiKey
from collector.exchange.naming import NewEvent
from collector.exchange.prepared import Prepared
from collector.process import hardening

_BATCH: Final = 250  # half a group of the keeper's, so that those who post meanwhile share the other half
_SHOWN: Final = 20
_FOLDER: Final = "imports"
_SERVER: Final = Caller(secret=True)
_KEY: Final = ApiKey("import", b"", "secret", None, 0, None)
NO_SEND: Final = "imported with --no-send"
_SENT: Final = "sent to Meta by the collector that it was exported from"


class Done(Struct, kw_only=True):
    """How far an import is, and what came of it."""

    file: str
    size: int
    offset: int = 0
    line: int = 0
    rejects: int = 0  # bytes of the file of rejects
    taken: int = 0
    known: int = 0  # here before: told again, nothing changed or completed
    refused: int = 0
    left_out: int = 0


def run(args: argparse.Namespace) -> int:
    config = config_of(args, engines=BOTH)
    if args.store is not None and config.store_by_id(args.store) is None:
        raise ConfigError([f"--store: '{args.store}' is not in the configuration"])
    if args.rejects is not None:
        refuse_ours("--rejects", args.rejects, config, args.file)
    path, shape = Path(args.file), _shape(args)
    hardening.harden()
    with _file(path) as file:
        done = _begin(args, config, path, file)
        with contextlib.ExitStack() as around:
            rejects = around.enter_context(_Rejects(args.rejects, done.rejects))
            taker = around.enter_context(opened(config))
            try:
                _Import(args, config, taker, rejects).run(file, shape, done)
            except KeyboardInterrupt:
                if not args.dry_run:
                    print(f"stopped after line {done.line}; the same command with --resume goes on", file=sys.stderr)
                raise
    if not args.dry_run:
        _state_file(config, path).unlink(missing_ok=True)
    _show(args, done)
    return 1 if done.refused else 0


def _shape(args: argparse.Namespace) -> Shape:
    pairs = [pair.partition("=") for pair in (args.columns or "").split(",") if pair]
    if any(not ours or not theirs for ours, _, theirs in pairs):
        raise ConfigError(["--columns: write ours=theirs, for example orderId=Name,eventValue=Total"])
    form: Form = args.format or ("csv" if pairs or args.file.endswith(".csv") else "ndjson")
    return Shape(form=form, kind=args.type, store=args.store, columns={theirs: ours for ours, _, theirs in pairs})


def _file(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise ConfigError([f"{path}: {why(error, path)}"]) from None


def _begin(args: argparse.Namespace, config: Config, path: Path, file: BinaryIO) -> Done:
    """Where to begin: at the beginning, or where an import of this very file was cut off."""
    size = os.fstat(file.fileno()).st_size
    fresh = Done(file=str(path.resolve()), size=size)
    if not args.resume:
        return fresh
    try:
        noted = msgspec.json.decode(_state_file(config, path).read_bytes(), type=Done)
    except (OSError, msgspec.DecodeError):
        print("nothing is noted of an import of this file: it begins at its first line", file=sys.stderr)
        return fresh
    if noted.size != size:
        raise ConfigError([f"--resume: {path} has changed since it was cut off; import it from its beginning"])
    return noted


def _state_file(config: Config, path: Path) -> Path:
    name = blake2b(str(path.resolve()).encode(), digest_size=12).hexdigest()
    return Path(config.storage.data_dir) / _FOLDER / f"{name}.json"


class _Rejects:
    """Where what was refused is written, a line of JSON each: to a file, or the first few to stderr."""

    def __init__(self, name: str | None, kept: int) -> None:
        self._name, self._kept, self._shown = name, kept, 0
        self._file: BinaryIO | None = None
        self._special = name is not None and is_special(name)

    def __enter__(self) -> _Rejects:
        if self._name is not None:
            with self._writing():
                self._file = self._opened(self._name)
        return self

    def _opened(self, name: str) -> BinaryIO:
        if self._special:
            return open(name, "ab")
        file = open(name, "r+b" if self._kept and os.path.exists(name) else "w+b")  # noqa: SIM115  until the end
        file.truncate(self._kept)
        file.seek(0, os.SEEK_END)
        return file

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise CollectorError(f"cannot write {self._name}: {why(error, self._name)}") from None

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            with self._writing():
                self._file.close()

    def add(self, line: int, code: str, message: str, field: str | None = None) -> None:
        if self._file is not None:
            said = {"line": line, "code": code, "message": message, "field": field}
            with self._writing():
                self._file.write(msgspec.json.encode(said) + b"\n")
        elif self._shown < _SHOWN:
            print(f"line {line}: {message}", file=sys.stderr)
        elif self._shown == _SHOWN:
            print("more lines were refused; --rejects FILE has them all", file=sys.stderr)
        self._shown += 1

    def kept(self) -> int:
        """Bytes on disk."""
        if self._file is None:
            return 0
        with self._writing():
            self._file.flush()
            if self._special:
                return 0
            os.fsync(self._file.fileno())
        return self._file.tell()


class _Import:
    def __init__(self, args: argparse.Namespace, config: Config, taker: Taker, rejects: _Rejects) -> None:
        self._args, self._config, self._taker, self._rejects = args, config, taker, rejects
        self._preparer = Preparer(config, taker.stores, taker.names, taker.public, taker.clock, taker.count)
        self._left_out: Counter[str] = Counter()

    def run(self, file: BinaryIO, shape: Shape, done: Done) -> None:
        try:
            pieces = pieces_of(file, shape, offset=done.offset, line=done.line)
            with Bar(done.size, "rows") as bar:
                while batch := list(islice(pieces, _BATCH)):
                    self._take(batch, done)
                    done.offset, done.line = batch[-1].end, batch[-1].line
                    self._note(done)
                    bar.show(done.offset, done.taken + done.known)
        except ValueError as error:
            raise ConfigError([f"{self._args.file}: {error}"]) from None
        for reason, n in self._left_out.most_common():
            print(f"left out: {n} × {reason}", file=sys.stderr)

    def _take(self, batch: Sequence[Piece], done: Done) -> None:
        good: list[tuple[Piece, Prepared]] = []
        for piece, item in self._prepared(batch, done):
            if isinstance(item, ApiError):
                self._refuse(done, piece, item)
            else:
                good.append((piece, self._quieted(piece, item)))
        if self._args.dry_run:
            done.taken += len(good)
            return
        results = self._taker.take([item.operation for _, item in good]) if good else []
        for (piece, _), result in zip(good, results, strict=True):
            if isinstance(result, ApiError):
                self._refuse(done, piece, result)
            elif result.duplicate:
                done.known += 1
            else:
                done.taken += 1

    def _prepared(self, batch: Sequence[Piece], done: Done) -> Iterator[tuple[Piece, Prepared | ApiError]]:
        whole = []
        for piece in batch:
            if piece.left_out:
                done.left_out += 1
                self._left_out[piece.left_out] += 1
            elif piece.fault:
                yield piece, ApiError("invalid_json", piece.fault)
            else:
                whole.append(piece)
        decoded = [wire.decode_item(piece.raw) for piece in whole]
        yield from zip(whole, self._preparer.items(decoded, _SERVER, _KEY, self._taker.clock()), strict=True)

    def _quieted(self, piece: Piece, item: Prepared) -> Prepared:
        """What is not to be sent says so itself; an order that is here already stays as it is."""
        why_not = NO_SEND if self._args.no_send else _SENT if piece.sent else None
        if why_not is not None and isinstance(item.operation, NewEvent):
            item.operation.event.unsent = why_not
        return item

    def _refuse(self, done: Done, piece: Piece, error: ApiError) -> None:
        done.refused += 1
        self._rejects.add(piece.line, error.code, error.message, error.field)

    def _note(self, done: Done) -> None:
        """How far it is, whole or not at all."""
        if self._args.dry_run:
            return
        done.rejects = self._rejects.kept()
        path = _state_file(self._config, Path(self._args.file))
        path.parent.mkdir(mode=0o700, exist_ok=True)
        partial = path.with_suffix(".partial")
        partial.write_bytes(msgspec.json.encode(done))
        os.replace(partial, path)


def _show(args: argparse.Namespace, done: Done) -> None:
    counts: dict[str, Any] = {name: getattr(done, name) for name in ("taken", "known", "refused", "left_out")}
    if args.json:
        print_json({**counts, "dryRun": args.dry_run})
        return
    first = "would be taken" if args.dry_run else "taken"
    print(f"{done.taken} {first}, {done.known} were here, {done.refused} refused, {done.left_out} left out")
