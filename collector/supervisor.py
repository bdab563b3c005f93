"""How do the processes live and die together? Bind, start, watch, restart, reload, drain.

The supervisor owns the sockets and the lock on the data directory, so neither is lost when a child crashes, and it
imports neither the web framework nor a database, so that it starts at once and has little to crash of.

    starting ──all ready──▶ serving ──SIGTERM──▶ draining ──▶ exit 0
        │ a child says 2 or 3      │ SIGHUP: the new settings are checked first, then handed to fresh children
        ▼                          │ a child ends: it is started again, later and later while it keeps ending
    exit with its code
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from collector import __version__, telemetry
from collector.config import Config
from collector.config_loader import Role, for_role
from collector.config_loader.changes import changed
from collector.errors import CollectorError, ConfigError
from collector.exchange import links
from collector.guard import memory
from collector.process import handover, hardening, listening, renewal, systemd, unpacked
from collector.process.child import STABLE_SECONDS, Child, cause, delay_after
from collector.process.connections import Connections
from collector.process.program import own_command
from collector.process.renewal import Certificate
from collector.storage.ground import audit, lock

FATAL: Final = (2, 3)  # exit codes that a restart cannot mend: configuration, and the store (disk)
DRAIN_SECONDS = 9.0  # the contract says exit within 10 s
KEEPER_SECONDS = 1.0  # of them, for the keeper to end where the edges do not

Command = Callable[[Role], Sequence[str]]

log = telemetry.logger("supervisor")


class Supervisor:
    """Runs the given roles until a signal ends them; `run` returns the exit code.

    `reload` gives the checked new configuration or raises ConfigError. `on_ready` is called once, when all answer.
    `before` is called once the lock is held. `command` says how a role is started: the tests give other programs.
    """

    def __init__(
        self,
        config: Config,
        *,
        roles: Sequence[Role] = ("keeper", "edge", "courier", "console"),
        reload: Callable[[], Config],
        on_ready: Callable[[Mapping[Role, str]], None],
        before: Callable[[], None] | None = None,
        command: Command = own_command,
    ) -> None:
        self._config, self._roles, self._reload = config, tuple(roles), reload
        self._on_ready, self._before, self._command = on_ready, before, command
        self._tls = Certificate(config.edge if "edge" in self._roles else None)
        self._selector = selectors.DefaultSelector()
        self._sockets: dict[Role, socket.socket] = {}
        self._children: list[Child] = []
        self._deadline: float | None = None  # of the drain
        self._announced = False
        self._connections = Connections(self._selector, self._children, self._roles, config.storage.data_dir)
        self._code = 0

    def run(self) -> int:
        self._unpacked = unpacked.hold()
        self._lock = self._lock_held()
        self._sockets = self._bind(self._config)
        self._connections.listen()
        if self._before is not None:
            self._before()
        self._held = [fd for fd in (*self._lock, self._unpacked) if fd is not None]
        self._life_end, self._life = os.pipe()
        self._watch_signals()
        self._note_release()
        self._arrange()
        while self._children:
            self._start_due()
            for key, _ in self._selector.select(self._pause()):
                key.data()
            self._reap()
            self._end_last()
            self._end_late()
            self._renew()
        return self._code

    def _lock_held(self) -> list[int]:
        """The locks on the data directory. An edge alone has none: its keeper does, and it may not even see inside."""
        data_dir = self._config.storage.data_dir
        if self._roles == ("edge",):
            return []
        held = [lock.hold(data_dir, shared=len(self._roles) == 1)]
        return [*held, lock.hold(data_dir, name=lock.WRITER)] if self._roles == ("keeper",) else held

    # -- sockets -------------------------------------------------------------------------------------------------

    def _bind(self, config: Config) -> dict[Role, socket.socket]:
        """The doors of these settings; one that stays where it is stays open."""
        listens: dict[Role, str] = {"edge": config.edge.listen, "console": config.console.listen}
        before: dict[Role, str] = {"edge": self._config.edge.listen, "console": self._config.console.listen}
        opened: dict[Role, socket.socket] = {}
        try:
            for role in (role for role in listens if role in self._roles):
                keep = self._sockets.get(role) if listens[role] == before[role] else None
                opened[role] = keep or listening.bind(listens[role])
        except CollectorError:
            self._close(set(opened.values()) - set(self._sockets.values()))
            raise
        self._close(set(self._sockets.values()) - set(opened.values()))
        return opened

    @staticmethod
    def _close(sockets: set[socket.socket]) -> None:
        for opened in sockets:
            opened.close()

    # -- signals -------------------------------------------------------------------------------------------------

    def _watch_signals(self) -> None:
        """Signals become bytes on a pipe, so that each is handled between two steps, never within one."""
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)
        self._selector.register(reader, selectors.EVENT_READ, lambda: self._signalled(os.read(reader, 256)))

    def _signalled(self, numbers: bytes) -> None:
        for number in numbers:
            if number in (signal.SIGTERM, signal.SIGINT):
                self._drain(impatient=number == signal.SIGINT)
            elif number == signal.SIGHUP and self._deadline is None:
                self._take_new_settings()

    # -- children ------------------------------------------------------------------------------------------------

    def _arrange(self) -> None:
        """As many children as the settings ask for."""
        counts = {role: self._config.edge.workers if role == "edge" else 1 for role in self._roles}
        for role, count in counts.items():
            there = [child for child in self._children if child.role == role]
            for index in range(len(there), count):
                self._children.append(Child(role, role if index == 0 else f"{role}-{index + 1}"))
            for child in there[count:]:
                child.wanted = False

    def _start_due(self) -> None:
        if self._deadline is None:
            now = time.monotonic()
            for child in self._children:
                if child.due is not None and child.due <= now and child.wanted:
                    self._try(child)

    def _try(self, child: Child) -> None:
        """A moment without files, memory or processes ends nothing that runs: the child is started later."""
        try:
            with contextlib.ExitStack() as given, contextlib.ExitStack() as undone:
                undone.callback(self._connections.forget, child)
                self._start(child, given, undone)
                undone.pop_all()
        except OSError as error:
            if not self._announced:
                raise
            self._later(child, "a process cannot be started now", reason=error.strerror)

    def _start(self, child: Child, given: contextlib.ExitStack, undone: contextlib.ExitStack) -> None:
        """`given` is closed here once the child has it; `undone` is what it leaves where it cannot be started."""
        reader, writer = os.pipe()
        undone.callback(os.close, reader)
        given.callback(os.close, writer)
        files = handover.files(self._config, child.role, self._tls.pair)
        for fd in files.values():
            given.callback(os.close, fd)
        fds = {**files, handover.READY_FD: writer, handover.LIFE_FD: self._life_end}
        if child.role in self._sockets:
            fds[handover.LISTEN_FD] = self._sockets[child.role].fileno()
        control = self._connections.of(child)
        if control is not None:
            given.enter_context(control)
            fds[handover.CONTROL_FD] = control.fileno()
        child.process = subprocess.Popen(
            self._command(child.role),
            env=handover.child_environment(os.environ, fds),
            pass_fds=(*fds.values(), *self._held),
            stdin=subprocess.DEVNULL,
        )
        child.pipe, child.ready, child.due, child.started = reader, False, None, time.monotonic()
        child.told_to_end = False
        self._selector.register(reader, selectors.EVENT_READ, lambda: self._heard(child))

    def _heard(self, child: Child) -> None:
        """The child is ready, or its end of the pipe is gone."""
        assert child.pipe is not None
        child.ready = os.read(child.pipe, 16) != b""
        self._forget_pipe(child)
        self._connections.give()
        answering = self._deadline is None and all(other.ready for other in self._children)
        if answering and not self._announced:
            self._announced = True
            memory.settle()
            self._on_ready({role: self._url(role) for role in self._sockets})
            systemd.tell("READY=1")

    def _url(self, role: Role) -> str:
        return listening.url_of(self._sockets[role], tls=role == "edge" and self._tls.pair is not None)

    def _forget_pipe(self, child: Child) -> None:
        if child.pipe is not None:
            self._selector.unregister(child.pipe)
            os.close(child.pipe)
            child.pipe = None

    def _reap(self) -> None:
        for child in list(self._children):
            if child.process is not None and (code := child.process.poll()) is not None:
                child.process = None
                self._connections.forget(child)
                if child.pipe is not None:
                    self._forget_pipe(child)
                self._ended(child, code)

    def _ended(self, child: Child, code: int) -> None:
        """Start it again, unless it was to end or cannot be helped by another start."""
        if self._deadline is not None or not child.wanted:
            self._children.remove(child)
        elif child.replaced:
            child.replaced, child.failures, child.due = False, 0, 0.0
        elif not self._announced and code in FATAL:
            self._children.remove(child)
            self._code = code
            self._drain(impatient=False)
        else:
            lived = time.monotonic() - child.started
            child.failures = 0 if child.ready and lived >= STABLE_SECONDS else child.failures
            self._later(child, "a process ended and is started again", **cause(code))
        child.ready = False

    def _later(self, child: Child, said: str, **why: Any) -> None:
        child.failures += 1
        pause = delay_after(child.failures)
        child.due = time.monotonic() + pause
        log.error(said, child=child.name, **why, seconds=pause)

    # -- settings ------------------------------------------------------------------------------------------------

    def _take_new_settings(self) -> None:
        """All or nothing: a fault, or a door that cannot be opened, leaves everything as it is."""
        try:
            new = self._reload()
            if os.path.abspath(new.storage.data_dir) != os.path.abspath(self._config.storage.data_dir):
                raise ConfigError(["[storage] data_dir: takes a restart, it cannot change while the collector runs"])
            if new.storage.engine != self._config.storage.engine:
                raise ConfigError(["[storage] engine: takes a restart, it cannot change while the collector runs"])
            if new.privacy.pepper_file != self._config.privacy.pepper_file:
                raise ConfigError(["[privacy] pepper_file: takes a restart, it cannot change while the collector runs"])
            pair = renewal.read(new.edge) if "edge" in self._roles else None
            self._sockets = self._bind(new)
        except CollectorError as error:
            for fault in str(error).splitlines():
                log.error("new settings refused, the old ones stay", fault=fault)
            self._note("reload refused", faults=len(str(error).splitlines()))
            return
        old, self._config = self._config, new
        renewed = self._tls.take(pair)
        telemetry.configure(new.log, "supervisor")
        self._arrange()
        for child in self._children:
            other = for_role(old, child.role) != for_role(new, child.role)
            if not child.wanted or other or (renewed and child.role == "edge"):
                self._replace(child)
            elif child.role == "courier" and child.ready:  # it tries its blocked queues, whatever was mended outside
                self._signal(child, signal.SIGHUP)
        settings = ", ".join((*changed(old, new), *(["the certificate"] if renewed else []))) or "none changed"
        log.info("new settings are in force", setting=settings)
        self._note("reload", settings=settings)

    def _replace(self, child: Child) -> None:
        """End it, so that it starts again with what is in force now."""
        child.replaced = True
        if child.role != "keeper":  # it answers the edges that end: _end_last
            self._signal(child, signal.SIGTERM)

    def _renew(self) -> None:
        """Serve with a certificate whose files were changed meanwhile."""
        if self._deadline is None and self._tls.renewed(self._config.edge):
            log.info("a new certificate is in force", setting="edge.tls_cert")
            self._note("reload", settings="the certificate")
            for child in self._children:
                if child.role == "edge":
                    self._replace(child)

    def _note_release(self) -> None:
        """A line of the audit where another release begins than the one that ran last: it may explain a bend."""
        entries, _ = audit.read(self._config.storage.data_dir)
        ran = next((entry.about.get("version") for entry in reversed(entries) if entry.action == "release"), None)
        if ran != __version__:
            self._note("release", version=__version__)

    def _note(self, action: str, **about: str | int) -> None:
        """A line of the audit; a full disk is no reason to run on with the old settings."""
        if self._roles == ("edge",):  # which may not write the data directory
            return
        try:
            audit.note(self._config.storage.data_dir, action, time.time_ns() // 1_000_000, **about)
        except CollectorError:
            log.warning("the audit could not be written", kind=action)

    # -- the end -------------------------------------------------------------------------------------------------

    def _drain(self, *, impatient: bool) -> None:
        """Close the doors, let every child answer and settle what it has; a second Ctrl-C ends them at once.

        A second SIGTERM does not: service managers and `timeout` send it to the process and again to its group.
        """
        if self._deadline is None:
            systemd.tell("STOPPING=1")
            for held in self._lock:
                lock.leaving(held)
            self._deadline = time.monotonic() + DRAIN_SECONDS
            self._close(set(self._sockets.values()))
            for child in list(self._children):
                if child.role != "keeper":
                    self._signal(child, signal.SIGTERM)
                if child.process is None:
                    self._children.remove(child)
        elif impatient:
            self._deadline = time.monotonic()

    def _end_last(self) -> None:
        """End the keeper once the edges that are to end have: until then they need its answers."""
        ending = self._deadline is not None
        edges = [child for child in self._children if child.role == "edge" and child.process is not None]
        waits = any(ending or child.replaced or not child.wanted for child in edges)
        if waits and (not ending or time.monotonic() < (self._deadline or 0.0) - KEEPER_SECONDS):
            return
        for child in self._children:
            if child.role == "keeper" and (ending or child.replaced) and not child.told_to_end:
                child.told_to_end = True
                if child.control is not None:
                    links.tell_to_end(child.control)

    def _end_late(self) -> None:
        if self._deadline is not None and time.monotonic() >= self._deadline:
            for child in self._children:
                log.error("a process did not end in time", child=child.name)
                self._signal(child, signal.SIGKILL)
                self._code = self._code or 1
            self._deadline = float("inf")

    @staticmethod
    def _signal(child: Child, number: signal.Signals) -> None:
        if child.process is not None:
            with contextlib.suppress(ProcessLookupError):
                child.process.send_signal(number)

    def _pause(self) -> float | None:
        """Seconds until there is something to do without being told."""
        now = time.monotonic()
        times = [child.due for child in self._children if child.due is not None and self._deadline is None]
        if self._deadline is None and (left := self._tls.seconds_left()) is not None:
            times.append(now + left)
        if self._deadline is not None and self._deadline != float("inf"):
            times += [self._deadline - KEEPER_SECONDS, self._deadline]
        return max(0.0, min(times) - now) if times else None


def supervise(
    config: Config,
    *,
    roles: Sequence[Role],
    reload: Callable[[], Config],
    on_ready: Callable[[Mapping[Role, str]], None],
    before: Callable[[], None] | None = None,
) -> int:
    """Confine this process, then run the roles until they are told to end."""
    hardening.harden()
    hardening.hide_memory()
    hardening.die_with_bootloader()
    return Supervisor(config, roles=roles, reload=reload, on_ready=on_ready, before=before).run()
