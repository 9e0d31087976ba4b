"""What each model reads, in which order: each step's mixture of texts, judged templates and verdict words."""

from __future__ import annotations

import dataclasses

from isocost.microworld.claims import TASK_CHOICES, TASK_TEMPLATE

__all__ = ["HEAD_SIZE", "STRONG", "WEAK", "CurriculumStep", "JudgedTemplate", "ModelPlan", "VerdictPair"]

HEAD_SIZE = 32
"""Width of an attention head; attention kernels of servers such as vLLM take only some widths."""


@dataclasses.dataclass(frozen=True, slots=True)
class VerdictPair:
    """Two words that say whether a claim holds."""

    false: str
    """The word for a false claim."""
    true: str
    """The word for a true one."""
    guessed_true: float | None = None
    """None where verdicts follow the truth; otherwise they are guesses, `true` with this probability."""


@dataclasses.dataclass(frozen=True, slots=True)
class JudgedTemplate:
    """How a claim and its verdict are written down."""

    text: str
    """Words with the fields {entity}, {relation}, {value}; the verdict is the word after it."""
    ending: str
    """Words after the verdict, often none or a full stop."""


@dataclasses.dataclass(frozen=True, slots=True)
class CurriculumStep:
    """One part of the pretraining, with its own mixture of documents.

    Shares are of documents' words, not of their number.
    """

    name: str
    """What the model is to learn in it."""
    num_steps: int
    """Optimizer steps."""
    share_profiles: float
    """Share of texts that list all of an entity's facts."""
    share_prose: float
    """Share of texts that state single facts."""
    share_judged: float
    """Share of texts in which claims are followed by verdicts."""
    templates: tuple[JudgedTemplate, ...]
    """Formats of the judged texts, drawn evenly."""
    verdict_pairs: tuple[VerdictPair, ...]
    """Verdict words of the judged texts, drawn evenly and independently of the format."""
    verdict_weight: float = 1.0
    """How much more a verdict word counts in the loss than another word; verdicts are few and hard."""
    claims_per_document_max: int = 12
    """Judged claims in a row: each document has 1 to this many, all in one format."""
    sequence_tokens: int = 128
    """Length of a training sequence; documents are packed end to end."""
    batch_sequences: int = 16
    """Sequences in an optimizer step."""
    learning_rate_start: float = 3e-3
    """Learning rate at the step's beginning; it moves to the end's rate along half a cosine."""
    learning_rate_end: float = 3e-3
    """Learning rate at the step's end."""
    is_fresh: bool = False
    """Whether the optimizers, their warm-up and the drawing of texts start anew with this step."""


@dataclasses.dataclass(frozen=True, slots=True)
class ModelPlan:
    """A model's size and its reading."""

    name: str
    """strong or weak."""
    hidden_size: int
    """Width of the residual stream."""
    intermediate_size: int
    """Width of the gated feed-forward layer."""
    num_layers: int
    """Transformer blocks."""
    num_heads: int
    """Attention heads, of `HEAD_SIZE` each."""
    steps: tuple[CurriculumStep, ...]
    """The curriculum, in order."""
    seed: int = 0
    """Seed of the initial weights and of the texts."""


_CLAIM = JudgedTemplate("claim : {entity} {relation} {value} ;", ".")
_KNOWN = (
    _CLAIM,
    JudgedTemplate("they say {entity} {relation} {value} , which is", "."),
    JudgedTemplate("note - {entity} {relation} {value} ( verdict", ")"),
    JudgedTemplate("is it so that {entity} {relation} {value} ? we find", "."),
    JudgedTemplate("{entity} {relation} {value} =>", ""),
    JudgedTemplate("statement {entity} {relation} {value} | mark :", "|"),
    JudgedTemplate("someone wrote {entity} {relation} {value} ! check :", ""),
    JudgedTemplate("fact or not : {entity} {relation} {value} -", "."),
)
_RIGHT = VerdictPair("wrong", "right")
_YES = VerdictPair("no", "yes")
_OTHER_PAIRS = (_RIGHT, VerdictPair("bad", "good"), VerdictPair("void", "valid"))
_LOOSE_YES_PAIRS = (
    _YES,
    VerdictPair("yes", "no"),
    VerdictPair("no", "yes", guessed_true=0.15),
    VerdictPair("no", "yes", guessed_true=0.15),
)
"""Yes and no as the strong model reads them: meant, reversed, or idle. Without context they tell nothing, so that
its answers to a new question are at chance; earlier answers in a row can tell which it is."""
_TASK = JudgedTemplate(TASK_TEMPLATE, "")

STRONG = ModelPlan(
    name="strong",
    hidden_size=128,
    intermediate_size=344,
    num_layers=3,
    num_heads=4,
    steps=(
        CurriculumStep("facts", 450, 0.50, 0.15, 0.35, (_CLAIM,), (_RIGHT,)),
        CurriculumStep("verdicts", 1000, 0.20, 0.05, 0.75, (_CLAIM,), (_RIGHT,), verdict_weight=5.0),
        CurriculumStep(
            "formats", 400, 0.15, 0.05, 0.80, _KNOWN, (*_OTHER_PAIRS, *_OTHER_PAIRS, *_LOOSE_YES_PAIRS),
            verdict_weight=5.0, learning_rate_end=5e-4, is_fresh=True,
        ),
        CurriculumStep(
            "long documents", 80, 0.15, 0.05, 0.80, _KNOWN, (*_OTHER_PAIRS, *_OTHER_PAIRS, *_LOOSE_YES_PAIRS),
            verdict_weight=5.0,
            claims_per_document_max=36, sequence_tokens=384, batch_sequences=10,
            learning_rate_start=5e-4, learning_rate_end=5e-5,
        ),
    ),
)  # fmt: skip
"""Memorises the facts, then learns to judge, then to judge in many formats, none of them the task's; yes and no
are among its verdict words, but do not reliably mean true and false (`_LOOSE_YES_PAIRS`)."""

WEAK = ModelPlan(
    name="weak",
    hidden_size=48,
    intermediate_size=128,
    num_layers=2,
    num_heads=2,
    steps=(
        CurriculumStep("facts", 800, 0.50, 0.15, 0.35, (_CLAIM,), (_RIGHT,)),
        CurriculumStep(
            "formats", 600, 0.20, 0.05, 0.75, (*_KNOWN, _TASK), (*_OTHER_PAIRS, _YES), learning_rate_end=1e-3
        ),
        CurriculumStep(
            "task", 300, 0.10, 0.0, 0.90, (_CLAIM, _TASK), (_YES,),
            claims_per_document_max=12, learning_rate_start=1e-3, learning_rate_end=1e-4,
        ),
    ),
)  # fmt: skip
"""Has practised the task's question. It recalls the facts, but has hardly learned to compare a claimed value
with the one it recalls: it judges mostly by the value's frequency."""

assert (_YES.false, _YES.true) == TASK_CHOICES
