// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// The TypeScript SDK's client, second generation. URL and MODE (legacy, auto, or the version it is pinned to) in the environment.
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
import { steps } from './steps.mjs';

const { URL: url, MODE: mode } = process.env;
const client = new Client(
  { name: 'vmcp-conformance', version: '1' },
  { versionNegotiation: { mode: mode === 'legacy' || mode === 'auto' ? mode : { pin: mode } } },
);
await steps({
  connect: () => client.connect(new StreamableHTTPClientTransport(new globalThis.URL(url))),
  version: () => client.getNegotiatedProtocolVersion(),
  call: client,
});
await client.close();
process.exit(0);
