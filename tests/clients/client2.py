"""An MCP client of protocol revision 2026-07-28: lists the tools and calls one of them.

Prints one JSON line of what it got. Runs in the environment of requirements-mcp2.txt.
"""

import argparse
import asyncio
import json
import os
import ssl

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--url", required=True)
parser.add_argument("--token", help="bearer token of the Authorization header")
parser.add_argument("--ca", help="certificate to trust, instead of the system's")
parser.add_argument("--calls", type=int, default=1, help="tool calls to make")
args = parser.parse_args()

# Seconds; a machine whose processor is emulated is told to have more patience.
TIMEOUT = 20 * int(os.environ.get("PLAINSIGHT_PATIENCE", "1"))


async def main() -> None:
    headers = {"Authorization": f"Bearer {args.token}"} if args.token else {}
    verify = ssl.create_default_context(cafile=args.ca) if args.ca else True
    async with httpx2.AsyncClient(headers=headers, verify=verify, timeout=TIMEOUT) as http:
        async with Client(streamable_http_client(args.url, http_client=http)) as client:
            tools = [tool.name for tool in (await client.list_tools()).tools]
            for n in range(args.calls):
                result = await client.call_tool("add", {"a": 40 + n, "b": 2})
    print(json.dumps({"tools": tools, "result": result.content[0].text}), flush=True)


asyncio.run(main())
