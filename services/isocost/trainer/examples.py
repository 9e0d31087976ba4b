"""Content-addressed lists of labelled examples, of which runs use prefixes.

The digest is a chain: that of n examples is computed from that of the first n - 1 and the n-th example. So every
prefix has a digest of its own, equal to the one it would have as a list, and a run on the first n examples has the same
identity however long the list grew since.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import polars as pl

from isocost.core.errors import InvalidArgumentError, NotFoundError
from isocost.core.ids import canonical_json
from isocost.resources.run import Example
from isocost.trainer.storage import write_file

__all__ = ["ExampleList", "ExampleListBuilder", "ExampleStore", "joined"]

_DIGEST = re.compile(r"[0-9a-f]{32}\Z")
_EMPTY_DIGEST = "0" * 32
_LISTS_IN_MEMORY = 16


def _next_digest(digest: str, example: Example) -> str:
    content = canonical_json([digest, example.item_id, dict(example.fields), list(example.probabilities)])
    return hashlib.sha256(content.encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class ExampleList:
    """An ordered list of examples.

    Attributes:
        examples: In sequence; at least one, all with the same number of probabilities.
        digests: Digest of each prefix; the last one is the list's own.
    """

    examples: tuple[Example, ...]
    digests: tuple[str, ...]

    @property
    def digest(self) -> str:
        """Digest of the whole list."""
        return self.digests[-1]

    @property
    def n_choices(self) -> int:
        """Probabilities of each example."""
        return len(self.examples[0].probabilities)

    def __len__(self) -> int:
        return len(self.examples)

    def first(self, n_examples: int) -> ExampleList:
        """The first n examples as a list of their own; n at least 1 and at most the length."""
        return ExampleList(self.examples[:n_examples], self.digests[:n_examples])


def joined(lists: Sequence[ExampleList]) -> ExampleList:
    """One list after the other, with a digest of its own; a single one stays as it is."""
    first, *others = lists
    for other in others:
        digests = [hashlib.sha256(f"{first.digest}{digest}".encode()).hexdigest()[:32] for digest in other.digests]
        first = ExampleList((*first.examples, *other.examples), (*first.digests, *digests))
    return first


class ExampleListBuilder:
    """Takes examples as they are streamed in.

    Raises:
        InvalidArgumentError: more examples than `n_examples_max`, none at all, or one with another number of
            probabilities than the first.
    """

    def __init__(self, n_examples_max: int) -> None:
        self._n_examples_max = n_examples_max
        self._examples: list[Example] = []
        self._digests: list[str] = []

    def extend(self, examples: Sequence[Example]) -> None:
        """Appends examples."""
        for example in examples:
            if len(self._examples) == self._n_examples_max:
                raise InvalidArgumentError("examples", f"more than {self._n_examples_max} in one list; send fewer")
            if self._examples and len(example.probabilities) != len(self._examples[0].probabilities):
                raise InvalidArgumentError(
                    "examples.probabilities",
                    f"item {example.item_id!r} has {len(example.probabilities)}, but the first example has "
                    f"{len(self._examples[0].probabilities)}; give one for each choice of the task",
                )
            previous = self._digests[-1] if self._digests else _EMPTY_DIGEST
            self._examples.append(example)
            self._digests.append(_next_digest(previous, example))

    def build(self) -> ExampleList:
        """The finished list."""
        if not self._examples:
            raise InvalidArgumentError("examples", "the list is empty; send at least one example")
        return ExampleList(tuple(self._examples), tuple(self._digests))


class ExampleStore:
    """Lists on disk, one Parquet file each (columns item_id, fields as JSON, probabilities), named by their digest."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._recent: OrderedDict[str, ExampleList] = OrderedDict()
        self._whole: set[tuple[str, ...]] = set()

    def put(self, examples: ExampleList) -> None:
        """Stores a list; does nothing where it is there already."""
        path = self._path(examples.digest)
        if not path.is_file():
            frame = pl.DataFrame(
                {
                    "item_id": [example.item_id for example in examples.examples],
                    "fields": [json.dumps(dict(example.fields), ensure_ascii=False) for example in examples.examples],
                    "probabilities": [list(example.probabilities) for example in examples.examples],
                }
            )
            buffer = BytesIO()
            frame.write_parquet(buffer)
            write_file(path, buffer.getvalue())
        self._remember(examples)

    def get(self, digest: str, *, field: str) -> ExampleList:
        """Reads a list.

        Raises:
            NotFoundError: names `field` where there is no such list.
        """
        if digest in self._recent:
            self._recent.move_to_end(digest)
            return self._recent[digest]
        path = self._path(digest)
        if not _DIGEST.match(digest) or not path.is_file():
            raise NotFoundError(f"there is no list of examples {digest!r}; send it with PutExamples", field=field)
        builder = ExampleListBuilder(2**62)
        frame = pl.read_parquet(path)
        builder.extend(
            [
                Example(item_id, json.loads(fields), tuple(probabilities))
                for item_id, fields, probabilities in frame.select("item_id", "fields", "probabilities").iter_rows()
            ]
        )
        examples = builder.build()
        if examples.digest != digest:
            raise NotFoundError(f"the file of the list {digest!r} is damaged; send it again", field=field)
        self._remember(examples)
        return examples

    def find_lacking(self, examples: ExampleList, names: Sequence[str]) -> tuple[str, str] | None:
        """The id of the first item that lacks one of the fields, and the field's name; None where all have all.

        A list that was found whole is not looked through again: the runs of a sweep share a few long ones.
        """
        key = (examples.digest, *names)
        if key not in self._whole:
            for example in examples.examples:
                for name in names:
                    if name not in example.fields:
                        return example.item_id, name
            self._whole.add(key)
        return None

    def _path(self, digest: str) -> Path:
        return self._folder / f"{digest}.parquet"

    def _remember(self, examples: ExampleList) -> None:
        self._recent[examples.digest] = examples
        self._recent.move_to_end(examples.digest)
        while len(self._recent) > _LISTS_IN_MEMORY:
            self._recent.popitem(last=False)
