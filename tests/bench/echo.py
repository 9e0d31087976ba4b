"""A bare grpc.aio echo in a process of its own: what no service can be faster than."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc

from isocost.v1 import budget_service_pb2 as pb

__all__ = ["ECHO_METHOD"]

ECHO_METHOD = "/isocost.bench.Echo/Echo"


class _Echo(grpc.GenericRpcHandler):
    """Answers each message with itself; parses and writes it, as every servicer does."""

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any]:
        async def echo(request: pb.GetCampaignRequest, context: Any) -> pb.GetCampaignRequest:
            return request

        return grpc.unary_unary_rpc_method_handler(
            echo,
            request_deserializer=pb.GetCampaignRequest.FromString,
            response_serializer=pb.GetCampaignRequest.SerializeToString,
        )


async def _serve() -> None:
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((_Echo(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"127.0.0.1:{port}", flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(_serve())
