"""What an engine is: prompts of token ids in, log-probabilities of tokens out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Protocol

from isocost.v1 import labeler_service_pb2 as pb

if TYPE_CHECKING:
    from isocost.labeler.adapter import Adapter
    from isocost.labeler.pace import Pace

__all__ = ["ChoiceScores", "Engine", "EngineStatus", "Runner"]


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


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """How an engine is read and driven now.

    Attributes:
        scoring: `pb.Scoring`; how probabilities are read from its server.
        adapters: Names of the adapters that are loaded.
        prompts_per_request, requests_in_flight: What it is driven with.
        prompt_tokens: Asked of its server since that was started, by the server's metrics; 0 where it has none.
        cached_prompt_tokens: Of these, what came from the prefix cache.
        n_restarts: Times that its own server was started again.
        circuit_open: Whether calls are refused for a while.
    """

    scoring: pb.Scoring.ValueType
    adapters: tuple[str, ...] = ()
    prompts_per_request: int = 0
    requests_in_flight: int = 0
    prompt_tokens: int = 0
    cached_prompt_tokens: int = 0
    n_restarts: int = 0
    circuit_open: bool = False


class Engine(Protocol):
    """A loaded model that scores prompts, by itself or under an adapter. Several callers may score at a time."""

    @property
    def pace(self) -> Pace:
        """How many prompts it takes at a time."""
        ...

    @property
    def fingerprint(self) -> str:
        """Engine, versions and number format; stored with every label, behind the model."""
        ...

    @property
    def max_prompt_tokens(self) -> int:
        """Longest prompt accepted."""
        ...

    @property
    def knows_mass(self) -> bool:
        """Whether the log-probabilities are among the whole vocabulary, not only among the tokens asked for."""
        ...

    @property
    def is_broken(self) -> bool:
        """Whether it has given up; a broken engine is replaced when next asked for."""
        ...

    async def status(self) -> EngineStatus:
        """How it is read and driven now."""
        ...

    async def score(
        self, prompts: Sequence[Sequence[int]], token_ids: Sequence[int], adapter: Adapter | None = None
    ) -> list[tuple[float, ...]]:
        """The log-probability of each token after each prompt, prompts in the order given.

        Args:
            prompts: Token ids; none empty.
            token_ids: GENERATE: different token ids. CLASSIFY: 0 up to the number of classes.
            adapter: On top of the model; None for the model itself.

        Raises:
            InvalidArgumentError: the engine refuses one of the prompts, whichever.
            UnavailableError: the engine is away and did not come back.
        """
        ...

    async def close(self) -> None:
        """Frees what it holds; its processes are gone on return."""
        ...
