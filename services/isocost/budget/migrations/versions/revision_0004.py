"""Plans with the numbers behind them: the posterior along the isocost line, the value of the next tranche."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("plans", sa.Column("explanation_json", sa.Text(), nullable=False, server_default=sa.text("''")))
