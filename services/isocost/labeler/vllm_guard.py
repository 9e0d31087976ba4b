"""Runs a vLLM server and takes all of its processes down with it, or with the process that asked for it.

    python -m isocost.labeler.vllm_guard PARENT_PID DRAIN_SECONDS COMMAND...

vLLM's engine process outlives a killed server process, and a killed labeler can tidy nothing up. This small process
stands between them: it starts the command in a process group of its own and ends the whole group where the command
exits, where it is told to stop (SIGTERM or SIGINT: the command first gets DRAIN_SECONDS to finish its requests), and
where the process PARENT_PID is gone. Standard library only, so that it starts at once.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time

__all__ = ["guard", "main"]

_POLL_SECONDS = 0.25
_PR_SET_PDEATHSIG = 1
_WAKING = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)


def guard(parent_pid: int, drain_seconds: float, command: list[str]) -> int:
    """Runs the command until it exits, a stop is asked for or the parent is gone; returns its exit code."""
    # Blocked before the child starts, so that none is lost between two waits.
    signal.pthread_sigmask(signal.SIG_BLOCK, _WAKING)
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True, preexec_fn=_before_exec)  # noqa: PLW1509 - this process has one thread
    stop_deadline: float | None = None
    try:
        while child.poll() is None and os.getppid() == parent_pid:
            if stop_deadline is not None and time.monotonic() >= stop_deadline:
                break
            woken = signal.sigtimedwait(_WAKING, _POLL_SECONDS)
            if woken is not None and woken.si_signo != signal.SIGCHLD and stop_deadline is None:
                stop_deadline = time.monotonic() + drain_seconds
                # To the server process alone: it lets its engine finish the requests in flight.
                child.send_signal(signal.SIGTERM)
    finally:
        _kill_group(child.pid)
        code = child.wait()
    return code if code >= 0 else 128 - code


def _before_exec() -> None:
    """In the new process: unblocks the signals, and dies with the guard."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _WAKING)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _kill_group(group_id: int) -> None:
    """Ends what is left of the group; the group is the child's, whose id stays taken until it is waited for."""
    try:
        os.killpg(group_id, signal.SIGKILL)
    except ProcessLookupError:
        return


def main() -> int:
    """Reads the command line."""
    parent_pid, drain_seconds, *command = sys.argv[1:]
    return guard(int(parent_pid), float(drain_seconds), command)


if __name__ == "__main__":
    sys.exit(main())
