"""Metered sources: a price of a million tokens beside the unit price; orders for the items of another order."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for table in ("sources", "orders"):
        # In plain SQL, which both databases read: on SQLite Alembic would copy the table, and lose its other checks.
        op.execute(
            f"ALTER TABLE {table} ADD COLUMN million_tokens_micros BIGINT "
            f"CONSTRAINT ck_{table}_million_tokens_positive CHECK (million_tokens_micros > 0)"
        )
    op.add_column("orders", sa.Column("items_of_order_id", sa.String(), nullable=False, server_default=sa.text("''")))
