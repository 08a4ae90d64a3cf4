// A workflow run as a map of its stages.
import { el, named, plain, replace, shown, table, words } from "./text.js";
import { since } from "./time.js";

export class WorkflowMap {
  constructor(root) {
    this._root = root;
    this._told = "";
  }

  /** Show a run: {workflow, stages, progress, tasks, earlier_stages?, more_tasks?}. */
  show(run) {
    const told = JSON.stringify(run);
    if (told === this._told) return;
    this._told = told;
    const { workflow, progress } = run;
    replace(
      this._root,
      el("h2", {}, el("span", { class: "key" }, plain(workflow.key)), " ", shown(workflow.title)),
      el(
        "p",
        {},
        el("span", { class: `dot s-${workflow.status}` }),
        `${words(workflow.status)} · `,
        shown(workflow.type),
        run.started_at ? [" · begun ", since(run.started_at)] : null,
      ),
      el(
        "label",
        { class: "progress" },
        `${progress.done} of ${progress.total} stages`,
        el("progress", { max: Math.max(progress.total, 1), value: progress.done }),
      ),
      run.earlier_stages ? el("p", { class: "note" }, `${run.earlier_stages} earlier stages are not shown.`) : null,
      el("ol", { class: "stages" }, run.stages.map((stage) => this._stage(stage))),
      run.tasks.length
        ? table("Tasks of this workflow", ["Task", "Title", "Status", "Agent"], run.tasks.map((one) => [one.key, one.title, words(one.status), one.agent]))
        : null,
      run.more_tasks ? el("p", { class: "note" }, `${run.more_tasks} more tasks are not shown.`) : null,
    );
  }

  _stage(stage) {
    const told = (name, value) => (value ? el("p", { class: "facts" }, `${name} `, named(value)) : null);
    const name = stage.step ?? stage.action ?? stage.creates ?? stage.validates ?? stage.updates ?? stage.kind ?? "stage";
    return el(
      "li",
      { class: `stage s-${stage.status}`, "aria-current": stage.status === "active" ? "step" : undefined },
      el(
        "p",
        { class: "title" },
        el("span", { class: "key" }, String(stage.position) + (stage.iteration > 1 ? ` (round ${stage.iteration})` : "")),
        " ",
        named(name),
      ),
      el(
        "p",
        { class: "facts" },
        stage.agent ? [el("span", { class: "who" }, named(stage.agent)), " "] : null,
        words(stage.status),
        stage.optional ? " · optional" : "",
      ),
      name === stage.action ? null : told("does", stage.action),
      name === stage.creates ? null : told("creates", stage.creates),
      told("updates", stage.updates),
      told("validates", stage.validates),
      told("uses", stage.uses),
      told("needs", stage.requires?.join(", ")),
      told("when", stage.condition),
      told("outcome:", stage.outcome),
      told("note:", stage.note),
    );
  }
}
