"""The tables. All amounts are whole micros, all times microseconds since 1970 UTC; both are BIGINT.

The migrations in `migrations/versions` make these tables; a test holds both to each other.
"""

from __future__ import annotations

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
    text,
)

__all__ = [
    "campaigns",
    "items",
    "labels",
    "ledger_entries",
    "metadata",
    "observations",
    "order_items",
    "orders",
    "plans",
    "requests",
    "sources",
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
    UniqueConstraint("campaign_id", "position"),
    CheckConstraint("unit_price_micros > 0", name="price_positive"),
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
    ForeignKeyConstraint(["campaign_id", "source_id"], ["sources.campaign_id", "sources.source_id"]),
    UniqueConstraint("campaign_id", "position"),
    CheckConstraint("n_labels > 0", name="labels_positive"),
    CheckConstraint("n_settled >= 0 AND n_released >= 0 AND n_settled + n_released <= n_labels", name="labels_add_up"),
)

#: `order_id` is the order that has taken the item; NULL while it is free. The partial index holds the free items in
#: shuffle order, so that an order's cost grows with the order and not with the pool.
items = Table(
    "items",
    metadata,
    Column("campaign_id", String, ForeignKey("campaigns.campaign_id"), primary_key=True),
    Column("item_id", String, primary_key=True),
    Column("fields_json", Text, nullable=False),
    Column("shuffle_key", BigInteger, nullable=False),
    Column("order_id", String, ForeignKey("orders.order_id"), nullable=True),
)
Index(
    "ix_items_free",
    items.c.campaign_id,
    items.c.shuffle_key,
    items.c.item_id,
    sqlite_where=text("order_id IS NULL"),
    postgresql_where=text("order_id IS NULL"),
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
    ForeignKeyConstraint(["campaign_id", "item_id"], ["items.campaign_id", "items.item_id"]),
    UniqueConstraint("label_id"),
    UniqueConstraint("campaign_id", "item_id", "source_id", "annotator"),
)

#: An order's items in its own sequence: pending while `label_id` is NULL and `released` false.
order_items = Table(
    "order_items",
    metadata,
    Column("order_id", String, ForeignKey("orders.order_id"), primary_key=True),
    Column("position", BigInteger, primary_key=True, autoincrement=False),
    Column("campaign_id", String, nullable=False),
    Column("item_id", String, nullable=False),
    Column("label_id", String, ForeignKey("labels.label_id"), nullable=True),
    Column("released", Boolean, nullable=False),
    ForeignKeyConstraint(["campaign_id", "item_id"], ["items.campaign_id", "items.item_id"]),
    UniqueConstraint("order_id", "item_id"),
    CheckConstraint("label_id IS NULL OR NOT released", name="labelled_or_released"),
)

#: Append-only: rows are inserted by `ledger` and never changed.
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
    UniqueConstraint("label_id"),
    CheckConstraint("amount_micros >= 0", name="amount_not_negative"),
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
    UniqueConstraint("campaign_id", "position"),
)

#: Every mutation ever made, by the caller's request id, with its first answer.
requests = Table(
    "requests",
    metadata,
    Column("request_id", Text, primary_key=True),
    Column("method", String, nullable=False),
    Column("body_digest", String, nullable=False),
    Column("response", LargeBinary, nullable=False),
    Column("create_time_us", BigInteger, nullable=False),
)
