// The dashboard's pages beside the board: each draws into a root what it reads.
import { Analytics } from "./analytics.js";
import { lines } from "./plots.js";
import { call, fetchJson } from "./rest.js";
import { el, figures, labelled, named, plain, replace, shown, table, words } from "./text.js";
import { countdown, since } from "./time.js";
import { WorkflowMap } from "./workflow.js";

// So many held tasks are read one by one, for the moment at which each was taken.
const HELD_SHOWN = 30;

/** All items of a list, page by page, up to `most`. */
async function all(name, given = {}, most = 500) {
  const items = [];
  let cursor;
  do {
    const page = await call(name, { ...given, limit: 100, cursor });
    items.push(...page.items);
    cursor = page.next_cursor;
  } while (cursor && items.length < most);
  return items;
}

export class AgentsPage {
  constructor(root) {
    this._root = root;
  }

  async refresh() {
    const [agents, tasks] = await Promise.all([all("agent_list"), this._held()]);
    const rows = agents.map((one) => [
      el("span", {}, el("strong", {}, shown(one.agent)), " ", shown(one.name)),
      one.title,
      el("span", {}, el("span", { class: `dot s-${one.status}` }), words(one.status)),
      this._work(tasks.filter((task) => task.held_by === one.agent)),
      since(one.last_seen),
    ]);
    replace(this._root, table("Who works on what", ["Agent", "Role", "Status", "Works on", "Last seen"], rows));
  }

  /** The tasks that are held now, each with its lease and its history. */
  async _held() {
    const lists = await Promise.all(["active", "in_progress"].map((status) => all("task_list", { status })));
    const held = lists.flat().filter((task) => task.held_by);
    const read = await Promise.all(held.slice(0, HELD_SHOWN).map((task) => call("task_get", { task: task.key })));
    return read.map((answer) => answer.task).filter((task) => task.lease_until);
  }

  _work(tasks) {
    if (!tasks.length) return "–";
    return el(
      "ul",
      { class: "claims" },
      tasks.map((task) => {
        const taken = task.history?.findLast((one) => ["task_claim", "task_start"].includes(one.operation));
        return el(
          "li",
          {},
          `${plain(task.key)} `,
          shown(task.title),
          task.story ? ` (story ${plain(task.story)})` : "",
          taken ? [", taken ", since(taken.at)] : null,
          ", ",
          countdown(task.lease_until),
        );
      }),
    );
  }
}

/** Who did it: the agent, else whoever called. */
const doer = (one) => one.agent ?? one.by;

/** What was done to what: `create task T-4`, as the names of operations begin with the noun that the subject has too. */
function deed(operation, subject) {
  // What was refused was not done, so no thing is named.
  if (operation === "refused") return "was refused";
  const [noun, ...verb] = operation.split("_");
  const told = String(subject ?? "");
  return (told === noun || told.startsWith(`${noun} `)) && verb.length ? verb.join(" ") : words(operation);
}

const about = (one) => (one.operation === "refused" ? String(one.subject).replace(/^operation /, "") : one.subject);

export class ActivityPage {
  constructor(root) {
    this._agent = el("input", { type: "search", autocomplete: "off", on: { change: () => this.refresh() } });
    this._subject = el("input", { type: "search", autocomplete: "off", placeholder: "T-4, 1.2, W-3", on: { change: () => this.refresh() } });
    this._list = el("ol", { class: "stream" });
    root.append(
      el("form", { class: "filter", on: { submit: (event) => event.preventDefault() } }, labelled("Agent", this._agent), labelled("About", this._subject)),
      this._list,
    );
  }

  async refresh() {
    const { items } = await call("activity_list", { limit: 60, agent: this._agent.value.trim(), subject: this._subject.value.trim() });
    const rows = items.map((one) =>
      el(
        "li",
        {},
        since(one.at),
        el("span", { class: "who" }, doer(one) ? shown(doer(one)) : "–"),
        el("span", {}, deed(one.operation, one.subject), " ", shown(about(one)), one.section ? [", ", shown(one.section)] : null, one.status ? ` → ${words(one.status)}` : ""),
        one.note ? el("q", {}, shown(one.note)) : null,
      ),
    );
    replace(this._list, rows.length ? rows : el("li", {}, "Nothing yet."));
  }
}

export class EpicsPage {
  constructor(root) {
    this._root = root;
  }

  async refresh() {
    const [epics, burnup] = await Promise.all([all("epic_list"), call("epic_burnup")]);
    const rows = epics.map((epic) => {
      const counts = epic.stories ?? {};
      const scope = Object.entries(counts).reduce((sum, [status, count]) => sum + (status === "cancelled" ? 0 : count), 0);
      const done = counts.done ?? 0;
      return [
        el("span", {}, el("span", { class: "key" }, plain(epic.key)), " ", shown(epic.title)),
        words(epic.status),
        el("span", { class: "progress" }, el("progress", { max: Math.max(scope, 1), value: done, "aria-label": `Epic ${plain(epic.key)}` }), ` ${done}/${scope}`),
        Object.entries(counts).map(([status, count]) => `${count} ${words(status)}`).join(", "),
      ];
    });
    const plots = burnup.items.map((one) =>
      lines(one.epic ? `Epic ${plain(one.epic)}` : "All epics", burnup.days, [
        { name: "Stories", values: one.scope_counts },
        { name: "Done", values: one.done_counts },
      ]),
    );
    replace(
      this._root,
      table("Epics", ["Epic", "Status", "Done", "Stories"], rows),
      el("h3", {}, "Burn-up"),
      el("div", { class: "plots" }, plots),
    );
  }
}

export class WorkflowsPage {
  constructor(root) {
    this._chosen = el("select", { on: { change: () => this.refresh() } });
    this._map = el("div");
    this._view = new WorkflowMap(this._map);
    this._empty = el("p", { class: "note" });
    root.append(labelled("Workflow", this._chosen), this._empty, this._map);
  }

  async refresh() {
    const runs = (await all("workflow_list", {}, 200)).reverse();
    this._empty.textContent = runs.length ? "" : "No workflow has been started.";
    const chosen = this._chosen.value || runs.find((one) => one.status === "active")?.key || runs[0]?.key;
    this._chosen.replaceChildren(
      ...runs.map((one) => el("option", { value: one.key, selected: one.key === chosen }, `${plain(one.key)} ${plain(one.title)} (${words(one.status)})`)),
    );
    if (chosen) this._view.show(await call("workflow_get", { workflow: chosen }));
  }
}

export class AnalyticsPage {
  constructor(root) {
    this._days = el(
      "select",
      { on: { change: () => this.refresh() } },
      ["7", "30", "90"].map((days) => el("option", { value: days, selected: days === "30" }, days)),
    );
    const area = el("div");
    this._view = new Analytics(area);
    root.append(labelled("Days", this._days), area);
  }

  async refresh() {
    this._view.show(await call("analytics_overview", { days: this._days.value }));
  }
}

export class DriftPage {
  constructor(root) {
    this._root = root;
  }

  async refresh() {
    const [drift, { next, leases, handoffs }] = await Promise.all([call("project_drift"), call("project_status")]);
    const hidden = drift.count - drift.items.reduce((sum, one) => sum + one.count, 0);
    const rows = drift.items.map((one) => [one.between, one.first, String(one.count), one.field ?? one.file, one.tracker, words(one.database), el("code", {}, shown(one.mend))]);
    replace(
      this._root,
      figures([
        ["Stories that drift", drift.count],
        ["Sync", drift.sync?.state ?? "off", drift.sync?.reason],
      ]),
      rows.length
        ? table("Where files, tracker and database disagree", ["Between", "First", "Stories", "File", "Tracker", "Database", "Mend"], rows)
        : el("p", {}, "Files, tracker and database agree."),
      hidden > 0
        ? el("p", { class: "note" }, `${hidden} more are not listed here: `, el("code", {}, "bmad-mcp import PATH --dry-run"), " lists them all.")
        : null,
      el("h3", {}, "What comes next"),
      el("ul", {}, next.length ? next.map((one) => el("li", {}, shown(one))) : el("li", {}, "Nothing waits.")),
      leases
        ? table("Leases that end soon", ["Task", "Agent", "Left"], leases.map((one) => [one.task, one.agent, countdown(one.until)]))
        : null,
      handoffs
        ? table("Handoffs that wait", ["Handoff", "From", "To", "About"], handoffs.map((one) => [one.key, one.from, one.to, one.task ?? one.story]))
        : null,
    );
  }
}

export class SettingsPage {
  constructor(root) {
    this._root = root;
  }

  async refresh() {
    const { items } = await fetchJson("dashboard/settings.json");
    replace(
      this._root,
      el("p", { class: "note" }, "The operator sets these as environment variables or options; nothing is changed here."),
      items.length
        ? table("Settings of this server", ["Variable", "Value", "Meaning"], items.map((one) => [el("code", {}, named(one.name)), one.value, one.about]))
        : el("p", {}, "This server does not show its settings."),
    );
  }
}

