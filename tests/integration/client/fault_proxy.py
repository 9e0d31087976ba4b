"""A TCP proxy that breaks connections in the ways in which networks break them, by a schedule or by a seed."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from itertools import chain, repeat
from typing import Self

__all__ = ["NO_FAULT", "Fault", "FaultKind", "FaultProxy", "random_faults"]

_CHUNK_BYTES = 4_096


class FaultKind(Enum):
    """What happens to a connection."""

    NONE = "none"
    """Nothing but the delay."""
    DROP = "drop"
    """Nothing goes either way any more, and nobody is told: a cable is pulled."""
    RESET = "reset"
    """Both ends get a TCP reset: a process is killed, a firewall forgets."""
    HALF_CLOSE = "half-close"
    """One direction ends as if its sender had finished; the other goes on."""
    REFUSE = "refuse"
    """The connection is closed before a byte has passed."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One connection's fate.

    Attributes:
        kind: What happens.
        after_bytes: When: after so many bytes in its direction.
        to_server: The direction that is counted, and that a half-close ends: to the server, or to the client.
        delay_seconds: How long every chunk waits, whatever else happens.
    """

    kind: FaultKind
    after_bytes: int = 0
    to_server: bool = True
    delay_seconds: float = 0.0


NO_FAULT = Fault(FaultKind.NONE)


def random_faults(seed: int, *, bytes_max: int = 20_000) -> Iterator[Fault]:
    """Faults for ever: every connection breaks, after a few bytes as often as after many, and every other is slow."""
    generator = random.Random(seed)
    kinds = (FaultKind.DROP, FaultKind.RESET, FaultKind.HALF_CLOSE, FaultKind.REFUSE)
    while True:
        # The exponent is uniform: the handshake, the first call and a long stream are all broken into.
        after_bytes = int(100 * (bytes_max / 100) ** generator.random())
        delay_seconds = generator.choice((0.0, 0.01 * generator.random()))
        yield Fault(generator.choice(kinds), after_bytes, generator.random() < 0.5, delay_seconds)


async def _turns() -> None:
    """Lets the event loop do what is due."""
    for _ in range(10):
        await asyncio.sleep(0)


class FaultProxy:
    """Listens on loopback and passes each connection on with the next fault of a schedule; none after its end.

    Usage::

        async with FaultProxy(server_address, random_faults(seed=1)) as proxy:
            BudgetClient(proxy.address)
    """

    def __init__(self, target: str, faults: Iterable[Fault]) -> None:
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self._faults = chain(faults, repeat(NO_FAULT))
        self._server: asyncio.Server | None = None
        self._connections: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._closing = False
        self.address = ""
        #: Faults that took effect.
        self.n_faults: Counter[FaultKind] = Counter()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._closing = True
        # A server that closes while it accepts leaks the connection; the clients are gone, so no other comes.
        await _turns()
        self._server.close()
        connections = dict(self._connections)
        for task, writer in connections.items():
            task.cancel()
            # The task may not have begun, and then closes nothing.
            writer.transport.abort()
        await asyncio.gather(*connections, return_exceptions=True)
        # Transports close their sockets afterwards.
        await _turns()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._closing:
            writer.transport.abort()
            return
        task = asyncio.create_task(self._serve(next(self._faults), reader, writer))
        self._connections[task] = writer
        task.add_done_callback(self._connections.pop)

    async def _serve(self, fault: Fault, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._pass(fault, reader, writer)
        except OSError:
            # An end has gone away: nothing is left to pass on.
            pass
        finally:
            writer.transport.abort()

    async def _pass(self, fault: Fault, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if fault.kind is FaultKind.REFUSE:
            self.n_faults[fault.kind] += 1
            return
        up_reader, up_writer = await asyncio.open_connection(*self._target)
        connection = _Connection(fault, self.n_faults, (writer, up_writer))
        ways = [
            asyncio.create_task(connection.pump(reader, up_writer, to_server=True)),
            asyncio.create_task(connection.pump(up_reader, writer, to_server=False)),
        ]
        try:
            await asyncio.gather(*ways)
        finally:
            for way in ways:
                way.cancel()
            up_writer.transport.abort()


class _Connection:
    def __init__(
        self, fault: Fault, n_faults: Counter[FaultKind], writers: tuple[asyncio.StreamWriter, asyncio.StreamWriter]
    ) -> None:
        self._fault = fault
        self._n_faults = n_faults
        self._writers = writers
        self._dropped = False
        self._left_bytes = fault.after_bytes

    async def pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, to_server: bool) -> None:
        """Passes one direction on until it ends or breaks."""
        fault = self._fault
        counted = to_server is fault.to_server and fault.kind is not FaultKind.NONE
        while chunk := await reader.read(_CHUNK_BYTES):
            if fault.delay_seconds:
                await asyncio.sleep(fault.delay_seconds)
            if self._dropped:
                continue
            if counted and len(chunk) >= self._left_bytes:
                writer.write(chunk[: self._left_bytes])
                with contextlib.suppress(OSError):
                    await writer.drain()
                self._n_faults[fault.kind] += 1
                if not await self._break(writer):
                    return
                counted = False
                continue
            self._left_bytes -= len(chunk) if counted else 0
            writer.write(chunk)
            await writer.drain()
        if not self._dropped and writer.can_write_eof():
            writer.write_eof()

    async def _break(self, writer: asyncio.StreamWriter) -> bool:
        """Lets the fault happen; returns whether this direction is still read."""
        if self._fault.kind is FaultKind.DROP:
            self._dropped = True
            return True
        if self._fault.kind is FaultKind.HALF_CLOSE:
            writer.write_eof()
            return False
        for each in self._writers:
            # With no time to linger, closing sends a reset.
            raw = each.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            each.transport.abort()
        return False
