// An MCP client of npm's SDK (Streamable HTTP): lists the tools and calls one of them.
//
// node node_client.mjs URL [TOKEN]; prints one JSON line of what it got.

import { sdk } from './sdk.mjs';

const { Client } = await sdk('@modelcontextprotocol/sdk/client/index.js');
const { StreamableHTTPClientTransport } = await sdk('@modelcontextprotocol/sdk/client/streamableHttp.js');

const [url, token] = process.argv.slice(2);
const headers = token ? { Authorization: `Bearer ${token}` } : {};
const client = new Client({ name: 'gateway', version: '1.0.0' });
await client.connect(new StreamableHTTPClientTransport(new URL(url), { requestInit: { headers } }));
const { tools } = await client.listTools();
const result = await client.callTool({ name: 'add', arguments: { a: 40, b: 2 } });
console.log(JSON.stringify({ tools: tools.map((tool) => tool.name), result: result.content[0].text }));
await client.close();
