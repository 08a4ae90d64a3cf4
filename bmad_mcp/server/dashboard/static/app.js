// The views inside an MCP host: the board, a workflow's map, or the numbers, as the document's `data-view` says.
import { Actions } from "./actions.js";
import { Analytics } from "./analytics.js";
import { Board } from "./board.js";
import { Bridge, structured } from "./bridge.js";
import { STORY_STATUSES } from "./vocabulary.js";
import { StoryPanel } from "./story.js";
import { button, shown } from "./text.js";
import { startTicking } from "./time.js";
import { WorkflowMap } from "./workflow.js";

const REFRESH_MS = 5000;
const PAGES = 10;
const root = document.getElementById("view");
const said = document.getElementById("said");
const kind = document.documentElement.dataset.view;

let host = {};
let asked = {};
let view = null;
let panel = null;
let isReading = false;
let isStale = false;

function say(text, isBad = false) {
  said.replaceChildren(shown(text));
  said.classList.toggle("bad", isBad);
}

const bridge = new Bridge(document.documentElement.dataset.version, {
  "ui/notifications/tool-input": (params) => (asked = params.arguments ?? {}),
  "ui/notifications/tool-result": (result) => receive(result),
  "ui/notifications/tool-cancelled": () => say("The call was cancelled, so there is nothing new to show."),
  "ui/notifications/host-context-changed": (context) => dress(context),
});

function dress(context) {
  if (context.theme) document.documentElement.dataset.theme = context.theme;
}

const call = (name, given) => bridge.call(name, given);
const canCall = () => host.serverTools !== undefined;

/** The items of a list, from so many pages. */
async function pages(name) {
  const items = [];
  let cursor;
  for (let page = 0; page < PAGES; page += 1) {
    const found = await call(name, { limit: 100, cursor });
    items.push(...found.items);
    cursor = found.next_cursor;
    if (!cursor) break;
  }
  return items;
}

/** The board from pages of lists, for hosts that read no resources: without when leases end. */
async function listed() {
  const columns = new Map(STORY_STATUSES.map((status) => [status, []]));
  for (const story of await pages("story_list")) columns.get(story.status).push(story);
  const items = (await pages("task_list")).filter((task) => !task.story);
  const closed_count = items.filter((task) => ["completed", "cancelled"].includes(task.status)).length;
  return {
    columns: [...columns].map(([status, stories]) => ({ status, count: stories.length, stories })),
    tasks: { open_count: items.length - closed_count, closed_count, items },
  };
}

/** The address of what is shown, for hosts that read resources. */
function address() {
  if (!host.serverResources) return null;
  if (kind === "board") return "bmad://project/board";
  return kind === "workflow" && asked.workflow ? `bmad://workflows/${encodeURIComponent(asked.workflow)}` : null;
}

/** Read again what is shown. Nobody asked for it on a timer, so then no tool is called: a host may want a consent. */
async function refresh({ onTimer = false } = {}) {
  if (onTimer && (isReading || document.hidden)) return;
  // What was changed while something is read is read right after.
  isStale = true;
  if (isReading) return;
  isReading = true;
  try {
    while (isStale) {
      isStale = false;
      await read(onTimer);
    }
  } catch (error) {
    say(error.message, true);
  } finally {
    isReading = false;
  }
}

async function read(onTimer) {
  const uri = address();
  if (uri) view.show(await bridge.read(uri));
  else if (onTimer || !canCall()) return;
  else if (kind === "board") view.show(await listed());
  else if (kind === "workflow" && asked.workflow) view.show(await call("workflow_get", { workflow: asked.workflow }));
  else if (kind === "analytics") view.show(await call("analytics_overview", asked));
  if (!onTimer) await panel?.refresh();
}

async function receive(result) {
  if (result.isError) {
    say(result.content?.[0]?.text ?? "The call was refused.", true);
    return;
  }
  const data = structured(result);
  if (kind === "workflow" && data.stages) {
    asked.workflow = data.workflow.key;
    view.show(data);
  } else if (kind === "analytics" && data.trends) {
    view.show(data);
  } else {
    await refresh();
  }
}

async function begin() {
  const told = await bridge.connect();
  host = told.hostCapabilities ?? {};
  dress(told.hostContext ?? {});
  if (kind === "board") {
    const act = canCall() ? new Actions(call, () => refresh()) : null;
    panel = new StoryPanel({ call, act, say });
    view = new Board(root, { act, open: (key) => (canCall() ? panel.open(key) : say("This host lets views call no tools.")), say });
  } else {
    view = kind === "workflow" ? new WorkflowMap(root) : new Analytics(root);
  }
  document.querySelector("header").append(button("Refresh", () => refresh(), { class: "quiet" }));
  await refresh({ onTimer: true });
  startTicking();
  setInterval(() => refresh({ onTimer: true }), REFRESH_MS);
  const body = document.documentElement;
  new ResizeObserver(() => bridge.size(body.scrollWidth, body.offsetHeight)).observe(document.body);
  document.documentElement.dataset.ready = "yes";
}

begin().catch((error) => say(error.message, true));
