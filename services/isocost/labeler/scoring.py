"""The ways to read the choices' log-probabilities from a vLLM server.

A server that does not know a parameter ignores it without a word, so what it can do is found out by a probe, and every
answer is checked to be complete.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import Enum
from typing import Any

from isocost.core.errors import FailedPreconditionError
from isocost.labeler.vllm_http import RefusedError, TransientError, VllmHttp
from isocost.v1 import labeler_service_pb2 as pb

__all__ = ["Scoring", "find_scoring", "read_scores"]

#: Tokens that the probe asks for: more than the sampled one and a few likely ones that come along unasked.
_PROBED_TOKENS = 6
_PROBE = ((0, 0),)
#: Tolerance to a sum of probabilities that should be 1: what float32 loses.
_SUM_TOLERANCE = 1e-4
_NEEDED = (
    "it must answer logprob_token_ids (vLLM 0.32 or newer) or /generative_scoring, or be started with "
    "--logprobs-mode processed_logprobs"
)


class Scoring(Enum):
    """How probabilities are read."""

    LOGPROB_TOKEN_IDS = pb.SCORING_LOGPROB_TOKEN_IDS
    """The server tells the log-probabilities of the tokens that it is asked for."""
    GENERATIVE = pb.SCORING_GENERATIVE
    """`/generative_scoring`, which tells the first token's probability: one request for each token."""
    ALLOWED_TOKEN_IDS = pb.SCORING_ALLOWED_TOKEN_IDS
    """The sampler may choose among the asked tokens only: what is told is normalised over them."""
    CLASSIFY = pb.SCORING_CLASSIFY
    """A classification model's logits."""

    @property
    def knows_mass(self) -> bool:
        """Whether probabilities are among all that the model could have answered."""
        return self is not Scoring.ALLOWED_TOKEN_IDS


async def find_scoring(http: VllmHttp, model: str, n_vocabulary: int) -> Scoring:
    """Probes a generating server for the first way that it knows.

    Args:
        http: The server.
        model: The name under which it serves the model.
        n_vocabulary: Tokens of the model's vocabulary.

    Raises:
        FailedPreconditionError: it knows none.
        TransientError: it does not answer.
        RefusedError: it refuses the key.
    """
    token_ids = tuple(range(min(_PROBED_TOKENS, n_vocabulary)))
    reasons = []
    for scoring in (Scoring.LOGPROB_TOKEN_IDS, Scoring.GENERATIVE, Scoring.ALLOWED_TOKEN_IDS):
        try:
            (scores,) = await read_scores(http, scoring, model, _PROBE, token_ids)
        except RefusedError as error:
            if error.status in (401, 403):
                raise
            reasons.append(f"{scoring.name.lower()}: {error.message or error.status}")
            continue
        except FailedPreconditionError:
            reasons.append(f"{scoring.name.lower()}: ignored")
            continue
        # Only processed log-probabilities are normalised over the allowed tokens.
        total = math.fsum(math.exp(score) for score in scores)
        if scoring.knows_mass or abs(total - 1) <= _SUM_TOLERANCE:
            return scoring
        reasons.append(f"{scoring.name.lower()}: its log-probabilities are not processed ones")
    raise FailedPreconditionError(
        f"the server at {http.url} tells no probabilities of given tokens: {_NEEDED} ({'; '.join(reasons)})",
        field="vllm_url",
    )


async def read_scores(
    http: VllmHttp, scoring: Scoring, model: str, prompts: Sequence[Sequence[int]], token_ids: Sequence[int]
) -> list[tuple[float, ...]]:
    """The log-probability of each token after each prompt, in the order given; CLASSIFY: of each class.

    Raises:
        FailedPreconditionError: the server does not answer for every token.
        TransientError, RefusedError: as `VllmHttp.post`.
    """
    match scoring:
        case Scoring.CLASSIFY:
            body = {"model": model, "input": prompts, "use_activation": False}
            answer = await http.post("/classify", body)
            return [_log_softmax(entry["probs"]) for entry in _in_order(answer.get("data"), len(prompts))]
        case Scoring.LOGPROB_TOKEN_IDS:
            asked = {"logprobs": 1, "logprob_token_ids": token_ids}
            return await _complete(http, model, prompts, token_ids, asked)
        case Scoring.ALLOWED_TOKEN_IDS:
            asked = {"logprobs": len(token_ids), "allowed_token_ids": token_ids}
            return await _complete(http, model, prompts, token_ids, asked)
        case Scoring.GENERATIVE:
            return await _generative(http, model, prompts, token_ids)


async def _complete(
    http: VllmHttp, model: str, prompts: Sequence[Sequence[int]], token_ids: Sequence[int], asked: dict[str, Any]
) -> list[tuple[float, ...]]:
    body = {
        "model": model,
        "prompt": prompts,
        "max_tokens": 1,
        "temperature": 0,
        "return_tokens_as_token_ids": True,
        "add_special_tokens": False,
        **asked,
    }
    answer = await http.post("/v1/completions", body)
    keys = [f"token_id:{token_id}" for token_id in token_ids]
    scores = []
    for entry in _in_order(answer.get("choices"), len(prompts)):
        by_token: dict[str, float] = ((entry.get("logprobs") or {}).get("top_logprobs") or [{}])[0]
        if not by_token:
            # So answers a server that is shutting down: with success, and nothing.
            raise TransientError("an answer without log-probabilities")
        try:
            scores.append(tuple(by_token[key] for key in keys))
        except KeyError:
            raise FailedPreconditionError(
                f"the vLLM server at {http.url} ignores {[*asked][-1]} and does not answer for every choice; {_NEEDED}",
                field="vllm_url",
            ) from None
    return scores


async def _generative(
    http: VllmHttp, model: str, prompts: Sequence[Sequence[int]], token_ids: Sequence[int]
) -> list[tuple[float, ...]]:
    # The first token goes as the query where all share it, as they do where it begins a sequence.
    first = {prompt[0] for prompt in prompts}
    n_query = 1 if len(first) == 1 and all(len(prompt) > 1 for prompt in prompts) else 0
    columns: list[list[float]] = []
    for token_id in token_ids:
        body = {
            "model": model,
            "query": list(prompts[0][:n_query]),
            "items": [list(prompt[n_query:]) for prompt in prompts],
            "label_token_ids": [token_id],
            "apply_softmax": False,
            "add_special_tokens": False,
        }
        answer = await http.post("/generative_scoring", body)
        scores = [float(entry["score"]) for entry in _in_order(answer.get("data"), len(prompts))]
        if all(score == 1.0 for score in scores):
            raise FailedPreconditionError(
                f"the server at {http.url} normalises over the asked tokens although apply_softmax is false",
                field="vllm_url",
            )
        columns.append([math.log(score) if score > 0 else -9999.0 for score in scores])
    return list(zip(*columns, strict=True))


def _in_order(entries: Any, n_prompts: int) -> list[dict[str, Any]]:
    """The entries of an answer by their prompts' positions."""
    found = entries if isinstance(entries, list) else []
    if sorted(entry.get("index", -1) for entry in found) != list(range(n_prompts)):
        raise TransientError(f"{len(found)} answers to {n_prompts} prompts")
    return sorted(found, key=lambda entry: int(entry["index"]))


def _log_softmax(logits: list[float]) -> tuple[float, ...]:
    largest = max(logits)
    log_total = largest + math.log(math.fsum(math.exp(logit - largest) for logit in logits))
    return tuple(logit - log_total for logit in logits)
