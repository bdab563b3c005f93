"""A process whose files fail: started with faults.c preloaded, it forks a journal for each fault that it is told.

Each line on stdin: {"folder", "file", "op", "error", "n", "early"}; each answer is a line of what came of it.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import sys
from pathlib import Path
from typing import Any

import msgspec

from collector import telemetry
from collector.errors import StorageError
from collector.storage.ground import database
from collector.storage.ground.damage import explained
from collector.storage.journal import writer
from tests.kit.journal_kit import Kit, click, config_for, order

ROUNDS = 24
OPS = {"write": 0, "sync": 1, "read": 2}


def config_of(folder: Path) -> Any:
    config = config_for(folder)
    storage = msgspec.structs.replace(config.storage, checkpoint_pages=32)  # so that the file itself is written often
    return msgspec.structs.replace(config, storage=storage)


def work(told: dict[str, Any], out: int) -> int:
    """Store rounds of clicks and orders under the fault; what was acknowledged goes to `out` at once.

    `early`: the writer acknowledges in spite of the fault, which the check must find.
    """
    shim = ctypes.CDLL(None)
    if told["file"]:
        shim.arm(told["file"].encode(), OPS[told["op"]], told["error"], ctypes.c_long(told["n"]))
    folder = Path(told["folder"])
    if told["early"]:
        writer.GroupWriter._attempt = plant(writer.GroupWriter._attempt)  # type: ignore[method-assign]
    try:
        kit = Kit(folder, config=config_of(folder))
        first = kit.rows("SELECT coalesce(max(id), 0) FROM click")[0][0]
    except Exception as error:  # as the program's own end does (process/endings.py): one sentence, or a crash
        if (told_of := error if isinstance(error, StorageError) else explained(error, "the database")) is None:
            raise
        say(out, {"refused": str(told_of), "fired": shim.fired()})
        return 3
    failed = 0
    for number in range(first, first + ROUNDS * 4, 4):
        names = [f"IwARfault{n:09}" for n in range(number, number + 4)]
        operations = [kit.operation(click(name, visitorId=name)) for name in names]
        operations.append(kit.operation(order(f"order-{number}", visitorId=names[0])))
        try:
            kit.submit(operations)
        except StorageError:
            failed += 1
        else:
            say(out, {"clicks": names, "order": f"order-{number}", "fired": shim.fired()})
        if kit.ended:  # as the keeper's process, once it has answered
            os._exit(1)
        if (number - first) % 32 == 0:
            with contextlib.suppress(Exception):
                kit.fold()
    say(out, {"failed": failed, "fired": shim.fired()})
    kit.close()
    return 0


def plant(attempt: Any) -> Any:
    def early(self: Any, group: Any) -> None:
        with contextlib.suppress(Exception):
            attempt(self, group)
        for submission in group:
            submission.results = submission.results or [None] * len(submission.operations)

    return early


def say(out: int, line: dict[str, Any]) -> None:
    os.write(out, (json.dumps(line) + "\n").encode())


def check(folder: Path, clicks: set[str], orders: set[str]) -> str:
    """What is wrong with the database afterwards: with a process that nothing fails for."""
    from collector.core.events import StoredClick, StoredEvent
    from collector.storage.ground import damage

    db = database.open_database(config_of(folder).storage)
    if (sentence := damage.told(folder)) is not None:
        return sentence
    if (fault := db.execute("PRAGMA integrity_check").get) != "ok":
        return str(fault)
    stored = {msgspec.msgpack.decode(body, type=StoredClick).fbclid for (body,) in db.execute("SELECT body FROM click")}
    told = {
        msgspec.msgpack.decode(body, type=StoredEvent).order_id for (body,) in db.execute("SELECT body FROM conversion")
    }
    db.close()
    if missing := (clicks - stored) | (orders - told):
        return f"lost: {sorted(missing)}"
    with Kit(folder, config=config_of(folder)) as kit:
        some = sorted(clicks)[:3] + sorted(clicks)[-3:]
        results = kit.post(*(click(name, visitorId=name) for name in some))
        if not all(result.duplicate for result in results):
            return "an acknowledged click is not found"
        kit.post(click("IwARafterwards"), order("afterwards"))
    return ""


def forked(work: Any) -> tuple[int, list[dict[str, Any]]]:
    """The exit code and the lines of `work(out)` in a process of its own, which is ended after 20 seconds."""
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(ours)
        import signal

        signal.alarm(20)
        code = 98
        try:
            code = work(theirs)
        except BaseException as error:
            say(theirs, {"crash": repr(error)})
        os._exit(code)
    os.close(theirs)
    with os.fdopen(ours) as lines:
        said = [json.loads(line) for line in lines]
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), said


def answer(told: dict[str, Any]) -> dict[str, Any]:
    code, said = forked(lambda out: work(told, out))
    clicks = {name for line in said for name in line.get("clicks", ())}
    orders = {line["order"] for line in said if "order" in line}
    fired = max((line.get("fired", 0) for line in said), default=0)
    done = {"code": code, "acknowledged": len(clicks) + len(orders), "fired": fired, "said": said[-1:]}

    def after(out: int) -> int:
        say(out, {"wrong": check(Path(told["folder"]), clicks, orders)})
        return 0

    checked, found = forked(after)
    wrong = found[-1].get("wrong", found[-1].get("crash", "?")) if found else f"the check ended with {checked}"
    return {**done, "wrong": wrong}


def main() -> None:
    telemetry.configure(msgspec.convert({"level": "error"}, telemetry.LogConfig), "faulty", sys.stderr)
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
