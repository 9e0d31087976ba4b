"""What models answered, item by item as it comes in: a prediction that was paid for outlives the process."""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType
from typing import TextIO

from isocost.core.ids import content_digest
from isocost.trainer.fine_tuning.api import TokenChoice, TokenChoices

__all__ = ["AnswerLog", "answer_key"]

Places = tuple[TokenChoices, ...]


def answer_key(model: str, prompt: str, n_tokens_max: int) -> str:
    """The digest of all that decides an answer."""
    return content_digest([model, prompt, n_tokens_max])


class AnswerLog:
    """A file of JSON Lines that is only ever appended to; to be used as a context manager.

    It holds what the server sent, so that another reading of it costs nothing. A line that a kill cut off is not read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._answers: dict[str, Places] = {}
        self._file: TextIO | None = None

    def __enter__(self) -> AnswerLog:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        content = self._path.read_bytes() if self._path.is_file() else b""
        for line in content.splitlines():
            try:
                record = json.loads(line)
                self._answers[record["key"]] = tuple(_from_json(place) for place in record["places"])
            except (ValueError, KeyError, TypeError, IndexError):
                continue
        self._file = self._path.open("a", encoding="utf-8")
        if content and not content.endswith(b"\n"):
            self._file.write("\n")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    def find(self, key: str) -> Places | None:
        """The answer of that key, or None where it was not asked for yet."""
        return self._answers.get(key)

    def put(self, key: str, places: Places) -> None:
        """Stores an answer: the system has it when this returns."""
        assert self._file is not None, "enter the log first"
        self._answers[key] = places
        record = {"key": key, "places": [_to_json(place) for place in places]}
        self._file.write(json.dumps(record, separators=(",", ":")) + "\n")
        self._file.flush()


def _to_json(place: TokenChoices) -> list[object]:
    # A token may be part of a character only; Latin-1 has a character for each byte.
    return [
        place.chosen.decode("latin-1"),
        [[token.text.decode("latin-1"), token.log_probability] for token in place.top],
    ]


def _from_json(value: list[object]) -> TokenChoices:
    chosen, top = value
    if not isinstance(chosen, str) or not isinstance(top, list):
        raise TypeError("not a place of an answer")
    return TokenChoices(
        chosen.encode("latin-1"), tuple(TokenChoice(text.encode("latin-1"), float(value)) for text, value in top)
    )
