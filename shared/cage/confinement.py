"""Decides what a process may still do once it holds an untrusted file: compute, and send messages on one socket.

The kernel enforces every limit. The process sets them before it touches the file and cannot undo them: where it could
raise one (a soft limit up to its hard limit), seccomp forbids the call. None of this needs root or a capability. What a
kernel does not support is left out: `confine` never fails because of that.

https://docs.kernel.org/userspace-api/seccomp_filter.html, https://man7.org/linux/man-pages/man2/getrlimit.2.html
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import struct
from functools import cache
from pathlib import Path
from typing import Any

NOBODY = 65_534
_CAP_SETUID, _CAP_SYS_RESOURCE = 7, 24

# https://github.com/torvalds/linux/blob/master/include/uapi/linux/prctl.h
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 1, 4, 22, 38
_SECCOMP_MODE_FILTER = 2

_LIBC = ctypes.CDLL(None, use_errno=True)


def may_change_user() -> bool:
    """Say whether children can run as another user while this process can still set their limits.

    Root in a container often lacks CAP_SYS_RESOURCE, without which `prlimit` works only on processes of the same user.
    """
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        return False
    held = next((int(line.split()[1], 16) for line in status.splitlines() if line.startswith("CapEff:")), 0)
    return os.geteuid() == 0 and bool(held >> _CAP_SETUID & 1) and bool(held >> _CAP_SYS_RESOURCE & 1)


def prepare() -> None:
    """Do once, before any fork, what applies to every child: build the filter, and drop what children must not have."""
    _program(os.uname().machine)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    for kind in (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE):
        resource.setrlimit(kind, (0, 0))


def end_with_parent() -> None:
    """Have the kernel kill this process when the thread that started it ends, even if this process hangs."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def drop_privileges(parent: int, *, change_user: bool) -> None:
    """Drop what the parent needs and a file's process does not: root, being traceable, and outliving the parent."""
    if change_user:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    _prctl(_PR_SET_DUMPABLE, 0)
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # after the change of user, which would clear it
    if os.getppid() != parent:
        os._exit(1)


def confine(memory_bytes: tuple[int, int], cpu_s: tuple[int, int]) -> None:
    """Set the limits for one file: a process is told of a soft limit, and cannot exceed a hard one.

    From here on it can open nothing, and write only to what is already open.
    """
    resource.setrlimit(resource.RLIMIT_AS, memory_bytes)
    resource.setrlimit(resource.RLIMIT_CPU, cpu_s)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))
    _filter_calls()


def _prctl(option: int, argument: int) -> bool:
    return bool(_LIBC.prctl(option, ctypes.c_ulong(argument), 0, 0, 0) == 0)


# System call numbers on x86_64 and aarch64, in this order; None where the architecture lacks the call.
_ALLOWED = {
    "read": (0, 63),
    "write": (1, 64),
    "close": (3, 57),
    "lseek": (8, 62),
    "fstat": (5, 80),
    "munmap": (11, 215),
    "mremap": (25, 216),
    "madvise": (28, 233),
    "brk": (12, 214),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "sigaltstack": (131, 132),
    "restart_syscall": (219, 128),
    "futex": (202, 98),
    "sched_yield": (24, 124),
    "sched_getaffinity": (204, 123),
    "getcpu": (309, 168),
    "getpid": (39, 172),
    "gettid": (186, 178),
    "getuid": (102, 174),
    "geteuid": (107, 175),
    "getrusage": (98, 165),
    "sysinfo": (99, 179),
    "clock_gettime": (228, 113),
    "clock_getres": (229, 114),
    "gettimeofday": (96, 169),
    "time": (201, None),
    "getrandom": (318, 278),
    "sendto": (44, 206),
    "sendmsg": (46, 211),
    "recvfrom": (45, 207),
    "recvmsg": (47, 212),
    "set_robust_list": (273, 99),
    "rseq": (334, 293),
    "exit": (60, 93),
    "exit_group": (231, 94),
}
_UNLESS_EXECUTABLE = {"mmap": (9, 222), "mprotect": (10, 226)}
_THREADS_ONLY = {"clone": (56, 220)}
"""libde265 has one thread beside the main one. RLIMIT_NPROC is no substitute: it counts all processes of a user, and
not those of root."""

_UNKNOWN = {"clone3": (435, 435)}
"""A filter cannot see its flags, which are in memory; libraries that get ENOSYS use `clone`."""

# It may not signal itself either: `abort` still ends the process, with an illegal instruction.

_ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
_LOAD, _EQUALS, _HAS_BITS, _AT_LEAST, _RETURN = 0x20, 0x15, 0x45, 0x35, 0x06
_ALLOW, _REFUSE, _NO_SUCH_CALL, _KILL = 0x7FFF0000, 0x00050000 | 1, 0x00050000 | 38, 0x80000000  # EPERM, ENOSYS
_AT_NUMBER, _AT_ARCHITECTURE, _AT_ARGUMENTS = 0, 4, 16
_PROT_EXEC = 4
_CLONE_THREAD = 0x10000
_X32 = 0x40000000


class _Program(ctypes.Structure):
    """`struct sock_fprog`."""

    _fields_ = (("count", ctypes.c_ushort), ("code", ctypes.c_char_p))


def _filter_calls() -> bool:
    """Allow only the system calls that a decoder needs; say whether the kernel accepted the filter."""
    program = _program(os.uname().machine)
    return program is not None and bool(_LIBC.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, program, 0, 0) == 0)


@cache
def _program(machine: str) -> Any:
    """Return the filter as a kernel structure, or None if `_filter` has none."""
    code = _filter(machine)
    return None if code is None else ctypes.byref(_Program(len(code) // 8, code))


def _filter(machine: str) -> bytes | None:
    """Return the filter as classic BPF, or None for an architecture whose calls are not listed here."""
    if machine not in _ARCHITECTURES or struct.calcsize("P") != 8:  # noqa: PLR2004 - bytes of an address
        return None
    column, architecture = _ARCHITECTURES[machine]
    steps = [
        (_LOAD, 0, 0, _AT_ARCHITECTURE),
        (_EQUALS, 1, 0, architecture),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _AT_NUMBER),
        (_AT_LEAST, 0, 1, _X32),
        (_RETURN, 0, 0, _REFUSE),
    ]
    for numbers in _ALLOWED.values():
        if (number := numbers[column]) is not None:
            steps += [(_EQUALS, 0, 1, number), (_RETURN, 0, 0, _ALLOW)]
    for numbers in _UNLESS_EXECUTABLE.values():
        protection = _AT_ARGUMENTS + 8 * 2
        steps += [(_EQUALS, 0, 4, numbers[column]), (_LOAD, 0, 0, protection), (_HAS_BITS, 0, 1, _PROT_EXEC)]
        steps += [(_RETURN, 0, 0, _REFUSE), (_RETURN, 0, 0, _ALLOW)]
    for numbers in _THREADS_ONLY.values():
        steps += [(_EQUALS, 0, 4, numbers[column]), (_LOAD, 0, 0, _AT_ARGUMENTS), (_HAS_BITS, 0, 1, _CLONE_THREAD)]
        steps += [(_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _REFUSE)]
    for numbers in _UNKNOWN.values():
        steps += [(_EQUALS, 0, 1, numbers[column]), (_RETURN, 0, 0, _NO_SUCH_CALL)]
    steps.append((_RETURN, 0, 0, _REFUSE))
    return b"".join(struct.pack("=HBBI", *step) for step in steps)
