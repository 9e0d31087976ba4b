"""Stands before a real vLLM server: counts what is sent to it, and takes away what older servers do not know."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
from aiohttp import web

__all__ = ["VllmProxy", "running_proxy"]


@dataclass
class VllmProxy:
    """A proxy.

    Attributes:
        upstream: The server's URL.
        url: Its own.
        drops: Fields of a request that are taken out, as a server ignores what it does not know.
        missing: Paths that are answered 404.
        n_prompts, n_prompt_tokens: Sent so far; the probe does not count.
        n_requests: Requests with prompts so far.
    """

    upstream: str
    url: str = ""
    drops: set[str] = field(default_factory=set)
    missing: set[str] = field(default_factory=set)
    n_prompts: int = 0
    n_prompt_tokens: int = 0
    n_requests: int = 0
    _arrived: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def wait_for(self, n_requests: int) -> None:
        """Waits until so many requests with prompts have come."""
        async with self._arrived:
            await self._arrived.wait_for(lambda: self.n_requests >= n_requests)

    async def pass_on(self, request: web.Request, session: aiohttp.ClientSession) -> web.Response:
        if request.path in self.missing:
            return web.json_response({"detail": "Not Found"}, status=404)
        body = await request.read()
        if body:
            asked = {name: value for name, value in json.loads(body).items() if name not in self.drops}
            prompts = [prompt for prompt in asked.get("prompt", ()) if prompt != [0, 0]]
            if prompts:
                self.n_prompts += len(prompts)
                self.n_prompt_tokens += sum(map(len, prompts))
                self.n_requests += 1
                async with self._arrived:
                    self._arrived.notify_all()
            body = json.dumps(asked).encode()
        headers = {"Content-Type": "application/json"}
        try:
            async with session.request(
                request.method, f"{self.upstream}{request.path}", data=body or None, headers=headers
            ) as answer:
                return web.Response(
                    body=await answer.read(), status=answer.status, content_type=answer.content_type or None
                )
        except aiohttp.ClientError as error:
            return web.json_response({"error": str(error)}, status=502)


@asynccontextmanager
async def running_proxy(upstream: str) -> AsyncIterator[VllmProxy]:
    proxy = VllmProxy(upstream)
    async with aiohttp.ClientSession() as session:

        async def handle(request: web.Request) -> web.Response:
            return await proxy.pass_on(request, session)

        app = web.Application(client_max_size=1 << 30)
        app.router.add_route("*", "/{path:.*}", handle)
        # A labeler that is killed leaves its requests here: they are not waited for.
        runner = web.AppRunner(app, shutdown_timeout=0)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        proxy.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield proxy
        # First: what a killed server never answers would be waited for.
        await session.close()
        await runner.cleanup()
