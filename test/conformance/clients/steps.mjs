// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// What each client does, and how it tells the runner: one line of JSON for each step. A step that fails ends only itself, except
// the first.
export async function steps({ connect, version, call }) {
  const { TOOL: tool, PROMPT: prompt, URI: uri, VERSION: expected } = process.env;
  const step = async (name, run) => {
    try {
      await run();
      console.log(JSON.stringify({ step: name, ok: true }));
      return true;
    } catch (error) {
      console.log(JSON.stringify({ step: name, ok: false, error: String(error?.message ?? error) }));
      return false;
    }
  };
  const holds = (condition, what) => {
    if (!condition) throw new Error(what);
  };

  if (!(await step('connect', connect))) return;
  await step('negotiate', async () => {
    const got = await version();
    holds(got === expected, `negotiated ${got}, want ${expected}`);
  });
  await step('list', async () => {
    const names = [];
    let cursor;
    do {
      const page = await call.listTools(cursor ? { cursor } : undefined);
      names.push(...page.tools.map((t) => t.name));
      cursor = page.nextCursor;
    } while (cursor);
    holds(names.includes(tool), `${tool} is not among ${names.length} tools`);
  });
  await step('call', async () => {
    const result = await call.callTool({ name: tool, arguments: {} });
    holds(result.content?.[0]?.text?.includes('simple text response'), `got ${JSON.stringify(result)}`);
  });
  await step('read', async () => {
    const result = await call.readResource({ uri });
    holds(result.contents?.[0]?.text?.includes('static text resource'), `got ${JSON.stringify(result)}`);
  });
  await step('prompt', async () => {
    const result = await call.getPrompt({ name: prompt });
    holds(result.messages?.[0]?.content?.text?.includes('simple prompt'), `got ${JSON.stringify(result)}`);
  });
}
