"""The human queue, overlap, expiry, sharing, scores, corrections, tokens, the audit log; append-only by trigger."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_OPEN = "state = 'OPEN'"
_WAITING = "label_id IS NULL AND lease_id IS NULL AND released IS {false}"


def _partial_index(name: str, table: str, columns: list[str | sa.TextClause], where: str, unique: bool = False) -> None:
    op.create_index(name, table, columns, unique=unique, sqlite_where=sa.text(where), postgresql_where=sa.text(where))


def upgrade() -> None:
    _queue_tables()
    _order_columns()
    op.add_column("labels", sa.Column("lease_id", sa.String(), nullable=True))
    _slots()
    _pool_tables()
    _corrections()
    op.create_table(
        "lease_items",
        sa.Column("lease_id", sa.String(), nullable=False),
        sa.Column("position", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("order_id", sa.String(), nullable=False),
        sa.Column("order_position", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["lease_id"], ["leases.lease_id"], name=op.f("fk_lease_items_lease_id")),
        sa.ForeignKeyConstraint(
            ["order_id", "order_position"],
            ["order_items.order_id", "order_items.position"],
            name=op.f("fk_lease_items_order_id_order_position"),
        ),
        sa.PrimaryKeyConstraint("lease_id", "position", name=op.f("pk_lease_items")),
    )
    _audit_and_tokens()
    _append_only()


def _queue_tables() -> None:
    op.create_table(
        "leases",
        sa.Column("lease_id", sa.String(), nullable=False),
        sa.Column("campaign_id", sa.String(), nullable=False),
        sa.Column("source_id", sa.String(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("annotator", sa.Text(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("n_items", sa.BigInteger(), nullable=False),
        sa.Column("n_answered", sa.BigInteger(), nullable=False),
        sa.Column("duration_us", sa.BigInteger(), nullable=False),
        sa.Column("create_time_us", sa.BigInteger(), nullable=False),
        sa.Column("expire_time_us", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("n_answered >= 0 AND n_answered <= n_items", name=op.f("ck_leases_answers_within_items")),
        sa.ForeignKeyConstraint(
            ["campaign_id", "source_id"],
            ["sources.campaign_id", "sources.source_id"],
            name=op.f("fk_leases_campaign_id_source_id"),
        ),
        sa.PrimaryKeyConstraint("lease_id", name=op.f("pk_leases")),
        sa.UniqueConstraint("campaign_id", "position", name=op.f("uq_leases_campaign_id_position")),
    )
    _partial_index("ix_leases_expiring", "leases", ["expire_time_us"], _OPEN)
    _partial_index("ix_leases_open", "leases", ["campaign_id", "source_id", "annotator"], _OPEN)
    op.create_table(
        "annotators",
        sa.Column("campaign_id", sa.String(), nullable=False),
        sa.Column("source_id", sa.String(), nullable=False),
        sa.Column("annotator", sa.Text(), nullable=False),
        sa.Column("n_leased", sa.BigInteger(), nullable=False),
        sa.Column("n_gold_leased", sa.BigInteger(), nullable=False),
        sa.Column("n_labels", sa.BigInteger(), nullable=False),
        sa.Column("n_gold", sa.BigInteger(), nullable=False),
        sa.Column("n_gold_right", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["campaign_id", "source_id"],
            ["sources.campaign_id", "sources.source_id"],
            name=op.f("fk_annotators_campaign_id_source_id"),
        ),
        sa.PrimaryKeyConstraint("campaign_id", "source_id", "annotator", name=op.f("pk_annotators")),
    )
    # Labels that people gave before there was a queue.
    op.execute(
        "INSERT INTO annotators (campaign_id, source_id, annotator, n_leased, n_gold_leased, n_labels, n_gold, "
        "n_gold_right) SELECT labels.campaign_id, labels.source_id, annotator, 0, 0, count(*), 0, 0 FROM labels "
        "JOIN sources ON sources.campaign_id = labels.campaign_id AND sources.source_id = labels.source_id "
        "WHERE sources.kind = 'HUMAN' GROUP BY labels.campaign_id, labels.source_id, annotator"
    )


def _order_columns() -> None:
    op.add_column("orders", sa.Column("overlap", sa.BigInteger(), nullable=False, server_default=sa.text("1")))
    op.add_column("orders", sa.Column("sampling", sa.String(), nullable=False, server_default=sa.text("'RANDOM'")))
    op.add_column("orders", sa.Column("sharing", sa.String(), nullable=False, server_default=sa.text("'NONE'")))
    op.add_column("orders", sa.Column("expire_time_us", sa.BigInteger(), nullable=True))
    _partial_index("ix_orders_open", "orders", ["campaign_id", "source_id", "position"], _OPEN)
    _partial_index("ix_orders_expiring", "orders", ["expire_time_us"], f"{_OPEN} AND expire_time_us IS NOT NULL")


def _pool_tables() -> None:
    """Where items stand moves out of `items` into tables that lie in shuffle order."""
    op.create_table(
        "free_items",
        sa.Column("campaign_id", sa.String(), nullable=False),
        sa.Column("gold", sa.Boolean(), nullable=False),
        sa.Column("shuffle_key", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("item_id", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("campaign_id", "gold", "shuffle_key", "item_id", name=op.f("pk_free_items")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "taken_items",
        sa.Column("campaign_id", sa.String(), nullable=False),
        sa.Column("shuffle_key", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("item_id", sa.String(), nullable=False),
        sa.Column("order_id", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["order_id"], ["orders.order_id"], name=op.f("fk_taken_items_order_id")),
        sa.PrimaryKeyConstraint("campaign_id", "shuffle_key", "item_id", name=op.f("pk_taken_items")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "item_scores",
        sa.Column("campaign_id", sa.String(), nullable=False),
        sa.Column("shuffle_key", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("item_id", sa.String(), nullable=False),
        sa.Column("uncertainty", sa.Float(precision=53), nullable=False),
        sa.PrimaryKeyConstraint("campaign_id", "shuffle_key", "item_id", name=op.f("pk_item_scores")),
        sqlite_with_rowid=False,
    )
    by_uncertainty: list[str | sa.TextClause] = [
        "campaign_id",
        sa.text("uncertainty DESC"),
        "shuffle_key",
        "item_id",
    ]
    op.create_index("ix_item_scores_uncertainty", "item_scores", by_uncertainty)
    op.execute(
        "INSERT INTO free_items (campaign_id, gold, shuffle_key, item_id) "
        "SELECT campaign_id, false, shuffle_key, item_id FROM items WHERE order_id IS NULL "
        "ORDER BY campaign_id, shuffle_key, item_id"
    )
    op.execute(
        "INSERT INTO taken_items (campaign_id, shuffle_key, item_id, order_id) "
        "SELECT campaign_id, shuffle_key, item_id, order_id FROM items WHERE order_id IS NOT NULL "
        "ORDER BY campaign_id, shuffle_key, item_id"
    )
    op.drop_index("ix_items_free", "items")
    with op.batch_alter_table("items") as batch:
        batch.drop_constraint(op.f("fk_items_order_id"), type_="foreignkey")
        batch.drop_column("order_id")
        batch.add_column(sa.Column("gold_choice", sa.BigInteger(), nullable=True))


def _slots() -> None:
    op.add_column("order_items", sa.Column("shuffle_key", sa.BigInteger(), nullable=True))
    op.execute(
        "UPDATE order_items SET shuffle_key = (SELECT shuffle_key FROM items "
        "WHERE items.campaign_id = order_items.campaign_id AND items.item_id = order_items.item_id)"
    )
    with op.batch_alter_table("order_items") as batch:
        batch.add_column(sa.Column("slot", sa.BigInteger(), nullable=False, server_default=sa.text("0")))
        batch.add_column(sa.Column("lease_id", sa.String(), nullable=True))
        batch.alter_column("shuffle_key", nullable=False)
        batch.create_foreign_key(op.f("fk_order_items_lease_id"), "leases", ["lease_id"], ["lease_id"])
        batch.drop_constraint(op.f("uq_order_items_order_id_item_id"), type_="unique")
        batch.drop_constraint(op.f("fk_order_items_campaign_id_item_id"), type_="foreignkey")
        batch.create_unique_constraint(op.f("uq_order_items_order_id_item_id_slot"), ["order_id", "item_id", "slot"])
        batch.create_check_constraint(
            op.f("ck_order_items_leased_while_pending"), "lease_id IS NULL OR (label_id IS NULL AND NOT released)"
        )
    false = "0" if op.get_bind().dialect.name == "sqlite" else "false"
    _partial_index("ix_order_items_waiting", "order_items", ["order_id", "position"], _WAITING.format(false=false))
    _partial_index("ix_order_items_leased", "order_items", ["lease_id"], "lease_id IS NOT NULL")


def _corrections() -> None:
    with op.batch_alter_table("ledger_entries") as batch:
        batch.add_column(sa.Column("reason", sa.Text(), nullable=False, server_default=sa.text("''")))
        batch.add_column(sa.Column("corrects_sequence", sa.BigInteger(), nullable=True))
        batch.drop_constraint(op.f("uq_ledger_entries_label_id"), type_="unique")
        batch.drop_constraint(op.f("ck_ledger_entries_amount_not_negative"), type_="check")
        batch.create_check_constraint(
            op.f("ck_ledger_entries_amount_not_negative"), "amount_micros >= 0 OR kind = 'CORRECT'"
        )
        batch.create_check_constraint(
            op.f("ck_ledger_entries_correction_names_entry"), "(corrects_sequence IS NOT NULL) = (kind = 'CORRECT')"
        )
    _partial_index("ix_ledger_entries_paid", "ledger_entries", ["label_id"], "kind = 'SETTLE'", unique=True)
    _partial_index(
        "ix_ledger_entries_corrections",
        "ledger_entries",
        ["campaign_id", "corrects_sequence"],
        "corrects_sequence IS NOT NULL",
    )


def _audit_and_tokens() -> None:
    for name, kind in (
        ("campaign_id", sa.String()),
        ("principal", sa.Text()),
        ("role", sa.String()),
        ("peer", sa.Text()),
    ):
        op.add_column("requests", sa.Column(name, kind, nullable=False, server_default=sa.text("''")))
    op.create_index("ix_requests_time", "requests", ["create_time_us", "request_id"])
    op.create_index("ix_requests_campaign_time", "requests", ["campaign_id", "create_time_us", "request_id"])
    op.create_table(
        "tokens",
        sa.Column("token_id", sa.String(), nullable=False),
        sa.Column("principal", sa.Text(), nullable=False),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("create_time_us", sa.BigInteger(), nullable=False),
        sa.Column("expire_time_us", sa.BigInteger(), nullable=True),
        sa.Column("revoke_time_us", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("token_id", name=op.f("pk_tokens")),
        sa.UniqueConstraint("digest", name=op.f("uq_tokens_digest")),
    )


def _append_only() -> None:
    """The database itself refuses to change what was written; an answer may be filled in once."""
    rules = {
        "ledger_entries": "true",
        "labels": "true",
        "requests": "length(OLD.response) > 0",
    }
    sqlite = op.get_bind().dialect.name == "sqlite"
    if not sqlite:
        op.execute(
            "CREATE FUNCTION isocost_refuse_change() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION '% is append-only', TG_TABLE_NAME; END $$"
        )
    for table, when in rules.items():
        for change in ("UPDATE", "DELETE"):
            name = f"tr_{table}_no_{change.lower()}"
            if sqlite:
                op.execute(
                    f"CREATE TRIGGER {name} BEFORE {change} ON {table} WHEN {when} "
                    f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
                )
            else:
                op.execute(
                    f"CREATE TRIGGER {name} BEFORE {change} ON {table} FOR EACH ROW WHEN ({when}) "
                    "EXECUTE FUNCTION isocost_refuse_change()"
                )
