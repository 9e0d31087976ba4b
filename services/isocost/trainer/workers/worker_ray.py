"""Workers on a Ray cluster: actors that execute runs from the state folder, which all nodes share.

Ray itself is imported only where the settings ask for it: it is an extra.
"""

from __future__ import annotations

import math
import os
import socket
import threading
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import structlog

from isocost.core.errors import FailedPreconditionError
from isocost.core.ids import new_id
from isocost.core.ray_cluster import connect, first_line
from isocost.resources.run import RunProgress, RunSpec, StageResult
from isocost.trainer.run_result import RunResult
from isocost.trainer.settings import TrainerSettings
from isocost.trainer.storage import write_file
from isocost.trainer.workers.worker import Failure, InProcessWorker, OnProgress, Worker, WorkerLostError
from isocost.trainer.workers.worker_process import Ended, Report

__all__ = ["RayPool", "RayWorker", "TrainActor"]

#: How long an actor waits for news before it says that there are none: how soon a run is cancelled.
_NEWS_SECONDS = 0.25
#: After so long without a place for a worker the log says what it waits for.
_PLACE_SECONDS = 30.0
#: In the state folder: what a node must find there to show that it sees the same folder.
_MARKER = ".shared"
#: Settings of closed models, which are part of a run's identity. Their key is not: Ray shows what it passes on.
_FINE_TUNING = "ISOCOST_FINE_TUNING_"
_FINE_TUNING_KEY = f"{_FINE_TUNING}API_KEY"
_log = structlog.get_logger(__name__)


class TrainActor:
    """One worker on a node: a thread executes the run while calls ask how far it is.

    Args:
        settings: Of the service, with an absolute state_dir.
        marker: Content of the marker file in the state folder.
    """

    def __init__(self, settings: TrainerSettings, marker: str) -> None:
        self._settings = settings
        self._marker = marker
        self._worker = InProcessWorker(settings)
        self._changed = threading.Condition()
        self._news: Report | Ended | None = None
        self._cancel = threading.Event()
        # One thread for all runs: torch keeps settings by thread.
        self._tasks: list[tuple[str, RunSpec]] = []
        threading.Thread(target=self._work, name="trainer", daemon=True).start()

    def start(self, run_id: str, spec: RunSpec) -> None:
        """Begins a run; the last one has ended."""
        with self._changed:
            self._cancel.clear()
            self._news = None
            self._tasks.append((run_id, spec))
            self._changed.notify_all()

    def cancel(self) -> None:
        """Stops the run between two steps."""
        self._cancel.set()

    def news(self, wait_seconds: float) -> Report | Ended | None:
        """The latest news since the last call, the end above all; None where there are none for so long."""
        with self._changed:
            self._changed.wait_for(lambda: self._news is not None, wait_seconds)
            news, self._news = self._news, None
            return news

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._tasks)
                run_id, spec = self._tasks.pop()
            try:
                self._check_folder()
                ended = Ended(self._worker.execute(run_id, spec, self._report, self._cancel.is_set))
            except Exception as error:  # noqa: BLE001 - a run that fails must not take the worker with it
                ended = Ended(failure=Failure.of(error))
            self._tell(ended)

    def _report(self, progress: RunProgress, stages: tuple[StageResult, ...]) -> None:
        self._tell(Report(progress, stages))

    def _tell(self, news: Report | Ended) -> None:
        with self._changed:
            self._news = news
            self._changed.notify_all()

    def _check_folder(self) -> None:
        """Raises where the node has another folder at the state folder's path, or none."""
        state_dir = self._settings.state_dir
        try:
            marker = (state_dir / _MARKER).read_text()
        except OSError:
            marker = ""
        if marker != self._marker:
            raise FailedPreconditionError(
                f"node {socket.gethostname()} does not see the trainer's folder {str(state_dir)!r}; "
                "put it on a file system that all nodes share, at the same path",
                field="state_dir",
            )


class RayPool:
    """A connection to a cluster, shared by the workers of a service.

    Raises:
        FailedPreconditionError: Ray is not installed.
        UnavailableError: nobody answers at the address.
    """

    def __init__(self, settings: TrainerSettings) -> None:
        if find_spec("ray") is None:
            raise FailedPreconditionError(
                "ray, but Ray is not installed; run pip install 'isocost[ray]', or set it to local", field="executor"
            )
        state_dir = settings.state_dir.absolute()
        self._settings = settings.model_copy(update={"state_dir": state_dir, "n_threads": settings.worker_threads})
        self._marker = _write_marker(state_dir)
        self._is_ours = connect(
            settings.ray_address, n_cpus=settings.n_workers * settings.cpus_per_run, field="ray_address"
        )

    def open(self, index: int) -> Worker:
        """A worker on the cluster."""
        return RayWorker(self._settings, self._marker, index)

    def close(self) -> None:
        """Leaves the cluster; ends it where it was started here."""
        import ray  # noqa: PLC0415 - an extra

        if self._is_ours:
            ray.shutdown()


class RayWorker:
    """Executes runs in an actor, which is made with the first of them, and again after it died."""

    def __init__(self, settings: TrainerSettings, marker: str, index: int) -> None:
        self._settings = settings
        self._marker = marker
        self._index = index
        self._actor: Any = None

    def execute(
        self, run_id: str, spec: RunSpec, on_progress: OnProgress, is_cancelled: Callable[[], bool]
    ) -> RunResult | None:
        """Executes a run."""
        import ray  # noqa: PLC0415 - an extra

        try:
            ended = self._execute(run_id, spec, on_progress, is_cancelled)
        except ray.exceptions.RayError as error:
            self.close()
            raise WorkerLostError(f"on Ray died: {first_line(error)}") from None
        if ended.failure is not None:
            raise ended.failure.error()
        return ended.outcome

    def _execute(self, run_id: str, spec: RunSpec, on_progress: OnProgress, is_cancelled: Callable[[], bool]) -> Ended:
        import ray  # noqa: PLC0415 - an extra

        if self._actor is None:
            self._actor = self._make()
        actor = self._actor
        if not self._wait_for_place(actor.start.remote(run_id, spec), is_cancelled):
            self.close()
            return Ended()
        is_told = False
        while True:
            if not is_told and is_cancelled():
                ray.get(actor.cancel.remote())
                is_told = True
            news = ray.get(actor.news.remote(_NEWS_SECONDS))
            if isinstance(news, Ended):
                return news
            if news is not None:
                on_progress(news.progress, news.stages)

    def close(self) -> None:
        """Ends the actor."""
        import ray  # noqa: PLC0415 - an extra

        if self._actor is not None:
            ray.kill(self._actor)
            self._actor = None

    def _make(self) -> Any:
        import ray  # noqa: PLC0415 - an extra

        settings = self._settings
        # A run that was lost is queued again by the service, so Ray repeats nothing.
        actor = ray.remote(TrainActor).options(
            num_cpus=settings.cpus_per_run,
            num_gpus=settings.gpus_per_run,
            max_restarts=0,
            max_task_retries=0,
            runtime_env={"env_vars": {"OMP_NUM_THREADS": str(settings.n_threads)} | _fine_tuning_environment()},
        )
        return actor.remote(settings, self._marker)

    def _wait_for_place(self, started: Any, is_cancelled: Callable[[], bool]) -> bool:
        """Waits until the actor has its place on a node and has begun; False where the run was cancelled meanwhile."""
        import ray  # noqa: PLC0415 - an extra

        warn_time = time.monotonic() + _PLACE_SECONDS
        while True:
            done, _ = ray.wait([started], timeout=_NEWS_SECONDS)
            if done:
                ray.get(started)
                return True
            if is_cancelled():
                return False
            if time.monotonic() > warn_time:
                warn_time = math.inf
                _log.warning(
                    "worker_waits_for_a_place",
                    index=self._index,
                    cpus=self._settings.cpus_per_run,
                    gpus=self._settings.gpus_per_run,
                )


def _fine_tuning_environment() -> dict[str, str]:
    return {
        name: value
        for name, value in os.environ.items()
        if name.startswith(_FINE_TUNING) and name.upper() != _FINE_TUNING_KEY
    }


def _write_marker(state_dir: Path) -> str:
    marker = new_id("folder")
    write_file(state_dir / _MARKER, marker.encode())
    return marker
