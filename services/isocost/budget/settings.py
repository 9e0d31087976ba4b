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
    web_address: str = ""
    """Host and port of the page on which people label and owners follow campaigns, for example `127.0.0.1:7611`; ""
    serves none. Beyond loopback it needs a certificate and tokens, as the service does."""
    busy_timeout_seconds: float = Field(default=30.0, gt=0)
    """How long a transaction waits for another process's lock on a SQLite file before it gives up as UNAVAILABLE."""
    reader_threads: int = Field(default=4, ge=1, le=64)
    """Read transactions at the same time. Writes on SQLite go through one thread, on PostgreSQL through as many."""
    page_rows: int = Field(default=500, ge=1, le=10_000)
    """Rows read in one transaction of an export."""
    require_tokens: bool = False
    """Whether every call must carry a token made by `isocost token create`; needed to listen beyond loopback."""
    token_cache_seconds: float = Field(default=5.0, ge=0, le=300)
    """How long a token is remembered, so that a call costs no query; a revoked one works for as long at most."""
    sweep_seconds: float = Field(default=5.0, gt=0)
    """How often leases and orders whose time is over are looked for."""
    gold_fraction: float = Field(default=0.1, ge=0, le=1)
    """Share of the items handed to an annotator that are gold questions, while an open order has any."""
    gold_accuracy_min: float = Field(default=0.0, ge=0, le=1)
    """An annotator whose share of right gold answers is below this gets no more items; 0 for no limit."""
    gold_answers_min: int = Field(default=5, ge=1)
    """Gold answers before `gold_accuracy_min` counts."""
