"""The guard takes all processes down, whatever happens: real processes, real signals."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

GUARD = [sys.executable, "-m", "isocost.labeler.vllm_guard"]
#: A server with an engine of its own that ignores being asked to stop, as a stuck one does. Writes both ids.
SERVER = """
import os, signal, subprocess, sys, time
stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(600)"
engine = subprocess.Popen([sys.executable, "-c", stubborn], stdout=subprocess.PIPE)
engine.stdout.readline()
{handler}
with open(sys.argv[1] + ".part", "w") as file:
    file.write(f"{{os.getpid()}} {{engine.pid}}")
os.rename(sys.argv[1] + ".part", sys.argv[1])
{ending}
"""
IGNORE = "signal.signal(signal.SIGTERM, signal.SIG_IGN)"
DRAIN = "signal.signal(signal.SIGTERM, lambda *_: (open(sys.argv[1] + '.drained', 'w').close(), sys.exit(7)))"
WAIT = "time.sleep(600)"
EXIT = "sys.exit(5)"


@pytest.fixture
def ids_path(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "ids"
    yield path
    if path.exists():
        for process in processes(path):
            process.kill()


def command(parent_pid: int, drain_seconds: float, ids_path: Path, handler: str, ending: str) -> list[str]:
    server = [sys.executable, "-c", SERVER.format(handler=handler, ending=ending), str(ids_path)]
    return [*GUARD, str(parent_pid), str(drain_seconds), *server]


def processes(ids_path: Path) -> list[psutil.Process]:
    found = []
    for number in ids_path.read_text().split():
        try:
            process = psutil.Process(int(number))
        except psutil.NoSuchProcess:
            continue
        if process.status() != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found


def wait_up(ids_path: Path) -> list[psutil.Process]:
    while not ids_path.exists():
        time.sleep(0.02)
    return processes(ids_path)


def wait_gone(found: list[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(found, timeout=20)
    assert [process for process in alive if process.status() != psutil.STATUS_ZOMBIE] == []


def test_stop_lets_the_server_finish_and_ends_its_engine(ids_path: Path) -> None:
    guard = subprocess.Popen(command(os.getpid(), 30, ids_path, DRAIN, WAIT))
    found = wait_up(ids_path)
    assert len(found) == 2
    guard.terminate()
    assert guard.wait(20) == 7
    assert Path(f"{ids_path}.drained").exists()
    wait_gone(found)


def test_stop_ends_a_server_that_does_not_listen(ids_path: Path) -> None:
    guard = subprocess.Popen(command(os.getpid(), 0.1, ids_path, IGNORE, WAIT))
    found = wait_up(ids_path)
    guard.terminate()
    assert guard.wait(20) == 128 + signal.SIGKILL
    wait_gone(found)


def test_server_that_exits_leaves_no_engine(ids_path: Path) -> None:
    guard = subprocess.Popen(command(os.getpid(), 30, ids_path, IGNORE, EXIT))
    assert guard.wait(20) == 5
    assert processes(ids_path) == []


def test_server_that_is_killed_leaves_no_engine(ids_path: Path) -> None:
    guard = subprocess.Popen(command(os.getpid(), 30, ids_path, IGNORE, WAIT))
    server, engine = wait_up(ids_path)
    server.kill()
    assert guard.wait(20) == 128 + signal.SIGKILL
    wait_gone([engine])


def test_all_end_with_the_parent(ids_path: Path) -> None:
    launch = (
        "import os, subprocess, sys, time;"
        "subprocess.Popen([*sys.argv[1:4], str(os.getpid()), *sys.argv[5:]]); time.sleep(600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", launch, *command(0, 30, ids_path, IGNORE, WAIT)])
    found = wait_up(ids_path)
    guards = psutil.Process(parent.pid).children()
    assert len(guards) == 1
    parent.kill()
    parent.wait()
    wait_gone([*found, *guards])


def test_killed_guard_takes_the_server_with_it(ids_path: Path) -> None:
    guard = subprocess.Popen(command(os.getpid(), 30, ids_path, "", WAIT))
    server, _ = wait_up(ids_path)
    guard.kill()
    guard.wait()
    wait_gone([server])
