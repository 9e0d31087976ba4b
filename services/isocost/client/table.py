"""What the budget service holds as tables: one row a record, with everything that tells where it came from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Generic, TypeVar

from isocost.resources.audit import AuditEntry
from isocost.resources.campaign import LedgerEntry, Order
from isocost.resources.label import LabelledItem
from isocost.resources.pool import PoolItem
from isocost.resources.queue import Consensus
from isocost.resources.task import Item

__all__ = [
    "AUDIT",
    "CONSENSUS",
    "ITEMS",
    "LABELS",
    "LEDGER",
    "ORDERS",
    "QUEUE",
    "Column",
    "QueueRow",
    "Table",
    "labels_table",
]

Record = TypeVar("Record")


class Column(Enum):
    """What a column holds; in JSON lines, Parquet and CSV. An empty CSV cell is no value, `""` is the empty text."""

    TEXT = "text"
    """A string."""
    INTEGER = "integer"
    """A whole number; int64 in Parquet."""
    REAL = "real"
    """A number; float64 in Parquet."""
    REALS = "reals"
    """Numbers; a list of float64 in Parquet, JSON text in CSV."""
    TEXTS = "texts"
    """Strings; a list of strings in Parquet, JSON text in CSV."""
    BOOLEAN = "boolean"
    """True or false."""
    TIME = "time"
    """A time in UTC: ISO 8601 text in JSON and CSV, a timestamp in microseconds in Parquet."""
    FIELDS = "fields"
    """An item's texts by name: an object in JSON, a map in Parquet, one column `fields.NAME` each in CSV."""


@dataclass(frozen=True, slots=True)
class Table(Generic[Record]):
    """The columns of a table and how a record becomes a row.

    Attributes:
        name: What the rows are.
        columns: Names, in sequence, and what they hold.
        row: The values of a record, in the sequence of the columns; None where there is none.
    """

    name: str
    columns: Mapping[str, Column]
    row: Callable[[Record], tuple[Any, ...]]


#: Items of the pool, in which state they are, and which order took them. Records of `items`.
ITEMS: Table[PoolItem] = Table(
    "items",
    {
        "item_id": Column.TEXT,
        "state": Column.TEXT,
        "order_id": Column.TEXT,
        "uncertainty": Column.REAL,
        "gold_choice": Column.INTEGER,
        "fields": Column.FIELDS,
    },
    lambda record: (
        record.item.item_id,
        record.state.name.lower(),
        record.order_id,
        record.uncertainty,
        record.item.gold_choice,
        dict(record.item.fields),
    ),
)

#: Labels with their items: who or what answered, for which order, under which lease. Records of `labels`.
LABELS: Table[LabelledItem] = Table(
    "labels",
    {
        "sequence": Column.INTEGER,
        "label_id": Column.TEXT,
        "item_id": Column.TEXT,
        "source_id": Column.TEXT,
        "annotator": Column.TEXT,
        "purpose": Column.TEXT,
        "order_id": Column.TEXT,
        "lease_id": Column.TEXT,
        "choice": Column.INTEGER,
        "probabilities": Column.REALS,
        "engine_fingerprint": Column.TEXT,
        "prompt_tokens": Column.INTEGER,
        "choices_mass": Column.REAL,
        "create_time": Column.TIME,
        "gold_choice": Column.INTEGER,
        "fields": Column.FIELDS,
    },
    lambda record: (
        record.label.sequence,
        record.label.label_id,
        record.label.item_id,
        record.label.source_id,
        record.label.annotator,
        record.label.purpose.name.lower() if record.label.purpose else None,
        record.label.order_id,
        record.label.lease_id,
        record.label.choice,
        list(record.label.probabilities),
        record.label.engine_fingerprint,
        record.label.prompt_tokens,
        record.label.choices_mass,
        record.label.create_time,
        record.item.gold_choice,
        dict(record.item.fields),
    ),
)


def labels_table(choices: Sequence[str]) -> Table[LabelledItem]:
    """`LABELS` with the text of the choice as well, in the column `label`, so that the file can be imported again.

    Args:
        choices: Those of the campaign's task.
    """
    names = list(LABELS.columns)
    place = names.index("choice")
    columns = {name: LABELS.columns[name] for name in names[:place]}
    columns["label"] = Column.TEXT
    columns.update({name: LABELS.columns[name] for name in names[place:]})

    def row(record: LabelledItem) -> tuple[Any, ...]:
        values = LABELS.row(record)
        return (*values[:place], choices[record.label.choice], *values[place:])

    return Table("labels", columns, row)


@dataclass(frozen=True, slots=True)
class QueueRow:
    """An item in people's hands, in a file that they fill in.

    Attributes:
        item: The item.
        choices: Texts of the task's choices: what `label` may say.
        lease_id: The lease that hands it out; "" where there is none.
        annotator: Who answers; "" where anybody may.
        label: The answer; None while there is none.
    """

    item: Item
    choices: tuple[str, ...]
    lease_id: str = ""
    annotator: str = ""
    label: str | None = None


#: Items that people answer in a file, and the answers; `isocost.client.answer_file` reads it. Records: `QueueRow`.
QUEUE: Table[QueueRow] = Table(
    "queue",
    {
        "item_id": Column.TEXT,
        "lease_id": Column.TEXT,
        "annotator": Column.TEXT,
        "label": Column.TEXT,
        "choices": Column.TEXTS,
        "fields": Column.FIELDS,
    },
    lambda record: (
        record.item.item_id,
        record.lease_id,
        record.annotator,
        record.label,
        list(record.choices),
        dict(record.item.fields),
    ),
)

#: The ledger. Records of `ledger`.
LEDGER: Table[LedgerEntry] = Table(
    "ledger",
    {
        "sequence": Column.INTEGER,
        "campaign_id": Column.TEXT,
        "order_id": Column.TEXT,
        "source_id": Column.TEXT,
        "kind": Column.TEXT,
        "amount_micros": Column.INTEGER,
        "currency": Column.TEXT,
        "label_id": Column.TEXT,
        "create_time": Column.TIME,
        "corrects_sequence": Column.INTEGER,
        "reason": Column.TEXT,
    },
    lambda record: (
        record.sequence,
        record.campaign_id,
        record.order_id,
        record.source_id,
        record.kind.name.lower(),
        record.amount.micros,
        record.amount.currency_code,
        record.label_id,
        record.create_time,
        record.corrects_sequence,
        record.reason,
    ),
)

#: One answer an item by all annotators of a source together. Records of `consensus`.
CONSENSUS: Table[Consensus] = Table(
    "consensus",
    {
        "item_id": Column.TEXT,
        "purpose": Column.TEXT,
        "choice": Column.INTEGER,
        "probabilities": Column.REALS,
        "n_labels": Column.INTEGER,
        "share_agreeing": Column.REAL,
        "gold_choice": Column.INTEGER,
        "fields": Column.FIELDS,
    },
    lambda record: (
        record.item.item_id,
        record.purpose.name.lower(),
        max(range(len(record.probabilities)), key=lambda index: record.probabilities[index]),
        list(record.probabilities),
        record.n_labels,
        record.share_agreeing,
        record.item.gold_choice,
        dict(record.item.fields),
    ),
)

#: Orders. Records of `orders`.
ORDERS: Table[Order] = Table(
    "orders",
    {
        "order_id": Column.TEXT,
        "campaign_id": Column.TEXT,
        "source_id": Column.TEXT,
        "purpose": Column.TEXT,
        "state": Column.TEXT,
        "n_labels": Column.INTEGER,
        "n_settled": Column.INTEGER,
        "n_released": Column.INTEGER,
        "overlap": Column.INTEGER,
        "sampling": Column.TEXT,
        "sharing": Column.TEXT,
        "unit_price_micros": Column.INTEGER,
        "price_per_million_tokens_micros": Column.INTEGER,
        "currency": Column.TEXT,
        "request_id": Column.TEXT,
        "items_of_order_id": Column.TEXT,
        "create_time": Column.TIME,
        "expire_time": Column.TIME,
    },
    lambda record: (
        record.order_id,
        record.campaign_id,
        record.source_id,
        record.purpose.name.lower(),
        record.state.name.lower(),
        record.n_labels,
        record.n_settled,
        record.n_released,
        record.overlap,
        record.sampling.name.lower(),
        record.sharing.name.lower(),
        record.unit_price.micros,
        record.price_per_million_tokens.micros if record.price_per_million_tokens else None,
        record.unit_price.currency_code,
        record.request_id,
        record.items_of_order_id,
        record.create_time,
        record.expire_time,
    ),
)

#: What was changed, by whom and when. Records of `audit_entries`.
AUDIT: Table[AuditEntry] = Table(
    "audit",
    {
        "create_time": Column.TIME,
        "method": Column.TEXT,
        "campaign_id": Column.TEXT,
        "principal": Column.TEXT,
        "role": Column.TEXT,
        "peer": Column.TEXT,
        "request_id": Column.TEXT,
        "body_digest": Column.TEXT,
    },
    lambda record: (
        record.create_time,
        record.method,
        record.campaign_id,
        record.principal,
        record.role,
        record.peer,
        record.request_id,
        record.body_digest,
    ),
)
