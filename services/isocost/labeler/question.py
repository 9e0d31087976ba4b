"""What is asked, and whom: the configuration at the head of every stream, and each item's key in the store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from isocost.core.errors import InvalidArgumentError, IsocostError
from isocost.core.ids import content_digest
from isocost.labeler.engine import Runner
from isocost.labeler.model_card import ModelCard
from isocost.resources.task import Task
from isocost.tasks.choices import ChoicePass, ChoiceTree
from isocost.tasks.prompt import FewShotExample, PromptEncoder
from isocost.v1 import labeler_service_pb2 as pb

__all__ = ["Question", "Request"]

#: Changes where the same question would be put to the model in other words.
_KEY_VERSION = 2


@dataclass(frozen=True, slots=True)
class Request:
    """What a caller wants to ask.

    Attributes:
        model: Folder or hub name, as the caller named it.
        runner: How the model is asked.
        task: The question.
        few_shot_examples: The frozen block before every prompt; GENERATE only.

    Raises:
        InvalidArgumentError: names the field that is wrong.
    """

    model: str
    runner: Runner
    task: Task
    few_shot_examples: tuple[FewShotExample, ...] = ()

    def __post_init__(self) -> None:
        if self.few_shot_examples and self.runner is Runner.CLASSIFY:
            raise InvalidArgumentError(
                "config.few_shot_examples", "a classification model reads no examples; leave them out or use generate"
            )

    @classmethod
    def from_proto(cls, message: pb.LabelerConfig) -> Request:
        """Converts from the wire."""
        try:
            task = Task.from_proto(message.task)
        except InvalidArgumentError as error:
            raise InvalidArgumentError(f"config.{error.field}", error.message) from None
        examples = tuple(FewShotExample(dict(example.fields), example.choice) for example in message.few_shot_examples)
        return cls(message.model, Runner.from_proto(message.runner), task, examples)


@dataclass(frozen=True, slots=True)
class Question:
    """A request that its model can answer.

    Attributes:
        request: What the caller wants to ask.
        card: The model.
        tree: How the choices are read. CLASSIFY: one pass, whose token ids are 0 up to the number of classes.

    Raises:
        InvalidArgumentError: the choices do not suit the model, or the few-shot block is wrong or too long.
    """

    request: Request
    card: ModelCard
    tree: ChoiceTree = field(init=False)
    _digest: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        task = self.request.task
        if self.request.runner is Runner.GENERATE:
            try:
                object.__setattr__(self, "tree", ChoiceTree.build(self.card.tokenizer, task))
                self.encoder(self.card.n_tokens_max)
            except IsocostError as error:
                raise InvalidArgumentError(f"config.{error.field}", error.message) from None
        else:
            if self.card.n_classes != len(task.choices):
                raise InvalidArgumentError(
                    "config.task.choices",
                    f"the task has {len(task.choices)} choices, but {self.card.name!r} has {self.card.n_classes} "
                    "classes; give one choice for each class, in the model's order",
                )
            classes = range(self.card.n_classes)
            object.__setattr__(self, "tree", ChoiceTree((), tuple((number,) for number in classes)))
        object.__setattr__(self, "_digest", self._content_digest())

    @property
    def passes(self) -> tuple[ChoicePass, ...]:
        """The forward passes of one item."""
        return self.tree.passes

    def encoder(self, n_tokens_max: int) -> PromptEncoder:
        """Turns items into prompts which, with the longest suffix of the passes, have at most so many tokens."""
        return PromptEncoder(
            self.card.tokenizer,
            self.request.task,
            self.request.few_shot_examples,
            max_tokens=n_tokens_max - max(len(one.suffix) for one in self.passes),
            lead=self.tree.lead,
        )

    def key(self, fields: Mapping[str, str]) -> str:
        """The item's key in the store: equal questions to equal models about equal items have equal keys.

        Only the fields that the task shows count, and neither the item's id nor the engine does.

        Raises:
            InvalidArgumentError: names the field that is missing.
        """
        return content_digest([self._digest, self._shown(fields)])

    def _content_digest(self) -> str:
        examples = [[self._shown(example.fields), example.choice] for example in self.request.few_shot_examples]
        task = self.request.task
        asked = [_KEY_VERSION, task.template, task.choices, examples, self.card.content, self.card.runner.name]
        return content_digest(asked)

    def _shown(self, fields: Mapping[str, str]) -> dict[str, str]:
        missing = [name for name in self.request.task.fields if name not in fields]
        if missing:
            raise InvalidArgumentError(f"fields.{missing[0]}", f"missing; the task's template shows {{{missing[0]}}}")
        return {name: fields[name] for name in self.request.task.fields}
