"""Keys from standard input: single ones on a terminal, one a line anywhere else."""

from __future__ import annotations

import asyncio
import codecs
import os
import select
import sys
import termios
import tty
from collections import deque
from enum import Enum
from typing import Any, Self, TextIO

__all__ = ["End", "Keyboard"]

#: More than any key sends; what is pasted comes in several parts.
_READ_BYTES = 1024
_ESCAPE, _END_OF_TRANSMISSION = "\x1b", "\x04"
_ERASE = ("\x7f", "\b")


class End(Enum):
    """Why no more keys come."""

    OF_INPUT = "end of input"
    INTERRUPTED = "interrupted"


class Keyboard:
    """Reads keys while the event loop goes on.

    On a terminal a key counts when it is pressed and is not echoed; after the block the terminal is as it was before.
    Elsewhere each line that is not empty is a key, so that a script may write them into a pipe.

    Usage::

        with Keyboard() as keyboard:
            key = await keyboard.read()

    Args:
        stream: Where keys come from; standard input where it is None.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdin
        try:
            self._fd: int | None = self._stream.fileno()
        except (OSError, ValueError):
            self._fd = None
        #: Whether keys count when they are pressed.
        self.is_terminal = self._fd is not None and os.isatty(self._fd)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._keys: deque[str] = deque()
        self._line = ""
        self._end: End | None = None
        self._terminal_before: list[Any] = []
        self._wake_read, self._wake_write = os.pipe()

    def __enter__(self) -> Self:
        if self.is_terminal and self._fd is not None:
            self._terminal_before = termios.tcgetattr(self._fd)
            # Not raw: Ctrl-C stays a signal.
            tty.setcbreak(self._fd)
        return self

    def __exit__(self, *_: object) -> None:
        if self._terminal_before and self._fd is not None:
            termios.tcsetattr(self._fd, termios.TCSADRAIN, self._terminal_before)
        os.close(self._wake_read)
        os.close(self._wake_write)

    def interrupt(self) -> None:
        """No more keys: what waits in `read` gets `End.INTERRUPTED` now, and so does every later call."""
        self._end = End.INTERRUPTED
        os.write(self._wake_write, b"!")

    async def read(self, *, whole_numbers: bool = False) -> str | End:
        """The next key.

        Args:
            whole_numbers: On a terminal, take digits together until Enter, where one digit does not say enough.
        """
        number = ""
        while True:
            key = await self._next()
            if isinstance(key, End) or not (self.is_terminal and whole_numbers):
                return key
            if key.isdecimal():
                number += key
                self._echo(key)
            elif key in _ERASE and number:
                number = number[:-1]
                self._echo("\b \b")
            elif key != "\n":
                return key
            elif number:
                self._echo("\n")
                return number

    async def _next(self) -> str | End:
        while True:
            if self._end is End.INTERRUPTED:
                return self._end
            if self._keys:
                return self._keys.popleft()
            if self._end is not None:
                return self._end
            # In a thread, so that a lease's heartbeats go on while somebody thinks.
            data = await asyncio.to_thread(self._wait)
            if data is not None:
                self._take(data)

    def _wait(self) -> bytes | None:
        """What came, b"" at the end of input; None where `interrupt` was called."""
        if self._fd is None:
            return self._stream.readline().encode()
        ready, _, _ = select.select([self._fd, self._wake_read], [], [])
        return None if self._wake_read in ready else os.read(self._fd, _READ_BYTES)

    def _take(self, data: bytes) -> None:
        text = self._decoder.decode(data, final=not data)
        if not data:
            self._end = self._end or End.OF_INPUT
        if self.is_terminal:
            self._take_pressed(text)
            return
        *lines, self._line = (self._line + text).split("\n")
        if not data:
            lines.append(self._line)
        self._keys.extend(line.strip() for line in lines if line.strip())

    def _take_pressed(self, text: str) -> None:
        if text.startswith(_ESCAPE):
            # An arrow or a function key: several characters, none of which somebody meant.
            self._keys.append(_ESCAPE)
            return
        if _END_OF_TRANSMISSION in text:
            text = text.partition(_END_OF_TRANSMISSION)[0]
            self._end = self._end or End.OF_INPUT
        self._keys.extend(text)

    def _echo(self, text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()
