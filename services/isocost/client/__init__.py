"""The Python client: the three services with domain objects instead of wire messages, asynchronous and not.

The objects that most pipelines need can be imported from here as well; the others are in `isocost.resources`.
"""

from isocost.client.budget import BudgetClient
from isocost.client.labeler import LabelerClient, LabelResult
from isocost.client.queue import QueueClient
from isocost.client.retry import RetryPolicy
from isocost.client.sync import SyncBudgetClient, SyncQueueClient
from isocost.client.trainer import TrainerClient
from isocost.core.channel import ChannelSettings
from isocost.core.money import Money
from isocost.resources.campaign import Campaign
from isocost.resources.label import Label, Purpose, one_hot
from isocost.resources.task import Item, Source, SourceKind, Task

__all__ = [
    "BudgetClient",
    "Campaign",
    "ChannelSettings",
    "Item",
    "Label",
    "LabelResult",
    "LabelerClient",
    "Money",
    "Purpose",
    "QueueClient",
    "RetryPolicy",
    "Source",
    "SourceKind",
    "SyncBudgetClient",
    "SyncQueueClient",
    "Task",
    "TrainerClient",
    "one_hot",
]
