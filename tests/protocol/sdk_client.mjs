// A client made with the official TypeScript SDK:
// `node sdk_client.mjs ERA SDK-FOLDER URL` or `… ERA SDK-FOLDER COMMAND ARGUMENT…`, ERA being legacy, auto or modern.
// Prints what it was answered as one JSON object.
import { existsSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [, , era, sdk, first, ...rest] = process.argv;
// Version 1 has one file for each part; version 2 is a package of its own for clients.
const isFirst = existsSync(`${sdk}/dist/esm/client/index.js`);
const from = (part, later) =>
  import(pathToFileURL(isFirst ? `${sdk}/dist/esm/client/${part}.js` : `${sdk}/dist/${later}.mjs`).href);
const { Client } = await from("index", "index");

let transport;
if (first.startsWith("http")) {
  const { StreamableHTTPClientTransport } = await from("streamableHttp", "index");
  transport = new StreamableHTTPClientTransport(new URL(first));
} else {
  const { StdioClientTransport } = await from("stdio", "stdio");
  transport = new StdioClientTransport({ command: first, args: rest, env: process.env, stderr: "ignore" });
}
const mode = { legacy: "legacy", auto: "auto", modern: { pin: "2026-07-28" } }[era];
const client = new Client({ name: "typescript", version: "1" }, isFirst ? {} : { versionNegotiation: { mode } });
await client.connect(transport);
const call = async (name, args) => client.callTool({ name, arguments: args });

const { tools } = await client.listTools();
const created = await call("task_create", { title: "From TypeScript", idempotency_key: "typescript-1" });
const key = created.structuredContent.task.key;
const again = await call("task_create", { title: "From TypeScript", idempotency_key: "typescript-1" });
const uri = `bmad://tasks/${key}`;

// Version 2025-11-25 tells a subscriber over stdio only; there the Python client is the one that tries it.
let heard = null;
if (era !== "legacy") {
  heard = new Promise((tell) => {
    client.setNotificationHandler("notifications/resources/updated", (told) => tell(told.params.uri));
  });
  const following = await client.listen({ resourceSubscriptions: [uri] });
  heard = heard.finally(() => following.close());
}
const completed = await client.complete({
  ref: { type: "ref/resource", uri: "bmad://tasks/{task}" },
  argument: { name: "task", value: "T-" },
});
const claimed = await call("task_claim", { agent: "dev", task: key });
const lease = claimed.structuredContent.lease;
const done = await call("task_complete", { task: key, lease, summary: "Done." });
const late = await call("task_complete", { task: key, lease: lease + 7 });
const read = await client.readResource({ uri });
const prompt = await client.getPrompt({ name: "dev" });
console.log(
  JSON.stringify({
    server: client.getServerVersion().name,
    version: isFirst ? null : client.getNegotiatedProtocolVersion(),
    tools: tools.map((tool) => tool.name),
    key,
    again: again.structuredContent.task.key,
    status: done.structuredContent.task.status,
    late: { isError: late.isError, text: late.content[0].text },
    read: JSON.parse(read.contents[0].text).task?.key ?? JSON.parse(read.contents[0].text).key,
    prompt: prompt.messages[0].content.text.length > 0,
    completed: completed.completion.values,
    heard: await heard,
  }),
);
await client.close();
