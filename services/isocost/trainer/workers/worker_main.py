"""The program of a worker's process: `python -m isocost.trainer.workers.worker_main DESCRIPTOR INDEX`.

The descriptor is its end of a pipe, over which it is first sent the settings, then one run after another.
"""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading
from multiprocessing.connection import Connection

from isocost.resources.run import RunProgress, StageResult
from isocost.trainer.workers.worker import Failure, InProcessWorker
from isocost.trainer.workers.worker_process import Ended, Execute, Report

__all__ = ["main"]

_Tasks = queue.SimpleQueue[tuple[Execute, threading.Event]]


def main(descriptor: int, index: int) -> None:
    """Executes what comes over the pipe; the process ends when the pipe's other end is closed."""
    # Ctrl-C in a terminal goes to every process there; the service tells this one when to stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    connection = Connection(descriptor)
    settings = connection.recv()
    tasks: _Tasks = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(connection, tasks), name="pipe", daemon=True).start()
    worker = InProcessWorker(settings, index)

    def report(progress: RunProgress, stages: tuple[StageResult, ...]) -> None:
        connection.send(Report(progress, stages))

    while True:
        task, cancel = tasks.get()
        try:
            ended = Ended(worker.execute(task.run_id, task.spec, report, cancel.is_set))
        except Exception as error:  # noqa: BLE001 - a run that fails must not take the worker with it
            ended = Ended(failure=Failure.of(error))
        connection.send(ended)


def _listen(connection: Connection, tasks: _Tasks) -> None:
    """Reads while a run goes on, so that it can be cancelled, and so that nothing is left when the service is gone."""
    # One for each run: a late word about the last one must not stop the next.
    cancel = threading.Event()
    while True:
        try:
            message = connection.recv()
        except (EOFError, OSError):
            os._exit(0)
        if isinstance(message, Execute):
            cancel = threading.Event()
            tasks.put((message, cancel))
        else:
            cancel.set()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
