// Finds the packages of package.json where they were installed, which is outside the source tree:
// MCP_NODE_HOME names the folder that holds node_modules.

import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

const require = createRequire(pathToFileURL(`${process.env.MCP_NODE_HOME}/package.json`));

export const sdk = (name) => import(pathToFileURL(require.resolve(name)));
