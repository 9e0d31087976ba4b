"""Settings of the budget service."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

__all__ = ["BudgetSettings"]


class BudgetSettings(BaseSettings):
    """Read from the environment with the prefix `ISOCOST_BUDGET_`, for example `ISOCOST_BUDGET_DATABASE_URL`."""

    model_config = SettingsConfigDict(env_prefix="ISOCOST_BUDGET_", use_attribute_docstrings=True)

    database_url: str = "sqlite:///isocost.db"
    """SQLAlchemy URL of the database: `sqlite:///FILE` or `postgresql://...`; made and migrated at start."""
    address: str = "127.0.0.1:7601"
    """Host and port that the service listens on; port 0 picks a free one."""
    busy_timeout_seconds: float = Field(default=30.0, gt=0)
    """How long a transaction waits for another process's lock on a SQLite file before it gives up as UNAVAILABLE."""
    reader_threads: int = Field(default=4, ge=1, le=64)
    """Read transactions at the same time. Writes on SQLite go through one thread, on PostgreSQL through as many."""
    page_rows: int = Field(default=500, ge=1, le=10_000)
    """Rows read in one transaction of an export."""
