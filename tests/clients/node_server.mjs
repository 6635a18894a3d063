// An MCP server of npm's SDK (Streamable HTTP with sessions).
//
// node node_server.mjs HOST PORT

import { randomUUID } from 'node:crypto';
import { sdk } from './sdk.mjs';

const { McpServer } = await sdk('@modelcontextprotocol/sdk/server/mcp.js');
const { StreamableHTTPServerTransport } = await sdk('@modelcontextprotocol/sdk/server/streamableHttp.js');
const { isInitializeRequest } = await sdk('@modelcontextprotocol/sdk/types.js');
const { default: express } = await sdk('express');
const { z } = await sdk('zod');

const [host, port] = process.argv.slice(2);
const sessions = new Map();

async function transportFor(request) {
  const known = sessions.get(request.headers['mcp-session-id']);
  if (known || !isInitializeRequest(request.body)) return known;
  const transport = new StreamableHTTPServerTransport({
    sessionIdGenerator: randomUUID,
    onsessioninitialized: (id) => sessions.set(id, transport),
  });
  const server = new McpServer({ name: 'tool-executor', version: '1.0.0' });
  server.registerTool('add', { description: 'Adds two numbers.', inputSchema: { a: z.number(), b: z.number() } }, ({ a, b }) => ({
    content: [{ type: 'text', text: String(a + b) }],
  }));
  await server.connect(transport);
  return transport;
}

const app = express();
app.get('/healthz', (_request, response) => response.send('ok'));
app.all('/mcp', express.json(), async (request, response) => {
  const transport = await transportFor(request);
  if (transport) await transport.handleRequest(request, response, request.body);
  else response.status(400).end();
});
// On a slow machine a client would meet the end of an idle connection, five seconds by default, with a request.
app.listen(Number(port), host).keepAliveTimeout = 600_000;
