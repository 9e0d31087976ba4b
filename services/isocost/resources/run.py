"""Training runs: their specification and their state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from isocost.core.errors import InvalidArgumentError
from isocost.resources.label import check_probabilities, time_from_proto, time_to_proto
from isocost.resources.method import Method
from isocost.resources.observation import Evaluation
from isocost.resources.task import LabelKind, Task
from isocost.v1 import trainer_service_pb2

__all__ = [
    "EvaluationSet",
    "Example",
    "Prediction",
    "Run",
    "RunProgress",
    "RunSpec",
    "RunState",
    "StageResult",
    "SweepNews",
]


class RunState(Enum):
    """Where a run stands."""

    QUEUED = trainer_service_pb2.RUN_STATE_QUEUED
    RUNNING = trainer_service_pb2.RUN_STATE_RUNNING
    SUCCEEDED = trainer_service_pb2.RUN_STATE_SUCCEEDED
    FAILED = trainer_service_pb2.RUN_STATE_FAILED
    CANCELLED = trainer_service_pb2.RUN_STATE_CANCELLED

    @property
    def ended(self) -> bool:
        """Whether the run goes no further by itself."""
        return self in (RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED)


@dataclass(frozen=True, slots=True)
class Example:
    """One labelled example: the item's id and fields, and one probability for each choice."""

    item_id: str
    fields: Mapping[str, str]
    probabilities: tuple[float, ...]

    def __post_init__(self) -> None:
        check_probabilities("examples.probabilities", self.probabilities)

    @property
    def choice(self) -> int:
        """Index of the most probable choice; the first where several tie."""
        return max(range(len(self.probabilities)), key=lambda index: self.probabilities[index])

    @classmethod
    def from_proto(cls, message: trainer_service_pb2.Example) -> Example:
        """Converts from the wire."""
        return cls(message.item_id, dict(message.fields), tuple(message.probabilities))

    def to_proto(self) -> trainer_service_pb2.Example:
        """Converts to the wire."""
        return trainer_service_pb2.Example(item_id=self.item_id, fields=self.fields, probabilities=self.probabilities)


@dataclass(frozen=True, slots=True)
class EvaluationSet:
    """Examples a trained model is measured on: a name and a digest from PutExamples."""

    name: str
    digest: str


@dataclass(frozen=True, slots=True)
class RunSpec:
    """Everything that decides a run's result.

    Attributes:
        task: The question.
        method: How the model is trained.
        base_model: Folder or hub name.
        weak_digest, n_weak: The first n_weak examples of that list are the weak labels.
        human_digest, n_human: The same for the human labels.
        seed: Of initialisation, shuffling and held-out split; not negative.
        evaluation_sets: What the trained model is measured on.
        discard_output: Whether only the evaluations are wanted and no trained weights; not part of the run's identity.

    Raises:
        InvalidArgumentError: names the field that is wrong.
    """

    task: Task
    method: Method
    base_model: str
    weak_digest: str = ""
    n_weak: int = 0
    human_digest: str = ""
    n_human: int = 0
    seed: int = 0
    evaluation_sets: tuple[EvaluationSet, ...] = ()
    discard_output: bool = False

    def __post_init__(self) -> None:
        if not self.base_model:
            raise InvalidArgumentError("spec.base_model", "empty; name a folder or a hub model")
        if self.seed < 0:
            raise InvalidArgumentError("spec.seed", "negative")
        for name, count, digest in (
            ("weak", self.n_weak, self.weak_digest),
            ("human", self.n_human, self.human_digest),
        ):
            if count < 0:
                raise InvalidArgumentError(f"spec.n_{name}", "negative")
            if count and not digest:
                raise InvalidArgumentError(f"spec.{name}_digest", f"empty, but n_{name} is {count}")
        if self.method.stages and not any(
            self.n_labels(kind) for stage in self.method.stages for kind in stage.label_kinds
        ):
            raise InvalidArgumentError("spec.n_human", "every stage of the method has 0 labels; give at least one some")

    def n_labels(self, kind: LabelKind) -> int:
        """Labels of a kind that the run trains on."""
        return self.n_weak if kind is LabelKind.WEAK else self.n_human

    def digest(self, kind: LabelKind) -> str:
        """Digest of the list the labels of a kind come from."""
        return self.weak_digest if kind is LabelKind.WEAK else self.human_digest

    @classmethod
    def from_proto(cls, message: trainer_service_pb2.RunSpec) -> RunSpec:
        """Converts from the wire."""
        return cls(
            task=Task.from_proto(message.task),
            method=Method.from_proto(message.method),
            base_model=message.base_model,
            weak_digest=message.weak_digest,
            n_weak=message.n_weak,
            human_digest=message.human_digest,
            n_human=message.n_human,
            seed=message.seed,
            evaluation_sets=tuple(EvaluationSet(part.name, part.digest) for part in message.evaluation_sets),
            discard_output=message.discard_output,
        )

    def to_proto(self) -> trainer_service_pb2.RunSpec:
        """Converts to the wire."""
        return trainer_service_pb2.RunSpec(
            task=self.task.to_proto(),
            method=self.method.to_proto(),
            base_model=self.base_model,
            weak_digest=self.weak_digest,
            n_weak=self.n_weak,
            human_digest=self.human_digest,
            n_human=self.n_human,
            seed=self.seed,
            evaluation_sets=[
                trainer_service_pb2.EvaluationSet(name=part.name, digest=part.digest) for part in self.evaluation_sets
            ],
            discard_output=self.discard_output,
        )


@dataclass(frozen=True, slots=True)
class RunProgress:
    """How far a run is: stage from 0, steps done, steps at most, latest loss in nats, best held-out AUROC so far,
    seconds until the stage ends if nothing stops it early (0 where not known)."""

    stage_index: int = 0
    step: int = 0
    max_steps: int = 0
    loss: float = 0.0
    best_auroc: float = 0.0
    eta_seconds: float = 0.0

    @classmethod
    def from_proto(cls, message: trainer_service_pb2.RunProgress) -> RunProgress:
        """Converts from the wire."""
        return cls(
            message.stage_index,
            message.step,
            message.max_steps,
            message.loss,
            message.best_auroc,
            message.eta_seconds,
        )

    def to_proto(self) -> trainer_service_pb2.RunProgress:
        """Converts to the wire."""
        return trainer_service_pb2.RunProgress(
            stage_index=self.stage_index,
            step=self.step,
            max_steps=self.max_steps,
            loss=self.loss,
            best_auroc=self.best_auroc,
            eta_seconds=self.eta_seconds,
        )


@dataclass(frozen=True, slots=True)
class StageResult:
    """What one stage did; seconds is 0 and reused is True where its result was there already.

    n_examples and n_tokens (of their prompts, without padding) count what it was trained on with repetition.
    """

    label_kind: LabelKind
    n_labels: int
    n_holdout: int
    n_steps: int
    best_step: int
    best_auroc: float
    seconds: float
    reused: bool
    stage_id: str
    n_examples: int = 0
    n_tokens: int = 0

    @classmethod
    def from_proto(cls, message: trainer_service_pb2.StageResult) -> StageResult:
        """Converts from the wire."""
        return cls(
            label_kind=LabelKind(message.label_kind),
            n_labels=message.n_labels,
            n_holdout=message.n_holdout,
            n_steps=message.n_steps,
            best_step=message.best_step,
            best_auroc=message.best_auroc,
            seconds=message.seconds,
            reused=message.reused,
            stage_id=message.stage_id,
            n_examples=message.n_examples,
            n_tokens=message.n_tokens,
        )

    def to_proto(self) -> trainer_service_pb2.StageResult:
        """Converts to the wire."""
        return trainer_service_pb2.StageResult(
            label_kind=self.label_kind.value,
            n_labels=self.n_labels,
            n_holdout=self.n_holdout,
            n_steps=self.n_steps,
            best_step=self.best_step,
            best_auroc=self.best_auroc,
            seconds=self.seconds,
            reused=self.reused,
            stage_id=self.stage_id,
            n_examples=self.n_examples,
            n_tokens=self.n_tokens,
        )


@dataclass(frozen=True, slots=True)
class Run:
    """One training run; output_path is the folder of the adapter (LoRA), head (HEAD_ONLY) or model (FULL)."""

    run_id: str
    spec: RunSpec
    state: RunState
    progress: RunProgress = RunProgress()
    stages: tuple[StageResult, ...] = ()
    evaluations: tuple[Evaluation, ...] = ()
    output_path: str = ""
    error: str = ""
    end_time: datetime | None = None

    def evaluation(self, name: str) -> Evaluation | None:
        """The evaluation of that name, or None."""
        return next((evaluation for evaluation in self.evaluations if evaluation.name == name), None)

    @classmethod
    def from_proto(cls, message: trainer_service_pb2.Run) -> Run:
        """Converts from the wire."""
        return cls(
            run_id=message.run_id,
            spec=RunSpec.from_proto(message.spec),
            state=RunState(message.state),
            progress=RunProgress.from_proto(message.progress),
            stages=tuple(StageResult.from_proto(stage) for stage in message.stages),
            evaluations=tuple(Evaluation.from_proto(evaluation) for evaluation in message.evaluations),
            output_path=message.output_path,
            error=message.error,
            end_time=time_from_proto(message.end_time),
        )

    def to_proto(self) -> trainer_service_pb2.Run:
        """Converts to the wire."""
        return trainer_service_pb2.Run(
            run_id=self.run_id,
            spec=self.spec.to_proto(),
            state=self.state.value,
            progress=self.progress.to_proto(),
            stages=[stage.to_proto() for stage in self.stages],
            evaluations=[evaluation.to_proto() for evaluation in self.evaluations],
            output_path=self.output_path,
            error=self.error,
            end_time=time_to_proto(self.end_time),
        )


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a trained model predicts for one item: one probability for each choice; choice is the label's, from 0."""

    item_id: str
    probabilities: tuple[float, ...]
    choice: int

    @classmethod
    def from_proto(cls, message: trainer_service_pb2.Prediction) -> Prediction:
        """Converts from the wire."""
        return cls(message.item_id, tuple(message.probabilities), message.choice)

    def to_proto(self) -> trainer_service_pb2.Prediction:
        """Converts to the wire."""
        return trainer_service_pb2.Prediction(
            item_id=self.item_id, probabilities=self.probabilities, choice=self.choice
        )


@dataclass(frozen=True, slots=True)
class SweepNews:
    """News of many runs: one that ended, or None where only the counts are new.

    n_failed counts cancelled runs as well; eta_seconds is the time until all have ended by the pace so far, 0 where not
    known.
    """

    run: Run | None
    n_runs: int
    n_succeeded: int
    n_failed: int
    eta_seconds: float = 0.0

    @classmethod
    def from_proto(cls, message: trainer_service_pb2.SweepResponse) -> SweepNews:
        """Converts from the wire."""
        return cls(
            Run.from_proto(message.run) if message.HasField("run") else None,
            message.n_runs,
            message.n_succeeded,
            message.n_failed,
            message.eta_seconds,
        )

    def to_proto(self) -> trainer_service_pb2.SweepResponse:
        """Converts to the wire."""
        return trainer_service_pb2.SweepResponse(
            run=self.run.to_proto() if self.run else None,
            n_runs=self.n_runs,
            n_succeeded=self.n_succeeded,
            n_failed=self.n_failed,
            eta_seconds=self.eta_seconds,
        )
