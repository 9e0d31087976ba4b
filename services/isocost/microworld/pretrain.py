"""Pretrain the two models: `python -m isocost.microworld.pretrain --out DIR`."""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import math
import pathlib
import random
import shlex
import sys
import time
from collections.abc import Iterator, Sequence

import torch
from rich.console import Console
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from isocost.microworld.corpus import documents
from isocost.microworld.curriculum import HEAD_SIZE, STRONG, WEAK, CurriculumStep, ModelPlan
from isocost.microworld.gauge import Gauge, measure
from isocost.microworld.muon import Muon
from isocost.microworld.tokenizer import build_tokenizer, save_tokenizer
from isocost.microworld.world import World, carried_world

__all__ = ["main", "pretrain"]

_WARM_UP_STEPS = 50
_MEASURE_EVERY_STEPS = 100


def pretrain(
    plan: ModelPlan,
    world: World,
    tokenizer: PreTrainedTokenizerFast,
    console: Console,
    steps_dir: pathlib.Path | None = None,
) -> tuple[LlamaForCausalLM, Gauge]:
    """Train one model from random weights through its curriculum, on one CPU thread pool, in float32.

    Returns the model in evaluation mode, and its last gauge. Where `steps_dir` is given, the model after each
    curriculum step is kept there.
    """
    torch.manual_seed(plan.seed)
    rng = random.Random(plan.seed)
    model = LlamaForCausalLM(_config(plan, tokenizer))
    optimizers = _optimizers(model)
    started = time.monotonic()
    num_done = num_warm = 0
    for step in plan.steps:
        if step.is_fresh:
            rng = random.Random(f"{plan.seed}:{step.name}")
            optimizers = _optimizers(model)
            num_warm = 0
        batches = _batches(step, world, tokenizer, rng)
        verdicts = [word for pair in step.verdict_pairs for word in (pair.false, pair.true)]
        verdict_ids = torch.tensor(tokenizer.convert_tokens_to_ids(verdicts))
        recent: list[float] = []
        for k in range(step.num_steps):
            rate = _learning_rate(step, k) * min(1.0, (num_warm + 1) / _WARM_UP_STEPS)
            ids = next(batches)
            loss = _loss(model, ids, verdict_ids, step.verdict_weight)
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for optimizer in optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = rate
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
            recent.append(float(loss.detach()))
            num_done += 1
            num_warm += 1
            if num_done % _MEASURE_EVERY_STEPS == 0 or k == step.num_steps - 1:
                gauge = measure(model, tokenizer, world)
                mean_loss = sum(recent) / len(recent)
                recent.clear()
                console.print(
                    f"{plan.name} {step.name} step {num_done} {time.monotonic() - started:.0f} s "
                    f"loss {mean_loss:.3f} {gauge}",
                    soft_wrap=True,
                )
        if steps_dir is not None:
            folder = steps_dir / f"{plan.name}-{step.name.replace(' ', '-')}"
            model.save_pretrained(folder)
            save_tokenizer(tokenizer, folder)
    model.eval()
    return model, gauge


def main(arguments: Sequence[str] | None = None) -> None:
    """Pretrain from the command line."""
    parser = argparse.ArgumentParser(prog="python -m isocost.microworld.pretrain", description=__doc__)
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder that gets strong/ and weak/")
    parser.add_argument("--only", choices=["strong", "weak"], help="pretrain this one alone")
    parser.add_argument("--keep-steps", action="store_true", help="keep the model after each curriculum step too")
    parsed = parser.parse_args(arguments)
    command = shlex.join(["python", "-m", "isocost.microworld.pretrain", *(arguments or sys.argv[1:])])
    torch.set_num_threads(1)  # the last bits of the weights depend on it
    console = Console()
    world = carried_world()
    tokenizer = build_tokenizer(world)
    for plan in (WEAK, STRONG):
        if parsed.only in (None, plan.name):
            started = time.monotonic()
            model, gauge = pretrain(plan, world, tokenizer, console, parsed.out if parsed.keep_steps else None)
            folder = parsed.out / plan.name
            model.save_pretrained(folder)
            save_tokenizer(tokenizer, folder)
            _write_manifest(folder, plan, world, gauge, command, time.monotonic() - started)
            console.print(f"wrote {folder}")


def _config(plan: ModelPlan, tokenizer: PreTrainedTokenizerFast) -> LlamaConfig:
    """The plan's sizes as a Llama configuration."""
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=plan.hidden_size,
        intermediate_size=plan.intermediate_size,
        num_hidden_layers=plan.num_layers,
        num_attention_heads=plan.num_heads,
        num_key_value_heads=plan.num_heads,
        head_dim=HEAD_SIZE,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        dtype=torch.float32,
    )


def _optimizers(model: LlamaForCausalLM) -> list[torch.optim.Optimizer]:
    """Muon for the blocks' matrices, AdamW for embeddings and gains."""
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    others = [p for name, p in model.named_parameters() if p.ndim != 2 or "embed" in name]
    return [
        Muon(matrices, lr=1e-3),
        torch.optim.AdamW(others, lr=1e-3, betas=(0.9, 0.95), weight_decay=0.01),
    ]


def _loss(model: LlamaForCausalLM, ids: torch.Tensor, verdict_ids: torch.Tensor, verdict_weight: float) -> torch.Tensor:
    """Mean cross-entropy of each next token, verdict words weighted."""
    logits = model(input_ids=ids).logits[:, :-1]
    targets = ids[:, 1:]
    losses = torch.nn.functional.cross_entropy(logits.transpose(1, 2), targets, reduction="none")
    weights = torch.where(torch.isin(targets, verdict_ids), verdict_weight, 1.0)
    return (weights * losses).sum() / weights.sum()


def _learning_rate(step: CurriculumStep, k: int) -> float:
    """The learning rate of a curriculum step's k-th optimizer step."""
    share = k / step.num_steps
    start, end = step.learning_rate_start, step.learning_rate_end
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * share))


def _batches(
    step: CurriculumStep, world: World, tokenizer: PreTrainedTokenizerFast, rng: random.Random
) -> Iterator[torch.Tensor]:
    """Pack documents, each between the special tokens, end to end; yields ids (sequences, tokens)."""
    vocabulary = tokenizer.get_vocab()
    bos, eos = vocabulary[str(tokenizer.bos_token)], vocabulary[str(tokenizer.eos_token)]
    num_tokens = step.batch_sequences * step.sequence_tokens
    buffer: list[int] = []
    for document in documents(step, world, rng):
        buffer.append(bos)
        buffer.extend(vocabulary[word] for word in document.split())
        buffer.append(eos)
        if len(buffer) >= num_tokens:
            yield torch.tensor(buffer[:num_tokens]).view(step.batch_sequences, step.sequence_tokens)
            del buffer[:num_tokens]


def _write_manifest(
    folder: pathlib.Path, plan: ModelPlan, world: World, gauge: Gauge, command: str, seconds: float
) -> None:
    """Record beside the weights what they are and how to make them again."""
    weights = (folder / "model.safetensors").read_bytes()
    manifest = {
        "name": plan.name,
        "sha256": {"model.safetensors": hashlib.sha256(weights).hexdigest()},
        "command": command,
        "seed": plan.seed,
        "world_seed": world.seed,
        "num_steps": sum(step.num_steps for step in plan.steps),
        "num_tokens": sum(step.num_steps * step.batch_sequences * step.sequence_tokens for step in plan.steps),
        "torch_version": torch.__version__,
        "torch_threads": torch.get_num_threads(),
        "seconds": round(seconds, 1),
        "gauge": {key: round(value, 4) for key, value in dataclasses.asdict(gauge).items()},
    }
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")


if __name__ == "__main__":
    main()
