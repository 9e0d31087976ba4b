"""The Python client: the three services with domain objects instead of wire messages."""

from isocost.client.budget import BudgetClient
from isocost.client.labeler import LabelerClient, LabelResult
from isocost.client.trainer import TrainerClient

__all__ = ["BudgetClient", "LabelResult", "LabelerClient", "TrainerClient"]
