// One story in a dialog: its text, its tasks, and what can be done with them.
import { button, el, labelled, plain, replace, shown, table, words } from "./text.js";
import { since } from "./time.js";

const TASKS = /^\W*(sub)?tasks\b/i;

export class StoryPanel {
  /** `address(key)` is told which story is open, null for none: who shows it may give that an address. */
  constructor({ call, act, say, address }) {
    this._call = call;
    this._act = act;
    this._say = say;
    this._address = address;
    this._key = null;
    this._agents = [];
    this._body = el("div", { class: "panel-body", data: { scroll: "panel" }, tabindex: "0" });
    this._name = el("h2", { id: "story-title" });
    this._said = el("p", { class: "note", role: "status" });
    this._dialog = el(
      "dialog",
      { class: "panel", "aria-labelledby": "story-title", on: { close: () => this._close() } },
      el("header", {}, this._name, button("Close", () => this._dialog.close(), { class: "quiet", autofocus: address !== undefined })),
      this._said,
      this._body,
    );
    document.body.append(this._dialog);
  }

  async open(key) {
    this._key = key;
    this._said.textContent = "";
    const isThere = await this.refresh();
    if (this._key !== key) return;
    if (!isThere && !this._dialog.open) {
      this._close();
      return;
    }
    if (!this._dialog.open) this._dialog.showModal();
    this._address?.(key);
  }

  /** Close it, if one is open. */
  close() {
    if (this._dialog.open) this._dialog.close();
  }

  /** The focus goes back to the story's card, which may have been drawn anew meanwhile. */
  _close() {
    document.querySelector(`[data-focus="open ${CSS.escape(this._key)}"]`)?.focus();
    this._key = null;
    this._address?.(null);
  }

  /** Read the open story again; whether it could be read. */
  async refresh() {
    const key = this._key;
    if (key === null) return false;
    try {
      if (this._act && !this._agents.length) {
        this._agents = (await this._call("agent_list", { limit: 100 })).items.map((one) => one.agent);
        if (!this._agents.includes(this._act.agent)) this._act.agent = this._agents[0];
      }
      const ready = this._call("task_list", { story: key, ready: true, limit: 100 });
      const [story, { items }] = await Promise.all([this._call("story_get", { story: key }), ready]);
      const claimable = new Set(items.map((one) => one.key));
      if (this._key === key) this._show(story, claimable);
      return true;
    } catch (error) {
      this._say(error.message, true);
      return false;
    }
  }

  _show(story, claimable) {
    const key = plain(story.key);
    const link = this._address ? el("a", { class: "key", href: `#story/${key}` }, key) : el("span", { class: "key" }, key);
    this._name.replaceChildren(link, " ", shown(story.title));
    const facts = [
      ["Status", words(story.status)],
      ["Priority", story.priority],
      ["Points", story.points],
      ["Epic", `${story.epic} ${story.epic_title ?? ""}`],
      ["File", story.file],
      ["Version", story.version],
    ].filter(([, value]) => value !== undefined && value !== null);
    const sections = story.sections.filter((section) => section.text);
    replace(
      this._body,
      el("dl", { class: "pairs" }, facts.map(([name, value]) => [el("dt", {}, name), el("dd", {}, shown(value))])),
      el("p", { class: "note" }, "Changed ", since(story.updated_at)),
      story.gate ? el("p", {}, "Gate: ", shown(story.gate.gate ?? "")) : null,
      this._tasks(story.tasks, claimable),
      story.acceptance.length && !sections.some((one) => one.name === "Acceptance Criteria")
        ? [el("h3", {}, "Acceptance criteria"), el("ol", {}, story.acceptance.map((one) => el("li", {}, shown(one))))]
        : null,
      sections.map((section) => this._section(section, story.tasks.length > 0)),
    );
  }

  /** A section; the check boxes that the tasks above came from are there for whoever wants the text. */
  _section(section, hasTasks) {
    const text = el("p", { class: "prose" }, shown(section.text));
    if (!hasTasks || !TASKS.test(section.name)) return [el("h3", {}, shown(section.name)), text];
    return el("details", { data: { focus: "task text" } }, el("summary", {}, "The tasks as the story's text has them"), text);
  }

  _tasks(tasks, claimable) {
    if (!tasks.length) return [el("h3", {}, "Tasks"), el("p", { class: "note" }, "None")];
    const rows = tasks.map((task) => [
      el("span", {}, el("span", { class: "key" }, plain(task.key)), " ", shown(task.title)),
      words(task.status),
      task.held_by ?? "–",
      el("span", { class: "choices" }, this._act ? this._choices(task, claimable.has(task.key)) : []),
    ]);
    const who = this._act
      ? labelled(
          "Claim as",
          el(
            "select",
            { data: { focus: "claim as" }, on: { change: (event) => (this._act.agent = event.target.value) } },
            this._agents.map((name) => el("option", { value: name, selected: name === this._act.agent }, plain(name))),
          ),
        )
      : null;
    return [el("h3", {}, "Tasks"), who, table("Tasks of this story", ["Task", "Status", "Held by", "Do"], rows, { hasHeading: true })];
  }

  _choices(task, isClaimable) {
    const does = (label, run, told) =>
      button(
        label,
        async () => {
          try {
            await run();
            this._said.replaceChildren(told);
          } catch (error) {
            this._said.replaceChildren(shown(error.message));
          }
          await this.refresh();
        },
        { "aria-label": `${label} ${plain(task.key)}`, data: { focus: `${label} ${task.key}` } },
      );
    const { leases } = this._act;
    if (leases.has(task.key) && ["active", "in_progress"].includes(task.status)) {
      return [
        task.status === "active" ? does("Start", () => this._act.start(task.key), `${task.key} is begun.`) : null,
        does("Extend", () => this._act.extend(task.key), `The lease of ${task.key} is longer.`),
        does("Complete", () => this._act.complete(task.key), `${task.key} is complete.`),
        does("Release", () => this._act.release(task.key), `${task.key} is free again.`),
      ];
    }
    return isClaimable ? [does("Claim", () => this._act.claim(task.key), `${task.key} is held by ${this._act.agent}.`)] : [];
  }
}
