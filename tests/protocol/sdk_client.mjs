// A client made with the official TypeScript SDK: `node sdk_client.mjs SDK-FOLDER URL` or `… SDK-FOLDER COMMAND ARGUMENT…`.
// Prints what it was answered as one JSON object.
import { pathToFileURL } from "node:url";

const [, , sdk, first, ...rest] = process.argv;
const from = (part) => import(pathToFileURL(`${sdk}/dist/esm/client/${part}.js`).href);
const { Client } = await from("index");

let transport;
if (first.startsWith("http")) {
  const { StreamableHTTPClientTransport } = await from("streamableHttp");
  transport = new StreamableHTTPClientTransport(new URL(first));
} else {
  const { StdioClientTransport } = await from("stdio");
  transport = new StdioClientTransport({ command: first, args: rest, env: process.env, stderr: "ignore" });
}
const client = new Client({ name: "typescript", version: "1" });
await client.connect(transport);
const call = async (name, args) => client.callTool({ name, arguments: args });

const { tools } = await client.listTools();
const created = await call("task_create", { title: "From TypeScript", idempotency_key: "typescript-1" });
const key = created.structuredContent.task.key;
const again = await call("task_create", { title: "From TypeScript", idempotency_key: "typescript-1" });
const completed = await client.complete({
  ref: { type: "ref/resource", uri: "bmad://tasks/{task}" },
  argument: { name: "task", value: "T-" },
});
const claimed = await call("task_claim", { agent: "dev", task: key });
const lease = claimed.structuredContent.lease;
const done = await call("task_complete", { task: key, lease, summary: "Done." });
const late = await call("task_complete", { task: key, lease: lease + 7 });
const read = await client.readResource({ uri: `bmad://tasks/${key}` });
const prompt = await client.getPrompt({ name: "dev" });
console.log(
  JSON.stringify({
    server: client.getServerVersion().name,
    tools: tools.map((tool) => tool.name),
    key,
    again: again.structuredContent.task.key,
    status: done.structuredContent.task.status,
    late: { isError: late.isError, text: late.content[0].text },
    read: JSON.parse(read.contents[0].text).task?.key ?? JSON.parse(read.contents[0].text).key,
    prompt: prompt.messages[0].content.text.length > 0,
    completed: completed.completion.values,
  }),
);
await client.close();
