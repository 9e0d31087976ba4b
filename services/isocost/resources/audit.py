"""The audit log."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from isocost.resources.label import time_from_proto, time_to_proto
from isocost.v1 import resources_pb2

__all__ = ["AuditEntry"]


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One mutation, as it was carried out.

    Attributes:
        request_id: The caller's.
        method: Name of the rpc.
        campaign_id: The campaign it changed; "" where it named none.
        principal, role: Name and role on the caller's token; "" where calls carry none.
        peer: The caller's network address.
        body_digest: SHA-256 of the request's body, hexadecimal.
        create_time: When.
    """

    request_id: str
    method: str
    campaign_id: str
    principal: str
    role: str
    peer: str
    body_digest: str
    create_time: datetime | None = None

    @classmethod
    def from_proto(cls, message: resources_pb2.AuditEntry) -> AuditEntry:
        """Converts from the wire."""
        return cls(
            request_id=message.request_id,
            method=message.method,
            campaign_id=message.campaign_id,
            principal=message.principal,
            role=message.role,
            peer=message.peer,
            body_digest=message.body_digest,
            create_time=time_from_proto(message.create_time),
        )

    def to_proto(self) -> resources_pb2.AuditEntry:
        """Converts to the wire."""
        return resources_pb2.AuditEntry(
            request_id=self.request_id,
            method=self.method,
            campaign_id=self.campaign_id,
            principal=self.principal,
            role=self.role,
            peer=self.peer,
            body_digest=self.body_digest,
            create_time=time_to_proto(self.create_time),
        )
