"""The task's question as Label Studio shows it, and its answers."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree

from isocost.resources.task import Item, Task

__all__ = ["Question"]

#: The name of the choices in the labelling interface.
_CONTROL = "label"
#: What XML 1.0 cannot hold.
_NO_XML = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
#: Label Studio puts a value of the task in such a place, unless word joiners, which nobody sees, stand around the sign.
_VARIABLE = re.compile(r"\$(?=[\w\[\].{}])")
_DOLLAR = "\u2060$\u2060"
_HOTKEYS = "1234567890"


def _plain(text: str) -> str:
    """Text that a label config can hold, without white space around it."""
    return _VARIABLE.sub(_DOLLAR, " ".join(_NO_XML.sub("", text).split()))


class Question:
    """A task, as a project of Label Studio asks it.

    Args:
        task: The campaign's task.
    """

    def __init__(self, task: Task) -> None:
        self.task = task
        names: list[str] = []
        for number, choice in enumerate(task.choices, start=1):
            name = _plain(choice) or f"({number})"
            # Choices that differ in white space alone look the same.
            names.append(f"{name} ({number})" if name in names else name)
        self.choices = tuple(names)

    @property
    def label_config(self) -> str:
        """The labelling interface: the template's lines, the item's fields between them, and the choices."""
        view = ElementTree.Element("View")
        shown: list[str] = []
        text = ""
        # The end flushes the text after the last field; doubled braces come as parts of their own.
        for literal, field, _, _ in [*string.Formatter().parse(self.task.template), ("", "", None, None)]:
            text += literal
            if field is None:
                continue
            for line in filter(None, map(_plain, text.splitlines())):
                ElementTree.SubElement(view, "Header", value=line, size="5")
            text = ""
            if field:
                shown.append(f"shown_{len(shown) + 1}")
                ElementTree.SubElement(view, "Text", name=shown[-1], value=f"${field}", valueType="text")
        control = ElementTree.SubElement(
            view, "Choices", name=_CONTROL, toName=shown[0], choice="single", required="true"
        )
        for index, name in enumerate(self.choices):
            attributes = {"value": name}
            if index < len(_HOTKEYS):
                attributes["hotkey"] = _HOTKEYS[index]
            ElementTree.SubElement(control, "Choice", attributes)
        return ElementTree.tostring(view, encoding="unicode")

    def fits(self, parsed_label_config: Mapping[str, Any]) -> bool:
        """Whether a project asks for these choices, however it shows them.

        Args:
            parsed_label_config: What Label Studio made of the project's labelling interface.
        """
        control = parsed_label_config.get(_CONTROL)
        return (
            isinstance(control, dict)
            and control.get("type") == "Choices"
            and set(control.get("labels", ())) == set(self.choices)
        )

    def fields(self, item: Item) -> dict[str, str]:
        """What Label Studio is told about an item: the fields that the template shows."""
        return {name: item.fields.get(name, "") for name in self.task.fields}

    def choice(self, result: Any) -> int | None:
        """The choice that an annotation's result gives; None where it gives not exactly one of the task's."""
        found: list[str] = []
        for region in result if isinstance(result, list) else ():
            if isinstance(region, dict) and region.get("from_name") == _CONTROL:
                found.extend(region.get("value", {}).get("choices", ()))
        return self.choices.index(found[0]) if len(found) == 1 and found[0] in self.choices else None
