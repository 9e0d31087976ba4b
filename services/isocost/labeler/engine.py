"""What an engine is: prompts of token ids in, the choices' log-probabilities out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from isocost.v1 import labeler_service_pb2 as pb

__all__ = ["ChoiceScores", "Engine", "Runner"]


class Runner(Enum):
    """How a model is asked.

    GENERATE reads a causal language model's next-token distribution; CLASSIFY reads a classification model's logits.
    """

    GENERATE = pb.RUNNER_GENERATE
    CLASSIFY = pb.RUNNER_CLASSIFY

    @classmethod
    def from_proto(cls, value: int) -> Runner:
        """Converts from the wire; unset is GENERATE."""
        return cls.CLASSIFY if value == pb.RUNNER_CLASSIFY else cls.GENERATE


@dataclass(frozen=True, slots=True)
class ChoiceScores:
    """What a model thinks of each choice after one prompt.

    Attributes:
        log_probabilities: Natural logarithms, one for each choice, of its probability among all that the model could
            have answered (the whole vocabulary, or all classes).
    """

    log_probabilities: tuple[float, ...]

    @property
    def choices_mass(self) -> float:
        """Probability of the choices together; 1 for a classification model."""
        return min(1.0, math.fsum(math.exp(value) for value in self.log_probabilities))

    @property
    def probabilities(self) -> tuple[float, ...]:
        """One for each choice, summing to 1.

        Raises:
            ValueError: where a log-probability is not finite.
        """
        if not all(math.isfinite(value) for value in self.log_probabilities):
            raise ValueError(f"log-probabilities {self.log_probabilities} are not all finite")
        largest = max(self.log_probabilities)
        weights = [math.exp(value - largest) for value in self.log_probabilities]
        total = math.fsum(weights)
        return tuple(weight / total for weight in weights)


class Engine(Protocol):
    """A loaded model that scores prompts. Several callers may score at a time."""

    @property
    def fingerprint(self) -> str:
        """Model, engine and versions; stored with every label."""
        ...

    @property
    def max_prompt_tokens(self) -> int:
        """Longest prompt accepted."""
        ...

    @property
    def is_broken(self) -> bool:
        """Whether it has given up; a broken engine is replaced when next asked for."""
        ...

    async def score(self, prompts: Sequence[Sequence[int]], choice_ids: Sequence[int]) -> list[ChoiceScores]:
        """Scores each prompt, in the order given.

        Args:
            prompts: Token ids; none empty.
            choice_ids: GENERATE: token id of each choice. CLASSIFY: 0 up to the number of classes.

        Raises:
            InvalidArgumentError: the engine refuses one of the prompts, whichever.
            UnavailableError: the engine is away and did not come back.
        """
        ...

    async def close(self) -> None:
        """Frees what it holds; its processes are gone on return."""
        ...
