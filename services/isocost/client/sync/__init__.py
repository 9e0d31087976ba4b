"""The clients without asyncio: `scripts/generate_sync_client` makes all but `heartbeat` from the async ones."""

from isocost.client.sync.budget import SyncBudgetClient
from isocost.client.sync.queue import SyncQueueClient

__all__ = ["SyncBudgetClient", "SyncQueueClient"]
