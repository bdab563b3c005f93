"""Large batches are checked and named aside, by a helper process (helper.py) that is started for them.

Nothing depends on it: where it is not there, too busy, slow or dead, the edge does the work itself, and the answer is
the same. It comes with the first large batch and goes when there were none for a minute, so a small shop never pays
for it. Measured on two processors: 45,000 clicks a second without it, 60,000 with it (`collector bench --only batch`).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from collector import release, telemetry
from collector.config import Config
from collector.edge.helper import ELSE, FD, LENGTH_BYTES, Answered, Hello, Question, framed
from collector.storage.journal import Journal

log = telemetry.logger("edge")

LEAST_BYTES: Final = 32_768  # of a body: some 70 clicks
_MOST_WAITING: Final = 8  # batches with the helper at once; the next one is faster done here
_IDLE_SECONDS: Final = 60.0
_ANSWER_SECONDS: Final = 5.0  # a thousand clicks take it 10 ms
_START_SECONDS: Final = 20.0
_PAUSE_SECONDS: Final = 10.0  # from an end that nobody asked for to the next start
_END_SECONDS: Final = 1.0
_SOCKET_BYTES: Final = 1 << 21
_decode: Final = msgspec.msgpack.Decoder(list[Answered]).decode


class Aside:
    """The edge's end. `command` starts a helper; None, or a machine with one processor: the edge does all itself."""

    def __init__(self, command: Sequence[str] | None, config: Config, journal: Journal) -> None:
        self._command = command if _processors() > 1 else None
        self._config, self._journal = config, journal
        self._waiting: deque[asyncio.Future[bytes]] = deque()  # in the order in which the helper answers
        self._writer: asyncio.StreamWriter | None = None  # while the helper is ready
        self._life: asyncio.Task[None] | None = None
        self._rests_until = 0.0
        self.process: asyncio.subprocess.Process | None = None

    async def ask(self, body: bytes, question: Question) -> list[Answered] | None:
        """The items of a batch as the helper made them; None: do it yourself."""
        if self._command is None or len(body) < LEAST_BYTES:
            return None
        if self._writer is None:
            self._start()
            return None
        if len(self._waiting) >= _MOST_WAITING:
            return None
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting.append(answer)
        for content in (msgspec.msgpack.encode(question), body):
            self._writer.writelines(framed(content))
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                raw = await answer
        except TimeoutError:
            log.warning("the helper does not answer and is ended")
            self._end()
            return None
        try:
            return _decode(raw) if raw != ELSE else None
        except msgspec.DecodeError as error:
            log.failed("the helper's answer cannot be read, and it is ended", error)
            self._end()
            return None

    def _start(self) -> None:
        loop = asyncio.get_running_loop()
        if self._life is None and loop.time() >= self._rests_until:
            self._life = loop.create_task(self._live())

    async def _live(self) -> None:
        """One helper from its start to its end."""
        try:
            await self._serve()
        except (OSError, TimeoutError, EOFError) as error:  # EOFError: it ended
            log.failed("the helper is gone; batches are prepared here", error)
            self._rests_until = asyncio.get_running_loop().time() + _PAUSE_SECONDS
        finally:
            await self._clear()
            self._life = None

    async def _serve(self) -> None:
        """Start it and take its answers; return when it was idle for long."""
        assert self._command is not None
        ours, theirs = socket.socketpair()
        with theirs:
            for end in (ours, theirs):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BYTES)
            self.process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.DEVNULL,
                env=_environment(os.environ, theirs.fileno()),
                pass_fds=(theirs.fileno(),),
            )
        reader, writer = await asyncio.open_unix_connection(sock=ours, limit=_SOCKET_BYTES)
        try:
            hello = Hello(release.name(), self._config, self._journal.stores, self._journal.names.pepper)
            writer.writelines(framed(msgspec.msgpack.encode(hello)))
            async with asyncio.timeout(_START_SECONDS):
                await _frame(reader)
            self._writer = writer
            log.info("a helper takes large batches", pid=self.process.pid)
            while True:
                try:
                    async with asyncio.timeout(_IDLE_SECONDS):
                        content = await _frame(reader)
                except TimeoutError:
                    if not self._waiting:
                        return
                    raise
                answer = self._waiting.popleft()
                if not answer.done():
                    answer.set_result(content)
        finally:
            self._writer = None
            writer.close()

    async def _clear(self) -> None:
        """Let everybody who waits do it himself, and see the process end."""
        self._writer = None
        while self._waiting:
            answer = self._waiting.popleft()
            if not answer.done():
                answer.set_result(ELSE)
        process, self.process = self.process, None
        if process is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_END_SECONDS):
                    await process.wait()
            if process.returncode is None:
                process.kill()
                await process.wait()

    def _end(self) -> None:
        if self.process is not None and self.process.returncode is None:
            self.process.kill()

    async def close(self) -> None:
        """End the helper, if there is one."""
        if self._life is not None:
            self._life.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._life


def _processors() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


async def _frame(reader: asyncio.StreamReader) -> bytes:
    length = int.from_bytes(await reader.readexactly(LENGTH_BYTES), "little")
    return await reader.readexactly(length)


def _environment(env: Mapping[str, str], fd: int) -> dict[str, str]:
    """The edge's own, without any setting of ours, and with the connection's number."""
    return {**{name: value for name, value in env.items() if not name.startswith("COLLECTOR_")}, FD: str(fd)}
