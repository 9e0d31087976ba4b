"""The tables. All amounts are whole micros, all times microseconds since 1970 UTC; both are BIGINT.

The migrations in `migrations/versions` make these tables; a test holds both to each other.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    and_,
    text,
)

__all__ = [
    "annotators",
    "campaigns",
    "free_items",
    "item_scores",
    "items",
    "labels",
    "lease_items",
    "leases",
    "ledger_entries",
    "metadata",
    "observations",
    "order_items",
    "orders",
    "plans",
    "requests",
    "sources",
    "taken_items",
    "tokens",
]

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _index(name: str, *columns: Any, where: Any, unique: bool = False) -> Index:
    """A partial index, on both databases."""
    return Index(name, *columns, unique=unique, sqlite_where=where, postgresql_where=where)


#: Besides the campaign, its counters. Each is changed in the same transaction as the rows it counts, under this row's
#: lock, which is what keeps sequences without gaps.
campaigns = Table(
    "campaigns",
    metadata,
    Column("campaign_id", String, primary_key=True),
    Column("task_name", Text, nullable=False),
    Column("task_template", Text, nullable=False),
    Column("task_choices_json", Text, nullable=False),
    Column("strong_model", Text, nullable=False),
    Column("config_json", Text, nullable=False),
    Column("state", String, nullable=False),
    Column("currency_code", String, nullable=False),
    Column("budget_micros", BigInteger, nullable=False),
    Column("reserved_micros", BigInteger, nullable=False),
    Column("settled_micros", BigInteger, nullable=False),
    Column("n_items", BigInteger, nullable=False),
    Column("n_items_free", BigInteger, nullable=False),
    Column("n_labels", BigInteger, nullable=False),
    Column("n_entries", BigInteger, nullable=False),
    Column("create_time_us", BigInteger, nullable=False),
    CheckConstraint("budget_micros > 0", name="budget_positive"),
    CheckConstraint("reserved_micros >= 0", name="reserved_not_negative"),
    CheckConstraint("settled_micros >= 0", name="settled_not_negative"),
    # Written so that no sum can overflow an int64.
    CheckConstraint("reserved_micros <= budget_micros - settled_micros", name="within_budget"),
    CheckConstraint("n_items_free >= 0 AND n_items_free <= n_items", name="free_within_pool"),
)

sources = Table(
    "sources",
    metadata,
    Column("campaign_id", String, ForeignKey("campaigns.campaign_id"), primary_key=True),
    Column("source_id", String, primary_key=True),
    Column("position", BigInteger, nullable=False),
    Column("kind", String, nullable=False),
    Column("unit_price_micros", BigInteger, nullable=False),
    Column("model", Text, nullable=False),
    Column("create_time_us", BigInteger, nullable=False),
    # Of a metered source, price of a million prompt tokens.
    Column("million_tokens_micros", BigInteger, nullable=True),
    UniqueConstraint("campaign_id", "position"),
    CheckConstraint("unit_price_micros > 0", name="price_positive"),
    CheckConstraint("million_tokens_micros > 0", name="million_tokens_positive"),
)

orders = Table(
    "orders",
    metadata,
    Column("order_id", String, primary_key=True),
    Column("campaign_id", String, nullable=False),
    Column("source_id", String, nullable=False),
    Column("position", BigInteger, nullable=False),
    Column("purpose", String, nullable=False),
    Column("n_labels", BigInteger, nullable=False),
    Column("n_settled", BigInteger, nullable=False),
    Column("n_released", BigInteger, nullable=False),
    Column("unit_price_micros", BigInteger, nullable=False),
    Column("currency_code", String, nullable=False),
    Column("state", String, nullable=False),
    Column("request_id", Text, nullable=False),
    Column("create_time_us", BigInteger, nullable=False),
    Column("overlap", BigInteger, nullable=False, server_default=text("1")),
    Column("sampling", String, nullable=False, server_default=text("'RANDOM'")),
    Column("sharing", String, nullable=False, server_default=text("'NONE'")),
    Column("expire_time_us", BigInteger, nullable=True),
    Column("million_tokens_micros", BigInteger, nullable=True),
    Column("items_of_order_id", String, nullable=False, server_default=text("''")),
    ForeignKeyConstraint(["campaign_id", "source_id"], ["sources.campaign_id", "sources.source_id"]),
    UniqueConstraint("campaign_id", "position"),
    CheckConstraint("n_labels > 0", name="labels_positive"),
    CheckConstraint("million_tokens_micros > 0", name="million_tokens_positive"),
    CheckConstraint("n_settled >= 0 AND n_released >= 0 AND n_settled + n_released <= n_labels", name="labels_add_up"),
)
_index(
    "ix_orders_open",
    orders.c.campaign_id,
    orders.c.source_id,
    orders.c.position,
    where=orders.c.state == text("'OPEN'"),
)
_index(
    "ix_orders_expiring",
    orders.c.expire_time_us,
    where=and_(orders.c.state == text("'OPEN'"), orders.c.expire_time_us.is_not(None)),
)

#: What is to be labelled; never changed. `shuffle_key` is the item's place in the campaign's random order.
items = Table(
    "items",
    metadata,
    Column("campaign_id", String, ForeignKey("campaigns.campaign_id"), primary_key=True),
    Column("item_id", String, primary_key=True),
    Column("fields_json", Text, nullable=False),
    Column("shuffle_key", BigInteger, nullable=False),
    Column("gold_choice", BigInteger, nullable=True),
)

#: Where items stand: each is in one of these two tables. Both lie in shuffle order (on SQLite the table is its primary
#: key), so that a random order reads and writes neighbouring pages, however large the pool is. Gold questions are free
#: for ever: GOLD_QUESTION orders take nothing away. `order_id` is the first order that holds the item.
free_items = Table(
    "free_items",
    metadata,
    Column("campaign_id", String, primary_key=True),
    Column("gold", Boolean, primary_key=True),
    Column("shuffle_key", BigInteger, primary_key=True, autoincrement=False),
    Column("item_id", String, primary_key=True),
    sqlite_with_rowid=False,
)
taken_items = Table(
    "taken_items",
    metadata,
    Column("campaign_id", String, primary_key=True),
    Column("shuffle_key", BigInteger, primary_key=True, autoincrement=False),
    Column("item_id", String, primary_key=True),
    Column("order_id", String, ForeignKey("orders.order_id"), nullable=False),
    sqlite_with_rowid=False,
)

#: How uncertain a model is about items, the latest score of each.
item_scores = Table(
    "item_scores",
    metadata,
    Column("campaign_id", String, primary_key=True),
    Column("shuffle_key", BigInteger, primary_key=True, autoincrement=False),
    Column("item_id", String, primary_key=True),
    Column("uncertainty", Float(53), nullable=False),
    sqlite_with_rowid=False,
)
Index(
    "ix_item_scores_uncertainty",
    item_scores.c.campaign_id,
    item_scores.c.uncertainty.desc(),
    item_scores.c.shuffle_key,
    item_scores.c.item_id,
)

labels = Table(
    "labels",
    metadata,
    Column("campaign_id", String, primary_key=True),
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("label_id", String, nullable=False),
    Column("order_id", String, ForeignKey("orders.order_id"), nullable=False),
    Column("item_id", String, nullable=False),
    Column("source_id", String, nullable=False),
    Column("purpose", String, nullable=False),
    Column("annotator", Text, nullable=False),
    Column("probabilities_json", Text, nullable=False),
    Column("engine_fingerprint", Text, nullable=False),
    Column("prompt_tokens", BigInteger, nullable=False),
    Column("choices_mass", Float(53), nullable=False),
    Column("create_time_us", BigInteger, nullable=False),
    Column("lease_id", String, nullable=True),
    ForeignKeyConstraint(["campaign_id", "item_id"], ["items.campaign_id", "items.item_id"]),
    UniqueConstraint("label_id"),
    UniqueConstraint("campaign_id", "item_id", "source_id", "annotator"),
)

#: The labels that an order awaits, in its own sequence: one row for each annotator (slot) of each item. A row waits
#: while `label_id` and `lease_id` are NULL and `released` is false; `lease_id` is the lease that has it in hand.
#: There is no foreign key to `items`, which are never deleted: it would look each item of an order up at a random place
#: of the pool, and on PostgreSQL lock it there.
order_items = Table(
    "order_items",
    metadata,
    Column("order_id", String, ForeignKey("orders.order_id"), primary_key=True),
    Column("position", BigInteger, primary_key=True, autoincrement=False),
    Column("campaign_id", String, nullable=False),
    Column("item_id", String, nullable=False),
    Column("shuffle_key", BigInteger, nullable=False),
    Column("slot", BigInteger, nullable=False, server_default=text("0")),
    Column("label_id", String, ForeignKey("labels.label_id"), nullable=True),
    Column("lease_id", String, ForeignKey("leases.lease_id"), nullable=True),
    Column("released", Boolean, nullable=False),
    UniqueConstraint("order_id", "item_id", "slot"),
    CheckConstraint("label_id IS NULL OR NOT released", name="labelled_or_released"),
    CheckConstraint("lease_id IS NULL OR (label_id IS NULL AND NOT released)", name="leased_while_pending"),
)
is_waiting = and_(order_items.c.label_id.is_(None), order_items.c.lease_id.is_(None), order_items.c.released.is_(False))
_index("ix_order_items_waiting", order_items.c.order_id, order_items.c.position, where=is_waiting)
_index("ix_order_items_leased", order_items.c.lease_id, where=order_items.c.lease_id.is_not(None))

#: Append-only: rows are inserted by `ledger` and never changed; triggers refuse it.
ledger_entries = Table(
    "ledger_entries",
    metadata,
    Column("campaign_id", String, ForeignKey("campaigns.campaign_id"), primary_key=True),
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("order_id", String, ForeignKey("orders.order_id"), nullable=False),
    Column("source_id", String, nullable=False),
    Column("kind", String, nullable=False),
    Column("amount_micros", BigInteger, nullable=False),
    Column("currency_code", String, nullable=False),
    Column("label_id", String, ForeignKey("labels.label_id"), nullable=True),
    Column("create_time_us", BigInteger, nullable=False),
    Column("reason", Text, nullable=False, server_default=text("''")),
    Column("corrects_sequence", BigInteger, nullable=True),
    CheckConstraint("amount_micros >= 0 OR kind = 'CORRECT'", name="amount_not_negative"),
    CheckConstraint("(corrects_sequence IS NOT NULL) = (kind = 'CORRECT')", name="correction_names_entry"),
)
#: A label is paid once.
_index(
    "ix_ledger_entries_paid", ledger_entries.c.label_id, unique=True, where=ledger_entries.c.kind == text("'SETTLE'")
)
_index(
    "ix_ledger_entries_corrections",
    ledger_entries.c.campaign_id,
    ledger_entries.c.corrects_sequence,
    where=ledger_entries.c.corrects_sequence.is_not(None),
)

#: Items handed to annotators; `lease_items` keeps what was handed out, in the sequence in which it is shown.
leases = Table(
    "leases",
    metadata,
    Column("lease_id", String, primary_key=True),
    Column("campaign_id", String, nullable=False),
    Column("source_id", String, nullable=False),
    Column("position", BigInteger, nullable=False),
    Column("annotator", Text, nullable=False),
    Column("state", String, nullable=False),
    Column("n_items", BigInteger, nullable=False),
    Column("n_answered", BigInteger, nullable=False),
    Column("duration_us", BigInteger, nullable=False),
    Column("create_time_us", BigInteger, nullable=False),
    Column("expire_time_us", BigInteger, nullable=False),
    ForeignKeyConstraint(["campaign_id", "source_id"], ["sources.campaign_id", "sources.source_id"]),
    UniqueConstraint("campaign_id", "position"),
    CheckConstraint("n_answered >= 0 AND n_answered <= n_items", name="answers_within_items"),
)
_index("ix_leases_expiring", leases.c.expire_time_us, where=leases.c.state == text("'OPEN'"))
_index(
    "ix_leases_open",
    leases.c.campaign_id,
    leases.c.source_id,
    leases.c.annotator,
    where=leases.c.state == text("'OPEN'"),
)

lease_items = Table(
    "lease_items",
    metadata,
    Column("lease_id", String, ForeignKey("leases.lease_id"), primary_key=True),
    Column("position", BigInteger, primary_key=True, autoincrement=False),
    Column("order_id", String, nullable=False),
    Column("order_position", BigInteger, nullable=False),
    ForeignKeyConstraint(["order_id", "order_position"], ["order_items.order_id", "order_items.position"]),
)

#: Counts of each annotator of each HUMAN source; n_leased and n_gold_leased steer how often a gold question is shown.
annotators = Table(
    "annotators",
    metadata,
    Column("campaign_id", String, primary_key=True),
    Column("source_id", String, primary_key=True),
    Column("annotator", Text, primary_key=True),
    Column("n_leased", BigInteger, nullable=False),
    Column("n_gold_leased", BigInteger, nullable=False),
    Column("n_labels", BigInteger, nullable=False),
    Column("n_gold", BigInteger, nullable=False),
    Column("n_gold_right", BigInteger, nullable=False),
    ForeignKeyConstraint(["campaign_id", "source_id"], ["sources.campaign_id", "sources.source_id"]),
)

observations = Table(
    "observations",
    metadata,
    Column("campaign_id", String, ForeignKey("campaigns.campaign_id"), primary_key=True),
    Column("run_id", String, primary_key=True),
    Column("position", BigInteger, nullable=False),
    Column("method", Text, nullable=False),
    Column("n_weak", BigInteger, nullable=False),
    Column("n_human", BigInteger, nullable=False),
    Column("seed", BigInteger, nullable=False),
    Column("weak_source_id", String, nullable=False),
    Column("human_source_id", String, nullable=False),
    Column("evaluation_json", Text, nullable=False),
    Column("test_json", Text, nullable=False),
    Column("cost_micros", BigInteger, nullable=False),
    Column("currency_code", String, nullable=False),
    Column("create_time_us", BigInteger, nullable=False),
    UniqueConstraint("campaign_id", "position"),
)

plans = Table(
    "plans",
    metadata,
    Column("plan_id", String, primary_key=True),
    Column("campaign_id", String, ForeignKey("campaigns.campaign_id"), nullable=False),
    Column("position", BigInteger, nullable=False),
    Column("decision", String, nullable=False),
    Column("purchases_json", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("regime", String, nullable=False),
    Column("policy", Text, nullable=False),
    Column("inputs_json", Text, nullable=False),
    Column("currency_code", String, nullable=False),
    Column("create_time_us", BigInteger, nullable=False),
    # "" where the policy had none.
    Column("explanation_json", Text, nullable=False, server_default=text("''")),
    UniqueConstraint("campaign_id", "position"),
)

#: Every mutation ever made, by the caller's request id, with its first answer and who made it: the audit log.
requests = Table(
    "requests",
    metadata,
    Column("request_id", Text, primary_key=True),
    Column("method", String, nullable=False),
    Column("body_digest", String, nullable=False),
    Column("response", LargeBinary, nullable=False),
    Column("create_time_us", BigInteger, nullable=False),
    Column("campaign_id", String, nullable=False, server_default=text("''")),
    Column("principal", Text, nullable=False, server_default=text("''")),
    Column("role", String, nullable=False, server_default=text("''")),
    Column("peer", Text, nullable=False, server_default=text("''")),
)
Index("ix_requests_time", requests.c.create_time_us, requests.c.request_id)
Index("ix_requests_campaign_time", requests.c.campaign_id, requests.c.create_time_us, requests.c.request_id)

#: Bearer tokens; `digest` is the SHA-256 of the secret, which is stored nowhere.
tokens = Table(
    "tokens",
    metadata,
    Column("token_id", String, primary_key=True),
    Column("principal", Text, nullable=False),
    Column("role", String, nullable=False),
    Column("digest", String, nullable=False),
    Column("create_time_us", BigInteger, nullable=False),
    Column("expire_time_us", BigInteger, nullable=True),
    Column("revoke_time_us", BigInteger, nullable=True),
    UniqueConstraint("digest"),
)
