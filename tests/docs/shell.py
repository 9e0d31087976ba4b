"""A reader's terminal: runs the blocks of a page one after another, in what looks like a clone after `make setup`."""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.docs.page import ROOT, Block

__all__ = ["Shell", "free_port"]

_TIMEOUT_SECONDS = 300

#: What of a clone the commands of the documentation read. `runs` and all else that they write is the folder's own.
_READ = ("bench", "deploy", "docs", "services", "tests")


def free_port() -> int:
    """A port that nothing listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


class Shell:
    """Runs blocks as bash does that stops at the first error; `cd` and `export` are kept from block to block.

    Args:
        folder: Made to look like a clone.
        substitutions: What is run in place of parts of the page's text, such as the address of a server.
        variables: Set for all blocks.
    """

    def __init__(
        self, folder: Path, substitutions: Mapping[str, str] | None = None, variables: Mapping[str, str] | None = None
    ) -> None:
        self.folder = folder
        self._substitutions = dict(substitutions or {})
        plain = {name: value for name, value in os.environ.items() if not name.startswith("ISOCOST_")}
        self._environment = {
            **plain,
            "PATH": os.pathsep.join([str(folder / "shims"), str(Path(sys.executable).parent), plain["PATH"]]),
            "COLUMNS": "120",
            "OMP_NUM_THREADS": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "NO_MKDOCS_2_WARNING": "1",
            **(variables or {}),
        }
        self._state = folder / ".shell"
        self._servers = ExitStack()
        folder.mkdir(exist_ok=True)
        for name in _READ:
            (folder / name).symlink_to(ROOT / name)
        (folder / ".venv").symlink_to(sys.prefix)
        (folder / "shims").mkdir()
        self._state.write_text("")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._servers.close()

    def shim(self, program: str, script: str) -> None:
        """Lets a script stand in for a program."""
        path = self.folder / "shims" / program
        path.write_text(script, encoding="utf-8")
        path.chmod(0o755)

    def run(self, block: Block, *, returncode: int | None = None, **variables: str) -> str:
        """Runs a block to its end, and returns what it printed; fails where it ends with another code than documented.

        Args:
            block: The block.
            returncode: The code, where the page says it in words.
            variables: Values of the variables that the block reads.
        """
        done = subprocess.run(
            ["bash", "-c", self._script(block, variables)],
            cwd=self.folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=_TIMEOUT_SECONDS,
        )
        wanted = block.returncode if returncode is None else returncode
        assert done.returncode == wanted, f"{block} ended with {done.returncode}\n{block.text}\n{done.stdout}"
        return done.stdout

    def serve(self, block: Block, *, listening: str = r"listens on (\S+:\d+)", **variables: str) -> str:
        """Starts a block that ends with a server, waits until it says where it listens, and returns that."""
        return self._servers.enter_context(self._serving(block, listening, variables))

    def stop_servers(self) -> None:
        """Ends all servers by SIGTERM, as Ctrl-C would."""
        self._servers.close()

    @contextmanager
    def _serving(self, block: Block, listening: str, variables: Mapping[str, str]) -> Iterator[str]:
        server = subprocess.Popen(
            ["bash", "-c", self._script(block, variables)],
            cwd=self.folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        assert server.stdout is not None
        said = []
        drain = threading.Thread(target=deque, args=(server.stdout, 0))
        with server.stdout:
            try:
                for line in server.stdout:
                    said.append(line)
                    if found := re.search(listening, line):
                        break
                else:
                    raise AssertionError(f"{block} ended before it listened\n{block.text}\n{''.join(said)}")
                # What it prints later is read as well: it would wait where nobody does.
                drain.start()
                yield found.group(1)
            finally:
                # The group: the shell, and the server that it waits for.
                os.killpg(server.pid, signal.SIGTERM)
                try:
                    server.wait(60)
                except subprocess.TimeoutExpired:
                    os.killpg(server.pid, signal.SIGKILL)
                    server.wait()
                    raise
                finally:
                    if drain.ident:
                        drain.join()

    def _script(self, block: Block, variables: Mapping[str, str]) -> str:
        text = block.text
        for written, run in self._substitutions.items():
            text = text.replace(written, run)
        keep = f"""keep() {{ code=$?; {{ export -p; echo "cd '$PWD'"; }} > '{self._state}'; exit $code; }}"""
        given = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in variables.items())
        return f"set -euo pipefail\nsource '{self._state}'\n{given}{keep}\ntrap keep EXIT\n{text}"
