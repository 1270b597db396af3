// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// The TypeScript SDK's client, first generation: over HTTP to URL, or over stdio to the program in the arguments, a bridge.
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { steps } from './steps.mjs';

const [command, ...args] = process.argv.slice(2);
const transport = command
  ? new StdioClientTransport({ command, args, env: { ...process.env }, stderr: 'inherit' })
  : new StreamableHTTPClientTransport(new globalThis.URL(process.env.URL));
let negotiated;
transport.setProtocolVersion = ((set) => (version) => {
  negotiated = version;
  set?.call(transport, version);
})(transport.setProtocolVersion);
const client = new Client({ name: 'vmcp-conformance', version: '1' });
await steps({
  connect: () => client.connect(transport),
  version: () => negotiated,
  call: client,
});
await client.close();
process.exit(0);
