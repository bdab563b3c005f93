"""Meta's Graph on a real socket: what it refuses, what it answers, and how it fails.

As a process: `python -m tests.kit.simulators.graph --port 8999 [--trust]`. In a test: `with GraphSimulator() as graph:`
(a thread) or `with graph_process() as graph:` (a child, for speed). Controls over the same socket, for tests only:

    POST /_sim/faults   {"pixel": "*" or an id, "modes": [{"name": "503", "times": 3}], "rate": 0.1, "seed": 1}
    GET  /_sim/counts   how often each event_id was accepted, by pixel, and the requests seen
    GET  /_sim/last     the last accepted events (decoded) and request heads, newest last
    POST /_sim/reset

`trust` skips the rules and only counts, for measuring the sender.
"""

from __future__ import annotations

import argparse
import asyncio
import hmac
import random
import re
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from hashlib import sha256
from typing import Any

import httptools
import msgspec

from collector.process import hardening
from tests.kit.simulators.ad_account import PATH as ACCOUNT
from tests.kit.simulators.ad_account import AdAccount
from tests.kit.simulators.graph_rules import TOP_KEYS, judge

_PATH = re.compile(rb"/v(\d+)\.0/([^/?]+)/events(\?.*)?")
_EVENT_ID = re.compile(rb'"event_id":"([^"]+)"')


def _error(
    status: int, code: int, subcode: int | None = None, message: str = "Invalid parameter", **more: Any
) -> tuple[int, bytes]:
    error = {
        "message": message,
        "type": "OAuthException",
        "code": code,
        "is_transient": False,
        "fbtrace_id": "AbCdEfGh",
        **more,
    }
    if subcode is not None:
        error["error_subcode"] = subcode
    return status, msgspec.json.encode({"error": error})


_HTML = b"<html><body><h1>502 Bad Gateway</h1></body></html>"
# Answers that do not look at the events.
ANSWERS: dict[str, tuple[int, bytes]] = {
    "500": _error(500, 2, message="Service temporarily unavailable", is_transient=True),
    "500_empty": (500, b""),
    "502_html": (502, _HTML),
    "503": (503, b"no healthy upstream"),
    "429": _error(429, 4, message="Too many calls"),
    "429_bare": (429, b""),
    "code_1": _error(400, 1),
    "code_2": _error(400, 2),
    "code_4": _error(400, 4),
    "code_17": _error(400, 17, 2446079),
    "code_32": _error(400, 32),
    "code_613": _error(400, 613, 1487742),
    "code_80004": _error(400, 80004, 2446079),
    "190": _error(401, 190, 463, message="Error validating access token: Session has expired"),
    "190_400": _error(400, 190, 460),
    "100_33": _error(400, 100, 33, message="Unsupported post request. Object does not exist"),
    "200_permission": _error(403, 200, message="Permissions error"),
    "10": _error(403, 10),
    "2635": _error(400, 2635, message="(#2635) You are calling a deprecated version of the Ads API."),
    "2500": _error(400, 2500, message="Unknown path components"),
    "12": _error(400, 12),
    "5": _error(403, 5, message="The request comes from an address that is not allowed"),
    "101": _error(400, 101),
    "300": _error(400, 300),
    "506": _error(400, 506),
    "960": _error(400, 960),
    "proof": _error(400, 100, message="Invalid appsecret_proof provided in the API argument"),
    "105": _error(400, 105, message="Too many parameters"),
    "21009": _error(400, 21009, message="(#21009) The data set upload is temporarily not ready."),
    "is_transient": _error(400, 100, 99, is_transient=True),
    "413": (413, b""),
    "403_html": (403, _HTML),
    "404_html": (404, _HTML),
    "301": (301, b""),
}
# Others take the events or cut the connection: 200_html, 200_empty, partial, slow, reset_before, reset_after, bomb.
TAKING = {"200_html": (200, _HTML), "200_empty": (200, b"")}


class State:
    """What the simulator knows and how it shall behave; one lock-free owner, the loop's thread."""

    def __init__(self, *, token: str | None, app_secret: str | None, trust: bool, name_index: bool) -> None:
        self.token = token
        self.app_secret = app_secret
        self.trust = trust
        self.name_index = name_index
        self.clock = time.time
        self.date = False  # whether its answers carry its clock
        self.reset()

    def reset(self) -> None:
        self.accepted: dict[str, Counter[str]] = {}
        self.events = 0
        self.requests: Counter[str] = Counter()
        self.times: dict[str, list[float]] = {}
        self.last: deque[Any] = deque(maxlen=5000)
        self.heads: deque[Any] = deque(maxlen=2000)
        self.faults: dict[str, dict[str, Any]] = {}
        self.accounts: dict[str, AdAccount] = {}

    def fault_for(self, pixel: str) -> dict[str, Any] | None:
        plan = self.faults.get(pixel) or self.faults.get("*")
        if plan is None:
            return None
        dice: random.Random = plan["dice"]
        if plan["rate"] < 1 and dice.random() >= plan["rate"]:
            return None
        mode: dict[str, Any] = dice.choice(plan["modes"]) if plan["rate"] < 1 else plan["modes"][0]
        if "times" in mode:
            mode["times"] -= 1
            if mode["times"] <= 0:
                plan["modes"].remove(mode)
                if not plan["modes"]:
                    self.faults = {k: v for k, v in self.faults.items() if v is not plan}
        return mode

    def plan(self, spec: dict[str, Any]) -> None:
        pixel = spec.get("pixel", "*")
        if not spec.get("modes"):
            self.faults.pop(pixel, None)
            return
        dice = random.Random(spec.get("seed", 1))
        self.faults[pixel] = {"modes": [dict(m) for m in spec["modes"]], "rate": spec.get("rate", 1.0), "dice": dice}


class _Connection(asyncio.Protocol):
    def __init__(self, state: State) -> None:
        self._state = state
        self._parser = httptools.HttpRequestParser(self)
        self._busy = False

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._start()

    def _start(self) -> None:
        self._url = b""
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.close()

    def on_url(self, url: bytes) -> None:
        self._start()
        self._url = url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode().lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self._mode = None
        found = _PATH.fullmatch(self._url) or ACCOUNT.fullmatch(self._url)
        if found is not None:
            self._mode = self._state.fault_for(found[2].decode())
            if self._mode is not None and self._mode["name"] == "reset_before":
                self._state.requests[f"{found[2].decode()}:reset_before"] += 1
                self._cut()

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        if self._transport.is_closing():
            return
        body = b"".join(self._body)
        if self._url.startswith(b"/_sim/"):
            self._answer(200, self._control(body))
            return
        mode = self._mode
        status, answer = self._graph(body, mode)
        name = mode["name"] if mode else ""
        if name == "reset_after":
            self._cut()
        elif name == "slow":
            asyncio.get_running_loop().call_later(mode.get("seconds", 5), self._answer, status, answer)
        elif name == "bomb":
            self._answer(200, b" " * 10_000_000)
        else:
            self._answer(status, answer, mode.get("headers", {}) if mode else {})

    def _cut(self) -> None:
        # Linger 0: the peer sees a reset, not an end.
        sock = self._transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        if self._transport.is_closing():
            return
        extra = "".join(f"{k}: {v}\r\n" for k, v in (headers or {}).items())
        if self._state.date:
            extra += f"Date: {formatdate(self._state.clock(), usegmt=True)}\r\n"
        kind = "text/html" if body[:1] == b"<" else "application/json"
        head = f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{extra}\r\n"
        self._transport.write(head.encode() + body)

    def _graph(self, body: bytes, mode: dict[str, Any] | None) -> tuple[int, bytes]:
        state = self._state
        if (found := ACCOUNT.fullmatch(self._url)) is not None:
            return self._account(found[2].decode(), mode)
        found = _PATH.fullmatch(self._url)
        if found is None:
            return _error(400, 2500, message="Unknown path components")
        pixel = found[2].decode()
        name = mode["name"] if mode else "ok"
        state.requests[f"{pixel}:{name}"] += 1
        if name in ANSWERS:
            return ANSWERS[name]
        if name == "wall" and mode and mode["word"].encode() in body:  # a firewall that reads bodies
            return mode["status"], _HTML
        if (refused := self._unauthorised()) is not None:
            return refused
        if state.trust:
            return self._count(pixel, [m.decode() for m in _EVENT_ID.findall(body)], mode)
        return self._judge(pixel, body, mode)

    def _account(self, name: str, mode: dict[str, Any] | None) -> tuple[int, bytes]:
        """What a token that may read ads is told of an ad account."""
        if mode and mode["name"] in ANSWERS:
            return ANSWERS[mode["name"]]
        account = self._state.accounts.get(name)
        if account is None:
            return ANSWERS["100_33"]
        scheme, _, token = self._headers.get("authorization", "").partition(" ")
        if b"access_token" in self._url or scheme != "Bearer":
            return _error(400, 104, message="An access token is required to request this resource.")
        if token != account.token:
            return ANSWERS["190"]
        if not account.may_read:
            said = "Ad account owner has NOT grant ads_management or ads_read permission"
            return _error(403, 200, message=f"(#200) {said}")
        if mode and mode["name"] in TAKING:
            return TAKING[mode["name"]]
        status, body = account.answer(self._url.decode())
        return _error(400, 100, message=str(body)) if status != 200 else (200, msgspec.json.encode(body))

    def _unauthorised(self) -> tuple[int, bytes] | None:
        if b"access_token" in self._url:
            return _error(400, 100, message="the simulator takes no token in a URL")
        scheme, _, token = self._headers.get("authorization", "").partition(" ")
        if scheme != "Bearer" or not token:
            return _error(400, 104, message="An access token is required to request this resource.")
        if self._state.token is not None and token != self._state.token:
            return ANSWERS["190"]
        return None

    def _judge(self, pixel: str, raw: bytes, mode: dict[str, Any] | None) -> tuple[int, bytes]:
        state = self._state
        if self._headers.get("content-encoding"):
            return _error(400, 100, message="the body is not JSON")
        try:
            body = msgspec.json.decode(raw)
        except msgspec.DecodeError:
            return _error(400, 100, message="the body is not JSON")
        if (
            not isinstance(body, dict)
            or body.keys() - TOP_KEYS
            or not isinstance(body.get("data"), list)
            or not body["data"]
        ):
            return _error(400, 100, 2804019, message="Unexpected top-level key or no data")
        if len(body["data"]) > 1000:
            return _error(400, 100, 2804019, message="more than 1000 events")
        if state.app_secret is not None:
            token = self._headers["authorization"].split(" ", 1)[1]
            proof = hmac.new(state.app_secret.encode(), token.encode(), sha256).hexdigest()
            if body.get("appsecret_proof") != proof:
                return _error(400, 100, message="Invalid appsecret_proof provided in the API argument")
        refusal = judge(body["data"], state.clock())
        if refusal is not None:
            state.requests[f"{pixel}:refused"] += 1
            text = refusal.message if state.name_index else "Invalid parameter"
            return _error(400, refusal.code, refusal.subcode, text, error_user_title=refusal.title, error_user_msg="")
        state.heads.append(
            {"pixel": pixel, "events": len(body["data"]), "test_event_code": body.get("test_event_code")}
        )
        state.last.extend({"pixel": pixel, **event} for event in body["data"])
        return self._count(pixel, [event.get("event_id", "") for event in body["data"]], mode)

    def _count(self, pixel: str, ids: list[str], mode: dict[str, Any] | None) -> tuple[int, bytes]:
        state = self._state
        state.accepted.setdefault(pixel, Counter()).update(ids)
        state.events += len(ids)
        now = time.time()
        state.times.setdefault(pixel, []).append(now)
        name = mode["name"] if mode else ""
        if name in TAKING:
            return TAKING[name]
        received = len(ids) - (1 if name == "partial" else 0)
        return 200, msgspec.json.encode({"events_received": received, "messages": [], "fbtrace_id": "AbCdEfGh"})

    def _control(self, body: bytes) -> bytes:
        state, path = self._state, self._url
        if path == b"/_sim/faults":
            state.plan(msgspec.json.decode(body))
        elif path == b"/_sim/reset":
            state.reset()
        elif path == b"/_sim/set":
            for key, value in msgspec.json.decode(body).items():
                setattr(state, key, value)
        elif path == b"/_sim/counts":
            return msgspec.json.encode({"accepted": state.accepted, "events": state.events, "requests": state.requests})
        elif path == b"/_sim/total":
            return msgspec.json.encode({"events": state.events, "requests": state.requests})
        elif path == b"/_sim/last":
            return msgspec.json.encode({"events": list(state.last), "heads": list(state.heads)})
        elif path == b"/_sim/times":
            return msgspec.json.encode(state.times)
        return b"{}"


class GraphSimulator:
    """The simulator in a thread of this process; `url`, and the state's figures as attributes."""

    def __init__(
        self,
        *,
        port: int = 0,
        token: str | None = None,
        app_secret: str | None = None,
        trust: bool = False,
        name_index: bool = True,
        tls: Any = None,
    ) -> None:
        self.state = State(token=token, app_secret=app_secret, trust=trust, name_index=name_index)
        self._port = port
        self._tls = tls
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> GraphSimulator:
        self._thread.start()
        assert self._ready.wait(60)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(60)

    def _run(self) -> None:
        asyncio.run(self.serve())

    async def serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        server = await self._loop.create_server(lambda: _Connection(self.state), "127.0.0.1", self._port, ssl=self._tls)
        self.port = server.sockets[0].getsockname()[1]
        self.url = f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"
        self._ready.set()
        await self._stop.wait()
        server.close()

    # -- asking, from the test's thread

    def faults(self, *modes: str | dict[str, Any], pixel: str = "*", rate: float = 1.0, seed: int = 1) -> None:
        """From now on these faults, in order (`times` each), or at random with `rate`; none clears the plan."""
        self.state.plan(
            {
                "pixel": pixel,
                "modes": [m if isinstance(m, dict) else {"name": m} for m in modes],
                "rate": rate,
                "seed": seed,
            }
        )

    @property
    def accepted(self) -> dict[str, Counter[str]]:
        """How often each event_id was accepted, by pixel."""
        return self.state.accepted

    @property
    def events(self) -> list[dict[str, Any]]:
        """The last accepted events as Meta read them."""
        return list(self.state.last)


class GraphProcess:
    """The simulator in a child process, asked over its socket."""

    def __init__(self, child: subprocess.Popen[str], url: str) -> None:
        self.child = child
        self.url = url

    def ask(self, path: str, body: Any = None) -> Any:
        import http.client

        connection = http.client.HTTPConnection(self.url.removeprefix("http://"), timeout=30)
        connection.request(
            "POST" if body is not None else "GET",
            f"/_sim/{path}",
            msgspec.json.encode(body) if body is not None else None,
        )
        answer = msgspec.json.decode(connection.getresponse().read())
        connection.close()
        return answer

    def faults(self, *modes: str | dict[str, Any], pixel: str = "*", rate: float = 1.0, seed: int = 1) -> None:
        plan = [m if isinstance(m, dict) else {"name": m} for m in modes]
        self.ask("faults", {"pixel": pixel, "modes": plan, "rate": rate, "seed": seed})


@contextmanager
def graph_process(*, trust: bool = False, name_index: bool = True) -> Iterator[GraphProcess]:
    """A simulator in a child process, ended at the end."""
    command = [sys.executable, "-m", "tests.kit.simulators.graph", "--port", "0"]
    command += ["--trust"] if trust else []
    command += [] if name_index else ["--no-index"]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=hardening.die_with_parent)
    try:
        assert child.stdout is not None
        yield GraphProcess(child, child.stdout.readline().strip())
    finally:
        child.terminate()
        child.wait(10)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=8999)
    parser.add_argument("--token", help="refuse any other token with 190")
    parser.add_argument("--app-secret", help="require appsecret_proof")
    parser.add_argument("--trust", action="store_true", help="count only, judge nothing")
    parser.add_argument("--no-index", action="store_true", help="name no event in a refusal")
    options = parser.parse_args()
    simulator = GraphSimulator(
        port=options.port,
        token=options.token,
        app_secret=options.app_secret,
        trust=options.trust,
        name_index=not options.no_index,
    )
    simulator._ready = _Announce(simulator)  # type: ignore[assignment]
    try:
        import uvloop

        uvloop.run(simulator.serve())
    except (ImportError, KeyboardInterrupt):
        pass


class _Announce:
    """Prints the address once the socket listens."""

    def __init__(self, simulator: GraphSimulator) -> None:
        self._simulator = simulator

    def set(self) -> None:
        print(self._simulator.url, flush=True)


if __name__ == "__main__":
    main()
