"""An MCP client of the revisions before 2026-07-28: lists the tools and calls one of them.

Prints one JSON line of what it got. Runs in the environment of requirements-mcp1.txt.
"""

import argparse
import asyncio
import json
import os
import ssl

import httpx
from mcp import ClientSession
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--url", required=True)
parser.add_argument("--transport", choices=["streamable-http", "sse"], default="streamable-http")
parser.add_argument("--token", help="bearer token of the Authorization header")
parser.add_argument("--ca", help="certificate to trust, instead of the system's")
parser.add_argument("--calls", type=int, default=1, help="tool calls to make")
args = parser.parse_args()

# Seconds; a machine whose processor is emulated is told to have more patience.
TIMEOUT = 20 * int(os.environ.get("PLAINSIGHT_PATIENCE", "1"))


def http_client(headers=None, timeout=None, auth=None) -> httpx.AsyncClient:
    verify = ssl.create_default_context(cafile=args.ca) if args.ca else True
    return httpx.AsyncClient(headers=headers, timeout=timeout or TIMEOUT, auth=auth, verify=verify)


async def use(read, write) -> None:
    async with ClientSession(read, write) as session:
        await session.initialize()
        tools = [tool.name for tool in (await session.list_tools()).tools]
        for n in range(args.calls):
            result = await session.call_tool("add", {"a": 40 + n, "b": 2})
    print(json.dumps({"tools": tools, "result": result.content[0].text}), flush=True)


async def main() -> None:
    headers = {"Authorization": f"Bearer {args.token}"} if args.token else {}
    if args.transport == "sse":
        async with sse_client(args.url, headers=headers, httpx_client_factory=http_client) as (read, write):
            await use(read, write)
    else:
        async with http_client(headers=headers) as http:
            async with streamable_http_client(args.url, http_client=http) as (read, write, _session_id):
                await use(read, write)


asyncio.run(main())
