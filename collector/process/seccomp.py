"""Which system calls may a process of ours not make? A filter that the kernel asks before each call (seccomp(2)).

A call that is refused answers EPERM, as if the process lacked the right; io_uring answers ENOSYS, as an old kernel
does, because libraries then go on without it. The filter lists what nobody needs here, not what is allowed: it holds
for every Python and C library that there will be. What the process starts inherits it, and nothing takes it off.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import sys
from collections.abc import Iterable
from typing import Final, NamedTuple

# Numbers of each architecture: x86_64, aarch64 (the kernel's unistd.h).
NUMBERS: Final[dict[str, tuple[int, int]]] = {
    # to somewhere else
    "socket": (41, 198),
    "connect": (42, 203),
    # from somewhere else
    "listen": (50, 201),
    "accept": (43, 202),
    "accept4": (288, 242),
    # another program
    "execve": (59, 221),
    "execveat": (322, 281),
    # another process's memory and files
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "kcmp": (312, 272),
    "pidfd_getfd": (438, 438),
    "open_by_handle_at": (304, 265),
    # the kernel and the machine
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsmount": (432, 432),
    "mount_setattr": (442, 442),
    "unshare": (272, 97),
    "setns": (308, 268),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "acct": (163, 89),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "adjtimex": (159, 171),
    "quotactl": (179, 60),
    # looked at more closely
    "socketpair": (53, 199),
    "sendto": (44, 206),
    "sendmsg": (46, 211),
    "sendmmsg": (307, 269),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
}
OUTGOING: Final = frozenset({"socket", "connect"})
LISTENING: Final = frozenset({"listen", "accept", "accept4"})
STARTING: Final = frozenset({"execve", "execveat"})
# io_uring does in one call what is refused in another.
_AS_OLD: Final = frozenset({"io_uring_setup", "io_uring_enter", "io_uring_register"})
_CLOSER: Final = frozenset({"socketpair", "sendto", "sendmsg", "sendmmsg"})
NEVER: Final = frozenset(NUMBERS) - OUTGOING - LISTENING - STARTING - _AS_OLD - _CLOSER

_MSG_FASTOPEN: Final = 0x2000_0000  # sends without connect()
_SOCK_STREAM, _TYPE_MASK = 1, 0xF
_X32: Final = 0x4000_0000  # the third way of x86_64 to name the same calls

_ARCHITECTURES: Final = {"x86_64": (0xC000_003E, 0), "aarch64": (0xC000_00B7, 1)}
_LOAD, _JUMP_EQUAL, _JUMP_GE, _JUMP_SET, _AND, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
_ALLOW, _ERRNO = 0x7FFF_0000, 0x0005_0000
_NUMBER_AT, _ARCH_AT, _ARGS_AT = 0, 4, 16  # of struct seccomp_data
_SET_MODE_FILTER, _TSYNC = 1, 1
_SECCOMP_CALL: Final = {"x86_64": 317, "aarch64": 277}


class Step(NamedTuple):
    """One instruction of classic BPF; `yes` and `no` are how many of the next ones a jump leaves out."""

    code: int
    value: int
    yes: int = 0
    no: int = 0


class _Instruction(ctypes.Structure):
    _fields_ = (("code", ctypes.c_ushort), ("jt", ctypes.c_ubyte), ("jf", ctypes.c_ubyte), ("k", ctypes.c_uint))


class _Program(ctypes.Structure):
    _fields_ = (("len", ctypes.c_ushort), ("filter", ctypes.POINTER(_Instruction)))


def refuse(calls: Iterable[str], *, datagrams: bool = False) -> str | None:
    """Refuse these calls, and what is never needed, to all threads from now on; None, or why the kernel cannot.

    `datagrams`: whether other sockets than streams may be made (DNS needs them), which send without connect().
    Needs PR_SET_NO_NEW_PRIVS (hardening.py). Raises KeyError for a call that NUMBERS does not know.
    """
    machine = platform.machine()
    if sys.platform != "linux" or machine not in _ARCHITECTURES:
        return f"not written for {sys.platform} on {machine}"
    steps = program(NEVER | frozenset(calls), machine, datagrams=datagrams)
    code = (_Instruction * len(steps))(*(_Instruction(step.code, step.yes, step.no, step.value) for step in steps))
    held = _Program(len(steps), code)
    libc = ctypes.CDLL(None, use_errno=True)
    number, flags = ctypes.c_long(_SECCOMP_CALL[machine]), ctypes.c_ulong(_TSYNC)
    if libc.syscall(number, ctypes.c_ulong(_SET_MODE_FILTER), flags, ctypes.byref(held)) != 0:
        return os.strerror(ctypes.get_errno())
    return None


def program(calls: frozenset[str], machine: str, *, datagrams: bool) -> list[Step]:
    """The filter, as the kernel runs it before each call."""
    architecture, column = _ARCHITECTURES[machine]

    def number(name: str) -> int:
        return NUMBERS[name][column]

    steps = [Step(_LOAD, _ARCH_AT), Step(_JUMP_EQUAL, architecture, yes=1), _denied(), Step(_LOAD, _NUMBER_AT)]
    if machine == "x86_64":
        steps += [Step(_JUMP_GE, _X32, no=1), _denied(errno.ENOSYS)]
    for name in sorted(calls):
        steps += [Step(_JUMP_EQUAL, number(name), no=1), _denied()]
    for name in sorted(_AS_OLD):
        steps += [Step(_JUMP_EQUAL, number(name), no=1), _denied(errno.ENOSYS)]
    for name, argument in (("sendto", 3), ("sendmsg", 2), ("sendmmsg", 3)):
        steps += _flagged(number(name), argument)
    for name in ("socketpair",) if datagrams else ("socket", "socketpair"):
        steps += _of_streams(number(name))
    return [*steps, Step(_RETURN, _ALLOW)]


def _of_streams(number: int) -> list[Step]:
    """Refuse a socket, or a pair, that is no stream: datagrams go to wherever they are sent."""
    kind = [Step(_LOAD, _ARGS_AT + 8), Step(_AND, _TYPE_MASK), Step(_JUMP_EQUAL, _SOCK_STREAM, yes=1), _denied()]
    return [Step(_JUMP_EQUAL, number, no=len(kind) + 1), *kind, Step(_RETURN, _ALLOW)]


def _flagged(number: int, argument: int) -> list[Step]:
    """Refuse a call whose flags ask for an implicit connect()."""
    look = [
        Step(_LOAD, _ARGS_AT + 8 * argument),
        Step(_JUMP_SET, _MSG_FASTOPEN, no=1),
        _denied(),
        Step(_RETURN, _ALLOW),
    ]
    return [Step(_JUMP_EQUAL, number, no=len(look)), *look]


def _denied(number: int = errno.EPERM) -> Step:
    return Step(_RETURN, _ERRNO | number)
