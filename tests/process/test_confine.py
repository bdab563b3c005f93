"""D7: "no egress, no other file" is enforced by the kernel: tried from inside processes that are kept to it."""

from __future__ import annotations

import errno
import json
import os
import platform
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from collector.config import Config, StorageConfig
from collector.process import confine, landlock, seccomp
from collector.process.confine import Part
from tests.kit.program import BINARY, ROOT, SOURCE, Serving, request

needs_landlock = pytest.mark.skipif(landlock.supported() < 1, reason="this kernel has no Landlock")
needs_seccomp = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() not in ("x86_64", "aarch64"), reason="seccomp is not written for here"
)
pytestmark = [needs_landlock, needs_seccomp]

# Each attempt by its name; the answer is "done" or the name of the error.
PROGRAM = """
    import ctypes, errno, json, os, socket, subprocess, sys, threading
    from collector.config import Config, StorageConfig
    from collector.process import hardening
    from collector.process.confine import confine
    part, data, outside = sys.argv[1:4]
    listener = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(listener.getsockname())
    given = socket.socketpair()[0]
    libc = ctypes.CDLL(None, use_errno=True)
    hardening.harden()
    if part != "free":
        told = confine(part, Config(storage=StorageConfig(data_dir=data))).told()
        assert told == {"files": "kept", "calls": "kept"}, told

    def call(number, *given):
        if libc.syscall(ctypes.c_long(number), *map(ctypes.c_long, given)) < 0:
            raise OSError(ctypes.get_errno(), "")

    def of(function):
        return lambda *given: call(NUMBERS[function], *given)

    def run(*command):
        subprocess.run(command, check=True, capture_output=True, cwd="/")

    def fast_open():
        tcp = socket.socket()
        tcp.sendto(b"x", 0x20000000, listener.getsockname())

    def datagram():
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", 9))

    def pair(kind):
        socket.socketpair(socket.AF_UNIX, kind)

    def thread():
        found = []
        def work():
            try: found.append(open(f"{outside}/secret").read())
            except OSError as error: found.append(error)
        one = threading.Thread(target=work); one.start(); one.join()
        if isinstance(found[0], OSError): raise found[0]

    def child():
        pid = os.fork()
        if pid == 0:
            try: open(f"{outside}/secret"); os._exit(0)
            except OSError as error: os._exit(error.errno)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if code: raise OSError(code, "")

    from collector.process.seccomp import NUMBERS as BOTH
    column = 0 if os.uname().machine == "x86_64" else 1
    NUMBERS = {name: numbers[column] for name, numbers in BOTH.items()}
    attempts = {
        "read data": lambda: open(f"{data}/own").read(),
        "write data": lambda: open(f"{data}/new", "w").write("x"),
        "rename data": lambda: os.replace(f"{data}/new", f"{data}/newer"),
        "remove data": lambda: os.unlink(f"{data}/newer"),
        "read outside": lambda: open(f"{outside}/secret").read(),
        "read passwd": lambda: open("/etc/passwd").read(),
        "list outside": lambda: os.listdir(outside),
        "write outside": lambda: open(f"{outside}/new", "w"),
        "change outside": lambda: open(f"{outside}/secret", "a"),
        "cut outside": lambda: os.truncate(f"{outside}/secret", 6),
        "remove outside": lambda: os.unlink(f"{outside}/spare"),
        "by a link in data": lambda: open(f"{data}/link").read(),
        "by a hard link": lambda: os.link(f"{outside}/secret", f"{data}/hard"),
        "by dots": lambda: open(f"{data}/../outside/secret").read(),
        "in a thread": thread,
        "in a child": child,
        "parent's environment": lambda: open(f"/proc/{os.getppid()}/environ", "rb").read(),
        "signal to the parent": lambda: os.kill(os.getppid(), 0),
        "python's library": lambda: __import__("xmlrpc.client"),
        "a zone": lambda: __import__("zoneinfo").ZoneInfo("Europe/Berlin"),
        "devnull": lambda: open("/dev/null", "r+b"),
        "random": lambda: open("/dev/urandom", "rb").read(8),
        "connect": lambda: socket.create_connection(listener.getsockname()),
        "connect given": lambda: given.connect(f"{outside}/socket"),
        "stream socket": lambda: socket.socket(),
        "unix socket": lambda: socket.socket(socket.AF_UNIX),
        "datagram": datagram,
        "raw socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1),
        "fast open": fast_open,
        "stream pair": lambda: pair(socket.SOCK_STREAM),
        "datagram pair": lambda: pair(socket.SOCK_DGRAM),
        "accept": lambda: listener.accept(),
        "listen": lambda: listener.listen(5),
        "run ourselves": lambda: run(sys.executable, "-c", ""),
        "run another": lambda: run("/bin/true"),
        "run a shell": lambda: run("/bin/sh", "-c", "true"),
        "ptrace": lambda: of("ptrace")(16, 0x3fffff, 0, 0),
        "read memory": lambda: of("process_vm_readv")(os.getppid(), 0, 0, 0, 0, 0),
        "io_uring": lambda: of("io_uring_setup")(1, 0),
        "keys": lambda: of("keyctl")(0, -3, 0),
        "unshare": lambda: of("unshare")(0),
        "clock": lambda: of("adjtimex")(0),
    }
    def tried(attempt):
        try:
            attempt()
            return "done"
        except OSError as error:
            return errno.errorcode.get(error.errno, str(error.errno))
    print(json.dumps({name: tried(attempt) for name, attempt in attempts.items()}))
"""
# What every part may do, and what none may.
COMMON = {
    **dict.fromkeys(("python's library", "a zone", "devnull", "random", "stream pair"), "done"),
    **dict.fromkeys(("read memory", "ptrace", "keys", "unshare", "clock", "connect", "fast open"), "EPERM"),
    **dict.fromkeys(("write outside", "change outside", "cut outside", "remove outside"), "EACCES"),
    "io_uring": "ENOSYS",
    "run another": "EPERM",
    "run a shell": "EPERM",
    "run ourselves": "EPERM",
    "connect given": "EPERM",
    "datagram": "EPERM",
    "datagram pair": "EPERM",
    "raw socket": "EPERM",
    "signal to the parent": "EPERM" if landlock.supported() >= 6 else "done",
}
OWN = dict.fromkeys(("read data", "write data", "rename data", "remove data"), "done")
OTHERS = ("read outside", "read passwd", "list outside", "by a link in data", "by dots", "in a thread", "in a child")
HIDDEN = dict.fromkeys((*OTHERS, "parent's environment"), "EACCES")
NO_SOCKET = dict.fromkeys(("stream socket", "unix socket"), "EPERM")
SERVES = {"accept": "done", "listen": "done"}
EXPECTED: dict[Part, dict[str, str]] = {
    "edge": COMMON | HIDDEN | NO_SOCKET | SERVES | dict.fromkeys(("read data", "write data"), "EACCES"),
    "keeper": COMMON | OWN | HIDDEN | NO_SOCKET | SERVES,
    "console": COMMON | OWN | HIDDEN | SERVES | {"stream socket": "done", "unix socket": "done"},
    "courier": COMMON | OWN | dict.fromkeys(OTHERS, "done")
    | {"accept": "EPERM", "listen": "EPERM", "stream socket": "done", "unix socket": "done", "connect": "done"}
    | {"datagram": "done", "raw socket": "done", "connect given": "ENOENT"},
}  # fmt: skip


def attempts(part: str, tmp_path: Path) -> dict[str, str]:
    data, outside = tmp_path / "data", tmp_path / "outside"
    for folder in (data, outside):
        folder.mkdir()
    for file in (data / "own", outside / "secret", outside / "spare"):
        file.write_text("secret")
    (data / "link").symlink_to(outside / "secret")
    command = [sys.executable, "-c", textwrap.dedent(PROGRAM), part, str(data), str(outside)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@pytest.mark.parametrize("part", EXPECTED)
def test_D7_each_part_can_do_what_it_needs_and_nothing_else(part: Part, tmp_path: Path) -> None:
    found = attempts(part, tmp_path)
    wrong = {name: (found[name], due) for name, due in EXPECTED[part].items() if found[name] != due}
    assert wrong == {}, "found, due"
    assert (tmp_path / "outside" / "secret").read_text() == "secret"


def test_D7_control_a_process_that_is_not_kept_can_do_nearly_all_of_it(tmp_path: Path) -> None:
    found = attempts("free", tmp_path)
    can = {name for name, outcome in found.items() if outcome == "done"}
    assert set(OTHERS) | {"connect", "datagram", "stream socket", "write outside", "run a shell"} <= can, found


def test_D7_a_path_that_is_given_is_allowed_and_no_other() -> None:
    config = Config(storage=StorageConfig(data_dir="/srv/data"))
    assert "/srv/data" in confine.files_of("keeper", config).write
    assert "/srv/data" not in confine.files_of("edge", config).write
    assert confine.files_of("courier", config).read is None


# -- the filter, run as the kernel runs it


def judged(steps: list[seccomp.Step], number: int, arch: int, args: tuple[int, ...] = ()) -> int:
    """What the filter returns for a call: 0 allowed, else the error."""
    data = {0: number, 4: arch} | {16 + 8 * place: value for place, value in enumerate(args)}
    at, value = 0, 0
    while True:
        step = steps[at]
        at += 1
        match step.code:
            case 0x20:
                value = data.get(step.value, 0)
            case 0x54:
                value &= step.value
            case 0x06:
                return 0 if step.value == 0x7FFF_0000 else step.value & 0xFFFF
            case 0x15 | 0x35 | 0x45:
                met = {0x15: value == step.value, 0x35: value >= step.value, 0x45: bool(value & step.value)}[step.code]
                at += step.yes if met else step.no


ARCHITECTURES = {"x86_64": (0xC000_003E, 0), "aarch64": (0xC000_00B7, 1)}


@pytest.mark.parametrize("machine", ARCHITECTURES)
def test_D7_the_filter_refuses_what_it_names_and_lets_all_else_pass(machine: str) -> None:
    arch, column = ARCHITECTURES[machine]
    calls = seccomp.NEVER | seccomp.OUTGOING
    steps = seccomp.program(calls, machine, datagrams=False)
    numbers = {name: both[column] for name, both in seccomp.NUMBERS.items()}
    assert {name for name in calls if judged(steps, numbers[name], arch) != errno.EPERM} == set()
    named = {numbers[name] for name in seccomp.NUMBERS}
    assert {number for number in range(600) if number not in named and judged(steps, number, arch)} == set()
    assert {judged(steps, numbers[name], arch) for name in numbers if name.startswith("io_uring")} == {errno.ENOSYS}
    assert judged(steps, numbers["accept4"], arch) == 0
    for name, place in (("sendto", 3), ("sendmsg", 2), ("sendmmsg", 3)):
        flags = [0] * 6
        assert judged(steps, numbers[name], arch, tuple(flags)) == 0
        flags[place] = 0x2000_4000
        assert judged(steps, numbers[name], arch, tuple(flags)) == errno.EPERM
    assert [judged(steps, numbers["socketpair"], arch, (1, kind, 0)) for kind in (1, 0x80801, 2, 5, 0x80002)] == [
        0, 0, errno.EPERM, errno.EPERM, errno.EPERM
    ]  # fmt: skip
    assert judged(steps, 0, 0x4000_0003) == errno.EPERM, "another architecture's numbers"
    if machine == "x86_64":
        assert judged(steps, 0x4000_0000 | numbers["connect"], arch) == errno.ENOSYS, "x32"


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (errno.ENOSYS, "the kernel has no Landlock"),
        (errno.EPERM, "forbidden here: a container's filter, or a service's"),
    ],
)
def test_D7_where_the_kernel_cannot_it_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fault: int, says: str
) -> None:
    monkeypatch.setattr(landlock, "supported", lambda: -fault)
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    told = confine.confine("edge", Config(storage=StorageConfig(data_dir=str(tmp_path)))).told()
    assert told == {"files": says, "calls": "not written for linux on riscv64"}


# -- the real program


def kept(pid: int) -> bool:
    return "Seccomp:\t2" in Path(f"/proc/{pid}/status").read_text()


@pytest.mark.parametrize(
    "command", [SOURCE, pytest.param([str(BINARY)], marks=pytest.mark.binary)], ids=["source", "binary"]
)
def test_D7_the_whole_program_serves_while_it_is_kept(command: list[str], tmp_path: Path) -> None:
    """With an edge that serves, a keeper that stores, a courier that settles, a console that shows."""
    serving = Serving(command, tmp_path)
    try:
        urls = serving.ready()
        assert [answer["success"] for answer in serving.pasted()] == [True, True]
        key = next(line.split()[1] for line in serving.stdout.splitlines() if line.strip().startswith("secret"))
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        item = {"type": "click", "storeId": "store_demo", "landingPage": "https://shop.example/"}
        batch = [item | {"fbclid": f"IwAR{number:030d}"} for number in range(500)]
        assert request(f"{urls['edge']}/v1/track/batch", json.dumps(batch).encode(), headers)["success"]
        processes = serving.children()
        assert set(processes) == {"edge", "keeper", "courier", "console"}
        assert {role: kept(pid) for role, pid in processes.items()} == dict.fromkeys(processes, True)
        assert not kept(os.getpid()), "control"
        assert serving.stderr.count("files=kept  calls=kept") == 4, serving.stderr
        assert serving.stop() == 0
    finally:
        serving.end()
