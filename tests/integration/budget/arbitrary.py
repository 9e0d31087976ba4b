"""Arbitrary protobuf messages, made from their descriptors: half nonsense, half plausible enough to reach deep."""

from __future__ import annotations

import math
import random
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from isocost.v1 import resources_pb2

__all__ = ["Arbitrary"]

_LONG = "long " * 3_000
_TEXTS = ("", " ", "x", "\0", "a\0b", "\n", "é", "\U0001f600", "\u202e", "%s%n", "'; DROP TABLE items; --", "{", "{0}")
_WORDS = ("../../etc", "null", "-1", "i1", "c", "�", "\ud7ff", "ann", _LONG, "0" * 513, "{claim}", "ÿ" * 300)
_INTEGERS = (0, 1, 2, 3, 7, 100, 1_000, 1_001, 10_001, -1, -7, 2**31 - 1, -(2**31))
_LONG_INTEGERS = (*_INTEGERS, 10**9 + 1, 2**53 + 1, 2**63 - 1, -(2**63))
_FLOATS = (0.0, 1.0, 0.5, -0.0, -1.0, 1e-300, 1e300, math.nan, math.inf, -math.inf, 1.0000001, 5e-324)
_ENUMS = (0, 1, 2, 3, 4, 5, 99, -1, 2**31 - 1)
#: What a field of this name holds in a call that makes sense.
_PLAUSIBLE: dict[str, tuple[Any, ...]] = {
    "currency_code": ("USD",),
    "micros": (1_000, 100_000, 10_000_000),
    "n_labels": (0, 1, 2, 4, 6),
    "n_items": (1, 3, 10),
    "overlap": (0, 1, 2),
    "page_size": (0, 1, 5),
    "template": ("Is it true that {claim}?",),
    "annotator": ("ann", "bob", "cat"),
    "key": ("claim",),
    "value": ("true", "false"),
    "gold_choice": (0, 1),
    "uncertainty": (0.1, 0.7),
    "seconds": (2, 60, 3_600, 3_600),
    "nanos": (0,),
    "after_sequence": (0, 1, 5),
    "after_item_id": ("",),
    "accuracy": (0.7,),
    "accuracy_low": (0.6,),
    "accuracy_high": (0.8,),
    "auroc": (0.75,),
    "seed": (0, 1),
    "corrects_sequence": (1, 2, 3, 4, 5, 6),
    "source_id": ("weak", "metered", "human", "human"),
    "weak_source_id": ("weak", "metered"),
    "human_source_id": ("human",),
    "choices_mass": (0.0, 1.0),
    "prompt_tokens": (0, 12),
    "target_accuracy": (0.7, 0.95),
    "gain_min": (0.0, 0.005),
}
_IDS_MAX = 200


class Arbitrary:
    """Makes messages; remembers ids that answers hold, and uses them again.

    Args:
        seed: The same seed makes the same messages, as long as the same ids are learnt.
    """

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self._ids: dict[str, list[str]] = {
            name: [] for name in ("order_id", "lease_id", "item_id", "next_page_token", "run_id")
        }
        #: The campaign that makes sense, "" for none.
        self.campaign_id = ""
        #: Items by the order or lease that they are of.
        self._items_of: dict[str, list[str]] = {}
        self._payments: list[tuple[str, int]] = []
        self._n_requests = 0
        self._seed = seed

    def learn(self, message: Message) -> None:
        """Remembers the ids in an answer, and which ledger entries are payments."""
        if isinstance(message, resources_pb2.LedgerEntry) and message.kind == resources_pb2.ENTRY_KIND_SETTLE:
            self._payments.append((message.campaign_id, message.sequence))
            del self._payments[:-_IDS_MAX]
        for field, value in message.ListFields():
            if field.name in self._ids and field.type == FieldDescriptor.TYPE_STRING:
                known = self._ids[field.name]
                if value not in known:
                    known.append(value)
                    del known[:-_IDS_MAX]
            elif field.message_type is not None and not field.message_type.GetOptions().map_entry:
                for part in value if field.is_repeated else (value,):
                    self.learn(part)

    def learn_items(self, owner_id: str, item_ids: list[str]) -> None:
        """Remembers which items an order or a lease has."""
        if item_ids:
            self._items_of[owner_id] = item_ids

    def message(self, descriptor: Descriptor) -> Message:
        """One message of a type."""
        plausibility = self.chance.choice((0.0, 0.5, 0.9, 0.98, 1.0, 1.0))
        message = self._message(descriptor, plausibility)
        if plausibility >= 0.9:
            self._agree(message)
        return message

    def _agree(self, message: Any) -> None:
        """Makes fields fit each other, which chance alone seldom does."""
        if hasattr(message, "labels"):
            owner_field = "lease_id" if hasattr(message, "lease_id") else "order_id"
            known = [owner for owner in self._ids[owner_field] if owner in self._items_of]
            if known:
                owner = self.chance.choice(known[-3:])
                setattr(message, owner_field, owner)
                if not message.labels:
                    message.labels.add(probabilities=[0.25, 0.75])
                for label in message.labels:
                    label.item_id = self.chance.choice(self._items_of[owner])
        elif hasattr(message, "lease_id") and self._ids["lease_id"]:
            message.lease_id = self._ids["lease_id"][-1]
        if hasattr(message, "item_ids") and self.chance.random() < 0.8:
            message.ClearField("item_ids")
            message.sampling = self.chance.choice((0, 1, 1, 3))
            message.n_labels = message.n_labels or 2
            message.overlap = message.overlap if message.source_id == "human" else 1
            if self.chance.random() < 0.7:
                message.ClearField("items_of_order_id")
        if hasattr(message, "corrects_sequence") and self._payments:
            message.campaign_id, message.corrects_sequence = self.chance.choice(self._payments[-20:])
        if hasattr(message, "campaign"):
            message.campaign.campaign_id = f"new-{self._seed}-{self._n_requests}"
        if hasattr(message, "source") and self.chance.random() < 0.5:
            message.source.source_id = f"source-{self._n_requests}"

    def _message(self, descriptor: Descriptor, plausibility: float) -> Message:
        message = GetMessageClass(descriptor)()
        for field in descriptor.fields:
            likely = 0.95 if field.name.endswith("_id") else 0.5
            if self.chance.random() < max(plausibility, likely):
                self._fill(message, field, plausibility)
        return message

    def _fill(self, message: Message, field: FieldDescriptor, plausibility: float) -> None:
        name = field.name
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            key_field, value_field = field.message_type.fields
            for _ in range(self._count(name, plausibility)):
                getattr(message, name)[self._value(key_field, plausibility)] = self._value(value_field, plausibility)
        elif field.is_repeated:
            values = [self._value(field, plausibility) for _ in range(self._count(name, plausibility))]
            getattr(message, name).extend(values)
            if len(values) == 2 and self.chance.random() < plausibility:
                if name == "choices":
                    message.choices[:] = ["no", "yes"]  # type: ignore[attr-defined]
                if name == "probabilities":
                    message.probabilities[:] = self.chance.choice(([0.25, 0.75], [1.0, 0.0]))  # type: ignore[attr-defined]
        elif field.message_type is not None:
            getattr(message, name).CopyFrom(self._value(field, plausibility))
        else:
            setattr(message, name, self._value(field, plausibility))

    def _count(self, name: str, plausibility: float) -> int:
        if self.chance.random() < plausibility:
            return 2 if name in ("choices", "probabilities") else self.chance.choice((1, 1, 2))
        return self.chance.choice((0, 1, 2, 3, 60))

    def _value(self, field: FieldDescriptor, plausibility: float) -> Any:
        if field.message_type is not None:
            return self._message(field.message_type, plausibility)
        if self.chance.random() < (max(plausibility, 0.5) if field.name.endswith("_id") else plausibility):
            return self._plausible(field)
        any_of: dict[int, tuple[Any, ...]] = {
            FieldDescriptor.CPPTYPE_STRING: (*_TEXTS, *_WORDS),
            FieldDescriptor.CPPTYPE_INT32: _INTEGERS,
            FieldDescriptor.CPPTYPE_INT64: _LONG_INTEGERS,
            FieldDescriptor.CPPTYPE_DOUBLE: _FLOATS,
            FieldDescriptor.CPPTYPE_BOOL: (False, True),
            FieldDescriptor.CPPTYPE_ENUM: _ENUMS,
        }
        return self.chance.choice(any_of[field.cpp_type])

    def _plausible(self, field: FieldDescriptor) -> Any:
        if field.name == "request_id":
            # Mostly new ones; a repeat meets another body or another method.
            self._n_requests += self.chance.random() < 0.95
            return f"request/{self._seed}/{self._n_requests}"
        if field.name == "page_token" and self.chance.random() < 0.7:
            return ""
        name = {
            "page_token": "next_page_token",
            "item_ids": "item_id",
            "after_item_id": "item_id",
            "items_of_order_id": "order_id",
        }.get(field.name, field.name)
        known = self._ids.get(name)
        if known and self.chance.random() < 0.9:
            # The latest are those that most can be done with.
            return self.chance.choice(known[-10:])
        if name == "item_id":
            return f"i{self.chance.randrange(60)}"
        if name == "campaign_id" and self.chance.random() < 0.95:
            return self.campaign_id
        if name in ("campaign_id", "run_id"):
            return f"{name}-{self._seed}-{self._n_requests}"
        if field.name in _PLAUSIBLE:
            return self.chance.choice(_PLAUSIBLE[field.name])
        if field.enum_type is not None:
            return self.chance.choice(field.enum_type.values[1:]).number
        return {FieldDescriptor.CPPTYPE_STRING: "text", FieldDescriptor.CPPTYPE_DOUBLE: 0.5}.get(field.cpp_type, 1)
