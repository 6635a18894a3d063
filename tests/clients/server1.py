"""An MCP server of the revisions before 2026-07-28: Streamable HTTP with sessions, or HTTP+SSE.

Runs in the environment of requirements-mcp1.txt.
"""

import argparse

import uvicorn
from mcp.server.fastmcp import FastMCP
from mcp.server.transport_security import TransportSecuritySettings
from starlette.requests import Request
from starlette.responses import PlainTextResponse

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--host", required=True)
parser.add_argument("--port", type=int, required=True)
parser.add_argument("--transport", choices=["streamable-http", "sse"], default="streamable-http")
parser.add_argument("--cert")
parser.add_argument("--key")
args = parser.parse_args()

# A pod answers to its address, whatever it is: the check is for servers on a developer's machine.
server = FastMCP(
    "tool-executor",
    transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),
)


@server.tool()
def add(a: int, b: int) -> int:
    """Adds two numbers."""
    return a + b


@server.custom_route("/healthz", methods=["GET"])
async def healthz(_request: Request) -> PlainTextResponse:
    return PlainTextResponse("ok")


app = server.sse_app() if args.transport == "sse" else server.streamable_http_app()
uvicorn.run(
    app,
    host=args.host,
    port=args.port,
    ssl_certfile=args.cert,
    ssl_keyfile=args.key,
    log_level="warning",
    timeout_graceful_shutdown=1,
    # On a slow machine a client would meet the end of an idle connection with a request.
    timeout_keep_alive=600,
)
