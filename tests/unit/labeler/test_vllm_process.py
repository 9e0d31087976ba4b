"""Starting and ending a server process, with scripts in vLLM's place; what a vLLM log says about a failure."""

import socket
import sys
from pathlib import Path

import pytest

from isocost.core.errors import UnavailableError
from isocost.labeler import vllm_process
from isocost.labeler.engine import Runner
from isocost.labeler.settings import LabelerSettings
from isocost.labeler.vllm_process import VllmProcess, failure_lines

LOG = """\
(APIServer pid=1) WARNING 11-23 06:11:39 [base.py:380] ValueError: Cannot use chat template functions
(EngineCore pid=2) INFO 11-23 06:11:39 [core.py:133] Initializing a V1 LLM engine
/site-packages/vllm/x.py:24: DeprecationWarning: something is deprecated
(EngineCore pid=2) ERROR 11-23 06:11:40 [core.py:900] Traceback (most recent call last):
(EngineCore pid=2) ERROR 11-23 06:11:40 [core.py:900]   File "/vllm/core.py", line 3, in run
(EngineCore pid=2) ERROR 11-23 06:11:40 [core.py:900] ValueError: Available memory on node 0 is less than desired
(EngineCore pid=2) ValueError: Available memory on node 0 is less than desired
(APIServer pid=1) Traceback (most recent call last):
(APIServer pid=1) RuntimeError: Engine core initialization failed. See root cause above.
"""


def test_reason_is_the_first_hand_error_once() -> None:
    assert failure_lines(LOG) == ["ValueError: Available memory on node 0 is less than desired"]


def test_last_errors_are_kept_in_their_order() -> None:
    log = "\n".join(f"(EngineCore pid=2) ValueError: number {number}" for number in range(5))
    assert failure_lines(log) == [f"ValueError: number {number}" for number in (2, 3, 4)]


def test_second_hand_error_is_better_than_nothing() -> None:
    log = "(APIServer pid=1) RuntimeError: Engine core initialization failed. See root cause above.\nbye"
    assert failure_lines(log) == ["RuntimeError: Engine core initialization failed. See root cause above."]


def test_usage_error_counts() -> None:
    log = "usage: api_server.py [-h]\napi_server.py: error: argument --port: invalid int value: 'x'\n"
    assert failure_lines(log) == ["api_server.py: error: argument --port: invalid int value: 'x'"]


def test_what_pydantic_found_wrong_counts() -> None:
    log = "pydantic_core.ValidationError: 1 validation error\n  Value error, Model is not supported [type=x]"
    assert failure_lines(log)[-1] == "Value error, Model is not supported [type=x]"


def test_last_lines_where_no_error_is_named() -> None:
    assert failure_lines("one\n\ntwo\nthree\nfour\n") == ["two", "three", "four"]
    assert failure_lines("") == []


SERVER = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
    def log_message(self, *_):
        pass
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
FAILING = "import sys; sys.exit('ValueError: no weights here')"
SILENT = "import time; time.sleep(600)"


def make_process(monkeypatch: pytest.MonkeyPatch, state_dir: Path, script: str, timeout_seconds: float) -> VllmProcess:
    """A process that runs the script, with the port as its argument, where vLLM would run."""
    monkeypatch.setattr(VllmProcess, "_command", lambda self, port, on_cuda: [sys.executable, "-c", script, str(port)])
    settings = LabelerSettings(state_dir=state_dir, vllm_start_timeout_seconds=timeout_seconds)
    return VllmProcess("org/model", "", Runner.GENERATE, settings)


async def test_server_starts_and_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    process = make_process(monkeypatch, tmp_path, SERVER, 60)
    await process.start()
    assert process.is_running
    port = int(process.url.rpartition(":")[2])
    await process.stop()
    assert not process.is_running
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0
    await process.stop()


async def test_server_that_exits_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    process = make_process(monkeypatch, tmp_path, FAILING, 60)
    with pytest.raises(UnavailableError, match=r"could not start with 'org/model'.*no weights here.*\.log\)"):
        await process.start()
    assert not process.is_running


async def test_server_that_is_never_ready_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    process = make_process(monkeypatch, tmp_path, SILENT, 0.5)
    with pytest.raises(UnavailableError, match=r"not ready .* after 0\.5 s; raise vllm_start_timeout_seconds"):
        await process.start()
    assert not process.is_running


async def test_port_taken_by_another_program_is_got_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        other_port = other.getsockname()[1]
        free = vllm_process._free_port()
        ports = iter([other_port, free])
        monkeypatch.setattr(vllm_process, "_free_port", lambda: next(ports))
        process = make_process(monkeypatch, tmp_path, SERVER, 60)
        await process.start()
        assert process.url.endswith(f":{free}")
        await process.stop()
