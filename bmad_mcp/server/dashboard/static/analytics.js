// The project's numbers, with plots. What each figure is stands in docs/how-to/read-the-numbers.md.
import { bars, buckets, lines } from "./plots.js";
import { el, figures, replace, table, words } from "./text.js";
import { lasted } from "./time.js";

const percent = (share) => (share === null || share === undefined ? "–" : `${Math.round(share * 100)} %`);
const many = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;
const signed = (value) => (value > 0 ? `+${value}` : `${value}`);
const titled = (title, ...content) => [el("h3", {}, title), ...content];

export class Analytics {
  constructor(root) {
    this._root = root;
    this._told = "";
  }

  /** Show what analytics_overview answers. */
  show(numbers) {
    const told = JSON.stringify(numbers);
    if (told === this._told) return;
    this._told = told;
    replace(
      this._root,
      titled("Flow", this._flow(numbers), this._plots(numbers)),
      this._times(numbers),
      this._ageing(numbers.tasks.ageing),
      titled("Quality", this._quality(numbers.trends.quality)),
      titled("Workflows", ...this._workflows(numbers.workflows)),
      titled("Handoffs", this._handoffs(numbers.handoffs)),
      titled("Memory", this._memory(numbers.memory)),
      titled("Adoption", ...this._adoption(numbers.agents)),
    );
  }

  _flow({ tasks, stories, trends }) {
    return figures([
      ["Tasks completed", tasks.completed_count, `${tasks.completed_per_day_mean} a day; ${trends.earlier_completed_count} in the days before`],
      ["Completed, not cancelled", percent(tasks.completion_share), `${tasks.cancelled_count} cancelled`],
      ["Cycle time, half of them", lasted(tasks.cycle.p50_seconds), `85 % within ${lasted(tasks.cycle.p85_seconds)}`],
      ["Lead time, half of them", lasted(tasks.lead.p50_seconds), `85 % within ${lasted(tasks.lead.p85_seconds)}`],
      ["Stories done", stories.done_count, `${stories.under_way_count} under way`],
    ]);
  }

  _plots({ tasks, trends }) {
    const labels = buckets(trends.first_day, trends.bucket, trends.completed_counts.length);
    const per = trends.bucket;
    const now = tasks.work_in_progress;
    return el(
      "div",
      { class: "plots" },
      bars(`Tasks completed by ${per}`, labels, trends.completed_counts),
      bars(
        "Work in progress now",
        ["ready", "active", "in progress", "review", "blocked"],
        [now.ready_count, now.active_count, now.in_progress_count, now.review_count, now.blocked_count],
      ),
      lines(`Mean quality by ${per}`, labels, [{ name: "Points", values: trends.quality_mean_points }]),
      bars(`Changes by ${per}`, labels, trends.changes_counts),
    );
  }

  _times({ tasks, stories, workflows, handoffs }) {
    const rows = [
      ["Task, from its first claim", tasks.cycle],
      ["Task, from its making", tasks.lead],
      ["Story, from the first claim of a task", stories.cycle],
      ["Story, from its making", stories.lead],
      ["Workflow, from start to completion", workflows.duration],
      ["Handoff, until accepted", handoffs.wait],
    ].filter(([, one]) => one.count);
    if (!rows.length) return null;
    return table(
      "How long it took",
      ["What", "Half within", "85 % within", "95 % within", "Of"],
      rows.map(([name, one]) => [name, lasted(one.p50_seconds), lasted(one.p85_seconds), lasted(one.p95_seconds), one.count]),
    );
  }

  _ageing(ageing) {
    if (!ageing.oldest.length) return null;
    const over = ageing.limit_seconds === null ? "" : `: ${ageing.over_limit_count} older than what 85 % of the completed took`;
    return table(
      `Oldest open work${over}`,
      ["Task", "Status", "Agent", "Age"],
      ageing.oldest.map((one) => [one.task, words(one.status), one.agent, lasted(one.age_seconds)]),
    );
  }

  _quality(quality) {
    const gates = Object.entries(quality.gates).map(([word, count]) => `${count} ${word}`);
    const change = quality.change_points === null ? "" : `, ${signed(quality.change_points)} to before`;
    return figures([
      ["Mean quality of tasks", quality.mean_points, `${quality.rated_count} rated${change}`],
      ["Gates passed or waived", percent(quality.gate_pass_share), gates.join(", ") || "none recorded"],
    ]);
  }

  _workflows(workflows) {
    return [
      figures([
        ["Runs completed", workflows.completed_count, `${percent(workflows.completion_share)} of those that ended`],
        ["Runs under way", workflows.running_count, `${workflows.paused_count} paused`],
      ]),
      workflows.bottlenecks.length
        ? table(
            "Stages where most time goes",
            ["Workflow", "Stage", "Agent", "Share of time", "Waiting"],
            workflows.bottlenecks.map((one) => [one.type, `${one.position} ${one.step}`, one.agent, percent(one.time_share), one.waiting_count]),
          )
        : null,
    ];
  }

  _handoffs(handoffs) {
    return figures([
      ["Accepted", percent(handoffs.accepted_share), `of ${handoffs.offered_count} offered`],
      ["Quality of the notes", handoffs.quality_mean_points, `${handoffs.rated_count} rated by who took them`],
      ["Completed by who took them", percent(handoffs.task_completed_share), `${percent(handoffs.returned_share)} given back`],
      ["Waiting now", handoffs.open_count, handoffs.open_count ? `the oldest for ${lasted(handoffs.oldest_open_seconds)}` : ""],
    ]);
  }

  _memory(memory) {
    const without = memory.quality_without_hit_mean_points ?? "–";
    return figures([
      ["Look-ups that found something", percent(memory.hit_share), many(memory.lookups_count, "look-up")],
      ["Memories stored", memory.stored_count, `${memory.memories_per_hit_mean ?? "–"} found at a time`],
      ["Tasks done after a find", percent(memory.tasks_after_hit_share), "while they were held"],
      ["Their mean quality", memory.quality_after_hit_mean_points, `${without} of the others`],
      ["Tries of a service that failed", memory.failed_tries_count],
    ]);
  }

  _adoption(agents) {
    return [
      figures([
        ["Agents at work", `${agents.active_count} of ${agents.known_count}`, `${agents.in_session_count} in a session now`],
        ["Days with changes", agents.active_days_count, many(agents.changes_count, "change")],
        ["Activations", agents.activations_count, `changes by ${many(agents.principals_count, "principal")}`],
        ["Tools that left changes", agents.tools_used_count],
      ]),
      agents.top.length
        ? table("Agents that completed tasks", ["Agent", "Completed", "Quality"], agents.top.map((one) => [one.agent, one.completed_count, one.quality_mean_points]))
        : null,
    ];
  }
}
