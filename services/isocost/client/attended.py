"""What tools share at which an annotator answers one item after another: the terminal and the web page."""

from __future__ import annotations

from datetime import timedelta

from isocost.core.ids import content_digest

__all__ = ["ATTENDED_LEASE_DURATION", "answer_request_id"]

#: Short, as heartbeats keep it: this long after a tool was killed, its items are handed out again.
ATTENDED_LEASE_DURATION = timedelta(minutes=2)


def answer_request_id(lease_id: str, item_id: str) -> str:
    """The request id of one answer, made of the lease and the item: however often it is sent, it is stored once."""
    return f"{lease_id}:{content_digest(item_id)}"
