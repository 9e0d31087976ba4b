"""What all sections of a campaign file have in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

__all__ = ["Section"]


class Section(BaseModel):
    """Part of a campaign file: no unknown fields, unchangeable once read."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)
