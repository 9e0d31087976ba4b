"""What a run has made. Needs no torch: it travels between processes."""

from __future__ import annotations

from dataclasses import dataclass

from isocost.resources.observation import Evaluation
from isocost.resources.run import StageResult

__all__ = ["RunResult"]


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a run that went to its end has made; output_path is "" for a method without stages."""

    stages: tuple[StageResult, ...]
    evaluations: tuple[Evaluation, ...]
    output_path: str
