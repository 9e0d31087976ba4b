"""The three regimes along the budget axis (Mallen & Belrose 2024, section 1)."""

from __future__ import annotations

from enum import Enum

__all__ = ["Regime"]


class Regime(Enum):
    """Which mix of labels is best at a budget."""

    UNSPECIFIED = "unknown"
    QUANTITY_DOMINANT = "quantity-dominant"
    MIXED = "mixed"
    QUALITY_DOMINANT = "quality-dominant"
