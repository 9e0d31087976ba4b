"""Quick measurements of a model on the made-up world: what it recalls, and how well it judges."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence

import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from isocost.microworld.claims import TASK_CHOICES, TASK_TEMPLATE
from isocost.microworld.world import Claim, World

__all__ = ["Gauge", "choice_probabilities", "measure"]

_CLAIM_TEMPLATE = "claim : {entity} {relation} {value} ;"
_CLAIM_CHOICES = ("wrong", "right")
_BATCH_PROMPTS = 256


@dataclasses.dataclass(frozen=True, slots=True)
class Gauge:
    """Shares of right answers, each between 0 and 1."""

    recall: float
    """Facts whose value is the likeliest word after entity and relation."""
    verdict_accuracy: float
    """Balanced claims judged rightly in the format "claim : e r v ; right"."""
    yes_no_accuracy: float
    """The same with the answers no and yes in that format."""
    task_accuracy: float
    """Balanced claims judged rightly when asked the task's question, zero-shot."""

    def __str__(self) -> str:
        return (
            f"recall {self.recall:.3f} verdicts {self.verdict_accuracy:.3f} "
            f"yes-no {self.yes_no_accuracy:.3f} task {self.task_accuracy:.3f}"
        )


@torch.no_grad()
def choice_probabilities(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    prompts: Sequence[str],
    choices: Sequence[str],
) -> torch.Tensor:
    """Probabilities of one-word answers, renormalised over the choices.

    Prompts must all have the same number of words. Returns float32 probabilities of shape (prompts, choices).
    """
    prompt_ids = torch.tensor(tokenizer(list(prompts))["input_ids"])
    choice_ids = tokenizer.convert_tokens_to_ids(list(choices))
    logits = torch.cat(
        [
            model(input_ids=ids, logits_to_keep=1).logits[:, -1, choice_ids]
            for ids in torch.split(prompt_ids, _BATCH_PROMPTS)
        ]
    )
    return torch.softmax(logits.float(), dim=-1)


@torch.no_grad()
def measure(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, world: World, num_claims: int = 600) -> Gauge:
    """Gauge a model on facts and claims drawn evenly with a fixed seed."""
    was_training = model.training
    model.eval()
    rng = random.Random(0)
    facts = rng.sample(world.facts, min(num_claims, len(world.facts)))
    claims = [world.true_claim(fact) if k % 2 else rng.choice(world.false_claims(fact)) for k, fact in enumerate(facts)]
    prompt_ids = torch.tensor(tokenizer([f"{fact.entity} : {fact.relation}" for fact in facts])["input_ids"])
    recalled = model(input_ids=prompt_ids, logits_to_keep=1).logits[:, -1].argmax(dim=-1)
    values = torch.tensor(tokenizer.convert_tokens_to_ids([fact.value for fact in facts]))
    gauge = Gauge(
        recall=float((recalled == values).float().mean()),
        verdict_accuracy=_accuracy(model, tokenizer, claims, _CLAIM_TEMPLATE, _CLAIM_CHOICES),
        yes_no_accuracy=_accuracy(model, tokenizer, claims, _CLAIM_TEMPLATE, TASK_CHOICES),
        task_accuracy=_accuracy(model, tokenizer, claims, TASK_TEMPLATE, TASK_CHOICES),
    )
    model.train(was_training)
    return gauge


def _accuracy(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    claims: Sequence[Claim],
    template: str,
    choices: Sequence[str],
) -> float:
    """Share of claims for which the right choice (false first) is the likelier one."""
    prompts = [template.format(entity=c.entity, relation=c.relation, value=c.value) for c in claims]
    answers = choice_probabilities(model, tokenizer, prompts, choices).argmax(dim=-1)
    truth = torch.tensor([int(claim.is_true) for claim in claims])
    return float((answers == truth).float().mean())
