"""Runs other programs, never longer than the local cloud itself.

A child's standard input is a pipe that only this process holds the other end of. However this process ends, even by
SIGKILL, the pipe closes and the child ends with it: Azurite and the embedded host watch their input themselves,
any other program is started under a shell that does. (PR_SET_PDEATHSIG would fire when the *thread* that started the
child ends, and only exists on Linux.)
"""

from __future__ import annotations

import collections
import contextlib
import logging
import os
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_log = logging.getLogger(__name__)
PROJECT = Path(__file__).resolve().parent.parent
STOP_GRACE_S = 10.0
KEPT_LINES = 1000

# Runs "$@", and ends it when the shell is told to end or its input closes; then ends the rest of the group.
_LEASH = """
exec 3<&0
"$@" </dev/null 3<&- & child=$!
trap 'kill -TERM $child' TERM
(read -r _ <&3; kill -TERM $$) &
wait $child; code=$?
while kill -0 $child 2>/dev/null; do wait $child; code=$?; done
trap '' TERM
kill -TERM 0
exit $code
"""
LEASH = ("sh", "-c", _LEASH, "leash")


class Child:
    """A running program in a session of its own; its output is passed on line by line, and logged for debugging."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        directory: Path,
        on_line: Callable[[str], None] = lambda _: None,
        inherited: Sequence[int] = (),
    ) -> None:
        """Start it; `inherited` are descriptors to pass to it."""
        self.lines: collections.deque[str] = collections.deque(maxlen=KEPT_LINES)
        self._on_line = on_line
        self._process = subprocess.Popen(  # noqa: S603 - commands are built by this project, never from input
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=dict(environment),
            cwd=directory,
            start_new_session=True,
            pass_fds=inherited,
        )
        self._pump = threading.Thread(target=self._pump_lines, daemon=True, name=f"output of {self.pid}")
        self._pump.start()

    @property
    def pid(self) -> int:
        """The child's process ID, which is also that of its process group."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.poll()

    def stop(self, grace_s: float = STOP_GRACE_S) -> int:
        """Ask it to end, together with its own children; kill the group after `grace_s`. Returns its exit code."""
        self._process.terminate()
        try:
            self._process.wait(grace_s)
        except subprocess.TimeoutExpired:
            self._kill_group()
        return self._reap()

    def kill(self) -> int:
        """Kill it as a crash would, without a chance to clean up; return its exit code."""
        if self._process.returncode is None:
            self._kill_group()
        return self._reap()

    def _kill_group(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    def _reap(self) -> int:
        code = self._process.wait()
        self._kill_group()  # children that it left running
        self._pump.join()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                pipe.close()
        return code

    def _pump_lines(self) -> None:
        if self._process.stdout is None:
            return
        for raw in self._process.stdout:
            line = raw.decode("utf-8", "replace").rstrip("\r\n")
            self.lines.append(line)
            _log.debug(line, extra={"command": self._process.args})
            with contextlib.suppress(OSError):  # nobody reads it anymore; the child must not be blocked by that
                self._on_line(line)


def wait_until(condition: Callable[[], bool], *, timeout_s: float, interval_s: float = 0.02) -> bool:
    """Poll `condition` until it is true; False if time ran out first."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(interval_s)
    return True
