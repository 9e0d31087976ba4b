"""Fine-tuning jobs, each paid for once: found again where one was begun, whoever was killed meanwhile.

A job is the answer to an order, and an order's key is the digest of all that is sent with it. The key stands in the
job's metadata and in the suffix of its model's name, so that the account's list of jobs tells which orders have one,
even where this process was killed before it read the answer to its request. The ids of the files sent are written down
before the request as well, for servers that keep neither.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import structlog

from isocost.core.errors import FailedPreconditionError, IsocostError
from isocost.core.ids import content_digest
from isocost.trainer.fine_tuning.api import FineTuningApi, Job, JobProgress, JobRequest, JobState
from isocost.trainer.fine_tuning.http import ApiHttp, TransientError
from isocost.trainer.fine_tuning.settings import FineTuningSettings
from isocost.trainer.storage import FolderLock, write_file

__all__ = ["FineTuningJobs", "JobOrder"]

_KEY = "isocost_order"
_STAGE = "isocost_stage"
_RECORD = "order.json"
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class JobOrder:
    """What a job is to do.

    Attributes:
        stage_id: For people who read the account's list of jobs; decides nothing.
        model: What to start from.
        training, validation: Content of the files; validation may be empty.
        hyperparameters: As `JobRequest` has them.
        seed: 0 to 2**31 - 1.
    """

    stage_id: str
    model: str
    training: bytes
    validation: bytes
    hyperparameters: Mapping[str, int | float | str]
    seed: int

    @property
    def key(self) -> str:
        """Digest of all that decides the job's result."""
        files = [hashlib.sha256(content).hexdigest() for content in (self.training, self.validation)]
        return content_digest([self.model, files, dict(self.hyperparameters), self.seed])

    @property
    def suffix(self) -> str:
        """Put into the model's name."""
        return f"isocost-{self.key}"


@dataclass(frozen=True, slots=True)
class _Record:
    """What is known of an order's job: files sent for it, and its id; "" before it is known."""

    training_files: tuple[str, ...] = ()
    job_id: str = ""


class FineTuningJobs:
    """Has orders filled.

    Args:
        folder: Of what is known of orders; several processes may share it.
        settings: How often to look.
        http: A session that is open.
        pause: Waits for so many seconds, and raises where the caller is cancelled.
        is_cancelled: Whether it is.
        is_stopping: Whether that is because this process stops: the job goes on then, and is found again.
    """

    def __init__(
        self,
        folder: Path,
        settings: FineTuningSettings,
        http: ApiHttp,
        pause: Callable[[float], Awaitable[None]],
        is_cancelled: Callable[[], bool],
        is_stopping: Callable[[], bool],
    ) -> None:
        self._folder = folder
        self._settings = settings
        self._http = http
        self._api = FineTuningApi(http)
        self._pause = pause
        self._is_cancelled = is_cancelled
        self._is_stopping = is_stopping

    async def fill(self, order: JobOrder, on_progress: Callable[[JobProgress], None]) -> Job:
        """The job of an order, after it has succeeded; it is created where there is none.

        A job that failed or was cancelled counts as none: whoever asks again wants another.

        Raises:
            FailedPreconditionError: the job failed, or was cancelled at the server; says why.
            Exception: what `pause` raises; the job is cancelled then, unless this process is stopping.
        """
        lock = await self._lock(order)
        try:
            job = await self._find(order)
            found = job is not None
            if job is None:
                job = await self._create(order)
            _log.info("fine_tuning_job", job_id=job.job_id, stage_id=order.stage_id, status=job.status, found=found)
            ended = await self._follow(job, on_progress)
        finally:
            lock.release()
        if ended.state is JobState.FAILED:
            raise FailedPreconditionError(
                f"fine-tuning job {ended.job_id} failed: {ended.error or 'the server does not say why'}"
            )
        if ended.state is JobState.CANCELLED:
            raise FailedPreconditionError(
                f"fine-tuning job {ended.job_id} was cancelled at the server; create the run again to begin another"
            )
        if not ended.fine_tuned_model:
            raise FailedPreconditionError(f"fine-tuning job {ended.job_id} succeeded, but names no model")
        return ended

    async def _lock(self, order: JobOrder) -> FolderLock:
        """Two runs that share a stage come to the same order: the second one waits, and then finds the first's job."""
        while True:
            try:
                return FolderLock(self._folder / order.key)
            except FailedPreconditionError:
                await self._pause(self._settings.poll_interval_seconds)

    async def _find(self, order: JobOrder) -> Job | None:
        """The order's job, under way or succeeded."""
        record = self._record(order)
        if record.job_id:
            job = await self._api.find_job(record.job_id)
            if job is not None and _is_alive(job):
                return job
        elif record.training_files:
            # A process was killed when it had asked for the job, or was about to: give the server time to list it.
            await self._pause(self._settings.poll_interval_seconds)
        return await self._search(order, record)

    async def _search(self, order: JobOrder, record: _Record) -> Job | None:
        """Looks for the order's job among all of the account; a succeeded one rather than one under way."""
        under_way: Job | None = None
        async for job in self._api.jobs():
            if not _is_alive(job) or not _is_of(job, order, record):
                continue
            if job.state is JobState.SUCCEEDED:
                self._note(order, replace(record, job_id=job.job_id))
                return job
            under_way = under_way or job
        if under_way is not None:
            self._note(order, replace(record, job_id=under_way.job_id))
        return under_way

    async def _create(self, order: JobOrder) -> Job:
        training_file = await self._api.upload(f"{order.suffix}-training.jsonl", order.training)
        validation_file = ""
        if order.validation:
            validation_file = await self._api.upload(f"{order.suffix}-validation.jsonl", order.validation)
        record = self._record(order)
        record = _Record((*record.training_files, training_file))
        self._note(order, record)
        request = JobRequest(
            model=order.model,
            training_file=training_file,
            validation_file=validation_file,
            hyperparameters=order.hyperparameters,
            seed=order.seed,
            suffix=order.suffix,
            metadata={_KEY: order.key, _STAGE: order.stage_id},
        )
        # The last moment at which nothing is paid yet.
        await self._pause(0)
        for attempt in range(1, self._settings.attempts_max + 1):
            try:
                job = await self._api.create_job(request)
            except TransientError as error:
                # The server may have created it all the same: it is asked again only where it has no such job.
                found = await self._search_after(error, attempt, order, record)
                if found is not None:
                    return found
                if attempt == self._settings.attempts_max:
                    raise self._http.away(error) from None
            else:
                self._note(order, replace(record, job_id=job.job_id))
                return job
        raise AssertionError("at least one attempt is made")

    async def _search_after(self, error: TransientError, attempt: int, order: JobOrder, record: _Record) -> Job | None:
        try:
            await self._http.wait(error, attempt)
            await self._pause(self._settings.poll_interval_seconds)
            return await self._search(order, record)
        except Exception:
            if self._is_cancelled() and not self._is_stopping():
                with contextlib.suppress(Exception):
                    job = await self._search(order, record)
                    if job is not None:
                        await self._cancel(job.job_id)
            raise

    async def _follow(self, job: Job, on_progress: Callable[[JobProgress], None]) -> Job:
        """Looks at a job until it has ended."""
        try:
            while job.state is JobState.UNDER_WAY:
                on_progress(await self._api.job_progress(job.job_id))
                await self._pause(self._settings.poll_interval_seconds)
                seen = await self._api.find_job(job.job_id)
                if seen is None:
                    raise FailedPreconditionError(f"fine-tuning job {job.job_id} is gone from the server")
                job = seen
        except Exception:
            if self._is_cancelled() and not self._is_stopping():
                await self._cancel(job.job_id)
            raise
        on_progress(await self._api.job_progress(job.job_id))
        return job

    async def _cancel(self, job_id: str) -> None:
        cancelled = False
        with contextlib.suppress(IsocostError):
            cancelled = await self._api.cancel_job(job_id)
        _log.info("fine_tuning_job_cancelled", job_id=job_id, accepted=cancelled)

    def _record(self, order: JobOrder) -> _Record:
        path = self._folder / order.key / _RECORD
        if not path.is_file():
            return _Record()
        content = json.loads(path.read_text(encoding="utf-8"))
        return _Record(tuple(content["training_files"]), content["job_id"])

    def _note(self, order: JobOrder, record: _Record) -> None:
        write_file(self._folder / order.key / _RECORD, json.dumps(asdict(record)).encode())


def _is_alive(job: Job) -> bool:
    return job.state in (JobState.UNDER_WAY, JobState.SUCCEEDED)


def _is_of(job: Job, order: JobOrder, record: _Record) -> bool:
    return (
        job.metadata.get(_KEY) == order.key
        or job.suffix == order.suffix
        or order.suffix in job.fine_tuned_model
        or job.training_file in record.training_files
    )
