"""A bulk job on many machines, with Ray Data: a file of rows in, a folder of Parquet parts out.

Ray itself is imported only when a job runs: it is an extra.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isocost.bulk.job import Watch
from isocost.bulk.labeler_link import LabelerPlace
from isocost.bulk.parts import PartsFolder
from isocost.bulk.price import Purse
from isocost.bulk.question import Question
from isocost.bulk.rows import RowFile
from isocost.bulk.tally import Tally
from isocost.core.errors import FailedPreconditionError, InvalidArgumentError
from isocost.core.money import Money
from isocost.core.ray_cluster import LOCAL, connect
from isocost.resources.task import Source

if TYPE_CHECKING:
    from isocost.bulk.ray_worker import WorkerTask

__all__ = ["RayJob", "RayPlace", "run_ray_job"]

#: Ranges of the input that are read apart, for each worker: a slow one holds up only its own.
_RANGES_PER_WORKER = 4
#: Settings of the labeler are those of this process, on every machine.
_LABELER_ENVIRONMENT = "ISOCOST_LABELER_"


@dataclass(frozen=True, slots=True)
class RayPlace:
    """The cluster, and what is taken of it.

    Attributes:
        address: Of a running cluster, or `auto`, or `local` for one on this machine that ends with the job.
        n_workers: Labelers.
        cpus: CPU cores of each.
        gpus: GPUs of each.
        part_rows: Rows of one batch, which is one part of the output.
    """

    address: str = LOCAL
    n_workers: int = 2
    cpus: float = 1.0
    gpus: float = 0.0
    part_rows: int = 5000


@dataclass(frozen=True, slots=True)
class RayJob:
    """What to do.

    Attributes:
        question: What is asked, and whom.
        rows: The input, at a path that every machine has.
        output: Folder of the parts, likewise.
        place: Where the labeler is; without an address, one in each worker.
        ray: The cluster.
        price: Of a label; None where labels have none.
        budget: The most that all labels may cost; None for no bound.
    """

    question: Question
    rows: RowFile
    output: Path
    place: LabelerPlace
    ray: RayPlace
    price: Source | None = None
    budget: Money | None = None


def run_ray_job(job: RayJob, watch: Watch) -> Tally:
    """Labels every row that the output folder has no label for.

    A batch is done when its part is in the folder: a worker that dies is replaced and its batch made again, and after a
    kill the same job goes on with the rest. Rows with errors are tried again.

    Returns:
        What is in the folder at the end.

    Raises:
        FailedPreconditionError: Ray is not installed.
        UnavailableError: the cluster cannot be reached.
        InvalidArgumentError: names the option that is wrong.
        IsocostError: what a worker met; the parts made are kept.
    """
    if find_spec("ray") is None:
        raise FailedPreconditionError("Ray is not installed; install isocost[ray], or leave it out", field="--ray")
    if job.budget is not None and job.price is not None and job.price.price_per_million_tokens is not None:
        raise InvalidArgumentError(
            "--budget", "with --ray it needs a fixed price, as machines spend on their own; give --unit-price"
        )
    n_rows = job.rows.count()
    Purse(job.price, job.budget, 0).check(n_rows)
    folder = PartsFolder(job.output.absolute(), n_rows)
    folder.open(job.question, job.rows)
    answered = folder.answered()
    tally = Tally(n_rows, currency=None if job.price is None else job.price.unit_price.currency_code)
    tally.n_labels = tally.n_stored = int(answered.sum())
    if tally.n_labels < n_rows:
        with _cluster(job.ray):
            for counts in _answers(job, answered):
                tally.merge(counts)
                watch(tally)
    made = folder.tally(job.price)
    made.n_stored = tally.n_stored
    made.new_cost_micros = tally.new_cost_micros
    return made


@contextlib.contextmanager
def _cluster(place: RayPlace) -> Iterator[None]:
    """A connection to the cluster, which may have been there before and then stays.

    Raises:
        UnavailableError: nobody answers at the address.
    """
    is_ours = connect(place.address, n_cpus=place.n_workers * place.cpus, field="--ray")
    try:
        yield
    finally:
        if is_ours:
            import ray  # noqa: PLC0415 - an extra, slow to import

            ray.shutdown()


def _answers(job: RayJob, answered: Any) -> Iterator[Tally]:
    """Runs the workers; yields the counts of each batch when its part is there."""
    import ray.data  # noqa: PLC0415 - an extra, slow to import

    from isocost.bulk.ray_input import RowSource  # noqa: PLC0415 - imports Ray
    from isocost.bulk.ray_worker import LabelWorker, raise_failure  # noqa: PLC0415

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    place = job.ray
    source = RowSource(job.rows, answered, place.n_workers * _RANGES_PER_WORKER, place.part_rows)
    # Reading takes no core of its own: where the workers take all of them, it would never begin. Without a number of
    # blocks Ray would cut those of a small input further, and parts would be smaller than they need be.
    rows = ray.data.read_datasource(source, num_cpus=0, concurrency=place.n_workers, override_num_blocks=source.n_tasks)
    environment = {name: value for name, value in os.environ.items() if name.startswith(_LABELER_ENVIRONMENT)}
    counts = rows.map_batches(
        LabelWorker,
        fn_constructor_args=(_worker_task(job),),
        batch_format="pyarrow",
        batch_size=place.part_rows,
        compute=ray.data.ActorPoolStrategy(size=place.n_workers),
        num_cpus=place.cpus,
        num_gpus=place.gpus,
        runtime_env={"env_vars": environment},
    )
    for line in counts.iter_rows():
        if line["failure"] is not None:
            raise_failure(line["failure"])
        values = line["tally"]
        yield Tally(**values | {"errors": Counter(values["errors"])})


def _worker_task(job: RayJob) -> WorkerTask:
    """What the workers are told; paths are absolute, as they work elsewhere."""
    from isocost.bulk.ray_worker import WorkerTask  # noqa: PLC0415 - imports Ray

    question, place = job.question, job.place
    model = Path(question.model).expanduser()
    if model.is_dir():
        question = dataclasses.replace(question, model=str(model.resolve()))
    if place.state_dir is not None:
        place = dataclasses.replace(place, state_dir=place.state_dir.absolute())
    return WorkerTask(question, place, job.output.absolute(), job.rows.id_column, job.price)
